"""OCI image layouts, in a directory or an archive: image-layout.md.

"The image layout MUST contain … ``blobs`` directory, ``oci-layout`` file, ``index.json`` file"; a blob "MUST have its
content stored in a file under ``blobs/<alg>/<encoded>``".
"""

from __future__ import annotations

import msgspec

from streamerge.digest import Digest
from streamerge.errors import ImageError, UnsupportedMediaType
from streamerge.sources.blob import Blob, read_document
from streamerge.sources.choose import Chooser
from streamerge.sources.documents import MAX_DOCUMENT, Descriptor, Index, decode_document
from streamerge.sources.filestore import FileStore
from streamerge.sources.image import Image, ImageOptions, build_image, read_blob
from streamerge.sources.media import DocumentKind, document_kind, kind_of, refuse_unknown
from streamerge.sources.names import show_text
from streamerge.sources.reference import Reference

__all__ = ["LayoutStore", "open_layout"]


class LayoutStore:
    """The blobs of a layout."""

    def __init__(self, files: FileStore) -> None:
        self.name = files.name
        self._files = files

    def blob(self, digest: Digest) -> Blob | None:
        """Return the blob of that digest; None if it is missing."""
        return self._files.find(f"blobs/{digest.algorithm}/{digest.encoded}")

    manifest = blob


def open_layout(files: FileStore, reference: Reference, options: ImageOptions) -> Image:
    """Return the image that a reference names. Raises ImageError, UnsupportedMediaType, DigestMismatch."""
    layout = LayoutStore(files)
    index = _read_index(files)

    def load(descriptor: Descriptor) -> bytes:
        digest = Digest.parse(descriptor.digest)
        return read_blob(layout.manifest(digest), descriptor, f"the manifest {digest} in {files.name}", options)

    chooser = Chooser(files.name, options.wanted_platform, load, reference.to)
    descriptor = _unlisted(layout, index, reference.which) or chooser.choose(index, reference.which)
    data = load(descriptor)
    what = f"the manifest {descriptor.digest} in {files.name}"
    refuse_unknown(descriptor.media_type, what)
    if document_kind(data, what, kind_of(descriptor.media_type)) is DocumentKind.INDEX:
        descriptor = msgspec.structs.replace(chooser.expand(data, what), annotations=descriptor.annotations)
        data = load(descriptor)
    return build_image(layout, data, descriptor, options, reference=str(reference), media_type=descriptor.media_type)


def _read_index(files: FileStore) -> Index:
    _check_version(files)
    blob = files.find("index.json")
    if blob is None:
        raise ImageError(f"{files.name} is not an OCI image layout: it has no index.json")
    return decode_document(read_document(blob, MAX_DOCUMENT), Index, blob.name)


class _Version(msgspec.Struct, rename="camel"):
    image_layout_version: str


def _check_version(files: FileStore) -> None:
    """image-layout.md: oci-layout "MUST contain an imageLayoutVersion field". Only 1.x is supported."""
    blob = files.find("oci-layout")
    if blob is None:
        raise ImageError(f"{files.name} is not an OCI image layout: it has no file oci-layout")
    version = decode_document(read_document(blob, MAX_DOCUMENT), _Version, blob.name).image_layout_version
    if not version.startswith("1."):
        shown = show_text(version)
        raise UnsupportedMediaType(f"{files.name} is an OCI image layout of version {shown}; only 1.x is supported")


def _unlisted(layout: LayoutStore, index: Index, which: str | None) -> Descriptor | None:
    """Return the descriptor for an ``@DIGEST`` that the index does not list, such as one in a nested index."""
    if which is None or not which.startswith("@") or ":" not in which:
        return None
    if any(which == f"@{descriptor.digest}" for descriptor in index.manifests or []):
        return None
    digest = Digest.parse(which.removeprefix("@"))
    blob = layout.manifest(digest)
    if blob is None:
        raise ImageError(f"{layout.name} has no manifest {digest}")
    return Descriptor(digest=str(digest), size=blob.size)
