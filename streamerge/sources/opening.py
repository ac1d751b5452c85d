"""The door to images: a reference or a bare path -> an image."""

from __future__ import annotations

import os
from collections.abc import Callable

from streamerge.errors import ImageError, show
from streamerge.sources.archive import Archive
from streamerge.sources.docker_archive import open_saved
from streamerge.sources.filestore import Directory, Files
from streamerge.sources.image import Image, ImageOptions
from streamerge.sources.oci import open_layout
from streamerge.sources.recognise import recognise
from streamerge.sources.reference import Reference, Transport, parse_reference
from streamerge.sources.skopeo_dir import open_directory

__all__ = ["find_image", "open_image"]

_FORMATS: dict[Transport, Callable[[Files, Reference, ImageOptions], Image]] = {
    Transport.OCI: open_layout,
    Transport.OCI_ARCHIVE: open_layout,
    Transport.DOCKER_ARCHIVE: open_saved,
    Transport.DIR: open_directory,
}


def open_image(reference: str | os.PathLike[str], options: ImageOptions | None = None) -> Image:
    """Open the image at a reference (``oci:DIR:latest``, ``docker-archive:app.tar``) or at a path that holds one.

    Its documents are read and verified; its layers are not touched. Raises ImageError, UnsupportedMediaType,
    DigestMismatch, UnsafePathError.

    >>> from streamerge import merge, open_image, open_tar
    >>> with open_image(f"oci:{example_layout}:latest") as image, open_tar(rootfs) as sink:
    ...     merge(image.layers, sink).layers == len(image.layers)
    True
    """
    reference = os.fspath(reference)
    image = find_image(reference, options)
    if image is None:
        shown = show(os.fsencode(reference))
        raise ImageError(
            f"'{shown}' is no image: neither an OCI layout, nor an archive of one or of docker save, nor a dir:"
            if os.path.exists(reference)
            else f"there is no '{shown}'; images are named as oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR"
        )
    return image


def find_image(reference: str | os.PathLike[str], options: ImageOptions | None = None) -> Image | None:
    """Open an image as :func:`open_image` does; return None for a path that holds no image: it may be a layer."""
    reference = os.fspath(reference)
    options = options if options is not None else ImageOptions()
    _ = options.wanted  # a wrong platform is an error before anything is opened
    parsed = parse_reference(reference)
    if parsed is not None:
        return _FORMATS[parsed.transport](_open(parsed), parsed, options)
    found = recognise(reference)
    if found is None:
        return None
    transport, files = found
    return _FORMATS[transport](files, Reference(transport, reference), options)


def _open(reference: Reference) -> Files:
    if reference.transport in (Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE):
        return Archive(reference.path)
    if not os.path.isdir(reference.path):
        shown = show(os.fsencode(reference.path))
        if os.path.exists(reference.path):
            raise ImageError(f"'{shown}' is no directory; an archive is oci-archive:FILE or docker-archive:FILE")
        raise ImageError(f"'{shown}' is not there")
    return Directory(reference.path)
