"""Values -> the headers of a cpio archive, format newc. Pure.

Sources: the kernel's ``Documentation/driver-api/early-userspace/buffer-format.rst`` and ``init/initramfs.c``;
cpio(5). A header is 110 bytes, all numbers eight hexadecimal digits; name and body are padded to four bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamerge.errors import SinkError

__all__ = ["MAX_BODY", "MAX_PATH", "TRAILER", "Inode", "end_of_archive", "newc_header", "padding"]

MAX_BODY = (1 << 32) - 1
"""Bytes that a file may have: its size is eight hexadecimal digits."""
MAX_PATH = 4095
"""Bytes that a name or a symlink's target may have: with its NUL it is PATH_MAX, beyond which Linux skips it."""
TRAILER = b"TRAILER!!!"
"""The name that ends an archive."""

_BLOCK = 512
_LAST_NUMBER = (1 << 32) - 1
_FIELDS = b"070701" + 13 * b"%08x"


@dataclass(frozen=True, slots=True)
class Inode:
    """What all names of a file share. ``mode`` holds its type; ``mtime`` is in seconds, cut to what 32 bits hold;
    ``links`` counts the names: Linux and GNU cpio look for more of them only where it is over one.
    """

    number: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    device: tuple[int, int] = (0, 0)


def newc_header(path: bytes, inode: Inode, size: int) -> bytes:
    """What stands before ``size`` bytes of body: header, name, padding. The root directory is ``.``.

    Raises SinkError for a name that Linux would not take or take for the end, and for a body of 4 GiB.
    """
    if len(path) > MAX_PATH:
        raise SinkError(f"the path has {len(path)} bytes; in an initramfs it may have {MAX_PATH}")
    if path == TRAILER:
        raise SinkError("a file of this name ends a cpio archive; leave it out with --exclude '/TRAILER!!!'")
    if size > MAX_BODY:
        raise SinkError(f"the file has {size:,} bytes; a cpio archive can hold {MAX_BODY:,}")
    return _header(path or b".", inode, size)


def end_of_archive(size: int) -> bytes:
    """What ends an archive of ``size`` bytes: the trailer, and zeros up to a block of 512 bytes, as GNU cpio has it."""
    trailer = _header(TRAILER, Inode(0, 0, 0, 0, 1, 0), 0)
    return trailer + bytes(-(size + len(trailer)) % _BLOCK)


def padding(size: int) -> bytes:
    """The zeros that follow a body."""
    return bytes(-size % 4)


def _header(name: bytes, inode: Inode, size: int) -> bytes:
    mtime = min(max(inode.mtime, 0), _LAST_NUMBER)
    major, minor = inode.device
    shared = (inode.number, inode.mode, inode.uid, inode.gid, inode.links, mtime, size)
    numbers = (*shared, 0, 0, major, minor, len(name) + 1, 0)  # the device that it is on is the same for all
    header = _FIELDS % numbers + name + b"\0"
    return header + bytes(-len(header) % 4)
