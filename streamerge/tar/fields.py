"""The position of each field in a 512-byte tar header.

POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format", for the sparse fields.
:mod:`streamerge.engine.scan` unpacks a header with one ``struct`` call instead.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BLOCK",
    "CHECKSUM",
    "DEVICES",
    "DEV_MAJOR",
    "DEV_MINOR",
    "FORMAT",
    "GID",
    "GNU_MAGIC",
    "LINK_NAME",
    "MAGIC",
    "MODE",
    "MTIME",
    "NAME",
    "NUMBERS",
    "OWNERS",
    "OWNER_NAMES",
    "POSIX_MAGIC",
    "PREFIX",
    "PREFIX_AT",
    "SIZE",
    "SPARSE_MAP",
    "SPARSE_MORE",
    "SPARSE_SIZE",
    "SPARSE_TYPE",
    "TYPE",
    "TYPE_AT",
    "UID",
    "USTAR",
]

BLOCK: Final = 512
"""Bytes of a header; bodies are padded to a multiple of it."""

NAME = slice(0, 100)
MODE = slice(100, 108)
UID = slice(108, 116)
GID = slice(116, 124)
OWNERS = slice(100, 124)
"""Mode, uid and gid together."""
SIZE = slice(124, 136)
MTIME = slice(136, 148)
NUMBERS = slice(100, 148)
"""Mode, uid, gid, size and mtime together."""
CHECKSUM = slice(148, 156)
TYPE = slice(156, 157)
TYPE_AT: Final = 156
"""The type flag's position, for comparing it as a number."""
LINK_NAME = slice(157, 257)
MAGIC = slice(257, 265)
"""Magic and version."""
FORMAT = slice(257, 263)
"""The magic alone; the version varies. Only POSIX headers have :data:`USTAR` here."""
OWNER_NAMES = slice(265, 329)
"""Names of the user and of the group, 32 bytes each."""
DEV_MAJOR = slice(329, 337)
DEV_MINOR = slice(337, 345)
DEVICES = slice(329, 345)
PREFIX = slice(345, 500)
"""The directories before the name, in POSIX headers. GNU headers have other fields here."""
PREFIX_AT: Final = 345
"""The position of the prefix's first byte, to see quickly whether there is one."""
SPARSE_MAP = slice(386, 482)
"""Four extents of an old GNU sparse file: offset and length, 12 bytes each."""
SPARSE_MORE: Final = 482
"""The position of the flag that says that more blocks of the map follow the header."""
SPARSE_SIZE = slice(483, 495)
"""The length of an old GNU sparse file, holes included."""

SPARSE_TYPE: Final = b"S"[0]
"""The type flag of an old GNU sparse file, as a number."""

USTAR: Final = b"ustar\0"
POSIX_MAGIC: Final = b"ustar\x0000"
GNU_MAGIC: Final = b"ustar  \0"
