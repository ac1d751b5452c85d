"""Retain entries, so that they can be read again later.

If a layer can be opened again, its offset is enough, and costs nothing until it is used. Other entries are kept in a
:class:`~streamerge.engine.spool.Spool`. A compressed layer can be opened again, but must then be decoded again. So its
small bodies are spooled too while there is memory: otherwise one promoted link would cost as much as the whole layer.
"""

from __future__ import annotations

import bisect
import enum
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from streamerge.engine.spool import SMALL_BODY, Spool
from streamerge.entry import Entry
from streamerge.errors import LayerError
from streamerge.streams import ChunkStream, Stream
from streamerge.tar.reader import Globals, TarReader

__all__ = ["RetainBy", "Retainer"]

_MAX_COPIED = 8 << 20


class RetainBy(enum.Enum):
    """How a layer's entries can be read again."""

    OFFSET = "by offset: the layer is a plain file"
    SPOOL_SMALL = "small bodies from the spool, others by decoding the layer again"
    SPOOL = "all from the spool: the layer is a pipe"


class _Spooled(NamedTuple):
    start: int
    size: int


class _SpooledEntries:
    """The spooled entries of one layer: ascending offsets, with start and size in the spool. Memory: 24 bytes each."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self._starts = array("Q")
        self._sizes = array("Q")

    def add(self, offset: int, start: int, size: int) -> None:
        self.offsets.append(offset)
        self._starts.append(start)
        self._sizes.append(size)

    def clear(self) -> None:
        del self.offsets[:], self._starts[:], self._sizes[:]

    def find(self, offset: int) -> _Spooled | None:
        at = bisect.bisect_left(self.offsets, offset)
        if at == len(self.offsets) or self.offsets[at] != offset:
            return None
        return _Spooled(self._starts[at], self._sizes[at])


class Retainer:
    """Retains the entries of one pass, by layer and offset. ``open_layer`` opens a layer again by its index."""

    def __init__(self, open_layer: Callable[[int], Stream], spool: Spool) -> None:
        self._open_layer = open_layer
        self._spool = spool
        self._spooled: dict[int, _SpooledEntries] = {}
        self._globals: dict[int, Globals] = {}
        self._current = _SpooledEntries()
        self._by = RetainBy.OFFSET
        self._links_seen = False
        self._mark = spool.end

    def begin(self, layer: int, by: RetainBy, global_records: Globals) -> None:
        """Begin a layer: entries that are kept from now on belong to it.

        Its entries are parsed again with ``global_records``, to which the reader adds the PAX globals that it finds.

        Most bodies are dropped later, so they stay uncompressed in up to half of the memory: compressing takes ten
        times as long as copying. After a hard link, some bodies will be needed: then a quarter of the memory is for
        uncompressed bodies, and five eighths for compressed ones.
        """
        self._by = by
        self._globals[layer] = global_records
        self._spool.raw = 0
        if by is RetainBy.SPOOL_SMALL:
            self._spool.raw = self._spool.memory // (4 if self._links_seen else 2)
        self._mark = self._spool.end
        self._current = self._spooled[layer] = _SpooledEntries()

    def note_link(self) -> None:
        """Note that there is a hard link, so that hidden bodies may be needed."""
        self._links_seen = True

    def wants(self, size: int) -> bool:
        """Return whether a body of ``size`` bytes should be kept, because reading it again would cost more."""
        if self._by is RetainBy.SPOOL_SMALL:
            return size <= SMALL_BODY and self._spool.has_room(7 if self._links_seen else 4)
        return self._by is RetainBy.SPOOL

    def keep_hidden(self, offset: int, data: memoryview) -> None:
        """Keep a hidden entry, headers and body, if :meth:`wants` says so."""
        if self.wants(len(data)):
            self.keep(offset, (data,))

    def keep(self, offset: int, data: Iterable[memoryview]) -> None:
        """Spool an entry: its headers, body and padding. Offsets ascend within a layer."""
        start = self._spool.end
        for piece in data:
            self._spool.write(piece)
        self._current.add(offset, start, self._spool.end - start)

    def end(self, needed: Iterable[int]) -> None:
        """End the layer: after this, only the ``needed`` offsets can be recalled.

        The other spooled entries are dropped, unless copying the needed ones would cost more.
        """
        spooled = self._current
        found = {offset: entry for offset in sorted(needed) if (entry := spooled.find(offset)) is not None}
        if len(found) == len(spooled.offsets) or sum(entry.size for entry in found.values()) > _MAX_COPIED:
            return
        saved = {offset: b"".join(self._spool.read(*entry)) for offset, entry in found.items()}
        self._spool.cut(self._mark)
        spooled.clear()
        for offset, data in saved.items():
            self.keep(offset, (memoryview(data),))

    def recall(self, layer: int, offsets: Sequence[int]) -> Iterator[tuple[Entry, Iterator[memoryview]]]:
        """Yield (entry, body) for each of the ascending offsets. Opens the layer again at most once."""
        reader: TarReader | None = None
        try:
            for offset in offsets:
                spooled = self._spooled[layer].find(offset)
                if spooled is not None:
                    current = self._reader(layer, ChunkStream(self._spool.read(*spooled)), offset)
                else:
                    if reader is None:
                        reader = self._reader(layer, self._open_layer(layer), 0)
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
