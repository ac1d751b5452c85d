"""Rule 6: hard links name an inode as *their own layer* saw it.

A surviving link whose target is in the output already is written as it passes and never comes here. The
others are *held*: their target stands later in the layer, waits for its directory, is hidden by a newer
layer (then the link is *promoted*: it becomes the file itself), or lies in an older layer that is yet to
come. At the end of each layer :meth:`Links.settle` follows what can be followed; what names an older
layer stays *wanted* and is asked of each older layer in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streamerge.errors import FormatError, show

__all__ = ["Held", "LayerFacts", "Links", "Origin"]


class Origin(NamedTuple):
    """A hidden entry that carries data: layer index, and offset of its header in the layer's stream."""

    layer: int
    offset: int


@dataclass(slots=True, eq=False)
class Held:
    """A surviving hard link, and what is known of its target so far.

    ``bound`` is a path of the output that holds the inode, or a hidden Origin, or None while unknown.
    """

    path: bytes
    target: bytes
    layer: int
    offset: int
    bound: bytes | Origin | None = None


class LayerFacts(Protocol):
    """What :class:`Links` asks of a layer that has been read."""

    index: int
    hidden: dict[bytes, int]
    hidden_links: dict[bytes, bytes]
    devices: set[bytes]

    def make_whiteout(self, path: bytes) -> None:
        """Turn a shown link into a whiteout."""

    def shows(self, path: bytes) -> bool:
        """Whether this layer's own entry at ``path``, no directory, is in the merged tree."""

    def has_directory(self, path: bytes) -> bool:
        """Whether this layer has a directory at ``path``, listed or implicit."""

    def kills(self, path: bytes) -> bool:
        """Whether this layer hides what older layers have at ``path``."""


class Links:
    """All held links of a merge, newest layer first, each layer's in stream order."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self._fresh: dict[bytes, Held] = {}
        self._wanted: dict[bytes, list[Held]] = {}

    @property
    def wanting(self) -> bool:
        """Whether some link still waits for an older layer, which must then record what it hides."""
        return bool(self._wanted)

    def bound_in(self, layer: int) -> set[Origin]:
        """The hidden entries of ``layer`` that held links are bound to. Cost: the links held."""
        bound = (link.bound for link in self.held)
        return {inode for inode in bound if isinstance(inode, Origin) and inode.layer == layer}

    def hold(self, link: Held, facts: LayerFacts) -> None:
        """Keep a surviving link of the layer at hand.

        A hidden target that has passed is bound now: where a layer lists it twice, the link means the
        instance before it, as it would when the layer is unpacked.
        """
        if not facts.shows(link.target):
            if link.target in facts.hidden:
                link.bound = Origin(facts.index, facts.hidden[link.target])
            link.target = facts.hidden_links.get(link.target, link.target)
        self.held.append(link)
        self._fresh[link.path] = link

    def settle(self, facts: LayerFacts) -> None:
        """Follow all open links through the layer that ends here. Cost: the open links and their chains.

        Raises FormatError for circles, links to directories, and links to nothing.
        """
        wanted, self._wanted = self._wanted, {}
        for link in self._fresh.values():
            if link.bound is None:
                self._follow(link, link.target, facts)
        for target, links in wanted.items():
            for link in links:
                end = self._follow(link, target, facts)
                if end == target and facts.kills(target):
                    raise _dangling(link)
        self._fresh = {}

    def _follow(self, link: Held, start: bytes, facts: LayerFacts) -> bytes | None:
        """Bind ``link`` in this layer, or make it wanted; return the path that is wanted of older layers."""
        target, seen = start, {start}
        while True:
            fresh = self._fresh.get(target)
            if fresh is not None:
                if fresh.bound is not None:
                    link.bound = fresh.bound
                    return None
                target = fresh.target
            elif facts.shows(target):
                link.bound = target
                return None
            elif target in facts.devices and link.layer == facts.index:
                self.held.remove(link)
                facts.make_whiteout(link.path)
                return None
            elif target in facts.hidden_links:
                target = facts.hidden_links[target]
            elif target in facts.hidden:
                link.bound = Origin(facts.index, facts.hidden[target])
                return None
            else:
                break
            if target in seen:
                raise FormatError("hard links that only name each other hold no file").at(
                    path=link.path, index=link.layer
                )
            seen.add(target)
        if facts.has_directory(target):
            raise FormatError("the target of a hard link is a directory").at(path=link.path, index=link.layer)
        self._wanted.setdefault(target, []).append(link)
        return target

    def finish(self) -> tuple[dict[Origin, bytes], list[tuple[Held, bytes]]]:
        """Return (promoted path of each hidden inode, remaining links with the path they link to).

        Of the survivors of a hidden inode the first – newest layer, then stream order – is promoted.
        Raises FormatError where a link's target was in no layer.
        """
        for links in self._wanted.values():
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
