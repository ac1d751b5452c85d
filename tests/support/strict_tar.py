"""A small tar reader that forgives nothing: what is wrong is an ``AssertionError``.

It reads streamerge's own output, so it may be strict where a reader of foreign tars must be lenient. It
shares no code with the package it judges, nor with the builder of layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Content", "Member", "members"]

_BLOCK = 512
_CHUNK = 1 << 20
_LITERAL = 4096
_XATTR = b"SCHILY.xattr."

_BODILESS = b"123456"
"""Type flags that have no body, whatever size their header states."""


class Content:
    """Bytes made comparable: themselves up to 4 KiB, beyond that their length and digest."""

    def __init__(self) -> None:
        self._head = b""
        self._size = 0
        self._hash = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        if self._size <= _LITERAL:
            self._head = (self._head + chunk)[: _LITERAL + 1]
        self._size += len(chunk)
        self._hash.update(chunk)

    def value(self) -> bytes:
        if self._size <= _LITERAL:
            return self._head
        return b"%d bytes, sha256:%s" % (self._size, self._hash.hexdigest().encode())


@dataclass(frozen=True)
class Member:
    """One entry as the tar says it; ``path`` as written, ``flag`` the type flag."""

    path: bytes
    flag: bytes
    target: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: tuple[int, int]
    xattrs: frozenset[tuple[bytes, bytes]]
    content: bytes


Records = list[tuple[bytes, bytes]]
"""PAX records in order: sparse format 0.0 repeats its keys, so a mapping would lose some."""

Extents = list[tuple[int, int]]
"""Offset and length of each piece of data in a sparse file."""


def members(file: BinaryIO) -> Iterator[Member]:
    """Every entry up to the end-of-archive blocks, which must be there."""
    globals_: Records = []
    local: Records = []
    while (block := _header(file)) is not None:
        flag = block[156:157]
        if flag == b"g":
            globals_ += _records(_extension(file, block))
        elif flag == b"x":
            assert not any(key not in _LONG for key, _ in local), "two x headers before one entry"
            local += _records(_extension(file, block))
        elif flag in (b"L", b"K"):
            local.append((_LONG_KEYS[flag], _extension(file, block).rstrip(b"\0")))
        else:
            yield _member(file, block, globals_ + local)
            local = []
    assert not local, "an extension header with no entry behind it"


# GNU's long names are kept under keys of their own: a PAX path is stronger than a GNU one.
_LONG_KEYS = {b"L": b"\0L", b"K": b"\0K"}
_LONG = frozenset(_LONG_KEYS.values())


# --- blocks --------------------------------------------------------------------------------------


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    assert len(data) == size, f"the tar ends {size - len(data)} bytes too early"
    return data


def _header(file: BinaryIO) -> bytes | None:
    """The next header, or ``None`` after the end-of-archive blocks."""
    block = _exactly(file, _BLOCK)
    if any(block):
        assert _number(block[148:156]) in _sums(block), f"a wrong header sum: {block[:100]!r}"
        return block
    assert not any(_exactly(file, _BLOCK)), "one zero block, but no second"
    while rest := file.read(_CHUNK):
        assert not any(rest), "something follows the end-of-archive blocks"
    return None


def _sums(block: bytes) -> set[int]:
    """The sum of a header, unsigned and signed: old tars hold either, and headers are passed through."""
    rest = block[:148] + b" " * 8 + block[156:]
    return {sum(rest), sum(rest) - 256 * sum(byte > 127 for byte in rest)}


def _extension(file: BinaryIO, block: bytes) -> bytes:
    return b"".join(_body(file, _number(block[124:136])))


def _body(file: BinaryIO, size: int) -> Iterator[bytes]:
    """A body in chunks, and then its padding, which must be zeros."""
    for start in range(0, size, _CHUNK):
        yield _exactly(file, min(_CHUNK, size - start))
    assert not any(_exactly(file, -size % _BLOCK)), "padding that is not zero"


def _number(field: bytes) -> int:
    """Octal digits, or base-256: a first byte of 0x80 for positive, 0xff for negative numbers."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True)
    digits = field.strip(b" \0")
    assert all(c in b"01234567" for c in digits), f"{field!r} is no octal number"
    return int(digits or b"0", 8)


def _decimal(text: bytes) -> int:
    assert text.isdigit(), f"{text!r} is no decimal number"
    return int(text)


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


# --- PAX records ---------------------------------------------------------------------------------


def _records(body: bytes) -> Records:
    records: Records = []
    at = 0
    while at < len(body):
        digits = body[at : at + 20].partition(b" ")[0]
        assert digits.isdigit(), f"no length at byte {at} of PAX records"
        record = body[at : at + int(digits)]
        assert len(record) == int(digits), "a PAX record whose length lies"
        assert record.endswith(b"\n"), "a PAX record without a newline at its end"
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        assert (bool(key), equals) == (True, b"="), "a PAX record without a key"
        records.append((key, value))
        at += len(record)
    return records


def _pax_time(text: bytes) -> int:
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    assert (whole + fraction).isdigit(), f"mtime {text!r} is no number"
    value = int(whole) * 10**9 + int(fraction[:9].ljust(9, b"0"))
    return -value if text.startswith(b"-") else value


# --- entries -------------------------------------------------------------------------------------


def _member(file: BinaryIO, block: bytes, records: Records) -> Member:
    pax = {key: value for key, value in records if value or key.startswith(_XATTR)}
    path = pax.get(b"GNU.sparse.name") or pax.get(b"path") or pax.get(_LONG_KEYS[b"L"]) or _path(block)
    flag = _flag(block, path)
    content = Content()
    for chunk in () if flag in _BODILESS else _expanded(file, block, records, pax):
        content.update(chunk)
    return Member(
        path=path,
        flag=flag,
        target=pax.get(b"linkpath") or pax.get(_LONG_KEYS[b"K"]) or _until_nul(block[157:257]),
        mode=_number(block[100:108]) & 0o7777,
        uid=_decimal(pax[b"uid"]) if b"uid" in pax else _number(block[108:116]),
        gid=_decimal(pax[b"gid"]) if b"gid" in pax else _number(block[116:124]),
        mtime_ns=_pax_time(pax[b"mtime"]) if b"mtime" in pax else _number(block[136:148]) * 10**9,
        device=_device(block),
        xattrs=frozenset((k.removeprefix(_XATTR), v) for k, v in pax.items() if k.startswith(_XATTR)),
        content=content.value(),
    )


def _path(block: bytes) -> bytes:
    """Only POSIX magic announces a prefix: in GNU headers that field holds times and sparse maps."""
    name, prefix = _until_nul(block[:100]), _until_nul(block[345:500])
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _flag(block: bytes, path: bytes) -> bytes:
    """The type flag; all flags of regular files are ``0``, and V7's directories are ``5``."""
    flag = block[156:157]
    if flag == b"\0" and path.endswith(b"/"):
        return b"5"
    return flag if flag in _BODILESS else b"0"


def _device(block: bytes) -> tuple[int, int]:
    if block[156:157] not in (b"3", b"4"):
        return 0, 0
    return _number(block[329:337]), _number(block[337:345])


# --- bodies, sparse or not -----------------------------------------------------------------------


def _expanded(file: BinaryIO, block: bytes, records: Records, pax: Mapping[bytes, bytes]) -> Iterator[bytes]:
    stored = _decimal(pax[b"size"]) if b"size" in pax else _number(block[124:136])
    if block[156:157] == b"S":
        return _holes(file, _map_behind_header(file, block), _number(block[483:495]), stored)
    if pax.get(b"GNU.sparse.major") == b"1":
        extents, used = _map_in_body(file)
        return _holes(file, extents, _decimal(pax[b"GNU.sparse.realsize"]), stored - used)
    if b"GNU.sparse.size" in pax:
        return _holes(file, _map_in_records(records, pax), _decimal(pax[b"GNU.sparse.size"]), stored)
    return _body(file, stored)


def _holes(file: BinaryIO, extents: Extents, real: int, stored: int) -> Iterator[bytes]:
    """The file with its holes filled; map and stored size must agree."""
    assert sum(length for _, length in extents) == stored, "a sparse map that does not cover what is stored"
    at = 0
    for offset, length in extents:
        assert offset >= at, "a sparse map out of order"
        yield from _zeros(offset - at)
        for start in range(0, length, _CHUNK):
            yield _exactly(file, min(_CHUNK, length - start))
        at = offset + length
    assert at <= real, "a sparse map beyond the end of the file"
    yield from _zeros(real - at)
    assert not any(_exactly(file, -stored % _BLOCK)), "padding that is not zero"


def _zeros(size: int) -> Iterator[bytes]:
    for start in range(0, size, _CHUNK):
        yield bytes(min(_CHUNK, size - start))


def _map_behind_header(file: BinaryIO, block: bytes) -> Extents:
    """GNU's old map: four extents in the header, the others in the blocks behind it."""
    extents = _old_extents(block[386:482])
    more = block[482]
    while more:
        extension = _exactly(file, _BLOCK)
        extents += _old_extents(extension[:504])
        more = extension[504]
    return extents


def _old_extents(table: bytes) -> Extents:
    rows = (table[at : at + 24] for at in range(0, len(table), 24))
    return [(_number(row[:12]), _number(row[12:])) for row in rows if row[0]]


def _map_in_body(file: BinaryIO) -> tuple[Extents, int]:
    """Format 1.0: decimal lines before the data, padded to a block; also says how long the map is."""
    text = _exactly(file, _BLOCK)
    while text.count(b"\n") < 1 or text.count(b"\n") < 1 + 2 * _decimal(text.partition(b"\n")[0]):
        text += _exactly(file, _BLOCK)
    count, *numbers = text.split(b"\n")
    return _pairs(numbers[: 2 * _decimal(count)]), len(text)


def _map_in_records(records: Records, pax: Mapping[bytes, bytes]) -> Extents:
    """Formats 0.1, one record with commas, and 0.0, a pair of records an extent."""
    if b"GNU.sparse.map" in pax:
        return _pairs(pax[b"GNU.sparse.map"].split(b","))
    return _pairs(value for key, value in records if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"))


def _pairs(numbers: Iterable[bytes]) -> Extents:
    values = [_decimal(number) for number in numbers]
    return list(zip(values[::2], values[1::2], strict=False))
