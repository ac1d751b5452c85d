"""The path trie: what newer layers have taken, whited out or made opaque.

Layers come newest first. A directory is a :class:`Node`. Anything else is a *leaf*, one integer in its parent's
dict: nine paths of ten are leaves, and an object for each would take most of the memory.

A node holds three layer indices, -1 where nothing is known:

``taken``   the newest layer with an entry or an explicit whiteout here;
``sealed``  nothing of a layer older than this one shows below;
``parent``  the newest layer with something below, so that it is a directory there.

An entry of layer ``i`` is hidden if an ancestor has ``sealed > i``, or its node has ``taken > i``, or it is not a
directory and its node has ``parent > i``. A leaf of layer ``j`` is a node with ``taken = sealed = j``. Layer indices
only fall during a merge, so the first value that is set is the greatest and never changes.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["SEALED", "WAITING", "WHITEOUT", "WRITTEN", "Child", "Node", "directories", "leaf", "leaf_layer"]

WHITEOUT, WRITTEN, WAITING = 0, 1, 2
"""Marks of a leaf: an explicit whiteout; an entry that is in the output; an entry that will be in the output."""


class Node:
    """A directory of the merged tree. ``written``: whether its own entry is in the output yet."""

    __slots__ = ("children", "parent", "sealed", "taken", "written")

    def __init__(self, taken: int = -1, sealed: int = -1, parent: int = -1) -> None:
        self.children: dict[bytes, Child] = {}
        self.taken = taken
        self.sealed = sealed
        self.parent = parent
        self.written = False

    def seal(self, layer: int) -> None:
        """Show nothing older than ``layer`` below here."""
        self.sealed = max(self.sealed, layer)

    def take(self, layer: int) -> None:
        """Record an entry or explicit whiteout of ``layer`` here."""
        self.taken = max(self.taken, layer)

    def enter(self, name: bytes, layer: int) -> Node:
        """Return the directory ``name``, entered as the parent of something in ``layer``; it is created if new.

        Returns :data:`SEALED` if nothing of ``layer`` shows below. The caller has checked that ``layer`` itself
        has a directory, a whiteout or nothing there. Cost: one dict lookup.
        """
        child = self.children.get(name)
        if child is None:
            child = self.children[name] = Node(parent=layer)
        elif isinstance(child, int):
            if leaf_layer(child) > layer:
                return SEALED
            child = self.children[name] = Node(layer, layer, layer)  # a whiteout of the same layer
        elif child.parent < 0:
            child.parent = layer
        return SEALED if child.sealed > layer else child

    def white_out(self, name: bytes, layer: int) -> None:
        """Record an explicit whiteout of ``name`` by ``layer``."""
        child = self.children.get(name)
        if child is None:
            self.children[name] = leaf(layer, WHITEOUT)
        elif not isinstance(child, int):
            child.take(layer)
            child.seal(layer)


Child = Node | int

SEALED = Node()
"""Stands for every directory below which nothing of the current layer shows."""


def leaf(layer: int, mark: int) -> int:
    """Return a leaf: ``layer`` has an entry or whiteout at this path; ``mark`` tells which, and if it is written."""
    return layer << 2 | mark


def leaf_layer(value: int) -> int:
    """Return the layer of a leaf."""
    return value >> 2


def directories(root: Node) -> Iterator[tuple[bytes, Node]]:
    """Yield (path, node) of every directory below ``root``, parents first, siblings by name."""
    stack = [(b"", root)]
    while stack:
        path, node = stack.pop()
        prefix = path + b"/" if path else b""
        below = [(prefix + name, child) for name, child in node.children.items() if not isinstance(child, int)]
        below.sort(key=lambda pair: pair[0], reverse=True)
        stack.extend(below)
        if node is not root:
            yield path, node
