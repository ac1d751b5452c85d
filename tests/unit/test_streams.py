"""Streams: the same bytes by chunks or from a file; skipping is not reading."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.errors import LayerError
from streamerge.fileio import Extent, FileHandle
from streamerge.interfaces import Stream
from streamerge.streams import CHUNK, ChunkStream, FileStream, read_descriptor

Step = tuple[str, int]


def walked(stream: Stream, steps: list[int | None]) -> list[bytes | int]:
    """Read where a step is None, else skip so much."""
    return [stream.read() if step is None else stream.skip(step) for step in steps]


class TestChunkStream:
    @given(st.lists(st.binary(max_size=20)), st.lists(st.one_of(st.none(), st.integers(0, 50))))
    def test_skips_and_reads_like_bytes(self, chunks: list[bytes], steps: list[int | None]) -> None:
        stream, data, at = ChunkStream(chunks), b"".join(chunks), 0
        for step, got in zip(steps, walked(stream, steps), strict=True):
            if isinstance(got, bytes):
                assert step is None
                assert data[at : at + len(got)] == got
                assert got or at == len(data)
                at += len(got)
            else:
                assert step is not None
                assert got == min(step, len(data) - at)
                at += got

    def test_empty_chunks_are_no_end(self) -> None:
        stream = ChunkStream([b"", b"a", b"", b"b"])
        assert [stream.read(), stream.read(), stream.read(), stream.read()] == [b"a", b"b", b"", b""]

    def test_the_rest_of_a_chunk_is_given(self) -> None:
        stream = ChunkStream([b"abcdef"])
        assert (stream.skip(2), stream.read(), stream.skip(1)) == (2, b"cdef", 0)

    def test_close_ends_a_generator(self) -> None:
        ended = []

        def chunks() -> Iterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                ended.append(True)

        stream = ChunkStream(chunks())
        assert stream.read() == b"a"
        stream.close()
        stream.close()
        assert ended == [True]
        ChunkStream([b"a"]).close()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], FileHandle]:
    def make(data: bytes) -> FileHandle:
        (tmp_path / "f").write_bytes(data)
        return FileHandle(os.open(tmp_path / "f", os.O_RDONLY))

    return make


def whole(file: FileHandle, name: str = "f") -> FileStream:
    return FileStream(Extent(file, 0, file.size), name)


class TestFileStream:
    DATA = bytes(range(256)) * 2500

    def test_reads_all_in_chunks(self, opened: Callable[[bytes], FileHandle]) -> None:
        stream = whole(opened(self.DATA))
        pieces = list(iter(stream.read, b""))
        assert b"".join(pieces) == self.DATA
        assert max(map(len, pieces)) <= CHUNK
        stream.close()

    @pytest.mark.parametrize("skip", [0, 1, 100_000, 639_999, 640_000, 1 << 62])
    def test_skips_to_the_end_and_no_further(self, opened: Callable[[bytes], FileHandle], skip: int) -> None:
        stream = whole(opened(self.DATA))
        assert stream.skip(skip) == min(skip, len(self.DATA))
        assert stream.read() == self.DATA[skip : skip + CHUNK]
        stream.close()

    def test_begins_where_the_extent_does(self, opened: Callable[[bytes], FileHandle]) -> None:
        stream = FileStream(Extent(opened(self.DATA), 600_000, 40_000), "f")
        assert stream.skip(1 << 40) == 40_000
        stream.close()

    def test_ends_where_the_extent_does(self, opened: Callable[[bytes], FileHandle]) -> None:
        stream = FileStream(Extent(opened(self.DATA), 1000, 5000), "f")
        assert (stream.skip(100), stream.read()) == (100, self.DATA[1100:6000])
        assert (stream.skip(1), stream.read()) == (0, b"")
        stream.close()

    def test_a_file_that_shrinks_gives_nothing_more(
        self, opened: Callable[[bytes], FileHandle], tmp_path: Path
    ) -> None:
        stream = whole(opened(self.DATA))
        assert stream.skip(5000) == 5000
        os.truncate(tmp_path / "f", 100)
        assert stream.skip(10) == 0
        assert stream.read() == b""
        stream.close()

    def test_close_may_be_called_twice(self, opened: Callable[[bytes], FileHandle]) -> None:
        file = opened(b"")
        fd, stream = file.fd, whole(file)
        del file
        stream.close()
        stream.close()
        assert stream.extent is None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


class TestReadDescriptor:
    def test_closes_at_the_end(self, opened: Callable[[bytes], FileHandle]) -> None:
        file = opened(b"data")
        fd, chunks = file.fd, read_descriptor(file, "f")
        del file
        assert list(chunks) == [b"data"]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    def test_closes_when_stopped(self, opened: Callable[[bytes], FileHandle]) -> None:
        file = opened(b"data")
        fd, chunks = file.fd, read_descriptor(file, "f")
        del file
        assert next(chunks) == b"data"
        ChunkStream(chunks).close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    def test_errors_are_ours(self, tmp_path: Path) -> None:
        file = FileHandle(os.open(tmp_path, os.O_RDONLY))
        with pytest.raises(LayerError, match="cannot read it: Is a directory"):
            list(read_descriptor(file, "it"))
        stream = FileStream(Extent(file, 0, 1), "it")
        with pytest.raises(LayerError, match="cannot read it: Is a directory"):
            stream.read()
        stream.close()
