"""What one layer contains, as far as it has been read: directories, hidden entries and whiteouts."""

from __future__ import annotations

from streamerge.errors import LayerError, show
from streamerge.rules.trie import SEALED, WAITING, WHITEOUT, WRITTEN, Node, leaf

__all__ = ["LayerRecord", "RepeatedPath", "directory_key"]


class RepeatedPath(LayerError):
    """A layer lists a path twice, or below a non-directory. Read all its headers first to know which entry counts."""


class LayerRecord:
    """One layer as far as it has been read; dropped when the layer ends.

    ======================= =====================================================================================
    walked                  each directory that the layer has listed or used as a parent (``b"a/b/"``; the root is
                            ``b""``) -> its node, or SEALED if newer layers hide everything below it
    listed                  each directory that has an entry -> the fingerprint of its metadata
    hidden                  each hidden non-directory -> the offset of its entry
    hidden_links            each hidden hard link -> its target
    device_whiteouts        paths of whiteouts in overlayfs's form, a device 0:0
    whiteouts               what explicit whiteouts name; recorded only while older layers are searched for
                            the targets of links
    opaque                  directories with an opaque whiteout; recorded likewise
    leaf_written            the trie's leaf for an entry of this layer that is in the output
    leaf_waiting            the same for an entry that will be
    ======================= =====================================================================================

    ``superseded`` holds the offsets of entries replaced later in this layer, or None if its headers have not been
    read first.
    """

    def __init__(self, root: Node, index: int, superseded: frozenset[int] | None) -> None:
        self.index = index
        self.walked: dict[bytes, Node] = {b"": SEALED if root.sealed > index else root}
        self.listed: dict[bytes, int] = {}
        self.hidden: dict[bytes, int] = {}
        self.hidden_links: dict[bytes, bytes] = {}
        self.device_whiteouts: set[bytes] = set()
        self.whiteouts: set[bytes] = set()
        self.opaque: set[bytes] = set()
        self.leaf_written = leaf(index, WRITTEN)
        self.leaf_waiting = leaf(index, WAITING)
        self.superseded = superseded

    def make_whiteout(self, path: bytes) -> None:
        """Turn a hard link that shows into a whiteout: its target, listed after it, is a whiteout."""
        cut = path.rfind(b"/") + 1
        self.walked[path[:cut]].children[path[cut:]] = leaf(self.index, WHITEOUT)
        self.device_whiteouts.add(path)

    def shows(self, path: bytes) -> bool:
        """Whether this layer's non-directory at ``path`` is in the merged tree."""
        return self.leaf_at(path) in (self.leaf_written, self.leaf_waiting)

    def has_directory(self, path: bytes) -> bool:
        """Whether this layer has a directory at ``path``, listed or implicit."""
        return path in self.listed or directory_key(path) in self.walked

    def has_other(self, path: bytes) -> bool:
        """Whether this layer has a non-directory at ``path``, shown or hidden."""
        return path in self.hidden or path in self.hidden_links or self.shows(path)

    def hides_older(self, path: bytes) -> bool:
        """Whether this layer hides what older layers have at ``path``. Complete only while links are unresolved."""
        if path in self.whiteouts or b"" in self.opaque:
            return True
        ancestor = path
        while cut := ancestor.rfind(b"/") + 1:
            ancestor = ancestor[: cut - 1]
            if ancestor in self.whiteouts or ancestor in self.opaque or self.has_other(ancestor):
                return True
        return False

    def leaf_at(self, path: bytes) -> int | None:
        """The trie's leaf at ``path``, of this layer or a newer one; None for a directory or nothing."""
        cut = path.rfind(b"/") + 1
        node = self.walked.get(path[:cut])
        child = node.children.get(path[cut:]) if node is not None else None
        return child if isinstance(child, int) else None

    def forget_hidden(self, path: bytes) -> None:
        """Forget what is hidden at ``path``."""
        self.hidden.pop(path, None)
        self.hidden_links.pop(path, None)

    def enter(self, key: bytes) -> Node:
        """Return the node of the directory ``key`` (``b"a/b/"``), entered as the parent of something in this layer.

        Every component becomes an implicit directory (rule 5) unless a newer layer seals it; then SEALED is
        returned. Raises RepeatedPath below a non-directory of this layer. Cost: one lookup if the layer has been
        there before.
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
            if self.superseded is None and self.has_other(path):
                problem = f"lies below '{show(path)}', which this layer lists as something else"
                raise RepeatedPath(problem).at(path=key[:-1])
            if node is not SEALED:
                node = node.enter(key[start:end], self.index)
            start = end + 1
            self.walked[key[:start]] = node
        return node


def directory_key(path: bytes) -> bytes:
    """The key of a directory in ``walked``."""
    return path + b"/" if path else b""
