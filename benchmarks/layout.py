"""Write an OCI image layout around layers, for tools that read only layouts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

MEDIA = "application/vnd.oci.image"
SUFFIX = {"plain": "tar", "gzip": "tar+gzip", "zstd": "tar+zstd"}


def write(directory: Path, layers: Sequence[Path], plain: Sequence[Path], compression: str) -> None:
    """Make a layout with one image, tagged ``latest``.

    ``layers`` are in the given compression, ``plain`` are the same layers uncompressed; both come base first. The
    digests of ``plain`` become the diff_ids. Blobs are hard links to the layers where possible, otherwise copies.
    Cost: both forms are read once.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    described = [_add_layer(blobs, path, compression) for path in layers]
    config = _add_document(blobs, f"{MEDIA}.config.v1+json", _config(plain))
    manifest = {"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json", "config": config, "layers": described}
    entry = _add_document(blobs, f"{MEDIA}.manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _config(plain: Sequence[Path]) -> dict[str, object]:
    """The minimum that the specification requires; without a history, tools expect no history entry for a layer."""
    diff_ids = [f"sha256:{_sha256(path)}" for path in plain]
    return {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}


def _add_layer(blobs: Path, path: Path, compression: str) -> dict[str, object]:
    digest = _sha256(path)
    if not (blobs / digest).exists():
        _link_or_copy(path, blobs / digest)
    media_type = f"{MEDIA}.layer.v1.{SUFFIX[compression]}"
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": path.stat().st_size}


def _link_or_copy(path: Path, copy: Path) -> None:
    try:
        os.link(path.resolve(), copy)
    except OSError:
        shutil.copyfile(path, copy)


def _add_document(blobs: Path, media_type: str, document: dict[str, object]) -> dict[str, object]:
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
