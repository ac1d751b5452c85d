"""The entry point of the command: choose the command, print errors as one line on stderr, set the exit code.

0: the output is complete. 1: it is not, and one line on stderr says why. 2: the command line is wrong.
129: SIGHUP. 130: Ctrl-C. 143: SIGTERM. Only the output goes to standard output.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from streamerge.cli.merge_command import merge_command
from streamerge.errors import StreamergeError, UsageError, show
from streamerge.signals import end_on_signals
from streamerge.sinks.output import ClosedPipe

__all__ = ["main"]

_SUBCOMMANDS = ("inspect", "config")
"""Each is ``NAME_command`` in a module of that name, imported when it is used."""

_HINTS = {
    "exclude": "use --exclude {pattern} to leave it out",
    "force": "use --force to replace it",
    "id_map": "add a range with --uid-map or --gid-map",
    "mkfs": "name another tool with --mkfs",
    "platform": "use --platform to choose one",
    "rescan": "use --rescan",
    "same_owner": "to own all files yourself, use --no-same-owner",
    "verify": "use --no-verify if you trust the image",
    "xattrs": "use --no-xattrs to leave out extended attributes and ACLs",
}
"""What to type if an error names a setting that would help."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its exit code. Prints an error as one line on stderr, never as a traceback."""
    _fill_standard_descriptors()
    sys.setswitchinterval(1e-4)  # otherwise the decoding thread waits 5 ms after each chunk
    end_on_signals()
    try:
        sys.exit(_run(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        _exit_interrupted()
    except RuntimeError as error:  # until Python 3.11, one that is raised while a class is made comes as its cause
        if isinstance(error.__cause__, KeyboardInterrupt):
            _exit_interrupted()
        if isinstance(error.__cause__, SystemExit):
            raise error.__cause__ from None
        raise


def _exit_interrupted() -> NoReturn:
    click.echo("streamerge: interrupted; nothing is left behind", err=True)
    sys.exit(130)


def _run(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code. Raises KeyboardInterrupt and SystemExit, as signals do."""
    try:
        chosen, name, rest = _choose_command(arguments)
        chosen.main(args=rest, prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.UsageError as error:
        error.show()
        return 2
    except UsageError as error:
        click.UsageError(_message(error), click.Context(merge_command, info_name="streamerge")).show()
        return 2
    except ClosedPipe:
        return 1
    except (StreamergeError, click.ClickException) as error:
        return _fail(_message(error))
    except MemoryError:
        return _fail("not enough memory")
    except (OSError, ImportError) as error:  # a module that cannot be loaded, a process that cannot start
        return _fail(f"cannot continue: {getattr(error, 'strerror', None) or error}")
    return 0


def _fail(message: str) -> int:
    click.echo(f"streamerge: {message}", err=True)
    return 1


def _message(error: Exception) -> str:
    if not isinstance(error, StreamergeError) or error.setting not in _HINTS:
        return str(error)
    return f"{error}; {_HINTS[error.setting].format(pattern=_pattern(error.path))}"


def _pattern(path: bytes | None) -> str:
    """Return the gitignore pattern for exactly this path, quoted for a shell."""
    if path is None:
        return "PATTERN"
    import shlex  # for this message alone

    return shlex.quote("/" + re.sub(r"[\\*?\[]", r"\\\g<0>", show(path)))


def _choose_command(arguments: Sequence[str]) -> tuple[click.Command, str, list[str]]:
    """Return the command that the first argument names, its name in messages, and its arguments.

    Merging is the default and has no name. A layer that is called ``inspect`` is ``./inspect``.
    """
    if not arguments or arguments[0] not in _SUBCOMMANDS:
        return merge_command, "streamerge", list(arguments)
    module = importlib.import_module(f"streamerge.cli.{arguments[0]}_command")
    command: click.Command = getattr(module, f"{arguments[0]}_command")
    return command, f"streamerge {arguments[0]}", list(arguments[1:])


def _fill_standard_descriptors() -> None:
    """Open descriptors 0, 1 and 2 if the caller has closed them, so that no other file gets these numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - open until the process ends
