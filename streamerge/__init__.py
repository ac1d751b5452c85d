"""streamerge merges the layers of a container image into one root filesystem.

Layers are read newest first, once each, as streams; what shows is written once. Data flows one way::

    sources -> codecs -> tar -> rules -> sinks

``merge(layer_files(["base.tar", "app.tar.gz"]), open_tar("rootfs.tar"))`` is a whole program; ``docs/library.md`` has
more, and ``docs/architecture.md`` a map of the package.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for it would take 4 ms

if TYPE_CHECKING:
    from streamerge.codecs.magic import Codec
    from streamerge.digest import Digest
    from streamerge.engine.merging import merge
    from streamerge.entry import Entry, Kind
    from streamerge.errors import (
        Cancelled,
        DigestMismatch,
        FormatError,
        ImageError,
        LayerError,
        LimitExceeded,
        SinkError,
        StreamergeError,
        UnsafePathError,
        UnsupportedMediaType,
        UsageError,
    )
    from streamerge.fileio import Extent, FileHandle
    from streamerge.interfaces import (
        ImageLayers,
        Layer,
        Preview,
        PreviewSink,
        RestartNeeded,
        Run,
        RunSink,
        Sink,
        Takes,
        TreeSink,
    )
    from streamerge.observe import (
        BytesRead,
        Counts,
        EntryDecided,
        EntryRetained,
        Event,
        LayerFinished,
        LayerStarted,
        LinkPromoted,
        MergeFinished,
        MergeStarted,
        Observer,
        OutputFlushing,
        Report,
        Warned,
    )
    from streamerge.options import Options, Whiteouts
    from streamerge.rules.placing import Decision
    from streamerge.sinks.cpio.sink import CpioSink, open_cpio
    from streamerge.sinks.directory.ownership import IdMap, Ownership
    from streamerge.sinks.directory.sink import DirectorySink
    from streamerge.sinks.mkfs.opening import open_filesystem
    from streamerge.sinks.mkfs.options import Console, FilesystemOptions, Free
    from streamerge.sinks.output import Output
    from streamerge.sinks.tar import TarSink, open_tar
    from streamerge.sources.blob import Blob, BlobLayer, ImageLayer
    from streamerge.sources.documents import (
        Config,
        Descriptor,
        History,
        Manifest,
        Platform,
        RootFS,
        RuntimeConfig,
        SavedImage,
    )
    from streamerge.sources.files import LayerFile, LayerFileObject, LayerPipe, layer_files, open_layer
    from streamerge.sources.image import Image, ImageOptions
    from streamerge.sources.opening import open_image
    from streamerge.streams import Chunks, ChunkStream, FileStream, ReadAheadBy, Stream

__all__ = [
    "Blob",
    "BlobLayer",
    "BytesRead",
    "Cancelled",
    "ChunkStream",
    "Chunks",
    "Codec",
    "Config",
    "Console",
    "Counts",
    "CpioSink",
    "Decision",
    "Descriptor",
    "Digest",
    "DigestMismatch",
    "DirectorySink",
    "Entry",
    "EntryDecided",
    "EntryRetained",
    "Event",
    "Extent",
    "FileHandle",
    "FileStream",
    "FilesystemOptions",
    "FormatError",
    "Free",
    "History",
    "IdMap",
    "Image",
    "ImageError",
    "ImageLayer",
    "ImageLayers",
    "ImageOptions",
    "Kind",
    "Layer",
    "LayerError",
    "LayerFile",
    "LayerFileObject",
    "LayerFinished",
    "LayerPipe",
    "LayerStarted",
    "LimitExceeded",
    "LinkPromoted",
    "Manifest",
    "MergeFinished",
    "MergeStarted",
    "Observer",
    "Options",
    "Output",
    "OutputFlushing",
    "Ownership",
    "Platform",
    "Preview",
    "PreviewSink",
    "ReadAheadBy",
    "Report",
    "RestartNeeded",
    "RootFS",
    "Run",
    "RunSink",
    "RuntimeConfig",
    "SavedImage",
    "Sink",
    "SinkError",
    "Stream",
    "StreamergeError",
    "Takes",
    "TarSink",
    "TreeSink",
    "UnsafePathError",
    "UnsupportedMediaType",
    "UsageError",
    "Warned",
    "Whiteouts",
    "layer_files",
    "merge",
    "open_cpio",
    "open_filesystem",
    "open_image",
    "open_layer",
    "open_tar",
]

__version__ = "0.1.0"

_MODULES = {
    "codecs.magic": ["Codec"],
    "digest": ["Digest"],
    "engine.merging": ["merge"],
    "entry": ["Entry", "Kind"],
    "errors": [
        "Cancelled",
        "DigestMismatch",
        "FormatError",
        "ImageError",
        "LayerError",
        "LimitExceeded",
        "SinkError",
        "StreamergeError",
        "UnsafePathError",
        "UnsupportedMediaType",
        "UsageError",
    ],
    "fileio": ["Extent", "FileHandle"],
    "interfaces": [
        "ImageLayers",
        "Layer",
        "Preview",
        "PreviewSink",
        "RestartNeeded",
        "Run",
        "RunSink",
        "Sink",
        "Takes",
        "TreeSink",
    ],
    "observe": [
        "BytesRead",
        "Counts",
        "EntryDecided",
        "EntryRetained",
        "Event",
        "LayerFinished",
        "LayerStarted",
        "LinkPromoted",
        "MergeFinished",
        "MergeStarted",
        "Observer",
        "OutputFlushing",
        "Report",
        "Warned",
    ],
    "options": ["Options", "Whiteouts"],
    "rules.placing": ["Decision"],
    "sinks.cpio.sink": ["CpioSink", "open_cpio"],
    "sinks.directory.ownership": ["IdMap", "Ownership"],
    "sinks.directory.sink": ["DirectorySink"],
    "sinks.mkfs.opening": ["open_filesystem"],
    "sinks.mkfs.options": ["Console", "FilesystemOptions", "Free"],
    "sinks.output": ["Output"],
    "sinks.tar": ["TarSink", "open_tar"],
    "sources.blob": ["Blob", "BlobLayer", "ImageLayer"],
    "sources.documents": [
        "Config",
        "Descriptor",
        "History",
        "Manifest",
        "Platform",
        "RootFS",
        "RuntimeConfig",
        "SavedImage",
    ],
    "sources.files": ["LayerFile", "LayerFileObject", "LayerPipe", "layer_files", "open_layer"],
    "sources.image": ["Image", "ImageOptions"],
    "sources.opening": ["open_image"],
    "streams": ["ChunkStream", "Chunks", "FileStream", "ReadAheadBy", "Stream"],
}
"""Public names by module. They are imported when they are used: all of them take longer than merging a small image."""

_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'streamerge' has no attribute '{name}'")
    from importlib import import_module

    value: object = getattr(import_module(f"streamerge.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List all public names, whether they are imported yet or not."""
    return sorted({*globals(), *_HOME})
