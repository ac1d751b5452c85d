"""What ``docker save`` writes, and podman, skopeo, crane, bazel and others after it.

The archive has a ``manifest.json``: a list of images, each with the paths of its config and its layers in the archive
and its names. Classic archives hold ``ID.json`` and ``ID/layer.tar``, where a layer may be a symbolic link to
another's; since Docker 25 they are an OCI layout beside, and the paths are ``blobs/sha256/…``. Layers are plain tars,
but may be compressed. A path that is a digest is taken at its word; each layer has a diff_id in the config anyway.
"""

from __future__ import annotations

import re
from functools import partial

from streamerge.digest import Digest, Expected, check
from streamerge.errors import ImageError, LayerError, StreamergeError, UnsupportedMediaType
from streamerge.interfaces import ImageLayers
from streamerge.sources.blob import BlobLayer, ImageLayer, read_document
from streamerge.sources.choose import position, shown_choices
from streamerge.sources.documents import MAX_DOCUMENT, Config, SavedImage, decode_document
from streamerge.sources.fileblob import FileBlob
from streamerge.sources.filestore import Files, safe_name, shown
from streamerge.sources.image import Image, ImageOptions, layers_history, paired_diff_ids, read_config
from streamerge.sources.reference import Reference

__all__ = ["full_name", "open_saved"]

_BLOB_PATH = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64}|[0-9a-f]{128})")
_CONFIG_PATH = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?")
_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")


def open_saved(files: Files, reference: Reference, options: ImageOptions) -> Image:
    """The image in an archive that a reference means. Raises ImageError, UnsafePathError, DigestMismatch."""
    saved = _choose(_read_manifest(files), reference.which, files.name)
    extent = files.find(saved.config)
    if extent is None:
        raise ImageError(f"{files.name} lists the config {shown(saved.config)}, but does not hold it")
    raw = read_document(extent, MAX_DOCUMENT)
    what = f"the config {extent.name}"
    promised = _config_digest(saved.config)
    if promised is not None and options.verify:
        check(raw, Expected(what, promised))
    config = read_config(raw, what, options)
    return Image(
        reference=str(reference),
        names=tuple(saved.repo_tags or ()),
        digest=None,
        media_type=None,
        manifest=saved,
        config_digest=promised if promised is not None else Digest.of(raw),
        config=config,
        layers=_layers(files, saved, config, options),
    )


# --- which image ------------------------------------------------------------------------------------


def _read_manifest(files: Files) -> list[SavedImage]:
    extent = files.find("manifest.json")
    if extent is not None:
        return decode_document(read_document(extent, MAX_DOCUMENT), list[SavedImage], extent.name)
    if files.find("repositories") is not None:
        raise UnsupportedMediaType(f"{files.name} is from Docker before 1.10; load and save it with a newer one")
    hint = "; it is an OCI archive: oci-archive:FILE" if files.find("index.json") is not None else ""
    raise ImageError(f"{files.name} is no archive of docker save: it has no manifest.json{hint}")


def _choose(images: list[SavedImage], which: str, place: str) -> SavedImage:
    """The image of that name, or the only one. containers-transports(5): ``docker-reference`` or ``@source-index``."""
    if not images:
        raise ImageError(f"{place} holds no image: its manifest.json is an empty list")
    if not which and len(images) == 1:
        return images[0]
    number = position(which)
    if number is not None and number < len(images):
        return images[number]
    if which and number is None:
        for image in images:
            if full_name(which) in map(full_name, image.repo_tags or ()):
                return image
    choices = [name for n, image in enumerate(images) for name in (image.repo_tags or [f"@{n}"])]
    problem = f"has no image '{shown(which)}'" if which else f"holds {len(images)} images"
    raise ImageError(f"{place} {problem}; add one to the reference, as in FILE:NAME: {shown_choices(choices)}")


def full_name(name: str) -> str:
    """A name as Docker understands it: ``alpine`` is ``docker.io/library/alpine:latest``.

    >>> full_name("alpine"), full_name("localhost/app:v1")
    ('docker.io/library/alpine:latest', 'localhost/app:v1')
    """
    first, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    elif first in ("docker.io", "index.docker.io"):
        name = f"docker.io/{rest}" if "/" in rest else f"docker.io/library/{rest}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


# --- its files --------------------------------------------------------------------------------------


def _config_digest(path: str) -> Digest | None:
    """The digest that a config's path is: ``ID.json``, ``sha256:ID`` or a blob's."""
    match = _CONFIG_PATH.fullmatch(path)
    return Digest("sha256", match[1]) if match else _blob_digest(path)


def _blob_digest(path: str) -> Digest | None:
    match = _BLOB_PATH.fullmatch(path)
    return Digest.parse(f"{match[1]}:{match[2]}") if match else None


def _layers(files: Files, saved: SavedImage, config: Config, options: ImageOptions) -> ImageLayers[ImageLayer]:
    paths = saved.layers or []
    diff_ids = paired_diff_ids(config, len(paths), options, f"manifest.json in {files.name}")
    history = layers_history(config, len(paths))
    layers: list[ImageLayer] = []
    for index, path in enumerate(paths):
        try:
            layers.append(
                BlobLayer(
                    index=index,
                    name=shown(_ID.sub(r"\1", safe_name(path))),
                    find=partial(_find_layer, files, path),
                    digest=_blob_digest(path),
                    size=_size(files.find(path)),
                    diff_id=diff_ids[index],
                    history=history[index],
                    verify=options.verify,
                )
            )
        except StreamergeError as error:
            raise error.at(index=index, layer=f"layer {index} of {files.name}") from error.__cause__
    return ImageLayers(layers)


def _find_layer(files: Files, path: str) -> FileBlob:
    extent = files.find(path)
    if extent is None:
        raise LayerError(f"its file {shown(path)} is missing from {files.name}")
    return extent


def _size(extent: FileBlob | None) -> int | None:
    return extent.size if extent is not None else None
