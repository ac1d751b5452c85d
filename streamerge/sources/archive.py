"""An image in one tar: the headers are read once to find its members, which are then read by position.

A tar that is compressed or comes through a pipe is decoded into an unlinked temporary file in ``$TMPDIR``.
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

from streamerge.codecs import decoded
from streamerge.entry import Entry, Kind
from streamerge.errors import ImageError, LayerError, SinkError, StreamergeError, UnsafePathError, show
from streamerge.fileio import Extent, FileHandle, write_all
from streamerge.interfaces import Stream
from streamerge.sources.fileblob import FileBlob
from streamerge.sources.names import safe_name, show_text
from streamerge.streams import ChunkStream, FileStream, read_descriptor
from streamerge.tar.reader import TarReader
from streamerge.tar.sparse import is_sparse

__all__ = ["ArchiveStore"]

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


@dataclass(frozen=True, slots=True)
class _Unreadable:
    kind: str  # for messages


_Member = _Body | _Link | _Unreadable


class ArchiveStore:
    """The files of a tar. ``-`` is standard input.

    Raises ImageError for a file that is not a complete tar. Cost: one read of each header, or one pass if the tar is
    spooled. Memory: the names.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else show(os.fsencode(path))
        self._file = _open(path, self.name)
        with _archive_errors(self.name):
            self._members = _read_members(FileBlob(self.name, 0, self._file.size, lambda: self._file))

    @property
    def names(self) -> Collection[str]:
        """The names of all members."""
        return self._members.keys()

    def find(self, name: str) -> FileBlob | None:
        """Return the member of that name; None if there is none. Links inside the archive are followed.

        Raises UnsafePathError for a link that leads out, LayerError for a member that is not a plain file.
        """
        path = safe_name(name)
        what = f"{show_text(path)} in {self.name}"
        for _ in range(_MAX_LINKS):
            member = self._members.get(path)
            if member is None:
                return None
            if isinstance(member, _Body):
                return FileBlob(what, member.start, member.size, lambda: self._file)
            if isinstance(member, _Unreadable):
                raise LayerError(f"{what} is {member.kind}; expected a plain file")
            path = self._resolve(path, member)
        raise LayerError(f"{what} is part of a loop of symbolic links")

    def _resolve(self, path: str, link: _Link) -> str:
        resolved = posixpath.normpath(posixpath.join(link.base, link.target))
        if resolved.startswith(("../", "/")) or resolved == "..":
            what = f"{show_text(path)} in {self.name}"
            raise UnsafePathError(f"{what} is a link out of it, to '{show_text(link.target)}'; it is refused")
        return resolved


# --- members ----------------------------------------------------------------------------------------


def _read_members(archive: FileBlob) -> dict[str, _Member]:
    """Return the files and links of a tar by name. If a name is repeated, the last one counts, as tar extracts it."""
    reader = TarReader(archive.stream())
    members: dict[str, _Member] = {}
    while (entry := reader.next_entry()) is not None:
        members[_text(entry.path)] = _member(entry, reader.offset)
        if len(members) > _MAX_MEMBERS:
            raise ImageError(f"it has more than {_MAX_MEMBERS:,} members, the limit for an image archive")
    return members


def _member(entry: Entry, body_start: int) -> _Member:
    if entry.kind is Kind.FILE:
        return _Unreadable("a sparse file") if is_sparse(entry) else _Body(body_start, entry.size)
    if entry.kind is Kind.SYMLINK:
        return _Link(posixpath.dirname(_text(entry.path)), _text(entry.target))
    if entry.kind is Kind.HARDLINK:
        return _Link("", _text(entry.target))
    return _Unreadable(f"a {entry.kind.value}")


def _text(name: bytes) -> str:
    """Return a name as JSON documents write it: UTF-8. Other names stay distinct."""
    return name.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _archive_errors(name: str) -> Iterator[None]:
    """Turn errors of reading the tar into an ImageError that names the archive."""
    try:
        yield
    except SinkError:
        raise
    except StreamergeError as error:
        problem = "it ends in the middle of a member: it is truncated" if "truncated" in error.problem else str(error)
        raise ImageError(f"cannot read the archive {name}: {problem}") from error


# --- opening and spooling ---------------------------------------------------------------------------


def _open(path: str, name: str) -> FileHandle:
    """Return a file that holds the archive as a plain tar."""
    try:
        fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"cannot open {name}: {reason}") from error
    file = FileHandle(fd)
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        raise ImageError(f"'{name}' is a directory, not an archive; for a directory use oci:DIR or dir:DIR")
    with _archive_errors(name):
        if not stat.S_ISREG(mode) or os.lseek(fd, 0, os.SEEK_CUR):
            return _spool(decoded(ChunkStream(read_descriptor(file, name))))
        stored = FileStream(Extent(file, 0, file.size), name)
        plain = decoded(stored)
        return file if plain is stored else _spool(plain)


def _spool(stream: Stream) -> FileHandle:
    """Copy a stream to a temporary file without a name."""
    with _temporary_file() as spool:
        while chunk := stream.read():
            try:
                write_all(spool, chunk)
            except OSError as error:
                _cannot_spool(error)
        return FileHandle(os.dup(spool))


@contextlib.contextmanager
def _temporary_file() -> Iterator[int]:
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        _cannot_spool(error)
    with file:
        yield file.fileno()


def _cannot_spool(error: OSError) -> NoReturn:
    directory = show(os.fsencode(tempfile.gettempdir()))
    raise SinkError(
        f"cannot spool the archive to {directory}: {error.strerror}; set TMPDIR to a directory with more space"
    ) from error
