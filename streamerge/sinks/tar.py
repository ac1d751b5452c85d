"""The merged root filesystem as a tar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamerge.codecs import Codec, codec_for_suffix, encode
from streamerge.entry import Entry
from streamerge.interfaces import InFile
from streamerge.parallel.pool import ENOUGH, MOST_PLACES, Pool
from streamerge.sinks.output import FileOutput, Output, open_output, read_place
from streamerge.streams import CHUNK
from streamerge.tar.encode import end_of_archive, raw

__all__ = ["TarSink", "open_tar"]

_MAX_PIECES = 512
_MAX_PENDING = 1 << 20


class TarSink:
    """Writes entries to an :class:`~streamerge.sinks.output.Output` as one tar.

    Pieces are gathered and written by one system call for up to a mebibyte; nothing is copied. ``workers`` processes,
    which are forked, write to a file what lies in a layer's file: of that, only places are gathered.
    """

    any_order = False

    def __init__(self, output: Output, *, workers: int = 0) -> None:
        self._output = output
        self._pieces: list[bytes | memoryview] = []
        self._places: list[int] = []  # position, size, … in the layer's file; there are pieces, or places, or neither
        self._pending = 0
        self._size = 0
        self._file, self._start = -1, 0  # where the layer at hand lies
        self._pool = Pool(workers, fetch=output.fetch) if isinstance(output, FileOutput) else None
        self.restartable = output.rewinds

    def write(self, data: bytes | memoryview, offset: int = -1) -> None:
        """Append raw tar bytes, and say where in the layer at hand they stand, if they do."""
        fetched = self._pool is not None and self._pool.helps and offset >= 0 and self._file >= 0
        fetched = fetched and (not self._pieces or len(data) >= ENOUGH)  # a few bytes in between are no reason to flush
        if self._pieces if fetched else self._places:
            self._flush()
        if fetched:
            self._add_place(self._start + offset, len(data))
            return
        self._pieces.append(data)
        self._pending += len(data)
        if self._pending >= _MAX_PENDING or len(self._pieces) >= _MAX_PIECES:
            self._flush()

    def read_from(self, file: InFile | None) -> None:
        """Take note of where the next layer lies."""
        if self._places:
            self._flush()
        self._file, self._start = file.place if file is not None else (-1, 0)
        if self._pool is not None:
            self._pool.read_from(self._file)

    def fetch(self, offset: int, size: int) -> None:
        """Append what stands there in the layer at hand."""
        if self._pieces:
            self._flush()
        position = self._start + offset
        while size:
            part = min(size, CHUNK if self._pool is None else _MAX_PENDING)
            if self._pool is None:
                piece = memoryview(bytearray(part))
                read_place(self._file, position, piece)
                self.write(piece)
            else:
                self._add_place(position, part)
            position, size = position + part, size - part

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Append an entry: its headers as they came where they may be, its body, its padding."""
        self.write(raw(entry))
        for piece in body:
            self.write(piece)
        if entry.size % 512:
            self.write(bytes(-entry.size % 512))

    def restart(self) -> None:
        """Drop everything written so far."""
        self._end_workers()
        self._pieces, self._places, self._pending, self._size = [], [], 0, 0
        self._file = -1
        self._output.rewind()

    def finish(self) -> None:
        """Write the end-of-archive blocks and make the output appear."""
        self.write(end_of_archive(self._size + self._pending))
        self._flush()
        if self._pool is not None:
            self._pool.finish()
        self._output.commit()

    def abort(self) -> None:
        """Leave nothing behind; a pipe gets no end-of-archive blocks."""
        self._end_workers()
        self._pieces, self._places = [], []
        self._output.discard()

    def _add_place(self, position: int, size: int) -> None:
        places = self._places
        if places and places[-2] + places[-1] == position:
            places[-1] += size
        else:
            places += (position, size)
        self._pending += size
        if self._pending >= _MAX_PENDING or len(places) >= 2 * MOST_PLACES:
            self._flush()

    def _flush(self) -> None:
        if self._places:
            assert self._pool is not None
            assert isinstance(self._output, FileOutput)
            self._pool.fetch(self._places, self._pending, self._size)
            self._output.leave(self._pending)
        elif self._pieces:
            self._output.write(self._pieces)
        self._size += self._pending
        self._pieces, self._places, self._pending = [], [], 0

    def _end_workers(self) -> None:
        """Have nobody left that could still write."""
        if self._pool is not None:
            self._pool.kill()


class CompressedOutput:
    """An output that compresses on its way into another; the same input gives the same bytes."""

    def __init__(self, inner: Output, codec: Codec, level: int | None) -> None:
        self.rewinds = inner.rewinds
        self._inner = inner
        self._codec = codec
        self._level = level
        self._encoder = encode(codec, level)

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Compress and append all pieces."""
        encoded = [self._encoder.write(piece) for piece in pieces]
        self._inner.write([piece for piece in encoded if piece])

    def rewind(self) -> None:
        """Begin again with a fresh encoder."""
        self._encoder = encode(self._codec, self._level)
        self._inner.rewind()

    def commit(self) -> None:
        """End the compressed stream and make the output appear."""
        self._inner.write([self._encoder.finish()])
        self._inner.commit()

    def discard(self) -> None:
        """Leave nothing behind."""
        self._inner.discard()


def open_tar(path: str, *, level: int | None = None, fsync: bool = True, workers: int = 0) -> TarSink:
    """Open a tar for output; its suffix says how it is compressed (``.tar.gz``, ``.tgz``, ``.tar.zst``, …).

    ``-`` is standard output, never compressed. Raises SinkError, ValueError for a level out of range.
    """
    codec = codec_for_suffix(path)
    if codec is Codec.NONE:
        if level is not None:
            raise ValueError("a level is for compressed tars; name the output .tar.gz, .tar.zst, …")
        return TarSink(open_output(path, fsync=fsync), workers=workers)
    encode(codec, level)  # a wrong level is an error before anything is created
    return TarSink(CompressedOutput(open_output(path, fsync=fsync), codec, level))
