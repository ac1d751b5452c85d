"""512-byte headers and PAX records -> values. Pure: every function takes bytes and returns values.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files"; star(5) for SCHILY records. The reverse is :mod:`streamerge.tar.encode`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamerge.entry import MAX_PATH, Entry, Kind, clean_path
from streamerge.errors import FormatError, UnsafePathError
from streamerge.tar.fields import (
    BLOCK,
    CHECKSUM,
    DEV_MAJOR,
    DEV_MINOR,
    FORMAT,
    GID,
    LINK_NAME,
    MODE,
    MTIME,
    NAME,
    OWNERS,
    PREFIX,
    PREFIX_AT,
    SIZE,
    TYPE,
    UID,
    USTAR,
)

try:
    from zlib_ng.zlib_ng import adler32  # 35 ns a header
except ImportError:  # no wheel for this machine: 210 ns
    from zlib import adler32

__all__ = [
    "BLOCK",
    "MAX_EXTENSION",
    "MAX_GLOBALS",
    "ZERO_BLOCK",
    "ExpectedSums",
    "Extras",
    "adler32",
    "check_numbers",
    "effective_records",
    "expected_sums",
    "has_plain_sum",
    "has_valid_sum",
    "padded",
    "parse_entry",
    "parse_number",
    "parse_records",
    "stored_sum",
    "unsigned_sum",
    "with_type",
]

ZERO_BLOCK = bytes(BLOCK)
MAX_EXTENSION = 1 << 20
"""Most bytes in the PAX records or the long name of one entry."""
MAX_GLOBALS = 1 << 16
"""Most bytes of PAX globals in force at once: they are folded into every entry that they cover."""
MAX_SIZE = 1 << 62
"""Most bytes in a body. A larger size cannot be real."""

_OCTAL = b"01234567 \0"
_BLANKS = b" \0"
_KINDS = {
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHAR,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"D": Kind.DIRECTORY,  # GNU tar's dumpdir: a directory whose body lists what was in it
    b"6": Kind.FIFO,
}  # all others are regular files: POSIX requires it of '7' and of unknown flags
_V7_FLAGS = (b"\0", b"0")
_FILE_FLAGS = (b"\0", b"0", b"S")
_NUMBERS = {"mode": MODE, "uid": UID, "gid": GID, "mtime": MTIME}
_DEVICE_NUMBERS = {"devmajor": DEV_MAJOR, "devminor": DEV_MINOR}
_SPARSE_PAIR = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_DECIMAL_RECORDS = (b"size", b"uid", b"gid", b"mtime", b"atime", b"ctime")

# An empty value of one of these cancels the global record (POSIX). An empty xattr is just an empty xattr.
_REVOCABLE = frozenset(_DECIMAL_RECORDS) | {b"path", b"linkpath", b"uname", b"gname", b"hdrcharset", b"comment"}


@dataclass(slots=True)
class Extras:
    """What precedes a header and belongs to it: PAX records, GNU long names, and the globals in force."""

    raw: bytes = b""
    records: dict[bytes, bytes] = field(default_factory=dict)
    long_name: bytes | None = None
    long_target: bytes | None = None
    globals: dict[bytes, bytes] = field(default_factory=dict)


_NO_EXTRAS = Extras()


def padded(size: int) -> int:
    """A body's size, rounded up to whole blocks."""
    return (size + BLOCK - 1) & -BLOCK


def parse_number(data: bytes) -> int:
    r"""Read a number field: octal digits between blanks, or GNU's base-256 (high bit set, two's complement).

    What follows the first blank or NUL after the digits is ignored, as in GNU tar. An empty field is 0.
    Raises FormatError for anything else.

    >>> parse_number(b"0000644\0"), parse_number(b"\xff" * 8), parse_number(b"\x80\0\0\0\0\0\x01\0")
    (420, -1, 256)
    """
    if data[-1] in _BLANKS and data[:-1].isdigit():
        try:
            return int(data[:-1], 8)
        except ValueError:
            raise FormatError(f"a number field holds {data!r}") from None
    if data[0] & 0x80:
        value = int.from_bytes(data, "big") & ((1 << (8 * len(data) - 1)) - 1)
        return value - (1 << (8 * len(data) - 1)) if data[0] & 0x40 else value
    digits = data.lstrip(b" \0").replace(b"\0", b" ").partition(b" ")[0]
    if digits.strip(b"01234567"):
        raise FormatError(f"a number field holds {data!r}")
    return int(digits, 8) if digits else 0


def unsigned_sum(header: bytes) -> int:
    """The sum of the header's bytes, with blanks for its checksum field.

    The low half of Adler-32 is 1 + the sum of the bytes, modulo 65521. The sum of 256 bytes is always less.
    """
    low = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:BLOCK]) & 0xFFFF) - 2
    return low - sum(header[CHECKSUM]) + 8 * 32


def stored_sum(header: bytes) -> int:
    """The sum in the header's checksum field. Raises FormatError if that is not a number."""
    return parse_number(header[CHECKSUM])


def has_valid_sum(header: bytes) -> bool:
    """Whether the stored sum is right, over unsigned bytes or, as some old tars wrote it, signed bytes."""
    if has_plain_sum(header):
        return True
    try:
        return stored_sum(header) == signed_sum(header)
    except FormatError:
        return False


def has_plain_sum(header: bytes) -> bool:
    """Whether the stored sum is that of the unsigned bytes, as all modern tars write it."""
    return expected_sums[header[CHECKSUM]] == adler32(header[:BLOCK]) & 0xFFFF


def signed_sum(header: bytes) -> int:
    """The sum as some old tars computed it, over bytes as signed numbers."""
    others = header[: CHECKSUM.start] + header[CHECKSUM.stop : BLOCK]
    return unsigned_sum(header) - 256 * sum(byte > 127 for byte in others)


class ExpectedSums(dict[bytes, int]):
    """Checksum field -> the value of ``zlib.adler32(header) & 0xFFFF`` if the stored sum is right.

    The low half of Adler-32 is 1 + the sum of all bytes, modulo 65521, at memory speed. The stored sum counts its
    own field as blanks, which is corrected here. A wrong sum that is off by exactly 65521 would pass, but no
    single changed field can cause that. Signed sums do not match; :func:`has_valid_sum` checks them.
    Bounded: everything is forgotten after 16384 distinct fields; real layers have a few thousand.
    """

    def __missing__(self, stored: bytes) -> int:
        try:
            value = (1 + parse_number(stored) - 8 * 32 + sum(stored)) % 65521
        except FormatError:
            value = -1  # never equal to an Adler sum
        if len(self) >= 16384:
            self.clear()
        self[stored] = value
        return value


expected_sums = ExpectedSums()


def check_numbers(header: bytes) -> None:
    """Raise FormatError if mode, owner or mtime is not a number. Cost: one pass over 36 bytes if plain octal."""
    if not (header[OWNERS] + header[MTIME]).translate(None, _OCTAL):
        return
    for name, field_slice in _NUMBERS.items():
        _number(header, name, field_slice)


def _number(header: bytes, name: str, field_slice: slice) -> int:
    try:
        return parse_number(header[field_slice])
    except FormatError as error:
        raise FormatError(f"{name}: {error.problem}") from None


def parse_records(data: bytes) -> dict[bytes, bytes]:
    r"""Read PAX records, each ``b"LENGTH KEY=VALUE\n"``; the last of a repeated key wins.

    Only the length says where a record ends: values can hold newlines, NULs and '='. Raises FormatError for a
    wrong length. GNU's sparse format 0.0, which repeats its keys, is returned as 0.1: one record with the whole map.
    Cost: linear.

    >>> parse_records(b"12 path=a/b\n")
    {b'path': b'a/b'}
    """
    records = {}
    sparse_map = []
    start = 0
    while start < len(data):
        blank = data.find(b" ", start, start + 20)
        if blank < 0 or not data[start:blank].isdigit():
            raise FormatError("a PAX record does not begin with its length")
        end = start + int(data[start:blank])
        if end > len(data) or end <= blank + 2 or data[end - 1] != 10:
            raise FormatError("the length of a PAX record is wrong")
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise FormatError("a PAX record is not KEY=VALUE")
        if key in _SPARSE_PAIR:
            sparse_map.append(value)
        else:
            records[key] = value
        start = end
    if sparse_map:
        records[b"GNU.sparse.map"] = b",".join(sparse_map)
    return records


def effective_records(extras: Extras) -> dict[bytes, bytes]:
    """The records in effect: an entry's own, then the globals. An empty value cancels a standard key.

    Raises FormatError for a number record that is not a number.
    """
    merged = {**extras.globals, **extras.records} if extras.globals else extras.records
    if b"" in merged.values():
        merged = {key: value for key, value in merged.items() if value or key not in _REVOCABLE}
    for key in _DECIMAL_RECORDS:
        if key in merged:
            _check_decimal(key, merged[key])
    return merged


def _check_decimal(key: bytes, value: bytes) -> None:
    whole, dot, fraction = value.removeprefix(b"-").partition(b".")
    is_time = key.endswith(b"time")
    negative = value.startswith(b"-") and not is_time and key == b"size"
    if not whole.isdigit() or len(whole) > 20 or negative or (dot and not is_time):
        raise FormatError(f"PAX {key.decode()}: {value[:40]!r} is not a number")
    if fraction and not fraction.isdigit():
        raise FormatError(f"PAX {key.decode()}: {value[:40]!r} is not a number")


def with_type(header: bytes, flag: bytes) -> bytes:
    """Return the header with another type flag, and the sum for it."""
    changed = header[: TYPE.start] + flag + header[TYPE.stop :]
    total = sum(changed) - sum(changed[CHECKSUM]) + 8 * ord(" ")
    return changed[: CHECKSUM.start] + b"%06o\0 " % total + changed[CHECKSUM.stop :]


def parse_entry(header: bytes, extras: Extras | None = None, *, offset: int = 0) -> Entry:
    """Return the entry that a header with a valid sum and what precedes it describe.

    ``header`` is the 512 bytes, followed by GNU's extra sparse blocks if it has any. Raises FormatError or
    UnsafePathError for a bad name, target, number or size. Cost: its length.
    """
    extras = extras if extras is not None else _NO_EXTRAS
    raw_path = _text(header[NAME])
    try:
        records = effective_records(extras) if extras is not _NO_EXTRAS else {}
        raw_path = _raw_path(header, extras, records)
        return _parse_entry(header, extras, records, raw_path, offset)
    except FormatError as error:
        raise error.at(path=raw_path[:MAX_PATH], offset=offset) from None


def _parse_entry(header: bytes, extras: Extras, records: dict[bytes, bytes], raw_path: bytes, offset: int) -> Entry:
    check_numbers(header)
    path = clean_path(raw_path)
    flag = header[TYPE]
    kind = _KINDS.get(flag, Kind.FILE)
    if kind is Kind.FILE and flag in _V7_FLAGS and raw_path.endswith(b"/"):
        kind = Kind.DIRECTORY
    size = _size(header, records)
    target = b""
    verbatim = _is_verbatim(header, raw_path, path, kind, flag) and not extras.globals
    if kind is Kind.HARDLINK or kind is Kind.SYMLINK:
        raw_target = _raw_target(header, extras, records)
        target = _target(kind, raw_target)
        verbatim = verbatim and raw_target == target
    elif kind is Kind.CHAR or kind is Kind.BLOCK:
        for name, field_slice in _DEVICE_NUMBERS.items():
            _number(header, name, field_slice)
    if kind is not Kind.FILE and size:
        size, verbatim = 0, False
    return Entry(
        path,
        kind,
        size=size,
        target=target,
        header=header,
        prefix=extras.raw,
        records=records,
        verbatim=verbatim,
        offset=offset,
    )


def _is_verbatim(header: bytes, raw_path: bytes, path: bytes, kind: Kind, flag: bytes) -> bool:
    """Whether every reader understands this header as we do, so that it can be written unchanged."""
    if kind is Kind.DIRECTORY:
        named = raw_path == path + b"/" if path else raw_path == b"./"
        return (named or raw_path == path) and flag == b"5" and has_plain_sum(header)
    return raw_path == path and (kind is not Kind.FILE or flag in _FILE_FLAGS) and has_plain_sum(header)


def _raw_path(header: bytes, extras: Extras, records: dict[bytes, bytes]) -> bytes:
    if b"GNU.sparse.name" in records:
        return records[b"GNU.sparse.name"]
    if b"path" in extras.records and b"path" in records:
        return records[b"path"]
    if extras.long_name is not None:
        return extras.long_name
    if b"path" in records:
        return records[b"path"]
    name = _text(header[NAME])
    if header[PREFIX_AT] and header[FORMAT] == USTAR:
        return _text(header[PREFIX]) + b"/" + name
    return name


def _raw_target(header: bytes, extras: Extras, records: dict[bytes, bytes]) -> bytes:
    if b"linkpath" in extras.records and b"linkpath" in records:
        return records[b"linkpath"]
    if extras.long_target is not None:
        return extras.long_target
    return records.get(b"linkpath", _text(header[LINK_NAME]))


def _target(kind: Kind, raw: bytes) -> bytes:
    if kind is Kind.SYMLINK:
        if not raw:
            raise FormatError("the target of a symlink is empty")
        if b"\0" in raw or len(raw) > MAX_PATH:
            raise UnsafePathError(f"a symlink's target must have no NUL and at most {MAX_PATH} bytes")
        return raw
    if kind is Kind.HARDLINK:
        try:
            return clean_path(raw)
        except UnsafePathError as error:
            raise UnsafePathError(f"the target of a hard link: {error.problem}") from None
    return b""


def _size(header: bytes, records: dict[bytes, bytes]) -> int:
    value = records.get(b"size")
    size = int(value) if value is not None else _number(header, "size", SIZE)
    if not 0 <= size <= MAX_SIZE:
        raise FormatError(f"a size of {size} bytes is out of range")
    return size


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]
