"""File system images as the kernel shows them, as their own tools unpack them, and as they should be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.layers import SECOND, Kind
from tests.support.tree import Tree, from_directory

__all__ = ["HOLDS", "Holds", "as_held", "checked", "mounted", "shown", "unpacked"]

_FOREVER = 1 << 62


@dataclass(frozen=True)
class Holds:
    """What a file system, made in one way, holds: docs/filesystems.md has the same as a table."""

    xattrs: tuple[bytes, ...] = ()
    fractions: bool = False
    earliest: int = 0
    latest: int = (1 << 32) - 1
    linked_symlinks: bool = True
    root: bool = True


_MOST = (b"user.", b"trusted.", b"security.")
HOLDS = {
    "mksquashfs": Holds(_MOST),
    "sqfstar": Holds(_MOST),
    "old sqfstar": Holds(_MOST, root=False),
    "tar2sqfs": Holds(_MOST),
    "mkfs.erofs": Holds((*_MOST, b"system.posix_acl_"), fractions=True, earliest=-_FOREVER, latest=_FOREVER),
    "mke2fs": Holds((b"security.capability",), earliest=-(1 << 31), latest=(1 << 31) - 1),
    "mke2fs, directory": Holds(
        (*_MOST, b"system.posix_acl_"), earliest=-(1 << 31), latest=(1 << 31) - 1, linked_symlinks=False
    ),
}


def as_held(tree: Tree, holds: Holds) -> Tree:
    """The tree without what is lost."""
    held: Tree = {}
    for path, node in tree.items():
        seconds, fraction = divmod(node.mtime_ns, SECOND)
        kept = min(max(seconds, holds.earliest), holds.latest)
        time = kept * SECOND + (fraction if holds.fractions and kept == seconds else 0)
        xattrs = frozenset(pair for pair in node.xattrs if pair[0].startswith(holds.xattrs)) if holds.xattrs else ()
        alone = node.kind is Kind.SYMLINK and not holds.linked_symlinks
        group = path if alone else node.group
        held[path] = replace(node, mtime_ns=time, xattrs=frozenset(xattrs), group=group)
    return held


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """The image, mounted read-only through a loop device; a journal is not replayed."""
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro", image, where], check=True, capture_output=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def shown(image: Path, where: Path) -> Tree:
    """What the kernel shows, without the directory that every ext4 has; as unpacked where it does not know such."""
    try:
        with mounted(image, where) as view:
            tree = from_directory(view)
    except subprocess.CalledProcessError:
        tree = unpacked(image, where)
    return {path: node for path, node in tree.items() if path != b"lost+found"}


def unpacked(image: Path, where: Path) -> Tree:
    """What the file system's own tools unpack as root, for a kernel that cannot mount it."""
    where.mkdir(exist_ok=True)
    command: dict[str, list[str | Path]] = {
        ".squashfs": ["unsquashfs", "-no-progress", "-quiet", "-xattrs", "-force", "-dest", where, image],
        ".erofs": ["fsck.erofs", f"--extract={where}", "--preserve", "--overwrite", image],
        ".ext4": ["debugfs", "-R", f"rdump / {where}", image],
    }
    done = subprocess.run(command[image.suffix], capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="backslashreplace")
    return from_directory(where)


def checked(image: Path) -> None:
    """The file system's own checker finds nothing to complain of."""
    command: dict[str, list[str | Path]] = {
        ".squashfs": ["unsquashfs", "-no-progress", "-lls", image],
        ".erofs": ["fsck.erofs", image],
        ".ext4": ["e2fsck", "-fn", image],
    }
    done = subprocess.run(command[image.suffix], capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="backslashreplace")
