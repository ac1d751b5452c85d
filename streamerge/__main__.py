"""The command as a process of its own: ``streamerge``, ``python -m streamerge``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from streamerge.signals import end_at_once, ignore_signals, raise_again

__all__ = ["run"]


def run() -> NoReturn:
    """Run the command; where all went well, exit at once.

    To give back a large tree's memory piece by piece, as the interpreter does at its end, takes a fifteenth of the
    whole time; the system takes it back as a whole.
    """
    end_at_once()
    from streamerge.cli.main import main  # 25 ms, in which Ctrl-C would get a traceback

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
                    raise end from None  # the interpreter says what there is to say of it
        os._exit(0)


if __name__ == "__main__":
    run()
