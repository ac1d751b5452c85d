"""to_overlay.py LAYER DIRECTORY [OLDER...]: finish a layer that was unpacked into DIRECTORY without its whiteouts.

Its whiteouts become overlayfs whiteouts. Directories that it does not list get the metadata that they have in the
newest OLDER directory. An entry that the layer has beside its own whiteout stays: a file hides what is older anyway,
and a directory is made opaque. Runs in the jail of jailed.sh, with the standard library only.
"""

import os
import stat
import sys
import tarfile

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"


def main(layer: str, directory: bytes, *older: bytes) -> None:
    """Convert whiteouts, then set the metadata of directories, which that and unpacking have changed."""
    with tarfile.open(layer, encoding="utf-8", errors="surrogateescape") as tar:
        listed = {_clean(member.name): member for member in tar}
    for name in listed:
        parent, last = os.path.split(name)
        if last.startswith(PREFIX) and _made(directory, parent):
            _mark(os.path.join(directory, parent), last)
    for path, _, _ in os.walk(directory, topdown=False):
        name = os.path.relpath(path, directory)
        if name in listed:
            os.utime(path, ns=(0, _nanoseconds(listed[name])))
        elif name != b".":
            _imitate(name, path, older)


def _clean(name: str) -> bytes:
    return os.path.normpath(os.fsencode(name).lstrip(b"/"))


def _made(directory: bytes, parent: bytes) -> bool:
    """Whether the whiteout's parent is a directory, which is created if missing; else the whiteout has no effect."""
    path = directory
    for part in parent.split(b"/") if parent else []:
        path = os.path.join(path, part)
        if not os.path.lexists(path):
            os.mkdir(path)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return False
    return True


def _mark(directory: bytes, name: bytes) -> None:
    hidden = os.path.join(directory, name.removeprefix(PREFIX))
    if name == OPAQUE:
        _make_opaque(directory)
    elif not os.path.lexists(hidden):
        os.mknod(hidden, stat.S_IFCHR)
    elif stat.S_ISDIR(os.lstat(hidden).st_mode):
        _make_opaque(hidden)


def _make_opaque(directory: bytes) -> None:
    os.setxattr(directory, "trusted.overlay.opaque", b"y")


def _nanoseconds(member: tarfile.TarInfo) -> int:
    seconds, _, fraction = str(member.pax_headers.get("mtime", int(member.mtime))).partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9]) * (-1 if seconds.startswith("-") else 1)


def _imitate(name: bytes, path: bytes, older: tuple[bytes, ...]) -> None:
    for directory in older:
        try:
            status = os.lstat(os.path.join(directory, name))
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            os.chown(path, status.st_uid, status.st_gid)
            os.chmod(path, stat.S_IMODE(status.st_mode))
            os.utime(path, ns=(0, status.st_mtime_ns))
            return
    os.chmod(path, 0o755)
    os.utime(path, ns=(0, 0))


if __name__ == "__main__":
    main(sys.argv[1], *map(os.fsencode, sys.argv[2:]))
