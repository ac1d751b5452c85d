"""The command as a process of its own: ``streamerge``, ``python -m streamerge``."""

from __future__ import annotations

import os

_INTERRUPTED = 130  # 128 + SIGINT

try:
    import sys
    from typing import NoReturn

    from streamerge.signals import exit_on_interrupt, ignore_signals, raise_again
except KeyboardInterrupt:  # nothing to clean up yet
    os._exit(_INTERRUPTED)

__all__ = ["run"]


def run() -> NoReturn:
    """Run the command; after success, exit at once.

    Freeing a large tree's memory piece by piece, as the interpreter does at its end, takes a fifteenth of the whole
    time; the system frees it as a whole.
    """
    try:
        exit_on_interrupt(_INTERRUPTED)
        from streamerge.cli.main import main
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    sys.unraisablehook = raise_again
    try:
        main()
    except SystemExit as end:
        ignore_signals()
        if end.code != 0:
            raise
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                try:
                    stream.flush()
                except OSError:
                    raise end from None  # the interpreter reports it
        os._exit(0)


if __name__ == "__main__":
    run()
