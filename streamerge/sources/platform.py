"""Which of an image's variants: operating system, architecture, variant, named as in Go."""

from __future__ import annotations

import platform as machine_platform

from streamerge.errors import ImageError, show
from streamerge.sources.documents import Platform

__all__ = ["parse_platform", "rank", "this_machine"]

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
"""What the kernel calls a machine, and what Go does; others have one name."""

_SAME = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
"""Other names for architectures, which people type."""

_VARIANTS = {
    "arm": ("v8", "v7", "v6", "v5"),
    "arm64": ("v8",),
    "amd64": ("v4", "v3", "v2", "v1"),
}
"""Variants, each of which runs those after it."""

_DEFAULTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
"""What no variant means."""


def this_machine() -> Platform:
    """The platform that images are chosen for unless told: this machine's, always Linux, as in Docker."""
    name = machine_platform.machine().lower()
    architecture, variant = _MACHINES.get(name, (name, ""))
    return Platform(os="linux", architecture=architecture, variant=variant or None)


def parse_platform(text: str) -> Platform:
    """Read ``os/arch[/variant]``, or an architecture alone, which is Linux's. Raises ImageError.

    >>> print(parse_platform("linux/arm/v7"), parse_platform("aarch64"))
    linux/arm/v7 linux/arm64
    """
    parts = text.split("/") if "/" in text else ["linux", text]
    if len(parts) > 3 or not all(part and part.isascii() and part.isprintable() for part in parts):
        shown = show(text[:100].encode("utf-8", "surrogateescape"))
        raise ImageError(f"'{shown}' is no platform; write os/arch or os/arch/variant, as linux/amd64 or linux/arm/v7")
    os, architecture = parts[0].lower(), parts[1].lower()
    variant = parts[2].lower() if len(parts) == 3 else None
    return Platform(os=os, architecture=_SAME.get(architecture, architecture), variant=variant)


def rank(wanted: Platform, offered: Platform) -> int | None:
    """How well an image suits: 0 is best, None is not at all. A lesser variant runs on a greater one."""
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    default = _DEFAULTS.get(wanted.architecture, "")
    have, want = offered.variant or default, wanted.variant or default
    variants = _VARIANTS.get(wanted.architecture, ())
    if have == want:
        return 0
    if have not in variants or want not in variants:
        return None
    distance = variants.index(have) - variants.index(want)
    return distance if distance > 0 else None
