"""The doors of the merge: what a source gives it and what a sink takes from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from streamerge.entry import Entry
from streamerge.errors import StreamergeError

__all__ = [
    "BeginAgain",
    "Explains",
    "Fetches",
    "FileSink",
    "Foresees",
    "InFile",
    "Layer",
    "Preview",
    "RawSink",
    "Sink",
    "Stream",
    "Vouched",
]


class Stream(Protocol):
    """Decoded bytes of one layer, from its start. ``seeks`` tells whether skipping costs nothing."""

    seeks: bool

    def read(self) -> bytes:
        """Return the next chunk, of any size; ``b""`` at the end. Raises LayerError."""

    def skip(self, size: int) -> int:
        """Pass over ``size`` bytes; return how many there were, fewer only at the end."""

    def close(self) -> None:
        """Give back what the stream holds. May be called twice."""


@runtime_checkable
class InFile(Protocol):
    """A stream whose bytes lie in a regular file, where others can fetch them too."""

    @property
    def place(self) -> tuple[int, int]:
        """A descriptor that is open as long as the stream is, and where in its file the stream's first byte lies."""


class Layer(Protocol):
    """One layer of a stack. ``reopenable`` tells whether :meth:`open` may be called again."""

    name: str
    reopenable: bool

    def open(self) -> Stream:
        """Start reading at the layer's first decoded byte. Raises LayerError."""


@runtime_checkable
class Explains(Protocol):
    """A layer that may know better than the merge why it makes no sense."""

    def explain(self, error: StreamergeError) -> StreamergeError:
        """Return what to raise instead of ``error``, or ``error`` itself."""


@runtime_checkable
class Vouched(Protocol):
    """A layer that may be opened more cheaply once it is known to be what it should be."""

    def vouch(self) -> None:
        """Take note that a stream of this layer was read to its end without an error, be it in another process."""


class Sink(Protocol):
    """Where merged entries go, each path once, a link after its target.

    ``any_order`` tells that a child may come before its directory; ``restartable`` that the sink can drop
    what it has and begin again. After :meth:`finish` or :meth:`abort` a sink is done for.
    """

    any_order: bool
    restartable: bool

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Write an entry; a file's ``body`` is read to its end. Raises SinkError."""

    def restart(self) -> None:
        """Forget all entries added so far."""

    def finish(self) -> None:
        """Complete the output; only now does it appear. Raises SinkError, and then leaves nothing."""

    def abort(self) -> None:
        """Leave nothing behind. Never raises."""


class RawSink(Sink, Protocol):
    """A sink that holds a tar: entries that need no change may be given as the bytes they came in."""

    def write(self, data: bytes | memoryview, offset: int = -1) -> None:
        """Append raw headers and bodies, which stand at ``offset`` of the layer at hand if that is given.

        The memory behind ``data`` must not change afterwards.
        """


class FileSink(Sink, Protocol):
    """A sink that takes plain files and symlinks, those without PAX records, many at once and without Entries."""

    def enter(self, directory: bytes) -> None:
        """Make sure that a directory (``b"a/b/"``; the root is ``b""``) is there: files for it follow."""

    def add_directory(self, path: bytes, header: bytes) -> None:
        """Add a directory, without PAX records as well: its clean path, its header."""

    def write_files(self, run: bytes | memoryview, offset: int = -1) -> None:
        """Add what is new in directories that were entered: a piece of a tar, see hotpath.files_of.

        It stands at ``offset`` of the layer at hand, if that is given.
        """


@runtime_checkable
class Fetches(Protocol):
    """A raw or file sink that fetches bytes from a layer's file by itself, while the merge goes on."""

    def read_from(self, file: InFile | None) -> None:
        """From here on offsets are in this layer; None: it lies in no file, or its stream is about to be closed."""

    def fetch(self, offset: int, size: int) -> None:
        """Do as ``write`` or ``write_files`` does with bytes that the layer holds there: for a file sink one file."""


class Preview(Protocol):
    """What a sink may learn of a merge before it begins. Layers that are pipes are spooled for it."""

    def root(self) -> Entry | None:
        """The root's own entry, if the newest layer that has one begins with it; cost: the first bytes of layers."""

    def merge_into(self, sink: Sink) -> None:
        """Merge all layers into ``sink``, which neither finishes nor aborts; cost: another reading of the layers."""


@runtime_checkable
class Foresees(Protocol):
    """A sink that must know something before the first entry."""

    def prepare(self, preview: Preview) -> None:
        """Learn it; called once, before anything is added. Raises StreamergeError."""


class BeginAgain(Exception):
    """What a sink raises when an entry belies its preview: it wants ``restart`` and all entries anew. No error."""
