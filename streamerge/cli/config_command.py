"""``streamerge config``: write an image's runtime config."""

from __future__ import annotations

import click

from streamerge.cli.inputs import IMAGE_HELP, SETTINGS, image_options

__all__ = ["config_command"]

_HELP = f"""\
Write the image's runtime config as JSON: Entrypoint, Cmd, Env, User, WorkingDir and all other fields.

{IMAGE_HELP}
\b
  streamerge config oci:layout:latest | jq -r .Entrypoint[0]
"""


@click.command(help=_HELP, context_settings=SETTINGS)
@click.argument("image")
@image_options
def config_command(image: str, platform: str | None, no_verify: bool) -> None:
    """Write an image's runtime config; see _HELP."""
    from streamerge.sources.image import ImageOptions
    from streamerge.sources.opening import open_image

    click.echo(open_image(image, ImageOptions(platform, verify=not no_verify)).runtime_json(), nl=False)
