"""Where each field lies in a 512-byte tar header.

POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format", for the sparse fields. The scan of
:mod:`streamerge.engine.scan` unpacks a header by one ``struct`` call instead.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BLOCK",
    "CHECKSUM",
    "DEVICES",
    "DEV_MAJOR",
    "DEV_MINOR",
    "GID",
    "GNU_MAGIC",
    "LINK_NAME",
    "MAGIC",
    "MODE",
    "MTIME",
    "NAME",
    "OWNERS",
    "OWNER_NAMES",
    "POSIX_MAGIC",
    "PREFIX",
    "SIZE",
    "SPARSE_MAP",
    "SPARSE_MORE",
    "SPARSE_SIZE",
    "TYPE",
    "TYPE_AT",
    "UID",
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
CHECKSUM = slice(148, 156)
TYPE = slice(156, 157)
TYPE_AT: Final = 156
"""The type flag's position, for comparing it as a number."""
LINK_NAME = slice(157, 257)
MAGIC = slice(257, 265)
"""Magic and version."""
OWNER_NAMES = slice(265, 329)
"""Names of the user and of the group, 32 bytes each."""
DEV_MAJOR = slice(329, 337)
DEV_MINOR = slice(337, 345)
DEVICES = slice(329, 345)
PREFIX = slice(345, 500)
"""What stands before the name in POSIX headers; GNU headers hold other fields here."""
SPARSE_MAP = slice(386, 482)
"""Four extents of an old GNU sparse file: offset and length, 12 bytes each."""
SPARSE_MORE: Final = 482
"""Position of the flag that says that more blocks of the map follow the header."""
SPARSE_SIZE = slice(483, 495)
"""The length of an old GNU sparse file, holes included."""

POSIX_MAGIC: Final = b"ustar\x0000"
GNU_MAGIC: Final = b"ustar  \0"
