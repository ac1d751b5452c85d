"""Rule 6: a hard link means the file that *its own layer* saw at the target's path.

A surviving link whose target is in the output already is written as it passes and never comes here. The others
are *held*, because their target

- comes later in the layer, or waits for its directory;
- is hidden by a newer layer: then the link is *promoted*, it becomes the file itself;
- lies in an older layer, which is read later.

At the end of each layer :meth:`Links.resolve` follows the held links as far as it can. A target that must lie in an
older layer is looked up again in each older layer in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streamerge.errors import FormatError, show

__all__ = ["Held", "LayerFacts", "Links", "Origin"]


class Origin(NamedTuple):
    """Where an entry was read: layer index, and offset of its header in the layer's decoded stream."""

    layer: int
    offset: int


@dataclass(slots=True, eq=False)
class Held:
    """A surviving hard link, and what is known of its target so far.

    ``bound`` is the path in the output that holds the file, or the Origin of the hidden file, or None while unknown.
    """

    path: bytes
    target: bytes
    layer: int
    offset: int
    bound: bytes | Origin | None = None


class LayerFacts(Protocol):
    """What :class:`Links` asks of a layer that has been read; see :class:`streamerge.rules.record.LayerRecord`."""

    index: int
    hidden: dict[bytes, int]
    hidden_links: dict[bytes, bytes]
    device_whiteouts: set[bytes]

    def make_whiteout(self, path: bytes) -> None:
        """Turn a hard link that shows into a whiteout."""

    def shows(self, path: bytes) -> bool:
        """Whether this layer's non-directory at ``path`` is in the merged tree."""

    def has_directory(self, path: bytes) -> bool:
        """Whether this layer has a directory at ``path``, listed or implicit."""

    def hides_older(self, path: bytes) -> bool:
        """Whether this layer hides what older layers have at ``path``."""


class Links:
    """All held links of a merge, newest layer first, each layer's in stream order."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self._current: dict[bytes, Held] = {}  # those of the layer being read, by path
        self._unresolved: dict[bytes, list[Held]] = {}  # by the path to look up in older layers

    @property
    def has_unresolved(self) -> bool:
        """Whether some link's target must lie in an older layer. Each layer must then record its whiteouts."""
        return bool(self._unresolved)

    def bound_in(self, layer: int) -> set[Origin]:
        """The hidden entries of ``layer`` that held links are bound to. Cost: the links held."""
        bound = (link.bound for link in self.held)
        return {origin for origin in bound if isinstance(origin, Origin) and origin.layer == layer}

    def hold(self, link: Held, facts: LayerFacts) -> None:
        """Keep a surviving link of the layer being read.

        A hidden target that has passed is bound now: if a layer lists the target twice, the link means the
        instance before it, as it does when the layer is unpacked.
        """
        if not facts.shows(link.target):
            if link.target in facts.hidden:
                link.bound = Origin(facts.index, facts.hidden[link.target])
            link.target = facts.hidden_links.get(link.target, link.target)
        self.held.append(link)
        self._current[link.path] = link

    def resolve(self, facts: LayerFacts) -> None:
        """Follow all unresolved links through the layer that ends here. Cost: these links and their chains.

        Raises FormatError for circles, links to directories, and links to nothing.
        """
        unresolved, self._unresolved = self._unresolved, {}
        for link in self._current.values():
            if link.bound is None:
                self._follow(link, link.target, facts)
        for target, links in unresolved.items():
            for link in links:
                end = self._follow(link, target, facts)
                if end == target and facts.hides_older(target):
                    raise _dangling(link)
        self._current = {}

    def _follow(self, link: Held, start: bytes, facts: LayerFacts) -> bytes | None:
        """Bind ``link`` in this layer and return None, or return the path to look up in older layers."""
        target, seen = start, {start}
        while True:
            current = self._current.get(target)
            if current is not None:
                if current.bound is not None:
                    link.bound = current.bound
                    return None
                target = current.target
            elif facts.shows(target):
                link.bound = target
                return None
            elif target in facts.device_whiteouts and link.layer == facts.index:
                self.held.remove(link)
                facts.make_whiteout(link.path)
                return None
            elif target in facts.hidden_links:
                target = facts.hidden_links[target]
            elif target in facts.hidden:
                link.bound = Origin(facts.index, facts.hidden[target])
                return None
            else:
                return self._look_in_older(link, target, facts)
            if target in seen:
                raise FormatError("hard links that only name each other hold no file").at(
                    path=link.path, index=link.layer
                )
            seen.add(target)

    def _look_in_older(self, link: Held, target: bytes, facts: LayerFacts) -> bytes:
        if facts.has_directory(target):
            raise FormatError("the target of a hard link is a directory").at(path=link.path, index=link.layer)
        self._unresolved.setdefault(target, []).append(link)
        return target

    def finish(self) -> tuple[dict[Origin, bytes], list[tuple[Held, bytes]]]:
        """Return (promoted path of each hidden file, remaining links with the path they link to).

        Of the links to a hidden file that survive, the first is promoted: newest layer, then stream order.
        Raises FormatError if a link's target was in no layer.
        """
        for links in self._unresolved.values():
            raise _dangling(links[0])
        promoted: dict[Origin, bytes] = {}
        remaining = []
        for link in self.held:
            if not isinstance(link.bound, Origin):
                assert link.bound is not None
                remaining.append((link, link.bound))
            elif link.bound in promoted:
                remaining.append((link, promoted[link.bound]))
            else:
                promoted[link.bound] = link.path
        return promoted, remaining


def _dangling(link: Held) -> FormatError:
    problem = f"the target of this hard link, '{show(link.target)}', is in no layer that it could see"
    return FormatError(problem).at(path=link.path, index=link.layer)
