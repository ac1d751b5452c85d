"""Values -> headers: the entries that cannot be written as they came.

Those are entries whose name is not clean, that stood under PAX globals, that are promoted, or whose header
another reader would take differently (a v7 directory, a size on a link). The header's other fields are kept
byte for byte; all PAX records but the ones that changed are kept too.
"""

from __future__ import annotations

from streamerge.entry import Entry, Kind
from streamerge.tar.header import BLOCK, padded, unsigned_sum

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
_POSIX = b"ustar\x0000"
_REPLACED = frozenset({b"path", b"linkpath"})
RECORD = 20 * BLOCK


def raw(entry: Entry) -> bytes:
    """The bytes to write before an entry's body: as they came where they may be, else encoded anew."""
    return entry.prefix + entry.header if entry.verbatim else encode(entry)


def encode(entry: Entry) -> bytes:
    """Encode an entry under its clean path and target.

    Names that do not fit go to a PAX record, or to a GNU long name where the header is GNU's or the bytes
    are no UTF-8 (PAX values are UTF-8; GNU's are any bytes). Never fails. Cost: the length of the header.
    """
    path, target = entry.path, entry.target
    records = {key: value for key, value in entry.records.items() if key not in _REPLACED}
    if entry.kind is not Kind.FILE:
        records.pop(b"size", None)
    if b"GNU.sparse.name" in records:
        records[b"GNU.sparse.name"] = path
    name = path + b"/" if entry.kind is Kind.DIRECTORY and path else path or b"./"
    header = bytearray(entry.header)
    if entry.kind is not Kind.FILE or header[156:157] != b"S":
        header[156:157] = _FLAGS[entry.kind]
    if entry.kind is not Kind.FILE:
        header[124:136] = b"%011o\0" % 0
    gnu = header[257:263] != b"ustar\0"
    blocks = b""
    if entry.kind in (Kind.HARDLINK, Kind.SYMLINK):
        blocks += _store(header, records, slice(157, 257), target, gnu=gnu)
    if not gnu:
        header[345:500] = bytes(155)
    blocks += _store(header, records, slice(0, 100), name, gnu=gnu)
    _sign(header)
    return blocks + _pax_blocks(records, path) + bytes(header)


def implicit_directory(path: bytes, mtime: int) -> Entry:
    """The entry of a directory that no layer lists: 0755, 0:0 (rule 5). ``mtime`` is in seconds."""
    header = bytearray(BLOCK)
    header[100:148] = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (0o755, 0, 0, 0, mtime)
    header[156:157] = b"5"
    header[257:265] = _POSIX
    header[329:345] = b"%07o\0%07o\0" % (0, 0)
    return Entry(path, Kind.DIRECTORY, header=bytes(header))


def end_of_archive(size: int) -> bytes:
    """What ends a tar of ``size`` bytes: two zero blocks, and zeros up to a record of 20 blocks, as tars have."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % RECORD)


def _store(header: bytearray, records: dict[bytes, bytes], place: slice, text: bytes, *, gnu: bool) -> bytes:
    """Put a name into its header field, or what fits of it; return the GNU long-name blocks it needs."""
    room = place.stop - place.start
    header[place] = text[:room].ljust(room, b"\0")
    if len(text) <= room:
        return b""
    is_target = place.start != 0
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
    header[148:156] = b"%06o\0 " % unsigned_sum(bytes(header))


def _pax_blocks(records: dict[bytes, bytes], path: bytes) -> bytes:
    if not records:
        return b""
    name = b"PaxHeaders/" + path.rpartition(b"/")[2][:80]
    return _extension(b"x", name, b"".join(_record(key, value) for key, value in records.items()))


def _gnu_long(flag: bytes, text: bytes) -> bytes:
    return _extension(flag, b"././@LongLink", text + b"\0")


def _extension(flag: bytes, name: bytes, body: bytes) -> bytes:
    """An extension header of a fixed look, so that the same records give the same bytes."""
    header = bytearray(BLOCK)
    header[: len(name)] = name
    header[100:148] = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (0o644, 0, 0, len(body), 0)
    header[156:157] = flag
    header[257:265] = _POSIX if flag == b"x" else b"ustar  \0"
    _sign(header)
    return bytes(header) + body.ljust(padded(len(body)), b"\0")


def _record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    length = size + len(str(size))
    if len(str(length)) != len(str(size)):
        length = size + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
