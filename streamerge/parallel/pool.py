"""Worker processes that help a sink to write.

A job is either bytes in shared memory, or extents of a layer's file, whose descriptor is sent to the worker. If a
worker has no free memory for bytes, the caller processes them itself. Extents need no memory: they are queued, and jobs
still queued at the end are also run by the calling process. So the caller waits only at the end.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from streamerge.errors import SinkError
from streamerge.fileio import CHUNK, Check, FileHandle, few_descriptors, layer_changed, no_check
from streamerge.parallel.process import ForkedProcess, can_fork, close_channel, new_channel, pack, unpack
from streamerge.signals import signals_wait
from streamerge.tar.header import padded

if TYPE_CHECKING:
    from socket import socket

__all__ = ["ENOUGH", "MAX_EXTENTS", "ExtentList", "Pool"]

ENOUGH = 1 << 17
"""Least bytes of a job that is worth waking a worker: a hundred small files, which take a millisecond."""

MAX_EXTENTS = 256
"""Extents in one job."""

_ROOM = 2 * CHUNK
"""Bytes of a job in memory: more than a decoded chunk, of which a run is a part."""

_JOBS_IN_MEMORY = 3
"""Jobs in memory for each worker."""

_GIVEN_BYTES = 1 << 21
"""A worker with fewer bytes in extents than this gets another job."""

_MAX_FILES = 32
"""Layers whose files are kept open for queued jobs."""

_JOB = struct.Struct("<BIIQ")  # _MAKE, slot, size, 0; or _FETCH, 0, 0, the position to write to, then the extents
_MAKE: Final = 0
_FETCH: Final = 1
_MAX_JOB_BYTES = _JOB.size + 16 * MAX_EXTENTS
_MAX_ANSWER_BYTES = 1 << 16
_DONE = b"done"
_CHECK_INTERVAL = 20  # milliseconds

ExtentList = Sequence[int]
"""Extents of one file: start, size, start, size, …"""


class _File:
    """A layer's file; later files have higher numbers."""

    def __init__(self, handle: FileHandle, number: int) -> None:
        self.handle = handle
        self.number = number

    def check(self) -> None:
        """Raise SinkError if the file is no longer what it was when it was opened."""
        if self.handle.stamp() != self.handle.first_stamp:
            raise layer_changed()


class _FetchJob(NamedTuple):
    """Extents to fetch, packed into 16 bytes each, because there may be a job for every few paths."""

    file: _File
    extents: array[int]
    size: int
    to: int


Make = Callable[[memoryview], None]
"""Creates the files of a run in memory."""
Fetch = Callable[[int, ExtentList, int, Check], None]
"""Fetches extents of a descriptor's file to a position of the output."""
CountRefused = Callable[[], Counter[str]]
"""Returns the counts of what was refused; workers send what they have added to it."""


class _Work:
    """What the workers can do."""

    def __init__(self, fetch: Fetch, make: Make, refused: CountRefused) -> None:
        self.fetch = fetch
        self.make = make
        self.refused = refused


def no_op(_run: memoryview) -> None:
    """The ``make`` of a pool that only fetches."""


class Pool:
    """``count`` workers that ``make`` runs from memory and ``fetch`` extents; at the end they return ``refused``.

    They are started when there is enough to do. If no process can be forked, the caller does all the work. A worker's
    error, a SinkError, is raised by the next call.
    """

    def __init__(self, count: int, *, fetch: Fetch, make: Make = no_op, refused: CountRefused = Counter) -> None:
        self.check: Check = no_check
        """Called at least every 20 ms while the pool waits, and regularly while the caller fetches."""
        self._work = _Work(fetch, make, refused)
        self._count = count if can_fork() else 0
        self._fetch_jobs: deque[_FetchJob] = deque()
        self._file: _File | None = None
        self._max_files = few_descriptors(_MAX_FILES)
        self._workers: list[_Worker] = []

    @property
    def has_workers(self) -> bool:
        """Whether there are workers, or will be once there is enough to do."""
        return self._count > 0

    def make(self, run: bytes | memoryview) -> bool:
        """Copy a run to a worker with free memory. Return False if there is none."""
        return len(run) <= _ROOM and self._start() and any(worker.make(run) for worker in self._workers)

    def fetch(self, handle: FileHandle, extents: ExtentList, size: int, to: int = 0) -> None:
        """Fetch extents of ``size`` bytes in all, at the latest when :meth:`wait` or :meth:`finish` returns."""
        file = self._remember(handle)
        job = _FetchJob(file, array("Q", extents), size, to)
        if not self._workers and (size < ENOUGH or not self._start()):
            self._run_job(job)
            return
        self._fetch_jobs.append(job)
        self._hand_out()
        while self._fetch_jobs and self._fetch_jobs[0].file.number <= file.number - self._max_files:
            self._run_job(self._fetch_jobs.popleft())

    def wait(self) -> None:
        """Return when all work is done."""
        while self._fetch_jobs:
            self._run_job(self._fetch_jobs.popleft())
            self._hand_out()
        for worker in self._workers:
            worker.wait(self.check)

    def finish(self) -> list[Counter[str]]:
        """Wait for all work, end the workers, and return what each of them has counted."""
        self.wait()
        self._file = None
        counts = [worker.finish(self.check) for worker in self._workers]
        self._workers.clear()
        return counts

    def kill(self) -> None:
        """End the workers at once; nothing is written any more when this returns."""
        self._fetch_jobs.clear()
        self._file = None
        self._kill_workers()

    def _remember(self, handle: FileHandle) -> _File:
        """Return the record of a layer's file, which keeps the file open while jobs need it."""
        if self._file is None or self._file.handle is not handle:
            number = self._file.number + 1 if self._file is not None else 0
            self._file = _File(handle, number)
        return self._file

    def _start(self) -> bool:
        """Start the workers if they are not running. Return whether there are any."""
        if not self._workers:
            try:
                for _ in range(self._count):
                    with signals_wait():
                        self._workers.append(_Worker(self._work))
            except OSError:
                self._kill_workers()
                self._count = 0
        return bool(self._workers)

    def _kill_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _hand_out(self) -> None:
        """Give queued jobs to workers with little to do."""
        for worker in self._workers:
            while self._fetch_jobs and worker.has_time():
                worker.fetch(self._fetch_jobs.popleft())

    def _run_job(self, job: _FetchJob) -> None:
        """Process a job in this process."""
        self.check()
        self._work.fetch(job.file.handle.fd, job.extents, job.to, self.check)
        job.file.check()


class _Worker:
    """A worker process, as the caller sees it."""

    def __init__(self, work: _Work) -> None:
        self._file: _File | None = None  # the file that was sent to the process last
        self._memory = mmap.mmap(-1, _ROOM * _JOBS_IN_MEMORY)
        self._free = list(range(_JOBS_IN_MEMORY))
        self._filled = 0  # bytes in the last free slot
        self._given: deque[int | _FetchJob] = deque()  # unfinished jobs in order: slots in memory, and extents
        self._to_fetch = 0
        self._channel, others = new_channel()
        try:
            self._process = ForkedProcess(lambda: _serve(others, self._memory, work))
        except OSError:
            close_channel(self._channel)
            raise
        finally:
            others.close()
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)

    def make(self, run: bytes | memoryview) -> bool:
        """Copy a run to free memory. Return False if there is none."""
        if self._filled + len(run) > _ROOM:
            self._send_filled()
        if not self._filled:
            self._receive_all()
            if not self._free:
                return False
        start = self._free[-1] * _ROOM + self._filled
        self._memory[start : start + len(run)] = run
        self._filled += padded(len(run))  # a run that ends with its chunk may lack padding
        if self._filled >= ENOUGH:
            self._send_filled()
        return True

    def has_time(self) -> bool:
        """Return whether there is little to fetch."""
        self._receive_all()
        return self._to_fetch < _GIVEN_BYTES

    def fetch(self, job: _FetchJob) -> None:
        """Send a job to the worker."""
        self._to_fetch += job.size
        self._send(job, _JOB.pack(_FETCH, 0, 0, job.to) + job.extents.tobytes(), job.file)

    def wait(self, check: Check) -> None:
        """Return when all jobs are done."""
        self._send_filled()
        while self._given:
            self._receive(check)

    def finish(self, check: Check) -> Counter[str]:
        """Wait, end the process, and return what it has counted."""
        self.wait(check)
        from socket import SHUT_WR

        self._channel.shutdown(SHUT_WR)
        counted: Counter[str] | BaseException = unpack(self._receive_message(check))
        self._process.wait()
        self._close()
        if isinstance(counted, BaseException):
            raise counted
        return counted

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._given.clear()
        self._close()

    def _send_filled(self) -> None:
        """Send the runs that were collected in the last free slot."""
        size, self._filled = self._filled, 0
        if size:
            slot = self._free.pop()
            self._send(slot, _JOB.pack(_MAKE, slot, size, 0))

    def _send(self, job: int | _FetchJob, message: bytes, file: _File | None = None) -> None:
        self._given.append(job)
        try:
            if file is None or file is self._file:
                self._channel.send(message)
            else:
                from socket import send_fds

                send_fds(self._channel, [message], [file.handle.fd])
                self._file = file
        except ConnectionError:
            self._receive_all()  # the process has ended; it may have sent an error
            raise _killed() from None

    def _receive_all(self) -> None:
        while self._given and self._poll.poll(0):
            self._receive(no_check)

    def _close(self) -> None:
        self._file = None
        close_channel(self._channel)

    def _receive(self, check: Check) -> None:
        """Wait for the next answer. If it is an error, raise it."""
        answer = self._receive_message(check)
        if answer != _DONE:
            error: BaseException = unpack(answer)
            raise error
        job = self._given.popleft()
        if isinstance(job, int):
            self._free.insert(0, job)  # the last one may be half full
        else:
            self._to_fetch -= job.size
            job.file.check()

    def _receive_message(self, check: Check) -> bytes:
        while check is not no_check and not self._poll.poll(_CHECK_INTERVAL):
            check()
        try:
            answer = self._channel.recv(_MAX_ANSWER_BYTES)
        except ConnectionError:  # it ended before it took all jobs; its last message comes now
            answer = self._channel.recv(_MAX_ANSWER_BYTES)
        if not answer:
            raise _killed()
        return answer


def _killed() -> SinkError:
    return SinkError("a worker process was killed; the system may be out of memory")


# --- in the worker process ---------------------------------------------------------------------------


def _serve(channel: socket, memory: mmap.mmap, work: _Work) -> None:
    """Run jobs until there are no more or one fails."""
    from socket import recv_fds  # already imported by the parent

    view = memoryview(memory)
    file: int | None = None
    before = work.refused().copy()
    try:
        while True:
            message, files, *_ = recv_fds(channel, _MAX_JOB_BYTES, 1)
            if not message:
                break
            if files:
                if file is not None:
                    os.close(file)
                (file,) = files
            kind, slot, size, to = _JOB.unpack_from(message)
            if kind == _FETCH:
                assert file is not None
                work.fetch(file, array("Q", message[_JOB.size :]), to, no_check)
            else:
                work.make(view[slot * _ROOM : slot * _ROOM + size])
            channel.send(_DONE)
        channel.send(pack(work.refused() - before))
    except BrokenPipeError:
        raise
    except BaseException as error:
        channel.send(pack(error))
