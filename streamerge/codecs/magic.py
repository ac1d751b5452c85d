"""The codec of an input, from its first bytes; the codec of an output, from its file name."""

from __future__ import annotations

import enum

from streamerge.errors import UnsupportedMediaType

__all__ = [
    "BZIP2_MAGIC",
    "GZIP_MAGIC",
    "HEAD_SIZE",
    "LZ4_MAGIC",
    "SKIPPABLE_MAGICS",
    "XZ_MAGIC",
    "ZSTD_MAGIC",
    "Codec",
    "codec_for_suffix",
    "detect",
]


class Codec(enum.Enum):
    """How a layer is compressed. The value is the name in messages."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    LZ4 = "lz4"
    XZ = "xz"
    BZIP2 = "bzip2"


HEAD_SIZE = 512
"""Bytes that :func:`detect` needs. All magics are within 10; the rest is for looking past skippable frames."""

GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1: 0xFD2FB528, little-endian
LZ4_MAGIC = b"\x04\x22\x4d\x18"  # LZ4 frame format 1.6: 0x184D2204, little-endian
XZ_MAGIC = b"\xfd7zXZ\0"  # The .xz file format 1.2, 2.1.1.1
BZIP2_MAGIC = b"BZh"  # then the block size, "1" to "9", then a block's or the end's magic
SKIPPABLE_MAGICS = tuple(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))
"""0x184D2A50 to 0x184D2A5F: RFC 8878, 3.1.2, and the same in the LZ4 frame format."""

_BZIP2_NEXT = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")  # a block, the end of the stream

_MAGICS = {
    GZIP_MAGIC: Codec.GZIP,
    ZSTD_MAGIC: Codec.ZSTD,
    LZ4_MAGIC: Codec.LZ4,
    XZ_MAGIC: Codec.XZ,
}

_UNSUPPORTED = {
    b"\x02\x21\x4c\x18": "lz4's legacy format (lz4 -l)",
    b"\x1f\x9d": "compress (.Z)",
    b"LZIP\x01": "lzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}

_SUFFIXES = {
    ".tar.gz": Codec.GZIP,
    ".tgz": Codec.GZIP,
    ".tar.zst": Codec.ZSTD,
    ".tar.lz4": Codec.LZ4,
    ".tar.xz": Codec.XZ,
    ".tar.bz2": Codec.BZIP2,
    ".tzst": Codec.ZSTD,
    ".tar.zstd": Codec.ZSTD,
    ".txz": Codec.XZ,
    ".tbz2": Codec.BZIP2,
    ".wsl": Codec.GZIP,  # a distribution for wsl --install
}


def detect(head: bytes) -> Codec:
    """The codec of a stream that starts with ``head``: its first ``HEAD_SIZE`` bytes, or all of it.

    NONE for an empty stream and anything without a known magic. A tar starts with a file name, so a magic of letters
    counts only with the control bytes that follow it.

    Skippable frames have the same magics in zstd and in lz4: the frame after them decides. If it is not within
    ``head``, or is neither, the result is ZSTD: pzstd and zstd:chunked write skippable frames, the lz4 tool does not.

    Raises :class:`UnsupportedMediaType` for a compression or archive that is recognised but not supported. Cost:
    O(HEAD_SIZE).
    """
    if head.startswith(SKIPPABLE_MAGICS):
        return Codec.LZ4 if _past_skippable(head).startswith(LZ4_MAGIC) else Codec.ZSTD
    if _is_bzip2(head):
        return Codec.BZIP2
    for magic, name in _UNSUPPORTED.items():
        if head.startswith(magic):
            raise UnsupportedMediaType(f"this is {name}, which is not supported; use gzip or zstd instead")
    return next((codec for magic, codec in _MAGICS.items() if head.startswith(magic)), Codec.NONE)


def codec_for_suffix(name: str) -> Codec:
    """The codec for an output file's name, in upper or lower case; NONE for any other suffix.

    >>> codec_for_suffix("rootfs.tar.zst"), codec_for_suffix("rootfs.tar")
    (<Codec.ZSTD: 'zstd'>, <Codec.NONE: 'none'>)
    """
    lower = name.lower()
    return next((codec for suffix, codec in _SUFFIXES.items() if lower.endswith(suffix)), Codec.NONE)


def _past_skippable(head: bytes) -> bytes:
    """``head`` after its leading skippable frames. Each is a magic, a 4-byte size, and that many bytes."""
    while head.startswith(SKIPPABLE_MAGICS) and len(head) >= 8:
        head = head[8 + int.from_bytes(head[4:8], "little") :]
    return head


def _is_bzip2(head: bytes) -> bool:
    """Whether this is bzip2. The magic alone is not enough: a tar's first file could be named ``BZh9.txt``."""
    return (
        head.startswith(BZIP2_MAGIC)
        and head[3:4] in b"123456789"
        and any(magic.startswith(head[4:10]) for magic in _BZIP2_NEXT)
    )
