"""What the arguments of a merge mean: an image or layers; and ``--config-out``."""

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

__all__ = ["IMAGE_HELP", "SETTINGS", "Input", "config_output", "image_options", "open_input", "recognised"]

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
    from streamerge.sources.image import ImageOptions  # 20 ms that layers do not need
    from streamerge.sources.opening import find_image

    image = find_image(arguments[0], ImageOptions(platform, verify, warn))
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


def image_options(command: _F) -> _F:
    """The options of everything that opens an image."""
    platform = click.option(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="Which variant of an image for several platforms. [default: this machine's]",
    )
    no_verify = click.option("--no-verify", is_flag=True, help="Do not check the image's digests and sizes.")
    return platform(no_verify(command))


IMAGE_HELP = """\
IMAGE is oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF] or dir:DIR, or the bare path of such a
directory or archive. REF is a tag, @DIGEST, or @N for the Nth image.
"""

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""What all commands tell click."""
