"""The temporary directory of a tree, its renaming to the destination, and removing trees."""

from __future__ import annotations

import contextlib
import errno
import os
import re

from streamerge.errors import SinkError, show
from streamerge.fileio import fsync_name, partial_name
from streamerge.sinks.directory.fds import DirectoryFds

__all__ = [
    "PRIVATE",
    "check_destination",
    "make_private",
    "mounts_in",
    "remove_tree",
    "replace_tree",
    "sync_filesystem",
]

PRIVATE = 0o700
"""The mode of directories while the tree is built, if their own is not known yet or would lock us out."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_PATH_ONLY = os.O_RDONLY | getattr(os, "O_PATH", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC


def check_destination(path: str, *, force: bool) -> None:
    """Raise SinkError if a tree cannot replace the destination, before any work starts. ``path`` is absolute."""
    shown = show(os.fsencode(path))
    try:
        if not os.path.lexists(path):
            return
        if not os.path.isdir(path):
            raise SinkError(f"'{shown}' exists and is not a directory; name a directory")
        mounted = mounts_in(path)
        if os.path.ismount(path) or path in mounted:
            raise SinkError(f"'{shown}' is a mount point and cannot be replaced; name a directory in it")
        if mounted:
            raise SinkError(f"'{show(os.fsencode(mounted[0]))}' is mounted in '{shown}'; unmount it first")
        if os.path.commonpath([path, _working_directory()]) == path:
            raise SinkError(f"'{shown}' contains the working directory; change to another directory first")
        if not force and os.listdir(path):
            raise SinkError(f"the directory '{shown}' is not empty", setting="force")
    except OSError as error:
        raise SinkError(f"cannot write it: {error.strerror or error}").at(path=os.fsencode(path)) from error


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return os.sep


def make_private(path: str) -> int:
    """Create the temporary directory of a tree, and return a descriptor of it. Raises OSError."""
    try:
        os.mkdir(path, PRIVATE)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        _disinherit(fd)
    except BaseException:  # no sink exists yet that could be aborted
        with contextlib.suppress(OSError):
            os.rmdir(path)
        raise
    return fd


def _disinherit(fd: int) -> None:
    """Remove what the directory has inherited: the group and bit of a setgid parent, and a default ACL."""
    if os.fstat(fd).st_gid != os.getegid():
        os.fchown(fd, -1, os.getegid())
    os.fchmod(fd, PRIVATE)
    for name in ("system.posix_acl_default", "system.posix_acl_access"):
        with contextlib.suppress(OSError):
            os.removexattr(fd, name)


def replace_tree(new: str, path: str, *, force: bool, fsync: bool) -> str | None:
    """Rename ``new`` to ``path``. Return the path of the old tree, which the caller removes; None if there is none.

    An empty directory is always replaced, any other only with ``force``. Then the two are exchanged in one step if the
    kernel supports it (renameat2(2), RENAME_EXCHANGE). Raises OSError, SinkError.
    """
    old = None
    try:
        os.rename(new, path)
    except OSError as error:
        if not force or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        old = new if _exchange(new, path) else _move_aside(new, path)
    if fsync:
        fsync_name(path)
    return old


def remove_tree(path: str) -> None:
    """Remove a tree, even if the modes of its directories deny it. Never follows a symlink or enters a mount.

    Cost: two system calls for each entry. Raises OSError; FileNotFoundError if there is no tree.
    """
    if mounted := mounts_in(path):
        raise OSError(errno.EBUSY, f"'{show(os.fsencode(mounted[0]))}' is mounted in it")
    _unlock(path, None)
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fds = DirectoryFds(root)
    try:
        directories = [b""]
        for directory in directories:  # the loop appends to it: parents come before their children
            directories.extend(_remove_files(fds, directory))
        for directory in reversed(directories[1:]):
            fds.drop(directory)
            parent, _, name = directory.rpartition(b"/")
            os.rmdir(name, dir_fd=fds.get(parent))
    finally:
        fds.close()
        os.close(root)
    os.rmdir(path)


def _remove_files(fds: DirectoryFds, directory: bytes) -> list[bytes]:
    """Remove all entries except directories. Return the directories, made writable so that they can be emptied."""
    fd = fds.get(directory)
    below = []
    with os.scandir(fd) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if is_directory:
            _unlock(name, fd)
            below.append(directory + b"/" + name if directory else name)
        else:
            os.unlink(name, dir_fd=fd)
    return below


def _unlock(name: str | bytes, parent: int | None) -> None:
    """Allow the owner to read, write and enter a directory. It need not be readable before."""
    fd = os.open(name, _PATH_ONLY, dir_fd=parent)
    try:
        os.chmod(b"/proc/self/fd/%d" % fd, 0o700)
    finally:
        os.close(fd)


def mounts_in(path: str) -> list[str]:
    """Return the mount points at or below ``path``, which is absolute and without symlinks (proc_pid_mountinfo(5)).

    A bind mount of the same file system looks like an ordinary directory, but its content must not be removed.
    """
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            points = [os.fsdecode(_ESCAPED.sub(_unescape, line.split(b" ")[4])) for line in file]
    except OSError:
        return []
    return [point for point in points if point == path or point.startswith(path.rstrip("/") + "/")]


_ESCAPED = re.compile(rb"\\([0-7]{3})")


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8)])


def sync_filesystem(fd: int) -> None:
    """Flush the file system that ``fd`` is on (syncfs(2)). Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _exchange(new: str, path: str) -> bool:
    """Exchange two trees. Return False if the kernel or the file system does not support it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = os.fsencode(new), os.fsencode(path)
    return bool(libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _move_aside(new: str, path: str) -> str:
    """Replace a tree in two steps. If the second one fails, the first is undone."""
    old = partial_name(path)
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise
    return old
