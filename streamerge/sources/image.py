"""Images: their documents, and their layers, ready to be merged.

``Image.layers`` comes from the manifest alone. No layer is read until the merge calls
:meth:`~streamerge.interfaces.Layer.open` on it. The merge opens the layers in one thread, newest first, each after the
one before has been read or while that is read ahead. So a source that downloads layers (a registry) starts or awaits
the download in ``open``. It returns a stream of what has arrived, checked by :func:`streamerge.digest.checked`. If a
blob cannot be downloaded again, the layer has ``reopenable = False``, and the merge keeps what it may need.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import msgspec

from streamerge.digest import Digest, Expected, check
from streamerge.errors import ImageError, LayerError, UnsupportedMediaType
from streamerge.interfaces import ImageLayers
from streamerge.sources.blob import Blob, BlobLayer, ImageLayer, Warn, read_document
from streamerge.sources.documents import (
    MAX_DOCUMENT,
    Config,
    Descriptor,
    Manifest,
    Platform,
    RuntimeConfig,
    SavedImage,
    decode_document,
)
from streamerge.sources.locating import at_layer
from streamerge.sources.media import is_image_config, layer_type
from streamerge.sources.names import show_text
from streamerge.sources.platform import parse_platform, rank

__all__ = [
    "BlobStore",
    "Image",
    "ImageOptions",
    "build_image",
    "layers_history",
    "paired_diff_ids",
    "read_blob",
    "read_config",
]


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How to read an image.

    ======== ==================================================================================
    platform ``os/arch[/variant]``; None: this machine's, if there is a choice
    verify   check the digests and sizes of all documents and layers
    warn     gets one line for each problem that is not an error
    ======== ==================================================================================
    """

    platform: str | Platform | None = None
    verify: bool = True
    warn: Warn | None = None

    @property
    def wanted_platform(self) -> Platform | None:
        """The platform as a value. Raises ImageError for text that is not a platform."""
        return parse_platform(self.platform) if isinstance(self.platform, str) else self.platform

    def check(self) -> None:
        """Raise ImageError for options that are not valid."""
        _ = self.wanted_platform


@dataclass(frozen=True, slots=True)
class Image:
    """One image. There is nothing to close: a file is closed with the last layer that is read from it.

    It is a context manager so that all kinds of images can be used in the same way.

    ============= ================================================================================
    reference     a reference that finds the image again
    names         its tags there, if any
    digest        the digest of its manifest; None for docker-archive, which has none
    media_type    the media type of its manifest; None for docker-archive, and if none is stated
    manifest      the document that lists the layers
    config_digest the digest of its config, which is the image's ID
    config        its config; ``config.config`` is the runtime part as raw JSON
    layers        its layers, base first
    ============= ================================================================================
    """

    reference: str
    names: tuple[str, ...]
    digest: Digest | None
    media_type: str | None
    manifest: Manifest | SavedImage
    config_digest: Digest
    config: Config
    layers: ImageLayers[ImageLayer]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def platform(self) -> Platform:
        """The platform that the image was built for."""
        return self.config.platform

    @property
    def runtime(self) -> RuntimeConfig:
        """The runtime config as a value: entrypoint, environment, user and so on."""
        return _runtime(self.config, "its config")

    def runtime_json(self) -> bytes:
        """Return the runtime config as indented JSON: all its fields in their original order, and a final newline."""
        raw = bytes(self.config.config)
        return (b"{}" if raw == b"null" else msgspec.json.format(raw, indent=2)) + b"\n"

    def check(self) -> None:
        """Check that all layers exist with the right sizes, before a long merge. Raises as opening them would."""
        for layer in self.layers:
            layer.check()


class BlobStore(Protocol):
    """The blobs of an OCI image by digest. ``name`` is what messages call the store."""

    name: str

    def blob(self, digest: Digest) -> Blob | None:
        """Return the config or layer of that digest; None if it is missing."""

    def manifest(self, digest: Digest) -> Blob | None:
        """Return the manifest or index of that digest; None if it is missing."""


def read_blob(blob: Blob | None, descriptor: Descriptor, what: str, options: ImageOptions) -> bytes:
    """Return the verified document of a descriptor. Raises ImageError, DigestMismatch."""
    digest = Digest.parse(descriptor.digest)
    if blob is None:
        raise ImageError(f"{what} is missing: there is no blob {digest}")
    data = read_document(blob, MAX_DOCUMENT)
    if options.verify:
        check(data, Expected(what, digest, descriptor.size))
    return data


def build_image(
    store: BlobStore,
    data: bytes,
    descriptor: Descriptor,
    options: ImageOptions,
    *,
    reference: str,
    media_type: str | None,
) -> Image:
    """Return the image of a manifest, whose bytes are verified. Raises ImageError, UnsupportedMediaType."""
    what = f"the manifest {descriptor.digest} in {store.name}"
    manifest = decode_document(data, Manifest, what)
    _refuse_artifact(manifest, what)
    config_name = f"the config of {what}"
    config_digest = Digest.parse(manifest.config.digest)
    config_data = read_blob(store.blob(config_digest), manifest.config, config_name, options)
    config = read_config(config_data, config_name, options)
    return Image(
        reference=reference,
        names=descriptor.names,
        digest=Digest.parse(descriptor.digest),
        media_type=manifest.media_type or media_type,
        manifest=manifest,
        config_digest=config_digest,
        config=config,
        layers=_layers(store, manifest, config, options, what),
    )


def _refuse_artifact(manifest: Manifest, what: str) -> None:
    """manifest.md: artifacts have a config of another media type than images."""
    if is_image_config(manifest.config.media_type):
        return
    kind = manifest.artifact_type or manifest.config.media_type or "no type"
    raise UnsupportedMediaType(f"{what} is an artifact ({show_text(kind)}), not an image: it has no root filesystem")


def read_config(data: bytes, what: str, options: ImageOptions) -> Config:
    """Return a config. Raises ImageError if it is not valid, or for another platform than the wanted one."""
    config = decode_document(data, Config, what)
    _runtime(config, what)
    wanted = options.wanted_platform
    if wanted is not None and config.os and rank(wanted, config.platform) is None:
        raise ImageError(f"the image is for {config.platform}, not for {wanted}, and there is no other")
    return config


def _runtime(config: Config, what: str) -> RuntimeConfig:
    raw = bytes(config.config)
    return RuntimeConfig() if raw == b"null" else decode_document(raw, RuntimeConfig, f"the runtime part of {what}")


def _layers(
    store: BlobStore, manifest: Manifest, config: Config, options: ImageOptions, what: str
) -> ImageLayers[ImageLayer]:
    descriptors = manifest.layers or []
    diff_ids = paired_diff_ids(config, len(descriptors), options, what)
    history = layers_history(config, len(descriptors))
    layers: list[ImageLayer] = []
    for index, descriptor in enumerate(descriptors):
        with at_layer(index, f"layer {index} of {what}"):
            layers.append(_layer(store, descriptor, index, diff_ids[index], history[index], options))
    return ImageLayers(layers)


def _layer(
    store: BlobStore,
    descriptor: Descriptor,
    index: int,
    diff_id: Digest | None,
    history: str | None,
    options: ImageOptions,
) -> BlobLayer:
    digest = Digest.parse(descriptor.digest)
    return BlobLayer(
        index=index,
        name=digest.short,
        find=partial(_find_layer, store, descriptor, digest),
        digest=digest,
        size=descriptor.size,
        diff_id=diff_id,
        media_type=descriptor.media_type,
        codec=layer_type(descriptor.media_type).codec,
        history=history,
        verify=options.verify,
        warn=options.warn,
    )


def _find_layer(store: BlobStore, descriptor: Descriptor, digest: Digest) -> Blob:
    blob = store.blob(digest)
    if blob is not None:
        return blob
    problem = f"its blob {digest} is missing from {store.name}"
    if layer_type(descriptor.media_type).foreign:
        urls = ", ".join(show_text(url) for url in (descriptor.urls or [])[:3])
        problem += f": it is a foreign layer, which images do not include; download it from {urls or 'its vendor'}"
    raise LayerError(problem)


def paired_diff_ids(config: Config, count: int, options: ImageOptions, what: str) -> list[Digest | None]:
    """Return the diff_id of each layer. config.md: they are "in order from first to last", as the layers are."""
    if len(config.diff_ids) == count:
        return [Digest.parse(text) for text in config.diff_ids]
    if options.verify:
        layers = "1 layer" if count == 1 else f"{count} layers"
        raise ImageError(
            f"layers cannot be verified: {what} lists {layers}, but its config lists {len(config.diff_ids)} diff_ids",
            setting="verify",
        )
    return [None] * count


def layers_history(config: Config, count: int) -> list[str | None]:
    """Return the command that made each layer; None for all if the history has another number of layers."""
    items = [item for item in config.history or [] if not item.empty_layer]
    if len(items) != count:
        return [None] * count
    return [item.created_by or item.comment or None for item in items]
