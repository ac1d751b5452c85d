"""skopeo's ``dir:``: one image, each blob in a file named by its digest, without the algorithm.

containers-transports(5): "An existing local directory path storing the manifest, layer tarballs and signatures as
individual files. This is a non-standardized format, primarily useful for debugging or noninvasive container
inspection." With ``skopeo copy --all``, ``manifest.json`` is an index, and each manifest in ``DIGEST.manifest.json``.
"""

from __future__ import annotations

from streamerge.digest import Digest
from streamerge.errors import ImageError
from streamerge.sources.blob import Blob, read_document
from streamerge.sources.choose import Chooser
from streamerge.sources.documents import MAX_DOCUMENT, Descriptor
from streamerge.sources.filestore import Files
from streamerge.sources.image import Image, ImageOptions, build_image, read_blob
from streamerge.sources.media import DocumentKind, document_kind
from streamerge.sources.reference import Reference

__all__ = ["SkopeoDirStore", "open_directory"]


class SkopeoDirStore:
    """The blobs in such a directory."""

    def __init__(self, files: Files) -> None:
        self.name = files.name
        self._files = files

    def blob(self, digest: Digest) -> Blob | None:
        """The config or layer of that digest."""
        return self._files.find(digest.encoded)

    def manifest(self, digest: Digest) -> Blob | None:
        """One of several manifests."""
        return self._files.find(f"{digest.encoded}.manifest.json")


def open_directory(files: Files, reference: Reference, options: ImageOptions) -> Image:
    """The image in such a directory. Raises ImageError, UnsupportedMediaType, DigestMismatch.

    Nothing says what the digest of ``manifest.json`` should be; all that it names is verified.
    """
    store = SkopeoDirStore(files)
    extent = files.find("manifest.json")
    if extent is None:
        raise ImageError(f"{files.name} is no directory of skopeo's dir: transport: it has no manifest.json")
    data = read_document(extent, MAX_DOCUMENT)
    descriptor = Descriptor(digest=str(Digest.of(data)), size=len(data))

    def load(wanted: Descriptor) -> bytes:
        digest = Digest.parse(wanted.digest)
        return read_blob(store.manifest(digest), wanted, f"the manifest {digest} in {files.name}", options)

    if document_kind(data, extent.name) is DocumentKind.INDEX:
        descriptor = Chooser(files.name, options.wanted, load).expand(data, extent.name)
        data = load(descriptor)
    return build_image(store, data, descriptor, options, reference=str(reference), media_type=descriptor.media_type)
