"""Values -> headers, for the entries that cannot be written unchanged.

These are entries with a name that is not clean, entries under PAX globals, promoted links, and headers that another
reader could understand differently (a v7 directory, a size on a link). All other header fields are kept byte for
byte, and so are all PAX records that do not change.
"""

from __future__ import annotations

from streamerge.entry import Entry, Kind
from streamerge.tar.fields import (
    BLOCK,
    CHECKSUM,
    DEVICES,
    FORMAT,
    GNU_MAGIC,
    LINK_NAME,
    MAGIC,
    NAME,
    NUMBERS,
    POSIX_MAGIC,
    PREFIX,
    SIZE,
    TYPE,
    USTAR,
)
from streamerge.tar.header import padded, unsigned_sum

__all__ = ["encode", "end_of_archive", "implicit_directory", "raw"]

_FLAGS = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHAR: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_REPLACED = frozenset({b"path", b"linkpath"})
_NUMBERS_FORMAT = b"%07o\0%07o\0%07o\0%011o\0%011o\0"  # mode, uid, gid, size, mtime
_ARCHIVE_UNIT = 20 * BLOCK
"""Bytes that tars pad an archive's length to."""


def raw(entry: Entry) -> bytes:
    """The bytes to write before an entry's body: unchanged if the entry allows it, otherwise encoded anew."""
    return entry.prefix + entry.header if entry.verbatim else encode(entry)


def encode(entry: Entry) -> bytes:
    """The entry's header, with its clean path and target, and the extension blocks before it.

    A name that does not fit becomes a PAX record, or a GNU long name if the header is GNU's or the bytes are not
    UTF-8 (PAX values are UTF-8, GNU's are any bytes). Never fails. Cost: the length of the header.
    """
    path, target = entry.path, entry.target
    records = {key: value for key, value in entry.records.items() if key not in _REPLACED}
    if entry.kind is not Kind.FILE:
        records.pop(b"size", None)
    if b"GNU.sparse.name" in records:
        records[b"GNU.sparse.name"] = path
    name = path + b"/" if entry.kind is Kind.DIRECTORY and path else path or b"./"
    header = bytearray(entry.header)
    if entry.kind is not Kind.FILE or header[TYPE] != b"S":
        header[TYPE] = _FLAGS[entry.kind]
    if entry.kind is not Kind.FILE:
        header[SIZE] = b"%011o\0" % 0
    gnu = header[FORMAT] != USTAR
    blocks = b""
    if entry.kind in (Kind.HARDLINK, Kind.SYMLINK):
        blocks += _store(header, records, LINK_NAME, target, gnu=gnu)
    if not gnu:
        header[PREFIX] = bytes(PREFIX.stop - PREFIX.start)
    blocks += _store(header, records, NAME, name, gnu=gnu)
    _sign(header)
    return blocks + _pax_blocks(records, path) + bytes(header)


def implicit_directory(path: bytes, mtime: int) -> Entry:
    """The entry of a directory that no layer lists: 0755, 0:0 (rule 5). ``mtime`` is in seconds."""
    header = bytearray(BLOCK)
    header[NUMBERS] = _NUMBERS_FORMAT % (0o755, 0, 0, 0, mtime)
    header[TYPE] = b"5"
    header[MAGIC] = POSIX_MAGIC
    header[DEVICES] = b"%07o\0%07o\0" % (0, 0)
    return Entry(path, Kind.DIRECTORY, header=bytes(header))


def end_of_archive(size: int) -> bytes:
    """The end of a tar of ``size`` bytes: two zero blocks, then zeros up to a multiple of 20 blocks, as tars write."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % _ARCHIVE_UNIT)


def _store(header: bytearray, records: dict[bytes, bytes], field: slice, text: bytes, *, gnu: bool) -> bytes:
    """Store a name in its header field; if it is too long also in ``records``, or in GNU blocks, which are returned."""
    room = field.stop - field.start
    header[field] = text[:room].ljust(room, b"\0")
    if len(text) <= room:
        return b""
    is_target = field is LINK_NAME
    if gnu or not _is_utf8(text):
        return _gnu_long(b"K" if is_target else b"L", text)
    records[b"linkpath" if is_target else b"path"] = text
    return b""


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _sign(header: bytearray) -> None:
    header[CHECKSUM] = b"%06o\0 " % unsigned_sum(bytes(header))


def _pax_blocks(records: dict[bytes, bytes], path: bytes) -> bytes:
    if not records:
        return b""
    name = b"PaxHeaders/" + path.rpartition(b"/")[2][:80]
    return _extension(b"x", name, b"".join(_record(key, value) for key, value in records.items()))


def _gnu_long(flag: bytes, text: bytes) -> bytes:
    return _extension(flag, b"././@LongLink", text + b"\0")


def _extension(flag: bytes, name: bytes, body: bytes) -> bytes:
    """An extension header and its body. All other fields are fixed, so the same records give the same bytes."""
    header = bytearray(BLOCK)
    header[: len(name)] = name
    header[NUMBERS] = _NUMBERS_FORMAT % (0o644, 0, 0, len(body), 0)
    header[TYPE] = flag
    header[MAGIC] = POSIX_MAGIC if flag == b"x" else GNU_MAGIC
    _sign(header)
    return bytes(header) + body.ljust(padded(len(body)), b"\0")


def _record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    length = size + len(str(size))
    if len(str(length)) != len(str(size)):
        length = size + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
