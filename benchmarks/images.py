"""The images that are measured: synthetic ones, and any that tests/real has built."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.generate import SUFFIXES

DIRECTORIES = {"plain": "layers", "gzip": "layers-gz", "zstd": "layers-zst"}


@dataclass(frozen=True, slots=True)
class Image:
    """The layers of one image in one compression, base first, and its OCI layout if there is one."""

    name: str
    compression: str
    layers: tuple[Path, ...]
    plain: tuple[Path, ...]
    layout: Path | None = None

    @property
    def arguments(self) -> list[str]:
        """The layers as arguments."""
        return [str(path) for path in self.layers]

    @property
    def packed_bytes(self) -> int:
        """What is read."""
        return sum(path.stat().st_size for path in self.layers)

    @property
    def plain_bytes(self) -> int:
        """What it is once decoded, hidden entries included."""
        return sum(path.stat().st_size for path in self.plain)


def synthetic(profile: str, scale: float, cache: Path) -> Iterator[Image]:
    """A profile of generate, in all compressions."""
    plain = _generate(profile, "plain", scale, cache)
    for compression in SUFFIXES:
        yield Image(profile, compression, _generate(profile, compression, scale, cache), plain)


def _generate(profile: str, compression: str, scale: float, cache: Path) -> tuple[Path, ...]:
    """In another process: what this one grows to would show in the memory of all that it starts."""
    command = [sys.executable, "-m", "benchmarks.generate", profile, "--compression", compression]
    arguments = ["--scale", str(scale), "--cache", str(cache)]
    printed = subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(Path(line) for line in printed.splitlines())


def real(directory: Path) -> Iterator[Image]:
    """What tests/real/build_*.sh left in a directory, in all compressions."""
    plain = _layers_in(directory, "plain")
    for compression in SUFFIXES:
        yield Image(directory.name, compression, _layers_in(directory, compression), plain, directory / "oci")


def _layers_in(directory: Path, compression: str) -> tuple[Path, ...]:
    found = sorted(directory.glob(f"{DIRECTORIES[compression]}/*{SUFFIXES[compression]}"))
    if not found:
        sys.exit(f"{directory}: no {DIRECTORIES[compression]}/*{SUFFIXES[compression]}")
    return tuple(found)
