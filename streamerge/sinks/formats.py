"""Output formats, and what an output's name says."""

from __future__ import annotations

import os

from streamerge.codecs import Codec, codec_for_suffix

__all__ = ["FILESYSTEMS", "FORMATS", "PIPED", "format_of"]

FILESYSTEMS = ("squashfs", "erofs", "ext4")
"""The formats that a mkfs tool makes."""

FORMATS = ("tar", "dir", "cpio", *FILESYSTEMS)

PIPED = ("tar", "cpio")
"""The formats that can be written to standard output."""

_SUFFIXES = {
    ".tar": "tar",
    ".cpio": "cpio",
    ".squashfs": "squashfs",
    ".sqfs": "squashfs",
    ".sfs": "squashfs",
    ".sqsh": "squashfs",
    ".erofs": "erofs",
    ".ext4": "ext4",
}
_CPIO_SUFFIXES = (".cpio.gz", ".cpio.zst", ".cpio.lz4", ".cpio.xz")


def format_of(output: str) -> str | None:
    """Return the format for an output's name: by its suffix, a tar if it has none; None for an unknown suffix.

    A final slash or a directory means ``dir``. A FIFO or a device takes a tar, whatever it is called.

    >>> format_of("root.erofs"), format_of("initramfs.cpio.zst"), format_of("rootfs.tar.gz"), format_of("disk.img")
    ('erofs', 'cpio', 'tar', None)
    """
    if output.endswith(os.sep) or os.path.isdir(output):
        return "dir"
    if os.path.exists(output) and not os.path.isfile(output):
        return "tar"
    lower = os.path.basename(output).lower()
    if lower.endswith(_CPIO_SUFFIXES):
        return "cpio"
    suffix = os.path.splitext(lower)[1]
    if not suffix or codec_for_suffix(lower) is not Codec.NONE:
        return "tar"
    return _SUFFIXES.get(suffix)
