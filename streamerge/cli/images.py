"""The command line's part about images: what arguments mean, ``inspect``, ``config`` and ``--config-out``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from streamerge.errors import ImageError, show
from streamerge.interfaces import Layer
from streamerge.signals import undone_on_error
from streamerge.sinks.output import is_fifo, open_output
from streamerge.sources.files import layer_files
from streamerge.sources.reference import Reference, Transport, parse_reference

if TYPE_CHECKING:
    from streamerge.sources.image import Image

__all__ = ["Input", "choose_command", "config_output", "image_options", "open_input", "recognised"]

_F = TypeVar("_F", bound=Callable[..., object])


class Input(NamedTuple):
    """What the arguments of a merge stand for: an image's layers, or layers as they are."""

    layers: Sequence[Layer]
    paths: Sequence[str]
    image: Image | None = None
    bare: bool = False
    """Whether the image was recognised by what it holds, not named by a transport."""


def open_input(arguments: Sequence[str], *, platform: str | None, verify: bool, warn: Callable[[str], None]) -> Input:
    """One argument may be an image; several are layers, base first, as is one that is no image."""
    references = [_parsed(argument) for argument in arguments]
    if len(arguments) > 1:
        for argument, reference in zip(arguments, references, strict=True):
            if reference is not None:
                raise click.UsageError(f"'{argument}' is a whole image and is merged alone; a file is './{argument}'")
        return Input(_only_layers(arguments, platform), arguments)
    from streamerge.sources.opening import find_image  # 20 ms that layers do not need

    image = find_image(arguments[0], platform=platform, verify=verify, warn=warn)
    if image is None:
        return Input(_only_layers(arguments, platform), arguments)
    image.check()
    named = references[0]
    return Input(image.layers, [named.path if named is not None else arguments[0]], image, bare=named is None)


def _parsed(argument: str) -> Reference | None:
    try:
        return parse_reference(argument)
    except ImageError as error:
        raise click.UsageError(str(error)) from error


def _only_layers(arguments: Sequence[str], platform: str | None) -> list[Layer]:
    layers = layer_files(arguments)
    if platform is not None:
        raise click.UsageError("--platform chooses among an image's variants; layers have none")
    return layers


def recognised(given: Input) -> Iterator[str]:
    """What -v says: what a bare path was taken for, and which image was chosen."""
    image = given.image
    if image is None:
        return
    if given.bare:
        words = Transport(image.reference.partition(":")[0]).what
        yield f"'{_shown(given.paths[0])}' is {words}: {_shown(image.reference)}"
    name = f"{image.names[0]}, " if image.names else ""
    digest = image.digest if image.digest is not None else image.config_digest
    yield f"the image is {_shown(name)}{_shown(str(image.platform))}, {digest}, {len(image.layers)} layers"


def _shown(text: str) -> str:
    return show(os.fsencode(text))


@contextlib.contextmanager
def config_output(path: str | None, given: Input, output: str) -> Iterator[None]:
    """Write the image's runtime config to ``path``, which appears only if what is done meanwhile succeeds."""
    if path is None:
        yield
        return
    if given.image is None:
        raise click.UsageError("--config-out writes an image's config; layers have none")
    if path == output or (os.path.realpath(path) == os.path.realpath(output) and path != "-"):
        raise click.UsageError(f"'{path}' cannot be both the output and the config")
    data = given.image.runtime_json()
    with undone_on_error(
        lambda: open_output(path), lambda output: output.discard(), at_once=not is_fifo(path)
    ) as target:
        if target.rewinds:  # a file, which waits under another name
            target.write((data,))
            yield
        else:
            yield
            target.write((data,))
        target.commit()


# --- subcommands ------------------------------------------------------------------------------------


def image_options(command: _F) -> _F:
    """The options of everything that opens an image."""
    platform = click.option(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="Which variant of an image for several platforms. [default: this machine's]",
    )
    no_verify = click.option("--no-verify", is_flag=True, help="Do not check the image's digests and sizes.")
    return platform(no_verify(command))


_IMAGE = """\
IMAGE is oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF] or dir:DIR, or the bare path of such a
directory or archive. REF is a tag, @DIGEST, or @N for the Nth image.
"""

_INSPECT_HELP = f"""\
Print what would be merged: the image's platform, the highlights of its config, and its layers with digest,
size, media type and the line of its history. Layers are not read.

{_IMAGE}
\b
  streamerge inspect oci:layout:latest
  docker save alpine | streamerge inspect docker-archive:- --json
"""

_CONFIG_HELP = f"""\
Write the image's runtime config as JSON: Entrypoint, Cmd, Env, User, WorkingDir and whatever else it holds.

{_IMAGE}
\b
  streamerge config oci:layout:latest | jq -r .Entrypoint[0]
"""

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(help=_INSPECT_HELP, context_settings=_SETTINGS)
@click.argument("image")
@image_options
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def inspect_command(image: str, platform: str | None, no_verify: bool, as_json: bool) -> None:
    """Print an image; see _INSPECT_HELP."""
    from streamerge.query.describe import describe, describe_json
    from streamerge.sources.opening import open_image

    found = open_image(image, platform=platform, verify=not no_verify)
    click.echo(describe_json(found) if as_json else describe(found), nl=False)


@click.command(help=_CONFIG_HELP, context_settings=_SETTINGS)
@click.argument("image")
@image_options
def config_command(image: str, platform: str | None, no_verify: bool) -> None:
    """Write an image's runtime config; see _CONFIG_HELP."""
    from streamerge.sources.opening import open_image

    click.echo(open_image(image, platform=platform, verify=not no_verify).runtime_json(), nl=False)


_SUBCOMMANDS = {"inspect": inspect_command, "config": config_command}


def choose_command(merge: click.Command, arguments: Sequence[str]) -> tuple[click.Command, str, list[str]]:
    """The command that the first argument names, what it is called, and its arguments.

    Merging has no name, so that layers can follow at once; a layer that is called ``inspect`` is ``./inspect``.
    """
    subcommand = _SUBCOMMANDS.get(arguments[0]) if arguments else None
    if subcommand is None:
        return merge, "streamerge", list(arguments)
    return subcommand, f"streamerge {arguments[0]}", list(arguments[1:])
