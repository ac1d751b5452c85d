"""What the merge takes from a source, and what it gives to a sink.

All of these are protocols. Inherit from one to get the defaults of what it does not require.
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
    size       stored (compressed) bytes, if that is known
    ========== =========================================================================================
    """

    name: str
    reopenable: bool = False
    size: int | None = None

    @abstractmethod
    def open(self) -> Stream:
        """Start reading at the layer's first decoded byte. Raises LayerError."""
        raise NotImplementedError

    def explain(self, error: StreamergeError) -> StreamergeError:
        """Return what to raise instead of ``error``, which a reader of the layer has met; often the error itself.

        A layer that can verify its content may find that it is damaged, which explains any other error.
        """
        return error

    def mark_verified(self) -> None:
        """Note that a stream of the layer was read to its end without an error, possibly in another process."""
        return


class ImageLayers(tuple[_L, ...]):
    """The layers of an image, base first. They may be none: an image without layers is an empty tree."""

    __slots__ = ()


class Takes(enum.Flag):
    """What a sink takes, beside entries one by one in an order in which parents come first."""

    ENTRIES = 0
    ANY_ORDER = enum.auto()
    """A child may come before its directory."""
    RESTART = enum.auto()
    """:meth:`Sink.restart` works."""
    TAR_RUNS = enum.auto()
    """Runs of tar: see :class:`RunSink`."""
    FILE_RUNS = enum.auto()
    """Runs of plain files and symlinks: see :class:`TreeSink`."""
    EXTENTS = enum.auto()
    """Runs of which only the extent is given."""
    PREVIEW = enum.auto()
    """A look at the layers before the first entry: see :class:`PreviewSink`."""
    CHECK = enum.auto()
    """A check to call while it waits: see :class:`InterruptibleSink`."""


class Sink(Protocol):
    """Where merged entries go: each path once, a directory before what is in it, a link after its target.

    ``takes`` declares what the sink takes; the merge calls no method that ``takes`` does not announce.
    """

    takes: Takes = Takes.ENTRIES

    @abstractmethod
    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Write an entry; a file's ``body`` is to be read to its end. Raises SinkError."""
        raise NotImplementedError

    def restart(self) -> None:
        """Forget all entries added so far; called only where ``takes`` includes RESTART."""
        raise NotImplementedError

    def finish(self) -> None:
        """Complete the output; only now does it appear. Raises SinkError, and then leaves nothing."""
        return

    def abort(self) -> None:
        """Leave nothing behind; does nothing after :meth:`finish`. Never raises."""
        return


class Run(NamedTuple):
    """Adjacent entries that pass unchanged, as one piece of tar: ``data``, and the ``extent`` that holds the same.

    ``extent`` is None for what does not lie in a file; ``data`` is None for what lies in one and was not read. The
    memory behind ``data`` does not change.
    """

    data: bytes | memoryview | None
    extent: Extent | None = None


class RunSink(Sink, Protocol):
    """A sink that holds a tar: entries that need no change are given as the bytes they came in."""

    @abstractmethod
    def write_run(self, run: Run) -> None:
        """Append headers and bodies; a run may begin and end anywhere in a body. Raises SinkError."""
        raise NotImplementedError


class TreeSink(RunSink, Protocol):
    """A sink that takes runs of whole plain files and symlinks, all without PAX records, instead of Entries.

    :func:`streamerge.tar.runs.split_run` takes a run apart. With EXTENTS, a run without data is one file.
    """

    @abstractmethod
    def enter_directory(self, path: bytes) -> None:
        """Make sure that a directory (``b"a/b/"``; the root is ``b""``) is there: runs for it follow."""
        raise NotImplementedError

    @abstractmethod
    def add_directory(self, path: bytes, header: bytes) -> None:
        """Add a directory without PAX records: its clean path and its header."""
        raise NotImplementedError


class Preview(Protocol):
    """What a sink may learn of a merge before it begins. Layers that are pipes are spooled for it."""

    def root(self) -> Entry | None:
        """Return the root's own entry, if the newest layer that has one begins with it. Reads only layers' starts."""

    def merge_into(self, sink: Sink) -> None:
        """Merge all layers into ``sink`` without finishing it. Costs another pass over the layers."""


class PreviewSink(Sink, Protocol):
    """A sink that must know something before the first entry."""

    @abstractmethod
    def prepare(self, preview: Preview) -> None:
        """Learn it; called once, before anything is added. Raises StreamergeError."""
        raise NotImplementedError


class InterruptibleSink(Sink, Protocol):
    """A sink that may wait for long, and can be interrupted meanwhile."""

    @abstractmethod
    def set_check(self, check: Check) -> None:
        """Call ``check`` at least every 20 ms while waiting; let what it raises pass."""
        raise NotImplementedError


class RestartNeeded(Exception):
    """Raised by a sink when an entry contradicts its preview: the merge restarts it and adds all entries again."""


def takes_runs(sink: Sink) -> TypeGuard[RunSink]:
    """Return whether a sink takes runs of tar."""
    return Takes.TAR_RUNS in sink.takes


def takes_trees(sink: Sink) -> TypeGuard[TreeSink]:
    """Return whether a sink takes runs of plain files."""
    return Takes.FILE_RUNS in sink.takes


def needs_preview(sink: Sink) -> TypeGuard[PreviewSink]:
    """Return whether a sink is to be prepared."""
    return Takes.PREVIEW in sink.takes


def is_interruptible(sink: Sink) -> TypeGuard[InterruptibleSink]:
    """Return whether a sink calls a check while it waits."""
    return Takes.CHECK in sink.takes
