"""Sparse files: where in the file the bytes of a body belong.

GNU tar manual, "Storing Sparse Files": the old format (type ``S``, map in the header and behind it) and the
PAX formats 0.0, 0.1 (map in records) and 1.0 (map at the start of the body). Format 0.0 repeats its records,
so :func:`streamerge.tar.header.parse_records` has made 0.1 of it already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamerge.entry import Entry
from streamerge.errors import FormatError
from streamerge.tar.header import BLOCK, MAX_EXTENSION, MAX_SIZE, parse_number

__all__ = ["SparseFile", "expanded", "is_sparse", "sparse_file", "sparse_size"]

Chunk = bytes | memoryview

_ZEROS = bytes(1 << 16)


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
    try:
        return _parse(entry, body)
    except FormatError as error:
        raise error.at(path=entry.path) from None


def expanded(file: SparseFile) -> Iterator[Chunk]:
    """Yield all bytes of the file, those of its holes too. Cost: its size, in chunks of at most 64 KiB of zeros."""
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
    """The length in bytes of the file, its holes counted, as its header says. Raises FormatError for no number."""
    if entry.header[156] == 83:  # 'S'
        return parse_number(entry.header[483:495])
    key = b"GNU.sparse.size" if b"GNU.sparse.map" in entry.records else b"GNU.sparse.realsize"
    return _decimal(entry.records.get(key, b""))


def _parse(entry: Entry, body: Iterable[Chunk]) -> SparseFile:
    records = entry.records
    chunks = iter(body)
    stored = entry.size
    if entry.header[156] == 83:  # 'S'
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
    while (used := _map_size(data)) is None or len(data) < used:
        chunk = next(chunks, b"")
        data += bytes(chunk)
        if not chunk or (used is None and len(data) > MAX_EXTENSION):
            raise FormatError(f"a sparse map does not end, or has over {MAX_EXTENSION} bytes")
    count, *numbers = data[:used].split(b"\n")
    return [_decimal(number) for number in numbers[: 2 * _decimal(count)]], used, _rest(data[used:], chunks)


def _map_size(data: bytes) -> int | None:
    """Bytes of the map that ``data`` begins with, its padding included; None if it goes on."""
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
        raise FormatError(f"a sparse map holds {text[:40]!r} where a number should be")
    return int(text)
