"""Sparse files: where in the file the bytes of a body belong.

GNU tar manual, "Storing Sparse Files": the old format (type ``S``, map in the header and behind it) and the
PAX formats 0.0, 0.1 (map in records) and 1.0 (map at the start of the body). Format 0.0 repeats its records,
so :func:`streamerge.tarheader.parse_records` has made 0.1 of it already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamerge.entry import Entry
from streamerge.errors import FormatError
from streamerge.tarheader import BLOCK, MAX_EXTENSION, MAX_SIZE, parse_number

__all__ = ["SparseFile", "is_sparse", "sparse_file"]

Chunk = bytes | memoryview


@dataclass(frozen=True, slots=True)
class SparseFile:
    """``size`` is the file's length in bytes, ``extents`` the (offset, length) of what is no hole, ascending;
    ``data`` is what the extents hold, one after another.
    """

    size: int
    extents: list[tuple[int, int]]
    data: Iterator[Chunk]

    def pieces(self) -> Iterator[tuple[int, Chunk]]:
        """Yield (offset in the file, bytes). Cost: the chunks of the body and the extents."""
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
    return entry.header[156] == 83 or b"GNU.sparse.map" in entry.records or b"GNU.sparse.major" in entry.records


def sparse_file(entry: Entry, body: Iterable[Chunk]) -> SparseFile:
    """Take an entry's body apart. Raises FormatError where the map and the sizes contradict each other."""
    records = entry.records
    chunks = iter(body)
    stored = entry.size
    if entry.header[156] == 83:  # 'S'
        numbers = list(_old_numbers(entry.header))
        size = parse_number(entry.header[483:495])
    elif b"GNU.sparse.map" in records:
        numbers = [_decimal(number) for number in records[b"GNU.sparse.map"].split(b",") if number]
        size = _decimal(records.get(b"GNU.sparse.size", b""))
    else:
        numbers, used, chunks = _leading_map(chunks)
        stored -= used
        size = _decimal(records.get(b"GNU.sparse.realsize", b""))
    extents = list(zip(numbers[::2], numbers[1::2], strict=len(numbers) % 2 == 0))
    _check(extents, size, stored, entry.path)
    return SparseFile(size, extents, chunks)


def _old_numbers(header: bytes) -> Iterator[int]:
    """The pairs of a type ``S`` header: 4 in it, 21 in each block behind it, until an empty one."""
    areas = [header[386:482]] + [header[start : start + 504] for start in range(BLOCK, len(header), BLOCK)]
    for area in areas:
        for start in range(0, len(area), 24):
            if not area[start + 12 : start + 24].strip(b"\0 "):
                break
            yield parse_number(area[start : start + 12])
            yield parse_number(area[start + 12 : start + 24])


def _leading_map(chunks: Iterator[Chunk]) -> tuple[list[int], int, Iterator[Chunk]]:
    """Format 1.0: decimal lines, their count first, padded to a block; return them, their room, the rest."""
    data = b""
    while True:
        lines = data.split(b"\n")
        if len(lines) > 1 and len(lines) > 1 + 2 * _decimal(lines[0]):
            break
        chunk = next(chunks, b"")
        data += bytes(chunk)
        if not chunk or len(data) > MAX_EXTENSION:
            raise FormatError(f"a sparse map does not end, or has over {MAX_EXTENSION} bytes")
    count = 2 * _decimal(lines[0])
    used = sum(len(line) + 1 for line in lines[: count + 1])
    used += -used % BLOCK
    return [_decimal(line) for line in lines[1 : count + 1]], used, _rest(data[used:], chunks)


def _rest(first: bytes, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    if first:
        yield first
    yield from chunks


def _check(extents: list[tuple[int, int]], size: int, stored: int, path: bytes) -> None:
    end = total = 0
    for offset, length in extents:
        if offset < end or length < 0:
            raise FormatError("the map of a sparse file is not in order").at(path=path)
        end = offset + length
        total += length
    if end > size or total != stored or size > MAX_SIZE:
        raise FormatError("the map of a sparse file does not fit its sizes").at(path=path)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise FormatError(f"a sparse map holds {text[:40]!r} where a number should be")
    return int(text)
