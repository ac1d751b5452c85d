"""Do streamerge and GNU tar by hand show the same files? Asked in a smoke run, of small images only."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import measure, rivals
from benchmarks.images import Image
from benchmarks.measure import Command


def smoke(image: Image, command: Sequence[str], workdir: Path) -> Iterator[str]:
    """What is wrong with what streamerge makes of an image."""
    with measure.scratch(workdir) as place:
        theirs = _output(rivals.by_hand(image, place), place / "theirs")
        for contender in rivals.streamerge(command):
            ours = _output(contender.command(image, place), place / "ours")
            for path in sorted({*_differences(ours, theirs), *_repeated(ours)}):
                yield f"{image.name} {image.compression}: {contender.name}: {path!r} is wrong"


def _output(command: Command, path: Path) -> Path:
    measure.run(command)
    return path.with_name("out.tar").rename(path)


def _differences(ours: Path, theirs: Path) -> set[str]:
    left, right = _shown(ours), _shown(theirs)
    return {path for path in left.keys() | right.keys() if left.get(path) != right.get(path)}


def _repeated(path: Path) -> set[str]:
    with tarfile.open(path) as tar:
        return {name for name, times in Counter(tar.getnames()).items() if times > 1}


def _shown(path: Path) -> dict[str, tuple[object, ...]]:
    with tarfile.open(path) as tar:
        return {_clean(member.name): _what(tar, member) for member in tar if _clean(member.name)}


def _clean(name: str) -> str:
    return name.removeprefix(".").strip("/")


def _what(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[object, ...]:
    """Kind, mode and content; a hard link is the file that it names."""
    if member.issym() or member.isdir():
        return (member.type, member.mode, member.linkname)
    body = tar.extractfile(member)
    return (tarfile.REGTYPE, member.mode, body.read() if body else b"")
