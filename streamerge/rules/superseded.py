"""Rule 7: which entries of a layer that lists a path twice are replaced later in the same layer."""

from __future__ import annotations

from collections.abc import Iterable

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError, show
from streamerge.options import Whiteouts
from streamerge.rules.placing import fingerprint
from streamerge.rules.whiteout import Mark, classify

__all__ = ["superseded_offsets"]


def superseded_offsets(entries: Iterable[Entry], style: Whiteouts) -> frozenset[int]:
    """Return the offsets of the entries of one layer that the rest of the layer replaces or makes meaningless.

    Those are all but the last entry of a repeated path, and whiteouts below a symlink or file of their own layer.
    Of directory entries with equal metadata, the first counts. Raises FormatError for an entry below a
    non-directory. Memory: all paths of the layer. Cost: one look at each component.
    """
    last: dict[bytes, tuple[int, Kind, int]] = {}
    whiteouts: list[tuple[int, bytes]] = []
    superseded: set[int] = set()
    for entry in entries:
        mark, _ = classify(entry, style)
        if mark in (Mark.EXPLICIT, Mark.OPAQUE):
            whiteouts.append((entry.offset, entry.path))
        elif mark is Mark.NONE:
            _record(entry, last, superseded)
    others = {path for path, (_, kind, _) in last.items() if kind is not Kind.DIRECTORY}
    for path in last:
        blocker = _non_directory_above(path, others)
        if blocker is not None:
            problem = f"lies below '{show(blocker)}', which this layer lists as something else"
            raise FormatError(problem).at(path=path, offset=last[path][0])
    superseded.update(offset for offset, path in whiteouts if _non_directory_above(path, others) is not None)
    return frozenset(superseded)


def _record(entry: Entry, last: dict[bytes, tuple[int, Kind, int]], superseded: set[int]) -> None:
    state = (entry.kind, fingerprint(entry.header, entry.records) if entry.kind is Kind.DIRECTORY else 0)
    before = last.get(entry.path)
    if before is not None:
        if entry.kind is Kind.DIRECTORY and before[1:] == state:
            superseded.add(entry.offset)
            return
        superseded.add(before[0])
    last[entry.path] = (entry.offset, *state)


def _non_directory_above(path: bytes, others: set[bytes]) -> bytes | None:
    """The ancestor of ``path`` that is not a directory, if there is one."""
    while cut := path.rfind(b"/") + 1:
        path = path[: cut - 1]
        if path in others:
            return path
    return None
