"""What a merge reports: small immutable events for an observer, and a report at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streamerge.entry import Kind

if TYPE_CHECKING:
    from streamerge.rules.placing import Decision

__all__ = [
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
]


class Report(NamedTuple):
    """What a merge did. Each entry is counted once; hidden directories are not counted."""

    layers: int
    written: int
    hidden: int
    hidden_bytes: int
    promoted: int
    seconds: float


class Counts:
    """What a pass has counted so far. The numbers grow while the pass runs."""

    __slots__ = ("hidden", "hidden_bytes", "written", "written_bytes")

    def __init__(self) -> None:
        self.written = 0
        self.written_bytes = 0
        self.hidden = 0
        self.hidden_bytes = 0

    def add(self, written: int, hidden: int, hidden_bytes: int) -> None:
        """Add to the counts."""
        self.written += written
        self.hidden += hidden
        self.hidden_bytes += hidden_bytes


class MergeStarted(NamedTuple):
    """A pass over all layers begins. A merge makes a second pass if a layer lists a path twice."""

    layers: int
    counts: Counts


class LayerStarted(NamedTuple):
    """Reading of a layer begins. ``size`` is in stored (compressed) bytes; None if not known."""

    layer: int
    name: str
    size: int | None


class BytesRead(NamedTuple):
    """``read`` of ``total`` stored (compressed) bytes of a layer have been read; None if not known."""

    layer: int
    read: int | None
    total: int | None


class EntryDecided(NamedTuple):
    """The rules have decided on an entry. A second pass decides again.

    ``hidden_by`` is the newer layer that hides the entry, or lists the same directory; None if none does, as for an
    excluded entry.
    """

    layer: int
    path: bytes
    kind: Kind
    size: int
    decision: Decision
    hidden_by: int | None


class EntryRetained(NamedTuple):
    """An entry cannot be written yet; it can be read again later. ``size`` is the size of its body."""

    layer: int
    path: bytes
    size: int


class LinkPromoted(NamedTuple):
    """The hard link at ``path`` becomes the file itself. The hidden file is in ``layer``."""

    layer: int
    path: bytes


class LayerFinished(NamedTuple):
    """A layer has been read to its end."""

    layer: int


class Warned(NamedTuple):
    """A problem that is not an error. ``layer`` and ``path`` are None if it is about neither."""

    layer: int | None
    path: bytes | None
    text: str


class OutputFlushing(NamedTuple):
    """All entries have been written; the output is completed and flushed to disk."""


class MergeFinished(NamedTuple):
    """The output is complete and has its final name."""

    report: Report


Event = (
    MergeStarted
    | LayerStarted
    | BytesRead
    | EntryDecided
    | EntryRetained
    | LinkPromoted
    | LayerFinished
    | Warned
    | OutputFlushing
    | MergeFinished
)


class Observer:
    """Receives the events of a merge. Override the methods that you need. All calls come from the merging thread.

    With ``wants_entries`` there are also events for each entry (EntryDecided, EntryRetained), and the merge takes
    several times as long. An exception from either method ends the merge, and nothing is left behind.
    """

    wants_entries: bool = False

    def notify(self, event: Event) -> None:
        """Receive one event."""

    def cancelled(self) -> bool:
        """Return whether to stop: the merge then raises :class:`~streamerge.errors.Cancelled` within 100 ms."""
        return False
