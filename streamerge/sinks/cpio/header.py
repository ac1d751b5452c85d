"""Values -> the headers of a cpio archive in newc format. Pure.

Sources: the kernel's ``Documentation/driver-api/early-userspace/buffer-format.rst`` and ``init/initramfs.c``;
cpio(5). A header is 110 bytes: a magic number and 13 numbers of eight hexadecimal digits. The name follows. Header
with name, and body, are each padded to four bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamerge.errors import SinkError

__all__ = ["MAX_BODY", "MAX_PATH", "TRAILER", "Inode", "end_of_archive", "newc_header", "padding"]

MAX_BODY = (1 << 32) - 1
"""Bytes of a file at most: its size is eight hexadecimal digits."""
MAX_PATH = 4095
"""Bytes of a path or a symlink's target at most: with its NUL it fills PATH_MAX, and Linux skips longer ones."""
TRAILER = b"TRAILER!!!"
"""The name of the entry that ends an archive."""

_RECORD = 512
"""GNU cpio pads an archive to a multiple of so many bytes."""
_LATEST_SECOND = (1 << 32) - 1
_NEWC_FORMAT = b"070701" + 13 * b"%08x"


@dataclass(frozen=True, slots=True)
class Inode:
    """What all names of a file share.

    ``mode`` includes the file type. ``mtime`` is in seconds; values that 32 bits cannot hold are clamped. ``links`` is
    the number of names: Linux and GNU cpio look for further names only if it is over one.
    """

    number: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    device: tuple[int, int] = (0, 0)


def newc_header(path: bytes, inode: Inode, size: int) -> bytes:
    """The bytes before ``size`` bytes of body: header, name, padding. The root directory is ``.``.

    Raises SinkError for a path that Linux would skip or take for the end, and for a body of 4 GiB or more.
    """
    if len(path) > MAX_PATH:
        raise SinkError(f"the path has {len(path)} bytes; an initramfs allows {MAX_PATH}")
    if path == TRAILER:
        raise SinkError("a file of this name would end the cpio archive", setting="exclude").at(path=path)
    if size > MAX_BODY:
        raise SinkError(f"the file has {size:,} bytes; a cpio archive can hold {MAX_BODY:,}")
    return _header(path or b".", inode, size)


def end_of_archive(size: int) -> bytes:
    """The end of an archive of ``size`` bytes: the trailer, and zeros up to a multiple of 512 bytes as in GNU cpio."""
    trailer = _header(TRAILER, Inode(0, 0, 0, 0, 1, 0), 0)
    return trailer + bytes(-(size + len(trailer)) % _RECORD)


def padding(size: int) -> bytes:
    """The zeros that follow a body."""
    return bytes(-size % 4)


def _header(name: bytes, inode: Inode, size: int) -> bytes:
    mtime = min(max(inode.mtime, 0), _LATEST_SECOND)
    shared = (inode.number, inode.mode, inode.uid, inode.gid, inode.links, mtime, size)
    containing_device = (0, 0)  # the same for all files, so that equal inode numbers mean one file
    checksum = 0  # newc has none
    numbers = (*shared, *containing_device, *inode.device, len(name) + 1, checksum)
    header = _NEWC_FORMAT % numbers + name + b"\0"
    return header + bytes(-len(header) % 4)
