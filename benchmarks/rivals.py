"""The commands that are compared, and how much of the work each of them does."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import Image
from benchmarks.measure import Command

HERE = Path(__file__).parent
PLAIN, GZIP, ZSTD = frozenset({"plain"}), frozenset({"gzip"}), frozenset({"zstd"})
ALL = PLAIN | GZIP | ZSTD

EXTRACTS_PACKED = "decode | tar -x merged"
TAR, PIPE, DIRECTORY = "streamerge → tar", "streamerge → pipe", "streamerge → directory"
CHECKED_TAR, CHECKED_DIRECTORY = "streamerge oci: → tar", "streamerge oci: → directory"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a contender's work that the contender times itself."""

    name: str
    does: str
    against: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that merges, or does the part of the work that ``does`` describes."""

    name: str
    does: str
    tool: str
    command: Callable[[Image, Path], Command]
    """Makes the command for an image and an empty directory to write to."""
    against: tuple[str, ...] = ()
    """Our commands that it is compared with: one to a tar, one to a directory, with the same checks."""
    compressions: frozenset[str] = ALL
    makes: str = ""
    """The name of the merged tree in its output directory; empty if it makes none."""
    needs_layout: bool = False
    needs_packed: bool = False
    root: bool | None = None
    """True: runs only as root; False: never as root; None: either way."""
    slow: bool = False
    """Runs in the first rounds only: it takes many times as long as streamerge, or no target covers it."""
    once: bool = False
    """Measured in the first working directory only: it writes nothing, or nothing of interest."""
    parts: tuple[Part, ...] = ()
    """Their names are those that ``measure.in_turn`` gives their series."""

    def can_run(self, image: Image) -> bool:
        """Whether it is installed here, may run, and takes such an image."""
        fits = image.compression in self.compressions and (image.layout is not None or not self.needs_layout)
        allowed = self.root is None or self.root == (os.geteuid() == 0)
        packed = image.packed is not None or not self.needs_packed
        return fits and allowed and packed and shutil.which(self.tool) is not None


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contender and the image that it merges, as ``measure.in_turn`` needs them."""

    contender: Contender
    image: Image

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    @property
    def slow(self) -> bool:
        """Whether the contender is slow."""
        return self.contender.slow

    def start(self, place: Path) -> Command:
        """The contender's command for the image."""
        return self.contender.command(self.image, place)


# --- ours --------------------------------------------------------------------------------------------------------


def streamerge(command: Sequence[str]) -> list[Contender]:
    """The commands of streamerge. Those that read a layout check digests, as runtimes do."""
    merged, tool = "merges", command[0]
    checked = "merges and checks all digests"

    def from_layers(*output: str) -> Callable[[Image, Path], Command]:
        return lambda image, place: Command([*command, *image.arguments, *_output(place, output), "-q"])

    def from_layout(*output: str) -> Callable[[Image, Path], Command]:
        return lambda image, place: Command([*command, f"oci:{image.layout}:latest", *_output(place, output), "-q"])

    def to_pipe(image: Image, place: Path) -> Command:
        return Command([*command, *image.arguments, "-o", "-", "-q"], stdout=place / "out.tar")

    return [
        Contender(TAR, merged, tool, from_layers("out.tar"), makes="out.tar"),
        Contender(PIPE, merged, tool, to_pipe, (TAR,), makes="out.tar", slow=True, once=True),
        Contender(DIRECTORY, merged, tool, from_layers("out/"), makes="out"),
        Contender(CHECKED_TAR, checked, tool, from_layout("out.tar"), makes="out.tar", needs_layout=True),
        Contender(CHECKED_DIRECTORY, checked, tool, from_layout("out/"), makes="out", needs_layout=True),
    ]


def _output(place: Path, names: Sequence[str]) -> list[str]:
    """The options for the output. It is not flushed to disk, since other tools do not flush theirs."""
    return ["-o", *(f"{place}/{name}" for name in names), "--no-fsync"]


# --- those that do a part ----------------------------------------------------------------------------------------


def _each(*command: str) -> Callable[[Image, Path], Command]:
    """Run the command on one layer after the other and discard its output."""
    script = f'set -e; for layer; do {" ".join(command)} "$layer"; done'
    return lambda image, _: Command(["sh", "-c", script, "sh", *image.arguments])


def _cat(image: Image, place: Path) -> Command:
    return Command(["cat", *image.arguments], stdout=place / "out.tar")


def _bsdtar_copy(image: Image, place: Path) -> Command:
    return Command(["bsdtar", "-cf", str(place / "out.tar"), *(f"@{path}" for path in image.arguments)])


def _tarfile_copy(image: Image, place: Path) -> Command:
    return Command([sys.executable, str(HERE / "copy_tarfile.py"), str(place / "out.tar"), *image.arguments])


def _extract(*command: str, for_xattrs: Sequence[str] = ()) -> Callable[[Image, Path], Command]:
    """Extract the already merged tar, which is plain even if the layers are compressed."""

    def start(image: Image, place: Path) -> Command:
        (place / "out").mkdir()
        more = for_xattrs if image.xattrs else ()
        return Command([*command, *more, "-xpf", str(image.merged), "-C", str(place / "out")])

    return start


_GNU_TAR = ("tar", "--numeric-owner", "--delay-directory-restore")
_FOR_XATTRS = ("--xattrs", "--xattrs-include=*")
_DECODERS = {"gzip": "igzip", "zstd": "zstd"}


def _extract_packed(image: Image, place: Path) -> Command:
    """Extract the already merged tar, compressed like the layers; the fastest decoder runs beside tar."""
    (place / "out").mkdir()
    decode = f"{_DECODERS[image.compression]} -dc {shlex.quote(str(image.packed))}"
    extract = shlex.join([*_GNU_TAR, *(_FOR_XATTRS if image.xattrs else ()), "-xpf", "-", "-C", str(place / "out")])
    return Command(["bash", "-o", "pipefail", "-c", f"{decode} | {extract}"])


EXTRACTS = "extracts the already merged tar, which is plain"
_gnu_tar = _extract(*_GNU_TAR, for_xattrs=_FOR_XATTRS)

PARTIAL = [
    Contender("cat", "copies the bytes of the layers", "cat", _cat, (TAR,), PLAIN),
    Contender("igzip -dc", "decodes only; the output is discarded", "igzip", _each("igzip", "-dc"), (TAR,), GZIP),
    Contender("zstd -dc", "decodes only; the output is discarded", "zstd", _each("zstd", "-qdc"), (TAR,), ZSTD),
    Contender("tar -tf", "lists only", "tar", _each("tar", "-tf"), (TAR,), slow=True, once=True),
    Contender("bsdtar -tf", "lists only", "bsdtar", _each("bsdtar", "-tf"), (TAR,), slow=True, once=True),
    Contender("bsdtar -cf @layer", "copies all entries, hides nothing", "bsdtar", _bsdtar_copy, (TAR,), PLAIN),
    Contender(
        "tarfile",
        "copies all entries, hides nothing; Python's standard library",
        sys.executable,
        _tarfile_copy,
        (TAR,),
        PLAIN | GZIP,
        slow=True,
        once=True,
    ),
    Contender("tar -x merged", EXTRACTS, "tar", _gnu_tar, (DIRECTORY,), makes="out"),
    *(
        Contender(
            EXTRACTS_PACKED,
            f"extracts the already merged tar, compressed like the layers and decoded by {tool}",
            tool,
            _extract_packed,
            (DIRECTORY,),
            frozenset({compression}),
            makes="out",
            needs_packed=True,
            slow=True,
        )
        for compression, tool in _DECODERS.items()
    ),
    Contender("bsdtar -x merged", EXTRACTS, "bsdtar", _extract("bsdtar", "--numeric-owner"), (DIRECTORY,), makes="out"),
]

# --- those that merge --------------------------------------------------------------------------------------------


def _umoci(image: Image, place: Path) -> Command:
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    source = f"{image.layout}:latest"
    return Command(["umoci", "raw", "unpack", *rootless, "--image", source, str(place / "out")])


def by_hand(image: Image, place: Path) -> Command:
    """GNU tar, layer by layer: as root in a jail, otherwise after checks."""
    if os.geteuid() == 0:
        return jailed("by-hand", image, place)
    return Command([*_script("by_hand.sh", image), str(place / "out.tar"), *image.arguments])


def jailed(what: str, image: Image, place: Path) -> Command:
    """A command of jailed.sh, which needs root."""
    return Command([*_script("jailed.sh", image), what, str(place), *image.arguments])


def _script(name: str, image: Image) -> list[str]:
    """A script. It keeps xattrs only if there are any: without those options, GNU tar is a third faster."""
    return ["env", f"XATTRS={'yes' if image.xattrs else ''}", "bash", str(HERE / name)]


def _mount_and_tar(tool: str) -> Callable[[Image, Path], Command]:
    return lambda image, place: Command([*_script("mount_and_tar.sh", image), tool, str(place), str(image.layout)])


BY_HAND = "tar layer by layer"
BY_HAND_TREE = f"{BY_HAND}: the tree alone"
MERGING = [
    Contender(
        BY_HAND,
        "merges: applies the whiteouts and extracts each layer over the tree with GNU tar, then packs the tree",
        "tar",
        by_hand,
        (TAR,),
        GZIP,
        makes="out.tar",
        slow=True,
        parts=(Part(BY_HAND_TREE, "the same without packing the tree", (DIRECTORY,)),),
    ),
    Contender(
        "umoci raw unpack",
        "merges into a directory and checks digests",
        "umoci",
        _umoci,
        (CHECKED_TAR, CHECKED_DIRECTORY),
        GZIP,
        makes="out",
        needs_layout=True,
        slow=True,
    ),
    *(
        Contender(
            f"{tool} pull, mount, tar",
            "unpacks into a new store, checks digests, mounts the image, packs the mounted tree with tar",
            tool,
            _mount_and_tar(tool),
            (CHECKED_TAR, CHECKED_DIRECTORY),
            GZIP,
            makes="out.tar",
            needs_layout=True,
            root=True,
            slow=True,
            once=tool == "podman",
            parts=(
                Part(
                    f"{tool} pull, mount, tar: mount and tar alone",
                    "mounts and packs only, from a store that has the image",
                    (CHECKED_TAR,),
                ),
            ),
        )
        for tool in ("buildah", "podman")
    ),
]


def all_contenders(command: Sequence[str]) -> list[Contender]:
    """All commands, streamerge's first."""
    return [*streamerge(command), *PARTIAL, *MERGING]
