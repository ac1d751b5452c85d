"""Entries in the simplest encoding that every tool reads correctly. Pure.

Found with sqfstar 4.5, mksquashfs 4.7, tar2sqfs 1.2, mkfs.erofs 1.9 and mke2fs 1.47:

- sqfstar fails at a time before 1970.
- squashfs-tools warn about each record that they do not know.
- squashfs-tools and mkfs.erofs store the data of some or all sparse files without the holes.
- libarchive, which mke2fs uses, fails at a PAX name that the locale cannot decode.
- No tool reads ACLs in star's text form.
- mke2fs gives a symlink the mode in its header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamerge.entry import Entry, Kind
from streamerge.sinks.losses import Capabilities, has_plain_mtime, kind_of_xattr
from streamerge.tar.fields import BLOCK, GNU_MAGIC, MAGIC, MODE, MTIME, PREFIX, TYPE
from streamerge.tar.header import parse_number
from streamerge.tar.metadata import mtime, xattrs
from streamerge.tar.sparse import expanded, sparse_file

__all__ = ["link_to", "plain_entry", "whole_file"]

_SECOND = 1_000_000_000
_OCTAL_LIMIT = 1 << 33
"""The first number that eleven octal digits cannot hold."""
_SPARSE_RECORDS = b"GNU.sparse."
_ACL_RECORDS = b"SCHILY.acl."
_XATTR_RECORDS = b"SCHILY.xattr."
_NUMBERS = frozenset({b"uid", b"gid", b"size"})
_SHARED = frozenset({b"uid", b"gid", b"mtime"})
_SYMLINK_MODE = b"0000777\0"
_REGULAR_FILE = b"0"
Piece = bytes | memoryview


def plain_entry(entry: Entry, capabilities: Capabilities) -> Entry:
    """The entry without anything that ``capabilities`` do not cover; the same object if nothing changes.

    Raises FormatError for an ACL that names its users without their numbers, if ACLs can be stored.
    """
    header = entry.header
    if entry.kind is Kind.SYMLINK and header[MODE] != _SYMLINK_MODE:
        header = _with_field(header, MODE, _SYMLINK_MODE)
    elif not entry.records and has_plain_mtime(header):
        return entry
    records = {key: value for key, value in entry.records.items() if key in _NUMBERS or key.startswith(_SPARSE_RECORDS)}
    header, records = _with_time(entry, header, records, capabilities)
    if not capabilities.pax_names:
        header = _with_gnu_magic(header)
    for name, value in _stored_xattrs(entry.records, capabilities).items():
        records[_XATTR_RECORDS + name] = value
    return Entry(entry.path, entry.kind, size=entry.size, target=entry.target, header=header, records=records)


def link_to(file: Entry, link: Entry) -> Entry:
    """The link with the owner, mode and time of its file: mke2fs sets what the last name of a file says.

    Type bits in the mode, which some builders write, are removed: mke2fs would make an empty file.
    """
    mode = b"%07o\0" % (parse_number(file.header[MODE]) & 0o7777)
    header = _without_prefix(_with_field(file.header, MODE, mode))
    records = {key: value for key, value in file.records.items() if key in _SHARED}
    return Entry(link.path, Kind.HARDLINK, target=link.target, header=header, records=records)


def whole_file(entry: Entry, body: Iterable[Piece]) -> tuple[Entry, Iterator[Piece]]:
    """A sparse file as a plain one, and its body with the holes as zeros. Raises FormatError."""
    file = sparse_file(entry, body)
    records = {key: value for key, value in entry.records.items() if not key.startswith(_SPARSE_RECORDS)}
    records[b"size"] = b"%d" % file.size
    header = _with_field(_without_prefix(entry.header), TYPE, _REGULAR_FILE)
    plain = Entry(entry.path, Kind.FILE, size=file.size, header=header, records=records)
    return plain, expanded(file)


def _with_time(
    entry: Entry, header: bytes, records: dict[bytes, bytes], capabilities: Capabilities
) -> tuple[bytes, dict[bytes, bytes]]:
    """Header and records with the entry's time, or the nearest one that the image can store.

    A fraction gets all nine digits: mkfs.erofs 1.7 to 1.9.1 reads ".5" as five nanoseconds (erofs-utils, lib/tar.c).
    """
    seconds, fraction = divmod(mtime(entry), _SECOND)
    nearest = min(max(seconds, capabilities.earliest), capabilities.latest)
    if nearest == seconds and fraction and capabilities.fractions:
        records[b"mtime"] = b"%d.%09d" % (seconds, fraction) if seconds >= 0 else entry.records[b"mtime"]
    elif 0 <= nearest < _OCTAL_LIMIT:
        header = _with_field(header, MTIME, b"%011o\0" % nearest)
    else:
        records[b"mtime"] = b"%d" % nearest
        header = _with_field(header, MTIME, b"%011o\0" % 0)
    return header, records


def _stored_xattrs(records: dict[bytes, bytes], capabilities: Capabilities) -> dict[bytes, bytes]:
    if capabilities.acls:
        return xattrs(records)
    found = xattrs({key: value for key, value in records.items() if not key.startswith(_ACL_RECORDS)})
    return {name: value for name, value in found.items() if kind_of_xattr(name) in capabilities.xattrs}


def _with_gnu_magic(header: bytes) -> bytes:
    """A POSIX header as a GNU one, whose long names are bytes without a character set."""
    if not header[MAGIC].startswith(b"ustar\0"):
        return header
    empty_prefix = bytes(PREFIX.stop - PREFIX.start)  # a GNU header has times there
    return _with_field(_with_field(header, MAGIC, GNU_MAGIC), PREFIX, empty_prefix)


def _without_prefix(header: bytes) -> bytes:
    """The header with zeros from the prefix on, where GNU headers hold the fields of sparse files."""
    return header[: PREFIX.start].ljust(BLOCK, b"\0")


def _with_field(header: bytes, field: slice, value: bytes) -> bytes:
    return header[: field.start] + value + header[field.stop :]
