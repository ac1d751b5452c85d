"""The arguments of a merge: an image, or layers. Also ``--config-out``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from streamerge.errors import ImageError, show
from streamerge.interfaces import Layer
from streamerge.query.sizes import show_count
from streamerge.signals import undone_on_error
from streamerge.sinks.output import is_fifo, open_output
from streamerge.sources.files import layer_files
from streamerge.sources.reference import Reference, Transport, parse_reference

if TYPE_CHECKING:
    from streamerge.sources.image import Image

__all__ = ["IMAGE_HELP", "SETTINGS", "Input", "config_output", "image_options", "open_input", "recognised"]

_F = TypeVar("_F", bound=Callable[..., object])


class Input(NamedTuple):
    """The layers to merge: those of an image, or single layers."""

    layers: Sequence[Layer]
    paths: Sequence[str]
    image: Image | None = None
    bare: bool = False
    """Whether the image was given as a path without a transport."""


def open_input(arguments: Sequence[str], *, platform: str | None, verify: bool, warn: Callable[[str], None]) -> Input:
    """Open an image if it is the only argument; otherwise all arguments are layers, base first."""
    references = [_parsed(argument) for argument in arguments]
    if len(arguments) > 1:
        for argument, reference in zip(arguments, references, strict=True):
            if reference is not None:
                raise click.UsageError(
                    f"'{argument}' is an image and cannot be merged with others; for a file, write './{argument}'"
                )
        layers = _only_layers(arguments, platform)
        _check_order(arguments, warn)
        return Input(layers, arguments)
    from streamerge.sources.image import ImageOptions  # takes 20 ms; layers do not need it
    from streamerge.sources.opening import find_image

    image = find_image(arguments[0], ImageOptions(platform, verify, warn))
    if image is None:
        return Input(_only_layers(arguments, platform), arguments)
    image.check()
    named = references[0]
    return Input(image.layers, [named.path if named is not None else arguments[0]], image, bare=named is None)


def _check_order(paths: Sequence[str], warn: Callable[[str], None]) -> None:
    """Warn about layers in the order of a shell's glob if their numbers say another one: l1 l10 l2."""
    meant = sorted(paths, key=_natural)
    if list(paths) == sorted(paths) and meant != list(paths):
        names = " ".join(os.path.basename(path) for path in meant)
        warn(f"the layers are in alphabetical order, not in the order of their numbers, which would be {_shown(names)}")


def _natural(path: str) -> list[tuple[bool, int, str]]:
    """Return a sort key in which numbers count as numbers, before text."""
    parts = re.split(r"([0-9]+)", path)
    return [(False, int(part), part) if part.isdigit() else (True, 0, part) for part in parts]


def _parsed(argument: str) -> Reference | None:
    try:
        return parse_reference(argument)
    except ImageError as error:
        raise click.UsageError(str(error)) from error


def _only_layers(arguments: Sequence[str], platform: str | None) -> list[Layer]:
    layers = layer_files(arguments)
    if platform is not None:
        raise click.UsageError("--platform has no effect on layers; it chooses between the variants of an image")
    return layers


def recognised(given: Input) -> Iterator[str]:
    """Yield the lines of -v: what was recognised at a path, and which image was chosen."""
    image = given.image
    if image is None:
        return
    if given.bare:
        what = Transport(image.reference.partition(":")[0]).description
        yield f"'{_shown(given.paths[0])}' is {what}: {_shown(image.reference)}"
    name = f"{image.names[0]}, " if image.names else ""
    digest = image.digest if image.digest is not None else image.config_digest
    layers = show_count(len(image.layers), "layer")
    yield f"the image is {_shown(name)}{_shown(str(image.platform))}, {digest}, {layers}"


def _shown(text: str) -> str:
    return show(os.fsencode(text))


@contextlib.contextmanager
def config_output(path: str | None, given: Input, output: str) -> Iterator[None]:
    """Write the image's runtime config to ``path``. The file appears only if the block ends without an error."""
    if path is None:
        yield
        return
    if given.image is None:
        raise click.UsageError("--config-out needs an image; layers have no config")
    if path == output or (os.path.realpath(path) == os.path.realpath(output) and path != "-"):
        raise click.UsageError(f"'{path}' cannot be both the output and the config; name two files")
    data = given.image.runtime_json()
    with undone_on_error(
        lambda: open_output(path), lambda output: output.discard(), at_once=not is_fifo(path)
    ) as target:
        if target.rewinds:  # a file: it gets its name when the merge has succeeded
            target.write((data,))
            yield
        else:
            yield
            target.write((data,))
        target.commit()


def image_options(command: _F) -> _F:
    """Add the options of all commands that open an image."""
    platform = click.option(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="The platform to choose from an image for several platforms. [default: this machine's]",
    )
    no_verify = click.option("--no-verify", is_flag=True, help="Do not verify the digests and sizes of the image.")
    return platform(no_verify(command))


IMAGE_HELP = """\
IMAGE is oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF] or dir:DIR, as in skopeo, or just the path of
such a directory or archive. REF is a tag, @DIGEST, or @N for the Nth image, counted from 0.
"""

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Click's settings for all commands."""
