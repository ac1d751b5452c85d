"""Make synthetic images: the same profile, scale, seed and tar format give the same bytes.

    python -m benchmarks.generate mixed --scale 0.1 --compression gzip --cache DIR

makes the layers in DIR, unless they exist, and prints their paths, base first. Nothing here reads a clock. Nothing is
imported from the streamerge package, because an error there must not cancel itself out here.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

from benchmarks.profiles import MIB, PROFILES, Item, parent_of

BLOCK = 512
VERSION = 2
"""Increase this when the same arguments give other bytes, so that no cache returns the old ones."""

TarFormat = Literal[0, 1, 2]
FORMATS: dict[str, TarFormat] = {
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
    "ustar": tarfile.USTAR_FORMAT,
}
SUFFIXES = {"plain": ".tar", "gzip": ".tar.gz", "zstd": ".tar.zst"}


class Bodies:
    """Contents that gzip compresses to about 40 %: words from a small vocabulary, mixed with random bytes."""

    POOL = 16 * MIB
    CHUNK = 128 << 10

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._pool = memoryview(_pool())

    def chunks(self, size: int) -> Iterator[memoryview]:
        """Pieces of the pool; their lengths add up to ``size``."""
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
    """The items and their parent directories, depth first and by name, which is the order of most builders."""
    parents = {parent for item in items for parent in _parents(item.path)}
    directories = [Item(path, tarfile.DIRTYPE) for path in parents]
    return sorted([*items, *directories], key=lambda item: item.path.split("/"))


def _parents(path: str) -> Iterator[str]:
    while path := parent_of(path):
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
    """Write one image as plain layers 01.tar, 02.tar, and so on."""
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
    """The layers of an image, base first; made unless the cache has them."""
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
    """The compressor, with the level that image builders use by default."""
    if compression == "zstd":
        return ["zstd", "-q", "-3", "-T0", "-c"]
    return [shutil.which("pigz") or "gzip", "-6", "-n", "-c"]


def main() -> None:
    """Make one image and print the paths of its layers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=main.__doc__)
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the image; 1 is the full size of the profile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compression", choices=SUFFIXES, default="plain")
    parser.add_argument("--format", choices=FORMATS, default="pax", dest="tar_format")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", dest="cache_directory")
    for path in layers(**vars(parser.parse_args())):
        print(path)


if __name__ == "__main__":
    main()
