"""The doors of the merge: what a source gives it and what a sink takes from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from streamerge.entry import Entry
from streamerge.errors import StreamergeError

__all__ = ["BeginAgain", "Explains", "FileSink", "Foresees", "Layer", "Preview", "RawSink", "Sink", "Stream"]


class Stream(Protocol):
    """Decoded bytes of one layer, from its start. ``seeks`` tells whether skipping costs nothing."""

    seeks: bool

    def read(self) -> bytes:
        """Return the next chunk, of any size; ``b""`` at the end. Raises LayerError."""

    def skip(self, size: int) -> int:
        """Pass over ``size`` bytes; return how many there were, fewer only at the end."""

    def close(self) -> None:
        """Give back what the stream holds. May be called twice."""


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

    def write(self, data: bytes | memoryview) -> None:
        """Append raw headers and bodies. The memory behind ``data`` must not change afterwards."""


class FileSink(Sink, Protocol):
    """A sink that takes plain files, those with neither PAX records nor xattrs, without an Entry."""

    def put(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Add a new file: its clean path, where the base name begins in it, its header, its whole body."""


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
