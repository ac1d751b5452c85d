"""Media types: what a descriptor says that its blob is, OCI's and Docker's."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from streamerge.codecs import Codec
from streamerge.errors import ImageError, UnsupportedMediaType, show
from streamerge.sources.documents import decode_document

__all__ = ["DocumentKind", "LayerType", "document_kind", "is_image_config", "kind_of", "layer_type"]


class DocumentKind(enum.Enum):
    """What a manifest descriptor leads to."""

    INDEX = "index"
    MANIFEST = "manifest"
    UNKNOWN = "unknown"


_KINDS = {
    "application/vnd.oci.image.index.v1+json": DocumentKind.INDEX,
    "application/vnd.docker.distribution.manifest.list.v2+json": DocumentKind.INDEX,
    "application/vnd.oci.image.manifest.v1+json": DocumentKind.MANIFEST,
    "application/vnd.docker.distribution.manifest.v2+json": DocumentKind.MANIFEST,
}
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"

_LAYER_STEMS = {
    "application/vnd.oci.image.layer.v1.tar": False,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": True,
    "application/vnd.docker.image.rootfs.diff.tar": False,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": True,
}
"""Uncompressed layers, and whether they are foreign: "non-distributable", so that images leave them out."""

_SUFFIXES = {"": Codec.NONE, "gzip": Codec.GZIP, "zstd": Codec.ZSTD}


@dataclass(frozen=True, slots=True)
class LayerType:
    """What a layer's media type says."""

    codec: Codec
    foreign: bool


def kind_of(media_type: str | None) -> DocumentKind:
    """What a descriptor in an index leads to.

    image-index.md: "An encountered mediaType that is unknown to the implementation MUST be ignored."
    """
    return _KINDS.get(media_type or "", DocumentKind.UNKNOWN)


def is_image_config(media_type: str | None) -> bool:
    """Whether a manifest with such a config is an image; other configs are artifacts'."""
    return media_type in _CONFIGS


def layer_type(media_type: str | None) -> LayerType:
    """What a layer's media type says. Raises UnsupportedMediaType for what is no tar, gzip or zstd."""
    text = media_type or ""
    for stem, foreign in _LAYER_STEMS.items():
        codec = _SUFFIXES.get(text.removeprefix(stem).lstrip("+.")) if text.startswith(stem) else None
        if codec is not None:
            return LayerType(codec, foreign)
    shown = show(text[:200].encode()) or "none"
    if text.endswith("+encrypted"):
        raise UnsupportedMediaType(f"it is encrypted ({shown}); decrypt the image first: skopeo copy --decryption-key")
    raise UnsupportedMediaType(
        f"its media type is {shown}, which is no layer of an image: the image may be an artifact"
    )


class _Probe(msgspec.Struct, rename="camel"):
    """As much of a manifest or index as tells which it is."""

    media_type: str | None = None
    manifests: msgspec.Raw = msgspec.Raw(b"null")
    layers: msgspec.Raw = msgspec.Raw(b"null")
    fs_layers: msgspec.Raw = msgspec.Raw(b"null")

    def has(self, name: str) -> bool:
        """Whether the document has a field of that name."""
        return bytes(getattr(self, name)) != b"null"


def document_kind(data: bytes, what: str, promised: DocumentKind = DocumentKind.UNKNOWN) -> DocumentKind:
    """Tell an index from a manifest. Raises ImageError where a document says both, or not what was promised.

    A document that can be read as either is an attack (CVE-2021-41190): the spec's later versions ask that
    ``mediaType`` and the fields agree.
    """
    probe = decode_document(data, _Probe, what)
    if (probe.media_type or "").startswith(_SCHEMA1) or probe.has("fs_layers"):
        raise UnsupportedMediaType(f"{what} is in Docker's old schema 1; convert it: skopeo copy --format oci")
    if probe.has("manifests") and probe.has("layers"):
        raise ImageError(f"{what} has both 'manifests' and 'layers', so it is neither an index nor a manifest")
    kind = DocumentKind.INDEX if probe.has("manifests") else DocumentKind.MANIFEST
    stated = kind_of(probe.media_type)
    for said in (promised, stated):
        if said not in (DocumentKind.UNKNOWN, kind):
            raise ImageError(f"{what} should be an image {said.value}, but has the fields of an image {kind.value}")
    if probe.media_type and stated is DocumentKind.UNKNOWN:
        shown = show(probe.media_type[:200].encode())
        raise UnsupportedMediaType(f"{what} is of type {shown}, which is no image")
    return kind
