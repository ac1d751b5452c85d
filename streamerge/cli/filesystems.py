"""The options for file system images, and the arguments after ``--`` for the mkfs tool."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamerge.cli.arguments import free, reproducible_time, size
from streamerge.cli.terminal import Terminal
from streamerge.sinks.formats import FILESYSTEMS, format_of

if TYPE_CHECKING:
    from streamerge.sinks.mkfs.options import FilesystemOptions

__all__ = ["FilesystemCommand", "filesystem_from", "filesystem_options"]

_F = TypeVar("_F", bound=Callable[..., object])
_ARGUMENTS = "streamerge.mkfs_arguments"


class FilesystemCommand(click.Command):
    """A command that accepts arguments for a mkfs tool after ``--``.

    They go to the tool only if the output is a file system image. Otherwise they are ordinary arguments.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments for the tool, and parse the rest."""
        if "--" in args:
            own, tools = args[: args.index("--")], args[args.index("--") + 1 :]
            if self._makes_filesystem(ctx, own):
                ctx.meta[_ARGUMENTS] = tools
                args = own
        return super().parse_args(ctx, args)

    def _makes_filesystem(self, ctx: click.Context, args: list[str]) -> bool:
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        outputs = given.get("outputs")
        form = given.get("form") or (format_of(outputs[-1]) if outputs else None)
        return form in FILESYSTEMS


def filesystem_options(command: _F) -> _F:
    """Add the options for file system images to a command."""
    options = (
        click.option(
            "--mkfs",
            metavar="PROG",
            help="The tool that makes the file system image: a name or a path. It gets all arguments after '--'.",
        ),
        click.option(
            "--size",
            "image_size",
            type=size,
            metavar="SIZE",
            help="Size of an ext4 image. [default: the least]",
        ),
        click.option("--free", type=free, metavar="SIZE|N%", help="Free space in an ext4 image. [default: none]"),
        click.option(
            "--reproducible",
            is_flag=True,
            help="Make the same file system image from the same layers, with a fixed UUID and the time "
            "$SOURCE_DATE_EPOCH, or 0. Always on if that variable is set.",
        ),
        click.option(
            "--add",
            multiple=True,
            metavar="FILE",
            help="Add a layer on top of all others: a tar, for example with an init. Can be repeated, newest last.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def filesystem_from(given: dict[str, Any], form: str, terminal: Terminal) -> FilesystemOptions | None:
    """Return the options for a file system image; None for other formats.

    Raises UsageError for options that have no effect on ``form``.
    """
    if form not in FILESYSTEMS:
        for name, option in (("mkfs", "--mkfs"), ("image_size", "--size"), ("free", "--free")):
            if given[name] is not None:
                raise click.UsageError(
                    f"{option} has no effect on this output; it is for images of {', '.join(FILESYSTEMS)}"
                )
        return None
    if given["level"] is not None:
        raise click.UsageError("--level has no effect on file system images; pass the tool's own option after '--'")
    from streamerge.sinks.mkfs.options import NOTHING_FREE, Console, FilesystemOptions

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
