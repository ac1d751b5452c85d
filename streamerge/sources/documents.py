"""The JSON documents of images, as typed values: OCI's index, manifest and config, Docker's manifest.json.

Decoded by msgspec: unknown fields are skipped, wrong types are errors that name the field, and a document of 4 MiB
takes a few milliseconds. ``null`` means the same as a missing field, because Go, which writes most of these documents,
treats them alike.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from streamerge.errors import ImageError

__all__ = [
    "MAX_DOCUMENT",
    "REF_NAME",
    "Config",
    "Descriptor",
    "History",
    "Index",
    "Manifest",
    "Platform",
    "RootFS",
    "RuntimeConfig",
    "SavedImage",
    "decode_document",
]

MAX_DOCUMENT = 4 << 20
"""Most bytes of a document: what registries must accept (OCI distribution spec: "at least 4 megabytes")."""

REF_NAME = "org.opencontainers.image.ref.name"
"""annotations.md: "Name of the reference for a target"; used in index.json."""

_CONTAINERD_NAME = "io.containerd.image.name"
"""The full name. containerd and Docker >= 25 add it because their ref.name is only the tag."""

Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""descriptor.md: "size int64"."""
_Strings = list[str] | None
_Map = dict[str, str] | None


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """image-index.md: "This OPTIONAL property describes the minimum runtime requirements of the image"."""

    os: str = ""
    architecture: str = ""
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """descriptor.md: "the type of the content, a content identifier (digest), and the byte-size"."""

    media_type: str | None = None
    digest: str
    size: Size
    urls: _Strings = None
    annotations: _Map = None
    platform: Platform | None = None
    artifact_type: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the image in an index.json, the tag first."""
        annotations = self.annotations or {}
        return tuple(annotations[key] for key in (REF_NAME, _CONTAINERD_NAME) if annotations.get(key))


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """image-index.md. Docker's manifest list has the same fields."""

    media_type: str | None = None
    manifests: list[Descriptor] | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """manifest.md. Docker's schema 2 has the same fields."""

    media_type: str | None = None
    artifact_type: str | None = None
    config: Descriptor
    layers: list[Descriptor] | None
    annotations: _Map = None


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """config.md: "diff_ids: An array of layer content hashes, in order from first to last"."""

    diff_ids: _Strings = None


class History(msgspec.Struct, frozen=True, kw_only=True):
    """config.md: "empty_layer … is set to true if this history item doesn't correspond to an actual layer"."""

    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """config.md: "The execution parameters which SHOULD be used as a base when running a container"."""

    user: str | None = None
    exposed_ports: dict[str, msgspec.Raw] | None = None
    env: _Strings = None
    entrypoint: _Strings = None
    cmd: _Strings = None
    volumes: dict[str, msgspec.Raw] | None = None
    working_dir: str | None = None
    labels: _Map = None
    stop_signal: str | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """config.md. ``config`` is kept as raw JSON because tools add fields of their own to it."""

    created: str | None = None
    author: str | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    config: msgspec.Raw = msgspec.Raw(b"null")
    rootfs: RootFS | None = None
    history: list[History] | None = None

    @property
    def platform(self) -> Platform:
        """The platform that the image was built for."""
        return Platform(os=self.os or "", architecture=self.architecture or "", variant=self.variant)

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the decoded layers, base first."""
        return (self.rootfs.diff_ids if self.rootfs is not None else None) or []


class SavedImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One image in Docker's manifest.json: its names and the paths of its files in the archive."""

    config: str
    repo_tags: _Strings = None
    layers: _Strings = None


_T = TypeVar("_T")


def decode_document(data: bytes | msgspec.Raw, kind: type[_T], what: str) -> _T:
    """Return the value of a JSON document. Raises ImageError, which calls the document ``what`` and names the field."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ImageError(f"{what} is not valid: {error}") from error
    except RecursionError as error:
        raise ImageError(f"{what} is nested too deeply") from error
    except ValueError as error:  # msgspec.DecodeError and UnicodeDecodeError
        raise ImageError(f"{what} is not JSON: {error}") from error
