"""The command line's part about file system images: their options, and what follows ``--``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from streamerge.cli.arguments import free, reproducible_time, size
from streamerge.cli.terminal import Terminal
from streamerge.sinks.mkfs.options import FILESYSTEMS, NOTHING_FREE, Console, FilesystemOptions
from streamerge.sinks.opening import format_of

__all__ = ["FilesystemCommand", "filesystem_from", "filesystem_options"]

_F = TypeVar("_F", bound=Callable[..., object])
_ARGUMENTS = "streamerge.mkfs_arguments"


class FilesystemCommand(click.Command):
    """A command after whose ``--`` the arguments of a mkfs tool may stand.

    They are the tool's where the output is a file system image, else they are arguments like those before.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the tool's arguments aside, then parse the rest."""
        if "--" in args:
            own, tools = args[: args.index("--")], args[args.index("--") + 1 :]
            if self._makes_filesystem(ctx, own):
                ctx.meta[_ARGUMENTS] = tools
                args = own
        return super().parse_args(ctx, args)

    def _makes_filesystem(self, ctx: click.Context, args: list[str]) -> bool:
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        output = given.get("output")
        form = given.get("form") or (format_of(output) if isinstance(output, str) else None)
        return form in FILESYSTEMS


def filesystem_options(command: _F) -> _F:
    """The options that say how an image is made."""
    options = (
        click.option(
            "--mkfs",
            metavar="PROG",
            help="The tool that makes a file system image, by name or path; what follows '--' goes to it as it is.",
        ),
        click.option(
            "--size", "image_size", type=size, metavar="SIZE", help="Size of an ext4. [default: what is needed]"
        ),
        click.option("--free", type=free, metavar="SIZE|N%", help="Room to leave in an ext4. [default: none]"),
        click.option(
            "--reproducible",
            is_flag=True,
            help="The same layers give the same image: its time is "
            "$SOURCE_DATE_EPOCH, else 0, its UUID fixed. So it is where that variable is set.",
        ),
        click.option(
            "--add",
            multiple=True,
            metavar="FILE",
            help="One more layer, newer than all others: a tar with "
            "an init, or a configuration. May be repeated, the newest last.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def filesystem_from(given: dict[str, Any], form: str, terminal: Terminal) -> FilesystemOptions:
    """What the command line says about an image. Raises UsageError for options that mean nothing to ``form``."""
    if form not in FILESYSTEMS:
        for name, option in (("mkfs", "--mkfs"), ("image_size", "--size"), ("free", "--free")):
            if given[name] is not None:
                raise click.UsageError(f"{option} is for images of {', '.join(FILESYSTEMS)}")
    elif given["level"] is not None:
        raise click.UsageError("--level is for tars; say '-- OPTION' to the tool that makes the image")
    shows = sys.stderr is not None and sys.stderr.isatty()
    return FilesystemOptions(
        mkfs=given["mkfs"],
        arguments=_arguments(),
        size=given["image_size"],
        free=given["free"] or NOTHING_FREE,
        time=reproducible_time(asked=given["reproducible"]),
        fsync=not given["no_fsync"],
        same_owner=given["same_owner"] is not False,
        console=Console(progress=shows, quiet=given["quiet"], before=terminal.leave),
    )


def _arguments() -> Sequence[str]:
    found: Sequence[str] = click.get_current_context().meta.get(_ARGUMENTS, ())
    return found
