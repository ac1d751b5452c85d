"""Rules 1 to 7: layers in, entries out. Pure: no byte is read or written here.

:class:`Merge` is one merge; :meth:`Merge.begin` gives a :class:`LayerView` for each layer, newest first,
whose :meth:`~LayerView.decide` says of each entry what becomes of it. The hot loop of
:mod:`streamerge.engine.scan` does the most frequent case of ``place`` – a new plain file in a directory that
is written – by itself, on the same trie; everything else comes here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Protocol

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError, LayerError, show
from streamerge.options import Whiteouts
from streamerge.rules.links import Held, Links, Origin
from streamerge.rules.trie import SEALED, WAITING, WHITED, WRITTEN, Node, directories, leaf, leaf_layer
from streamerge.rules.whiteout import Mark, classify, strip_opaque

__all__ = ["Decision", "Excluded", "LayerView", "Merge", "RepeatedPath", "fingerprint"]


class Excluded(Protocol):
    """Tells whether a clean path shall not be in the output; below an excluded directory nothing is."""

    def __call__(self, path: bytes, *, directory: bool) -> bool:
        """Whether ``path`` is excluded."""


class Decision(enum.Enum):
    """What becomes of an entry."""

    KEEP = "write it now"
    WAIT = "it shows, but its directory is not written yet: retain it"
    HELD = "a link whose target is not written: retain it"
    HIDE = "it is hidden, but a link may need it until its layer ends"
    DROP = "it is no entry of the tree, or says nothing new"


class RepeatedPath(LayerError):
    """A layer lists a path twice, or below a non-directory; only its headers read first can tell the outcome."""


class Merge:
    """One merge: the trie, the held links, the directories that wait for their parents.

    ``any_order`` is for sinks that take a child before its directory. ``warn`` is called with (layer
    index, path, text). What is ``excluded`` counts as hidden: a link to it is promoted. Memory grows with the
    number of paths. Not thread-safe.
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
        self._handles: dict[Node, Origin] = {}

    def begin(self, index: int, superseded: frozenset[int] | None = None) -> LayerView:
        """Start the next older layer. ``superseded``: offsets to pass over, where its headers were read first."""
        return LayerView(self, index, superseded)

    def wait(self, node: Node, parent: Node, handle: Origin) -> None:
        """Let a directory's entry wait until its parent's is written."""
        self._waiting.setdefault(parent, []).append((node, handle))
        self._handles[node] = handle

    def mark_written(self, node: Node) -> None:
        """Note that a directory's entry is being written, and release what waited for it, parents first."""
        node.written = True
        if not self._waiting:
            return
        stack = [node]
        while stack:
            for child, handle in self._waiting.pop(stack.pop(), ()):
                child.written = True
                del self._handles[child]
                self._released.append(handle)
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

    def unlisted(self) -> Iterator[tuple[bytes, Origin | None]]:
        """Yield (path, waiting entry or None) of all directories not yet written, parents first.

        None stands for a directory that no layer in view lists: rule 5's implicit directory. The root is
        among them where no layer lists it. Cost: one walk over the trie's directories.
        """
        if self.root.taken < 0:
            yield b"", None
        for path, node in directories(self.root):
            if not node.written:
                node.written = True
                yield path, self._handles.pop(node, None)


class LayerView:
    """One layer's entries against what newer layers have left to show.

    ``walked`` maps each directory that the layer has listed or used as a parent (as ``b"a/b/"``; the root is
    ``b""``) to its node, or to SEALED where newer layers hide all of it. ``dirs`` holds the layer's listed
    directories with a fingerprint of their metadata, ``hidden`` and ``hidden_links`` its hidden
    non-directories, ``devices`` its whiteouts of overlayfs's form. All of it is dropped with the view.
    """

    def __init__(self, merge: Merge, index: int, superseded: frozenset[int] | None) -> None:
        self.merge = merge
        self.index = index
        self.walked: dict[bytes, Node] = {b"": SEALED if merge.root.sealed > index else merge.root}
        self.dirs: dict[bytes, int] = {}
        self.hidden: dict[bytes, int] = {}
        self.hidden_links: dict[bytes, bytes] = {}
        self.devices: set[bytes] = set()
        self.leaf_written = leaf(index, WRITTEN)
        self.leaf_waiting = leaf(index, WAITING)
        self._superseded = superseded
        self._whited: set[bytes] = set()
        self._opaque: set[bytes] = set()

    def decide(self, entry: Entry) -> Decision:
        """Decide what becomes of ``entry``, and record it. Cost: its path's components, or fewer.

        Raises FormatError for what no layer may say, RepeatedPath where the layer contradicts itself.
        """
        mark, subject = classify(entry, self.merge.whiteouts)
        if mark is Mark.EXPLICIT and subject == entry.path:
            self.devices.add(subject)
        elif entry.target in self.devices and entry.kind is Kind.HARDLINK:
            self.devices.add(subject)  # overlayfs shares one inode among whiteouts
            mark = Mark.EXPLICIT
        if self.merge.excluded is not None and self._is_excluded(entry, mark, subject):
            return self._exclude(entry) if mark is Mark.NONE else Decision.DROP
        if mark is Mark.NONE:
            if self._superseded is not None and entry.offset in self._superseded:
                return self._hide(entry)  # links between the two instances mean this one
            if entry.kind is Kind.DIRECTORY:
                return self._decide_directory(entry)
            return self._decide_other(entry)
        if mark is Mark.BOOKKEEPING:
            return self._hide(entry)
        if self._superseded is None or entry.offset not in self._superseded:
            self._white_out(mark, subject)
        return Decision.DROP

    def _exclude(self, entry: Entry) -> Decision:
        """Hide an entry that shall not be written, and what is older at its path, be that excluded or not."""
        cut = entry.path.rfind(b"/") + 1
        excluded = self.merge.excluded
        if excluded is not None and not excluded(entry.path[: max(cut - 1, 0)], directory=True):
            parent = self.directory(entry.path[:cut])
            if parent is not SEALED:
                parent.white_out(entry.path[cut:], self.index)
        return self._hide(entry)

    def _is_excluded(self, entry: Entry, mark: Mark, subject: bytes) -> bool:
        directory = mark is Mark.OPAQUE or (mark is Mark.NONE and entry.kind is Kind.DIRECTORY)
        return self.merge.excluded is not None and self.merge.excluded(subject, directory=directory)

    def end(self) -> None:
        """End the layer: settle its hard links, and those that newer layers want of it."""
        self.merge.links.settle(self)

    # -- what Links asks ---------------------------------------------------------------------------

    def make_whiteout(self, path: bytes) -> None:
        """Turn a shown link into the whiteout that its target, listed after it, has proved to be."""
        cut = path.rfind(b"/") + 1
        self.walked[path[:cut]].children[path[cut:]] = leaf(self.index, WHITED)
        self.devices.add(path)

    def shows(self, path: bytes) -> bool:
        """Whether this layer's own entry at ``path``, no directory, is in the merged tree."""
        return self._leaf(path) in (self.leaf_written, self.leaf_waiting)

    def has_directory(self, path: bytes) -> bool:
        """Whether this layer has a directory at ``path``, listed or implicit."""
        return path in self.dirs or _key(path) in self.walked

    def kills(self, path: bytes) -> bool:
        """Whether this layer hides what older layers have at ``path``: known while links are wanted."""
        if path in self._whited or b"" in self._opaque:
            return True
        ancestor = path
        while cut := ancestor.rfind(b"/") + 1:
            ancestor = ancestor[: cut - 1]
            if ancestor in self._whited or ancestor in self._opaque or self._has_other(ancestor):
                return True
        return False

    def _has_other(self, path: bytes) -> bool:
        """Whether this layer has a non-directory at ``path``, shown or hidden."""
        return path in self.hidden or path in self.hidden_links or self.shows(path)

    def _leaf(self, path: bytes) -> int | None:
        cut = path.rfind(b"/") + 1
        node = self.walked.get(path[:cut])
        child = node.children.get(path[cut:]) if node is not None else None
        return child if isinstance(child, int) else None

    # -- ways through the trie ---------------------------------------------------------------------

    def directory(self, key: bytes) -> Node:
        """Walk to the directory ``key`` (``b"a/b/"``) as a parent of something in this layer.

        Every component becomes an implicit directory (rule 5) unless something newer seals it: then
        SEALED is returned. Cost: one lookup where the layer has been there before.
        """
        node = self.walked.get(key)
        if node is not None:
            return node
        start = key.rfind(b"/", 0, len(key) - 1) + 1
        while key[:start] not in self.walked:
            start = key.rfind(b"/", 0, start - 1) + 1
        node = self.walked[key[:start]]
        while start < len(key):
            end = key.index(b"/", start)
            path = key[:end]
            if self._superseded is None and self._has_other(path):
                problem = f"lies below '{show(path)}', which this layer lists as something else"
                raise RepeatedPath(problem).at(path=key[:-1])
            if node is not SEALED:
                node = node.enter(key[start:end], self.index)
            start = end + 1
            self.walked[key[:start]] = node
        return node

    def _white_out(self, mark: Mark, subject: bytes) -> None:
        cut = subject.rfind(b"/") + 1
        try:
            node = self.directory(_key(subject) if mark is Mark.OPAQUE else subject[:cut])
        except RepeatedPath:
            return  # below a symlink or file of its own layer (umoci writes such): only a name, ignored
        if mark is not Mark.OPAQUE:
            self.white_out(subject[:cut], subject[cut:])
            return
        if self.merge.links.wanting:
            self._opaque.add(subject)
        if node is not SEALED:
            node.seal(self.index)

    def white_out(self, key: bytes, name: bytes) -> None:
        """Record an explicit whiteout of ``name`` in a directory of ``walked``."""
        if self.merge.links.wanting:
            self._whited.add(key + name)
        node = self.walked[key]
        if node is not SEALED:
            node.white_out(name, self.index)

    # -- entries -----------------------------------------------------------------------------------

    def _decide_directory(self, entry: Entry) -> Decision:
        opaque = strip_opaque(entry, self.merge.whiteouts)
        decision = self.decide_directory(entry.path, fingerprint(entry.header, entry.records), entry.offset)
        if opaque:
            self._white_out(Mark.OPAQUE, entry.path)
        return decision

    def decide_directory(self, path: bytes, says: int, offset: int) -> Decision:
        """Decide what becomes of a plain directory entry; ``says`` is the :func:`fingerprint` of its metadata."""
        if self.dirs.get(path) == says:
            return Decision.DROP
        if self._superseded is not None:
            self._forget_hidden(path)
        elif path in self.dirs or path in self.hidden or path in self.hidden_links:
            raise _repeated(path)
        self.dirs[path] = says
        return self._list_directory(path, offset) if path else self._list_root()

    def _list_root(self) -> Decision:
        root = self.merge.root
        if root.taken >= 0:
            return Decision.DROP
        root.take(self.index)
        return Decision.KEEP

    def _list_directory(self, path: bytes, offset: int) -> Decision:
        """Record a directory entry; what comes below it in this layer then finds its node in ``walked``."""
        cut = path.rfind(b"/") + 1
        index, name, key = self.index, path[cut:], path + b"/"
        parent = self.directory(path[:cut])
        node = parent.children.get(name)
        if parent is SEALED or (isinstance(node, int) and leaf_layer(node) > index):
            self.walked[key] = SEALED
            return Decision.DROP
        if node is None:
            node = parent.children[name] = Node(taken=index)
        elif isinstance(node, int):  # `.wh.a` and `a/` in one layer
            if self._superseded is None and node != leaf(index, WHITED):
                raise _repeated(path)
            node = parent.children[name] = Node(taken=index, sealed=index)
        self.walked[key] = SEALED if node.sealed > index else node
        if node.taken > index:
            return Decision.DROP
        node.taken = index
        if parent.written or self.merge.any_order:
            self.merge.mark_written(node)
            return Decision.KEEP
        self.merge.wait(node, parent, Origin(self.index, offset))
        return Decision.WAIT

    def _decide_other(self, entry: Entry) -> Decision:
        path = entry.path
        if not path:
            raise FormatError("the root is a directory; this layer lists it as something else").at(path=path)
        cut = path.rfind(b"/") + 1
        parent, name = self.directory(path[:cut]), path[cut:]
        if parent is SEALED:
            return self._hide_checked(entry)
        child = parent.children.get(name)
        if isinstance(child, int):
            if leaf_layer(child) > self.index:
                return self._hide_checked(entry)
            if child != leaf(self.index, WHITED):
                raise _repeated(path)
        elif child is not None:
            return self._hide_below(entry, child)
        return self._show(entry, parent, name)

    def _show(self, entry: Entry, parent: Node, name: bytes) -> Decision:
        ready = parent.written or self.merge.any_order
        if entry.kind is Kind.HARDLINK:
            ready = ready and self._leaf(entry.target) == self.leaf_written
            if not ready:
                held = Held(entry.path, entry.target, self.index, entry.offset)
                self.merge.links.hold(held, self)
                parent.children[name] = self.leaf_waiting
                return Decision.HELD
        parent.children[name] = self.leaf_written if ready else self.leaf_waiting
        return Decision.KEEP if ready else Decision.WAIT

    def _hide_below(self, entry: Entry, node: Node) -> Decision:
        """Hide a non-directory where newer layers have a directory; it still seals what is older below."""
        decision = self._hide_checked(entry)
        if node.taken < self.index:
            text = f"a newer layer has something below it, so this {entry.kind.value} gives way to a directory"
            self.merge.warn(self.index, entry.path, text)
        node.take(self.index)
        node.seal(self.index)
        return decision

    def _hide_checked(self, entry: Entry) -> Decision:
        if self._superseded is None and self.has_directory(entry.path):
            raise _repeated(entry.path)
        return self._hide(entry)

    def _hide(self, entry: Entry) -> Decision:
        path, target = entry.path, entry.target
        linked = None
        if target and not self.shows(target):  # a hidden target that has passed, be it a link itself
            linked, target = self.hidden.get(target), self.hidden_links.get(target, target)
        self._forget_hidden(path)
        if entry.kind is Kind.DIRECTORY:
            return Decision.DROP
        if entry.kind is not Kind.HARDLINK:
            self.hidden[path] = entry.offset
        elif linked is not None:
            self.hidden[path] = linked
        else:
            self.hidden_links[path] = target
        return Decision.HIDE

    def _forget_hidden(self, path: bytes) -> None:
        self.hidden.pop(path, None)
        self.hidden_links.pop(path, None)


_NOTHING: frozenset[tuple[bytes, bytes]] = frozenset()


def _key(path: bytes) -> bytes:
    return path + b"/" if path else b""


def _repeated(path: bytes) -> RepeatedPath:
    return RepeatedPath("this layer lists the path twice").at(path=path)


def fingerprint(header: bytes, records: dict[bytes, bytes] | None = None) -> int:
    """A hash of a directory's owner, mode, times and xattrs: equal for an entry that says nothing new."""
    said = frozenset(item for item in records.items() if item[0] != b"path") if records else _NOTHING
    return hash((header[100:124], header[136:148], header[265:329], said))
