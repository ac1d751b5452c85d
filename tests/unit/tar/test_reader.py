"""The reader: each layer fed whole, byte by byte, in odd chunks, and with something after it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.errors import FormatError, LayerError
from streamerge.fileio import Extent, FileHandle
from streamerge.interfaces import Run, Stream
from streamerge.streams import ChunkStream
from streamerge.tar.header import MAX_EXTENSION
from streamerge.tar.reader import TarReader
from tests.support.layers import Dialect, EntrySpec, Kind, Layer, header
from tests.support.strategies import stacks

Seen = list[tuple[bytes, int, bytes]]
"""Path, offset and body of each entry."""

SAMPLE = (
    Layer()
    .dir(b"d")
    .file(b"d/empty")
    .file(b"d/small", b"s")
    .file(b"d/block", b"b" * 512)
    .file(b"d/more", b"m" * 513)
    .file(b"n" * 150, b"long")
    .symlink(b"s", b"t" * 150)
    .file(b"last", b"l" * 1000)
)


class SeekingStream(Stream):
    """A stream that passes over bytes without giving them, and counts what it gave."""

    seeks = True

    def __init__(self, data: bytes, chunk: int) -> None:
        self._file = io.BytesIO(data)
        self._chunk = chunk
        self._end = len(data)
        self.given = 0

    def read(self) -> bytes:
        piece = self._file.read(self._chunk)
        self.given += len(piece)
        return piece

    def skip(self, size: int) -> int:
        passed = min(size, self._end - self._file.tell())
        self._file.seek(passed, io.SEEK_CUR)
        return passed

    def close(self) -> None:
        self._file.close()


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        yield b""


def chunked(data: bytes, size: int) -> Stream:
    return ChunkStream(chunks(data, size))


STREAMS: list[Callable[[bytes, int], Stream]] = [chunked, SeekingStream]


def seen(stream: Stream, *, bodies: bool = True) -> Seen:
    reader = TarReader(stream)
    found = []
    while (entry := reader.next_entry()) is not None:
        body = b"".join(reader.body()) if bodies else b""
        assert len(body) == (entry.size if bodies else 0)
        found.append((entry.path, entry.offset, body))
    reader.drain()
    return found


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("size", [1, 3, 511, 512, 513, 1024, 10_000, 1 << 20])
@pytest.mark.parametrize("dialect", [Dialect.GNU, Dialect.PAX])
class TestFed:
    def expected(self, dialect: Dialect) -> Seen:
        offset, found = 0, []
        for spec in SAMPLE.entries:
            found.append((spec.path, offset, spec.data))
            offset += len(Layer((spec,)).tar(dialect, end=False))
        return found

    def test_in_chunks(self, stream: Callable[[bytes, int], Stream], size: int, dialect: Dialect) -> None:
        assert seen(stream(SAMPLE.tar(dialect), size)) == self.expected(dialect)

    def test_with_trailing_data(self, stream: Callable[[bytes, int], Stream], size: int, dialect: Dialect) -> None:
        data = SAMPLE.tar(dialect) + SAMPLE.tar(dialect) + b"and more"
        assert seen(stream(data, size)) == self.expected(dialect)

    def test_without_an_end(self, stream: Callable[[bytes, int], Stream], size: int, dialect: Dialect) -> None:
        assert seen(stream(SAMPLE.tar(dialect, end=False), size)) == self.expected(dialect)
        assert seen(stream(SAMPLE.tar(dialect, end=False)[:-20], size)) == self.expected(dialect)

    def test_bodies_passed_over(self, stream: Callable[[bytes, int], Stream], size: int, dialect: Dialect) -> None:
        expected = [(path, offset, b"") for path, offset, _ in self.expected(dialect)]
        assert seen(stream(SAMPLE.tar(dialect), size), bodies=False) == expected
        assert seen(stream(SAMPLE.tar(dialect, end=False)[:-20], size), bodies=False) == expected

    def test_bodies_half_read(self, stream: Callable[[bytes, int], Stream], size: int, dialect: Dialect) -> None:
        reader, paths = TarReader(stream(SAMPLE.tar(dialect), size)), []
        while (entry := reader.next_entry()) is not None:
            paths.append(entry.path)
            next(reader.body(), None)
        assert paths == [spec.path for spec in SAMPLE.entries]

    def test_cut_short_it_says_so(self, stream: Callable[[bytes, int], Stream], size: int, dialect: Dialect) -> None:
        data = SAMPLE.tar(dialect, end=False)
        for cut in (len(data) - 25, len(data) - 1100, 100):
            for bodies in (True, False):
                with pytest.raises(LayerError, match="truncated"):
                    seen(stream(data[:cut], size), bodies=bodies)

    def test_seeks_to_any_entry(self, stream: Callable[[bytes, int], Stream], size: int, dialect: Dialect) -> None:
        expected = self.expected(dialect)
        for first in range(len(expected)):
            reader = TarReader(stream(SAMPLE.tar(dialect), size))
            for path, offset, body in expected[first::3]:
                reader.seek(offset)
                entry = reader.next_entry()
                assert entry is not None
                assert (entry.path, entry.offset, b"".join(reader.body())) == (path, offset, body)


@pytest.mark.slow
@given(stacks(max_layers=1), st.integers(1, 2000), st.integers(0, 3))
def test_any_layer_in_any_chunks(layers: list[Layer], size: int, prefix: int) -> None:
    data = layers[0].tar(prefix=[b"", b"./", b"/", b".//"][prefix])
    whole = seen(ChunkStream([data]))
    assert seen(chunked(data, size)) == whole
    assert len(whole) == len(layers[0].entries)


def test_what_is_passed_over_is_not_read() -> None:
    stream = SeekingStream(Layer().file(b"a", bytes(10 << 20)).file(b"b", b"x").tar(), 4096)
    assert [path for path, _, _ in seen(stream, bodies=False)] == [b"a", b"b"]
    assert stream.given < 20_000


def test_bodies_come_in_pieces_of_the_chunks() -> None:
    reader = TarReader(chunked(Layer().file(b"a", bytes(100_000)).tar(), 1000))
    assert reader.next_entry() is not None
    assert max(len(piece) for piece in reader.body()) <= 1000


def data_of(run: Run) -> bytes:
    assert run.data is not None
    return bytes(run.data)


class InAFile(ChunkStream):
    """A stream whose bytes lie in a file as well, from some position on."""

    def __init__(self, chunks: Iterable[bytes], start: int, size: int) -> None:
        super().__init__(chunks)
        self._extent = Extent(FileHandle(os.open(os.devnull, os.O_RDONLY)), start, size)

    @property
    def extent(self) -> Extent:
        return self._extent


class TestPassOn:
    @pytest.mark.parametrize("size", [1, 100, 512, 5000])
    @pytest.mark.parametrize("missing", [0, 1, 300])
    def test_gives_all_and_makes_up_padding(self, size: int, missing: int) -> None:
        data = b"abc" * 400
        reader, written = TarReader(chunked(data[: len(data) - missing], size)), bytearray()
        reader.pass_on(len(data), 300, lambda run: written.extend(data_of(run)))
        assert bytes(written) == data[: len(data) - missing] + bytes(missing)

    def test_but_no_more(self) -> None:
        reader, written = TarReader(chunked(b"abc" * 400, 7)), bytearray()
        with pytest.raises(LayerError, match="truncated"):
            reader.pass_on(1511, 310, lambda run: written.extend(data_of(run)))

    def test_tells_where_it_stands(self) -> None:
        data = bytes(range(256)) * 20
        told: list[Run] = []
        stream = InAFile(chunks(data, 700), 4096, len(data))
        reader = TarReader(stream, extents=True)
        reader.skip(100)
        reader.pass_on(3000, 0, told.append)
        for run in told:
            assert run.extent is not None
            assert run.extent.file is stream.extent.file
            at = run.extent.start - 4096
            assert data_of(run) == data[at : at + run.extent.size]
        assert b"".join(map(data_of, told)) == data[100:3100]

    @pytest.mark.parametrize("extents", [False, True])
    def test_says_nothing_of_a_file_unless_there_is_one_and_it_is_asked(self, extents: bool) -> None:
        told: list[Run] = []
        data = b"abcd" * 100_000
        stream = chunked(data, 1 << 16) if extents else InAFile(chunks(data, 1 << 16), 0, len(data))
        TarReader(stream, extents=extents).pass_on(len(data), 0, told.append)
        assert b"".join(map(data_of, told)) == data
        assert {run.extent for run in told} == {None}

    @pytest.mark.parametrize("missing", [0, 200])
    def test_what_can_be_fetched_is_not_read(self, missing: int) -> None:
        runs: list[Run] = []
        stream = InAFile(chunks(b"abcd" * 100_000, 1 << 16), 4096, 400_000)
        reader = TarReader(stream, extents=True)
        reader.have(1000)
        reader.skip(1000)
        reader.pass_on(399_000 + missing, 300, runs.append)
        assert runs[0] == Run(None, Extent(stream.extent.file, 4096 + 1000, 399_000))
        assert runs[1:] == ([Run(bytes(missing))] if missing else [])
        assert reader.offset == 400_000


def extension(flag: bytes, size: bytes, body: bytes = b"") -> bytes:
    block = bytearray(header(EntrySpec(Kind.FILE, b"x", typeflag=flag), Dialect.GNU, b"x"))
    block[124 : 124 + len(size)] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + body + bytes(-len(body) % 512)


class TestExtensions:
    @pytest.mark.parametrize("flag", [b"x", b"L", b"K", b"g"])
    @pytest.mark.parametrize(
        "size", [b"%011o\0" % (MAX_EXTENSION + 1), b"77777777777\0", b"\x80" + b"\x7f" * 11, b"\xff" * 12]
    )
    def test_that_claim_too_much_are_refused_unread(self, flag: bytes, size: bytes) -> None:
        def endless() -> Iterable[bytes]:
            yield extension(flag, size)
            pytest.fail("the body was read")

        with pytest.raises(FormatError, match=f"{MAX_EXTENSION} are the limit") as caught:
            TarReader(ChunkStream(endless())).next_entry()
        assert caught.value.offset == 0

    def test_of_just_a_mebibyte_pass(self) -> None:
        body = b"n" * MAX_EXTENSION
        data = extension(b"K", b"%011o\0" % len(body), body) + Layer().symlink(b"s", b"t").tar(Dialect.GNU)
        with pytest.raises(FormatError, match="symlink's target"):
            TarReader(chunked(data, 1 << 16)).next_entry()

    @pytest.mark.parametrize("flag", [b"x", b"L", b"K", b"g"])
    def test_cut_short(self, flag: bytes) -> None:
        data = extension(flag, b"%011o\0" % 600, b"6 a=b\n" * 100)
        for cut in (512, 700, 1100):
            with pytest.raises(LayerError, match="truncated"):
                TarReader(chunked(data[:cut], 100)).next_entry()

    def test_several_before_one_entry(self) -> None:
        data = (
            extension(b"x", b"%011o\0" % 6, b"6 a=1\n")
            + extension(b"L", b"%011o\0" % 4, b"name")
            + extension(b"x", b"%011o\0" % 12, b"6 b=2\n6 a=3\n")
            + extension(b"K", b"%011o\0" % 7, b"target\0")
            + Layer().symlink(b"s", b"t").tar(Dialect.GNU)
        )
        entry = TarReader(chunked(data, 333)).next_entry()
        assert entry is not None
        assert (entry.path, entry.target, entry.records) == (b"name", b"target", {b"a": b"3", b"b": b"2"})
        assert (entry.prefix, entry.offset) == (data[:4096], 0)

    def test_long_names_end_at_a_nul(self) -> None:
        data = extension(b"L", b"%011o\0" % 9, b"name\0junk") + Layer().file(b"a").tar(Dialect.GNU)
        entry = TarReader(chunked(data, 333)).next_entry()
        assert entry is not None
        assert entry.path == b"name"

    @pytest.mark.parametrize("end", [b"", bytes(1024)])
    def test_without_an_entry(self, end: bytes) -> None:
        data = extension(b"x", b"%011o\0" % 6, b"6 a=1\n") + end
        with pytest.raises(FormatError, match="should follow its extension") as caught:
            TarReader(chunked(data, 333)).next_entry()
        assert caught.value.offset == 0

    def test_globals_without_an_entry_are_fine(self) -> None:
        data = extension(b"g", b"%011o\0" % 6, b"6 a=1\n")
        assert TarReader(chunked(data + bytes(1024), 333)).next_entry() is None


class TestGlobals:
    LAYER = Layer().file(b"a", b"x").globals({b"k": b"1"}).file(b"b").globals({b"k": b"2", b"l": b"3"}).file(b"c")

    def test_in_force_from_where_they_stand(self) -> None:
        reader = TarReader(chunked(self.LAYER.tar(), 700))
        records = {entry.path: entry.records for entry in iter(reader.next_entry, None)}
        assert records == {b"a": {}, b"b": {b"k": b"1"}, b"c": {b"k": b"2", b"l": b"3"}}

    def test_a_second_reader_needs_no_first_part(self) -> None:
        first = TarReader(chunked(self.LAYER.tar(), 700))
        entries = list(iter(first.next_entry, None))
        for entry in entries:
            again = TarReader(chunked(self.LAYER.tar(), 700), global_records=first.global_records)
            again.seek(entry.offset)
            found = again.next_entry()
            assert found is not None
            assert (found.path, found.records) == (entry.path, entry.records)
        assert len(first.global_records) == 2

    def test_are_noted_once(self) -> None:
        first = TarReader(chunked(self.LAYER.tar(), 700))
        assert len(list(iter(first.next_entry, None))) == 3
        noted = list(first.global_records)
        again = TarReader(chunked(self.LAYER.tar(), 700), global_records=first.global_records)
        assert [e.records for e in iter(again.next_entry, None)] == [{}, {b"k": b"1"}, {b"k": b"2", b"l": b"3"}]
        assert first.global_records == noted

    def test_too_many(self) -> None:
        layer = Layer().file(b"a")
        for number in range(3):
            layer = layer.globals({b"key%d" % number: b"v" * 30_000})
        reader = TarReader(chunked(layer.file(b"b").tar(), 700))
        assert reader.next_entry() is not None
        with pytest.raises(FormatError, match="over 65536 bytes"):
            reader.next_entry()

    def test_said_again_they_do_not_add_up(self) -> None:
        layer = Layer()
        for _ in range(5):
            layer = layer.globals({b"key": b"v" * 30_000})
        assert TarReader(chunked(layer.file(b"b").tar(), 700)).next_entry() is not None


class TestHeaders:
    def test_the_first_says_that_it_is_no_tar(self) -> None:
        with pytest.raises(FormatError, match="not a tar, nor compressed"):
            TarReader(ChunkStream([b"x" * 512])).next_entry()

    def test_a_later_one_says_where(self) -> None:
        reader = TarReader(ChunkStream([Layer().file(b"a", b"x").tar(end=False), b"x" * 512]))
        assert reader.next_entry() is not None
        with pytest.raises(FormatError, match="checksum is wrong") as caught:
            reader.next_entry()
        assert caught.value.offset == 1024

    @pytest.mark.parametrize("size", [1, 100, 511])
    def test_half_of_one(self, size: int) -> None:
        with pytest.raises(LayerError, match="truncated"):
            TarReader(chunked(Layer().file(b"a").tar()[:size], 7)).next_entry()

    def test_zero_blocks(self) -> None:
        for data in (b"", bytes(512), bytes(1024), bytes(512) + b"x" * 100, bytes(1024) + b"x" * 1000):
            assert TarReader(chunked(data, 100)).next_entry() is None
        with pytest.raises(FormatError, match="single zero block"):
            TarReader(chunked(bytes(512) + Layer().file(b"a").tar(), 100)).next_entry()


class TestOldSparseHeaders:
    def sparse(self, blocks: list[bytes]) -> bytes:
        data = bytearray(header(EntrySpec(Kind.FILE, b"s", typeflag=b"S"), Dialect.GNU, b"s"))
        data[482] = bool(blocks)
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data)
        return bytes(data) + b"".join(blocks) + bytes(1024)

    def more(self, flag: int) -> bytes:
        return b"0" * 504 + bytes([flag]) + bytes(7)

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_take_their_blocks_with_them(self, count: int) -> None:
        blocks = [self.more(number + 1 < count) for number in range(count)]
        reader = TarReader(chunked(self.sparse(blocks), 300))
        entry = reader.next_entry()
        assert entry is not None
        assert entry.header[512:] == b"".join(blocks)
        assert reader.next_entry() is None

    def test_are_no_excuse_for_an_endless_map(self) -> None:
        def endless() -> Iterator[bytes]:
            yield self.sparse([self.more(1)])[:1024]
            while True:
                yield self.more(1) * 100

        with pytest.raises(FormatError, match=f"more than {MAX_EXTENSION} bytes"):
            TarReader(ChunkStream(endless())).next_entry()

    def test_cut_short(self) -> None:
        with pytest.raises(LayerError, match="truncated"):
            TarReader(chunked(self.sparse([self.more(1)])[:1000], 300)).next_entry()
