"""Output formats, and what an output's name says."""

from __future__ import annotations

import os

__all__ = ["FILESYSTEMS", "FORMATS", "format_of"]

FILESYSTEMS = ("squashfs", "erofs", "ext4")
"""The formats that a mkfs tool makes."""

FORMATS = ("tar", "dir", "cpio", *FILESYSTEMS)

_SUFFIXES = {".cpio": "cpio", ".squashfs": "squashfs", ".sqfs": "squashfs", ".erofs": "erofs", ".ext4": "ext4"}
_CPIO_SUFFIXES = (".cpio.gz", ".cpio.zst", ".cpio.lz4", ".cpio.xz")


def format_of(output: str) -> str:
    """Return the format for an output's name: ``dir`` for a final slash or a directory, else by suffix, else tar.

    >>> format_of("root.erofs"), format_of("initramfs.cpio.zst"), format_of("rootfs.tar.gz")
    ('erofs', 'cpio', 'tar')
    """
    if output.endswith(os.sep) or os.path.isdir(output):
        return "dir"
    lower = output.lower()
    if lower.endswith(_CPIO_SUFFIXES):
        return "cpio"
    return _SUFFIXES.get(os.path.splitext(lower)[1], "tar")
