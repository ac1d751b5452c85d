"""The means to read an entry again after the stream has passed it.

Where a layer can be opened again, that is its offset, and costs nothing until it is used. Everything else
goes to a :class:`Spool`: compressed by lz4, in memory up to a limit, then in an unlinked temporary file.
Of compressed layers, which can be opened but must be decoded once more, small bodies go there as well while
there is memory for them: one promoted link would otherwise cost as much as the layer itself.
"""

from __future__ import annotations

import bisect
import enum
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from streamerge.entry import Entry
from streamerge.errors import LayerError, SinkError
from streamerge.interfaces import Layer, Stream
from streamerge.streams import ChunkStream, Reader
from streamerge.tar.reader import Globals, TarReader

__all__ = ["DEFAULT_SPOOL_MEMORY", "RetainMethod", "Retainer", "Spool", "SpooledLayer"]

DEFAULT_SPOOL_MEMORY = 64 << 20
"""Bytes that a spool keeps in memory before it goes to disk."""

SMALL_BODY = 4 << 20
"""Bytes up to which a body of a compressed layer is spooled rather than decoded once more."""

_COPIED_AT_MOST = 8 << 20
_BLOCK = 1 << 18


class Spool:
    """An append-only store of bytes, addressed by position, that can be cut back to an earlier end.

    Memory: at most ``memory`` bytes of blocks, and 16 bytes or so for each 256 KiB beyond.
    Raises SinkError where the temporary file cannot be written (the directory is ``$TMPDIR``).
    """

    def __init__(self, memory: int = DEFAULT_SPOOL_MEMORY) -> None:
        self.raw = 0
        """Bytes that stay in memory as they are; what comes when there are more is packed by lz4."""
        self.memory = memory
        self._held = 0
        self._blocks: list[bytes | tuple[int, int]] = []
        self._tail = bytearray()
        self._file: IO[bytes] | None = None
        self._file_end = 0

    def has_room(self, eighths: int = 8) -> bool:
        """Whether another small body will stay within so many eighths of the memory."""
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
        """Forget everything from position ``end`` on."""
        number, keep = divmod(end, _BLOCK)
        tail = self._load(number) if number < len(self._blocks) else bytes(self._tail)
        for block in self._blocks[number:]:
            if isinstance(block, bytes):
                self._held -= len(block)
        spilled = [block for block in self._blocks[:number] if isinstance(block, tuple)]
        self._file_end = spilled[-1][0] + spilled[-1][1] if spilled else 0
        del self._blocks[number:]
        self._tail = bytearray(tail[:keep])

    def close(self) -> None:
        """Forget everything and give the temporary file back."""
        self._blocks, self._tail = [], bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _store(self, block: bytes) -> bytes | tuple[int, int]:
        if self._held + len(block) > min(self.raw, self.memory):
            import lz4.block  # 2 ms that few merges need

            packed: bytes = lz4.block.compress(block, store_size=False)
            block = min(block, packed, key=len)
        if self._held + len(block) <= self.memory:
            self._held += len(block)
            return block
        import tempfile

        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the spool
            self._file.seek(self._file_end)
            written = 0
            while written < len(block):
                written += self._file.write(memoryview(block)[written:])
        except OSError as error:
            raise SinkError(f"cannot spool to {tempfile.tempdir or '$TMPDIR'}: {error.strerror}") from error
        place = (self._file_end, len(block))
        self._file_end += len(block)
        return place

    def _load(self, number: int) -> bytes:
        block = self._blocks[number]
        if isinstance(block, tuple):
            assert self._file is not None
            self._file.seek(block[0])
            block = self._file.read(block[1])
        if len(block) == _BLOCK:  # a packed one is always smaller
            return block
        import lz4.block

        data: bytes = lz4.block.decompress(block, uncompressed_size=_BLOCK)
        return data


class SpooledLayer:
    """A layer that cannot be opened again, read into a spool at its first opening so that it can."""

    reopenable = True

    def __init__(self, layer: Layer, spool: Spool) -> None:
        self.name = layer.name
        self._layer: Layer | None = layer
        self._spool = spool
        self._start = self._size = 0

    def open(self) -> Stream:
        """Start reading at the layer's first decoded byte."""
        if self._layer is not None:
            self._fill(self._layer.open())
            self._layer = None
        return ChunkStream(self._spool.read(self._start, self._size), Reader.NOBODY)

    def _fill(self, stream: Stream) -> None:
        self._start = self._spool.end
        try:
            while chunk := stream.read():
                self._spool.write(chunk)
        finally:
            stream.close()
        self._size = self._spool.end - self._start


class RetainMethod(enum.Enum):
    """How a layer's entries are kept within reach."""

    POSITION = "by offset: the layer is a plain file, and going back costs nothing"
    SPOOL_SMALL = "small bodies in the spool's memory: going back means decoding the layer once more"
    SPOOL = "everything in the spool: the layer is a pipe"


class _Kept:
    """What is in the spool of one layer: offsets in the layer, ascending, and places; 24 bytes an entry."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.starts = array("Q")
        self.sizes = array("Q")

    def add(self, offset: int, start: int, size: int) -> None:
        self.offsets.append(offset)
        self.starts.append(start)
        self.sizes.append(size)

    def find(self, offset: int) -> tuple[int, int] | None:
        place = bisect.bisect_left(self.offsets, offset)
        if place == len(self.offsets) or self.offsets[place] != offset:
            return None
        return self.starts[place], self.sizes[place]


class Retainer:
    """Everything that one merge has passed and may need again, by layer and offset.

    ``layers`` are base to newest, as layer indices are.
    """

    def __init__(self, layers: Sequence[Layer], spool: Spool) -> None:
        self._layers = layers
        self._spool = spool
        self._kept: dict[int, _Kept] = {}
        self._globals: dict[int, Globals] = {}
        self._layer = -1
        self._means = RetainMethod.POSITION
        self._links = False
        self._mark = spool.end

    def note_globals(self, layer: int, global_records: Globals) -> None:
        """Remember where a layer's PAX globals are noted: its entries are parsed again under them."""
        self._globals[layer] = global_records

    def wants(self, size: int, means: RetainMethod) -> bool:
        """Whether a body of ``size`` bytes is to be given to :meth:`keep`, so that it need not be read again."""
        if means is RetainMethod.SPOOL_SMALL:
            return size <= SMALL_BODY and self._spool.has_room(7 if self._links else 4)
        return means is RetainMethod.SPOOL

    def begin(self, layer: int, means: RetainMethod) -> None:
        """Begin a layer: what is kept from now on is of it.

        Bodies that most likely are dropped stay unpacked, up to half of the memory: to pack them takes ten times as
        long as to copy them. Once hard links have been seen, some will be needed: then a quarter of it is for unpacked
        ones, and five eighths for packed ones.
        """
        self._means = means
        self._spool.raw = 0
        if means is RetainMethod.SPOOL_SMALL:
            self._spool.raw = self._spool.memory // (4 if self._links else 2)
        self._layer = layer
        self._mark = self._spool.end
        self._kept[layer] = _Kept()

    def expect_links(self) -> None:
        """Take note that the layers hold hard links."""
        self._links = True

    def keep_hidden(self, offset: int, data: memoryview) -> None:
        """Keep a hidden entry, raw headers and body, if it would be read again at a cost and there is room."""
        if self.wants(len(data), self._means):
            self.keep(offset, (data,))

    def keep(self, offset: int, data: Iterable[memoryview]) -> None:
        """Put an entry's raw headers and body, padding included, into the spool; offsets ascend in a layer."""
        start = self._spool.end
        for piece in data:
            self._spool.write(piece)
        self._kept[self._layer].add(offset, start, self._spool.end - start)

    def end(self, needed: Iterable[int]) -> None:
        """End the layer: of what it kept, only the ``needed`` offsets may still be recalled.

        The rest gives its room back, unless what is needed is so much that copying it would cost more.
        """
        kept = self._kept[self._layer]
        places = {offset: place for offset in sorted(needed) if (place := kept.find(offset)) is not None}
        if len(places) == len(kept.offsets) or sum(size for _, size in places.values()) > _COPIED_AT_MOST:
            return
        saved = {offset: b"".join(self._spool.read(*place)) for offset, place in places.items()}
        self._spool.cut(self._mark)
        self._kept[self._layer] = _Kept()
        for offset, data in saved.items():
            self.keep(offset, (memoryview(data),))

    def recall(self, layer: int, offsets: Sequence[int]) -> Iterator[tuple[Entry, Iterator[memoryview]]]:
        """Yield (entry, body) for each offset, which ascend. The layer is opened again at most once."""
        reader: TarReader | None = None
        try:
            for offset in offsets:
                place = self._kept[layer].find(offset)
                if place is not None:
                    current = self._reader(layer, ChunkStream(self._spool.read(*place)), offset)
                else:
                    if reader is None:
                        reader = self._reader(layer, self._layers[layer].open(), 0)
                    reader.seek(offset)
                    current = reader
                entry = current.next_entry()
                if entry is None:
                    raise LayerError("the layer has changed while it was being merged").at(offset=offset)
                yield entry, current.body()
        finally:
            if reader is not None:
                reader.stream.close()

    def _reader(self, layer: int, stream: Stream, offset: int) -> TarReader:
        return TarReader(stream, offset=offset, global_records=self._globals.get(layer))
