"""How large an ext4 has to be for what goes into it. Pure, and counted in blocks of 4 KiB.

An upper bound of what mke2fs takes, from ``lib/ext2fs`` of e2fsprogs: it is better to be a little too large, since
the image is sparse, than to have to begin again.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamerge.sinks.mkfs.options import NOTHING_FREE, Free
from streamerge.sinks.treesize import BLOCK

__all__ = ["Ext4Size", "ext4_size"]

_GROUP = 8 * BLOCK
"""Blocks in a group: as many as one block of bitmap has bits."""
_INODES_A_BLOCK = BLOCK // 256
_DESCRIPTORS_A_BLOCK = BLOCK // 64
_MOST_INODES_A_GROUP = _GROUP - _INODES_A_BLOCK
_RESERVED_INODES = 11
_SPARE_INODES = 16
_LOST_AND_FOUND = 4
_SMALLEST = 2048
"""Blocks that mke2fs wants for a journal."""
_MIB = (1 << 20) // BLOCK
_JOURNALS = (  # (below so many blocks, blocks of journal): ext2fs_default_journal_size()
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
    """``size`` in bytes, a multiple of 1 MiB; ``inodes`` that mke2fs is asked for."""

    size: int
    inodes: int


def ext4_size(blocks: int, inodes: int, free: Free = NOTHING_FREE) -> Ext4Size:
    """The smallest file system that surely takes ``blocks`` of contents and directories and ``inodes`` files.

    Room that is left free has inodes too: one for each 16 KiB, as mke2fs gives by default. Cost: a few rounds.
    """
    needed = blocks + blocks // 100 + _LOST_AND_FOUND + 64
    total = _SMALLEST
    while True:
        room = int(total * free.share) + -(-free.bytes // BLOCK)
        count = inodes + _RESERVED_INODES + _SPARE_INODES + room // 4
        least = max(_SMALLEST, needed + room + _overhead(total, count))
        least = max(least, _whole_groups(least, count))
        least += -least % _MIB
        if least <= total:
            return Ext4Size(total * BLOCK, count)
        total = least


def _whole_groups(total: int, inodes: int) -> int:
    """Enough groups for the inodes, and a last one that mke2fs does not drop as too small."""
    total = max(total, (-(-inodes // _MOST_INODES_A_GROUP) - 1) * _GROUP + 1)
    groups = -(-total // _GROUP)
    table = -(-inodes // groups // _INODES_A_BLOCK) + 1
    least = table + 2 + _descriptors(total) + 128
    last = total % _GROUP
    return total + least - last if 0 < last < least else total


def _overhead(total: int, inodes: int) -> int:
    """Blocks of a file system of ``total`` blocks that hold neither files nor directories."""
    groups = -(-total // _GROUP)
    tables = groups * (-(-inodes // (groups * _INODES_A_BLOCK)) + 1)
    copies = 1 + sum(_holds_copy(group) for group in range(1, groups))
    return copies * _descriptors(total) + 2 * groups + tables + _journal(total) + _orphans(total)


def _descriptors(total: int) -> int:
    """A superblock, the descriptors behind it, and the room for more of them, up to 1024 times the size."""
    groups = -(-min(total * 1024, 1 << 32) // _GROUP)
    return 1 + min(-(-groups // _DESCRIPTORS_A_BLOCK), 1024 + -(-total // _GROUP // _DESCRIPTORS_A_BLOCK)) + 1


def _holds_copy(group: int) -> bool:
    """sparse_super: group 1 and the powers of 3, 5 and 7."""
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
    """The orphan file of e2fsprogs 1.47."""
    return min(512, max(32, total // 4096))
