"""Images for the scaling page: more and more entries, more and more layers, larger and larger bodies.

Large bodies are quick to make: they are holes in plain layers, and repeated members or frames in compressed layers.
Both formats allow that.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

BLOCK = 512
MEMBER = 5_000_000
"""Bytes of a body in one member or frame; all measured sizes are multiples of it."""
BODY = 100
"""Bytes of each file, where there are many."""
LAYERS = 4
"""The number of layers that the entries are spread over."""
PER_LAYER = 200
"""New files in each layer, where there are many layers; each layer but the first also replaces a tenth as many."""
PACKERS = {"gzip": ["gzip", "-6", "-n", "-c"], "zstd": ["zstd", "-q", "-3", "-c"]}


def entries(cache: Path, count: int, form: str) -> list[Path]:
    """``count`` files in four layers, a hundred to a directory."""
    each = count // LAYERS
    return [_layer(cache / f"entries-{count}-{layer}", form, _some(layer, each)) for layer in range(LAYERS)]


def layers(cache: Path, count: int, form: str) -> list[Path]:
    """``count`` layers of 200 files each."""
    return [_layer(cache / f"layers-{layer}", form, _stacked(layer)) for layer in range(count)]


def size(cache: Path, count: int, form: str) -> list[Path]:
    """One layer with one file of ``count`` bytes."""
    header = tarfile.TarInfo("file")
    header.size = count
    head, tail = header.tobuf(tarfile.GNU_FORMAT), bytes(-count % BLOCK + 2 * BLOCK)
    return [_once(cache / f"size-{count}.{form}", lambda out: _write_large(out, form, head, count, tail))]


def _write_large(out: BinaryIO, form: str, head: bytes, count: int, tail: bytes) -> None:
    if form == "plain":
        out.write(head)
        out.seek(count, 1)
        out.write(tail)
        return
    member = _packed(form, _text(MEMBER))
    out.write(_packed(form, head))
    for _ in range(count // MEMBER):
        out.write(member)
    out.write(_packed(form, tail))


def _text(length: int) -> bytes:
    """Lines that differ by a number: gzip compresses them to a tenth."""
    lines = b"".join(
        b"%09d the quick brown fox jumps over the lazy dog\n" % number for number in range(length // 54 + 1)
    )
    return lines[:length]


def _packed(form: str, data: bytes) -> bytes:
    return subprocess.run(PACKERS[form], input=data, stdout=subprocess.PIPE, check=True).stdout


def _some(layer: int, count: int) -> Iterator[tarfile.TarInfo]:
    for number in range(count):
        if number % 100 == 0:
            yield _directory(f"layer{layer}-{number // 100:05}")
        yield _file(f"layer{layer}-{number // 100:05}/file{number:07}")


def _stacked(layer: int) -> Iterator[tarfile.TarInfo]:
    """New files, and twenty files of the previous layer again."""
    if layer:
        yield _directory(f"layer{layer - 1:03}")
        yield from (_file(f"layer{layer - 1:03}/file{number:03}") for number in range(PER_LAYER // 10))
    yield _directory(f"layer{layer:03}")
    yield from (_file(f"layer{layer:03}/file{number:03}") for number in range(PER_LAYER))


def _directory(name: str) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.mode = tarfile.DIRTYPE, 0o755
    return header


def _file(name: str) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = BODY
    return header


def _layer(stem: Path, form: str, members: Iterator[tarfile.TarInfo]) -> Path:
    plain = _once(stem.with_suffix(".plain"), lambda out: _write(out, members))
    if form == "plain":
        return plain
    return _once(stem.with_suffix(f".{form}"), lambda out: _pack(plain, form, out))


def _write(out: BinaryIO, members: Iterator[tarfile.TarInfo]) -> None:
    for member in members:
        out.write(member.tobuf(tarfile.USTAR_FORMAT))
        out.write(b"x" * member.size + bytes(-member.size % BLOCK))
    out.write(bytes(2 * BLOCK))


def _pack(plain: Path, form: str, out: BinaryIO) -> None:
    subprocess.run([*PACKERS[form], str(plain)], stdout=out, check=True)


def _once(path: Path, write: Callable[[BinaryIO], None]) -> Path:
    """Write the file, all or nothing, unless it exists."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            unfinished = Path(temporary, "new")
            with unfinished.open("wb") as out:
                write(out)
            unfinished.rename(path)
    return path
