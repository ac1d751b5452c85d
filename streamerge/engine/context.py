"""The context of one merge: layers, options, observer, spool."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from streamerge.engine.spool import Spool
from streamerge.errors import Cancelled, LimitExceeded, SinkError, StreamergeError
from streamerge.fileio import Check, Extent, no_check
from streamerge.interfaces import Layer
from streamerge.observe import BytesRead, Event, Observer
from streamerge.options import Options
from streamerge.streams import ReadAheadBy, Stream

__all__ = ["MergeContext", "ObservedStream"]

_SKIPPED_AT_ONCE = 1 << 20


class MergeContext:
    """The layers of a merge, base first, its options, observer and spool, and the superseded offsets.

    ``superseded`` holds, for each layer whose headers were read first, the offsets of entries that the same layer
    replaces later.
    """

    def __init__(self, layers: Sequence[Layer], options: Options, observer: Observer | None, spool: Spool) -> None:
        self.layers = layers
        self.options = options
        self.observer = observer
        self.spool = spool
        self.superseded: dict[int, frozenset[int]] = {}

    def unobserved(self) -> MergeContext:
        """Return a context without events. The observer can still cancel. Superseded offsets are shared."""
        observer = _CancelOnly(self.observer) if self.observer is not None else None
        context = MergeContext(self.layers, self.options, observer, self.spool)
        context.superseded = self.superseded
        return context

    def label(self, index: int) -> str:
        """Return a layer's name in messages."""
        return f"layer {index} ({self.layers[index].name})"

    def open_layer(self, index: int) -> Stream:
        """Return a new stream of a layer, which the observer can cancel."""
        return self.observed(index, self.layers[index].open())

    def observed(self, index: int, stream: Stream) -> Stream:
        """Return a stream that reports its progress to the observer; ``stream`` itself if there is no observer."""
        if self.observer is None:
            return stream
        return ObservedStream(stream, index, self.layers[index].size, self)

    def notify(self, event: Event) -> None:
        """Give an event to the observer, if there is one."""
        if self.observer is not None:
            self.observer.notify(event)

    @property
    def check(self) -> Check:
        """The function to call regularly during long work. It raises Cancelled if the observer cancels the merge."""
        return no_check if self.observer is None else self.raise_if_cancelled

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the observer has cancelled the merge."""
        if self.observer is not None and self.observer.cancelled():
            raise Cancelled("the merge was cancelled")

    @contextlib.contextmanager
    def locating(self, index: int | None = None) -> Iterator[None]:
        """Add the layer's label to errors that are raised in the block, and its index if the error has none.

        Errors of the sink and of limits stay as they are. The layer may explain the error better: then the original
        error becomes the cause of the new one.
        """
        try:
            yield
        except (SinkError, LimitExceeded, Cancelled):
            raise
        except StreamergeError as error:
            where = error.index if error.index is not None else index
            if where is None or error.layer is not None:
                raise
            better = self.layers[where].explain(error).at(index=where, layer=self.label(where))
            if better is error:
                raise
            raise better from error


class _CancelOnly(Observer):
    """Lets another observer cancel, but sends it no events."""

    def __init__(self, observer: Observer) -> None:
        self.cancelled = observer.cancelled  # type: ignore[method-assign]


class ObservedStream(Stream):
    """A layer's stream that reports its progress to the observer, which can cancel it between two chunks."""

    read_ahead = ReadAheadBy.NOTHING

    def __init__(self, stream: Stream, index: int, size: int | None, context: MergeContext) -> None:
        self.seeks = stream.seeks
        self._stream = stream
        self._index = index
        self._size = size
        self._context = context
        self._extent = stream.extent

    @property
    def extent(self) -> Extent | None:
        """The extent of a regular file that holds the bytes."""
        return self._extent

    def read(self) -> bytes:
        """Return the next chunk. Raises Cancelled."""
        self._context.raise_if_cancelled()
        chunk = self._stream.read()
        self._context.notify(BytesRead(self._index, self._stream.stored(), self._size))
        return chunk

    def skip(self, size: int) -> int:
        """Skip bytes. Raises Cancelled."""
        if self.seeks:
            return self._stream.skip(size)
        left = size
        while left:
            self._context.raise_if_cancelled()
            passed = self._stream.skip(min(left, _SKIPPED_AT_ONCE))
            self._context.notify(BytesRead(self._index, self._stream.stored(), self._size))
            if not passed:
                break
            left -= passed
        return size - left

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def stored(self) -> int | None:
        """Return how many stored bytes have been read."""
        return self._stream.stored()
