"""Processes that help to write: on two cores, what the system needs for each file is done for two at once.

Work is bytes in shared memory, or places in a layer's file, whose descriptor the workers are sent. Of the former, a
worker says no to what it has no room for, and the caller does it. The latter takes no room: what no worker has begun
at the end, the caller takes its share of. So nobody waits for anybody until then.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from streamerge.errors import SinkError
from streamerge.parallel.process import ForkedProcess, can_fork, close_channel, new_channel, pack, unpack
from streamerge.signals import signals_wait
from streamerge.sinks.directory.fds import few_enough
from streamerge.sinks.output import changed
from streamerge.streams import CHUNK, file_stamp
from streamerge.tar.header import padded

if TYPE_CHECKING:
    from socket import socket

__all__ = ["ENOUGH", "MOST_PLACES", "Pool"]

ENOUGH = 1 << 17
"""Bytes for which it is worth while to wake a worker: a hundred small files, which take a millisecond."""

MOST_PLACES = 256
"""Places in a file that may be handed over at once."""

_ROOM = 2 * CHUNK
"""Bytes of a piece of work in memory: more than a decoded chunk, which is what a run comes from."""

_WAITING = 3
"""Pieces of work in memory that a worker may have at once."""

_GIVEN_BYTES = 1 << 21
"""Bytes to be fetched that a worker may have when it is given more: enough until somebody looks after it again."""

_MOST_FILES = 32
"""Layers whose files are kept open for what is still to be fetched from them."""

_JOB = struct.Struct("<iIQ")  # the piece's place in memory and its size; or _FETCH, and what fetch is called with
_FETCH = -1
_LONGEST_JOB = _JOB.size + 16 * MOST_PLACES
_LONGEST_ANSWER = 1 << 16
_DONE = b"done"

Places = Sequence[int]
"""Positions in a file and sizes, in turn."""


class _File:
    """A layer's file, open as long as anything is to be fetched from it; numbers count up."""

    fd = -1

    def __init__(self, fd: int, number: int) -> None:
        try:
            self.fd = os.dup(fd)
            self._stamp = file_stamp(fd)
        except OSError as error:
            raise SinkError(f"cannot keep a layer open: {error.strerror}") from error
        self.number = number

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def check(self) -> None:
        """What has been fetched must be what was looked at. Raises SinkError."""
        if file_stamp(self.fd) != self._stamp:
            raise changed()


class _FetchJob(NamedTuple):
    """Something to fetch. There may be one for every few paths, so the places are packed: 16 bytes each."""

    file: _File
    places: array[int]
    size: int
    to: int


Make = Callable[[memoryview], None]
Fetch = Callable[[int, Places, int], None]
Report = Callable[[], Counter[str]]
"""What has been counted; workers tell of it what they have added."""


class _Work(NamedTuple):
    fetch: Fetch
    make: Make
    report: Report


def _nothing(_run: memoryview) -> None:
    """What those make who only fetch."""


class Pool:
    """``count`` workers that ``make`` what they are given in memory, ``fetch`` what lies in files, and last ``report``.

    They are started when there is enough for them to do. Where there may be none, as this system does not fork or
    allows no more processes, the caller does everything. Errors of theirs, SinkError, are raised by whatever is called
    next.
    """

    def __init__(self, count: int, *, fetch: Fetch, make: Make = _nothing, report: Report = Counter) -> None:
        self._work = _Work(fetch, make, report)
        self._count = count if can_fork() else 0
        self._fetch_jobs: deque[_FetchJob] = deque()
        self._file: _File | None = None
        self._files = 0
        self._most_files = few_enough(_MOST_FILES)
        self._workers: list[_Worker] = []

    @property
    def helps(self) -> bool:
        """Whether there are workers, or will be once there is enough to do."""
        return self._count > 0

    def takes(self, run: bytes | memoryview) -> bool:
        """Have somebody ``make`` a run if there is room for it; False where nobody has. The bytes are copied."""
        return len(run) <= _ROOM and self._begin() and any(worker.takes(run) for worker in self._workers)

    def read_from(self, file: int) -> None:
        """From here on places are in this file, whatever becomes of the descriptor. -1: in none."""
        self._file = None
        if file >= 0:
            self._files += 1
            self._file = _File(file, self._files)

    def fetch(self, places: Places, size: int, to: int = 0) -> None:
        """Have places of that many bytes fetched, some time before :meth:`wait` or :meth:`finish` returns."""
        assert self._file is not None
        job = _FetchJob(self._file, array("Q", places), size, to)
        if not self._workers and (size < ENOUGH or not self._begin()):
            self._run(job)
            return
        self._fetch_jobs.append(job)
        self._share()
        while self._fetch_jobs and self._fetch_jobs[0].file.number <= self._files - self._most_files:
            self._run(self._fetch_jobs.popleft())

    def wait(self) -> None:
        """Return when all work is done."""
        while self._fetch_jobs:
            self._run(self._fetch_jobs.popleft())
            self._share()
        for worker in self._workers:
            worker.wait()

    def finish(self) -> list[Counter[str]]:
        """Wait for all work, let the workers go, and return what each of them tells."""
        self.wait()
        self._file = None
        told = [worker.finish() for worker in self._workers]
        self._workers.clear()
        return told

    def kill(self) -> None:
        """End the workers at once; nothing is made any more when this returns."""
        self._fetch_jobs.clear()
        self._file = None
        self._end_workers()

    def _begin(self) -> bool:
        """Start the workers unless that has been done; False where there may be none."""
        if not self._workers:
            try:
                for _ in range(self._count):
                    with signals_wait():
                        self._workers.append(_Worker(self._work))
            except OSError:
                self._end_workers()
                self._count = 0
        return bool(self._workers)

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _share(self) -> None:
        """Give out what workers have time for."""
        for worker in self._workers:
            while self._fetch_jobs and worker.has_time():
                worker.give(self._fetch_jobs.popleft())

    def _run(self, job: _FetchJob) -> None:
        """Do an job here."""
        self._work.fetch(job.file.fd, job.places, job.to)
        job.file.check()


class _Worker:
    """One process."""

    def __init__(self, work: _Work) -> None:
        self._file: _File | None = None  # the one that the process was sent last
        self._memory = mmap.mmap(-1, _ROOM * _WAITING)
        self._free = list(range(_WAITING))
        self._filled = 0  # bytes in the last free place
        self._given: deque[int | _FetchJob] = deque()  # what is not done yet, in turn: places in memory, and errands
        self._to_fetch = 0
        self._channel, others = new_channel()
        try:
            self._child = ForkedProcess(lambda: _help(others, self._memory, work))
        except OSError:
            close_channel(self._channel)
            raise
        finally:
            others.close()
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)

    def takes(self, run: bytes | memoryview) -> bool:
        if self._filled + len(run) > _ROOM:
            self._send_filled()
        if not self._filled:
            self._hear_all()
            if not self._free:
                return False
        start = self._free[-1] * _ROOM + self._filled
        self._memory[start : start + len(run)] = run
        self._filled += padded(len(run))  # a run that ends with its chunk may lack padding
        if self._filled >= ENOUGH:
            self._send_filled()
        return True

    def has_time(self) -> bool:
        self._hear_all()
        return self._to_fetch < _GIVEN_BYTES

    def give(self, job: _FetchJob) -> None:
        self._to_fetch += job.size
        message = _JOB.pack(_FETCH, 0, job.to) + job.places.tobytes()
        self._send(job, message, job.file)

    def _send_filled(self) -> None:
        """Hand over what has been gathered in the last of the free places."""
        size, self._filled = self._filled, 0
        if size:
            place = self._free.pop()
            self._send(place, _JOB.pack(place, size, 0))

    def _send(self, job: int | _FetchJob, message: bytes, file: _File | None = None) -> None:
        self._given.append(job)
        try:
            if file is None or file is self._file:
                self._channel.send(message)
            else:
                from socket import send_fds

                send_fds(self._channel, [message], [file.fd])
                self._file = file
        except ConnectionError:
            self._hear_all()  # it has gone, and may have said why
            raise _killed() from None

    def _hear_all(self) -> None:
        while self._given and self._poll.poll(0):
            self._hear()

    def wait(self) -> None:
        self._send_filled()
        while self._given:
            self._hear()

    def finish(self) -> Counter[str]:
        self.wait()
        from socket import SHUT_WR

        self._channel.shutdown(SHUT_WR)
        told: Counter[str] | BaseException = unpack(self._receive())
        self._child.wait()
        self._close()
        if isinstance(told, BaseException):
            raise told
        return told

    def kill(self) -> None:
        self._child.kill()
        self._given.clear()
        self._close()

    def _close(self) -> None:
        self._file = None
        close_channel(self._channel)

    def _hear(self) -> None:
        """Take the next answer in, waiting for it if need be. Raises SinkError where it is an error."""
        answer = self._receive()
        if answer != _DONE:
            error: BaseException = unpack(answer)
            raise error
        job = self._given.popleft()
        if isinstance(job, int):
            self._free.insert(0, job)  # the last one may be half full
        else:
            self._to_fetch -= job.size
            job.file.check()

    def _receive(self) -> bytes:
        try:
            answer = self._channel.recv(_LONGEST_ANSWER)
        except ConnectionError:  # it went before it took all its work; what it said last comes only after that news
            answer = self._channel.recv(_LONGEST_ANSWER)
        if not answer:
            raise _killed()
        return answer


def _killed() -> SinkError:
    return SinkError("a process that helped to make files was killed; is memory short?")


# --- in the process ---------------------------------------------------------------------------------


def _help(channel: socket, memory: mmap.mmap, work: _Work) -> None:
    """Do one piece of work after the other, until there will be no more or one goes wrong."""
    from socket import recv_fds  # which is loaded

    view, file = memoryview(memory), -1
    before = work.report().copy()
    try:
        while True:
            message, files, *_ = recv_fds(channel, _LONGEST_JOB, 1)
            if not message:
                break
            if files:
                if file >= 0:
                    os.close(file)
                (file,) = files
            place, size, to = _JOB.unpack_from(message)
            if place == _FETCH:
                work.fetch(file, array("Q", message[_JOB.size :]), to)
            else:
                work.make(view[place * _ROOM : place * _ROOM + size])
            channel.send(_DONE)
        channel.send(pack(work.report() - before))
    except BrokenPipeError:
        raise
    except BaseException as error:
        channel.send(pack(error))
