"""Open images: a reference or a path -> an image."""

from __future__ import annotations

import os
from collections.abc import Callable

from streamerge.errors import ImageError, show
from streamerge.sources.archive import ArchiveStore
from streamerge.sources.docker_archive import open_docker_archive
from streamerge.sources.filestore import DirectoryStore, FileStore
from streamerge.sources.image import Image, ImageOptions
from streamerge.sources.oci import open_layout
from streamerge.sources.recognise import recognise
from streamerge.sources.reference import Reference, Transport, parse_reference
from streamerge.sources.skopeo_dir import open_skopeo_dir

__all__ = ["find_image", "open_image"]

_FORMATS: dict[Transport, Callable[[FileStore, Reference, ImageOptions], Image]] = {
    Transport.OCI: open_layout,
    Transport.OCI_ARCHIVE: open_layout,
    Transport.DOCKER_ARCHIVE: open_docker_archive,
    Transport.DIR: open_skopeo_dir,
}


def open_image(reference: str | os.PathLike[str], options: ImageOptions | None = None) -> Image:
    """Return the image at a reference (``oci:DIR:latest``, ``docker-archive:app.tar``) or at the path of one.

    Reads and verifies its documents, but not its layers. Raises ImageError, UnsupportedMediaType, DigestMismatch,
    UnsafePathError.

    >>> from streamerge import merge, open_image, open_tar
    >>> with open_image(f"oci:{example_layout}:latest") as image, open_tar(rootfs) as sink:
    ...     merge(image.layers, sink).layers == len(image.layers)
    True
    """
    reference = os.fspath(reference)
    image = find_image(reference, options)
    if image is not None:
        return image
    shown = show(os.fsencode(reference))
    if os.path.exists(reference):
        *others, last = (transport.description for transport in Transport)
        raise ImageError(f"'{shown}' is not an image; expected {', '.join(others)} or {last}")
    raise ImageError(
        f"'{shown}' does not exist; name an image as oci:DIR, oci-archive:FILE, docker-archive:FILE or dir:DIR"
    )


def find_image(reference: str | os.PathLike[str], options: ImageOptions | None = None) -> Image | None:
    """Return the image as :func:`open_image` does; None for a path without an image, which may be a layer."""
    reference = os.fspath(reference)
    options = options if options is not None else ImageOptions()
    options.check()
    parsed = parse_reference(reference)
    if parsed is not None:
        return _FORMATS[parsed.transport](_open(parsed), parsed, options)
    found = recognise(reference)
    if found is None:
        return None
    transport, files = found
    return _FORMATS[transport](files, Reference(transport, reference), options)


def _open(reference: Reference) -> FileStore:
    if reference.transport in (Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE):
        return ArchiveStore(reference.path)
    if os.path.isdir(reference.path):
        return DirectoryStore(reference.path)
    shown = show(os.fsencode(reference.path))
    if os.path.exists(reference.path):
        raise ImageError(f"'{shown}' is not a directory; for an archive use oci-archive:FILE or docker-archive:FILE")
    raise ImageError(f"'{shown}' does not exist")
