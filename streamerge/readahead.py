"""A thread that decodes ahead of the merge, on into the next older layer.

Decoders release the interpreter lock, so on two cores decoding and merging take the time of the slower.
What is ahead is bounded in bytes. A stream that seeks (a plain file) is handed over untouched: reading it
from the page cache gains nothing by a thread, and hidden bodies can be skipped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Self

from streamerge.interfaces import Layer, Stream
from streamerge.streams import ChunkStream

__all__ = ["DEFAULT_READ_AHEAD", "ReadAhead"]

DEFAULT_READ_AHEAD = 4 << 20
"""Decoded bytes that may wait for the merge. More would fall out of the caches before it is written."""


class _Stopped(Exception):
    """The merge is over; the thread may go."""


class _End:
    """Stands at the end of a layer's chunks."""


_Item = bytes | Stream | BaseException | type[_End]


class ReadAhead:
    """Opens layers in the order given and gives their streams, each to be read before the next.

    A context manager: leaving it stops the thread, which is a daemon, since nothing can wake it from a
    pipe that never ends.
    """

    def __init__(self, layers: Iterable[Layer], budget: int = DEFAULT_READ_AHEAD) -> None:
        self._layers = list(layers)
        self._budget = max(budget, 1)
        self._queue: deque[_Item] = deque()
        self._queued = 0
        self._stopped = False
        self._given: Stream | None = None
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="streamerge-read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()
        if self._given is not None:
            self._given.close()
        for item in self._queue:
            if not isinstance(item, bytes | BaseException | type):
                item.close()

    def streams(self) -> Iterator[Stream]:
        """Yield each layer's stream. Errors of the thread are raised where the merge meets them."""
        for _ in self._layers:
            first = self._get()
            if isinstance(first, bytes | type):
                stream: Stream = ChunkStream(self._chunks(first))
            else:
                stream = first
            self._given = stream
            yield stream
            stream.close()

    def _chunks(self, first: bytes | Stream | type[_End]) -> Iterator[bytes]:
        item = first
        while isinstance(item, bytes):
            yield item
            item = self._get()

    def _get(self) -> bytes | Stream | type[_End]:
        with self._change:
            while not self._queue:
                self._change.wait()
            item = self._queue.popleft()
            if isinstance(item, bytes):
                self._queued -= len(item)
                self._change.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item

    def _put(self, item: _Item) -> None:
        with self._change:
            while self._queued >= self._budget and not self._stopped:
                self._change.wait()
            if self._stopped:
                raise _Stopped
            self._queue.append(item)
            if isinstance(item, bytes):
                self._queued += len(item)
            self._change.notify_all()

    def _run(self) -> None:
        try:
            for layer in self._layers:
                self._pump(layer.open())
        except _Stopped:
            pass
        except BaseException as error:
            with self._change:
                self._queue.append(error)
                self._change.notify_all()

    def _pump(self, stream: Stream) -> None:
        if stream.seeks:
            try:
                self._put(stream)
            except _Stopped:
                stream.close()
                raise
            return
        try:
            while chunk := stream.read():
                self._put(chunk)
            self._put(_End)
        finally:
            stream.close()
