"""Recognise an image at a path by its content. Other files are layers.

A directory is an OCI layout if it holds ``oci-layout`` or ``index.json``, and skopeo's ``dir:`` layout if it holds
``manifest.json``. A tar is an image archive if it holds ``oci-layout`` and ``index.json``, or ``manifest.json``, and at
its top level only names that image archives have. The first other name (``etc/``, ``usr/``) shows that it is a layer,
so recognising a layer costs next to nothing.
"""

from __future__ import annotations

import os
import re
import stat

from streamerge.errors import StreamergeError
from streamerge.sources.archive import ArchiveStore
from streamerge.sources.files import LayerFile
from streamerge.sources.filestore import DirectoryStore, FileStore
from streamerge.sources.reference import Transport
from streamerge.tar.reader import TarReader

__all__ = ["recognise"]

_OCI_MARKERS = ("oci-layout", "index.json")
_DOCKER_MARKER = "manifest.json"
_IMAGE_NAME = re.compile(
    r"(?:oci-layout|repositories|blobs|refs|[^/]+\.json|(?:sha256:)?[0-9a-f]{64}(?:\.tar|\.tar\.gz)?)(?:/.*)?",
    re.DOTALL,
)
"""Names at the top level of image archives: OCI's, Docker's IDs, and their variants by crane, jib and bazel."""

_ONLY_IN_IMAGES = re.compile(r"oci-layout|index\.json|manifest\.json|.*[0-9a-f]{64}.*", re.DOTALL)
"""Names that layers do not have at their top level."""


def recognise(path: str) -> tuple[Transport, FileStore] | None:
    """Return how the image at a path is stored, and its opened file store; None if there is no image.

    Raises ImageError for an image archive that is truncated.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode):
        return _directory(path)
    return _archive(path) if stat.S_ISREG(mode) and _looks_like_an_image(path) else None


def _directory(path: str) -> tuple[Transport, FileStore] | None:
    found = {name for name in (*_OCI_MARKERS, _DOCKER_MARKER) if os.path.isfile(os.path.join(path, name))}
    if found.intersection(_OCI_MARKERS):
        return Transport.OCI, DirectoryStore(path)
    return (Transport.DIR, DirectoryStore(path)) if found else None


def _archive(path: str) -> tuple[Transport, FileStore] | None:
    """Prefer OCI, as podman load does: Docker's archives since version 25 are both, and say more as OCI archives."""
    archive = ArchiveStore(path)
    if not all(map(_IMAGE_NAME.fullmatch, filter(None, archive.names))):
        return None
    if all(name in archive.names for name in _OCI_MARKERS):
        return Transport.OCI_ARCHIVE, archive
    return (Transport.DOCKER_ARCHIVE, archive) if _DOCKER_MARKER in archive.names else None


def _looks_like_an_image(path: str) -> bool:
    """Return whether a tar, compressed or not, begins like an image archive."""
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
            if _ONLY_IN_IMAGES.fullmatch(name):
                return True
    except StreamergeError:
        pass
    finally:
        stream.close()
    return False
