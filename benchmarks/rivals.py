"""Who competes, with what command, and how much of the work each does."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import Image
from benchmarks.measure import Command

HERE = Path(__file__).parent
ALL = frozenset({"plain", "gzip", "zstd"})


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that does the work, or the part of it that ``does`` names."""

    name: str
    does: str
    tool: str
    command: Callable[[Image, Path], Command]
    """The command for an image, given an empty directory to write to."""
    compressions: frozenset[str] = ALL
    layouts: frozenset[bool] = frozenset({False, True})
    """Whether it takes images without an OCI layout, which are the synthetic ones, and images with one."""
    never_as_root: bool = False

    def can_run(self, image: Image) -> bool:
        """Whether it is on this machine and takes such an image."""
        has_layout = image.layout is not None
        fits = image.compression in self.compressions and has_layout in self.layouts
        return fits and shutil.which(self.tool) is not None and not (self.never_as_root and os.geteuid() == 0)


def streamerge(command: Sequence[str]) -> list[Contender]:
    """The contender this is all about: to a file, and to standard output."""
    merged = "merges: whiteouts, opaque directories, hard links; each path once"
    tool = command[0]
    return [
        Contender("streamerge", merged, tool, lambda image, place: _to_file(command, image, place)),
        Contender("streamerge -o -", merged, tool, lambda image, place: _to_stdout(command, image, place)),
    ]


def _to_file(command: Sequence[str], image: Image, place: Path) -> Command:
    return Command([*command, *image.arguments, "-o", str(place / "out.tar"), "--no-fsync", "-q"])


def _to_stdout(command: Sequence[str], image: Image, place: Path) -> Command:
    return Command([*command, *image.arguments, "-o", "-", "-q"], stdout=place / "out.tar")


def _each(*command: str) -> Callable[[Image, Path], Command]:
    """Run the command on one layer after the other, its output thrown away."""
    script = f'set -e; for layer; do {" ".join(command)} "$layer"; done'
    return lambda image, _: Command(["sh", "-c", script, "sh", *image.arguments])


def _cat(image: Image, place: Path) -> Command:
    return Command(["cat", *image.arguments], stdout=place / "out.tar")


def _bsdtar_copy(image: Image, place: Path) -> Command:
    return Command(["bsdtar", "-cf", str(place / "out.tar"), *(f"@{path}" for path in image.arguments)])


def _tarfile_copy(image: Image, place: Path) -> Command:
    return Command([sys.executable, str(HERE / "copy_tarfile.py"), str(place / "out.tar"), *image.arguments])


def _umoci(image: Image, place: Path) -> Command:
    return Command(["umoci", "raw", "unpack", "--image", f"{image.layout}:latest", str(place / "rootfs")])


def by_hand(image: Image, place: Path) -> Command:
    """GNU tar, layer by layer."""
    return Command(["bash", str(HERE / "by_hand.sh"), str(place / "out.tar"), *image.arguments])


RIVALS = [
    Contender("cat", "only copies the layers' bytes", "cat", _cat, frozenset({"plain"})),
    Contender("igzip -dc", "only decodes, to nowhere", "igzip", _each("igzip", "-dc"), frozenset({"gzip"})),
    Contender("zstd -dc", "only decodes, to nowhere", "zstd", _each("zstd", "-qdc"), frozenset({"zstd"})),
    Contender("tar -tf", "only lists", "tar", _each("tar", "-tf")),
    Contender("bsdtar -tf", "only lists", "bsdtar", _each("bsdtar", "-tf")),
    Contender("bsdtar -cf @layer", "copies all entries, hides nothing", "bsdtar", _bsdtar_copy),
    Contender(
        "tarfile",
        "copies all entries, hides nothing (standard library)",
        sys.executable,
        _tarfile_copy,
        frozenset({"plain", "gzip"}),
    ),
    Contender(
        "umoci raw unpack",
        "merges into a directory, checks digests",
        "umoci",
        _umoci,
        frozenset({"gzip"}),
        layouts=frozenset({True}),
    ),
    Contender(
        "GNU tar by hand",
        "merges: whiteouts, extraction, tar of the tree",
        "tar",
        by_hand,
        layouts=frozenset({False}),
        never_as_root=True,
    ),
]
