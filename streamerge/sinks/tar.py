"""The merged root filesystem as a tar."""

from __future__ import annotations

import os
from collections.abc import Iterable

from streamerge.codecs import Codec, codec_for_suffix, encode
from streamerge.entry import Entry
from streamerge.fileio import Check, Extent, FileHandle
from streamerge.interfaces import Run, RunSink, Takes
from streamerge.parallel.pool import ENOUGH, MAX_EXTENTS, Pool
from streamerge.sinks.base import AbortOnExit
from streamerge.sinks.output import FileOutput, Output, OutputTarget, compressed, open_output
from streamerge.tar.encode import end_of_archive, raw

__all__ = ["TarSink", "open_tar"]

_MAX_PIECES = 512
_MAX_PENDING = 1 << 20


class TarSink(AbortOnExit, RunSink):
    """Writes entries to an :class:`~streamerge.sinks.output.Output` as one tar.

    Up to a mebibyte of pieces is collected and written by one system call, without copying. Data in a layer's file is
    copied to an output file by ``workers`` forked processes; for this data, only the extents are collected.
    """

    def __init__(self, output: Output, *, workers: int = 0) -> None:
        self.takes = Takes.TAR_RUNS | Takes.CHECK
        if output.rewinds:
            self.takes |= Takes.RESTART
        self._output = output
        self._pieces: list[bytes | memoryview] = []
        self._extents: list[int] = []  # of one file: start, size, …; there are pieces, or extents, or neither
        self._file: FileHandle | None = None  # the file that the extents are of
        self._pending = 0
        self._size = 0
        self._pool = Pool(workers, fetch=output.fetch) if isinstance(output, FileOutput) else None
        if self._pool is not None:
            self.takes |= Takes.EXTENTS

    def set_check(self, check: Check) -> None:
        """Call ``check`` while waiting for worker processes."""
        if self._pool is not None:
            self._pool.check = check

    def write_run(self, run: Run) -> None:
        """Append a run."""
        data, extent = run
        if data is None:
            assert extent is not None
            self._fetch(extent)
        elif extent is not None and (not self._pieces or len(data) >= ENOUGH) and self._has_workers():
            self._add_extent(extent)
        else:  # workers could fetch it too, but a few bytes are no reason to flush what is before them
            self._append(data)

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Append an entry: its headers, unchanged if possible, its body and padding."""
        self._append(raw(entry))
        for piece in body:
            self._append(piece)
        if entry.size % 512:
            self._append(bytes(-entry.size % 512))

    def restart(self) -> None:
        """Drop everything written so far."""
        self._kill_workers()
        self._pieces, self._extents, self._pending, self._size = [], [], 0, 0
        self._output.rewind()

    def finish(self) -> None:
        """Write the end-of-archive blocks and make the output appear."""
        self._append(end_of_archive(self._size + self._pending))
        self._flush()
        if self._pool is not None:
            self._pool.finish()
        self._file = None
        self._output.commit()

    def abort(self) -> None:
        """Remove everything written so far. A pipe gets no end-of-archive blocks."""
        self._kill_workers()
        self._pieces, self._extents = [], []
        self._output.discard()

    def _append(self, data: bytes | memoryview) -> None:
        if self._extents:
            self._flush()
        self._pieces.append(data)
        self._pending += len(data)
        if self._pending >= _MAX_PENDING or len(self._pieces) >= _MAX_PIECES:
            self._flush()

    def _has_workers(self) -> bool:
        return self._pool is not None and self._pool.has_workers

    def _fetch(self, extent: Extent) -> None:
        """Append an extent whose bytes were not read, in parts that a worker copies at once."""
        for offset in range(0, extent.size, _MAX_PENDING):
            self._add_extent(extent.part(offset, min(extent.size - offset, _MAX_PENDING)))

    def _add_extent(self, extent: Extent) -> None:
        if self._pieces or extent.file is not self._file:
            self._flush()
            self._file = extent.file
        extents = self._extents
        if extents and extents[-2] + extents[-1] == extent.start:
            extents[-1] += extent.size
        else:
            extents += (extent.start, extent.size)
        self._pending += extent.size
        if self._pending >= _MAX_PENDING or len(extents) >= 2 * MAX_EXTENTS:
            self._flush()

    def _flush(self) -> None:
        if self._extents:
            assert self._pool is not None
            assert self._file is not None
            assert isinstance(self._output, FileOutput)
            self._pool.fetch(self._file, self._extents, self._pending, self._size)
            self._output.leave(self._pending)
        elif self._pieces:
            self._output.write(self._pieces)
        self._size += self._pending
        self._pieces, self._extents, self._pending = [], [], 0

    def _kill_workers(self) -> None:
        """End all worker processes, so that none of them can still write."""
        self._file = None
        if self._pool is not None:
            self._pool.kill()


def open_tar(target: OutputTarget, *, level: int | None = None, fsync: bool = True, workers: int = 0) -> TarSink:
    """Return a sink that writes a tar; a path's suffix sets the compression (``.tar.gz``, ``.tgz``, ``.tar.zst``, …).

    ``-`` is standard output. Standard output and file objects are not compressed. ``workers`` processes help to write
    a file. They are forked, so keep 0 in a program with threads of its own. Raises SinkError, ValueError for a level
    out of range.
    """
    codec = codec_for_suffix(os.fspath(target)) if isinstance(target, str | os.PathLike) else Codec.NONE
    if codec is Codec.NONE:
        if level is not None:
            raise ValueError("a level is for compressed tars; name the output .tar.gz, .tar.zst, …")
        return TarSink(open_output(target, fsync=fsync), workers=workers)
    encode(codec, level)  # raises ValueError for a wrong level before a file is created
    return TarSink(compressed(open_output(target, fsync=fsync), codec, lambda: encode(codec, level)))
