"""A layer's headers read first, for layers that list a path twice (rule 7)."""

from __future__ import annotations

from collections.abc import Iterable

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError, show
from streamerge.options import Whiteouts
from streamerge.rules.placing import fingerprint
from streamerge.rules.whiteout import Mark, classify

__all__ = ["superseded"]


def superseded(entries: Iterable[Entry], style: Whiteouts) -> frozenset[int]:
    """Return the offsets of the entries that the rest of their own layer makes void.

    Those are all but the last of a repeated path (of directories that say the same, all but the first),
    and whiteouts below a symlink or file of their own layer. Raises FormatError for an entry below a
    non-directory. Memory: all paths of the layer; cost: one look at each component.
    """
    last: dict[bytes, tuple[int, Kind, int]] = {}
    whiteouts: list[tuple[int, bytes]] = []
    void: set[int] = set()
    for entry in entries:
        mark, _ = classify(entry, style)
        if mark in (Mark.EXPLICIT, Mark.OPAQUE):
            whiteouts.append((entry.offset, entry.path))
        elif mark is Mark.NONE:
            _note(entry, last, void)
    others = {path for path, (_, kind, _) in last.items() if kind is not Kind.DIRECTORY}
    for path in last:
        blocker = _blocker(path, others)
        if blocker is not None:
            problem = f"lies below '{show(blocker)}', which this layer lists as something else"
            raise FormatError(problem).at(path=path, offset=last[path][0])
    void.update(offset for offset, path in whiteouts if _blocker(path, others) is not None)
    return frozenset(void)


def _note(entry: Entry, last: dict[bytes, tuple[int, Kind, int]], void: set[int]) -> None:
    state = (entry.kind, fingerprint(entry.header, entry.records) if entry.kind is Kind.DIRECTORY else 0)
    before = last.get(entry.path)
    if before is not None:
        if entry.kind is Kind.DIRECTORY and before[1:] == state:
            void.add(entry.offset)
            return
        void.add(before[0])
    last[entry.path] = (entry.offset, *state)


def _blocker(path: bytes, others: set[bytes]) -> bytes | None:
    """The ancestor of ``path`` that is no directory, if there is one."""
    while cut := path.rfind(b"/") + 1:
        path = path[: cut - 1]
        if path in others:
            return path
    return None
