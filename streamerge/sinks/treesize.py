"""A sink that only looks: how large the merged tree is, and which of its files have several names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from streamerge.entry import Entry, Kind
from streamerge.interfaces import Takes
from streamerge.tar.metadata import xattr_names
from streamerge.tar.runs import FileByFileSink
from streamerge.tar.sparse import is_sparse, sparse_size

__all__ = ["BLOCK", "LinkMap", "TreeSize"]

BLOCK = 4096
"""Bytes that a block of a file system is taken to have."""

_FAST_SYMLINK = 60
_EXTENT = 32768
_ENTRY = 8
_EXTENTS_IN_INODE = 4


class LinkMap:
    """Which names are of one file: the first that is written, to which links are made, and how many there are."""

    def __init__(self) -> None:
        self.names: Counter[bytes] = Counter()
        """Names of a file that has several, by its first one."""
        self._first: dict[bytes, bytes] = {}

    def add(self, entry: Entry) -> None:
        """Note a hard link, which comes after its target. Memory: two paths."""
        first = self.first(entry.target)
        self._first[entry.path] = first
        self.names[first] = max(self.names[first], 1) + 1

    def first(self, path: bytes) -> bytes:
        """The name under which the file at ``path`` was written."""
        return self._first.get(path, path)


class TreeSize(FileByFileSink):
    """Counts what a merge would write. ``any_order`` as the sink's that it stands for; ``splits_symlinks``: further
    names of a symlink will be symlinks of their own.

    Sizes are in blocks of :data:`BLOCK` bytes, and those that ext4 needs, or more: what another file system needs is
    much the same. Memory: a number for each directory, two paths for each hard link.
    """

    def __init__(self, *, any_order: bool = False, splits_symlinks: bool = False) -> None:
        self.takes = Takes.FILE_RUNS | Takes.RESTART | (Takes.ANY_ORDER if any_order else Takes.ENTRIES)
        self._splits_symlinks = splits_symlinks
        self.restart()

    def restart(self) -> None:
        """Count from nothing."""
        self.links = LinkMap()
        self.inodes = 0
        self.blocks = 0
        self._symlinks: set[bytes] = set()
        self._directories: defaultdict[bytes, int] = defaultdict(int)

    def add_file(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Count a plain file."""
        size = len(body)
        if size:
            self.blocks += -(-size // BLOCK)
        self.inodes += 1
        self._directories[path[:cut]] += _ENTRY + 3 + len(path) - cut

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Count an entry; its body is not looked at."""
        path = entry.path
        self._directories[path[: path.rfind(b"/") + 1]] += _ENTRY + 3 + len(path) - path.rfind(b"/") - 1
        if entry.kind is Kind.HARDLINK:
            self._count_link(entry)
            return
        self.inodes += 1
        if entry.kind is Kind.FILE:
            self._count_file(entry)
        elif entry.kind is Kind.DIRECTORY:
            self._directories[path + b"/" if path else b""] += 0
        elif entry.kind is Kind.SYMLINK:
            self._count_symlink(entry)
        if entry.records and xattr_names(entry.records):  # no more than a block; few fit into the inode
            self.blocks += 1

    def finish(self) -> None:
        """Nothing appears."""

    def abort(self) -> None:
        """Nothing is left."""

    @property
    def directory_blocks(self) -> int:
        """Blocks that the directories need: in each, the longest name may not find room at the end."""
        room = BLOCK - 12 - (_ENTRY + 255 + 3)
        return sum(1 + (24 + size) // room for size in self._directories.values())

    def _count_link(self, entry: Entry) -> None:
        self.links.add(entry)
        if self.links.first(entry.target) in self._symlinks:
            self.inodes += 1
            self.blocks += 2  # a long target, and xattrs

    def _count_symlink(self, entry: Entry) -> None:
        if len(entry.target) >= _FAST_SYMLINK:
            self.blocks += 1
        if self._splits_symlinks:
            self._symlinks.add(entry.path)

    def _count_file(self, entry: Entry) -> None:
        size = sparse_size(entry) if is_sparse(entry) else entry.size
        blocks = -(-size // BLOCK)
        if is_sparse(entry):  # an extent of one byte may lie across two blocks
            blocks = min(blocks, entry.size // BLOCK + 2 * (entry.size // 512 + 2))
        self.blocks += blocks
        extents = -(-blocks // _EXTENT)
        if extents > _EXTENTS_IN_INODE or is_sparse(entry):
            self.blocks += 1 + (blocks if is_sparse(entry) else extents) // 300
