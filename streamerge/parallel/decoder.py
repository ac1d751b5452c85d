"""A decoder process: it reads and decodes a layer in parallel with the merge, without sharing the interpreter lock.

Decoded bytes are passed in shared memory, which is divided into *slots*. A stream is granted free slots, the decoder
process fills them, and they become free again when the merge has copied their bytes. Two pipes carry the numbers of
full and free slots; each side notices by a broken pipe that the other has died.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import struct
from collections.abc import Callable

from streamerge.errors import LayerError
from streamerge.fileio import Check, no_check
from streamerge.parallel.process import ForkedProcess, close_pipe_end, new_pipe, pack, unpack
from streamerge.streams import CHUNK, Chunks, Stream

__all__ = ["SLOT", "DecoderStream", "Slots"]

SLOT = 1 << 20
"""Bytes of a slot. Each full slot is announced once; with smaller ones the processes wake each other too often."""

_MAX_SLOTS = 255  # a slot's number is sent as one byte
_MESSAGE = struct.Struct("<IIQ")
"""The number of a full slot, how many bytes are in it, and how many stored bytes have been read so far."""
_END, _ERROR = 0xFFFFFFFF, 0xFFFFFFFE
"""Sent instead of a slot's number: at the end of the layer, and before a pickled exception of that many bytes."""

_CHECK_INTERVAL = 20  # milliseconds


class Slots:
    """Shared memory of about ``budget`` bytes, at least two slots, and the numbers of the free slots."""

    def __init__(self, budget: int) -> None:
        count = max(2, min(budget // SLOT, _MAX_SLOTS))
        self.memory = mmap.mmap(-1, count * SLOT)
        self.free = bytearray(range(count))


class DecoderStream(Chunks):
    """The chunks of ``stream``, read ahead by a decoder process as far as it has slots.

    ``released`` is called whenever slots have become free in ``slots``; the caller then has to :meth:`grant` them
    again. The decoder process takes over ``stream``; in this process it is closed unread. Reading raises the errors of
    the stream in order with its chunks, and LayerError if the decoder process dies. The constructor raises OSError if
    no process can be started, and then leaves ``stream`` open. ``check`` is called every 20 ms while a read waits.
    """

    def __init__(self, stream: Stream, slots: Slots, released: Callable[[], None], check: Check = no_check) -> None:
        super().__init__()
        self.held: set[int] = set()
        """Numbers of the slots that are granted: to be filled, or full and not yet copied."""
        self._slots = slots
        self._released = released
        self._at = self._end = 0  # the rest of the current slot
        self._ended = False
        self._closed = False
        self._stored: int | None = None
        self._check = check
        self._full, full = new_pipe(we_read=True)
        self._free, free = new_pipe(we_read=False)
        self._poll = select.poll()
        self._poll.register(self._full, select.POLLIN)
        sender = _Sender(slots.memory, full, free)
        try:
            self._process = ForkedProcess(lambda: sender.send(stream))
        except OSError:
            close_pipe_end(self._full)
            close_pipe_end(self._free)
            raise
        finally:
            os.close(full)
            os.close(free)
        stream.close()

    @property
    def is_alive(self) -> bool:
        """Whether the decoder process has not ended yet. Once it has, everything it sends is in the pipe."""
        return self._process.is_alive

    def grant(self, count: int) -> None:
        """Grant ``count`` of the free slots to the decoder process. Does nothing once the stream is closed."""
        if not count or self._closed:
            return
        numbers = self._slots.free[-count:]
        del self._slots.free[-count:]
        self.held.update(numbers)
        with contextlib.suppress(BrokenPipeError):  # it has just ended; close() frees its slots
            os.write(self._free, numbers)

    def stored(self) -> int | None:
        """Return how many stored bytes the process had read when it filled the current slot."""
        return self._stored

    def next_chunk(self) -> bytes:
        """The next chunk; ``b""`` at the end."""
        if self._at == self._end and not self._next_slot():
            return b""
        start = self._at
        self._at = min(start + CHUNK, self._end)
        chunk = self._slots.memory[start : self._at]
        if self._at == self._end:
            self._give_back({start // SLOT})
        return chunk

    def close(self) -> None:
        """Kill the decoder process and free its slots. May be called twice."""
        self._process.kill()
        if not self._closed:
            self._closed = True
            close_pipe_end(self._full)
            close_pipe_end(self._free)
            self._give_back(self.held)

    def _next_slot(self) -> bool:
        if self._ended:
            return False
        slot, size, self._stored = _MESSAGE.unpack(self._receive(_MESSAGE.size))
        self._ended = slot in (_END, _ERROR)
        if slot == _ERROR:
            raise unpack(self._receive(size))
        if slot != _END:
            self._at = slot * SLOT
            self._end = self._at + size
        return not self._ended

    def _give_back(self, numbers: set[int]) -> None:
        self._slots.free += bytes(numbers)
        self.held = self.held - numbers
        self._released()

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            while self._check is not no_check and not self._poll.poll(_CHECK_INTERVAL):
                self._check()
            piece = os.read(self._full, size - len(data))
            if not piece:
                raise LayerError("the decoder process was killed; the machine may be out of memory")
            data += piece
        return data


# --- in the decoder process -------------------------------------------------------------------------


class _Sender:
    """Copies chunks into slots. Each slot is filled completely, so that no tar header is cut in two.

    Of several free slots the one granted last is used first, because it is still in the CPU's caches.
    """

    def __init__(self, memory: mmap.mmap, full: int, free: int) -> None:
        self._memory = memory
        self._full = full
        self._free = free
        self._slots = bytearray()
        self._poll = select.poll()

    def send(self, stream: Stream) -> None:
        """Send a stream to its end or to its exception. Raises BrokenPipeError if the parent has died."""
        os.set_blocking(self._free, False)
        self._poll.register(self._free, select.POLLIN)
        try:
            self._send_chunks(stream)
        except BrokenPipeError:
            raise
        except BaseException as error:
            data = pack(error)
            os.write(self._full, _MESSAGE.pack(_ERROR, len(data), 0) + data)

    def _send_chunks(self, stream: Stream) -> None:
        slot, used = self._take_slot(), 0
        while chunk := stream.read():
            rest = memoryview(chunk)
            if used + len(rest) > SLOT:
                self._copy(slot, used, rest[: SLOT - used])
                self._announce(slot, SLOT, stream)
                rest = rest[SLOT - used :]
                slot, used = self._take_slot(), 0
            self._copy(slot, used, rest)
            used += len(rest)
        if used:
            self._announce(slot, used, stream)
        self._announce(_END, 0, stream)

    def _copy(self, slot: int, used: int, chunk: memoryview) -> None:
        start = slot * SLOT + used
        self._memory[start : start + len(chunk)] = chunk

    def _announce(self, slot: int, size: int, stream: Stream) -> None:
        os.write(self._full, _MESSAGE.pack(slot, size, stream.stored() or 0))

    def _take_slot(self) -> int:
        while not self._receive_granted() and not self._slots:
            self._poll.poll()
        return self._slots.pop()

    def _receive_granted(self) -> bool:
        """Receive the slots granted since the last call; return whether there were any."""
        try:
            numbers = os.read(self._free, _MAX_SLOTS)
        except BlockingIOError:
            return False
        if not numbers:
            raise BrokenPipeError  # the parent has died
        self._slots += numbers
        return True
