"""Synthetic images, the same bytes for the same profile, scale, seed and tar format.

    python -m benchmarks.generate mixed --scale 0.1 --compression gzip --cache DIR

makes the layers in DIR, unless they are there already, and prints their paths, base first. Nothing here looks
at a clock, and nothing of the streamerge package is used: it must not mark its own homework.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

MIB = 1 << 20
BLOCK = 512
VERSION = 2
"""Counts up when the same arguments give other bytes, so that no cache serves the old ones."""

TarFormat = Literal[0, 1, 2]
FORMATS: dict[str, TarFormat] = {
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
    "ustar": tarfile.USTAR_FORMAT,
}
SUFFIXES = {"plain": ".tar", "gzip": ".tar.gz", "zstd": ".tar.zst"}


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a layer, its body named only by its size."""

    path: str
    type: bytes = tarfile.REGTYPE
    size: int = 0
    target: str = ""


class Stack:
    """The layers so far, and the names that show through them; directories are left to the writer."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.layers: list[list[Item]] = []
        self._names: list[str] = []

    def new_layer(self) -> None:
        """Start the next newer layer."""
        self.layers.append([])

    def add(self, *items: Item) -> None:
        """Put items at names that no layer has yet."""
        self.layers[-1].extend(items)
        self._names.extend(item.path for item in items)

    def shadow(self, replaced: int, deleted: int, size: Callable[[], int]) -> None:
        """Write anew, or white out, names of older layers. At most once a layer, before anything is added."""
        picked = self.rng.sample(range(len(self._names)), min(replaced + deleted, len(self._names)))
        rewritten, gone = picked[:replaced], picked[replaced:]
        self.layers[-1].extend(Item(self._names[i], size=size()) for i in rewritten)
        self.layers[-1].extend(Item(_whiteout(self._names[i])) for i in gone)
        dead = set(gone)
        self._names = [name for i, name in enumerate(self._names) if i not in dead]

    def make_opaque(self, count: int) -> None:
        """Hide all that older layers have in some directories. At most once a layer, after shadow."""
        ours = {item.path for item in self.layers[-1]}
        parents = sorted({_parent(name) for name in self._names})
        opaque = set(self.rng.sample(parents, min(count, len(parents))))
        self.layers[-1].extend(Item(f"{parent}/.wh..wh..opq") for parent in sorted(opaque))
        self._names = [name for name in self._names if name in ours or _parent(name) not in opaque]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _whiteout(path: str) -> str:
    parent, _, name = path.rpartition("/")
    return f"{parent}/.wh.{name}"


def small(rng: random.Random, scale: float) -> Stack:
    """100,000 files of 700 bytes in 4 layers, 20 % of them shadowed: headers, not bytes, cost the time."""
    stack = Stack(rng)
    count = max(4, round(25_000 * scale))
    shadowed = round(count * 4 * 0.2 / 3)
    for layer in range(4):
        stack.new_layer()
        if layer:
            stack.shadow(shadowed * 9 // 10, shadowed // 10, lambda: 700)
        for number in range(shadowed * 9 // 10 if layer else 0, count):
            stack.add(Item(f"srv/layer{layer}/d{number // 100:03}/f{number:05}", size=700))
    return stack


def big(rng: random.Random, scale: float) -> Stack:
    """2 GiB in some 200 files of 1 to 64 MiB in 4 layers, a quarter of them hidden: bytes cost the time.

    The scale acts on the sizes, the number of files stays.
    """
    stack = Stack(rng)
    sizes = _big_sizes(rng, 2048 * MIB)
    quarter = len(sizes) // 4
    hidden = quarter // 5  # the opaque directory hides nearly as many again
    for layer in range(4):
        stack.new_layer()
        remaining = iter([round(size * scale) for size in sizes[layer * quarter :][:quarter]])
        if layer:
            stack.shadow(hidden, 1, remaining.__next__)
            stack.make_opaque(1)
        for number, size in enumerate(remaining):
            stack.add(Item(f"opt/models/layer{layer}/{number // 8}/weights-{number:03}.bin", size=size))
    return stack


def _big_sizes(rng: random.Random, total: int) -> list[int]:
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(round(MIB * 64 ** (rng.random() ** 2)))
    return sizes


def mixed(rng: random.Random, scale: float) -> Stack:
    """60,000 paths of all kinds in 8 layers, most in the oldest ones, sizes as in a Linux distribution."""
    stack = Stack(rng)
    namer = _Namer(rng, max(4, round(3_000 * scale)))
    for layer, share in enumerate((0.45, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.02)):
        stack.new_layer()
        count = max(8, round(55_000 * scale * share))
        if layer:
            stack.shadow(count * 12 // 100, count * 5 // 100, lambda: _package_size(rng))
            stack.make_opaque(1 + count // 2_000)
        for _ in range(count * 83 // 100 if layer else count):
            stack.add(*_package_items(rng, namer.new_path()))
    return stack


def _package_size(rng: random.Random) -> int:
    return min(round(rng.lognormvariate(8.0, 2.0)), 64 * MIB)


def _package_items(rng: random.Random, path: str) -> list[Item]:
    kind = rng.random()
    if kind < 0.10:
        return [Item(path, tarfile.SYMTYPE, target=path.rpartition("/")[2] + ".1")]
    file = Item(path, size=_package_size(rng))
    if kind < 0.12:
        return [file, Item(path + "-link", tarfile.LNKTYPE, target=path)]
    return [file]


class _Namer:
    """New paths in a tree of directories up to six deep; one name in a hundred is long, one is not ASCII."""

    def __init__(self, rng: random.Random, directories: int) -> None:
        self.rng = rng
        self.number = 0
        self.directories = ["usr", "etc", "var", "opt"]
        while len(self.directories) < directories:
            parent = rng.choice(self.directories)
            if parent.count("/") < 5:
                self.directories.append(f"{parent}/{self._word()}{len(self.directories)}")

    def new_path(self) -> str:
        self.number += 1
        return f"{self.rng.choice(self.directories)}/{self._prefix()}{self._word()}{self.number}"

    def _prefix(self) -> str:
        dice = self.rng.random()
        if dice < 0.01:
            return "long-" * 14
        return "größe-" if dice < 0.02 else ""

    def _word(self) -> str:
        return "".join(self.rng.choices(("ba", "con", "di", "lib", "man", "net", "py", "so", "x"), k=2))


PROFILES: dict[str, Callable[[random.Random, float], Stack]] = {"small": small, "big": big, "mixed": mixed}


class Bodies:
    """Contents that gzip packs to some 40 %: runs of words from a small vocabulary between random bytes."""

    POOL = 16 * MIB
    CHUNK = 128 << 10

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._pool = memoryview(_pool())

    def chunks(self, size: int) -> Iterator[memoryview]:
        """Pieces of the pool that add up to size."""
        while size > 0:
            length = min(size, self.CHUNK)
            start = self.rng.randrange(self.POOL - length)
            yield self._pool[start : start + length]
            size -= length


@cache
def _pool() -> bytes:
    rng = random.Random("pool")
    words = [rng.randbytes(rng.randint(2, 14)) for _ in range(600)]
    pieces: list[bytes] = []
    length = 0
    while length < Bodies.POOL:
        pieces += (b"".join(rng.choices(words, k=24)), rng.randbytes(rng.randint(8, 40)))
        length += len(pieces[-1]) + len(pieces[-2])
    return b"".join(pieces)[: Bodies.POOL]


def in_walk_order(items: Sequence[Item]) -> list[Item]:
    """The items and the directories above them, depth first by name, as most builders list them."""
    parents = {parent for item in items for parent in _parents(item.path)}
    directories = [Item(path, tarfile.DIRTYPE) for path in parents]
    return sorted([*items, *directories], key=lambda item: item.path.split("/"))


def _parents(path: str) -> Iterator[str]:
    while path := _parent(path):
        yield path


def write_layer(out: BinaryIO, items: Sequence[Item], bodies: Bodies, mtime: int, form: TarFormat) -> None:
    """Write one layer as a plain tar."""
    for item in in_walk_order(items):
        out.write(_header(item, mtime).tobuf(form, "utf-8", "surrogateescape"))
        for chunk in bodies.chunks(item.size):
            out.write(chunk)
        out.write(bytes(-item.size % BLOCK))
    out.write(bytes(2 * BLOCK))


def _header(item: Item, mtime: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(item.path)
    header.type, header.size, header.linkname, header.mtime = item.type, item.size, item.target, mtime
    header.mode = {tarfile.DIRTYPE: 0o755, tarfile.SYMTYPE: 0o777}.get(item.type, 0o644)
    return header


def write_image(directory: Path, profile: str, scale: float, seed: int, tar_format: str) -> None:
    """Write the plain layers 01.tar, 02.tar, ... of one image."""
    rng = random.Random(f"{profile}:{scale:g}:{seed}")
    stack = PROFILES[profile](rng, scale)
    bodies = Bodies(rng)
    for number, items in enumerate(stack.layers, start=1):
        with (directory / f"{number:02}.tar").open("wb") as out:
            write_layer(out, items, bodies, 1_700_000_000 + number, FORMATS[tar_format])


def layers(
    cache_directory: Path,
    profile: str,
    *,
    scale: float = 1.0,
    seed: int = 0,
    compression: str = "plain",
    tar_format: str = "pax",
) -> list[Path]:
    """The layers of an image, base first; made now, or found in the cache."""
    home = cache_directory / f"{profile}-{scale:g}-{seed}-{tar_format}-v{VERSION}"
    if not home.exists():
        cache_directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_directory) as temporary:
            unfinished = Path(temporary, "image")
            unfinished.mkdir()
            write_image(unfinished, profile, scale, seed, tar_format)
            unfinished.rename(home)
    return [_compressed(plain, compression) for plain in sorted(home.glob("*.tar"))]


def _compressed(plain: Path, compression: str) -> Path:
    packed = plain.with_suffix(SUFFIXES[compression])
    if not packed.exists():
        unfinished = packed.with_name(f"{packed.name}.{os.getpid()}")
        with unfinished.open("wb") as out:
            subprocess.run([*_packer(compression), str(plain)], stdout=out, check=True)
        unfinished.rename(packed)
    return packed


def _packer(compression: str) -> list[str]:
    """The levels that image builders use by default."""
    if compression == "zstd":
        return ["zstd", "-q", "-3", "-T0", "-c"]
    return [shutil.which("pigz") or "gzip", "-6", "-n", "-c"]


def main() -> None:
    """Make one image, print its layers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=main.__doc__)
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the full size of the profile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compression", choices=SUFFIXES, default="plain")
    parser.add_argument("--format", choices=FORMATS, default="pax", dest="tar_format")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", dest="cache_directory")
    for path in layers(**vars(parser.parse_args())):
        print(path)


if __name__ == "__main__":
    main()
