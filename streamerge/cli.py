"""Arguments -> source, merge, sink; exit codes.

0: the output is complete. 1: it is not, and one line on stderr says why. 2: the command line is wrong.
129: SIGHUP; 130: Ctrl-C; 143: SIGTERM. Nothing but the output goes to standard output.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import click

from streamerge import __version__
from streamerge.arguments import id_map, patterns, size, source_date_epoch
from streamerge.attempt import Options
from streamerge.cli_filesystems import FilesystemCommand, filesystem_from, filesystem_options
from streamerge.cli_images import choose_command, config_output, image_options, open_input, recognised
from streamerge.errors import StreamergeError, UsageError
from streamerge.interfaces import Sink
from streamerge.progress import Terminal, summary
from streamerge.readahead import DEFAULT_READ_AHEAD
from streamerge.retain import DEFAULT_SPOOL_MEMORY
from streamerge.run import merge
from streamerge.signals import end_on_signals, undone_on_error
from streamerge.sinks.opening import FORMATS, SinkOptions, format_of, open_sink
from streamerge.sinks.output import ClosedPipe, is_fifo
from streamerge.sinks.ownership import Ownership
from streamerge.sources.files import layer_files
from streamerge.whiteout import Whiteouts

__all__ = ["command", "main"]

_HELP = """\
Merge the layers of a container image into one root filesystem.

IMAGE is oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF] or dir:DIR, as skopeo names them, or the
bare path of such a directory or archive. REF is a tag, @DIGEST, or @N for the Nth image.

LAYERS are tar files from base to newest, as a manifest lists them; each may be plain or compressed
(gzip, zstd, lz4, xz, bzip2), whatever its name, or a pipe: '-' is standard input, once.

\b
  streamerge oci:layout:latest -o rootfs.tar
  docker save alpine | streamerge docker-archive:- -o rootfs/
  streamerge layers/*.tar -o rootfs.tar
  streamerge base.tar.gz app.tar.zst -o rootfs.tar.gz
  streamerge layers/*.tar.gz -o - | mkfs.erofs --tar=f rootfs.erofs
  streamerge base.tar <(curl -s https://example.org/app.tar.gz) -o rootfs.tar
  streamerge layers/*.tar -o rootfs/
  streamerge oci:layout:latest -o root.squashfs
  streamerge oci:layout:latest -o root.erofs -- -zlz4hc -C65536
  streamerge oci:layout:latest --add init.tar -o initramfs.cpio.zst

'streamerge inspect IMAGE' prints what would be merged, 'streamerge config IMAGE' the config that a runtime
needs; a layer called 'inspect' is './inspect'.

The output holds each path once, a directory before what is in it and a link after its target, with every
whiteout applied; it appears only when complete. The same layers give the same bytes.
"""


@click.command(
    cls=FilesystemCommand,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("layers", nargs=-1, required=True, metavar="IMAGE|LAYERS...")
@click.option("-o", "--output", required=True, metavar="FILE|DIR/",
              help="Where the merged root filesystem goes: a tar, or a directory if it ends in '/' or is one; '-' is "
              "standard output. .tar.gz, .tgz, .tar.zst, .tar.lz4, .tar.xz and .tar.bz2 compress the tar; .squashfs, "
              ".erofs and .ext4 are made by their tools; .cpio[.gz|.zst|.lz4|.xz] is for an initramfs.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(FORMATS), help="What to write, whatever the output's name.")
@click.option("--level", type=int, metavar="N", help="Compression level of a tar or cpio, as its tool counts.")
@filesystem_options
@click.option("--exclude", multiple=True, callback=patterns, metavar="PATTERN",
              help="Leave out what matches a gitignore pattern, e.g. 'dev/*'. May be repeated.")  # fmt: skip
@image_options
@click.option("--config-out", metavar="FILE", help="Write the image's runtime config, JSON, beside the merge.")
@click.option("--whiteouts", type=click.Choice([style.value for style in Whiteouts]), default="oci",
              show_default=True, help="Which whiteouts count: '.wh.' names (oci), overlayfs's own character "
              "devices 0:0 and opaque xattrs (overlay), or both (any).")  # fmt: skip
@click.option(
    "--force", is_flag=True, help="Replace a directory that is not empty; it stays until the new is complete."
)
@click.option("--same-owner/--no-same-owner", default=None,
              help="Give files in a directory the image's owners [default: as root] or the caller's.")  # fmt: skip
@click.option("--uid-map", multiple=True, callback=id_map, metavar="C:H:N",
              help="In a directory, let N user ids from C on be those from H on. May be repeated.")  # fmt: skip
@click.option("--gid-map", multiple=True, callback=id_map, metavar="C:H:N", help="The same for group ids.")
@click.option("--no-xattrs", is_flag=True, help="Leave extended attributes and ACLs out of a directory.")
@click.option("--max-entries", type=click.IntRange(min=0), metavar="N", help="End with an error before more entries.")
@click.option("--max-bytes", type=size, metavar="SIZE", help="End with an error before more bytes of content.")
@click.option("--rescan", is_flag=True, help="Read each layer's headers first. Needed only to write a layer that "
              "lists a path twice to a pipe; files do this by themselves.")  # fmt: skip
@click.option("--spool-memory", type=size, default=str(DEFAULT_SPOOL_MEMORY), metavar="SIZE",
              help="Memory for what pipes cannot give twice; more goes to $TMPDIR. [default: 64M]")  # fmt: skip
@click.option("--read-ahead", type=size, default=str(DEFAULT_READ_AHEAD), metavar="SIZE",
              help="Memory for what is decoded before its turn, at least 2M. [default: 20M]")  # fmt: skip
@click.option("--no-fsync", is_flag=True, help="Do not flush the output to disk before success is reported.")
@click.option("-v", "--verbose", is_flag=True, help="Say what a bare path was recognised as, and which image it is.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def command(**given: Any) -> None:
    """Merge layers; see _HELP."""
    options = Options(
        whiteouts=Whiteouts(given["whiteouts"]),
        rescan=given["rescan"],
        mtime=source_date_epoch(),
        read_ahead=given["read_ahead"],
        processes=True,
        spool_memory=given["spool_memory"],
        exclude=given["exclude"],
        max_entries=given["max_entries"],
        max_bytes=given["max_bytes"],
    )

    def warn(text: str) -> None:
        terminal.warning(text)

    source = open_input(given["layers"], platform=given["platform"], verify=not given["no_verify"], warn=warn)
    layers = [*source.layers, *layer_files(given["add"])]
    for line in recognised(source) if given["verbose"] else ():
        click.echo(f"streamerge: {line}", err=True)
    with (
        Terminal(len(layers), quiet=given["quiet"]) as terminal,
        config_output(given["config_out"], source, given["output"]),
        undone_on_error(
            lambda: _open_sink(given, [*source.paths, *given["add"]], terminal),
            lambda sink: sink.abort(),
            at_once=not is_fifo(given["output"]),
        ) as sink,
    ):
        report = merge(layers, sink, options, terminal)
    if not given["quiet"]:
        click.echo(summary(report), err=True)


_MOST_HELPERS = 3


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code. Errors are one line on stderr; a traceback would be a bug."""
    _fill_standard_descriptors()
    sys.setswitchinterval(1e-4)  # the decoding thread must not wait 5 ms for its turn after each chunk
    end_on_signals()
    try:
        chosen, name, rest = choose_command(command, sys.argv[1:] if arguments is None else arguments)
        chosen.main(args=rest, prog_name=name, standalone_mode=False)
        code = 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.UsageError as error:
        error.show()
        code = 2
    except UsageError as error:
        click.UsageError(str(error), click.Context(command, info_name="streamerge")).show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("streamerge: interrupted; nothing is left behind", err=True)
        code = 130
    except ClosedPipe:
        code = 1
    except (StreamergeError, click.ClickException) as error:
        click.echo(f"streamerge: {error}", err=True)
        code = 1
    except MemoryError:
        click.echo("streamerge: there is not enough memory", err=True)
        code = 1
    except (OSError, ImportError) as error:  # of no file of the user's: a module that cannot be loaded, a process
        click.echo(f"streamerge: cannot go on: {getattr(error, 'strerror', None) or error}", err=True)
        code = 1
    sys.exit(code)


def _open_sink(given: dict[str, Any], inputs: Sequence[str], terminal: Terminal) -> Sink:
    output = given["output"]
    if not output:
        raise click.UsageError("the output's name is empty")
    form = given["form"] or format_of(output)
    if output == "-" and form not in ("tar", "cpio"):
        what = "a directory" if form == "dir" else f"an image of {form}"
        raise click.UsageError(f"{what} cannot go to standard output")
    if output == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError(f"a {form} does not go to a terminal; use '-o FILE', or pipe it on")
    if output != "-":
        _refuse_input_as_output(output, inputs)
    if form == "dir" and given["force"] and not os.path.ismount(output):
        _refuse_input_within(output, inputs)
    same_owner = given["same_owner"]
    ownership = Ownership(uids=given["uid_map"], gids=given["gid_map"])
    options = SinkOptions(
        level=given["level"],
        fsync=not given["no_fsync"],
        force=given["force"],
        helpers=min((os.cpu_count() or 1) - 1, _MOST_HELPERS),
        xattrs=not given["no_xattrs"],
        ownership=ownership if same_owner is None else replace(ownership, same_owner=same_owner),
        filesystem=filesystem_from(given, form, terminal),
    )
    try:
        return open_sink(output, form, options, terminal.warning)
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


def _refuse_input_within(output: str, layers: Sequence[str]) -> None:
    """A directory that is replaced would take the layers in it along."""
    root = os.path.join(os.path.realpath(output), "")
    for layer in layers:
        if layer != "-" and os.path.join(os.path.realpath(layer), "").startswith(root):
            raise click.UsageError(f"'{layer}' lies in '{output}', which would be replaced")


def _fill_standard_descriptors() -> None:
    """Let no file of ours become descriptor 0, 1 or 2 where the caller has closed these."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
