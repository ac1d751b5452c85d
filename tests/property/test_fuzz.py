"""Hostile bytes: whatever a layer holds, only a StreamergeError comes out, and soon.

Each test takes a second or so. ``--fuzz-minutes N`` goes on with fresh seeds for N minutes a test, and prints
them; ``@seed(N)`` on the inner test brings one back.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from streamerge import Stream, StreamergeError, TarSink, Whiteouts, merge
from streamerge.codecs import HEAD_SIZE, Codec, decode, detect, encode
from streamerge.entry import Kind
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from tests.support.layers import Dialect, Layer
from tests.support.merged import BytesLayer, BytesOutput
from tests.support.merged import options as merged_options
from tests.support.strategies import mutated, stacks

SECONDS = 20
"""What one example may take at most; most take milliseconds."""

Fuzz = Callable[[Callable[[st.DataObject], None]], None]


class EncodedLayer(BytesLayer):
    """A layer in memory that is decoded as its first bytes say, like one from a file."""

    def open(self) -> Stream:
        chunks = self._chunks()
        codec = detect(self._data[:HEAD_SIZE])
        return super().open() if codec is Codec.NONE else ChunkStream(decode(codec, chunks))


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Runs a test by Hypothesis: once, or over and over with seeds of its own for as long as asked."""
    minutes: float = request.config.getoption("--fuzz-minutes")

    def run(test: Callable[[st.DataObject], None]) -> None:
        if not minutes:
            few = settings(max_examples=settings().max_examples // 3)
            few(given(st.data())(_bounded(test)))()
            return
        deadline, number = time.monotonic() + 60 * minutes, time.time_ns()
        while time.monotonic() < deadline:
            number += 1
            print(f"{request.node.name}: @seed({number})", flush=True)
            checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
            more = settings(max_examples=500, database=None, deadline=None, suppress_health_check=checks)
            more(seed(number)(given(st.data())(_bounded(test))))()

    return run


def _bounded(test: Callable[[st.DataObject], None]) -> Callable[[st.DataObject], None]:
    def bounded(data: st.DataObject) -> None:
        with _at_most(SECONDS):
            test(data)

    return bounded


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def survives(layers: Sequence[bytes], data: st.DataObject) -> None:
    """Merge in a random way; what is no error must be a right tar."""
    options = merged_options(
        whiteouts=data.draw(st.sampled_from(list(Whiteouts))),
        rescan=data.draw(st.booleans()),
        plain=data.draw(st.booleans()),
        spool_memory=data.draw(st.sampled_from([0, 1 << 20])),
    )
    chunk = data.draw(st.sampled_from([1 << 16, 512, 1000]))
    reopenable, output = data.draw(st.booleans()), BytesOutput()
    stack = [EncodedLayer(layer, name="fuzz", chunk=chunk, reopenable=reopenable) for layer in layers]
    error = None
    try:
        merge(stack, TarSink(output), options)
    except StreamergeError as caught:
        error = caught
    if error is None:
        assert output.data is not None
        keeps_the_promise(output.data)
    else:
        assert (output.data, output.discarded) == (None, True)
        assert str(error).isprintable()


def keeps_the_promise(data: bytes) -> None:
    """Each path once, parents and targets first, a root: read by our own reader, as damage may well pass on."""
    kinds: dict[bytes, Kind] = {}
    for entry in iter(TarReader(ChunkStream([data])).next_entry, None):
        parent = entry.path.rpartition(b"/")[0]
        assert entry.path not in kinds
        assert not parent or kinds[parent] is Kind.DIRECTORY
        assert entry.kind is not Kind.HARDLINK or kinds[entry.target] is not Kind.DIRECTORY
        kinds[entry.path] = entry.kind
    assert kinds[b""] is Kind.DIRECTORY


def encoded(codec: Codec, data: bytes) -> bytes:
    if codec is Codec.NONE:
        return data
    encoder = encode(codec)
    return encoder.write(data) + encoder.finish()


def test_random_bytes(fuzz: Fuzz) -> None:
    def check(data: st.DataObject) -> None:
        survives(data.draw(st.lists(st.binary(max_size=2000), max_size=3)), data)

    fuzz(check)


@pytest.mark.parametrize("codec", Codec)
def test_random_bytes_behind_a_magic(fuzz: Fuzz, codec: Codec) -> None:
    head = encoded(codec, Layer().file(b"a").tar())[:20]

    def check(data: st.DataObject) -> None:
        survives([head[: data.draw(st.integers(0, 20))] + data.draw(st.binary(max_size=2000))], data)

    fuzz(check)


@pytest.mark.parametrize("dialect", Dialect)
def test_damaged_layers(fuzz: Fuzz, dialect: Dialect) -> None:
    def check(data: st.DataObject) -> None:
        layers = [layer.tar(dialect) for layer in data.draw(stacks(valid=False, dialect=dialect, max_layers=3))]
        which = data.draw(st.integers(0, len(layers) - 1))
        layers[which] = data.draw(mutated(layers[which]))
        survives(layers, data)

    fuzz(check)


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec is not Codec.NONE])
def test_damaged_compression(fuzz: Fuzz, codec: Codec) -> None:
    def check(data: st.DataObject) -> None:
        layers = [layer.tar() for layer in data.draw(stacks(max_layers=2))]
        layers[0] = data.draw(mutated(encoded(codec, layers[0])))
        survives(layers, data)

    fuzz(check)


@pytest.mark.parametrize("codec", Codec)
def test_damaged_layers_compressed(fuzz: Fuzz, codec: Codec) -> None:
    def check(data: st.DataObject) -> None:
        (layer,) = data.draw(stacks(max_layers=1))
        survives([encoded(codec, data.draw(mutated(layer.tar())))], data)

    fuzz(check)


def test_headers_with_right_sums(fuzz: Fuzz) -> None:
    """Damage that a checksum would find, made good by a new checksum: it gets further in."""

    def check(data: st.DataObject) -> None:
        dialect = data.draw(st.sampled_from([Dialect.GNU, Dialect.PAX]))
        layers = [bytearray(layer.tar(dialect)) for layer in data.draw(stacks(max_layers=2, dialect=dialect))]
        layer = layers[data.draw(st.integers(0, len(layers) - 1))]
        for _ in range(data.draw(st.integers(1, 4))):
            start = 512 * data.draw(st.integers(0, len(layer) // 512 - 1))
            if not any(layer[start : start + 512]):
                continue
            field = data.draw(st.sampled_from([(0, 100), (100, 148), (156, 157), (157, 257), (257, 265), (329, 512)]))
            at = start + data.draw(st.integers(field[0], field[1] - 1))
            layer[at] = data.draw(st.sampled_from([0, 0x20, 0x2E, 0x2F, 0x30, 0x31, 0x35, 0x4C, 0x78, 0x80, 0xFF]))
            layer[start + 148 : start + 156] = b" " * 8
            layer[start + 148 : start + 156] = b"%06o\0 " % sum(layer[start : start + 512])
        survives([bytes(layer) for layer in layers], data)

    fuzz(check)


def test_the_time_is_bounded() -> None:
    """The alarm works: a test of the test."""
    with pytest.raises(TimeoutError), _at_most(1):
        time.sleep(5)
