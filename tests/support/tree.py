"""A merged root filesystem as one comparable value, wherever it comes from."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import BinaryIO

from tests.support.layers import Kind
from tests.support.strict_tar import Content, Member, members

__all__ = [
    "Node",
    "Tree",
    "content_of",
    "differences",
    "from_directory",
    "from_tar",
    "from_tar_file",
    "grouped",
]


@dataclass(frozen=True)
class Node:
    """What shows at one path.

    ``group`` is the smallest path of the same inode (empty for directories), so that equal trees have
    equal hard links. The mode of a symlink means nothing on Linux and is 0777 throughout. ``content`` is
    as :class:`~tests.support.strict_tar.Content` has it. Never a ``Kind.LINK``.
    """

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    content: bytes = b""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: frozenset[tuple[bytes, bytes]] = frozenset()
    group: bytes = b""


Tree = dict[bytes, Node]
"""Path to node; the root is the empty path."""


def content_of(data: bytes) -> bytes:
    return _content([data])


def _content(chunks: Iterable[bytes]) -> bytes:
    content = Content()
    for chunk in chunks:
        content.update(chunk)
    return content.value()


def grouped(nodes: dict[bytes, tuple[Node, object]]) -> Tree:
    """Fill in the groups: each node comes with what identifies its inode."""
    smallest: dict[object, bytes] = {}
    for path, (_, inode) in nodes.items():
        smallest[inode] = min(path, smallest.get(inode, path))
    return {
        path: node if node.kind is Kind.DIR else replace(node, group=smallest[inode])
        for path, (node, inode) in nodes.items()
    }


# --- from streamerge's output --------------------------------------------------------------------


def from_tar(data: bytes) -> Tree:
    """Return the tree that a tar makes; assert on the way what every output guarantees."""
    return _from_members(members(io.BytesIO(data)))


def from_tar_file(path: str | os.PathLike[str]) -> Tree:
    """Like :func:`from_tar`, streaming: for images that do not fit into memory."""
    with open(path, "rb") as file:
        return _from_members(members(file))


def _from_members(entries: Iterable[Member]) -> Tree:
    nodes: dict[bytes, tuple[Node, object]] = {}
    for member in entries:
        path = _clean(member)
        assert path not in nodes, f"{path!r} appears twice"
        _assert_parent(nodes, path)
        nodes[path] = _linked(nodes, path, member) if member.flag == b"1" else (_node(member), path)
    assert b"" in nodes, "there is no entry of the root"
    return grouped(nodes)


def _clean(member: Member) -> bytes:
    """The path without a leading ``./`` and a directory's trailing slash; no more may be unclean."""
    path = member.path.removesuffix(b"/") if member.flag == b"5" else member.path
    if path == b"." and member.flag == b"5":
        return b""
    path = path.removeprefix(b"./")
    assert not {b"", b".", b".."} & set(path.split(b"/")), f"{member.path!r} is not a clean name"
    assert b"\0" not in path, f"{member.path!r} holds a NUL"
    return path


def _assert_parent(nodes: dict[bytes, tuple[Node, object]], path: bytes) -> None:
    """The root alone may come after what is in it."""
    parent = path.rpartition(b"/")[0]
    if not parent:
        return
    assert parent in nodes, f"{path!r} comes before its parent directory"
    assert nodes[parent][0].kind is Kind.DIR, f"{path!r} is below something that is no directory"


def _linked(nodes: dict[bytes, tuple[Node, object]], path: bytes, link: Member) -> tuple[Node, object]:
    target = link.target.removeprefix(b"./")
    assert target in nodes, f"{path!r} links to {link.target!r}, which has not come before it"
    assert nodes[target][0].kind is not Kind.DIR, f"{path!r} links to the directory {link.target!r}"
    return nodes[target]


def _node(member: Member) -> Node:
    kind = Kind(member.flag)
    assert member.target or kind is not Kind.SYMLINK, f"the symlink {member.path!r} has no target"
    return Node(
        kind,
        0o777 if kind is Kind.SYMLINK else member.mode,
        member.uid,
        member.gid,
        member.mtime_ns,
        member.content,
        member.target if kind is Kind.SYMLINK else b"",
        member.device,
        member.xattrs,
    )


# --- from a directory ----------------------------------------------------------------------------

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


def from_directory(path: str | os.PathLike[str]) -> Tree:
    """The tree a directory shows; sockets are left out, as no tar can hold them."""
    root = os.fsencode(path)
    nodes: dict[bytes, tuple[Node, object]] = {}
    with _made_readable(root) as modes:
        for name in _walk(root):
            try:
                status = os.lstat(root + b"/" + name)
            except FileNotFoundError:
                # Overlayfs lists a whiteout in a directory that only one layer has, and then denies it.
                continue
            if not stat.S_ISSOCK(status.st_mode):
                node = node_at(root + b"/" + name)
                inode = status.st_dev, status.st_ino
                nodes[name] = replace(node, mode=modes.get(inode, node.mode)), inode
    return grouped(nodes)


@contextmanager
def _made_readable(root: bytes) -> Iterator[dict[tuple[int, int], int]]:
    """Lets an owner other than root read files of mode 000 for a while. Yields the changed inodes' own modes."""
    modes: dict[tuple[int, int], int] = {}
    changed: list[tuple[bytes, int]] = []
    try:
        if os.geteuid() != 0:
            for name, status in _opening(root):
                changed.append((root + b"/" + name, stat.S_IMODE(status.st_mode)))
                modes.setdefault((status.st_dev, status.st_ino), stat.S_IMODE(status.st_mode))
        yield modes
    finally:
        for path, mode in reversed(changed):
            os.chmod(path, mode)


def _opening(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Each file and directory that its owner cannot read, its status before and its mode changed; parents first."""
    pending = [b""]
    while pending:
        name = pending.pop()
        path = root + b"/" + name
        status = os.lstat(path)
        directory = stat.S_ISDIR(status.st_mode)
        needed = 0o700 if directory else 0o400
        ours = status.st_uid == os.geteuid() and (directory or stat.S_ISREG(status.st_mode))
        if ours and status.st_mode & needed != needed:
            os.chmod(path, stat.S_IMODE(status.st_mode) | needed)
            yield name, status
        if directory:
            pending += (name + b"/" + entry if name else entry for entry in os.listdir(path))


def _walk(root: bytes) -> Iterator[bytes]:
    """Every path below root, and root itself as the empty path; parents first."""
    pending = [b""]
    while pending:
        directory = pending.pop()
        yield directory
        with os.scandir(root + b"/" + directory) as entries:
            for entry in entries:
                name = directory + b"/" + entry.name if directory else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                else:
                    yield name


def node_at(path: bytes) -> Node:
    """One file of a directory tree, its group left empty."""
    status = os.lstat(path)
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    device = os.major(status.st_rdev), os.minor(status.st_rdev)
    return Node(
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        _file_content(path) if kind is Kind.FILE else b"",
        os.readlink(path) if kind is Kind.SYMLINK else b"",
        device if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        _xattrs(path),
    )


def _file_content(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return _content(_chunks(file))


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(1 << 20):
        yield chunk


def _xattrs(path: bytes) -> frozenset[tuple[bytes, bytes]]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return frozenset()  # a squashfs without any says so
    return frozenset((os.fsencode(n), os.getxattr(path, n, follow_symlinks=False)) for n in names)


# --- comparing -----------------------------------------------------------------------------------


def differences(a: Tree, b: Tree, *, ignore_xattrs: Collection[bytes] = (), limit: int = 20) -> list[str]:
    """What differs, one line each, at most ``limit`` and a line that counts the rest.

    ``ignore_xattrs`` are prefixes of names, such as ``trusted.overlay.`` or ``security.selinux``.
    """
    prefixes = tuple(ignore_xattrs)
    lines = [
        line
        for path in sorted(a.keys() | b.keys())
        for line in _compared(path, _without(prefixes, a.get(path)), _without(prefixes, b.get(path)))
    ]
    more = len(lines) - limit
    return [*lines[:limit], f"... and {more} more"] if more > 0 else lines


def _without(prefixes: tuple[bytes, ...], node: Node | None) -> Node | None:
    if node is None or not prefixes:
        return node
    return replace(node, xattrs=frozenset(pair for pair in node.xattrs if not pair[0].startswith(prefixes)))


def _compared(path: bytes, a: Node | None, b: Node | None) -> Iterator[str]:
    name = path.decode("utf-8", "backslashreplace") or "/"
    if a is None or b is None:
        kind = a.kind if a is not None else b.kind if b is not None else None
        yield f"{name!r}: only in the {'second' if a is None else 'first'} ({kind})"
        return
    for field in fields(Node):
        mine, yours = getattr(a, field.name), getattr(b, field.name)
        if mine != yours:
            shown = oct if field.name == "mode" else _shown
            yield f"{name!r}: {field.name} is {shown(mine)} in the first, {shown(yours)} in the second"


def _shown(value: object) -> str:
    text = repr(sorted(value) if isinstance(value, frozenset) else value)
    return text if len(text) <= 200 else text[:200] + "..."
