"""References to images: ``transport:path[:which]``, as skopeo and podman write them (containers-transports(5)).

=========================== ============================================================
oci:DIR[:WHICH]             an OCI image layout in a directory
oci-archive:FILE[:WHICH]    an OCI image layout in a tar
docker-archive:FILE[:WHICH] the output of ``docker save``, classic or since Docker 25
dir:DIR                     skopeo's own layout, which holds one image
=========================== ============================================================

WHICH is a name (the tag in an OCI layout; ``repo[:tag]`` in a docker-archive), ``@DIGEST`` of a manifest, or ``@N``,
the Nth image from 0. FILE may be ``-``, standard input. As in containers/image, the path ends at the first colon after
the transport, except for ``dir:``, where the path is the whole rest. ``oci:DIR@sha256:…`` means ``oci:DIR:@sha256:…``.
A path that contains a colon can be given without a transport.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from streamerge.errors import ImageError
from streamerge.sources.names import show_text

__all__ = ["Reference", "Transport", "parse_reference"]


class Transport(enum.Enum):
    """How an image is stored. The value is the word before the colon."""

    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    DIR = "dir"

    @property
    def description(self) -> str:
        """The transport in words, with an article."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Transport.OCI: "an OCI image layout",
    Transport.OCI_ARCHIVE: "an OCI image archive",
    Transport.DOCKER_ARCHIVE: "an archive of docker save",
    Transport.DIR: "a directory of skopeo's dir: transport",
}

_DIRECTORIES = (Transport.OCI, Transport.DIR)

_UNSUPPORTED = ("docker", "docker-daemon", "containers-storage", "ostree", "sif", "atomic", "registry", "tarball")
"""Transports of skopeo and podman that streamerge does not read."""

_PATH_AT_DIGEST = re.compile(r"(?P<path>[^:]+)@(?P<digest>sha(?:256|512):[a-f0-9]+)")


class Reference(NamedTuple):
    """Where an image is stored, and which of the images there: a name, ``@digest`` or ``@number``; None: the only one.

    >>> print(Reference(Transport.OCI, "layout", "latest"))
    oci:layout:latest
    """

    transport: Transport
    path: str
    which: str | None = None

    def to(self, which: str) -> Reference:
        """Return a reference to another image in the same place."""
        return self._replace(which=which)

    def __str__(self) -> str:
        return f"{self.transport.value}:{self.path}" + (f":{self.which}" if self.which is not None else "")


def parse_reference(text: str) -> Reference | None:
    """Return the reference in ``text``; None for a path without a transport. Raises ImageError.

    >>> parse_reference("oci-archive:app.tar:v1.2").which
    'v1.2'
    >>> parse_reference("./oci:strange") is None
    True
    """
    word, colon, rest = text.partition(":")
    if not colon:
        return None
    if word in _UNSUPPORTED:
        shown = show_text(text)
        raise ImageError(f"'{shown}' is not a local image; copy it first: skopeo copy {shown} oci:DIR")
    transport = next((transport for transport in Transport if transport.value == word), None)
    if transport is None:
        return None
    path, which = (rest, None) if transport is Transport.DIR else _split(rest)
    if not path:
        raise ImageError(f"'{word}:' needs a path, as in {word}:{'DIR' if transport in _DIRECTORIES else 'FILE'}")
    return Reference(transport, path, which)


def _split(rest: str) -> tuple[str, str | None]:
    match = _PATH_AT_DIGEST.fullmatch(rest)
    if match is not None:
        return match["path"], "@" + match["digest"]
    path, _, which = rest.partition(":")
    return path, which or None
