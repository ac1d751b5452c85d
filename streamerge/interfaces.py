"""The interfaces of layers and sinks.

All of them are protocols. Inherit from one to get the defaults of its optional members.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeGuard, TypeVar

from streamerge.entry import Entry
from streamerge.errors import StreamergeError
from streamerge.fileio import Check, Extent
from streamerge.streams import Stream

__all__ = [
    "ImageLayers",
    "InterruptibleSink",
    "Layer",
    "Preview",
    "PreviewSink",
    "RestartNeeded",
    "Run",
    "RunSink",
    "Sink",
    "Stream",
    "Takes",
    "TreeSink",
    "is_interruptible",
    "needs_preview",
    "takes_runs",
    "takes_trees",
]

_L = TypeVar("_L", bound="Layer", covariant=True)


class Layer(Protocol):
    """One layer of a stack.

    ========== =========================================================================================
    name       what messages call it
    reopenable whether :meth:`open` may be called more than once
    size       stored (compressed) bytes; None if not known
    ========== =========================================================================================
    """

    name: str
    reopenable: bool = False
    size: int | None = None

    @abstractmethod
    def open(self) -> Stream:
        """Return a stream of the layer's decoded bytes. Raises LayerError."""
        raise NotImplementedError

    def explain(self, error: StreamergeError) -> StreamergeError:
        """Return the error to raise instead of ``error``, which reading the layer has caused; often the same.

        For example, a layer that can verify its content may find that it is damaged, which explains any other error.
        """
        return error

    def mark_verified(self) -> None:
        """Called when a stream of the layer was read to its end without an error, possibly in another process."""
        return


class ImageLayers(tuple[_L, ...]):
    """The layers of an image, base first. An image may have no layers: it is an empty tree."""

    __slots__ = ()


class Takes(enum.Flag):
    """What a sink accepts in addition to single entries, parents first."""

    ENTRIES = 0
    ANY_ORDER = enum.auto()
    """A child may come before its directory."""
    RESTART = enum.auto()
    """:meth:`Sink.restart` works."""
    TAR_RUNS = enum.auto()
    """Runs of tar; see :class:`RunSink`."""
    FILE_RUNS = enum.auto()
    """Runs of plain files and symlinks; see :class:`TreeSink`."""
    EXTENTS = enum.auto()
    """Runs with an extent but without data."""
    PREVIEW = enum.auto()
    """A preview of the merge before the first entry; see :class:`PreviewSink`."""
    CHECK = enum.auto()
    """A check to call while the sink waits; see :class:`InterruptibleSink`."""


class Sink(Protocol):
    """Receives the merged entries: each path once, a directory before its content, a hard link after its target.

    ``takes`` declares what the sink accepts besides :meth:`add`, and so which other methods the merge calls.
    """

    takes: Takes = Takes.ENTRIES

    @abstractmethod
    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Write an entry. The ``body`` of a file must be read to its end. Raises SinkError."""
        raise NotImplementedError

    def restart(self) -> None:
        """Forget all entries added so far. Called only if ``takes`` includes RESTART."""
        raise NotImplementedError

    def finish(self) -> None:
        """Complete the output and make it appear. If this raises SinkError, nothing is left behind."""
        return

    def abort(self) -> None:
        """Remove everything written so far. Does nothing after :meth:`finish`. Never raises."""
        return


class Run(NamedTuple):
    """Adjacent entries that pass unchanged, as one piece of tar: its ``data``, and the ``extent`` that holds the same.

    ``extent`` is None if no file holds the bytes. ``data`` is None if a file holds them and they were not read. The
    memory of ``data`` does not change later.
    """

    data: bytes | memoryview | None
    extent: Extent | None = None


class RunSink(Sink, Protocol):
    """A sink that writes a tar. It gets unchanged entries as runs."""

    @abstractmethod
    def write_run(self, run: Run) -> None:
        """Append headers and bodies. A run may begin and end anywhere in a body. Raises SinkError."""
        raise NotImplementedError


class TreeSink(RunSink, Protocol):
    """A sink that gets runs of whole plain files and symlinks, without PAX records, instead of single entries.

    :func:`streamerge.tar.runs.split_run` splits a run. With EXTENTS, a run without data is one file.
    """

    @abstractmethod
    def enter_directory(self, path: bytes) -> None:
        """Create a directory (``b"a/b/"``; the root is ``b""``) if it does not exist yet: runs for it follow."""
        raise NotImplementedError

    @abstractmethod
    def add_directory(self, path: bytes, header: bytes) -> None:
        """Add a directory without PAX records: its clean path and its header."""
        raise NotImplementedError


class Preview(Protocol):
    """What a sink can find out about a merge before it begins. Layers from pipes are spooled for it."""

    def root(self) -> Entry | None:
        """Return the root directory's entry if it is the first of its layer, else None. Reads only first entries."""

    def merge_into(self, sink: Sink) -> None:
        """Merge all layers into ``sink`` without finishing it. Costs another pass over the layers."""


class PreviewSink(Sink, Protocol):
    """A sink that needs to know something before the first entry."""

    @abstractmethod
    def prepare(self, preview: Preview) -> None:
        """Look at the merge. Called once, before the first entry. Raises StreamergeError."""
        raise NotImplementedError


class InterruptibleSink(Sink, Protocol):
    """A sink that may wait for a long time, and can be interrupted meanwhile."""

    @abstractmethod
    def set_check(self, check: Check) -> None:
        """Call ``check`` at least every 20 ms while waiting. Do not catch what it raises."""
        raise NotImplementedError


class RestartNeeded(Exception):
    """Raised by a sink if an entry contradicts its preview. The merge restarts the sink and adds all entries again."""


def takes_runs(sink: Sink) -> TypeGuard[RunSink]:
    """Return whether a sink takes runs of tar."""
    return Takes.TAR_RUNS in sink.takes


def takes_trees(sink: Sink) -> TypeGuard[TreeSink]:
    """Return whether a sink takes runs of plain files."""
    return Takes.FILE_RUNS in sink.takes


def needs_preview(sink: Sink) -> TypeGuard[PreviewSink]:
    """Return whether a sink needs a preview."""
    return Takes.PREVIEW in sink.takes


def is_interruptible(sink: Sink) -> TypeGuard[InterruptibleSink]:
    """Return whether a sink calls a check while it waits."""
    return Takes.CHECK in sink.takes
