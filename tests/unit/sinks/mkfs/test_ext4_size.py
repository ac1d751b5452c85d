"""How large an ext4 is made: never too small; tests/system/test_filesystems.py checks that with mke2fs itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.sinks.mkfs.ext4_size import ext4_size
from streamerge.sinks.mkfs.options import Free
from streamerge.sinks.treesize import FS_BLOCK

MIB = 1 << 20


def test_nothing_takes_what_a_journal_needs() -> None:
    assert ext4_size(0, 0).size == 8 * MIB


@given(st.integers(0, 1 << 24), st.integers(0, 1 << 22))
def test_it_holds_its_contents_and_is_whole_mebibytes(blocks: int, inodes: int) -> None:
    found = ext4_size(blocks, inodes)
    assert found.size % MIB == 0
    assert found.size > blocks * FS_BLOCK + inodes * 256
    assert found.inodes > inodes + 11


@given(st.integers(0, 1 << 24), st.integers(0, 1 << 22))
def test_groups_are_no_larger_than_their_bitmap(blocks: int, inodes: int) -> None:
    found = ext4_size(blocks, inodes)
    groups = -(-found.size // (128 * MIB))
    assert -(-found.inodes // groups) <= 32768


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 18), st.integers(0, 95))
def test_a_share_is_left_free(blocks: int, inodes: int, percent: int) -> None:
    found = ext4_size(blocks, inodes, Free(share=percent / 100))
    used = ext4_size(blocks, inodes)
    assert found.size >= used.size
    assert found.size * (1 - percent / 100) >= blocks * FS_BLOCK
    assert found.size >= blocks * FS_BLOCK / (1 - percent / 100)


@pytest.mark.parametrize("room", [0, 1, 100 * MIB, 10 << 30])
def test_bytes_are_left_free(room: int) -> None:
    assert ext4_size(1000, 10, Free(bytes=room)).size >= 1000 * FS_BLOCK + room


def test_not_much_more_than_needed() -> None:
    """A gigabyte of contents takes five percent more at most."""
    assert ext4_size((1 << 30) // FS_BLOCK, 10_000).size < (1 << 30) * 1.05


def test_room_that_is_left_has_inodes() -> None:
    assert ext4_size(1000, 10, Free(bytes=1 << 30)).inodes >= (1 << 30) // 16384
