"""Media types of OCI and Docker: what a descriptor says about its blob."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from streamerge.codecs import Codec
from streamerge.errors import ImageError, UnsupportedMediaType
from streamerge.sources.documents import decode_document
from streamerge.sources.names import show_text

__all__ = ["DocumentKind", "LayerType", "document_kind", "is_image_config", "kind_of", "layer_type", "refuse_unknown"]


class DocumentKind(enum.Enum):
    """What the document of a descriptor is."""

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
"""Media types of uncompressed layers, and whether they are foreign: "non-distributable", and not in the image."""

_SUFFIXES = {"": Codec.NONE, "gzip": Codec.GZIP, "zstd": Codec.ZSTD}


@dataclass(frozen=True, slots=True)
class LayerType:
    """What a layer's media type says: its compression, and whether the layer is foreign."""

    codec: Codec
    foreign: bool


def kind_of(media_type: str | None) -> DocumentKind:
    """Return what the document of a descriptor is.

    image-index.md: "An encountered mediaType that is unknown to the implementation MUST be ignored."
    """
    return _KINDS.get(media_type or "", DocumentKind.UNKNOWN)


def is_image_config(media_type: str | None) -> bool:
    """Return whether a config of this type belongs to an image; other configs belong to artifacts."""
    return media_type in _CONFIGS


def layer_type(media_type: str | None) -> LayerType:
    """Return what a layer's media type says. Raises UnsupportedMediaType unless it is a tar, plain, gzip or zstd."""
    text = media_type or ""
    for stem, foreign in _LAYER_STEMS.items():
        codec = _SUFFIXES.get(text.removeprefix(stem).lstrip("+.")) if text.startswith(stem) else None
        if codec is not None:
            return LayerType(codec, foreign)
    shown = show_text(text)
    if text.endswith("+encrypted"):
        raise UnsupportedMediaType(f"it is encrypted ({shown}); decrypt the image first: skopeo copy --decryption-key")
    if not text:
        raise UnsupportedMediaType("it has no media type; the image may be an artifact")
    raise UnsupportedMediaType(f"its media type is {shown}, not that of a layer; the image may be an artifact")


def refuse_unknown(media_type: str | None, what: str) -> None:
    """Raise UnsupportedMediaType for a media type that is neither an index nor a manifest; None is accepted."""
    if media_type and kind_of(media_type) is DocumentKind.UNKNOWN:
        raise UnsupportedMediaType(f"{what} has the media type {show_text(media_type)}, not that of an image")


class _Probe(msgspec.Struct, rename="camel"):
    """The fields that tell an index from a manifest."""

    media_type: str | None = None
    manifests: msgspec.Raw = msgspec.Raw(b"null")
    layers: msgspec.Raw = msgspec.Raw(b"null")
    fs_layers: msgspec.Raw = msgspec.Raw(b"null")

    def has(self, name: str) -> bool:
        """Return whether the document has a field of that name."""
        return bytes(getattr(self, name)) != b"null"


def document_kind(data: bytes, what: str, expected: DocumentKind = DocumentKind.UNKNOWN) -> DocumentKind:
    """Return whether a document is an index or a manifest. Raises ImageError if it is both, or not as expected.

    A document that can be read as either is an attack (CVE-2021-41190): newer versions of the spec require that
    ``mediaType`` and the fields agree.
    """
    probe = decode_document(data, _Probe, what)
    if (probe.media_type or "").startswith(_SCHEMA1) or probe.has("fs_layers"):
        raise UnsupportedMediaType(f"{what} uses Docker's old schema 1; convert it: skopeo copy --format oci")
    if probe.has("manifests") and probe.has("layers"):
        raise ImageError(f"{what} has both 'manifests' and 'layers', so it could be an index or a manifest")
    kind = DocumentKind.INDEX if probe.has("manifests") else DocumentKind.MANIFEST
    for stated in (expected, kind_of(probe.media_type)):
        if stated not in (DocumentKind.UNKNOWN, kind):
            raise ImageError(f"{what} should be an image {stated.value}, but has the fields of an image {kind.value}")
    refuse_unknown(probe.media_type, what)
    return kind
