"""Signals: how the command ends on a signal, and blocks of work that no signal interrupts.

Python raises an exception for a signal at any point of the main thread. That can be just after a file or a process
was created, before any variable refers to it, so that nothing could remove it again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn, TypeVar

__all__ = [
    "end_on_signals",
    "exit_on_interrupt",
    "ignore_signals",
    "point_of_no_return",
    "raise_again",
    "signals_wait",
    "undone_on_error",
]

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_AGAIN = getattr(signal, "SIGALRM", None)
_AGAIN_AFTER = 0.001
"""Seconds."""

_T = TypeVar("_T")

_passed = threading.Event()
"""Set once the point of no return has been passed."""


# --- used by the command ----------------------------------------------------------------------------


def exit_on_interrupt(code: int) -> None:
    """End the process with ``code`` on Ctrl-C, without any clean-up: for the time when there is nothing to clean up."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))


def end_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise an exception, so that everything is cleaned up.

    They raise KeyboardInterrupt, SystemExit(143) and SystemExit(129). Further signals are ignored.
    """
    _passed.clear()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # keep what nohup(1) has set
            signal.signal(number, _end)


def ignore_signals() -> None:
    """Ignore all signals from now on, for the clean-up at the end."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    ignore_signals()
    if not _passed.is_set():
        _raise(number)


def _raise(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def raise_again(dropped: sys.UnraisableHookArgs) -> None:
    """Raise a signal's exception again, a moment later, if Python dropped it. For :data:`sys.unraisablehook`.

    Python drops exceptions that are raised in destructors and callbacks.
    """
    error = dropped.exc_value
    if isinstance(error, KeyboardInterrupt | SystemExit) and _AGAIN is not None:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else int(error.code or 0) - 128
        signal.signal(_AGAIN, lambda *_: _raise(number))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_AFTER)
    else:
        sys.__unraisablehook__(dropped)


# --- used everywhere --------------------------------------------------------------------------------


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Defer signals to the end of the block. A system call in the block is not interrupted."""
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in [*_SIGNALS, _AGAIN] if number is not None}
    if threading.current_thread() is not threading.main_thread():
        handlers.clear()  # Python handles signals in the main thread only
    try:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, lambda number, _frame: received.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


@contextlib.contextmanager
def point_of_no_return() -> Iterator[None]:
    """Make the result visible in this block. A signal ends the command only if it comes before the block.

    A signal during or after the block is ignored, because the work is done.
    """
    with signals_wait():
        yield
        _passed.set()


@contextlib.contextmanager
def undone_on_error(make: Callable[[], _T], undo: Callable[[_T], None], *, at_once: bool = True) -> Iterator[_T]:
    """The result of ``make``, undone on any error or signal, even one that comes right after it was made.

    With ``at_once`` signals are deferred while ``make`` is called. Pass False if it may block for long: then a signal
    interrupts it.
    """
    made: list[_T] = []
    try:
        with signals_wait() if at_once else contextlib.nullcontext():
            made.append(make())
        yield made[0]
    except BaseException:
        for result in made:
            undo(result)
        raise
