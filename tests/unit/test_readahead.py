"""Reading ahead: order, bounds, errors, and nothing left open or running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from streamerge.errors import LayerError
from streamerge.interfaces import Layer, Stream
from streamerge.readahead import ReadAhead
from streamerge.streams import ChunkStream
from tests.support.merged import BytesLayer


class FakeLayer:
    """A layer of given chunks; an exception among them is raised."""

    reopenable = True
    name = "fake"

    def __init__(self, chunks: Iterable[bytes | BaseException]) -> None:
        self._chunks = chunks
        self.given = 0
        self.closed = False

    def open(self) -> Stream:
        return ChunkStream(self._run())

    def _run(self) -> Iterator[bytes]:
        try:
            for chunk in self._chunks:
                if isinstance(chunk, BaseException):
                    raise chunk
                self.given += len(chunk)
                yield chunk
        finally:
            self.closed = True


class SeekingLayer:
    """A layer whose stream seeks, like that of a plain file."""

    reopenable = True
    name = "seeking"

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.streams: list[SeekingStream] = []

    def open(self) -> Stream:
        self.streams.append(SeekingStream(self.data))
        return self.streams[-1]


class SeekingStream(ChunkStream):
    seeks = True

    def __init__(self, data: bytes) -> None:
        super().__init__([data])
        self.closed = False

    def close(self) -> None:
        self.closed = True


def all_of(stream: Stream) -> bytes:
    return b"".join(iter(stream.read, b""))


def wait_for_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "streamerge-read-ahead":
            thread.join(5)
            assert not thread.is_alive()


class TestOrder:
    @pytest.mark.parametrize("budget", [1, 5, 1 << 20])
    def test_each_layer_in_turn(self, budget: int) -> None:
        layers: list[Layer] = [
            FakeLayer([b"a", b"", b"b"]),
            FakeLayer([]),
            FakeLayer([b"c" * 10] * 10),
            SeekingLayer(b"d"),
        ]
        with ReadAhead(layers, budget) as ahead:
            assert [all_of(stream) for stream in ahead.streams()] == [b"ab", b"", b"c" * 100, b"d"]
        wait_for_thread()

    def test_a_stream_that_seeks_is_handed_over(self) -> None:
        layer = SeekingLayer(b"x")
        with ReadAhead([layer]) as ahead:
            (stream,) = ahead.streams()
            assert stream is layer.streams[0]
            assert layer.streams[0].closed

    def test_no_layers(self) -> None:
        with ReadAhead([]) as ahead:
            assert list(ahead.streams()) == []


class TestBounds:
    def test_no_more_than_the_budget_waits(self) -> None:
        layer = FakeLayer([bytes(1000)] * 100)
        with ReadAhead([layer], 5000) as ahead:
            stream = next(ahead.streams())
            read = 0
            for _ in range(10):
                read += len(stream.read())
                time.sleep(0.005)
                assert layer.given <= read + 5000 + 2 * 1000
            assert layer.given > read  # it does run ahead
        wait_for_thread()
        assert layer.closed

    def test_on_into_the_next_layer(self) -> None:
        layers = [FakeLayer([b"a"]), FakeLayer([b"b"])]
        with ReadAhead(layers) as ahead:
            next(ahead.streams())
            deadline = time.monotonic() + 5
            while not layers[1].given and time.monotonic() < deadline:
                time.sleep(0.001)
            assert layers[1].given == 1


class TestErrors:
    @pytest.mark.parametrize("error", [LayerError("x"), MemoryError("x"), KeyboardInterrupt("x")])
    def test_are_raised_where_the_merge_meets_them(self, error: BaseException) -> None:
        layers = [FakeLayer([b"a"]), FakeLayer([b"b", error])]
        with ReadAhead(layers) as ahead:
            streams = ahead.streams()
            assert all_of(next(streams)) == b"a"
            stream = next(streams)
            assert stream.read() == b"b"
            with pytest.raises(type(error), match="x"):
                stream.read()
        wait_for_thread()

    def test_of_opening(self) -> None:
        class Missing(FakeLayer):
            def open(self) -> Stream:
                raise LayerError("is missing")

        with ReadAhead([FakeLayer([b"a"]), Missing([])]) as ahead:
            streams = ahead.streams()
            assert all_of(next(streams)) == b"a"
            with pytest.raises(LayerError, match="is missing"):
                next(streams)


class TestNothingIsLeft:
    """Found here: a plain file's descriptor stayed open after a merge that failed in its middle."""

    def test_after_a_failure_in_the_middle(self) -> None:
        given, waiting, behind = SeekingLayer(b"a"), SeekingLayer(b"b"), FakeLayer([b"c"] * 5)
        with pytest.raises(RuntimeError), ReadAhead([given, waiting, behind], 2) as ahead:  # noqa: PT012
            streams = ahead.streams()
            next(streams)
            deadline = time.monotonic() + 5
            while not behind.given and time.monotonic() < deadline:
                time.sleep(0.001)
            raise RuntimeError
        wait_for_thread()
        assert [stream.closed for stream in given.streams + waiting.streams] == [True, True]
        assert behind.closed

    def test_of_a_layer_that_opens_too_late(self) -> None:
        gate = threading.Event()

        class Late(SeekingLayer):
            def open(self) -> Stream:
                assert gate.wait(5)
                return super().open()

        layer = Late(b"x")
        with ReadAhead([layer]):
            pass
        gate.set()
        wait_for_thread()
        assert [stream.closed for stream in layer.streams] == [True]

    def test_the_thread_goes(self) -> None:
        for _ in range(5):
            with ReadAhead([FakeLayer([bytes(100)] * 100)], 10):
                pass
        wait_for_thread()
        assert "streamerge-read-ahead" not in [thread.name for thread in threading.enumerate()]


def test_a_budget_of_nothing_still_moves() -> None:
    """It waited for room that could never come."""
    with ReadAhead([BytesLayer(b"x" * 1000, chunk=10)], 0) as ahead:
        stream = next(ahead.streams())
        assert b"".join(iter(stream.read, b"")) == b"x" * 1000
