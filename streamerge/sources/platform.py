"""Platforms of images: operating system, architecture and variant, named as in Go."""

from __future__ import annotations

import platform as machine_platform

from streamerge.errors import ImageError
from streamerge.sources.documents import Platform
from streamerge.sources.names import show_text

__all__ = ["parse_platform", "rank", "this_machine"]

_MACHINES = {
    "x86_64": ("amd64", None),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", None),
    "i686": ("386", None),
    "loongarch64": ("loong64", None),
}
"""The kernel's name of a machine -> Go's architecture and variant. Other machines have the same name in both."""

_ALIASES: dict[str, tuple[str, str | None]] = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "i386": ("386", None),
    "i686": ("386", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
"""Other common names of architectures -> Go's architecture and variant."""

_VARIANTS = {
    "arm": ("v8", "v7", "v6", "v5"),
    "arm64": ("v8",),
    "amd64": ("v4", "v3", "v2", "v1"),
}
"""The variants of an architecture. Each can run images for those after it."""

_DEFAULTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
"""The variant that is meant if none is given."""


def this_machine() -> Platform:
    """Return this machine's platform, which images are chosen for by default: always Linux, as in Docker."""
    name = machine_platform.machine().lower()
    architecture, variant = _MACHINES.get(name, (name, None))
    return Platform(os="linux", architecture=architecture, variant=variant)


def parse_platform(text: str) -> Platform:
    """Return the platform in ``os/arch[/variant]``, Linux on an architecture, or ``linux`` on this machine's.

    Raises ImageError.

    >>> print(parse_platform("linux/arm/v7"), parse_platform("aarch64"), parse_platform("arm/7"))
    linux/arm/v7 linux/arm64 linux/arm/v7
    """
    if text.lower() == "linux":
        return this_machine()
    first = text.partition("/")[0].lower()
    if first in _VARIANTS or first in _ALIASES:
        text = f"linux/{text}"
    parts = text.split("/") if "/" in text else ["linux", text]
    if len(parts) > 3 or not all(part and part.isascii() and part.isprintable() for part in parts):
        shown = show_text(text)
        raise ImageError(f"'{shown}' is not a platform; write os/arch[/variant], as in linux/amd64 or linux/arm/v7")
    os, architecture = parts[0].lower(), parts[1].lower()
    architecture, variant = _ALIASES.get(architecture, (architecture, None))
    if len(parts) == 3:
        variant = parts[2].lower()
        variant = f"v{variant}" if variant.isdigit() else variant
    return Platform(os=os, architecture=architecture, variant=variant)


def rank(wanted: Platform, offered: Platform) -> int | None:
    """Return how well an image fits a platform: 0 is best; None if it cannot run there.

    An image for an older variant of the architecture runs on a newer one.
    """
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    default = _DEFAULTS.get(wanted.architecture, "")
    offered_variant, wanted_variant = offered.variant or default, wanted.variant or default
    variants = _VARIANTS.get(wanted.architecture, ())
    if offered_variant == wanted_variant:
        return 0
    if offered_variant not in variants or wanted_variant not in variants:
        return None
    distance = variants.index(offered_variant) - variants.index(wanted_variant)
    return distance if distance > 0 else None
