"""A spool for bytes: in memory up to a limit, compressed by lz4, then in an unlinked temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Final, NamedTuple

from streamerge.errors import SinkError
from streamerge.fileio import write_all
from streamerge.interfaces import Layer
from streamerge.options import DEFAULT_SPOOL_MEMORY
from streamerge.streams import ChunkStream, ReadAheadBy, Stream

__all__ = ["SMALL_BODY", "Spool", "SpooledLayer"]

SMALL_BODY: Final = 4 << 20
"""Most bytes of a body that is spooled; a larger body of a compressed layer is decoded again."""

_BLOCK = 1 << 18


class _Spilled(NamedTuple):
    """A block in the temporary file."""

    start: int
    size: int


class Spool:
    """An append-only store of bytes, addressed by position, that can be cut back to an earlier end.

    Memory: at most ``memory`` bytes of blocks, and about 16 bytes for each further 256 KiB. Raises SinkError if the
    temporary file in ``$TMPDIR`` cannot be written.
    """

    def __init__(self, memory: int = DEFAULT_SPOOL_MEMORY) -> None:
        self.raw = 0
        """Most bytes that are kept uncompressed; further blocks are compressed by lz4."""
        self.memory = memory
        self._held = 0
        self._blocks: list[bytes | _Spilled] = []
        self._tail = bytearray()
        self._file: IO[bytes] | None = None
        self._file_end = 0

    def has_room(self, eighths: int = 8) -> bool:
        """Return whether another small body fits into so many eighths of the memory."""
        return self._held + SMALL_BODY <= self.memory * eighths // 8

    @property
    def end(self) -> int:
        """The position that the next byte will have."""
        return len(self._blocks) * _BLOCK + len(self._tail)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._tail += data
        while len(self._tail) >= _BLOCK:
            self._blocks.append(self._store(bytes(self._tail[:_BLOCK])))
            del self._tail[:_BLOCK]

    def read(self, start: int, size: int) -> Iterator[bytes]:
        """Yield ``size`` bytes from position ``start``, in chunks of at most 256 KiB."""
        while size:
            number, skip = divmod(start, _BLOCK)
            block = self._load(number) if number < len(self._blocks) else bytes(self._tail)
            piece = block[skip : skip + size]
            yield piece
            start += len(piece)
            size -= len(piece)

    def cut(self, end: int) -> None:
        """Drop all bytes from position ``end``."""
        number, keep = divmod(end, _BLOCK)
        tail = self._load(number) if number < len(self._blocks) else bytes(self._tail)
        for block in self._blocks[number:]:
            if isinstance(block, bytes):
                self._held -= len(block)
        spilled = [block for block in self._blocks[:number] if isinstance(block, _Spilled)]
        self._file_end = spilled[-1].start + spilled[-1].size if spilled else 0
        del self._blocks[number:]
        self._tail = bytearray(tail[:keep])

    def close(self) -> None:
        """Drop all bytes and remove the temporary file."""
        self._blocks, self._tail = [], bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _store(self, block: bytes) -> bytes | _Spilled:
        if self._held + len(block) > min(self.raw, self.memory):
            import lz4.block  # takes 2 ms; few merges need it

            packed: bytes = lz4.block.compress(block, store_size=False)
            block = min(block, packed, key=len)
        if self._held + len(block) <= self.memory:
            self._held += len(block)
            return block
        import tempfile

        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the spool
            self._file.seek(self._file_end)
            write_all(self._file.fileno(), block)
        except OSError as error:
            raise SinkError(
                f"cannot spool to {tempfile.tempdir or '$TMPDIR'}: {error.strerror}; "
                "set TMPDIR to a directory with more space"
            ) from error
        spilled = _Spilled(self._file_end, len(block))
        self._file_end += len(block)
        return spilled

    def _load(self, number: int) -> bytes:
        block = self._blocks[number]
        if isinstance(block, _Spilled):
            assert self._file is not None
            self._file.seek(block.start)
            block = self._file.read(block.size)
        if len(block) == _BLOCK:  # compressed blocks are always smaller
            return block
        import lz4.block

        data: bytes = lz4.block.decompress(block, uncompressed_size=_BLOCK)
        return data


class SpooledLayer(Layer):
    """A layer from a pipe, spooled when it is first opened. It can be opened many times."""

    reopenable = True

    def __init__(self, layer: Layer, spool: Spool) -> None:
        self.name = layer.name
        self.size = layer.size
        self._layer: Layer | None = layer
        self._spool = spool
        self._start = self._size = 0

    def open(self) -> Stream:
        """Return a stream of the layer's decoded bytes. Raises LayerError, SinkError."""
        if self._layer is not None:
            self._fill(self._layer.open())
            self._layer = None
        return ChunkStream(self._spool.read(self._start, self._size), ReadAheadBy.NOTHING)

    def _fill(self, stream: Stream) -> None:
        self._start = self._spool.end
        try:
            while chunk := stream.read():
                self._spool.write(chunk)
        finally:
            stream.close()
        self._size = self._spool.end - self._start
