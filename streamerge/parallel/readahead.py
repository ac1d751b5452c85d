"""Read layers ahead of the merge: the current one and the next older one at once.

Compressed files are decoded in processes (:mod:`streamerge.parallel.decoder`) if the caller allows it, other slow
streams in threads. The bytes that are read ahead are bounded. A stream that seeks (a plain file) is returned unchanged:
a second process would not make it faster, and hidden bodies can be skipped. The same holds for short layers.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Self

from streamerge.errors import StreamergeError
from streamerge.fileio import Check, no_check
from streamerge.interfaces import Layer
from streamerge.options import DEFAULT_READ_AHEAD
from streamerge.parallel.process import can_fork
from streamerge.signals import signals_wait
from streamerge.streams import Chunks, ReadAheadBy, Stream

if TYPE_CHECKING:
    from streamerge.parallel.decoder import DecoderStream, Slots

__all__ = ["ReadAhead", "ThreadStream"]

_LAYERS_AT_ONCE = 2
"""Layers that are being decoded: one on each core of a two-core machine."""
_MAX_OPEN = 8
_SLOTS_FOR_CURRENT = 4
_MAX_THREAD_BUDGET = 2 << 20
"""Bytes; more would not stay in the CPU's caches, and a thread shares the interpreter, so it is hardly ever ahead."""
_CHECK_INTERVAL = 0.02  # seconds


class ReadAhead:
    """Opens layers in the order given and yields their streams, each to be read before the next.

    Layers that can be opened only once, such as pipes, are opened in a thread, because opening waits for the writer.
    ``check`` is called every 20 ms while a stream waits. A context manager: leaving it closes what
    is open, and ends processes and threads.
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        budget: int = DEFAULT_READ_AHEAD,
        *,
        processes: bool = False,
        check: Check = no_check,
    ) -> None:
        self._layers = deque(layers)
        self._budget = budget
        self._processes = processes and can_fork()
        self._check = check
        self._slots: Slots | None = None
        self._decoders: list[DecoderStream] = []
        self._threads: list[ThreadStream] = []
        self._open: deque[Stream | StreamergeError] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._layers.clear()
        for item in self._open:
            if not isinstance(item, StreamergeError):
                item.close()

    def streams(self) -> Iterator[Stream]:
        """Yield each layer's stream. If a layer cannot be opened, the error is raised at its turn."""
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
            self._decoders = [decoder for decoder in self._decoders if decoder is not stream]
            self._threads = [thread for thread in self._threads if thread is not stream]

    def _open_next(self) -> None:
        layer = self._layers.popleft()
        if not layer.reopenable:
            self._open.append(self._in_thread(layer.open))
            return
        try:
            stream = layer.open()
        except StreamergeError as error:  # raised at the layer's turn
            self._open.append(error)
            return
        with signals_wait():
            self._open.append(self._started(stream))

    def _in_thread(self, opening: Callable[[], Stream]) -> ThreadStream:
        stream = ThreadStream(opening, min(self._budget // _LAYERS_AT_ONCE, _MAX_THREAD_BUDGET), self._check)
        self._threads.append(stream)
        return stream

    def _started(self, stream: Stream) -> Stream:
        """Return a stream that reads ``stream`` ahead: in a process, in a thread, or not at all."""
        if stream.seeks or stream.read_ahead is ReadAheadBy.NOTHING:
            return stream
        if stream.read_ahead is ReadAheadBy.PROCESS and self._processes:
            try:
                return self._decoder(stream)
            except OSError:
                self._processes = False  # the system allows no more (ulimit -u): fall back to threads
        return self._in_thread(lambda: stream)

    def _decoder(self, stream: Stream) -> DecoderStream:
        from streamerge.parallel.decoder import DecoderStream, Slots  # plain and short layers do not need it

        self._slots = self._slots or Slots(self._budget)
        decoder = DecoderStream(stream, self._slots, self._look_ahead, self._check)
        self._decoders.append(decoder)
        return decoder

    def _look_ahead(self) -> None:
        """Open the next layers if that is allowed, and give decoder processes slots to fill."""
        while self._layers and self._may_open():
            self._open_next()
        if self._slots is not None and self._slots.free:
            self._grant(self._slots)

    def _may_open(self) -> bool:
        if len(self._open) >= _MAX_OPEN:
            return False
        threads = sum(thread.is_alive for thread in self._threads)
        return threads + sum(decoder.is_alive for decoder in self._decoders) < _LAYERS_AT_ONCE

    def _grant(self, slots: Slots) -> None:
        """Give free slots to the decoder processes: a few are enough for the current layer, the next gets the rest."""
        running = [decoder for decoder in self._decoders if decoder.is_alive]
        if len(running) > 1 and running[0] is self._open[0]:
            current = running.pop(0)
            current.grant(min(max(_SLOTS_FOR_CURRENT - len(current.held), 0), len(slots.free)))
        if running:
            running[0].grant(len(slots.free))


class _Stopped(Exception):
    """Raised in the thread when the stream was closed, to end it."""


class ThreadStream(Chunks):
    """A stream that a thread opens with ``opening`` and reads, at most ``budget`` bytes and a chunk ahead.

    Decoders release the interpreter lock, so decoding and merging partly overlap on two cores. The thread is a daemon,
    because nothing can wake it from a pipe that never ends. Raises what the stream raises.
    """

    def __init__(self, opening: Callable[[], Stream], budget: int, check: Check = no_check) -> None:
        super().__init__()
        self._check = check
        self._stream: Stream | None = None
        self._opening = opening
        self._budget = max(budget, 1)
        self._queue: deque[bytes | BaseException] = deque()
        self._queued = 0
        self._stopped = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._read_all, name="streamerge-read-ahead", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Return whether the thread may still add chunks."""
        return self._thread.is_alive()

    def next_chunk(self) -> bytes:
        """Return the next chunk; ``b""`` at the end."""
        with self._change:
            while not self._queue:
                if not self._change.wait(None if self._check is no_check else _CHECK_INTERVAL):
                    self._check()
            item = self._queue[0]
            if item:  # the empty chunk at the end stays in the queue
                self._queue.popleft()
            if isinstance(item, BaseException):
                raise item
            self._queued -= len(item)
            self._change.notify_all()
        return item

    def close(self) -> None:
        """Tell the thread to end. It closes the stream, even if it is still opening it."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def stored(self) -> int | None:
        """Return how many stored bytes the thread has read."""
        return self._stream.stored() if self._stream is not None else None

    def _read_all(self) -> None:
        try:
            with contextlib.closing(self._opening()) as stream:
                self._stream = stream
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
