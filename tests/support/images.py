"""An immutable builder of images, in every shape in which they are stored, whole or broken on purpose.

    image = Image().layer(Layer().file(b"a")).layer(other, "zstd").named("latest")
    oci_layout(image).write(directory)
    saved(image).without("manifest.json").tar()

``Image`` is what an image is made of; ``oci_layout``, ``saved`` (docker save, classic), ``saved_25`` and ``skopeo_dir``
make a ``Place`` of it: named files, of which any can be replaced, dropped or turned into a link.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import lz4.frame
import zstandard

from tests.support.layers import EntrySpec, Kind
from tests.support.layers import Layer as Tar

__all__ = [
    "LAYER",
    "MANIFEST",
    "OCI_INDEX",
    "Image",
    "LayerBlob",
    "Link",
    "Place",
    "blob_path",
    "descriptor",
    "digest_of",
    "index_of",
    "oci_layout",
    "saved",
    "saved_25",
    "skopeo_dir",
]

Json = dict[str, object]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

_PACKINGS = {
    "": lambda tar: tar,
    "gzip": lambda tar: gzip.compress(tar, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str, algorithm: str = "sha256", **more: object) -> Json:
    return {"mediaType": media_type, "digest": digest_of(data, algorithm), "size": len(data), **more}


def blob_path(digest: object) -> str:
    return "blobs/" + str(digest).replace(":", "/")


def dumped(document: object) -> bytes:
    return json.dumps(document).encode()


@dataclass(frozen=True)
class LayerBlob:
    """A layer as it is stored; ``lies`` are fields of its descriptor that say something else."""

    tar: bytes
    data: bytes
    media_type: str
    diff_id: str
    lies: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Image:
    """What an image is made of; every method returns a new one."""

    layers: tuple[LayerBlob, ...] = ()
    runtime: Json | None = None
    names: tuple[str, ...] = ()
    platform: tuple[str, ...] = ("linux", "amd64")
    algorithm: str = "sha256"
    config_lies: tuple[tuple[str, object], ...] = ()
    manifest_lies: tuple[tuple[str, object], ...] = ()
    tars: tuple[bytes, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "tars", tuple(layer.tar for layer in self.layers))

    def layer(
        self,
        content: Tar | bytes,
        packing: str = "gzip",
        *,
        media_type: str | None = None,
        diff_id: str | None = None,
        data: bytes | None = None,
        **lies: object,
    ) -> Image:
        """One more layer. ``lies`` replace what its descriptor says, ``data`` what is stored."""
        tar = content.tar() if isinstance(content, Tar) else content
        packed = _PACKINGS[packing](tar) if data is None else data
        stated = media_type or LAYER + (f"+{packing}" if packing in ("gzip", "zstd") else "")
        blob = LayerBlob(tar, packed, stated, diff_id or digest_of(tar, self.algorithm), tuple(lies.items()))
        return replace(self, layers=(*self.layers, blob))

    def named(self, *names: str) -> Image:
        return replace(self, names=names)

    def built_for(self, *platform: str) -> Image:
        return replace(self, platform=platform)

    def hashed_by(self, algorithm: str) -> Image:
        return replace(self, algorithm=algorithm)

    def running(self, **runtime: object) -> Image:
        return replace(self, runtime=runtime)

    def config_says(self, **lies: object) -> Image:
        return replace(self, config_lies=tuple(lies.items()))

    def manifest_says(self, **lies: object) -> Image:
        return replace(self, manifest_lies=tuple(lies.items()))

    @property
    def config(self) -> bytes:
        document: Json = {
            **dict(zip(("os", "architecture", "variant"), self.platform, strict=False)),
            "created": "2024-01-02T03:04:05Z",
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": [
                {"created_by": "ENV x=y", "empty_layer": True},
                *({"created_by": f"step {number}"} for number in range(len(self.layers))),
            ],
        }
        if self.runtime is not None:
            document["config"] = self.runtime
        return dumped({**document, **dict(self.config_lies)})

    @property
    def manifest(self) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(self.config, CONFIG, self.algorithm),
            "layers": [
                {**descriptor(layer.data, layer.media_type, self.algorithm), **dict(layer.lies)}
                for layer in self.layers
            ],
        }
        return dumped({**document, **dict(self.manifest_lies)})

    def described(self, *, platform: bool = False, **more: object) -> list[Json]:
        """The manifest's descriptors for an index: one for each name."""
        if platform:
            more["platform"] = dict(zip(("os", "architecture", "variant"), self.platform, strict=False))
        plain = descriptor(self.manifest, MANIFEST, self.algorithm, **more)
        key = "org.opencontainers.image.ref.name"
        return [{**plain, "annotations": {key: name}} for name in self.names] or [plain]

    @property
    def blobs(self) -> dict[str, bytes]:
        """All blobs, by digest."""
        contents = [self.config, self.manifest, *(layer.data for layer in self.layers)]
        return {digest_of(data, self.algorithm): data for data in contents}


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Place:
    """Named files, in order."""

    files: Mapping[str, bytes | Link]

    def put(self, name: str, data: bytes | Link | Json | list[object]) -> Place:
        content = dumped(data) if isinstance(data, dict | list) else data
        return Place({**self.files, name: content})

    def link(self, name: str, target: str) -> Place:
        return self.put(name, Link(target))

    def without(self, *names: str) -> Place:
        return Place({name: data for name, data in self.files.items() if name not in names})

    def blob(self, data: bytes) -> Place:
        """Add a blob under its digest."""
        return self.put(blob_path(digest_of(data)), data)

    def change(self, name: str, data: bytes) -> Place:
        assert name in self.files, f"{name} is not there to be changed"
        return self.put(name, data)

    def write(self, directory: Path) -> Path:
        for name, data in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Link):
                path.symlink_to(data.target)
            else:
                path.write_bytes(data)
        return directory

    def tar(self) -> bytes:
        return Tar(tuple(_member(name, data) for name, data in self.files.items())).tar()


def _member(name: str, data: bytes | Link) -> EntrySpec:
    if isinstance(data, Link):
        return EntrySpec(Kind.SYMLINK, name.encode(), target=data.target.encode())
    return EntrySpec(Kind.FILE, name.encode(), data=data)


def index_of(descriptors: Iterable[Mapping[str, object]], **more: object) -> bytes:
    return dumped({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(descriptors), **more})


def oci_layout(*images: Image, platform: bool = False) -> Place:
    """An OCI image layout whose index lists the images as they are."""
    index = index_of(entry for image in images for entry in image.described(platform=platform))
    blobs = {blob_path(digest): data for image in images for digest, data in image.blobs.items()}
    return Place({**blobs, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index})


def saved(*images: Image) -> Place:
    """What ``docker save`` wrote before version 25: each layer in a directory, repeated ones as links."""
    files: dict[str, bytes | Link] = {}
    manifest: list[object] = []
    for image in images:
        paths: list[str] = []
        for layer in image.layers:
            same = digest_of(layer.data)[7:]
            path = f"{hashlib.sha256(f'{same}{len(files)}'.encode()).hexdigest()}/layer.tar"
            first = next((name for name, data in files.items() if data == layer.data and "/" in name), None)
            files[path] = layer.data if first is None else Link(f"../{first}")
            paths.append(path)
        config = digest_of(image.config)[7:] + ".json"
        files[config] = image.config
        manifest.append({"Config": config, "RepoTags": list(image.names) or None, "Layers": paths})
    return Place({**files, "manifest.json": dumped(manifest), "repositories": b"{}"})


def saved_25(*images: Image) -> Place:
    """What ``docker save`` writes since version 25: an OCI layout, and a manifest.json that names its blobs."""
    manifest: list[object] = [
        {
            "Config": blob_path(digest_of(image.config)),
            "RepoTags": list(image.names) or None,
            "Layers": [blob_path(digest_of(layer.data)) for layer in image.layers],
            "LayerSources": {},
        }
        for image in images
    ]
    return oci_layout(*images).put("manifest.json", manifest)


def skopeo_dir(image: Image) -> Place:
    """What ``skopeo copy … dir:`` writes."""
    blobs = {digest.partition(":")[2]: data for digest, data in image.blobs.items()}
    version = b"Directory Transport Version: 1.1\n"
    return Place({**blobs, "version": version, "manifest.json": image.manifest})
