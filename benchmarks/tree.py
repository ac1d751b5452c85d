"""List a tar or a directory in a form that can be compared; independent of the package and of its tests."""

from __future__ import annotations

import decimal
import hashlib
import os
import stat
import tarfile
from pathlib import Path
from typing import IO

FIELDS = ("kind", "mode", "uid", "gid", "mtime", "content", "target", "device", "xattrs", "group")
"""``content`` is a digest, ``mtime`` is in nanoseconds, ``group`` is the first path of the same inode by name."""

Facts = list[object]
Found = dict[str, tuple[Facts, object]]
"""By path: the facts without ``group``, and a key for the inode."""

_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
_MODES = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFREG: "file",
}


def tree(path: Path) -> dict[str, Facts]:
    """The facts of each path; the root is the empty path. Cost: every file is read once."""
    found = _in_directory(os.fsencode(path)) if path.is_dir() else _in_tar(path)
    least: dict[object, str] = {}
    for name, (_, inode) in found.items():
        least[inode] = min(name, least.get(inode, name))
    return {name: [*facts, "" if facts[0] == "directory" else least[inode]] for name, (facts, inode) in found.items()}


# --- a tar -------------------------------------------------------------------------------------------------------


def _in_tar(path: Path) -> Found:
    found: Found = {}
    with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            name = _clean(member.name)
            if member.islnk():
                found[name] = found[_clean(member.linkname)]
            else:
                found[name] = _of_member(tar, member), name
    return found


def _clean(name: str) -> str:
    return "" if name == "." else name.removeprefix("./").rstrip("/")


def _of_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Facts:
    kind = _KINDS.get(member.type, "file")
    seconds = decimal.Decimal(member.pax_headers.get("mtime", int(member.mtime)))
    device = [member.devmajor, member.devminor] if kind.endswith("device") else []
    xattrs = {key.removeprefix(_XATTR): value for key, value in member.pax_headers.items() if key.startswith(_XATTR)}
    return [
        kind,
        0 if kind == "symlink" else member.mode & 0o7777,
        member.uid,
        member.gid,
        int(seconds * 10**9),
        _digest(tar.extractfile(member)) if kind == "file" else "",
        member.linkname if kind == "symlink" else "",
        device,
        [list(pair) for pair in sorted(xattrs.items())],
    ]


def _digest(file: IO[bytes] | None) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    while file is not None and (chunk := file.read(1 << 20)):
        digest.update(chunk)
    return digest.hexdigest()


# --- a directory -------------------------------------------------------------------------------------------------


def _in_directory(root: bytes) -> Found:
    found: Found = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        status = os.lstat(root + b"/" + path)
        found[os.fsdecode(path)] = _of_file(root + b"/" + path, status), (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            pending += (path + b"/" + name if path else name for name in os.listdir(root + b"/" + path))
    return found


def _of_file(path: bytes, status: os.stat_result) -> Facts:
    kind = _MODES.get(stat.S_IFMT(status.st_mode), "socket")
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    device = [os.major(status.st_rdev), os.minor(status.st_rdev)] if kind.endswith("device") else []
    return [
        kind,
        0 if kind == "symlink" else stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        _digest_of(path) if kind == "file" else "",
        os.fsdecode(os.readlink(path)) if kind == "symlink" else "",
        device,
        [[name, value.decode("utf-8", "surrogateescape")] for name, value in sorted(xattrs.items())],
    ]


def _digest_of(path: bytes) -> str:
    with open(path, "rb", buffering=0) as file:
        return _digest(file)
