"""How large an ext4 image must be for its contents. Pure; counts blocks of 4 KiB.

The result is an upper bound, computed as in ``lib/ext2fs`` of e2fsprogs. A little too large costs nothing, since the
image is sparse; too small would mean to start again.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamerge.sinks.mkfs.options import NOTHING_FREE, Free
from streamerge.sinks.treesize import FS_BLOCK

__all__ = ["Ext4Size", "ext4_size"]

_GROUP = 8 * FS_BLOCK
"""Blocks in a group: as many as one block of bitmap has bits."""
_INODES_PER_BLOCK = FS_BLOCK // 256
_DESCRIPTORS_PER_BLOCK = FS_BLOCK // 64
_MAX_INODES_PER_GROUP = _GROUP - _INODES_PER_BLOCK
_RESERVED_INODES = 11
_SPARE_INODES = 16
_LOST_AND_FOUND = 4
"""Blocks of the directory lost+found."""
_SPARE_BLOCKS = 64
_MIN_BLOCKS = 2048
"""Blocks of the smallest file system in which mke2fs creates a journal."""
_BLOCKS_PER_MIB = (1 << 20) // FS_BLOCK
_BLOCKS_PER_FREE_INODE = 4
_JOURNALS = (  # (file systems below so many blocks, blocks of journal): ext2fs_default_journal_size()
    (32768, 1024),
    (256 * 1024, 4096),
    (512 * 1024, 8192),
    (4096 * 1024, 16384),
    (8192 * 1024, 32768),
    (16384 * 1024, 65536),
    (32768 * 1024, 131072),
)
_LARGEST_JOURNAL = 262144


@dataclass(frozen=True, slots=True)
class Ext4Size:
    """``size`` in bytes, a multiple of 1 MiB unless the caller chose it; ``inodes`` is the number to create."""

    size: int
    inodes: int


def ext4_size(blocks: int, inodes: int, free: Free = NOTHING_FREE) -> Ext4Size:
    """A size that is enough for ``blocks`` of contents and directories and for ``inodes`` files, and little more.

    Free room gets inodes too: one for each 16 KiB, the default of mke2fs. Cost: a few rounds.
    """
    needed = blocks + blocks // 100 + _LOST_AND_FOUND + _SPARE_BLOCKS
    total = _MIN_BLOCKS
    while True:
        room = int(total * free.share) + -(-free.bytes // FS_BLOCK)
        count = inodes + _RESERVED_INODES + _SPARE_INODES + room // _BLOCKS_PER_FREE_INODE
        least = max(_MIN_BLOCKS, needed + room + _overhead(total, count))
        least = max(least, _whole_groups(least, count))
        least += -least % _BLOCKS_PER_MIB
        if least <= total:
            return Ext4Size(total * FS_BLOCK, count)
        total = least


def _whole_groups(total: int, inodes: int) -> int:
    """At least ``total`` blocks, with enough groups for the inodes; mke2fs drops a last group that is too small."""
    total = max(total, (-(-inodes // _MAX_INODES_PER_GROUP) - 1) * _GROUP + 1)
    groups = -(-total // _GROUP)
    table = -(-inodes // groups // _INODES_PER_BLOCK) + 1
    least = table + 2 + _descriptors(total) + 128
    last = total % _GROUP
    return total + least - last if 0 < last < least else total


def _overhead(total: int, inodes: int) -> int:
    """Blocks of a file system of ``total`` blocks that hold neither files nor directories."""
    groups = -(-total // _GROUP)
    tables = groups * (-(-inodes // (groups * _INODES_PER_BLOCK)) + 1)
    copies = 1 + sum(_holds_copy(group) for group in range(1, groups))
    return copies * _descriptors(total) + 2 * groups + tables + _journal(total) + _orphans(total)


def _descriptors(total: int) -> int:
    """Blocks of a superblock, the group descriptors, and the room for more of them, up to 1024 times the size."""
    groups = -(-min(total * 1024, 1 << 32) // _GROUP)
    present = -(-total // _GROUP // _DESCRIPTORS_PER_BLOCK)
    return 1 + min(-(-groups // _DESCRIPTORS_PER_BLOCK), 1024 + present) + 1


def _holds_copy(group: int) -> bool:
    """Whether a group holds a copy of the superblock (sparse_super): group 1 and the powers of 3, 5 and 7."""
    for base in (3, 5, 7):
        power = base
        while power < group:
            power *= base
        if power == group:
            return True
    return group == 1


def _journal(total: int) -> int:
    return next((size for limit, size in _JOURNALS if total < limit), _LARGEST_JOURNAL)


def _orphans(total: int) -> int:
    """Blocks of the orphan file of e2fsprogs 1.47."""
    return min(512, max(32, total // 4096))
