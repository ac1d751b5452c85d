"""The merged root filesystem as a tar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamerge.codecs import Codec, codec_for_suffix, encode
from streamerge.entry import Entry
from streamerge.sinks.output import Output, open_output
from streamerge.tarencode import end_of_archive, raw

__all__ = ["TarSink", "open_tar"]

_MAX_PIECES = 512
_MAX_PENDING = 1 << 20


class TarSink:
    """Writes entries to an :class:`~streamerge.sinks.output.Output` as one tar.

    Pieces are gathered and written by one system call for up to a mebibyte; nothing is copied.
    """

    any_order = False

    def __init__(self, output: Output) -> None:
        self._output = output
        self._pieces: list[bytes | memoryview] = []
        self._pending = 0
        self._size = 0
        self.restartable = output.rewinds

    def write(self, data: bytes | memoryview) -> None:
        """Append raw tar bytes."""
        self._pieces.append(data)
        self._pending += len(data)
        if self._pending >= _MAX_PENDING or len(self._pieces) >= _MAX_PIECES:
            self._flush()

    def copy(self, fd: int, size: int) -> int:
        """Append bytes of a file, from where its descriptor stands, if the output can; return how many."""
        copy = getattr(self._output, "copy", None)
        if copy is None:
            return 0
        self._flush()
        copied: int = copy(fd, size)
        self._size += copied
        return copied

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Append an entry: its headers as they came where they may be, its body, its padding."""
        self.write(raw(entry))
        for piece in body:
            self.write(piece)
        if entry.size % 512:
            self.write(bytes(-entry.size % 512))

    def restart(self) -> None:
        """Drop everything written so far."""
        self._pieces, self._pending, self._size = [], 0, 0
        self._output.rewind()

    def finish(self) -> None:
        """Write the end-of-archive blocks and make the output appear."""
        self.write(end_of_archive(self._size + self._pending))
        self._flush()
        self._output.commit()

    def abort(self) -> None:
        """Leave nothing behind; a pipe gets no end-of-archive blocks."""
        self._pieces = []
        self._output.discard()

    def _flush(self) -> None:
        if self._pieces:
            self._output.write(self._pieces)
            self._size += self._pending
            self._pieces, self._pending = [], 0


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


def open_tar(path: str, *, level: int | None = None, fsync: bool = True) -> TarSink:
    """Open a tar for output; its suffix says how it is compressed (``.tar.gz``, ``.tgz``, ``.tar.zst``, …).

    ``-`` is standard output, never compressed. Raises SinkError, ValueError for a level out of range.
    """
    codec = codec_for_suffix(path)
    if codec is Codec.NONE:
        if level is not None:
            raise ValueError("a level is for compressed tars; name the output .tar.gz, .tar.zst, …")
        return TarSink(open_output(path, fsync=fsync))
    encode(codec, level)  # a wrong level is an error before anything is created
    return TarSink(CompressedOutput(open_output(path, fsync=fsync), codec, level))
