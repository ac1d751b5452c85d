"""Layers read ahead of the merge, the one at hand and the next older one at once.

Compressed files are decoded by processes of their own (:mod:`streamerge.parallel.decoder`) where the caller allows it,
everything else that takes its time by threads; what is ahead is bounded in bytes. A stream that seeks (a plain
file) is handed over untouched: reading it from the page cache gains nothing by help, and hidden bodies can be
skipped. So is a short one.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from streamerge.errors import StreamergeError
from streamerge.interfaces import Layer, Stream
from streamerge.parallel.decoder import DecoderStream, Slots
from streamerge.parallel.process import can_fork
from streamerge.signals import signals_wait
from streamerge.streams import Chunks, Reader

__all__ = ["DEFAULT_READ_AHEAD", "ReadAhead", "ThreadStream"]

DEFAULT_READ_AHEAD = 20 << 20
"""Decoded bytes that may wait for the merge, of all layers together."""

_LAYERS_AT_ONCE = 2
"""Layers that are being decoded: one by each core, on the machines that this is for."""
_LAYERS_OPEN = 8
_SLOTS_AT_HAND = 4
_MOST_BY_A_THREAD = 2 << 20
"""More would fall out of the caches before it is written: a thread that shares the interpreter hardly runs ahead."""


class ReadAhead:
    """Opens layers in the order given and gives their streams, each to be read before the next.

    Layers that can be opened only once, as pipes are, are opened by a thread: that may take as long as whoever
    writes them likes. A context manager: leaving it closes what is open, and ends processes and threads.
    """

    def __init__(self, layers: Iterable[Layer], budget: int = DEFAULT_READ_AHEAD, *, processes: bool = False) -> None:
        self._layers = deque(layers)
        self._budget = budget
        self._processes = processes and can_fork()
        self._slots: Slots | None = None
        self._open: deque[Stream | StreamergeError] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._layers.clear()
        for item in self._open:
            if not isinstance(item, StreamergeError):
                item.close()

    def streams(self) -> Iterator[Stream]:
        """Yield each layer's stream. Errors of opening are raised where the merge meets them."""
        while self._open or self._layers:
            if not self._open:
                self._open_next()
            self._look_ahead()
            stream = self._open[0]
            if isinstance(stream, StreamergeError):
                raise stream
            yield stream
            stream.close()
            self._open.popleft()

    def _open_next(self) -> None:
        layer = self._layers.popleft()
        if not layer.reopenable:
            self._open.append(self._by_thread(layer.open))
            return
        try:
            stream = layer.open()
        except StreamergeError as error:  # of an older layer, whose turn has not come
            self._open.append(error)
            return
        with signals_wait():
            self._open.append(self._started(stream))

    def _by_thread(self, opening: Callable[[], Stream]) -> ThreadStream:
        return ThreadStream(opening, min(self._budget // _LAYERS_AT_ONCE, _MOST_BY_A_THREAD))

    def _started(self, stream: Stream) -> Stream:
        """The same stream, read ahead by whom it had best be read."""
        reader = Reader.NOBODY if stream.seeks else getattr(stream, "reader", Reader.THREAD)
        if reader is Reader.NOBODY:
            return stream
        if reader is Reader.PROCESS and self._processes:
            try:
                self._slots = self._slots or Slots(self._budget)
                return DecoderStream(stream, self._slots, self._look_ahead)
            except OSError:
                self._processes = False  # there may be no more (ulimit -u), which is no reason to fail
        return self._by_thread(lambda: stream)

    def _look_ahead(self) -> None:
        """Open what may be opened by now, and see to it that whoever reads ahead has slots to fill."""
        while self._layers and self._may_open():
            self._open_next()
        if self._slots is not None and self._slots.free:
            self._grant(self._slots)

    def _may_open(self) -> bool:
        readers = [item for item in self._open if isinstance(item, ThreadStream | DecoderStream)]
        return len(self._open) < _LAYERS_OPEN and sum(reader.is_alive for reader in readers) < _LAYERS_AT_ONCE

    def _grant(self, slots: Slots) -> None:
        """A few slots are enough for the layer at hand; the next one has the time to fill all others."""
        running = [item for item in self._open if isinstance(item, DecoderStream) and item.is_alive]
        if len(running) > 1 and running[0] is self._open[0]:
            at_hand = running.pop(0)
            at_hand.grant(min(max(_SLOTS_AT_HAND - len(at_hand.held), 0), len(slots.free)))
        if running:
            running[0].grant(len(slots.free))


class _Stopped(Exception):
    """The merge is over; the thread may go."""


class ThreadStream(Chunks):
    """The chunks of what ``opening`` opens, read by a thread, at most ``budget`` bytes and a chunk ahead.

    Decoders release the interpreter lock, so on two cores some of decoding and merging overlaps. The thread is
    a daemon, since nothing can wake it from a pipe that never ends. Raises what the stream raises.
    """

    def __init__(self, opening: Callable[[], Stream], budget: int) -> None:
        super().__init__()
        self._opening = opening
        self._budget = max(budget, 1)
        self._queue: deque[bytes | BaseException] = deque()
        self._queued = 0
        self._stopped = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="streamerge-read-ahead", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether there is more to come than is here already."""
        return self._thread.is_alive()

    def next_chunk(self) -> bytes:
        """Return the next chunk; ``b""`` at the end."""
        with self._change:
            while not self._queue:
                self._change.wait()
            item = self._queue[0]
            if item:  # the end stays where it is
                self._queue.popleft()
            if isinstance(item, BaseException):
                raise item
            self._queued -= len(item)
            self._change.notify_all()
        return item

    def close(self) -> None:
        """Let the thread go; it closes the stream, be it one that opens only now."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def _run(self) -> None:
        try:
            with contextlib.closing(self._opening()) as stream:
                while chunk := stream.read():
                    self._put(chunk)
                self._put(b"")
        except _Stopped:
            pass
        except BaseException as error:
            self._put_last(error)

    def _put(self, chunk: bytes) -> None:
        with self._change:
            while self._queued >= self._budget and not self._stopped:
                self._change.wait()
            if self._stopped:
                raise _Stopped
            self._queue.append(chunk)
            self._queued += len(chunk)
            self._change.notify_all()

    def _put_last(self, error: BaseException) -> None:
        with self._change:
            self._queue.append(error)
            self._change.notify_all()
