"""Sparse files: the position in the file of each byte of the body.

GNU tar manual, "Storing Sparse Files": the old format (type ``S``, map in the header and behind it) and the
PAX formats 0.0, 0.1 (map in records) and 1.0 (map at the start of the body). Format 0.0 repeats its records;
:func:`streamerge.tar.header.parse_records` converts it to 0.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamerge.entry import Entry
from streamerge.errors import FormatError
from streamerge.tar.fields import BLOCK, SPARSE_MAP, SPARSE_SIZE, SPARSE_TYPE, TYPE_AT
from streamerge.tar.header import MAX_EXTENSION, MAX_SIZE, parse_number

__all__ = ["SparseFile", "expanded", "is_sparse", "sparse_file", "sparse_size"]

Chunk = bytes | memoryview

_ZEROS = bytes(1 << 16)

_NUMBER = 12
"""Bytes of a number in an old GNU sparse map."""
_EXTENT = 2 * _NUMBER
_BLOCK_MAP = 21 * _EXTENT
"""Bytes of extents in each block of the map behind the header."""


@dataclass(frozen=True, slots=True)
class SparseFile:
    """A sparse file: its length in bytes, its extents, and their contents.

    ``extents`` are (offset, length) of everything that is not a hole, ascending. ``data`` yields the contents of all
    extents, one after another.
    """

    size: int
    extents: list[tuple[int, int]]
    data: Iterator[Chunk]

    def pieces(self) -> Iterator[tuple[int, Chunk]]:
        """Yield (offset in the file, bytes). Raises FormatError if the body ends early. Cost: chunks and extents."""
        chunk: memoryview = memoryview(b"")
        for offset, length in self.extents:
            while length:
                if not chunk:
                    chunk = memoryview(next(self.data, b""))
                    if not chunk:
                        raise FormatError("the body of a sparse file is shorter than its map")
                piece, chunk = chunk[:length], chunk[length:]
                yield offset, piece
                offset += len(piece)
                length -= len(piece)


def is_sparse(entry: Entry) -> bool:
    """Whether the body is that of a sparse file."""
    records = entry.records
    return entry.header[TYPE_AT] == SPARSE_TYPE or b"GNU.sparse.map" in records or b"GNU.sparse.major" in records


def sparse_file(entry: Entry, body: Iterable[Chunk]) -> SparseFile:
    """The sparse file in an entry's body. Raises FormatError if the map and the sizes contradict each other."""
    try:
        return _parse(entry, body)
    except FormatError as error:
        raise error.at(path=entry.path) from None


def expanded(file: SparseFile) -> Iterator[Chunk]:
    """Yield all bytes of the file, with zeros for its holes. Cost: its size; zeros come in chunks of at most 64 KiB."""
    end = 0
    for offset, piece in file.pieces():
        yield from _zeros(offset - end)
        yield piece
        end = offset + len(piece)
    yield from _zeros(file.size - end)


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield _ZEROS[:size]
        size -= len(_ZEROS)


def sparse_size(entry: Entry) -> int:
    """The length of the file in bytes, holes included, from its header. Raises FormatError if that is not a number."""
    if entry.header[TYPE_AT] == SPARSE_TYPE:
        return parse_number(entry.header[SPARSE_SIZE])
    key = b"GNU.sparse.size" if b"GNU.sparse.map" in entry.records else b"GNU.sparse.realsize"
    return _decimal(entry.records.get(key, b""))


def _parse(entry: Entry, body: Iterable[Chunk]) -> SparseFile:
    records = entry.records
    chunks = iter(body)
    stored = entry.size
    if entry.header[TYPE_AT] == SPARSE_TYPE:
        numbers = list(_old_numbers(entry.header))
    elif b"GNU.sparse.map" in records:
        numbers = [_decimal(number) for number in records[b"GNU.sparse.map"].split(b",") if number]
    else:
        numbers, used, chunks = _leading_map(chunks)
        stored -= used
    if len(numbers) % 2:
        raise FormatError("the map of a sparse file ends with half an extent")
    extents = list(zip(numbers[::2], numbers[1::2], strict=True))
    size = sparse_size(entry)
    _check(extents, size, stored)
    return SparseFile(size, extents, chunks)


def _old_numbers(header: bytes) -> Iterator[int]:
    """Yield the numbers of a type ``S`` header: 4 extents in it and 21 in each block behind it, until an empty one."""
    maps = [header[SPARSE_MAP]] + [header[start : start + _BLOCK_MAP] for start in range(BLOCK, len(header), BLOCK)]
    for extents in maps:
        for start in range(0, len(extents), _EXTENT):
            offset, length = extents[start : start + _NUMBER], extents[start + _NUMBER : start + _EXTENT]
            if not length.strip(b"\0 "):
                break
            yield parse_number(offset)
            yield parse_number(length)


def _leading_map(chunks: Iterator[Chunk]) -> tuple[list[int], int, Iterator[Chunk]]:
    """Format 1.0: decimal lines, their count first, padded to a block. Return (numbers, bytes used, the rest)."""
    data = b""
    while (used := _map_size(data)) is None or len(data) < used:
        chunk = next(chunks, b"")
        data += bytes(chunk)
        if not chunk or (used is None and len(data) > MAX_EXTENSION):
            raise FormatError(f"a sparse map does not end, or has over {MAX_EXTENSION} bytes")
    count, *numbers = data[:used].split(b"\n")
    return [_decimal(number) for number in numbers[: 2 * _decimal(count)]], used, _rest(data[used:], chunks)


def _map_size(data: bytes) -> int | None:
    """Bytes of the map at the start of ``data``, with its padding; None if ``data`` does not hold all of it."""
    lines = data.split(b"\n")
    if len(lines) == 1 or len(lines) <= 1 + 2 * _decimal(lines[0]):
        return None
    size = sum(len(line) + 1 for line in lines[: 1 + 2 * _decimal(lines[0])])
    return size + -size % BLOCK


def _rest(first: bytes, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    if first:
        yield first
    yield from chunks


def _check(extents: list[tuple[int, int]], size: int, stored: int) -> None:
    end = total = 0
    for offset, length in extents:
        if offset < end or length < 0:
            raise FormatError("the map of a sparse file is not in order")
        end = offset + length
        total += length
    if end > size or total != stored or size > MAX_SIZE:
        raise FormatError("the map of a sparse file does not fit its sizes")


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise FormatError(f"a sparse map has {text[:40]!r} where a number is expected")
    return int(text)
