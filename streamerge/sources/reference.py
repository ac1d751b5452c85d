"""References: ``transport:path[:which]``, as skopeo and podman write them (containers-transports(5)).

======================== =================================================================================
oci:DIR[:WHICH]          an OCI image layout directory
oci-archive:FILE[:WHICH] the same in a tar
docker-archive:FILE[:WHICH] what ``docker save`` writes, classic or since Docker 25
dir:DIR                  skopeo's own; one image
======================== =================================================================================

WHICH is a name (an OCI layout's tag; for docker-archive ``repo[:tag]``), ``@DIGEST`` of a manifest, or ``@N``,
the Nth image from 0. FILE may be ``-``, standard input. As in containers/image, the first colon after the
transport ends the path, save for ``dir:``, where the path is all that follows; ``oci:DIR@sha256:…`` is taken
as ``oci:DIR:@sha256:…``. A path that holds a colon can be given bare, without a transport.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from streamerge.errors import ImageError, show

__all__ = ["Reference", "Transport", "parse_reference"]


class Transport(enum.Enum):
    """Where an image is; the value is the word before the colon."""

    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    DIR = "dir"

    @property
    def what(self) -> str:
        """What it is, in words."""
        return _WORDS[self]


_WORDS = {
    Transport.OCI: "an OCI image layout",
    Transport.OCI_ARCHIVE: "an OCI image archive",
    Transport.DOCKER_ARCHIVE: "an archive of docker save",
    Transport.DIR: "a directory of skopeo's dir: transport",
}

_ELSEWHERE = ("docker", "docker-daemon", "containers-storage", "ostree", "sif", "atomic", "registry", "tarball")
"""Transports of the same tools that streamerge does not read."""

_DIGEST_BEHIND = re.compile(r"(?P<path>[^:]+)@(?P<digest>sha(?:256|512):[a-f0-9]+)")


class Reference(NamedTuple):
    """An image's place, and ``which`` of the images there: a name, ``@digest``, ``@number``, or nothing.

    >>> print(Reference(Transport.OCI, "layout", "latest"))
    oci:layout:latest
    """

    transport: Transport
    path: str
    which: str = ""

    def __str__(self) -> str:
        return f"{self.transport.value}:{self.path}" + (f":{self.which}" if self.which else "")


def parse_reference(text: str) -> Reference | None:
    """Read a reference; None for what starts with no transport: a bare path. Raises ImageError.

    >>> parse_reference("oci-archive:app.tar:v1.2").which
    'v1.2'
    >>> parse_reference("./oci:strange") is None
    True
    """
    word, colon, rest = text.partition(":")
    if not colon:
        return None
    if word in _ELSEWHERE:
        shown = show(text.encode("utf-8", "surrogateescape"))
        raise ImageError(f"'{shown}' is not on this disk; fetch it first: skopeo copy {shown} oci:DIR")
    transport = next((t for t in Transport if t.value == word), None)
    if transport is None:
        return None
    path, which = (rest, "") if transport is Transport.DIR else _split(rest)
    if not path:
        raise ImageError(f"'{word}:' needs a path, as in {word}:{'DIR' if transport in _DIRECTORIES else 'FILE'}")
    return Reference(transport, path, which)


_DIRECTORIES = (Transport.OCI, Transport.DIR)


def _split(rest: str) -> tuple[str, str]:
    match = _DIGEST_BEHIND.fullmatch(rest)
    if match is not None:
        return match["path"], "@" + match["digest"]
    path, _, which = rest.partition(":")
    return path, which
