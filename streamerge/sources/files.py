"""Layer files and pipes: each plain or compressed, recognised by magic bytes, never by name."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Iterable, Sequence

from streamerge.codecs import HEAD_SIZE, Codec, decode, detect
from streamerge.errors import LayerError, StreamergeError, UsageError, show
from streamerge.interfaces import Layer, Stream
from streamerge.streams import ChunkStream, FileStream, file_stamp, read_chunks, reader_for

__all__ = ["LayerFile", "LayerPipe", "layer_files"]


class LayerFile:
    """A layer in a regular file, which can be opened as often as needed."""

    reopenable = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.name = show(os.path.basename(os.fsencode(self.path)))
        self._stamp: tuple[int, ...] | None = None

    def open(self) -> Stream:
        """Start reading; a plain tar is given as a stream that seeks. Raises LayerError."""
        fd = _open(self.path)
        try:
            self._check_unchanged(fd)
            codec = detect(os.pread(fd, HEAD_SIZE, 0))
        except OSError as error:
            os.close(fd)
            raise LayerError(f"cannot read {self.path}: {error.strerror}") from error
        except StreamergeError:
            os.close(fd)
            raise
        if codec is Codec.NONE:
            return FileStream(fd, self.path)
        size = os.fstat(fd).st_size
        return ChunkStream(decode(codec, read_chunks(fd, self.path)), reader_for(size))

    def _check_unchanged(self, fd: int) -> None:
        """A file that is opened again must be the one that was read before."""
        stamp = file_stamp(fd)
        if self._stamp not in (None, stamp):
            raise LayerError(f"{self.name} has changed while it was being merged")
        self._stamp = stamp


class LayerPipe:
    """A layer that comes through a pipe, once: standard input (``-``), a FIFO, ``<(…)``."""

    reopenable = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else show(os.fsencode(path))

    def open(self) -> Stream:
        """Start reading. Raises LayerError."""
        fd = _standard_input() if self.path == "-" else _open(self.path)
        chunks = read_chunks(fd, self.name)
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= HEAD_SIZE:
                break
        whole: Iterable[bytes] = itertools.chain((head,), chunks) if head else ()
        codec = detect(head)
        return ChunkStream(whole if codec is Codec.NONE else decode(codec, whole))


def layer_files(paths: Sequence[str]) -> list[Layer]:
    """Return a layer for each path, base to newest; nothing is opened yet.

    Raises LayerError for a path that is not there, UsageError for a directory and for a pipe named twice.
    """
    layers: list[Layer] = []
    pipes: set[tuple[int, int] | str] = set()
    for path in paths:
        identity = "-" if path == "-" else _pipe_identity(path)
        if identity is None:
            layers.append(LayerFile(path))
            continue
        if identity in pipes:
            raise UsageError(f"'{path}' is a pipe and can be read only once, but is named twice")
        pipes.add(identity)
        layers.append(LayerPipe(path))
    return layers


def _pipe_identity(path: str) -> tuple[int, int] | None:
    """What tells one pipe from another; None for a regular file. Raises LayerError for anything else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LayerError(f"cannot open {path}: {reason}") from error
    if stat.S_ISREG(status.st_mode):
        return None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"'{path}' is a directory; a layer is a tar, compressed or not")
    return status.st_dev, status.st_ino


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LayerError(f"cannot open {path}: {error.strerror}") from error


def _standard_input() -> int:
    if sys.stdin is None:
        raise LayerError("standard input is closed")
    return os.dup(0)
