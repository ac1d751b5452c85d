"""An image in one tar: its members are found once, by their headers, and read in place by position.

A tar that is compressed or comes through a pipe is written once, decoded, to an unlinked temporary file
in ``$TMPDIR``, and read there.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NoReturn

from streamerge.codecs import Codec, decoded, detect_codec
from streamerge.entry import Entry, Kind
from streamerge.errors import ImageError, LayerError, SinkError, StreamergeError, UnsafePathError, show
from streamerge.fileio import Extent, FileHandle, write_all
from streamerge.sources.fileblob import FileBlob
from streamerge.sources.filestore import safe_name, shown
from streamerge.streams import ChunkStream, FileStream, RawStream, read_descriptor
from streamerge.tar.reader import TarReader

__all__ = ["Archive"]

_MAX_MEMBERS = 1_000_000
_MAX_LINKS = 40
"""Symbolic links followed for one name, as in Linux."""


@dataclass(frozen=True, slots=True)
class _Body:
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Link:
    base: str  # the directory that the target is relative to
    target: str


_Member = _Body | _Link | str  # what cannot be read is the words that say so


class Archive:
    """The files of a tar, read in place. ``-`` is standard input.

    Raises ImageError for what is no whole tar. Cost: one look at each header, or one pass where the tar must
    be spooled; memory: the names.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else show(os.fsencode(path))
        self._file = _open(path, self.name)
        with _blamed(self.name):
            self._members = _index(FileBlob(self.name, 0, self._file.size, lambda: self._file))

    @property
    def names(self) -> Collection[str]:
        """The names of all members."""
        return self._members.keys()

    def find(self, name: str) -> FileBlob | None:
        """The member of that name; links are followed inside the archive. Raises UnsafePathError, LayerError."""
        path = safe_name(name)
        what = f"{shown(path)} in {self.name}"
        for _ in range(_MAX_LINKS):
            member = self._members.get(path)
            if member is None:
                return None
            if isinstance(member, _Body):
                return FileBlob(what, member.start, member.size, lambda: self._file)
            if isinstance(member, str):
                raise LayerError(f"{what} is {member}, which cannot be read in place")
            path = self._resolve(path, member)
        raise LayerError(f"{what} is a symbolic link that leads in a circle")

    def _resolve(self, path: str, link: _Link) -> str:
        resolved = posixpath.normpath(posixpath.join(link.base, link.target))
        if resolved.startswith(("../", "/")) or resolved == "..":
            target = shown(link.target)
            raise UnsafePathError(f"{shown(path)} in {self.name} is a link out of it, to '{target}'; it is refused")
        return resolved


# --- members ----------------------------------------------------------------------------------------


def _index(whole: FileBlob) -> dict[str, _Member]:
    """Every file and link of a tar by its name; of a repeated name the last, as tar extracts it."""
    reader = TarReader(whole.stream())
    members: dict[str, _Member] = {}
    while (entry := reader.next_entry()) is not None:
        members[_text(entry.path)] = _member(entry, reader.offset)
        if len(members) > _MAX_MEMBERS:
            raise ImageError(f"it has more than {_MAX_MEMBERS:,} members; no image has")
    return members


def _member(entry: Entry, body: int) -> _Member:
    if entry.kind is Kind.FILE:
        sparse = entry.header[156:157] == b"S" or any(key.startswith(b"GNU.sparse.") for key in entry.records)
        return "a sparse file" if sparse else _Body(body, entry.size)
    if entry.kind is Kind.SYMLINK:
        return _Link(posixpath.dirname(_text(entry.path)), _text(entry.target))
    if entry.kind is Kind.HARDLINK:
        return _Link("", _text(entry.target))
    return f"a {entry.kind.value}"


def _text(name: bytes) -> str:
    """Names in JSON are UTF-8; others in the tar are no image's, and stay apart."""
    return name.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _blamed(name: str) -> Iterator[None]:
    """What is wrong with an archive's tar, told of the archive and not of a layer."""
    try:
        yield
    except SinkError:
        raise
    except StreamergeError as error:
        problem = "it ends in the middle of a member: it is truncated" if "truncated" in error.problem else str(error)
        raise ImageError(f"cannot read the archive {name}: {problem}") from error


# --- in place, or spooled ---------------------------------------------------------------------------


def _open(path: str, name: str) -> FileHandle:
    """The archive as a plain tar in a file."""
    try:
        fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        _cannot_open(name, error)
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        os.close(fd)
        raise ImageError(f"'{name}' is a directory; an archive is a file (oci:DIR and dir:DIR are directories)")
    file = FileHandle(fd)
    with _blamed(name):
        if not stat.S_ISREG(mode) or os.lseek(fd, 0, os.SEEK_CUR):
            return _spool(ChunkStream(read_descriptor(file, name)))
        raw = FileStream(Extent(file, 0, file.size), name)
        return file if detect_codec(raw) is Codec.NONE else _spool(raw)


def _cannot_open(name: str, error: Exception) -> NoReturn:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    raise ImageError(f"cannot open {name}: {reason}") from error


def _spool(raw: RawStream) -> FileHandle:
    """Write an archive, decoded, to a file that has no name."""
    stream = decoded(raw)
    with _temporary() as spool:
        while chunk := stream.read():
            _write(spool, chunk)
        return FileHandle(os.dup(spool))


@contextlib.contextmanager
def _temporary() -> Iterator[int]:
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        _cannot_spool(error)
    with file:
        yield file.fileno()


def _write(spool: int, chunk: bytes) -> None:
    try:
        write_all(spool, chunk)
    except OSError as error:
        _cannot_spool(error)


def _cannot_spool(error: OSError) -> NoReturn:
    where = show(os.fsencode(tempfile.gettempdir()))
    raise SinkError(
        f"cannot spool the archive to {where}: {error.strerror}; set TMPDIR to a place with more room"
    ) from error
