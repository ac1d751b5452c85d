"""The observer: which events come, in which order, and that it can stop a merge."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from streamerge import (
    BytesRead,
    Cancelled,
    ChunkStream,
    Decision,
    DirectorySink,
    Entry,
    EntryDecided,
    EntryRetained,
    Event,
    LayerError,
    LayerFile,
    LayerFinished,
    LayerStarted,
    LinkPromoted,
    MergeFinished,
    MergeStarted,
    Observer,
    Options,
    OutputFlushing,
    Sink,
    Stream,
    Warned,
    merge,
    open_tar,
)
from streamerge.codecs import Codec, encode
from streamerge.parallel.process import can_fork
from tests.support.layers import Layer
from tests.support.merged import BytesLayer, merge_tars


class Recorder(Observer):
    def __init__(self, *, entries: bool = False) -> None:
        self.wants_entries = entries
        self.events: list[Event] = []

    def notify(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


STACK = [
    Layer().dir(b"d").file(b"d/old", b"1" * 700).file(b"d/kept", b"2").tar(),
    Layer().dir(b"d").file(b"d/old", b"3").file(b"d/.wh.gone", b"").tar(),
]


class TestEvents:
    def test_of_a_merge_in_order(self) -> None:
        recorder = Recorder()
        merge_tars(STACK, observer=recorder)
        kinds = [type(event) for event in recorder.events if not isinstance(event, BytesRead)]
        assert kinds == [
            MergeStarted,
            *[LayerStarted, LayerFinished] * 2,
            OutputFlushing,
            MergeFinished,
        ]
        assert [event.layer for event in recorder.of(LayerStarted)] == [1, 0]  # type: ignore[union-attr]
        (finished,) = recorder.of(MergeFinished)
        assert isinstance(finished, MergeFinished)
        assert (finished.report.layers, finished.report.hidden) == (2, 1)

    def test_the_output_is_the_same_for_every_observer(self) -> None:
        assert (
            merge_tars(STACK)
            == merge_tars(STACK, observer=Recorder())
            == merge_tars(STACK, observer=Recorder(entries=True))
        )

    def test_of_entries_come_only_if_asked_for(self) -> None:
        quiet, loud = Recorder(), Recorder(entries=True)
        merge_tars(STACK, observer=quiet)
        merge_tars(STACK, observer=loud)
        assert not quiet.of(EntryDecided)
        decided = [
            (event.layer, event.path, event.decision, event.hidden_by)
            for event in loud.events
            if isinstance(event, EntryDecided)
        ]
        assert decided == [
            (1, b"d", Decision.KEEP, None),
            (1, b"d/old", Decision.KEEP, None),
            (1, b"d/.wh.gone", Decision.DROP, None),
            (0, b"d", Decision.DROP, 1),
            (0, b"d/old", Decision.HIDE, 1),
            (0, b"d/kept", Decision.KEEP, None),
        ]

    def test_of_a_warning_know_layer_and_path(self) -> None:
        recorder = Recorder()
        merge_tars([Layer().file(b"a", b"x").tar(), Layer().file(b"a/b", b"y").tar()], observer=recorder)
        (warned,) = recorder.of(Warned)
        assert isinstance(warned, Warned)
        assert (warned.layer, warned.path) == (0, b"a")

    def test_of_promoted_and_retained(self) -> None:
        recorder = Recorder(entries=True)
        older = Layer().file(b"f", b"body").link(b"link", b"f").tar()
        merge_tars([older, Layer().whiteout(b"f").tar()], observer=recorder)
        assert recorder.of(LinkPromoted) == [LinkPromoted(0, b"link")]
        assert recorder.of(EntryRetained) == [EntryRetained(0, b"link", 0)]

    @pytest.mark.parametrize("processes", [False, True])
    @pytest.mark.parametrize("codec", [Codec.NONE, Codec.GZIP, Codec.ZSTD])
    def test_of_bytes_reach_the_stored_size(self, tmp_path: Path, codec: Codec, processes: bool) -> None:
        path = tmp_path / "layer"
        encoder = encode(codec)
        path.write_bytes(encoder.write(Layer().file(b"f", os.urandom(3 << 20)).tar()) + encoder.finish())
        recorder = Recorder()
        merge([LayerFile(path)], open_tar(tmp_path / "out.tar"), Options(processes=processes), recorder)
        read = [event.read for event in recorder.events if isinstance(event, BytesRead)]
        size = path.stat().st_size
        assert read == sorted(read, key=lambda value: value or 0)
        assert read[-1] == size
        assert {event.total for event in recorder.events if isinstance(event, BytesRead)} == {size}


class Endless(BytesLayer):
    """A layer whose one file never ends."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.reopenable = False

    def open(self) -> Stream:
        return ChunkStream(self._endless())

    def _endless(self) -> Iterable[bytes]:
        yield Layer().file(b"huge", b"x" * (64 << 20)).tar()[:1024]
        while True:
            yield bytes(1 << 16)


class Stalled(Endless):
    """A layer of which nothing comes any more."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def _endless(self) -> Iterable[bytes]:
        yield Layer().file(b"huge", b"x" * (64 << 20)).tar()[:1024]
        self.released.wait(30)


def waited_for_a_processor() -> float:
    """Return for how many seconds this thread could run but other programs had the processors (proc(5), schedstat)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Stop(Observer):
    """Cancels after some time, and knows how much of the time since then this program had."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._waited = waited_for_a_processor()

    def cancelled(self) -> bool:
        if time.monotonic() < self._at:
            self._waited = waited_for_a_processor()
            return False
        return True

    def took(self) -> float:
        """Return the seconds since the time to cancel, without those that other programs took."""
        return time.monotonic() - self._at - (waited_for_a_processor() - self._waited)


class TestCancelling:
    @pytest.mark.parametrize("layer", [Endless, Stalled])
    @pytest.mark.parametrize("name", ["out.tar", "out.tar.gz"])
    def test_ends_a_large_layer_within_100_ms(self, tmp_path: Path, layer: Callable[[], Endless], name: str) -> None:
        took = []
        for _ in range(20):  # other programs may keep the disk or other threads waiting, but not each time
            endless, stop = layer(), Stop(0.1)
            with pytest.raises(Cancelled):
                merge([endless], open_tar(tmp_path / name), observer=stop)
            took.append(stop.took())
            assert not list(tmp_path.iterdir())
            if isinstance(endless, Stalled):
                endless.released.set()
            if took[-1] < 0.1:
                return
        pytest.fail(f"seconds from cancelling to the end: {took}")

    @pytest.mark.skipif(not can_fork(), reason="this system does not fork")
    @pytest.mark.parametrize("kind", ["tar", "directory"])
    def test_ends_decoder_processes_and_workers(self, tmp_path: Path, kind: str) -> None:
        paths = []
        for number in range(3):
            path = tmp_path / f"{number}.tar.gz"
            encoder = encode(Codec.GZIP, 1)
            body = Layer().file(b"f%d" % number, bytes(96 << 20)).tar()
            path.write_bytes(encoder.write(body) + encoder.finish())
            paths.append(path)
        output = tmp_path / "output"
        output.mkdir()
        sink = open_tar(output / "o.tar", workers=1) if kind == "tar" else DirectorySink(output / "o", workers=2)
        stop = Stop(0.05)
        with pytest.raises(Cancelled):
            merge([LayerFile(path) for path in paths], sink, Options(processes=True), stop)
        assert not list(output.iterdir())

    def test_while_workers_copy_a_plain_layer(self, tmp_path: Path) -> None:
        path = tmp_path / "big.tar"
        path.write_bytes(Layer().file(b"f", bytes(64 << 20)).tar())
        output = tmp_path / "output"
        output.mkdir()
        stop = Stop(0.0)
        with pytest.raises(Cancelled):
            merge([LayerFile(path)], open_tar(output / "o.tar", workers=1), observer=stop)
        assert not list(output.iterdir())

    def test_an_exception_from_an_event_passes_and_leaves_nothing(self, tmp_path: Path) -> None:
        class Angry(Observer):
            def notify(self, event: Event) -> None:
                if isinstance(event, LayerStarted) and event.layer == 0:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            merge([BytesLayer(data) for data in STACK], open_tar(tmp_path / "o.tar"), observer=Angry())
        assert not list(tmp_path.iterdir())

    def test_is_not_an_error_of_a_layer(self) -> None:
        with pytest.raises(Cancelled) as caught:
            merge_tars(STACK, observer=Stop(0))
        assert caught.value.layer is None


class TestAUsersSink:
    def test_needs_only_the_documented_members(self) -> None:
        class Paths:
            takes = Sink.takes

            def __init__(self) -> None:
                self.paths: list[bytes] = []
                self.finished = False

            def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
                self.paths.append(entry.path)

            def restart(self) -> None:
                raise AssertionError

            def finish(self) -> None:
                self.finished = True

            def abort(self) -> None:
                raise AssertionError

            def write(self, *_: object) -> None:
                raise AssertionError("a method that happens to have this name is not called")

            write_run = write_files = fetch = enter_directory = prepare = set_check = write

        sink = Paths()
        merge([BytesLayer(data) for data in STACK], sink)
        assert (sink.paths, sink.finished) == ([b"d", b"d/old", b"d/kept", b""], True)


class TestBlocks:
    def test_leaving_without_a_merge_leaves_nothing(self, tmp_path: Path) -> None:
        with open_tar(tmp_path / "a.tar"), DirectorySink(tmp_path / "a"):
            assert len(list(tmp_path.iterdir())) == 2
        assert not list(tmp_path.iterdir())

    def test_leaving_after_a_merge_keeps_the_output(self, tmp_path: Path) -> None:
        with open_tar(tmp_path / "a.tar") as tar, DirectorySink(tmp_path / "a", fsync=False) as directory:
            merge([BytesLayer(data) for data in STACK], tar)
            merge([BytesLayer(data) for data in STACK], directory)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.tar"]

    def test_leaving_with_an_error_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(LayerError), open_tar(tmp_path / "a.tar") as sink:
            merge([BytesLayer(STACK[0][:600])], sink)
        assert not list(tmp_path.iterdir())

    def test_a_file_object_is_cut_back_where_it_can_seek(self) -> None:
        file = io.BytesIO(b"before")
        file.seek(0, io.SEEK_END)
        with pytest.raises(LayerError):
            merge([BytesLayer(STACK[0][:600])], open_tar(file))
        assert file.getvalue() == b"before"
        merge([BytesLayer(data) for data in STACK], open_tar(file))
        assert file.getvalue() == b"before" + merge_tars(STACK)
