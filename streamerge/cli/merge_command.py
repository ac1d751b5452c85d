"""The merge command: arguments -> layers and sink -> merge."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from streamerge import __version__
from streamerge.cli.arguments import id_map, patterns, size, source_date_epoch
from streamerge.cli.filesystems import FilesystemCommand, filesystem_from, filesystem_options
from streamerge.cli.inputs import IMAGE_HELP, SETTINGS, config_output, image_options, open_input, recognised
from streamerge.cli.terminal import Terminal, summary
from streamerge.engine.merging import merge
from streamerge.interfaces import ImageLayers, Sink
from streamerge.options import DEFAULT_READ_AHEAD, DEFAULT_SPOOL_MEMORY, Options, Whiteouts
from streamerge.signals import undone_on_error
from streamerge.sinks.formats import FORMATS, PIPED, format_of
from streamerge.sinks.opening import SinkOptions, open_sink
from streamerge.sinks.output import is_fifo
from streamerge.sources.files import layer_files
from streamerge.sources.reference import Transport

if TYPE_CHECKING:
    from streamerge.sinks.directory.ownership import Ownership

__all__ = ["merge_command"]

_MAX_WORKERS = 3

_HELP = f"""\
Merge the layers of a container image into one root filesystem.

{IMAGE_HELP}
LAYERS are tar files, the base first and the newest last, as in a manifest. Each can be plain or compressed (gzip, zstd,
lz4, xz, bzip2); the format is detected from the content, not the name. A layer can also be a pipe: '-' is standard
input.

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

'streamerge inspect IMAGE' prints what would be merged. 'streamerge config IMAGE' prints the runtime config. If a layer
is called 'inspect', write './inspect'.

The output holds each path once, with all whiteouts applied; a directory comes before its content, and a hard link after
its target. The output appears only when it is complete. The same layers always give the same bytes.
"""


@click.command(
    cls=FilesystemCommand,
    help=_HELP,
    context_settings=SETTINGS,
)
@click.argument("layers", nargs=-1, required=True, metavar="IMAGE|LAYERS...")
@click.option(
    "-o",
    "--output",
    "outputs",
    required=True,
    multiple=True,
    metavar="FILE|DIR/",
    help="Where to write the merged root filesystem. A name that ends in '/', or an existing directory, is a "
    "directory; '-' is standard output. The suffix sets the format: .tar.gz, .tgz, .tar.zst, .tar.lz4, .tar.xz "
    "or .tar.bz2 for a compressed tar; .squashfs, .erofs or .ext4 for a file system image; .cpio, .cpio.gz, "
    ".cpio.zst, .cpio.lz4 or .cpio.xz for an initramfs. A name without a suffix is a plain tar.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="The output's format. [default: set by the output's name]",
)
@click.option(
    "--level",
    type=int,
    metavar="N",
    help="Compression level of a tar or cpio, in the range of its codec.",
)
@filesystem_options
@click.option(
    "--exclude",
    multiple=True,
    callback=patterns,
    metavar="PATTERN",
    help="Leave out paths that match a gitignore pattern, such as 'dev/*'. Can be repeated.",
)
@image_options
@click.option(
    "--config-out",
    metavar="FILE",
    help="Also write the image's runtime config as JSON.",
)
@click.option(
    "--whiteouts",
    type=click.Choice([style.value for style in Whiteouts]),
    default="oci",
    show_default=True,
    help="The kind of whiteouts: '.wh.' names (oci), character devices 0:0 and opaque xattrs as in overlayfs "
    "(overlay), or both (any).",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace a directory that is not empty. The old one stays until the new one is complete.",
)
@click.option(
    "--same-owner/--no-same-owner",
    default=None,
    help="Give the files in a directory the owners from the image (default for root), or own all of them yourself "
    "(default for others).",
)
@click.option(
    "--uid-map",
    multiple=True,
    callback=id_map,
    metavar="C:H:N",
    help="In a directory, map N user ids: C and up in the image become H and up on the host. Can be repeated.",
)
@click.option(
    "--gid-map",
    multiple=True,
    callback=id_map,
    metavar="C:H:N",
    help="Map group ids in the same way.",
)
@click.option(
    "--no-xattrs",
    is_flag=True,
    help="Write no extended attributes and no ACLs to a directory.",
)
@click.option(
    "--max-entries",
    type=click.IntRange(min=0),
    metavar="N",
    help="Stop with an error if the output would have more entries.",
)
@click.option(
    "--max-bytes",
    type=size,
    metavar="SIZE",
    help="Stop with an error if the output would have more bytes of content.",
)
@click.option(
    "--rescan",
    is_flag=True,
    help="Read the headers of each layer first. Needed only if a layer lists a path twice and the output is a pipe; "
    "otherwise this happens automatically.",
)
@click.option(
    "--spool-memory",
    type=size,
    default=str(DEFAULT_SPOOL_MEMORY),
    metavar="SIZE",
    help="Memory for data that cannot be read again later; more goes to $TMPDIR. [default: 64M]",
)
@click.option(
    "--read-ahead",
    type=size,
    default=str(DEFAULT_READ_AHEAD),
    metavar="SIZE",
    help="Memory for reading layers ahead, at least 2M. [default: 20M]",
)
@click.option("--no-fsync", is_flag=True, help="Do not wait until the output is on disk.")
@click.option("-v", "--verbose", is_flag=True, help="Print what was recognised at a path, and which image was chosen.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def merge_command(**given: Any) -> None:
    """Merge layers; see _HELP."""
    given["output"] = _only_output(given["outputs"])
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

    terminal = Terminal(quiet=given["quiet"])
    source = open_input(given["layers"], platform=given["platform"], verify=not given["no_verify"], warn=terminal.warn)
    layers = ImageLayers((*source.layers, *layer_files(given["add"])))
    for line in recognised(source) if given["verbose"] else ():
        click.echo(f"streamerge: {line}", err=True)
    with (
        terminal,
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


def _only_output(outputs: Sequence[str]) -> str:
    if len(outputs) > 1:
        raise click.UsageError(f"-o is given {len(outputs)} times; a merge has one output")
    (output,) = outputs
    if any(output.startswith(f"{transport.value}:") for transport in Transport):
        raise click.UsageError(
            f"'{output}' is the name of an image, which cannot be written; for a file, write './{output}'"
        )
    return output


def _format(output: str) -> str:
    form = format_of(output)
    if form is None:
        raise click.UsageError(f"the suffix of '{output}' is not known; name the format with --format")
    return form


def _open_sink(given: dict[str, Any], inputs: Sequence[str], terminal: Terminal) -> Sink:
    output = given["output"]
    if not output:
        raise click.UsageError("the output's name is empty; name a file, a directory or '-'")
    form = given["form"] or _format(output)
    if output == "-" and form not in PIPED:
        what = "a directory" if form == "dir" else f"an image ({form})"
        raise click.UsageError(f"{what} cannot be written to standard output; name a file or directory")
    if output == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError(f"a {form} cannot be written to a terminal; use '-o FILE' or a pipe")
    if output != "-":
        _refuse_input_as_output(output, inputs)
    if form == "dir" and given["force"] and not os.path.ismount(output):
        _refuse_input_within(output, inputs)
    options = SinkOptions(
        level=given["level"],
        fsync=not given["no_fsync"],
        force=given["force"],
        workers=min((os.cpu_count() or 1) - 1, _MAX_WORKERS),
        xattrs=not given["no_xattrs"],
        ownership=_ownership(given) if form == "dir" else None,
        filesystem=filesystem_from(given, form, terminal),
    )
    try:
        return open_sink(output, form, options, terminal.warn)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _ownership(given: dict[str, Any]) -> Ownership:
    from streamerge.sinks.directory.ownership import IdMap, Ownership, is_root

    same_owner = given["same_owner"] if given["same_owner"] is not None else is_root()
    return Ownership(same_owner, given["uid_map"] or IdMap(), given["gid_map"] or IdMap())


def _refuse_input_as_output(output: str, layers: Sequence[str]) -> None:
    """Raise UsageError if a layer is the output: ``-o rootfs.tar *.tar``, run twice, names its own result."""
    try:
        status = os.stat(output)
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        return
    for layer in layers:
        if layer != "-" and os.path.exists(layer) and os.path.samestat(status, os.stat(layer)):
            raise click.UsageError(f"'{output}' is both the output and one of the layers; name another output")


def _refuse_input_within(output: str, layers: Sequence[str]) -> None:
    """Raise UsageError if a layer lies in the directory that the output replaces."""
    root = os.path.join(os.path.realpath(output), "")
    for layer in layers:
        if layer != "-" and os.path.join(os.path.realpath(layer), "").startswith(root):
            raise click.UsageError(
                f"'{layer}' is in '{output}', which would be replaced; move it or name another output"
            )
