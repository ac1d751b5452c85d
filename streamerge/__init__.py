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
    LayerError,
    SinkError,
    StreamergeError,
    UnsafePathError,
    UnsupportedMediaType,
)
from streamerge.interfaces import Layer, RawSink, Sink, Stream
from streamerge.run import Report, merge
from streamerge.sinks.tar import TarSink, open_tar
from streamerge.sources.files import LayerFile, LayerPipe, layer_files
from streamerge.whiteout import Whiteouts

__all__ = [
    "DigestMismatch",
    "Entry",
    "FormatError",
    "Kind",
    "Layer",
    "LayerError",
    "LayerFile",
    "LayerPipe",
    "Options",
    "RawSink",
    "Report",
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
    "open_tar",
]

__version__ = "0.1.0"
