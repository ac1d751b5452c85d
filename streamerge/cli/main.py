"""The command's entry: which command it is, errors as one line on stderr, exit codes.

0: the output is complete. 1: it is not, and one line on stderr says why. 2: the command line is wrong.
129: SIGHUP; 130: Ctrl-C; 143: SIGTERM. Nothing but the output goes to standard output.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from streamerge.cli.merge_command import merge_command
from streamerge.errors import StreamergeError, UsageError
from streamerge.signals import end_on_signals
from streamerge.sinks.output import ClosedPipe

__all__ = ["main"]

_SUBCOMMANDS = ("inspect", "config")
"""Each is ``NAME_command`` in a module of that name, imported when it is used."""

_HINTS = {
    "rescan": "use --rescan",
}
"""What to type where an error names a setting that would help."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code. Errors are one line on stderr; a traceback is never shown."""
    _fill_standard_descriptors()
    sys.setswitchinterval(1e-4)  # the decoding thread must not wait 5 ms for its turn after each chunk
    end_on_signals()
    try:
        chosen, name, rest = _choose_command(sys.argv[1:] if arguments is None else arguments)
        chosen.main(args=rest, prog_name=name, standalone_mode=False)
        code = 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.UsageError as error:
        error.show()
        code = 2
    except UsageError as error:
        click.UsageError(str(error), click.Context(merge_command, info_name="streamerge")).show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("streamerge: interrupted; nothing is left behind", err=True)
        code = 130
    except ClosedPipe:
        code = 1
    except (StreamergeError, click.ClickException) as error:
        click.echo(f"streamerge: {_message(error)}", err=True)
        code = 1
    except MemoryError:
        click.echo("streamerge: there is not enough memory", err=True)
        code = 1
    except (OSError, ImportError) as error:  # of no file of the user's: a module that cannot be loaded, a process
        click.echo(f"streamerge: cannot go on: {getattr(error, 'strerror', None) or error}", err=True)
        code = 1
    sys.exit(code)


def _message(error: Exception) -> str:
    hint = _HINTS.get(error.setting or "") if isinstance(error, StreamergeError) else None
    return f"{error}; {hint}" if hint else str(error)


def _choose_command(arguments: Sequence[str]) -> tuple[click.Command, str, list[str]]:
    """Return the command that the first argument names, what it is called, and its arguments.

    Merging has no name, so that layers can follow at once; a layer that is called ``inspect`` is ``./inspect``.
    """
    if not arguments or arguments[0] not in _SUBCOMMANDS:
        return merge_command, "streamerge", list(arguments)
    module = importlib.import_module(f"streamerge.cli.{arguments[0]}_command")
    command: click.Command = getattr(module, f"{arguments[0]}_command")
    return command, f"streamerge {arguments[0]}", list(arguments[1:])


def _fill_standard_descriptors() -> None:
    """Let no file of ours become descriptor 0, 1 or 2 where the caller has closed these."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
