"""512-byte headers and PAX records -> values. Pure: every function takes bytes and gives values.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files"; star(5) for SCHILY records. The way back is :mod:`streamerge.tar.encode`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamerge.entry import MAX_PATH, Entry, Kind, clean_path
from streamerge.errors import FormatError, UnsafePathError

try:
    from zlib_ng.zlib_ng import adler32  # 35 ns a header
except ImportError:  # there is no wheel for this machine: 210 ns
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
]

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
MAX_EXTENSION = 1 << 20
"""Bytes that the PAX records or the long name of one entry may have."""
MAX_GLOBALS = 1 << 16
"""Bytes of PAX globals in force at once: they are folded into every entry that they cover."""
MAX_SIZE = 1 << 62
"""Bytes that a body may claim; more is no size but nonsense."""

_OCTAL = b"01234567 \0"
_BLANKS = b" \0"
_KINDS = {
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHAR,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}  # all others are regular files: POSIX says so of '7' and of flags one does not know
_V7_FLAGS = (b"\0", b"0")
_FILE_FLAGS = (b"\0", b"0", b"S")
_NUMBERS = {"mode": (100, 108), "uid": (108, 116), "gid": (116, 124), "mtime": (136, 148)}
_DEVICE_NUMBERS = {"devmajor": (329, 337), "devminor": (337, 345)}
_SPARSE_PAIR = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_DECIMAL_RECORDS = (b"size", b"uid", b"gid", b"mtime", b"atime", b"ctime")

# An empty value of one of these takes the global record back (POSIX); an empty xattr is an empty xattr.
_REVOCABLE = frozenset(_DECIMAL_RECORDS) | {b"path", b"linkpath", b"uname", b"gname", b"hdrcharset", b"comment"}


@dataclass(slots=True)
class Extras:
    """What stood before a header and belongs to it: PAX records, GNU long names, and the globals in force."""

    raw: bytes = b""
    records: dict[bytes, bytes] = field(default_factory=dict)
    long_name: bytes | None = None
    long_target: bytes | None = None
    globals: dict[bytes, bytes] = field(default_factory=dict)


_NO_EXTRAS = Extras()


def padded(size: int) -> int:
    """Round a body's size up to whole blocks."""
    return (size + BLOCK - 1) & -BLOCK


def parse_number(data: bytes) -> int:
    r"""Read a number field: octal digits between blanks, or GNU's base-256 (high bit set, two's complement).

    What follows the first blank or NUL after the digits is ignored, as GNU tar does; an empty field is 0.
    Raises FormatError otherwise.

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
    """Sum of the header's bytes with its checksum field as blanks.

    The low half of Adler-32 is 1 + the sum of the bytes modulo 65521, and 256 bytes cannot sum up to that.
    """
    low = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:BLOCK]) & 0xFFFF) - 2
    return low - sum(header[148:156]) + 8 * 32


def stored_sum(header: bytes) -> int:
    """The sum that the header says it has; FormatError where that is no number."""
    return parse_number(header[148:156])


def has_valid_sum(header: bytes) -> bool:
    """Whether the stored sum is right, summed over unsigned or, as some old tars did, signed bytes."""
    if has_plain_sum(header):
        return True
    try:
        return stored_sum(header) == signed_sum(header)
    except FormatError:
        return False


def has_plain_sum(header: bytes) -> bool:
    """Whether the stored sum is that of the unsigned bytes, as all of today's tars have it."""
    return expected_sums[header[148:156]] == adler32(header[:BLOCK]) & 0xFFFF


def signed_sum(header: bytes) -> int:
    """The sum as tars made it that took bytes for signed numbers."""
    return unsigned_sum(header) - 256 * sum(byte > 127 for byte in header[:148] + header[156:BLOCK])


class ExpectedSums(dict[bytes, int]):
    """Checksum field -> what ``zlib.adler32(header) & 0xFFFF`` is if the header's sum is as stored.

    The low half of Adler-32 is 1 + the sum of all bytes, modulo 65521, at memory speed. The sum as stored
    counts its own field as blanks, hence the correction. A wrong sum that is off by just 65521 would pass;
    no single changed field can do that. Signed sums fail here and are left to :func:`has_valid_sum`.
    Bounded: it forgets everything after 16384 distinct fields; real layers have a few thousand.
    """

    def __missing__(self, stored: bytes) -> int:
        try:
            value = (1 + parse_number(stored) - 8 * 32 + sum(stored)) % 65521
        except FormatError:
            value = -1  # equals no Adler sum
        if len(self) >= 16384:
            self.clear()
        self[stored] = value
        return value


expected_sums = ExpectedSums()


def check_numbers(header: bytes) -> None:
    """Raise FormatError if mode, owner or mtime is no number. Cost: one pass over 48 bytes when plain octal."""
    if not (header[100:124] + header[136:148]).translate(None, _OCTAL):
        return
    for name, (start, end) in _NUMBERS.items():
        _field(header, name, start, end)


def _field(header: bytes, name: str, start: int, end: int) -> int:
    try:
        return parse_number(header[start:end])
    except FormatError as error:
        raise FormatError(f"{name}: {error.problem}") from None


def parse_records(data: bytes) -> dict[bytes, bytes]:
    r"""Read PAX records, each ``b"LENGTH KEY=VALUE\n"``; the last of a repeated key wins.

    Only the length says where a record ends: values hold newlines, NULs and '='. Raises FormatError where
    a length lies. GNU's sparse format 0.0, which repeats its keys, is given as 0.1, one record of the whole map.
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
            raise FormatError("the length of a PAX record lies")
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
    """Fold globals under an entry's own records; empty values take a standard key back."""
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
        raise FormatError(f"PAX {key.decode()}: {value[:40]!r} is no number")
    if fraction and not fraction.isdigit():
        raise FormatError(f"PAX {key.decode()}: {value[:40]!r} is no number")


def parse_entry(header: bytes, extras: Extras | None = None, *, offset: int = 0) -> Entry:
    """Make an entry of a header with a valid sum and what stood before it.

    ``header`` is the 512 bytes, with GNU's extra sparse blocks behind them where it has any. Raises
    FormatError or UnsafePathError for a bad name, target, number or size; cost: its length.
    """
    extras = extras if extras is not None else _NO_EXTRAS
    raw_path = _text(header[:100])
    try:
        records = effective_records(extras) if extras is not _NO_EXTRAS else {}
        raw_path = _raw_path(header, extras, records)
        return _parse_entry(header, extras, records, raw_path, offset)
    except FormatError as error:
        raise error.at(path=raw_path[:MAX_PATH], offset=offset) from None


def _parse_entry(header: bytes, extras: Extras, records: dict[bytes, bytes], raw_path: bytes, offset: int) -> Entry:
    check_numbers(header)
    path = clean_path(raw_path)
    flag = header[156:157]
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
        for name, (start, end) in _DEVICE_NUMBERS.items():
            _field(header, name, start, end)
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
    """Whether every reader takes this header as we do, so that it may be written as it came."""
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
    name = _text(header[:100])
    if header[345] and header[257:263] == b"ustar\0":
        return _text(header[345:500]) + b"/" + name
    return name


def _raw_target(header: bytes, extras: Extras, records: dict[bytes, bytes]) -> bytes:
    if b"linkpath" in extras.records and b"linkpath" in records:
        return records[b"linkpath"]
    if extras.long_target is not None:
        return extras.long_target
    return records.get(b"linkpath", _text(header[157:257]))


def _target(kind: Kind, raw: bytes) -> bytes:
    if kind is Kind.SYMLINK:
        if not raw:
            raise FormatError("the target of a symlink is empty")
        if b"\0" in raw or len(raw) > MAX_PATH:
            raise UnsafePathError(f"a symlink's target holds no NUL and at most {MAX_PATH} bytes")
        return raw
    if kind is Kind.HARDLINK:
        try:
            return clean_path(raw)
        except UnsafePathError as error:
            raise UnsafePathError(f"the target of a hard link: {error.problem}") from None
    return b""


def _size(header: bytes, records: dict[bytes, bytes]) -> int:
    value = records.get(b"size")
    size = int(value) if value is not None else _field(header, "size", 124, 136)
    if not 0 <= size <= MAX_SIZE:
        raise FormatError(f"a size of {size} bytes cannot be")
    return size


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]
