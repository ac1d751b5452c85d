"""Owner, mode, times, device numbers and xattrs of an entry, parsed only when needed.

Sources: POSIX pax for ``uid``, ``gid``, ``mtime``; star(5) for ``SCHILY.xattr.*``, ``SCHILY.acl.*``,
``SCHILY.dev*``; libarchive's tar(5) for ``LIBARCHIVE.xattr.*``.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError
from streamerge.tar.acl import parse_acl
from streamerge.tar.fields import DEV_MAJOR, DEV_MINOR, GID, MODE, MTIME, UID
from streamerge.tar.header import parse_number

__all__ = ["Metadata", "metadata", "mtime", "parse_time", "xattr_names", "xattrs"]

_MAX_ID = (1 << 32) - 2  # 2**32 - 1 tells chown(2) to leave the owner as it is
_MAX_DEVICE = (1 << 32) - 1
_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_ACLS = {
    b"SCHILY.acl.access": b"system.posix_acl_access",
    b"SCHILY.acl.default": b"system.posix_acl_default",
}
_NO_XATTRS: dict[bytes, bytes] = {}


class Metadata(NamedTuple):
    """An entry's metadata.

    ``mode`` has no type bits: 07777 at most. ``mtime`` is in nanoseconds since 1970. ``device`` is (major, minor),
    (0, 0) if it is not a device. ``xattrs`` maps full names to values.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] | None = None


def metadata(entry: Entry, *, with_xattrs: bool = True) -> Metadata:
    """The metadata of an entry. Raises FormatError for values that no file system can hold."""
    try:
        return _parse(entry, with_xattrs)
    except FormatError as error:
        raise error.at(path=entry.path) from None


def _parse(entry: Entry, with_xattrs: bool) -> Metadata:
    header, records = entry.header, entry.records
    mode = parse_number(header[MODE]) & 0o7777
    time = mtime(entry)
    if not records:
        uid, gid = parse_number(header[UID]), parse_number(header[GID])
        found = _NO_XATTRS
    else:
        uid, gid = _id(records, b"uid", header[UID]), _id(records, b"gid", header[GID])
        found = xattrs(records) if with_xattrs else _NO_XATTRS
    if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
        raise FormatError(f"owner {uid}:{gid} is out of range; ids are 0 to {_MAX_ID}")
    if entry.kind is Kind.CHAR or entry.kind is Kind.BLOCK:
        return Metadata(mode, uid, gid, time, _device(entry), found)
    return Metadata(mode, uid, gid, time, xattrs=found)


def mtime(entry: Entry) -> int:
    """The time of an entry's last change, in nanoseconds since 1970."""
    text = entry.records.get(b"mtime")
    return parse_time(text) if text is not None else parse_number(entry.header[MTIME]) * 1_000_000_000


def parse_time(text: bytes) -> int:
    """A PAX time, decimal seconds with a fraction, in nanoseconds. Digits after the ninth are cut off.

    >>> parse_time(b"1.5"), parse_time(b"-1.5")
    (1500000000, -1500000000)
    """
    negative = text.startswith(b"-")
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    value = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -value if negative else value


def xattrs(records: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The extended attributes in PAX records, POSIX ACLs included, by their full names.

    If a tool wrote an attribute in several ways, SCHILY's raw bytes are used. Raises FormatError for an empty name,
    a name with a NUL, invalid base64, or an invalid ACL.
    """
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key in _ACLS:
            found.setdefault(_ACLS[key], parse_acl(value))
        elif key.startswith(_LIBARCHIVE):
            found.setdefault(_unquoted(key.removeprefix(_LIBARCHIVE)), _base64(value))
    for key, value in records.items():
        if key.startswith(_SCHILY):
            found[key.removeprefix(_SCHILY)] = value
    if any(not name or b"\0" in name for name in found):
        raise FormatError("the name of an extended attribute is empty or has a NUL")
    return found


def xattr_names(records: dict[bytes, bytes]) -> set[bytes]:
    """The full names of the extended attributes in PAX records. Their values are not parsed."""
    names = {key.removeprefix(_SCHILY) for key in records if key.startswith(_SCHILY)}
    names |= {_unquoted(key.removeprefix(_LIBARCHIVE)) for key in records if key.startswith(_LIBARCHIVE)}
    return names | {_ACLS[key] for key in records if key in _ACLS}


def _id(records: dict[bytes, bytes], key: bytes, field: bytes) -> int:
    value = records.get(key)
    return int(value) if value is not None else parse_number(field)


def _device(entry: Entry) -> tuple[int, int]:
    """Device numbers. star writes records for numbers that are too large for the fields."""
    header, records = entry.header, entry.records
    major = _device_number(records, b"SCHILY.devmajor", header[DEV_MAJOR])
    minor = _device_number(records, b"SCHILY.devminor", header[DEV_MINOR])
    if not (0 <= major <= _MAX_DEVICE and 0 <= minor <= _MAX_DEVICE):
        raise FormatError(f"device {major}:{minor} is out of range; numbers are 0 to {_MAX_DEVICE}")
    return major, minor


def _device_number(records: dict[bytes, bytes], key: bytes, field: bytes) -> int:
    value = records.get(key)
    if value is None:
        return parse_number(field)
    if not value.isdigit() or len(value) > 10:
        raise FormatError(f"{key.decode()}: {value[:40]!r} is not a number")
    return int(value)


def _unquoted(name: bytes) -> bytes:
    from urllib.parse import unquote_to_bytes  # 2 ms that few merges need

    return unquote_to_bytes(name)


def _base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise FormatError("a LIBARCHIVE.xattr record is not base64") from None
