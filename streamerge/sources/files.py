"""Layers in files, pipes and file objects: each plain or compressed, detected from the first bytes."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import IO

from streamerge.codecs import decoded
from streamerge.errors import LayerError, UsageError, show
from streamerge.fileio import CHUNK, Extent, FileHandle
from streamerge.interfaces import Layer, Stream
from streamerge.sources.locating import at_layer
from streamerge.streams import ChunkStream, FileStream, read_descriptor

__all__ = ["LayerFile", "LayerFileObject", "LayerPipe", "layer_files", "open_layer"]


class LayerFile(Layer):
    """A layer in a regular file. It can be opened many times."""

    reopenable = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.name = show(os.path.basename(os.fsencode(self.path)))
        self._stamp: tuple[int, ...] | None = None

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """The file's size in bytes."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return None

    def open(self) -> Stream:
        """Return the decoded stream; that of a plain tar seeks. Raises LayerError."""
        file = FileHandle(_open(self.path))
        stamp = file.stamp()
        if self._stamp not in (None, stamp):
            raise LayerError(f"{self.name} has changed while it was being merged")
        self._stamp = stamp
        if not file.size:  # empty, or one of those below /proc that have bytes all the same
            return decoded(ChunkStream(read_descriptor(file, self.path)))
        return decoded(FileStream(Extent(file, 0, file.size), self.path))


class LayerPipe(Layer):
    """A layer from a pipe: standard input (``-``), a FIFO, ``<(…)``. It can be opened once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else show(os.fsencode(path))

    def open(self) -> Stream:
        """Return the decoded stream. Raises LayerError."""
        file = FileHandle(_standard_input() if self.path == "-" else _open(self.path))
        raw = ChunkStream(read_descriptor(file, self.name))
        if not raw.peek(1):
            raise LayerError("nothing came through the pipe; the command that writes to it may have failed")
        return decoded(raw)


class LayerFileObject(Layer):
    """A layer in a binary file object, which stays open. The layer can be opened many times if the object can seek."""

    def __init__(self, file: IO[bytes], name: str | None = None) -> None:
        if not isinstance(file.read(0), bytes):
            raise TypeError("a layer needs a binary file object; open the file with mode 'rb'")
        self.name = name if name is not None else show(os.fsencode(str(getattr(file, "name", "file object"))))
        self.reopenable = file.seekable()
        self._file = file
        self._start = file.tell() if self.reopenable else 0

    def open(self) -> Stream:
        """Return the decoded stream from the position that the file object had at first. Raises LayerError."""
        return decoded(ChunkStream(self._chunks()))

    def _chunks(self) -> Iterator[bytes]:
        position = self._start
        while chunk := self._read(position):
            position += len(chunk)
            yield chunk

    def _read(self, position: int) -> bytes:
        try:
            if self.reopenable:
                self._file.seek(position)
            chunk = self._file.read(CHUNK)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise LayerError(f"cannot read {self.name}: {getattr(error, 'strerror', None) or error}") from error
        if chunk is None:
            raise LayerError(f"cannot read {self.name}: it is in non-blocking mode and has no data yet")
        return chunk


def open_layer(source: str | os.PathLike[str] | IO[bytes], *, name: str | None = None) -> Layer:
    """Return the layer in a file, a pipe (``-`` is standard input) or a binary file object; ``name`` is for messages.

    Raises LayerError for a path that does not exist, UsageError for a directory, TypeError for a text file.
    """
    if not isinstance(source, str | os.PathLike):
        return LayerFileObject(source, name)
    path = os.fspath(source)
    layer = LayerFile(path) if path != "-" and _pipe_identity(path) is None else LayerPipe(path)
    if name is not None:
        layer.name = name
    return layer


def layer_files(paths: Sequence[str | os.PathLike[str]]) -> list[Layer]:
    """Return a layer for each path, base to newest. No file is opened yet.

    Raises LayerError for a path that does not exist, UsageError for a directory and for a pipe named twice, TypeError
    for one path instead of a list.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        raise TypeError(f"layer_files() takes a list of paths, not one path; use layer_files([{paths!r}])")
    pipes: set[tuple[int, int] | str] = set()
    return [_layer_file(index, os.fspath(path), pipes) for index, path in enumerate(paths)]


def _layer_file(index: int, path: str, pipes: set[tuple[int, int] | str]) -> Layer:
    with at_layer(index, f"layer {index}"):
        identity = "-" if path == "-" else _pipe_identity(path)
    if identity is None:
        return LayerFile(path)
    if identity in pipes:
        raise UsageError(f"'{show(os.fsencode(path))}' is a pipe and can be read only once, but is named twice")
    pipes.add(identity)
    return LayerPipe(path)


def _pipe_identity(path: str) -> tuple[int, int] | None:
    """Return the device and inode of a pipe or device; None for a regular file. Raises LayerError, UsageError."""
    shown = show(os.fsencode(path))
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LayerError(f"cannot open {shown}: {reason}") from error
    if stat.S_ISREG(status.st_mode):
        return None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"'{shown}' is a directory; a layer is a tar, compressed or not")
    return status.st_dev, status.st_ino


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LayerError(f"cannot open {show(os.fsencode(path))}: {error.strerror}") from error


def _standard_input() -> int:
    if sys.stdin is None:
        raise LayerError("standard input is closed")
    return os.dup(0)
