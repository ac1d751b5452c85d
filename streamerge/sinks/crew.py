"""Processes that help to make small files: on two cores, what the system needs for each is done for two at once.

Work is handed over in shared memory and by a pipe; whoever has no room for more says no, and the caller does the
work itself. So nobody waits for anybody until the end.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import struct
from collections import Counter
from collections.abc import Callable

from streamerge.errors import SinkError
from streamerge.fork import Child, close_pipe_end, new_pipe
from streamerge.streams import CHUNK
from streamerge.tarheader import padded

__all__ = ["Crew"]

_ROOM = 2 * CHUNK
"""Bytes of a piece of work: more than a decoded chunk, which is what a run comes from."""

_ENOUGH = 1 << 17
"""Bytes for which it is worth while to wake a helper: a hundred small files, which take a millisecond."""

_WAITING = 3
"""Pieces of work that a helper may have at once."""

_JOB = struct.Struct("<II")  # the place of a piece of work, and its size
_SIZE = struct.Struct("<I")  # of the pickled answer that follows

Answer = int | Counter[str] | BaseException
"""A place whose work is done; what a helper tells at its end; what went wrong."""

Work = Callable[[memoryview], None]
Report = Callable[[], Counter[str]]


class Crew:
    """``count`` helpers that call ``work`` on what they are given, and at the end tell what ``report`` gives.

    Errors of theirs, SinkError, are raised here by whatever is called next. Raises OSError where the system allows no
    more processes.
    """

    def __init__(self, count: int, work: Work, report: Report) -> None:
        self._helpers: list[_Helper] = []
        try:
            for _ in range(count):
                self._helpers.append(_Helper(work, report))
        except OSError:
            self.kill()
            raise

    def takes(self, run: bytes | memoryview) -> bool:
        """Give work to whoever has room for it; False where nobody has. The bytes are copied."""
        return len(run) <= _ROOM and any(helper.takes(run) for helper in self._helpers)

    def wait(self) -> None:
        """Return when all work is done."""
        for helper in self._helpers:
            helper.wait()

    def finish(self) -> list[Counter[str]]:
        """Wait for all work, let the helpers go, and return what each of them tells."""
        return [helper.finish() for helper in self._helpers]

    def kill(self) -> None:
        """End the helpers at once; nothing is made any more when this returns."""
        for helper in self._helpers:
            helper.kill()


class _Helper:
    """One process."""

    def __init__(self, work: Work, report: Report) -> None:
        self._memory = mmap.mmap(-1, _ROOM * _WAITING)
        self._free = list(range(_WAITING))
        self._filled = 0  # bytes in the last free place
        self._jobs, jobs = new_pipe(we_read=False)
        self._answers, answers = new_pipe(we_read=True)
        try:
            self._child = Child(lambda: _help(self._memory, jobs, answers, work, report))
        except OSError:
            self._close()
            raise
        finally:
            os.close(jobs)
            os.close(answers)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)

    def takes(self, run: bytes | memoryview) -> bool:
        if self._filled + len(run) > _ROOM:
            self._send()
        if not self._filled and not self._has_room():
            return False
        start = self._free[-1] * _ROOM + self._filled
        self._memory[start : start + len(run)] = run
        self._filled += padded(len(run))  # a run that ends with its chunk may lack padding
        if self._filled >= _ENOUGH:
            self._send()
        return True

    def _has_room(self) -> bool:
        while self._poll.poll(0):
            self._hear()
        return bool(self._free)

    def _send(self) -> None:
        """Hand over what has been gathered in the last of the free places."""
        size, self._filled = self._filled, 0
        if not size:
            return
        try:
            os.write(self._jobs, _JOB.pack(self._free.pop(), size))
        except BrokenPipeError:
            self._hear()  # it has gone, and may have said why
            raise _killed() from None

    def wait(self) -> None:
        self._send()
        while len(self._free) < _WAITING:
            self._hear()

    def finish(self) -> Counter[str]:
        self.wait()
        close_pipe_end(self._jobs)
        self._jobs = -1
        told = self._hear()
        assert isinstance(told, Counter)
        self._child.wait()
        self._close()
        return told

    def kill(self) -> None:
        self._child.kill()
        self._close()

    def _close(self) -> None:
        for fd in (self._jobs, self._answers):
            if fd >= 0:
                close_pipe_end(fd)
        self._jobs = self._answers = -1

    def _hear(self) -> Answer:
        """Take the next answer in, waiting for it if need be. Raises SinkError where it is an error."""
        (size,) = _SIZE.unpack(self._receive(_SIZE.size))
        answer: Answer = pickle.loads(self._receive(size))  # noqa: S301 - by our own process
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, int):
            self._free.insert(0, answer)  # the last one may be half full
        return answer

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = os.read(self._answers, size - len(data))
            if not piece:
                raise _killed()
            data += piece
        return data


def _killed() -> SinkError:
    return SinkError("a process that helped to make files was killed; is memory short?")


# --- in the process ---------------------------------------------------------------------------------


def _help(memory: mmap.mmap, jobs: int, answers: int, work: Work, report: Report) -> None:
    """Do one piece of work after the other, until there will be no more or one goes wrong."""
    view = memoryview(memory)
    try:
        while job := os.read(jobs, _JOB.size):
            place, size = _JOB.unpack(job)
            work(view[place * _ROOM : place * _ROOM + size])
            _answer(answers, place)
        _answer(answers, report())
    except BrokenPipeError:
        raise
    except BaseException as error:
        _answer(answers, error)


def _answer(answers: int, answer: Answer) -> None:
    data = pickle.dumps(answer)
    os.write(answers, _SIZE.pack(len(data)) + data)
