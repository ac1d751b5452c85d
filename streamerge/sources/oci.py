"""OCI image layouts, in a directory or an archive: image-layout.md.

"The image layout MUST contain … ``blobs`` directory, ``oci-layout`` file, ``index.json`` file"; a blob "MUST have its
content stored in a file under ``blobs/<alg>/<encoded>``".
"""

from __future__ import annotations

import msgspec

from streamerge.digest import Digest
from streamerge.errors import ImageError, UnsupportedMediaType, show
from streamerge.sources.blob import Blob, read_document
from streamerge.sources.choose import Chooser
from streamerge.sources.documents import MAX_DOCUMENT, Descriptor, Index, decode_document
from streamerge.sources.filestore import Files
from streamerge.sources.image import Image, ImageOptions, build_image, read_blob
from streamerge.sources.media import DocumentKind, document_kind, kind_of
from streamerge.sources.reference import Reference

__all__ = ["LayoutStore", "open_layout"]


class LayoutStore:
    """The blobs of a layout."""

    def __init__(self, files: Files) -> None:
        self.name = files.name
        self._files = files

    def blob(self, digest: Digest) -> Blob | None:
        """The blob of that digest."""
        return self._files.find(f"blobs/{digest.algorithm}/{digest.encoded}")

    manifest = blob


def open_layout(files: Files, reference: Reference, options: ImageOptions) -> Image:
    """The image in a layout that a reference means. Raises ImageError, UnsupportedMediaType, DigestMismatch."""
    layout = LayoutStore(files)
    index = _read_index(files)

    def load(descriptor: Descriptor) -> bytes:
        digest = Digest.parse(descriptor.digest)
        return read_blob(layout.manifest(digest), descriptor, f"the manifest {digest} in {files.name}", options)

    chooser = Chooser(files.name, options.wanted, load)
    descriptor = _unlisted(layout, index, reference.which) or chooser.choose(index, reference.which)
    data = load(descriptor)
    what = f"the manifest {descriptor.digest} in {files.name}"
    _refuse_unknown(descriptor, what)
    if document_kind(data, what, kind_of(descriptor.media_type)) is DocumentKind.INDEX:
        names = descriptor
        descriptor = msgspec.structs.replace(chooser.expand(data, what), annotations=names.annotations)
        data = load(descriptor)
    return build_image(layout, data, descriptor, options, reference=str(reference), media_type=descriptor.media_type)


def _read_index(files: Files) -> Index:
    _check_version(files)
    extent = files.find("index.json")
    if extent is None:
        raise ImageError(f"{files.name} is no OCI image layout: it has no index.json")
    return decode_document(read_document(extent, MAX_DOCUMENT), Index, extent.name)


class _Version(msgspec.Struct, rename="camel"):
    image_layout_version: str


def _check_version(files: Files) -> None:
    """image-layout.md: oci-layout "MUST contain an imageLayoutVersion field"; only 1.x is known here."""
    extent = files.find("oci-layout")
    if extent is None:
        raise ImageError(f"{files.name} is no OCI image layout: it has no file oci-layout")
    version = decode_document(read_document(extent, MAX_DOCUMENT), _Version, extent.name).image_layout_version
    if not version.startswith("1."):
        shown = show(version[:50].encode("utf-8", "surrogateescape"))
        raise UnsupportedMediaType(f"{files.name} is an OCI image layout of version {shown}; only 1.x is known")


def _unlisted(layout: LayoutStore, index: Index, which: str) -> Descriptor | None:
    """The blob that ``@DIGEST`` means where the index does not list it itself, as a nested index may."""
    if not which.startswith("@") or ":" not in which or any(which[1:] == d.digest for d in index.manifests or []):
        return None
    digest = Digest.parse(which[1:])
    extent = layout.manifest(digest)
    if extent is None:
        raise ImageError(f"{layout.name} has no manifest {digest}")
    return Descriptor(digest=str(digest), size=extent.size)


def _refuse_unknown(descriptor: Descriptor, what: str) -> None:
    if descriptor.media_type and kind_of(descriptor.media_type) is DocumentKind.UNKNOWN:
        shown = show(descriptor.media_type[:200].encode("utf-8", "surrogateescape"))
        raise UnsupportedMediaType(f"{what} is of type {shown}, which is no image")
