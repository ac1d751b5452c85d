"""What a bare path is: an image, by what it holds, or a layer as always.

A directory is an OCI layout if it holds ``oci-layout`` or ``index.json``, skopeo's if it holds ``manifest.json``.
A tar is an image's archive if nothing stands at its top but what image archives hold there, and among it are
``oci-layout`` and ``index.json``, or ``manifest.json``. The first name that no image archive would hold (``etc/``,
``usr/``) settles that it is a layer, so telling layers costs next to nothing.
"""

from __future__ import annotations

import os
import re
import stat

from streamerge.errors import StreamergeError
from streamerge.sources.archive import Archive
from streamerge.sources.files import LayerFile
from streamerge.sources.filestore import Directory, Files
from streamerge.sources.reference import Transport
from streamerge.tar.reader import TarReader

__all__ = ["recognise"]

_OCI_MARKERS = ("oci-layout", "index.json")
_DOCKER_MARKER = "manifest.json"
_IMAGE_NAME = re.compile(
    r"(?:oci-layout|repositories|blobs|refs|[^/]+\.json|(?:sha256:)?[0-9a-f]{64}(?:\.tar|\.tar\.gz)?)(?:/.*)?",
    re.DOTALL,
)
"""What stands at the top of image archives: OCI's names, Docker's IDs, and what crane, jib and bazel make of them."""

_TELLING = re.compile(r"oci-layout|index\.json|manifest\.json|.*[0-9a-f]{64}.*", re.DOTALL)


def recognise(path: str) -> tuple[Transport, Files] | None:
    """The image at a path, opened; None for anything else, which may be a layer: opening it will tell.

    Raises ImageError for what looks like an image's archive and is cut short.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode):
        return _directory(path)
    return _archive(path) if stat.S_ISREG(mode) and _looks_like_an_image(path) else None


def _directory(path: str) -> tuple[Transport, Files] | None:
    held = {name for name in (*_OCI_MARKERS, _DOCKER_MARKER) if os.path.isfile(os.path.join(path, name))}
    if held.intersection(_OCI_MARKERS):
        return Transport.OCI, Directory(path)
    return (Transport.DIR, Directory(path)) if held else None


def _archive(path: str) -> tuple[Transport, Files] | None:
    """Docker's archives since version 25 are OCI archives too, and say more as such: that wins, as in podman load."""
    archive = Archive(path)
    if not all(map(_IMAGE_NAME.fullmatch, filter(None, archive.names))):
        return None
    if all(name in archive.names for name in _OCI_MARKERS):
        return Transport.OCI_ARCHIVE, archive
    return (Transport.DOCKER_ARCHIVE, archive) if _DOCKER_MARKER in archive.names else None


def _looks_like_an_image(path: str) -> bool:
    """Whether a tar, compressed or not, begins as image archives do."""
    try:
        stream = LayerFile(path).open()
    except StreamergeError:
        return False
    try:
        reader = TarReader(stream)
        while (entry := reader.next_entry()) is not None:
            name = entry.path.decode("utf-8", "surrogateescape")
            if name and not _IMAGE_NAME.fullmatch(name):
                return False
            if _TELLING.fullmatch(name):
                return True
    except StreamergeError:
        pass
    finally:
        stream.close()
    return False
