"""streamerge merges the layers of a container image into one root filesystem.

Layers are read newest first, once each, as streams; what shows is written once. Data flows one way::

    sources -> codecs -> tarreader -> merge -> sinks
                              (attempt, run: who calls whom)

``merge(layer_files(["base.tar", "app.tar.gz"]), open_tar("rootfs.tar"))`` is the whole of it; the command
``streamerge`` is a thin user of these names. ``docs/architecture.md`` has the map of the rooms.
"""

from streamerge.attempt import Options, Watch
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
from streamerge.run import Report, merge
from streamerge.sinks.attributes import IdMap, Ownership
from streamerge.sinks.cpio import CpioSink, open_cpio
from streamerge.sinks.directory import DirectorySink
from streamerge.sinks.mkfs.extsize import Free
from streamerge.sinks.mkfs.opening import FilesystemOptions, open_filesystem
from streamerge.sinks.tar import TarSink, open_tar
from streamerge.sources.blob import BlobLayer
from streamerge.sources.documents import Config, Manifest, Platform, RuntimeConfig
from streamerge.sources.files import LayerFile, LayerPipe, layer_files
from streamerge.sources.image import Image
from streamerge.sources.opening import open_image
from streamerge.whiteout import Whiteouts

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
    "Watch",
    "Whiteouts",
    "layer_files",
    "merge",
    "open_cpio",
    "open_filesystem",
    "open_image",
    "open_tar",
]

__version__ = "0.1.0"
