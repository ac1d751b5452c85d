"""The preview: what a sink can find out about a merge before it begins."""

from __future__ import annotations

from collections.abc import Callable

from streamerge.engine.context import MergeContext
from streamerge.engine.spool import SpooledLayer
from streamerge.entry import Entry, Kind
from streamerge.interfaces import Layer, Preview, Sink
from streamerge.tar.reader import TarReader

__all__ = ["MergePreview"]


class MergePreview(Preview):
    """A preview of the merge of ``context``.

    Layers from pipes are spooled, and replaced in the context. ``make_passes`` merges into a sink without finishing it.
    The superseded offsets that it finds stay in the context, so that the merge itself makes the same decisions.
    """

    def __init__(self, context: MergeContext, make_passes: Callable[[MergeContext, Sink], object]) -> None:
        self._context = context
        self._make_passes = make_passes

    def root(self) -> Entry | None:
        """Return the root directory's entry if it is the first of its layer, which is nearly always so."""
        self._make_reopenable()
        for index in range(len(self._context.layers) - 1, -1, -1):
            entry = self._first_entry(index)
            if entry is not None and not entry.path and entry.kind is Kind.DIRECTORY:
                return entry
        return None

    def merge_into(self, sink: Sink) -> None:
        """Merge into a sink without finishing it. What this pass retains is dropped."""
        self._make_reopenable()
        spool = self._context.spool
        end = spool.end
        self._make_passes(self._context.unobserved(), sink)
        spool.cut(end)

    def _make_reopenable(self) -> None:
        self._context.layers = [self._reopenable(index) for index in range(len(self._context.layers))]

    def _reopenable(self, index: int) -> Layer:
        """Return a layer that can be opened again. A pipe is read into the spool now, so that its errors come first."""
        layer = self._context.layers[index]
        if layer.reopenable:
            return layer
        spooled = SpooledLayer(layer, self._context.spool)
        with self._context.locating(index):
            spooled.open().close()
        return spooled

    def _first_entry(self, index: int) -> Entry | None:
        with self._context.locating(index):
            stream = self._context.open_layer(index)
            try:
                return TarReader(stream).next_entry()
            finally:
                stream.close()
