"""``streamerge inspect``: print what an image holds."""

from __future__ import annotations

import click

from streamerge.cli.inputs import IMAGE_HELP, SETTINGS, image_options

__all__ = ["inspect_command"]

_HELP = f"""\
Print what would be merged: the image's platform, the main fields of its config, and its layers with digest, size,
media type and the command that made them. Does not read the layers.

{IMAGE_HELP}
\b
  streamerge inspect oci:layout:latest
  docker save alpine | streamerge inspect docker-archive:- --json
"""


@click.command(help=_HELP, context_settings=SETTINGS)
@click.argument("image")
@image_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect_command(image: str, platform: str | None, no_verify: bool, as_json: bool) -> None:
    """Print an image; see _HELP."""
    from streamerge.query.describe import describe, describe_json
    from streamerge.sources.image import ImageOptions
    from streamerge.sources.opening import open_image

    found = open_image(image, ImageOptions(platform, verify=not no_verify))
    click.echo(describe_json(found) if as_json else describe(found), nl=False)
