"""Rules 1 to 7: layers in, decisions out. Pure: no byte is read or written here.

:class:`MergedTree` is the tree of one merge. :meth:`MergedTree.begin` gives a :class:`LayerView` for each layer,
newest first, whose :meth:`~LayerView.decide` says what becomes of each entry. The hot loop in
:mod:`streamerge.engine.scan` decides the most frequent case by itself, on the same trie: a new plain file in a
directory that has been written. Everything else is decided here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Protocol

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError
from streamerge.options import Whiteouts
from streamerge.rules.links import Held, Links, Origin
from streamerge.rules.record import LayerRecord, RepeatedPath, directory_key
from streamerge.rules.trie import SEALED, WHITEOUT, Node, directories, leaf, leaf_layer
from streamerge.rules.whiteout import Mark, classify, strip_opaque
from streamerge.tar.fields import MTIME, OWNER_NAMES, OWNERS

__all__ = ["Decision", "Excluded", "LayerView", "MergedTree", "RepeatedPath", "fingerprint"]


class Excluded(Protocol):
    """Tells whether a clean path is left out of the output. Everything below an excluded directory is left out too."""

    def __call__(self, path: bytes, *, directory: bool) -> bool:
        """Whether ``path`` is excluded."""


class Decision(enum.Enum):
    """What becomes of an entry."""

    KEEP = "it shows: write it now"
    WAIT = "it shows, but its directory is not written yet: retain it"
    HOLD = "it is a hard link that shows, but its target or its directory is not written yet: retain it"
    HIDE = "it is hidden, but a hard link may need it until its layer ends: retain it if that is cheap"
    DROP = "it is a whiteout, a hidden directory, or a directory listed again: nothing to write or retain"


class MergedTree:
    """The tree of one merge, as far as the layers read so far have made it.

    It holds the trie, the held links, and the directories that wait for their parents. ``any_order`` is for sinks
    that take a child before its directory. ``warn`` is called with (layer index, path, text). What is ``excluded``
    counts as hidden: a link to it is promoted. Memory grows with the number of paths. Not thread-safe.
    """

    def __init__(
        self,
        *,
        whiteouts: Whiteouts = Whiteouts.OCI,
        any_order: bool = False,
        warn: Callable[[int, bytes, str], None] = lambda index, path, text: None,
        excluded: Excluded | None = None,
    ) -> None:
        self.whiteouts = whiteouts
        self.excluded = excluded
        self.any_order = any_order
        self.warn = warn
        self.root = Node()
        self.root.written = True  # nothing waits for the root's own entry
        self.links = Links()
        self._released: list[Origin] = []
        self._waiting: dict[Node, list[tuple[Node, Origin]]] = {}
        self._origins: dict[Node, Origin] = {}

    def begin(self, index: int, superseded: frozenset[int] | None = None) -> LayerView:
        """Start the next older layer. ``superseded``: the offsets to ignore, if its headers were read first."""
        return LayerView(self, index, superseded)

    def wait(self, node: Node, parent: Node, origin: Origin) -> None:
        """Let a directory's entry wait until its parent's is written."""
        self._waiting.setdefault(parent, []).append((node, origin))
        self._origins[node] = origin

    def mark_written(self, node: Node) -> None:
        """Record that a directory's entry is being written, and release what waited for it, parents first."""
        node.written = True
        if not self._waiting:
            return
        stack = [node]
        while stack:
            for child, origin in self._waiting.pop(stack.pop(), ()):
                child.written = True
                del self._origins[child]
                self._released.append(origin)
                stack.append(child)

    @property
    def has_released(self) -> bool:
        """Whether :meth:`take_released` has something to give."""
        return bool(self._released)

    def take_released(self) -> list[Origin]:
        """The waiting directory entries that may be written now that their parent is, parents first."""
        if not self._released:
            return []
        released, self._released = self._released, []
        return released

    def hidden_by(self, path: bytes, index: int) -> int | None:
        """Return the newer layer that hides an entry of layer ``index`` at ``path``; None if none does.

        Where several do, it is the newest, at the highest directory. Cost: the path's components.
        """
        node, start = self.root, 0
        while node.sealed <= index:
            end = path.find(b"/", start)
            child = node.children.get(path[start:end] if end >= 0 else path[start:])
            if child is None:
                return None
            if isinstance(child, int):
                return leaf_layer(child) if leaf_layer(child) > index else None
            if end < 0:
                newest = max(child.taken, child.parent)
                return newest if newest > index else None
            node, start = child, end + 1
        return node.sealed

    def unlisted(self) -> Iterator[tuple[bytes, Origin | None]]:
        """Yield (path, waiting entry or None) of all directories not yet written, parents first.

        None means an implicit directory (rule 5): no layer in view lists it. The root is among them if no layer
        lists it. Cost: one walk over the trie's directories.
        """
        if self.root.taken < 0:
            yield b"", None
        for path, node in directories(self.root):
            if not node.written:
                node.written = True
                yield path, self._origins.pop(node, None)


class LayerView(LayerRecord):
    """One layer's entries, decided against what newer layers have left to show; recorded as they are decided."""

    def __init__(self, tree: MergedTree, index: int, superseded: frozenset[int] | None) -> None:
        super().__init__(tree.root, index, superseded)
        self.tree = tree

    def decide(self, entry: Entry) -> Decision:
        """Decide what becomes of ``entry``, and record it. Cost: its path's components, or fewer.

        Raises FormatError for what no layer may contain, RepeatedPath if the layer contradicts itself.
        """
        mark, subject = classify(entry, self.tree.whiteouts)
        if mark is Mark.EXPLICIT and subject == entry.path:
            self.device_whiteouts.add(subject)
        elif entry.target in self.device_whiteouts and entry.kind is Kind.HARDLINK:
            self.device_whiteouts.add(subject)  # overlayfs shares one inode among whiteouts
            mark = Mark.EXPLICIT
        if self.tree.excluded is not None and _is_excluded(self.tree.excluded, entry, mark, subject):
            return self._exclude(entry, self.tree.excluded) if mark is Mark.NONE else Decision.DROP
        if mark is Mark.NONE:
            if self.superseded is not None and entry.offset in self.superseded:
                return self._hide(entry)  # links between the two instances mean this one
            if entry.kind is Kind.DIRECTORY:
                return self._decide_directory(entry)
            return self._decide_other(entry)
        if mark is Mark.BOOKKEEPING:
            return self._hide(entry)
        if self.superseded is None or entry.offset not in self.superseded:
            self._white_out(mark, subject)
        return Decision.DROP

    def end(self) -> None:
        """End the layer: resolve its hard links, and those of newer layers that lead to it."""
        self.tree.links.resolve(self)

    # -- excluded entries --------------------------------------------------------------------------

    def _exclude(self, entry: Entry, excluded: Excluded) -> Decision:
        """Hide an excluded entry, and everything older at its path, excluded or not."""
        cut = entry.path.rfind(b"/") + 1
        if not excluded(entry.path[: max(cut - 1, 0)], directory=True):
            parent = self.enter(entry.path[:cut])
            if parent is not SEALED:
                parent.white_out(entry.path[cut:], self.index)
        return self._hide(entry)

    # -- whiteouts ---------------------------------------------------------------------------------

    def _white_out(self, mark: Mark, subject: bytes) -> None:
        cut = subject.rfind(b"/") + 1
        try:
            node = self.enter(directory_key(subject) if mark is Mark.OPAQUE else subject[:cut])
        except RepeatedPath:
            return  # below a symlink or file of its own layer, as umoci writes it: it hides nothing
        if mark is not Mark.OPAQUE:
            self.white_out(subject[:cut], subject[cut:])
            return
        if self.tree.links.has_unresolved:
            self.opaque.add(subject)
        if node is not SEALED:
            node.seal(self.index)

    def white_out(self, key: bytes, name: bytes) -> None:
        """Record an explicit whiteout of ``name`` in a directory of ``walked``."""
        if self.tree.links.has_unresolved:
            self.whiteouts.add(key + name)
        node = self.walked[key]
        if node is not SEALED:
            node.white_out(name, self.index)

    # -- directories -------------------------------------------------------------------------------

    def _decide_directory(self, entry: Entry) -> Decision:
        opaque = strip_opaque(entry, self.tree.whiteouts)
        decision = self.decide_directory(entry.path, fingerprint(entry.header, entry.records), entry.offset)
        if opaque:
            self._white_out(Mark.OPAQUE, entry.path)
        return decision

    def decide_directory(self, path: bytes, metadata: int, offset: int) -> Decision:
        """Decide what becomes of a plain directory entry; ``metadata`` is the :func:`fingerprint` of its metadata."""
        if self.listed.get(path) == metadata:
            return Decision.DROP
        if self.superseded is not None:
            self.forget_hidden(path)
        elif path in self.listed or path in self.hidden or path in self.hidden_links:
            raise _repeated(path)
        self.listed[path] = metadata
        return self._list_directory(path, offset) if path else self._list_root()

    def _list_root(self) -> Decision:
        root = self.tree.root
        if root.taken >= 0:
            return Decision.DROP
        root.take(self.index)
        return Decision.KEEP

    def _list_directory(self, path: bytes, offset: int) -> Decision:
        """Record a directory entry; what comes below it in this layer then finds its node in ``walked``."""
        cut = path.rfind(b"/") + 1
        index, name, key = self.index, path[cut:], path + b"/"
        parent = self.enter(path[:cut])
        node = parent.children.get(name)
        if parent is SEALED or (isinstance(node, int) and leaf_layer(node) > index):
            self.walked[key] = SEALED
            return Decision.DROP
        if node is None:
            node = parent.children[name] = Node(taken=index)
        elif isinstance(node, int):  # `.wh.a` and `a/` in one layer
            if self.superseded is None and node != leaf(index, WHITEOUT):
                raise _repeated(path)
            node = parent.children[name] = Node(taken=index, sealed=index)
        self.walked[key] = SEALED if node.sealed > index else node
        if node.taken > index:
            return Decision.DROP
        node.taken = index
        if parent.written or self.tree.any_order:
            self.tree.mark_written(node)
            return Decision.KEEP
        self.tree.wait(node, parent, Origin(index, offset))
        return Decision.WAIT

    # -- everything else ---------------------------------------------------------------------------

    def _decide_other(self, entry: Entry) -> Decision:
        path = entry.path
        if not path:
            raise FormatError("the root is a directory; this layer lists it as something else").at(path=path)
        cut = path.rfind(b"/") + 1
        parent, name = self.enter(path[:cut]), path[cut:]
        if parent is SEALED:
            return self._hide_checked(entry)
        child = parent.children.get(name)
        if isinstance(child, int):
            if leaf_layer(child) > self.index:
                return self._hide_checked(entry)
            if child != leaf(self.index, WHITEOUT):
                raise _repeated(path)
        elif child is not None:
            return self._hide_below(entry, child)
        return self._show(entry, parent, name)

    def _show(self, entry: Entry, parent: Node, name: bytes) -> Decision:
        ready = parent.written or self.tree.any_order
        if entry.kind is Kind.HARDLINK:
            ready = ready and self.leaf_at(entry.target) == self.leaf_written
            if not ready:
                held = Held(entry.path, entry.target, self.index, entry.offset)
                self.tree.links.hold(held, self)
                parent.children[name] = self.leaf_waiting
                return Decision.HOLD
        parent.children[name] = self.leaf_written if ready else self.leaf_waiting
        return Decision.KEEP if ready else Decision.WAIT

    def _hide_below(self, entry: Entry, node: Node) -> Decision:
        """Hide a non-directory at a newer layer's directory. It still seals what is older below."""
        decision = self._hide_checked(entry)
        if node.taken < self.index:
            text = f"a newer layer has something below it, so this {entry.kind.value} gives way to a directory"
            self.tree.warn(self.index, entry.path, text)
        node.take(self.index)
        node.seal(self.index)
        return decision

    def _hide_checked(self, entry: Entry) -> Decision:
        if self.superseded is None and self.has_directory(entry.path):
            raise _repeated(entry.path)
        return self._hide(entry)

    def _hide(self, entry: Entry) -> Decision:
        path, target = entry.path, entry.target
        linked = None
        if target and not self.shows(target):  # the target is hidden and has passed; it may itself be a link
            linked, target = self.hidden.get(target), self.hidden_links.get(target, target)
        self.forget_hidden(path)
        if entry.kind is Kind.DIRECTORY:
            return Decision.DROP
        if entry.kind is not Kind.HARDLINK:
            self.hidden[path] = entry.offset
        elif linked is not None:
            self.hidden[path] = linked
        else:
            self.hidden_links[path] = target
        return Decision.HIDE


_NO_RECORDS: frozenset[tuple[bytes, bytes]] = frozenset()


def _is_excluded(excluded: Excluded, entry: Entry, mark: Mark, subject: bytes) -> bool:
    directory = mark is Mark.OPAQUE or (mark is Mark.NONE and entry.kind is Kind.DIRECTORY)
    return excluded(subject, directory=directory)


def _repeated(path: bytes) -> RepeatedPath:
    return RepeatedPath("this layer lists the path twice").at(path=path)


def fingerprint(header: bytes, records: dict[bytes, bytes] | None = None) -> int:
    """A hash of a directory's owner, mode, times and xattrs: equal if a second entry says nothing new."""
    kept = frozenset(item for item in records.items() if item[0] != b"path") if records else _NO_RECORDS
    return hash((header[OWNERS], header[MTIME], header[OWNER_NAMES], kept))
