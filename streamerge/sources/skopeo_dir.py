"""skopeo's ``dir:`` layout: one image, each blob in a file whose name is its digest without the algorithm.

containers-transports(5): "An existing local directory path storing the manifest, layer tarballs and signatures as
individual files. This is a non-standardized format, primarily useful for debugging or noninvasive container
inspection." After ``skopeo copy --all``, ``manifest.json`` is an index, and each manifest is in
``DIGEST.manifest.json``.
"""

from __future__ import annotations

from streamerge.digest import Digest
from streamerge.errors import ImageError
from streamerge.sources.blob import Blob, read_document
from streamerge.sources.choose import Chooser
from streamerge.sources.documents import MAX_DOCUMENT, Descriptor
from streamerge.sources.filestore import FileStore
from streamerge.sources.image import Image, ImageOptions, build_image, read_blob
from streamerge.sources.media import DocumentKind, document_kind
from streamerge.sources.reference import Reference

__all__ = ["SkopeoDirStore", "open_skopeo_dir"]


class SkopeoDirStore:
    """The blobs of a ``dir:`` layout."""

    def __init__(self, files: FileStore) -> None:
        self.name = files.name
        self._files = files

    def blob(self, digest: Digest) -> Blob | None:
        """Return the config or layer of that digest; None if it is missing."""
        return self._files.find(digest.encoded)

    def manifest(self, digest: Digest) -> Blob | None:
        """Return one of several manifests by its digest; None if it is missing."""
        return self._files.find(f"{digest.encoded}.manifest.json")


def open_skopeo_dir(files: FileStore, reference: Reference, options: ImageOptions) -> Image:
    """Return the image in a ``dir:`` layout. Raises ImageError, UnsupportedMediaType, DigestMismatch.

    ``manifest.json`` cannot be verified because nothing states its digest. All blobs that it names are verified.
    """
    store = SkopeoDirStore(files)
    blob = files.find("manifest.json")
    if blob is None:
        raise ImageError(f"{files.name} is not a directory of skopeo's dir: transport: it has no manifest.json")
    data = read_document(blob, MAX_DOCUMENT)
    descriptor = Descriptor(digest=str(Digest.of(data)), size=len(data))

    def load(wanted: Descriptor) -> bytes:
        digest = Digest.parse(wanted.digest)
        return read_blob(store.manifest(digest), wanted, f"the manifest {digest} in {files.name}", options)

    if document_kind(data, blob.name) is DocumentKind.INDEX:
        descriptor = Chooser(files.name, options.wanted_platform, load).expand(data, blob.name)
        data = load(descriptor)
    return build_image(store, data, descriptor, options, reference=str(reference), media_type=descriptor.media_type)
