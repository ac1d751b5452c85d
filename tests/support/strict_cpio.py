"""A small reader of newc archives that forgives nothing: what is wrong is an ``AssertionError``.

It makes of an archive what the kernel makes of it (``init/initramfs.c``): names of one inode number, under a count
over one, are links, unless they are directories or symlinks. It shares no code with what it judges.
"""

from __future__ import annotations

import io
import stat
from collections import Counter
from dataclasses import dataclass
from typing import BinaryIO

from tests.support.layers import SECOND, Kind
from tests.support.tree import Node, Tree, content_of, grouped

__all__ = ["Member", "members", "tree_of"]

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


@dataclass(frozen=True)
class Member:
    """One entry as the archive says it."""

    name: bytes
    number: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    device: tuple[int, int]
    body: bytes


def members(file: BinaryIO) -> list[Member]:
    """Every entry up to the trailer, which must be there, with nothing but zeros behind it."""
    found = []
    while (member := _member(file)).name != b"TRAILER!!!":
        found.append(member)
    assert (member.number, member.mode, member.links, member.body) == (0, 0, 1, b"")
    rest = file.read()
    assert not any(rest), "something follows the trailer"
    assert file.tell() % 512 == 0, "the archive does not end with a block"
    return found


def tree_of(data: bytes) -> Tree:
    """The tree that Linux unpacks; asserts parents first, each name once, and right counts of links."""
    nodes: dict[bytes, tuple[Node, object]] = {}
    first: dict[int, Member] = {}
    found = members(io.BytesIO(data))
    for member in found:
        path = b"" if member.name == b"." else member.name
        assert path not in nodes, f"{path!r} appears twice"
        parent = path.rpartition(b"/")[0]
        assert not parent or nodes[parent][0].kind is Kind.DIR, f"{path!r} comes before its parent"
        nodes[path] = _node(member, first), _inode(member, path)
    names = Counter(member.number for member in found)
    assert all(member.links == names[member.number] for member in found), "a wrong count of links"
    return grouped(nodes)


def _inode(member: Member, path: bytes) -> object:
    return path if stat.S_ISLNK(member.mode) else member.number


def _node(member: Member, first: dict[int, Member]) -> Node:
    kind = _KINDS[stat.S_IFMT(member.mode)]
    original = first.setdefault(member.number, member)
    if kind is Kind.FILE and original is not member:
        assert not member.body, f"{member.name!r} brings a body of its own to an older inode"
        same = ("mode", "uid", "gid", "links", "mtime", "device")
        assert all(getattr(member, name) == getattr(original, name) for name in same), f"{member.name!r} differs"
    assert kind in (Kind.FILE, Kind.SYMLINK) or not member.body, f"{member.name!r} has a body"
    return Node(
        kind,
        stat.S_IMODE(member.mode),
        member.uid,
        member.gid,
        member.mtime * SECOND,
        content_of(original.body) if kind is Kind.FILE else b"",
        member.body if kind is Kind.SYMLINK else b"",
        member.device if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
    )


def _member(file: BinaryIO) -> Member:
    header = _exactly(file, 110)
    assert header[:6] == b"070701", f"no newc header: {header!r}"
    assert not header[6:].translate(None, b"0123456789abcdef"), "a digit that is none"
    fields = [int(header[start : start + 8], 16) for start in range(6, 110, 8)]
    number, mode, uid, gid, links, mtime, size, major, minor, rmajor, rminor, length, check = fields
    assert (major, minor, check) == (0, 0, 0)
    name = _exactly(file, length)
    assert name.endswith(b"\0"), "a name without an end"
    assert b"\0" not in name[:-1], "a name that ends early"
    _zeros(file, -(110 + length) % 4)
    body = _exactly(file, size)
    _zeros(file, -size % 4)
    return Member(name[:-1], number, mode, uid, gid, links, mtime, (rmajor, rminor), body)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    assert len(data) == size, f"the archive ends {size - len(data)} bytes too early"
    return data


def _zeros(file: BinaryIO, size: int) -> None:
    assert not any(_exactly(file, size)), "padding that is not zero"
