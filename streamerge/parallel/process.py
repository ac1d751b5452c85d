"""A child process that calls one function. It is forked, so it has a copy of everything in this process.

Forking takes about two milliseconds, and nothing needs to be pickled for the child. It is for work that needs only its
own memory and descriptors. A child has no copies of the parent's other threads, so it must not use anything that they
could have locked: no import, no output, no logging.
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

_OUR_ENDS: set[int] = set()
"""Our ends of pipes and sockets to children. Each child closes them, or no child would notice that the parent died."""


def can_fork() -> bool:
    """Whether this platform can fork safely. macOS can fork, but its libraries do not support it."""
    return sys.platform == "linux"


def new_pipe(*, we_read: bool) -> tuple[int, int]:
    """A pipe to or from a child that is forked next: (our end, the child's end). Children close our end."""
    read, write = os.pipe()
    ours, others = (read, write) if we_read else (write, read)
    _OUR_ENDS.add(ours)
    return ours, others


def close_pipe_end(fd: int) -> None:
    """Close our end of a pipe."""
    _OUR_ENDS.discard(fd)
    os.close(fd)


def new_channel() -> tuple[socket, socket]:
    """Two connected sockets for messages and descriptors: (our end, the child's end). Children close our end."""
    from socket import AF_UNIX, SOCK_SEQPACKET, socketpair  # 3 ms that few merges need

    ours, others = socketpair(AF_UNIX, SOCK_SEQPACKET)
    _OUR_ENDS.add(ours.fileno())
    return ours, others


def close_channel(channel: socket) -> None:
    """Close our end of a channel. May be called twice."""
    _OUR_ENDS.discard(channel.fileno())
    channel.close()


def pack(value: object) -> bytes:
    """A result or an exception as bytes, to send to the parent."""
    import pickle  # 2 ms that few merges need; loaded before the fork

    return pickle.dumps(value)


def unpack(data: bytes) -> Any:
    """The value that a child sent with :func:`pack`. Only for data from our own children: pickle runs code."""
    import pickle

    return pickle.loads(data)  # noqa: S301


class ForkedProcess:
    """A child process that calls ``work`` and exits.

    ``work`` must send its results and exceptions itself. The child ignores the signals of a terminal; its parent
    handles them. Raises OSError if no process can be started.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        import pickle  # noqa: F401 - imported for the child

        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = _fork()
            if not self._pid:
                _child_main(work, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended yet."""
        if self._pid and os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            self._reap()
        return bool(self._pid)

    def wait(self) -> None:
        """Wait until the process has ended by itself."""
        if self._pid:
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
            self._reap()

    def kill(self) -> None:
        """Kill the process and wait for its end. May be called twice."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)  # not reaped yet, so no other process has its pid
            self._reap()

    def _reap(self) -> None:
        """Reap a process that has ended or is ending. Another process may then get its pid, so the pid is forgotten."""
        with signals_wait():
            os.waitpid(self._pid, 0)
            self._pid = 0


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads, in Python 3.12: see above
        return os.fork()


def _child_main(work: Callable[[], None], mask: set[int | signal.Signals]) -> NoReturn:
    """The whole life of a child. It exits without clean-up, because everything to clean up belongs to the parent."""
    try:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in _OUR_ENDS:
            os.close(fd)
        with contextlib.suppress(BrokenPipeError):  # the parent has died
            work()
    finally:
        os._exit(0)
