"""Archives of ``docker save``, which podman, skopeo, crane, bazel and others write too.

The archive has a ``manifest.json``: a list of images, each with its names and the paths of its config and its layers.
Classic archives hold ``ID.json`` and ``ID/layer.tar``, where a layer may be a symbolic link to another image's layer.
Since Docker 25 they are also an OCI layout, and the paths are ``blobs/sha256/…``. Layers are plain tars, but may be
compressed. If a path contains a digest, the content is verified against it; the config has a diff_id for each layer in
any case.
"""

from __future__ import annotations

import re
from functools import partial

from streamerge.digest import Digest, Expected, check
from streamerge.errors import ImageError, LayerError, UnsupportedMediaType
from streamerge.interfaces import ImageLayers
from streamerge.sources.blob import BlobLayer, ImageLayer, read_document
from streamerge.sources.choose import index_of, show_choices
from streamerge.sources.documents import MAX_DOCUMENT, Config, SavedImage, decode_document
from streamerge.sources.fileblob import FileBlob
from streamerge.sources.filestore import FileStore
from streamerge.sources.image import Image, ImageOptions, layers_history, paired_diff_ids, read_config
from streamerge.sources.locating import at_layer
from streamerge.sources.names import safe_name, show_text
from streamerge.sources.reference import Reference

__all__ = ["full_name", "open_docker_archive"]

_BLOB_PATH = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64}|[0-9a-f]{128})")
_CONFIG_PATH = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?")
_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")


def open_docker_archive(files: FileStore, reference: Reference, options: ImageOptions) -> Image:
    """Return the image that a reference names. Raises ImageError, UnsafePathError, DigestMismatch."""
    saved = _choose(_read_manifest(files), reference, files.name)
    blob = files.find(saved.config)
    if blob is None:
        raise ImageError(f"{files.name} lists the config {show_text(saved.config)}, but does not hold it")
    data = read_document(blob, MAX_DOCUMENT)
    what = f"the config {blob.name}"
    digest = _config_digest(saved.config)
    if digest is not None and options.verify:
        check(data, Expected(what, digest))
    config = read_config(data, what, options)
    return Image(
        reference=str(reference),
        names=tuple(saved.repo_tags or ()),
        digest=None,
        media_type=None,
        manifest=saved,
        config_digest=digest if digest is not None else Digest.of(data),
        config=config,
        layers=_layers(files, saved, config, options),
    )


# --- which image ------------------------------------------------------------------------------------


def _read_manifest(files: FileStore) -> list[SavedImage]:
    blob = files.find("manifest.json")
    if blob is not None:
        return decode_document(read_document(blob, MAX_DOCUMENT), list[SavedImage], blob.name)
    if files.find("repositories") is not None:
        raise UnsupportedMediaType(f"{files.name} is from Docker before 1.10; load and save it with a newer version")
    fix = "; for an OCI archive use oci-archive:FILE" if files.find("index.json") is not None else ""
    raise ImageError(f"{files.name} is not an archive of docker save: it has no manifest.json{fix}")


def _choose(images: list[SavedImage], reference: Reference, archive: str) -> SavedImage:
    """Return the named image, or the only one. containers-transports(5): ``docker-reference`` or ``@source-index``."""
    which = reference.which
    if not images:
        raise ImageError(f"{archive} holds no image: its manifest.json is an empty list")
    if which is None:
        if len(images) == 1:
            return images[0]
        raise ImageError(f"{archive} holds {len(images)} images; name one: {_choices(images, reference)}")
    number = index_of(which)
    if number is not None and number < len(images):
        return images[number]
    for image in images if number is None else ():
        if full_name(which) in map(full_name, image.repo_tags or ()):
            return image
    choices = _choices(images, reference)
    raise ImageError(f"{archive} has no image '{show_text(which)}'; name one of these: {choices}")


def _choices(images: list[SavedImage], reference: Reference) -> str:
    names = [name for number, image in enumerate(images) for name in (image.repo_tags or [f"@{number}"])]
    return show_choices([str(reference.to(name)) for name in names])


def full_name(name: str) -> str:
    """Return an image's name as Docker completes it: ``alpine`` is ``docker.io/library/alpine:latest``.

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


# --- config and layers ------------------------------------------------------------------------------


def _config_digest(path: str) -> Digest | None:
    """Return the digest in a config's path: ``ID.json``, ``sha256:ID`` or a blob's path; None if there is none."""
    match = _CONFIG_PATH.fullmatch(path)
    return Digest("sha256", match[1]) if match else _blob_digest(path)


def _blob_digest(path: str) -> Digest | None:
    match = _BLOB_PATH.fullmatch(path)
    return Digest.parse(f"{match[1]}:{match[2]}") if match else None


def _layers(files: FileStore, saved: SavedImage, config: Config, options: ImageOptions) -> ImageLayers[ImageLayer]:
    paths = saved.layers or []
    diff_ids = paired_diff_ids(config, len(paths), options, f"manifest.json in {files.name}")
    history = layers_history(config, len(paths))
    layers: list[ImageLayer] = []
    for index, path in enumerate(paths):
        with at_layer(index, f"layer {index} of {files.name}"):
            blob = files.find(path)
            layers.append(
                BlobLayer(
                    index=index,
                    name=show_text(_ID.sub(r"\1", safe_name(path))),
                    find=partial(_find_layer, files, path),
                    digest=_blob_digest(path),
                    size=blob.size if blob is not None else None,
                    diff_id=diff_ids[index],
                    history=history[index],
                    verify=options.verify,
                )
            )
    return ImageLayers(layers)


def _find_layer(files: FileStore, path: str) -> FileBlob:
    blob = files.find(path)
    if blob is None:
        raise LayerError(f"its file {show_text(path)} is missing from {files.name}")
    return blob
