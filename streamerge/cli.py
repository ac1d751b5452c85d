"""Arguments -> source, merge, sink; exit codes.

0: the output is complete. 1: it is not, and one line on stderr says why. 2: the command line is wrong.
130: Ctrl-C; 143: SIGTERM. Nothing but the output goes to standard output.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from streamerge import __version__
from streamerge.attempt import Options
from streamerge.errors import StreamergeError
from streamerge.interfaces import Sink
from streamerge.progress import Terminal, summary
from streamerge.retain import DEFAULT_SPOOL_MEMORY
from streamerge.run import merge
from streamerge.sinks.output import ClosedPipe
from streamerge.sinks.tar import open_tar
from streamerge.sources.files import layer_files
from streamerge.whiteout import Whiteouts

__all__ = ["command", "main"]

_HELP = """\
Merge the layers of a container image into one root filesystem.

LAYERS are tar files from base to newest, as a manifest lists them; each may be plain or compressed
(gzip, zstd, lz4, xz, bzip2), whatever its name, or a pipe: '-' is standard input, once.

\b
  streamerge layers/*.tar -o rootfs.tar
  streamerge base.tar.gz app.tar.zst -o rootfs.tar.gz
  streamerge layers/*.tar.gz -o - | mkfs.erofs --tar=f rootfs.erofs /dev/stdin
  streamerge base.tar <(curl -s https://example.org/app.tar.gz) -o rootfs.tar

The output holds each path once, a directory before what is in it and a link after its target, with every
whiteout applied; it appears only when complete. The same layers give the same bytes.
"""


def _size(text: str) -> int:
    """Read a number of bytes: 500, 64K, 64M, 2G."""
    digits = text.upper().removesuffix("B").removesuffix("I")
    unit = {"K": 10, "M": 20, "G": 30, "T": 40}.get(digits[-1:], 0)
    digits = digits[:-1] if unit else digits
    if not digits.isascii() or not digits.isdigit():
        raise click.BadParameter(f"'{text}' is no size; write 500, 64K, 64M or 2G")
    return int(digits) << unit


@click.command(help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("layers", nargs=-1, required=True, metavar="LAYERS...")
@click.option("-o", "--output", required=True, metavar="FILE",
              help="Where the merged tar goes; '-' is standard output. .tar.gz, .tgz, .tar.zst, .tar.lz4, "
                   ".tar.xz and .tar.bz2 compress it.")  # fmt: skip
@click.option("--level", type=int, metavar="N", help="Compression level of the output, as its tool counts.")
@click.option("--whiteouts", type=click.Choice([style.value for style in Whiteouts]), default="oci",
              show_default=True, help="Which whiteouts count: '.wh.' names (oci), overlayfs's own character "
              "devices 0:0 and opaque xattrs (overlay), or both (any).")  # fmt: skip
@click.option("--rescan", is_flag=True, help="Read each layer's headers first. Needed only to write a layer that "
              "lists a path twice to a pipe; files do this by themselves.")  # fmt: skip
@click.option("--spool-memory", type=_size, default=str(DEFAULT_SPOOL_MEMORY), metavar="SIZE",
              help="Memory for what pipes cannot give twice; more goes to $TMPDIR. [default: 64M]")  # fmt: skip
@click.option("--no-fsync", is_flag=True, help="Do not flush the output to disk before success is reported.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def command(
    layers: tuple[str, ...],
    output: str,
    level: int | None,
    whiteouts: str,
    rescan: bool,
    spool_memory: int,
    no_fsync: bool,
    quiet: bool,
) -> None:
    """Merge layers; see _HELP."""
    options = Options(
        whiteouts=Whiteouts(whiteouts), rescan=rescan, mtime=_source_date_epoch(), spool_memory=spool_memory
    )
    stack = layer_files(layers)
    sink = _open_sink(output, layers, level=level, fsync=not no_fsync)
    with Terminal(len(stack), quiet=quiet) as terminal:
        report = merge(stack, sink, options, terminal)
    if not quiet:
        click.echo(summary(report), err=True)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code. Errors are one line on stderr; a traceback would be a bug."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        command.main(args=arguments, prog_name="streamerge", standalone_mode=False)
        code = 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.UsageError as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("streamerge: interrupted; nothing is left behind", err=True)
        code = 130
    except ClosedPipe:
        code = 1
    except (StreamergeError, click.ClickException) as error:
        click.echo(f"streamerge: {error}", err=True)
        code = 1
    sys.exit(code)


def _open_sink(output: str, layers: Sequence[str], *, level: int | None, fsync: bool) -> Sink:
    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("a tar does not go to a terminal; use '-o FILE', or pipe it on")
    if output != "-":
        _refuse_input_as_output(output, layers)
    try:
        return open_tar(output, level=level, fsync=fsync)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _refuse_input_as_output(output: str, layers: Sequence[str]) -> None:
    """``-o rootfs.tar *.tar`` run twice names its own result as a layer."""
    try:
        status = os.stat(output)
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        return
    for layer in layers:
        if layer != "-" and os.path.exists(layer) and os.path.samestat(status, os.stat(layer)):
            raise click.UsageError(f"'{output}' is both the output and one of the layers")


def _source_date_epoch() -> int:
    """What implicit directories get as their time: $SOURCE_DATE_EPOCH, else 0."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise click.UsageError(f"SOURCE_DATE_EPOCH is '{text}'; it should be a number of seconds")
    return int(text)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds like any error, so that nothing is left behind."""
    sys.exit(143)
