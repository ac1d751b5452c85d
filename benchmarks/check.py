"""Compare the tree that each command made with what the kernel's overlayfs shows.

    python -m benchmarks.check TREE [REFERENCE]

TREE is a tar or a directory. Without REFERENCE, this prints a listing of TREE as JSON, which can serve as a reference.
With REFERENCE, it prints how many paths differ. It runs as a separate process, so that its memory does not count for
the commands that are measured.
"""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmarks import measure, rivals
from benchmarks.images import Image
from benchmarks.rivals import Contender
from benchmarks.tree import FIELDS, Facts, tree

_LARGEST_ID = (1 << 32) - 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The number of paths that differ from the reference, and one of them as an example."""

    wrong: int
    example: str = ""


@dataclass(slots=True)
class Trees:
    """The verdicts on all trees that were made of one image."""

    by_kernel: bool = False
    """Whether they were compared with what the kernel shows; otherwise with streamerge's own result."""
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    """By the contender's name and the compression of the layers."""


@dataclass(slots=True)
class Judge:
    """Compares the trees that commands make of one image, in all compressions; its listing is in ``directory``."""

    directory: Path
    image: Image
    """In any compression; it must have the merged tar."""
    trees: Trees = field(default_factory=Trees)

    def prepare(self) -> None:
        """Make the reference: as root with the kernel's overlayfs, otherwise with streamerge."""
        if _kernel_can_be_asked():
            with measure.scratch(self.directory) as place:
                measure.run(rivals.jailed("overlay", self.image, place))
                self._list(place / "out.tar")
            self.trees.by_kernel = True
        else:
            self._list(self._merged)
        self.trees.verdicts["merged", ""] = self._compare(self._merged)

    def look(self, contender: Contender, image: Image, place: Path) -> None:
        """Compare the tree that a contender made in ``place``, if it makes one; other tools in one compression only."""
        ours = contender.name.startswith("streamerge")
        known = any(name == contender.name for name, _ in self.trees.verdicts)
        if contender.makes and (ours or not known):
            self.trees.verdicts[contender.name, image.compression] = self._verdict(place / contender.makes)

    def _verdict(self, made: Path) -> Verdict:
        """Skips the comparison for a tar with the same bytes as the merged tar."""
        if made.is_file() and filecmp.cmp(made, self._merged, shallow=False):
            return self.trees.verdicts["merged", ""]
        return self._compare(made)

    @property
    def _merged(self) -> Path:
        assert self.image.merged is not None
        return self.image.merged

    @property
    def _reference(self) -> Path:
        return self.directory / f"{self.image.name}.json"

    def _list(self, source: Path) -> None:
        with self._reference.open("wb") as out:
            subprocess.run([*_CHECK, str(source)], check=True, stdout=out)

    def _compare(self, made: Path) -> Verdict:
        done = subprocess.run([*_CHECK, str(made), str(self._reference)], check=True, stdout=subprocess.PIPE)
        return Verdict(**json.loads(done.stdout))


@cache
def _kernel_can_be_asked() -> bool:
    """Whether jailed.sh can mount overlayfs: root may not in most containers, nor in a chroot. Found out by trying."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as directory:
        layer, place = Path(directory, "layer.tar"), Path(directory, "out")
        layer.write_bytes(bytes(10240))
        place.mkdir()
        script = Path(__file__).with_name("jailed.sh")
        done = subprocess.run(["bash", script, "overlay", place, layer], capture_output=True, check=False)
        return done.returncode == 0


_CHECK = [sys.executable, "-m", "benchmarks.check"]


def differences(made: dict[str, Facts], reference: dict[str, Facts], ignore: Iterable[str] = ()) -> list[str]:
    """How a tree differs from the reference, one line for each path. ``ignore`` are names of ``FIELDS``.

    The time of the root directory is not compared: if no layer lists the root, it is the time of unpacking.
    """
    lines = []
    for name in sorted(made.keys() | reference.keys()):
        skipped = {*ignore, "mtime"} if not name else {*ignore}
        wrong = _difference(made.get(name), reference.get(name), skipped)
        if wrong:
            lines.append(f"{name or '/'}: {wrong}")
    return lines


def _difference(made: Facts | None, reference: Facts | None, ignore: set[str]) -> str:
    if made is None or reference is None:
        return "is missing" if made is None else "should not be there"
    fields = zip(FIELDS, made, reference, strict=True)
    wrong = [(name, a, b) for name, a, b in fields if a != b and name not in ignore]
    return ", ".join(f"{name} is {_shown(name, a)}, not {_shown(name, b)}" for name, a, b in wrong)


def _shown(name: str, value: object) -> str:
    return oct(value) if name == "mode" and isinstance(value, int) else repr(value)


def main(made: str, reference: str | None = None) -> None:
    """Print the listing of a tree, or how the tree differs from a listing."""
    if reference is None:
        json.dump(tree(Path(made)), sys.stdout)
        return
    ignore = [] if _can_give_away() else ["uid", "gid"]
    wrong = differences(tree(Path(made)), json.loads(Path(reference).read_text()), ignore)
    json.dump({"wrong": len(wrong), "example": wrong[0][:300] if wrong else ""}, sys.stdout)


def _can_give_away() -> bool:
    """Whether this process can give files to anybody, as root can, but not the root of most user namespaces."""
    with tempfile.NamedTemporaryFile() as file:
        try:
            os.chown(file.name, _LARGEST_ID, _LARGEST_ID)
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
