"""Reading ahead: order, bounds, errors, and nothing left open or running."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from streamerge.errors import LayerError
from streamerge.interfaces import Layer, Stream
from streamerge.parallel.decoder import DecoderStream
from streamerge.parallel.readahead import ReadAhead, ThreadStream
from streamerge.streams import ChunkStream, ReadAheadBy
from tests.support.descriptors import descriptors, still_open
from tests.support.merged import BytesLayer


class FakeLayer(Layer):
    """A layer of given chunks; an exception among them is raised."""

    name = "fake"

    def __init__(
        self,
        chunks: Iterable[bytes | BaseException],
        read_ahead: ReadAheadBy = ReadAheadBy.THREAD,
        *,
        reopenable: bool = True,
    ) -> None:
        self.reopenable = reopenable
        self._chunks = chunks
        self._read_ahead = read_ahead
        self.opened = 0
        self.given = 0
        self.closed = False

    def open(self) -> Stream:
        self.opened += 1
        return ChunkStream(self._run(), self._read_ahead)

    def _run(self) -> Iterator[bytes]:
        try:
            for chunk in self._chunks:
                if isinstance(chunk, BaseException):
                    raise chunk
                self.given += len(chunk)
                yield chunk
        finally:
            self.closed = True


class SeekingLayer(Layer):
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
    @pytest.mark.parametrize("budget", [0, 1, 5, 1 << 20])
    @pytest.mark.parametrize("processes", [False, True])
    def test_each_layer_in_turn(self, budget: int, processes: bool) -> None:
        layers: list[Layer] = [
            layer
            for read_ahead in ReadAheadBy
            for layer in (
                FakeLayer([b"a", b"", b"b"], read_ahead),
                FakeLayer([], read_ahead),
                FakeLayer([b"c" * 10] * 10, read_ahead),
                SeekingLayer(b"d"),
            )
        ]
        with ReadAhead(layers, budget, processes=processes) as ahead:
            assert [all_of(stream) for stream in ahead.streams()] == [b"ab", b"", b"c" * 100, b"d"] * 3
        wait_for_thread()

    def test_a_stream_that_seeks_is_handed_over(self) -> None:
        layer = SeekingLayer(b"x")
        with ReadAhead([layer]) as ahead:
            for stream in ahead.streams():
                assert stream is layer.streams[0]
            assert layer.streams[0].closed

    def test_no_layers(self) -> None:
        with ReadAhead([]) as ahead:
            assert list(ahead.streams()) == []


class TestWhoReads:
    @pytest.mark.parametrize(
        ("read_ahead", "processes", "kind"),
        [
            (ReadAheadBy.NOTHING, True, ChunkStream),
            (ReadAheadBy.THREAD, True, ThreadStream),
            (ReadAheadBy.PROCESS, True, DecoderStream),
            (ReadAheadBy.PROCESS, False, ThreadStream),
        ],
    )
    def test_as_the_stream_says_and_the_caller_allows(
        self, read_ahead: ReadAheadBy, processes: bool, kind: type
    ) -> None:
        with ReadAhead([FakeLayer([b"a"], read_ahead)], processes=processes) as ahead:
            assert [type(stream) for stream in ahead.streams()] == [kind]
        wait_for_thread()

    def test_a_stream_of_others_is_read_by_a_thread(self) -> None:
        """It need not say who should read it."""

        class Bare(Stream):
            def __init__(self) -> None:
                self._inner = ChunkStream([b"x"])

            def read(self) -> bytes:
                return self._inner.read()

            def skip(self, size: int) -> int:
                return self._inner.skip(size)

            def close(self) -> None:
                self._inner.close()

        class Other(Layer):
            name, reopenable = "other", True

            def open(self) -> Stream:
                return Bare()

        with ReadAhead([Other()], processes=True) as ahead:
            assert [(type(stream), all_of(stream)) for stream in ahead.streams()] == [(ThreadStream, b"x")]
        wait_for_thread()


class TestAhead:
    def test_the_next_layer_is_read_meanwhile(self) -> None:
        layers = [FakeLayer([b"a"]), FakeLayer([b"b"])]
        with ReadAhead(layers) as ahead:
            next(ahead.streams())
            deadline = time.monotonic() + 5
            while not layers[1].given and time.monotonic() < deadline:
                time.sleep(0.001)
            assert layers[1].given == 1

    @pytest.mark.parametrize("processes", [False, True])
    def test_two_layers_at_once_and_no_more(self, processes: bool) -> None:
        endless = [FakeLayer(itertools.repeat(b"x" * 1000), ReadAheadBy.PROCESS) for _ in range(4)]
        with ReadAhead(endless, 2 << 20, processes=processes) as ahead:
            next(ahead.streams()).read()
            assert [layer.opened for layer in endless] == [1, 1, 0, 0]
        wait_for_thread()

    def test_on_behind_layers_that_nobody_need_read(self) -> None:
        last = FakeLayer([b"b"])
        layers: list[Layer] = [FakeLayer([b"a"], ReadAheadBy.PROCESS), *(SeekingLayer() for _ in range(3)), last]
        with ReadAhead(layers, processes=True) as ahead:
            next(ahead.streams())
            assert last.opened

    def test_but_not_without_end(self) -> None:
        """Each of a thousand plain files would take a descriptor."""
        layers = [SeekingLayer() for _ in range(100)]
        with ReadAhead(layers) as ahead:
            next(ahead.streams())
            assert sum(len(layer.streams) for layer in layers) <= 8

    def test_a_pipe_is_opened_ahead_by_a_thread(self) -> None:
        """Found by a test of signals: we wrote to one who first wanted to write to us. Nor may we wait for the opening:
        whoever fills two FIFOs one after the other has us wait for the second while he waits for the first.
        """
        gate = threading.Event()

        class Late(FakeLayer):
            def open(self) -> Stream:
                assert gate.wait(5)
                return super().open()

        with ReadAhead([FakeLayer([b"a"]), Late([b"b"], reopenable=False), FakeLayer([b"c"])]) as ahead:
            streams = ahead.streams()
            first = next(streams)
            assert all_of(first) == b"a"
            gate.set()
            assert [all_of(stream) for stream in streams] == [b"b", b"c"]
        wait_for_thread()


class TestBounds:
    def test_no_more_than_the_budget_waits(self) -> None:
        layer = FakeLayer([bytes(1000)] * 100)
        with ReadAhead([layer], 10_000) as ahead:
            stream = next(ahead.streams())
            read = 0
            for _ in range(10):
                read += len(stream.read())
                time.sleep(0.005)
                assert layer.given <= read + 5000 + 2 * 1000
            assert layer.given > read  # it does run ahead
        wait_for_thread()
        assert layer.closed

    def test_most_of_the_memory_is_for_the_next_layer(self) -> None:
        endless = [FakeLayer(itertools.repeat(bytes(1 << 18)), ReadAheadBy.PROCESS) for _ in range(2)]
        with ReadAhead(endless, 16 << 20, processes=True) as ahead:
            stream = next(ahead.streams())
            for _ in range(200):
                stream.read()
            at_hand, following = ahead._open
            assert isinstance(at_hand, DecoderStream)
            assert isinstance(following, DecoderStream)
            assert (len(at_hand.held), len(following.held)) == (4, 12)


class TestErrors:
    @pytest.mark.parametrize("error", [LayerError("x"), MemoryError("x"), KeyboardInterrupt("x")])
    @pytest.mark.parametrize("read_ahead", ReadAheadBy)
    def test_are_raised_where_the_merge_meets_them(self, error: BaseException, read_ahead: ReadAheadBy) -> None:
        layers = [FakeLayer([b"a"]), FakeLayer([b"b", error], read_ahead)]
        with ReadAhead(layers, processes=True) as ahead:
            streams = ahead.streams()
            assert all_of(next(streams)) == b"a"
            stream = next(streams)
            if read_ahead is not ReadAheadBy.PROCESS:  # where what is in a slot goes with it
                assert stream.read() == b"b"
            with pytest.raises(type(error), match="x"):
                all_of(stream)
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
        wait_for_thread()


class TestNothingIsLeft:
    """Found here: a plain file's descriptor stayed open after a merge that failed in its middle."""

    @pytest.mark.parametrize("read_ahead", ReadAheadBy)
    def test_after_a_failure_in_the_middle(self, read_ahead: ReadAheadBy) -> None:
        given, waiting, behind = SeekingLayer(b"a"), SeekingLayer(b"b"), FakeLayer([b"c"] * 5, read_ahead)
        before = descriptors()
        with pytest.raises(RuntimeError), ReadAhead([given, waiting, behind], 2, processes=True) as ahead:  # noqa: PT012
            streams = ahead.streams()
            next(streams)
            assert behind.opened
            raise RuntimeError
        wait_for_thread()
        assert [stream.closed for stream in given.streams + waiting.streams] == [True, True]
        assert still_open() == before
        assert_no_children()

    def test_of_a_layer_that_opens_too_late(self) -> None:
        gate = threading.Event()

        class Late(FakeLayer):
            def open(self) -> Stream:
                assert gate.wait(5)
                return super().open()

        layer = Late([b"x"], reopenable=False)
        with ReadAhead([layer]) as ahead:
            next(ahead.streams())
        gate.set()
        wait_for_thread()
        assert (layer.opened, layer.given) == (1, 1)

    @pytest.mark.parametrize("processes", [False, True])
    def test_whoever_reads_goes(self, processes: bool) -> None:
        for _ in range(5):
            with ReadAhead([FakeLayer([bytes(100)] * 100, ReadAheadBy.PROCESS)], 10, processes=processes) as ahead:
                next(ahead.streams())
        wait_for_thread()
        assert "streamerge-read-ahead" not in [thread.name for thread in threading.enumerate()]
        assert_no_children()


def assert_no_children() -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_budget_of_nothing_still_moves() -> None:
    """It waited for room that could never come."""
    with ReadAhead([BytesLayer(b"x" * 1000, chunk=10)], 0) as ahead:
        stream = next(ahead.streams())
        assert b"".join(iter(stream.read, b"")) == b"x" * 1000


def test_without_more_processes_threads_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ulimit -u``, or a container's limit of processes."""

    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    before = descriptors()
    layers = [FakeLayer([b"a"], ReadAheadBy.PROCESS), FakeLayer([b"b"], ReadAheadBy.PROCESS)]
    with ReadAhead(layers, processes=True) as ahead:
        assert [(type(stream), all_of(stream)) for stream in ahead.streams()] == [
            (ThreadStream, b"a"),
            (ThreadStream, b"b"),
        ]
    wait_for_thread()
    assert still_open() == before
