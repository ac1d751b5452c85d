"""Another process that reads and decodes a layer, so that no interpreter lock stands between it and the merge.

Decoded bytes come through shared memory, which is divided into *slots*. A stream is granted slots, fills them, and
gives them back when the merge has copied what was in them; two pipes carry their numbers, and break when one side
is gone.
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
"""Bytes of a slot. Each is announced once; smaller ones would have the two processes wake each other all the time."""

_MAX_SLOTS = 255  # the number of a slot is one byte on its way
_MESSAGE = struct.Struct("<IIQ")  # slot, size, stored bytes read so far
_END, _ERROR = 0xFFFFFFFF, 0xFFFFFFFE
"""What stands for a slot's number at the end of the layer, and before an exception of so many bytes."""


_CHECK_INTERVAL = 20  # milliseconds


class Slots:
    """Shared memory of some ``budget`` bytes, two slots at least, and the numbers of those that nobody has."""

    def __init__(self, budget: int) -> None:
        count = max(2, min(budget // SLOT, _MAX_SLOTS))
        self.memory = mmap.mmap(-1, count * SLOT)
        self.free = bytearray(range(count))


class DecoderStream(Chunks):
    """The chunks of ``stream``, read by a process of its own as far ahead as it has slots.

    ``released`` is called whenever slots have been given back to ``slots``; somebody has to :meth:`grant` them anew.
    ``stream`` is the process's from then on; here it is closed unread. Raises what the stream raises, where the
    merge meets it; LayerError where the process dies; OSError, and then leaves the stream as it is, where the
    system allows no more processes.
    """

    def __init__(self, stream: Stream, slots: Slots, released: Callable[[], None], check: Check = no_check) -> None:
        super().__init__()
        self.held: set[int] = set()
        """Slots that are the process's to fill, or full and not yet copied."""
        self._slots = slots
        self._released = released
        self._at = self._end = 0  # what is left of the slot at hand
        self._ended = False
        self._stored: int | None = None
        self._check = check
        self._poll = select.poll()
        self._full, full = new_pipe(we_read=True)
        self._poll.register(self._full, select.POLLIN)
        self._free, free = new_pipe(we_read=False)
        sender = _Sender(slots.memory, full, free)
        try:
            self._child = ForkedProcess(lambda: sender.run(stream))
        except OSError:
            close_pipe_end(self._full)
            close_pipe_end(self._free)
            raise
        finally:
            os.close(full)
            os.close(free)
        stream.close()

    @property
    def is_running(self) -> bool:
        """Whether the process is still there; if not, all that it had to say has been said."""
        return self._child.runs

    def grant(self, count: int) -> None:
        """Let the process have so many of the free slots; nothing once the stream is closed."""
        if not count or self._full < 0:
            return
        numbers = self._slots.free[-count:]
        del self._slots.free[-count:]
        self.held.update(numbers)
        with contextlib.suppress(BrokenPipeError):  # it has just ended; what it held is given back at its end
            os.write(self._free, numbers)

    def stored(self) -> int | None:
        """Return how many stored bytes the process had read when it filled the last slot that was taken."""
        return self._stored

    def next_chunk(self) -> bytes:
        """Return the next chunk; ``b""`` at the end."""
        if self._at == self._end and not self._next_slot():
            return b""
        start = self._at
        self._at = min(start + CHUNK, self._end)
        chunk = self._slots.memory[start : self._at]
        if self._at == self._end:
            self._give_back({start // SLOT})
        return chunk

    def close(self) -> None:
        """End the process, wherever it is."""
        self._child.kill()
        full, self._full = self._full, -1
        if full >= 0:
            close_pipe_end(full)
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
                raise LayerError("the process that decodes the layer was killed; is memory short?")
            data += piece
        return data


# --- in the process ---------------------------------------------------------------------------------


class _Sender:
    """Puts chunks into slots, each filled to the brim: no header of a tar is then cut in two.

    Of several free slots the one that came last is used first, since it is in the caches.
    """

    def __init__(self, memory: mmap.mmap, full: int, free: int) -> None:
        self._memory = memory
        self._full = full
        self._free = free
        self._slots = bytearray()
        self._poll = select.poll()

    def run(self, stream: Stream) -> None:
        """Send a stream to its end, or to the exception that it raises; BrokenPipeError where nobody is there."""
        os.set_blocking(self._free, False)
        self._poll.register(self._free, select.POLLIN)
        try:
            self._send(stream)
        except BrokenPipeError:
            raise
        except BaseException as error:
            data = pack(error)
            os.write(self._full, _MESSAGE.pack(_ERROR, len(data), 0) + data)

    def _send(self, stream: Stream) -> None:
        slot, used = self._take_slot(), 0
        while chunk := stream.read():
            rest = memoryview(chunk)
            if used + len(rest) > SLOT:
                self._put(slot, used, rest[: SLOT - used])
                self._say(slot, SLOT, stream)
                rest = rest[SLOT - used :]
                slot, used = self._take_slot(), 0
            self._put(slot, used, rest)
            used += len(rest)
        if used:
            self._say(slot, used, stream)
        self._say(_END, 0, stream)

    def _put(self, slot: int, used: int, chunk: memoryview) -> None:
        start = slot * SLOT + used
        self._memory[start : start + len(chunk)] = chunk

    def _say(self, slot: int, size: int, stream: Stream) -> None:
        os.write(self._full, _MESSAGE.pack(slot, size, stream.stored() or 0))

    def _take_slot(self) -> int:
        while not self._look() and not self._slots:
            self._poll.poll()
        return self._slots.pop()

    def _look(self) -> bool:
        """Take in what has been granted meanwhile; False where that is nothing."""
        try:
            numbers = os.read(self._free, _MAX_SLOTS)
        except BlockingIOError:
            return False
        if not numbers:
            raise BrokenPipeError  # nobody is there any more
        self._slots += numbers
        return True
