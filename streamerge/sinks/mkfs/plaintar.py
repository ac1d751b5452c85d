"""Entries made so plain that every tool reads them alike. Pure.

Tried with sqfstar 4.5, mksquashfs 4.7, tar2sqfs 1.2, mkfs.erofs 1.9 and mke2fs 1.47: sqfstar stops at a time before
1970; squashfs-tools complain of each record that they do not know; they and mkfs.erofs take the data of some or of
all sparse files for the whole; libarchive, and so mke2fs, stops at a PAX name that the locale cannot spell; none knows
ACLs in star's text; mke2fs gives a symlink the mode that stands in its header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamerge.entry import Entry, Kind
from streamerge.metadata import mtime, xattrs
from streamerge.sinks.losses import Keeps, kind_of_xattr
from streamerge.sparse import expanded, sparse_file
from streamerge.tarheader import parse_number

__all__ = ["link_to", "plain_entry", "whole_file"]

_SECOND = 1_000_000_000
_SPARSE = (b"GNU.sparse.",)
_NUMBERS = frozenset({b"uid", b"gid", b"size"})
_SHARED = frozenset({b"uid", b"gid", b"mtime"})
_ONE = 0x31
_XATTR = b"SCHILY.xattr."
Piece = bytes | memoryview


def plain_entry(entry: Entry, keeps: Keeps, *, gnu: bool = False) -> Entry:
    """The entry with nothing in its headers that ``keeps`` does not keep; itself, where nothing is to be changed.

    ``gnu``: long names are to stand in GNU's own headers, as bytes of no character set. Raises FormatError for an ACL
    that only names its users, where ACLs are kept.
    """
    header = entry.header
    if entry.kind is Kind.SYMLINK and header[100:108] != _ALL:
        header = header[:100] + _ALL + header[108:]
    elif not entry.records and header[136] <= _ONE:  # no base-256, and no later than 2038
        return entry
    records = {key: value for key, value in entry.records.items() if key in _NUMBERS or key.startswith(_SPARSE)}
    header, records = _with_time(entry, header, records, keeps)
    if gnu and header[257:263] == b"ustar\0":
        header = header[:257] + b"ustar  \0" + header[265:345] + bytes(155) + header[500:]
    for name, value in _kept_xattrs(entry.records, keeps).items():
        records[_XATTR + name] = value
    return Entry(entry.path, entry.kind, size=entry.size, target=entry.target, header=header, records=records)


_ALL = b"0000777\0"


def link_to(file: Entry, link: Entry) -> Entry:
    """The link with the owner, mode and time of the file that it names: mke2fs heeds them.

    Where the mode also says that it is a file, as some builders write it, mke2fs makes an empty one.
    """
    mode = b"%07o\0" % (parse_number(file.header[100:108]) & 0o7777)
    header = file.header[:100] + mode + file.header[108:345] + bytes(167)  # no prefix, nothing of a sparse file
    records = {key: value for key, value in file.records.items() if key in _SHARED}
    return Entry(link.path, Kind.HARDLINK, target=link.target, header=header, records=records)


def whole_file(entry: Entry, body: Iterable[Piece]) -> tuple[Entry, Iterator[Piece]]:
    """A sparse file as a plain one, and its body with the holes written out. Raises FormatError."""
    file = sparse_file(entry, body)
    records = {key: value for key, value in entry.records.items() if not key.startswith(_SPARSE)}
    records[b"size"] = b"%d" % file.size
    header = bytearray(entry.header[:345] + bytes(167))
    header[156:157] = b"0"
    plain = Entry(entry.path, Kind.FILE, size=file.size, header=bytes(header), records=records)
    return plain, expanded(file)


def _with_time(
    entry: Entry, header: bytes, records: dict[bytes, bytes], keeps: Keeps
) -> tuple[bytes, dict[bytes, bytes]]:
    """Header and records with the time that the file system can hold which is next to the entry's.

    A fraction gets all nine digits: mkfs.erofs 1.7 to 1.9.1 reads ".5" as five nanoseconds (erofs-utils, lib/tar.c).
    """
    seconds, fraction = divmod(mtime(entry), _SECOND)
    kept = min(max(seconds, keeps.earliest), keeps.latest)
    if kept == seconds and fraction and keeps.fractions:
        records[b"mtime"] = b"%d.%09d" % (seconds, fraction) if seconds >= 0 else entry.records[b"mtime"]
    elif 0 <= kept < 1 << 33:
        header = header[:136] + b"%011o\0" % kept + header[148:]
    else:
        records[b"mtime"] = b"%d" % kept
        header = header[:136] + b"%011o\0" % 0 + header[148:]
    return header, records


def _kept_xattrs(records: dict[bytes, bytes], keeps: Keeps) -> dict[bytes, bytes]:
    if keeps.keeps_acls:
        return xattrs(records)
    found = xattrs({key: value for key, value in records.items() if not key.startswith(b"SCHILY.acl.")})
    return {name: value for name, value in found.items() if kind_of_xattr(name) in keeps.xattrs}
