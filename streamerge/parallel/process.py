"""A process that does one thing beside us, and is forked, not started anew: it has what we have at that moment.

That costs some two milliseconds, and nothing needs to be packed up for it. It is for work that needs but its own
memory and descriptors. Where other threads run, the process takes none of them along, so what it does must touch
nothing that they could have locked: no import, no output, no logging.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from streamerge.signals import signals_wait

if TYPE_CHECKING:
    from socket import socket

__all__ = ["ForkedProcess", "can_fork", "close_channel", "close_pipe_end", "new_channel", "new_pipe", "pack", "unpack"]

_OURS: set[int] = set()
"""Ends of pipes and sockets to children. No child may hold another's, or none would notice that the parent is gone."""


def can_fork() -> bool:
    """Whether this system lets a process go on in two, and means it well (macOS's libraries do not)."""
    return sys.platform == "linux"


def new_pipe(*, we_read: bool) -> tuple[int, int]:
    """A pipe to or from a child that is about to be forked: our end, which children close, and the child's."""
    read, write = os.pipe()
    ours, others = (read, write) if we_read else (write, read)
    _OURS.add(ours)
    return ours, others


def close_pipe_end(fd: int) -> None:
    """Close our end of a pipe."""
    _OURS.discard(fd)
    os.close(fd)


def new_channel() -> tuple[socket, socket]:
    """Two sockets between which messages and descriptors pass: our end, which children close, and the child's."""
    from socket import AF_UNIX, SOCK_SEQPACKET, socketpair  # 3 ms that few merges need

    ours, others = socketpair(AF_UNIX, SOCK_SEQPACKET)
    _OURS.add(ours.fileno())
    return ours, others


def close_channel(channel: socket) -> None:
    """Close our end of a channel; nothing if that has been done."""
    _OURS.discard(channel.fileno())
    channel.close()


def pack(told: object) -> bytes:
    """What a child has to tell, as bytes."""
    import pickle  # 2 ms that few merges need; a child finds it loaded

    return pickle.dumps(told)


def unpack(data: bytes) -> Any:
    """What a child of ours has told by :func:`pack`."""
    import pickle

    return pickle.loads(data)  # noqa: S301


class ForkedProcess:
    """A process that calls ``work`` and is gone.

    What comes of the work, exceptions included, the work itself must tell. A terminal's signals are left to us.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        import pickle  # noqa: F401 - for the child

        everything = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = _fork()
            if not self._pid:
                _live(work, everything)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, everything)

    @property
    def runs(self) -> bool:
        """Whether the process is still there."""
        if self._pid and os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            self._reap()
        return bool(self._pid)

    def wait(self) -> None:
        """Return when the process has ended by itself."""
        if self._pid:
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
            self._reap()

    def kill(self) -> None:
        """End the process, wherever it is, and return when it is gone."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            self._reap()

    def _reap(self) -> None:
        """Take note that a process has ended, or wait the moment until it has: its number may then be another's."""
        with signals_wait():
            os.waitpid(self._pid, 0)
            self._pid = 0


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads, from Python 3.12 on: see above
        return os.fork()


def _live(work: Callable[[], None], mask: set[int | signal.Signals]) -> NoReturn:
    """All there is of the process: no clean-up at its end, since all that could be cleaned up is the parent's."""
    try:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in _OURS:
            os.close(fd)
        with contextlib.suppress(BrokenPipeError):  # the parent is gone
            work()
    finally:
        os._exit(0)
