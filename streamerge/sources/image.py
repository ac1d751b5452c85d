"""An image: its documents, and its layers, ready to be merged.

How layers may arrive: ``Image.layers`` is known from the manifest alone, and nothing of a layer is touched
until the merge calls :meth:`~streamerge.interfaces.Layer.open` on it. It does so in one thread, newest layer
first, each when the one before has been read or is being decoded ahead. So a source whose layers come one by
one (a registry) gives layers whose ``open`` waits for the download, or starts it, and returns a stream that
yields what has arrived, passed through :func:`streamerge.digest.checked`; if a blob cannot be fetched again it says
``reopenable = False``, and the merge keeps what it may need.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

import msgspec

from streamerge.digest import Digest, Expected, check
from streamerge.errors import ImageError, LayerError, StreamergeError, UnsupportedMediaType, show
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
from streamerge.sources.media import is_image_config, layer_type
from streamerge.sources.platform import parse_platform, rank

__all__ = ["BlobStore", "Image", "ImageOptions", "build_image", "layers_history", "read_blob", "read_config"]


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How to read an image.

    ======== ==================================================================================
    platform ``os/arch[/variant]``; None: this machine's where there is a choice
    verify   check the digests and sizes of all documents and layers
    warn     gets what is worth knowing but no error
    ======== ==================================================================================

    Raises ImageError for text that is no platform.
    """

    platform: str | Platform | None = None
    verify: bool = True
    warn: Warn | None = None

    @property
    def wanted(self) -> Platform | None:
        """The platform as a value. Raises ImageError for text that is none."""
        return parse_platform(self.platform) if isinstance(self.platform, str) else self.platform


@dataclass(frozen=True, slots=True)
class Image:
    """One image. Nothing to close: a file that layers are read from is closed with the last of them.

    It is a context manager all the same, so that other kinds of images can be used in the same way.

    ============= ================================================================================
    reference     where it was found, as a reference that finds it again
    names         its tags there, if any
    digest        of its manifest; None for docker-archive, where there is none
    media_type    of its manifest; None for docker-archive
    manifest      the document that lists the layers
    config_digest of its config, which is the image's ID
    config        its config, ``config.config`` the runtime part as it was written
    layers        base first
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
        """What it was built for."""
        return self.config.platform

    @property
    def runtime(self) -> RuntimeConfig:
        """Entrypoint, environment, user and the like, typed."""
        return _runtime(self.config, "its config")

    def runtime_json(self) -> bytes:
        """The same as JSON, with the fields and the order it was written in, indented; ends with a newline."""
        raw = bytes(self.config.config)
        return (b"{}" if raw == b"null" else msgspec.json.format(raw, indent=2)) + b"\n"

    def check(self) -> None:
        """See whether all layers are there with the right size, before a long merge. Raises as they would."""
        for layer in self.layers:
            layer.check()


class BlobStore(Protocol):
    """Where the blobs of an OCI image lie: each found by its digest."""

    name: str

    def blob(self, digest: Digest) -> Blob | None:
        """The config or layer of that digest, None where it is missing."""

    def manifest(self, digest: Digest) -> Blob | None:
        """The manifest or index of that digest, None where it is missing."""


def read_blob(extent: Blob | None, descriptor: Descriptor, what: str, options: ImageOptions) -> bytes:
    """A document that a descriptor names, verified. Raises ImageError, DigestMismatch."""
    digest = Digest.parse(descriptor.digest)
    if extent is None:
        raise ImageError(f"{what} is missing: there is no blob {digest}")
    data = read_document(extent, MAX_DOCUMENT)
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
    """The image of a manifest's bytes, which are verified already. Raises ImageError, UnsupportedMediaType."""
    what = f"the manifest {descriptor.digest} in {store.name}"
    manifest = decode_document(data, Manifest, what)
    _refuse_artifact(manifest, what)
    about_config = f"the config of {what.removeprefix('the ')}"
    config_digest = Digest.parse(manifest.config.digest)
    raw = read_blob(store.blob(config_digest), manifest.config, about_config, options)
    config = read_config(raw, about_config, options)
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
    """manifest.md: the config's media type tells images from artifacts, for which it is another one."""
    if is_image_config(manifest.config.media_type):
        return
    kind = manifest.artifact_type or manifest.config.media_type or "no type"
    shown = show(kind[:200].encode())
    raise UnsupportedMediaType(f"{what} is an artifact ({shown}), not an image: it has no root filesystem")


def read_config(raw: bytes, what: str, options: ImageOptions) -> Config:
    """Decode a config, and see that it is for the platform that was asked for."""
    config = decode_document(raw, Config, what)
    _runtime(config, what)
    wanted = options.wanted
    if wanted is not None and config.os and rank(wanted, config.platform) is None:
        raise ImageError(f"the image is for {config.platform}, not for {wanted}, and is the only one there")
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
        try:
            layers.append(_layer(store, descriptor, index, diff_ids[index], history[index], options))
        except StreamergeError as error:
            raise error.at(index=index, layer=f"layer {index} of {what}") from error.__cause__
    return ImageLayers(layers)


def _layer(
    store: BlobStore, descriptor: Descriptor, index: int, diff_id: Digest | None, history: str, options: ImageOptions
) -> BlobLayer:
    digest = Digest.parse(descriptor.digest)
    kind = layer_type(descriptor.media_type)
    return BlobLayer(
        index=index,
        name=digest.short,
        find=partial(_find_layer, store, descriptor, digest),
        digest=digest,
        size=descriptor.size,
        diff_id=diff_id,
        media_type=descriptor.media_type,
        codec=kind.codec,
        history=history,
        verify=options.verify,
        warn=options.warn,
    )


def _find_layer(store: BlobStore, descriptor: Descriptor, digest: Digest) -> Blob:
    extent = store.blob(digest)
    if extent is not None:
        return extent
    problem = f"its blob {digest} is missing from {store.name}"
    if layer_type(descriptor.media_type).foreign:
        where = ", ".join(show(url[:200].encode("utf-8", "surrogateescape")) for url in (descriptor.urls or [])[:3])
        problem += f": it is a foreign layer, which images leave out; fetch it from {where or 'its vendor'}"
    raise LayerError(problem)


def paired_diff_ids(config: Config, count: int, options: ImageOptions, what: str) -> list[Digest | None]:
    """One diff_id for each layer. config.md: they are "in order from first to last", as the layers are."""
    if len(config.diff_ids) == count:
        return [Digest.parse(text) for text in config.diff_ids]
    if options.verify:
        raise ImageError(
            f"{what} lists {count} layers, but its config {len(config.diff_ids)} diff_ids, so they cannot be verified"
        )
    return [None] * count


def layers_history(config: Config, count: int) -> list[str]:
    """What made each layer: history items that made none are left out; all empty where the numbers differ."""
    items = [item for item in config.history or [] if not item.empty_layer]
    if len(items) != count:
        return [""] * count
    return [item.created_by or item.comment or "" for item in items]
