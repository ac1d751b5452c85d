"""Signals: how the command ends on one, and stretches of work that none may cut in two.

Python turns a signal into an exception wherever the main thread happens to be: also between the making of a file or
a process and the moment that somebody holds it and could take it away again.
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
_SOON = 0.001  # seconds

_T = TypeVar("_T")

_passed = threading.Event()
"""Whether the point of no return has been passed."""


# --- for the command --------------------------------------------------------------------------------


def exit_on_interrupt(code: int) -> None:
    """End the process with ``code`` on Ctrl-C, without any clean-up: for the time when there is nothing to clean up."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))


def end_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP unwind like any error, so that nothing is left behind.

    They raise KeyboardInterrupt, SystemExit(143) and SystemExit(129). A second one does not disturb that.
    """
    _passed.clear()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, _end)


def ignore_signals() -> None:
    """Let no signal disturb what is to be done at the end."""
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
    """Python drops what is raised in destructors and callbacks; if it was a signal's, it comes again a moment later.

    For :data:`sys.unraisablehook`.
    """
    error = dropped.exc_value
    if isinstance(error, KeyboardInterrupt | SystemExit) and _AGAIN is not None:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else int(error.code or 0) - 128
        signal.signal(_AGAIN, lambda *_: _raise(number))
        signal.setitimer(signal.ITIMER_REAL, _SOON)
    else:
        sys.__unraisablehook__(dropped)


# --- for all ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """What Python would do on a signal is done when the block is over; a system call in it goes on."""
    heard: list[int] = []
    handlers = {number: signal.getsignal(number) for number in [*_SIGNALS, _AGAIN] if number is not None}
    if threading.current_thread() is not threading.main_thread():
        handlers.clear()  # no signal is heard here
    try:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, lambda number, _frame: heard.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])


@contextlib.contextmanager
def point_of_no_return() -> Iterator[None]:
    """What is done in the block shows to others at once, and whole. The command ends on a signal only before it.

    A signal that comes in its middle, or later, finds the work done, and is of no account.
    """
    with signals_wait():
        yield
        _passed.set()


@contextlib.contextmanager
def undone_on_error(make: Callable[[], _T], undo: Callable[[_T], None], *, at_once: bool = True) -> Iterator[_T]:
    """Give what ``make`` makes, and undo it on any error or signal, be that the first thing after it was made.

    Where ``make`` may have to wait for others (not ``at_once``), signals are heard in the meantime.
    """
    made: list[_T] = []
    try:
        with signals_wait() if at_once else contextlib.nullcontext():
            made.append(make())
        yield made[0]
    except BaseException:
        for it in made:
            undo(it)
        raise
