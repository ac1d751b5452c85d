"""The decoder process: same bytes, same errors, no more memory than granted, and it ends with its parent."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamerge.errors import FormatError, LayerError
from streamerge.parallel.decoder import SLOT, DecoderStream, Slots
from streamerge.parallel.process import ForkedProcess, can_fork
from streamerge.streams import CHUNK, ChunkStream

pytestmark = pytest.mark.skipif(not can_fork(), reason="needs Linux's fork")


class Reading:
    """A DecoderStream whose free slots are always granted again."""

    def __init__(self, chunks: Iterable[bytes], budget: int = 4 << 20) -> None:
        self.slots = Slots(budget)
        self.stream = DecoderStream(ChunkStream(chunks), self.slots, self.grant)
        self.grant()

    def grant(self) -> None:
        if self.slots.free:
            self.stream.grant(len(self.slots.free))

    def __enter__(self) -> DecoderStream:
        return self.stream

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        assert sorted(self.slots.free) == list(range(len(self.slots.free)))


def chunks_of(*chunks: bytes | BaseException) -> Iterator[bytes]:
    for chunk in chunks:
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk


class TestBytes:
    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, SLOT // 3)), max_size=12))
    def test_all_of_them_in_order(self, parts: list[tuple[int, int]]) -> None:
        chunks = [bytes([value]) * size for value, size in parts]
        with Reading(chunks, 0) as stream:
            assert b"".join(iter(stream.read, b"")) == b"".join(chunks)
            assert stream.read() == b""

    def test_chunks_end_where_blocks_do(self) -> None:
        """A header that is cut in two would cost a copy of the chunk."""
        with Reading([bytes(1000)] * 3000) as stream:
            sizes = [len(chunk) for chunk in iter(stream.read, b"")]
        assert sizes[:-1] == [CHUNK] * (3_000_000 // CHUNK)

    def test_skipping(self) -> None:
        with Reading([b"a" * SLOT, b"b" * SLOT, b"c"]) as stream:
            assert stream.skip(2 * SLOT) == 2 * SLOT
            assert stream.read() == b"c"
            assert stream.skip(1) == 0


class TestBounds:
    def test_no_more_than_its_slots(self) -> None:
        """The decoder process fills the slots it has been granted, then waits."""
        slots = Slots(4 * SLOT)
        stream = DecoderStream(ChunkStream(itertools.repeat(b"x" * CHUNK)), slots, lambda: None)
        stream.grant(3)
        time.sleep(0.2)
        assert slots.memory[:] == bytes(SLOT) + b"x" * 3 * SLOT
        stream.close()

    @pytest.mark.parametrize(("budget", "count"), [(0, 2), (5 * SLOT + 7, 5), (1 << 40, 255)])
    def test_slots_for_a_budget(self, budget: int, count: int) -> None:
        assert list(Slots(budget).free) == list(range(count))


class TestErrors:
    def test_arrive_unchanged(self) -> None:
        error = FormatError("bad").at(path=b"a\xff", offset=512, index=3)
        with Reading(chunks_of(b"x", error)) as stream, pytest.raises(FormatError) as caught:
            list(iter(stream.read, b""))
        assert vars(caught.value) == vars(error)

    def test_a_process_that_is_killed(self) -> None:
        with Reading(itertools.repeat(b"x")) as stream:
            os.kill(stream._process._pid, signal.SIGKILL)
            with pytest.raises(LayerError, match="the decoder process was killed"):
                list(iter(stream.read, b""))

    def test_an_error_that_cannot_be_pickled_ends_it_too(self) -> None:
        class Local(Exception):
            pass

        with Reading(chunks_of(Local())) as stream, pytest.raises(LayerError, match="was killed"):
            stream.read()


class TestTheProcess:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
    def test_leaves_a_terminals_signals_to_its_parent(self, number: signal.Signals) -> None:
        with Reading(itertools.repeat(b"x" * CHUNK)) as stream:
            assert stream.read()
            os.kill(stream._process._pid, number)
            for _ in range(50):
                assert stream.read()
            assert stream.is_alive

    def test_ends_when_its_parent_is_killed(self) -> None:
        script = (
            "import itertools, os, signal\n"
            "from streamerge.parallel.decoder import DecoderStream, Slots\n"
            "from streamerge.streams import ChunkStream\n"
            "slots = Slots(0)\n"
            "stream = DecoderStream(ChunkStream(itertools.repeat(b'x' * 1000)), slots, lambda: None)\n"
            "stream.grant(2)\n"
            "stream.read()\n"
            "print(stream._process._pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        parent = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
        pid = int(parent.stdout)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and is_alive(pid):
            time.sleep(0.01)
        assert not is_alive(pid)

    def test_does_nothing_but_its_work(self, capfd: pytest.CaptureFixture[str]) -> None:
        """No exit handler and no flush: output buffered in the parent is written once, by the parent."""
        sys.stdout.write("once")
        child = ForkedProcess(lambda: None)
        child.wait()
        sys.stdout.flush()
        assert capfd.readouterr().out == "once"
        assert not child.is_alive

    def test_an_unhandled_exception_ends_it(self) -> None:
        child = ForkedProcess(lambda: sys.exit(7))
        child.wait()
        assert not child.is_alive


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False
