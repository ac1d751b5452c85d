"""streamerge merges the layers of a container image into one root filesystem.

Layers are read newest first, once each, as streams; what shows is written once. Data flows one way::

    sources -> codecs -> tarreader -> merge -> sinks
                              (one_pass, run: who calls whom)

``merge(layer_files(["base.tar", "app.tar.gz"]), open_tar("rootfs.tar"))`` is the whole of it; the command
``streamerge`` is a thin user of these names. ``docs/architecture.md`` has the map of the rooms.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from streamerge.engine.merging import Report, merge
from streamerge.engine.onepass import Observer, Options
from streamerge.entry import Entry, Kind
from streamerge.errors import (
    DigestMismatch,
    FormatError,
    ImageError,
    LayerError,
    LimitExceeded,
    SinkError,
    StreamergeError,
    UnsafePathError,
    UnsupportedMediaType,
)
from streamerge.interfaces import Layer, RawSink, Sink, Stream
from streamerge.rules.whiteout import Whiteouts
from streamerge.sinks.directory.ownership import IdMap, Ownership
from streamerge.sinks.tar import TarSink, open_tar
from streamerge.sources.files import LayerFile, LayerPipe, layer_files

if TYPE_CHECKING:
    from streamerge.sinks.cpio.sink import CpioSink, open_cpio
    from streamerge.sinks.directory.sink import DirectorySink
    from streamerge.sinks.mkfs.opening import open_filesystem
    from streamerge.sinks.mkfs.options import FilesystemOptions, Free
    from streamerge.sources.blob import BlobLayer
    from streamerge.sources.documents import Config, Manifest, Platform, RuntimeConfig
    from streamerge.sources.image import Image
    from streamerge.sources.opening import open_image

__all__ = [
    "BlobLayer",
    "Config",
    "CpioSink",
    "DigestMismatch",
    "DirectorySink",
    "Entry",
    "FilesystemOptions",
    "FormatError",
    "Free",
    "IdMap",
    "Image",
    "ImageError",
    "Kind",
    "Layer",
    "LayerError",
    "LayerFile",
    "LayerPipe",
    "LimitExceeded",
    "Manifest",
    "Observer",
    "Options",
    "Ownership",
    "Platform",
    "RawSink",
    "Report",
    "RuntimeConfig",
    "Sink",
    "SinkError",
    "Stream",
    "StreamergeError",
    "TarSink",
    "UnsafePathError",
    "UnsupportedMediaType",
    "Whiteouts",
    "layer_files",
    "merge",
    "open_cpio",
    "open_filesystem",
    "open_image",
    "open_tar",
]

__version__ = "0.1.0"

_WHEN_ASKED = {
    "CpioSink": "sinks.cpio.sink",
    "open_cpio": "sinks.cpio.sink",
    "DirectorySink": "sinks.directory.sink",
    "FilesystemOptions": "sinks.mkfs.options",
    "Free": "sinks.mkfs.options",
    "open_filesystem": "sinks.mkfs.opening",
    "BlobLayer": "sources.blob",
    "Config": "sources.documents",
    "Manifest": "sources.documents",
    "Platform": "sources.documents",
    "RuntimeConfig": "sources.documents",
    "Image": "sources.image",
    "open_image": "sources.opening",
}
"""Where the names are that not every merge needs: to import them all takes longer than to merge a small image."""


def __getattr__(name: str) -> object:
    """Import a name of ``_WHEN_ASKED`` (PEP 562)."""
    if name not in _WHEN_ASKED:
        raise AttributeError(f"module 'streamerge' has no attribute '{name}'")
    value: object = getattr(importlib.import_module(f"streamerge.{_WHEN_ASKED[name]}"), name)
    globals()[name] = value
    return value
