"""The images that are measured: synthetic ones, those that build_images.sh has built, and given gzip layers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import layout
from benchmarks.generate import SUFFIXES

DIRECTORIES = {"plain": "layers", "gzip": "layers-gz", "zstd": "layers-zst"}


@dataclass(frozen=True, slots=True)
class Image:
    """The layers of one image in one compression, base first; for gzip also an OCI layout of it."""

    name: str
    compression: str
    layers: tuple[Path, ...]
    plain: tuple[Path, ...]
    layout: Path | None = None
    merged: Path | None = None
    """The image already merged, as one plain tar, for commands that only extract."""
    packed: Path | None = None
    """The merged tar compressed like the layers; None if those are plain."""
    xattrs: bool = True
    """Whether any entry has xattrs; True if that is not known."""

    @property
    def arguments(self) -> list[str]:
        """The layers as arguments."""
        return [str(path) for path in self.layers]

    @property
    def packed_bytes(self) -> int:
        """The size of the layers as they are read."""
        return sum(path.stat().st_size for path in self.layers)

    @property
    def plain_bytes(self) -> int:
        """The size of the layers when decoded, hidden entries included."""
        return sum(path.stat().st_size for path in self.plain)


def synthetic(profile: str, scale: float, cache: Path) -> Iterator[Image]:
    """An image that is generated from a profile, in all compressions."""
    layers = {compression: _generate(profile, compression, scale, cache) for compression in SUFFIXES}
    yield from _in_all_forms(profile, layers)


def _generate(profile: str, compression: str, scale: float, cache: Path) -> tuple[Path, ...]:
    """The layers, made in another process: memory that this one uses would count for every command that it starts."""
    command = [sys.executable, "-m", "benchmarks.generate", profile, "--compression", compression]
    arguments = ["--scale", str(scale), "--cache", str(cache)]
    printed = subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(Path(line) for line in printed.splitlines())


def _in_all_forms(name: str, layers: dict[str, tuple[Path, ...]]) -> Iterator[Image]:
    """The image in each compression; its layout is written beside its layers."""
    home = layers["gzip"][0].parent / "oci"
    _once(home, lambda path: layout.write(path, layers["gzip"], layers["plain"], "gzip"))
    for compression, paths in layers.items():
        yield Image(name, compression, paths, layers["plain"], home if compression == "gzip" else None)


def _once(directory: Path, make: Callable[[Path], None]) -> None:
    """Make the directory, all or nothing, unless it exists."""
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
            make(Path(temporary, "new"))
            Path(temporary, "new").rename(directory)


def of_gzip_layers(name: str, layers: Sequence[Path], cache: Path) -> Iterator[Image]:
    """An image of given gzip layers, base first, in all compressions."""
    _once(cache / name, lambda path: _repack(path, layers))
    found = {form: tuple(sorted((cache / name).glob(f"*{suffix}"))) for form, suffix in SUFFIXES.items()}
    yield from _in_all_forms(name, found)


def _repack(directory: Path, layers: Sequence[Path]) -> None:
    directory.mkdir()
    for number, layer in enumerate(layers, start=1):
        stem = directory / f"{number:02}"
        shutil.copyfile(layer, stem.with_suffix(".tar.gz"))
        with stem.with_suffix(".tar").open("wb") as plain:
            subprocess.run(["gzip", "-dc", str(layer)], stdout=plain, check=True)
        subprocess.run(
            ["zstd", "-q", str(stem.with_suffix(".tar")), "-o", str(stem.with_suffix(".tar.zst"))], check=True
        )


def real(directory: Path) -> Iterator[Image]:
    """An image that build_images.sh or tests/real/build_*.sh has built in a directory, in all compressions."""
    plain = _layers_in(directory, "plain")
    for compression in SUFFIXES:
        home = directory / "oci" if compression == "gzip" else None
        yield Image(directory.name, compression, _layers_in(directory, compression), plain, home)


def _layers_in(directory: Path, compression: str) -> tuple[Path, ...]:
    found = sorted(directory.glob(f"{DIRECTORIES[compression]}/*{SUFFIXES[compression]}"))
    if not found:
        sys.exit(f"{directory}: no {DIRECTORIES[compression]}/*{SUFFIXES[compression]}")
    return tuple(found)


_PACKERS = {"gzip": ("pigz", "-c"), "zstd": ("zstd", "-qc")}


def pack(plain: Path, compression: str) -> Path | None:
    """Compress a tar like an image's layers, beside it; None for plain layers, or if the compressor is missing."""
    command = _PACKERS.get(compression)
    if command is None or shutil.which(command[0]) is None:
        return None
    path = plain.with_name(plain.name + SUFFIXES[compression].removeprefix(".tar"))
    with path.open("wb") as packed:
        subprocess.run([*command, str(plain)], stdout=packed, check=True)
    return path


def count_paths(layers: Sequence[Path]) -> int:
    """The number of distinct paths in plain layers, hidden ones included."""
    script = (
        'export LC_ALL=C; for layer; do tar --quoting-style=escape -tf "$layer" 2>/dev/null; done | sort -u | wc -l'
    )
    counted = subprocess.run(["sh", "-c", script, "sh", *map(str, layers)], stdout=subprocess.PIPE, check=True)
    return int(counted.stdout)


def has_xattrs(path: Path) -> bool:
    """Whether any entry of a tar has xattrs."""
    script = "LC_ALL=C tar --xattrs --xattrs-include='*' -tvvf \"$0\" | grep -q '^  x: '"
    return subprocess.run(["sh", "-c", script, str(path)]).returncode == 0
