"""A sink that writes nothing: it counts how large the merged tree is, and which of its files have several names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from streamerge.entry import Entry, Kind
from streamerge.interfaces import Takes
from streamerge.tar.fields import BLOCK
from streamerge.tar.metadata import xattr_names
from streamerge.tar.runs import FileByFileSink
from streamerge.tar.sparse import is_sparse, sparse_size

__all__ = ["FS_BLOCK", "LinkMap", "TreeSize"]

FS_BLOCK = 4096
"""Bytes in a block of a file system, for counting."""

_FAST_SYMLINK = 60
"""Bytes of a symlink's target that no longer fit into the inode."""
_EXTENT = 32768
"""Blocks in an extent of ext4 at most."""
_EXTENTS_IN_INODE = 4
_EXTENTS_IN_BLOCK = 300
_DIRECTORY_ENTRY = 8
"""Bytes of a directory entry beside its name, which is padded to four bytes."""
_LONGEST_DIRECTORY_ENTRY = _DIRECTORY_ENTRY + 255 + 3
_CHECKSUM_ENTRY = 12
"""Bytes at the end of each directory block."""
_DOT_ENTRIES = 24
"""Bytes of the entries ``.`` and ``..``."""


class LinkMap:
    """Which names belong to the same file: the first one that is written, and how many there are."""

    def __init__(self) -> None:
        self.names: Counter[bytes] = Counter()
        """The number of names of each file that has several, by its first name."""
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
    """Counts what a merge would write.

    ``any_order`` is that of the sink that the tree is counted for. ``splits_symlinks``: each hard link to a symlink
    becomes a symlink with its own inode.

    Sizes are in blocks of :data:`FS_BLOCK` bytes, and never less than what ext4 needs; other file systems need about
    the same. Memory: a number for each directory, two paths for each hard link.
    """

    def __init__(self, *, any_order: bool = False, splits_symlinks: bool = False) -> None:
        self.takes = Takes.FILE_RUNS | Takes.RESTART | (Takes.ANY_ORDER if any_order else Takes.ENTRIES)
        self._splits_symlinks = splits_symlinks
        self.restart()

    def restart(self) -> None:
        """Set all counts to zero."""
        self.links = LinkMap()
        self.inodes = 0
        self.blocks = 0
        self._symlinks: set[bytes] = set()
        self._directories: defaultdict[bytes, int] = defaultdict(int)

    def add_file(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Count a plain file."""
        size = len(body)
        if size:
            self.blocks += -(-size // FS_BLOCK)
        self.inodes += 1
        self._directories[path[:cut]] += _DIRECTORY_ENTRY + 3 + len(path) - cut

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Count an entry; its body is not read."""
        path = entry.path
        self._directories[path[: path.rfind(b"/") + 1]] += _DIRECTORY_ENTRY + 3 + len(path) - path.rfind(b"/") - 1
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
        if entry.records and xattr_names(entry.records):  # at most a block; few fit into the inode
            self.blocks += 1

    def finish(self) -> None:
        """Do nothing: there is no output."""

    def abort(self) -> None:
        """Do nothing: there is no output."""

    @property
    def directory_blocks(self) -> int:
        """Blocks that the directories need: the longest name may not fit at the end of each block."""
        room = FS_BLOCK - _CHECKSUM_ENTRY - _LONGEST_DIRECTORY_ENTRY
        return sum(1 + (_DOT_ENTRIES + size) // room for size in self._directories.values())

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
        sparse = is_sparse(entry)
        blocks = -(-(sparse_size(entry) if sparse else entry.size) // FS_BLOCK)
        if sparse:  # an extent of one byte may lie across two blocks
            blocks = min(blocks, entry.size // FS_BLOCK + 2 * (entry.size // BLOCK + 2))
        self.blocks += blocks
        extents = blocks if sparse else -(-blocks // _EXTENT)
        if sparse or extents > _EXTENTS_IN_INODE:
            self.blocks += 1 + extents // _EXTENTS_IN_BLOCK
