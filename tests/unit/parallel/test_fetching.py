"""What lies in plain files is fetched by workers, to tars and to directories: the same comes of it as without them."""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamerge import DirectorySink, Entry, LayerFile, Run, SinkError, StreamergeError, TarSink, merge
from streamerge.fileio import FileHandle, no_check
from streamerge.parallel import pool
from streamerge.parallel.pool import ENOUGH, Pool
from streamerge.parallel.process import can_fork
from streamerge.sinks import tar
from streamerge.sinks.directory import sink as directory
from streamerge.sinks.output import FileOutput, PipeOutput
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from tests.support.descriptors import descriptors, still_open
from tests.support.layers import SECOND, Dialect, Layer
from tests.support.merged import BytesLayer, merge_tars
from tests.support.merged import options as merged_options
from tests.support.strategies import stacks
from tests.support.tree import differences, from_directory

pytestmark = pytest.mark.skipif(not can_fork(), reason="needs Linux's fork")

BIG = os.urandom(3 << 20)


def base() -> Layer:
    """Of all that the hot loop hands on, and of what it leaves to others, some between runs."""
    layer = Layer().dir(b"d").dir(b"d/e", mode=0o2755).symlink(b"link", b"d/e").file(b"d/big", BIG)
    for number in range(1500):
        layer = layer.file(b"d/e/%04d" % number, BIG[number : number + number * 3], mode=0o600 + number % 8)
        if number % 100 == 50:
            layer = layer.symlink(b"d/e/s%d" % number, b"%d" % number, uid=number, gid=7, mtime=number * SECOND)
            layer = layer.dir(b"d/%d" % number, mode=0o1700 + number % 8, uid=9, gid=number)
            layer = layer.file(b"d/%d/x" % number, b"x", xattrs={b"user.a": b"b"})
        if number % 300 == 10:
            layer = layer.link(b"d/h%d" % number, b"d/e/%04d" % number).file(b"m%d" % number, BIG[: 1 << 18])
    return layer.file(b"last", BIG[:700_001])


def newer() -> Layer:
    layer = Layer().dir(b"d").dir(b"d/e")
    for number in range(0, 1500, 7):
        layer = layer.file(b"d/e/%04d" % number, b"new") if number % 2 else layer.whiteout(b"d/e/%04d" % number)
    return layer


@pytest.fixture(scope="module")
def stack() -> list[bytes]:
    return [base().tar(), newer().tar()]


@pytest.fixture
def layers(tmp_path: Path, stack: list[bytes]) -> list[LayerFile]:
    return files(tmp_path, stack)


def files(directory: Path, stack: list[bytes]) -> list[LayerFile]:
    paths = [directory / f"{number}.tar" for number in range(len(stack))]
    for path, data in zip(paths, stack, strict=True):
        path.write_bytes(data)
    return [LayerFile(path) for path in paths]


def entries_of(tar: bytes) -> list[Entry]:
    return list(iter(TarReader(ChunkStream([tar])).next_entry, None))


class Counting:
    """Counts what a pool was given to fetch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given = 0
        real = Pool.fetch

        def fetch(pool: Pool, file: FileHandle, extents: list[int], size: int, to: int = 0) -> None:
            self.given += size
            real(pool, file, extents, size, to)

        monkeypatch.setattr(Pool, "fetch", fetch)


def change_before_fetching(
    monkeypatch: pytest.MonkeyPatch, layer: LayerFile, change: tuple[bytes, bytes], *, helped: bool
) -> None:
    """Change some bytes of a layer's file between when they are looked at and when they are fetched."""
    real = Pool.fetch
    data = Path(layer.path).read_bytes()
    assert data.count(change[0]) == 1
    at = data.index(change[0])

    def fetch(pool: Pool, file: FileHandle, extents: list[int], size: int, to: int = 0) -> None:
        pairs = zip(extents[::2], extents[1::2], strict=True)
        if file.size == len(data) and any(start <= at < start + many for start, many in pairs):
            with open(layer.path, "r+b") as changed:
                changed.seek(at)
                changed.write(change[1])
        if helped:
            real(pool, file, extents, size, to)
        else:
            pool._work.fetch(file.fd, extents, to, no_check)

    monkeypatch.setattr(Pool, "fetch", fetch)


def everything(directory: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.lstat().st_size) for path in (directory, *directory.rglob("*")))


@pytest.fixture(params=[1, ENOUGH], ids=["all is fetched by workers", "little is"])
def enough(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (pool, directory, tar):
            patch.setattr(module, "ENOUGH", request.param)
        yield


@st.composite
def everyday_layers(draw: st.DrawFn) -> Layer:
    """What the hot loop knows, and hard links between: listed directories, clean names, no PAX records."""
    layer = Layer().dir(b"d").dir(b"d/e")
    made: list[bytes] = []
    names = st.sampled_from([b"d/a", b"d/b", b"d/e/a", b"d/e/b", b"d/e/c", b"top"])
    for path in draw(st.lists(names, unique=True)):
        kind = draw(st.sampled_from(["file", "file", "link", "symlink", "whiteout"]))
        if kind == "file":
            layer = layer.file(path, BIG[: draw(st.sampled_from([0, 1, 512, 700, 200_000]))])
        elif kind == "link" and made:
            layer = layer.link(path, draw(st.sampled_from(made)))
        elif kind == "symlink":
            layer = layer.symlink(path, b"x")
        else:
            layer = layer.whiteout(path)
            continue
        made.append(path)
    return layer


@pytest.mark.slow
@pytest.mark.usefixtures("enough")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.one_of(stacks(dialect=Dialect.GNU), st.lists(everyday_layers(), min_size=1, max_size=3)))
def test_any_stack_from_files(stack: list[Layer]) -> None:
    """With workers or without: to a directory what a merge without the hot loop gives, to a tar the same bytes."""
    tars = [layer.tar(Dialect.GNU) for layer in stack]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        layers = files(place, tars)
        merge(layers, TarSink(FileOutput(str(place / "out"), fsync=False), workers=1))
        assert (place / "out").read_bytes() == merge_tars(tars)
        merge(layers, DirectorySink(str(place / "helped"), workers=2, fsync=False))
        merge(layers, DirectorySink(str(place / "plain"), fsync=False), merged_options(plain=True))
        assert differences(from_directory(place / "helped"), from_directory(place / "plain")) == []


def test_a_compressed_layer_after_all_began_again(tmp_path: Path) -> None:
    """The plain layer that made it begin again is not the one that offsets are in any more."""
    older = base().file(b"d/e/0003", b"again").tar()
    newer = Layer().dir(b"d").file(b"d/new", BIG[:5000]).file(b"d/newer", BIG[:9000]).tar()
    (tmp_path / "newer.tar.gz").write_bytes(gzip.compress(newer))
    layers = [*files(tmp_path, [older]), LayerFile(tmp_path / "newer.tar.gz")]
    merge(layers, DirectorySink(str(tmp_path / "root"), workers=1, fsync=False))
    assert (tmp_path / "root/d/newer").read_bytes() == BIG[:9000]
    merge(layers, TarSink(FileOutput(str(tmp_path / "out"), fsync=False), workers=1))
    assert (tmp_path / "out").read_bytes() == merge_tars([older, newer])


class TestTar:
    def test_a_layer_that_changes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        layer = Layer().dir(b"d")
        for number in range(1500):
            layer = layer.file(b"d/%04d" % number, BIG[:900])
        layers = files(tmp_path, [layer.tar()])
        change_before_fetching(monkeypatch, layers[0], (b"d/0500", b"../ev!"), helped=True)
        with pytest.raises(StreamergeError, match="has changed while it was being merged"):
            merge(layers, TarSink(FileOutput(str(tmp_path / "out.tar"), fsync=False), workers=1))
        assert not (tmp_path / "out.tar").exists()

    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_same_bytes(
        self, layers: list[LayerFile], stack: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
    ) -> None:
        counting = Counting(monkeypatch)
        out = tmp_path / "out.tar"
        merge(layers, TarSink(FileOutput(str(out), fsync=False), workers=workers))
        assert out.read_bytes() == merge_tars(stack)
        assert counting.given > len(BIG)

    def test_to_a_pipe(self, layers: list[LayerFile], stack: list[bytes], tmp_path: Path) -> None:
        out = os.open(tmp_path / "out.tar", os.O_WRONLY | os.O_CREAT)
        merge(layers, TarSink(PipeOutput(out, "out", owned=True), workers=1))
        assert (tmp_path / "out.tar").read_bytes() == merge_tars(stack)

    def test_a_layer_that_begins_again(self, tmp_path: Path) -> None:
        """What workers have written before must not turn up in what is written anew."""
        twice = base().file(b"d/e/0003", b"again").tar()
        out = tmp_path / "out.tar"
        merge(files(tmp_path, [twice]), TarSink(FileOutput(str(out), fsync=False), workers=1))
        assert out.read_bytes() == merge_tars([twice])

    @pytest.mark.parametrize("missing", [1, 415])
    def test_padding_that_is_missing(self, tmp_path: Path, missing: int) -> None:
        whole = base().tar(end=False)
        out = tmp_path / "out.tar"
        merge(files(tmp_path, [whole[:-missing]]), TarSink(FileOutput(str(out), fsync=False), workers=1))
        assert out.read_bytes() == merge_tars([whole])

    def test_a_full_disk(self, layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "copy_file_range", full)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(SinkError, match="No space left"):
            merge(layers, TarSink(FileOutput(str(tmp_path / "out.tar"), fsync=False), workers=1))
        assert sorted(tmp_path.iterdir()) == before


class TestDirectory:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_same_tree(
        self, layers: list[LayerFile], stack: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
    ) -> None:
        counting = Counting(monkeypatch)
        merge(layers, DirectorySink(str(tmp_path / "ours"), workers=workers, fsync=False))
        assert counting.given > len(BIG)
        plainly = DirectorySink(str(tmp_path / "plain"), fsync=False)
        merge([BytesLayer(data) for data in stack], plainly, merged_options(plain=True))
        ours, plain = from_directory(tmp_path / "ours"), from_directory(tmp_path / "plain")
        assert differences(ours, plain) == []
        assert len(plain) > 1400

    @pytest.mark.parametrize("workers", [0, 1])
    @pytest.mark.parametrize("size", [0, 700, 200_000, 300_000])
    def test_hard_links_of_a_small_layer(self, tmp_path: Path, workers: int, size: int) -> None:
        """Too little for a worker to be started: what the links name had not been made when they were."""
        layer = Layer().dir(b"d").file(b"d/a", BIG[:size]).link(b"b", b"d/a").file(b"d/c", b"c").link(b"d/e", b"b")
        sink = DirectorySink(str(tmp_path / "root"), workers=workers, fsync=False)
        merge(files(tmp_path, [layer.tar()]), sink)
        root = tmp_path / "root"
        assert (root / "d/a").read_bytes() == BIG[:size]
        assert (root / "b").samefile(root / "d/a")
        assert (root / "d/e").samefile(root / "d/a")

    def test_a_path_that_is_listed_twice(self, tmp_path: Path) -> None:
        twice = base().file(b"d/e/0003", b"again").tar()
        merge(files(tmp_path, [twice]), DirectorySink(str(tmp_path / "root"), workers=1, fsync=False))
        assert (tmp_path / "root/d/e/0003").read_bytes() == b"again"

    def test_a_link_that_gives_way_to_a_file(self, tmp_path: Path) -> None:
        """Links wait until the workers are done; a user of the sink may meanwhile put something in their place."""
        sink = DirectorySink(str(tmp_path / "root"), workers=1, fsync=False)
        sink.enter_directory(b"")
        sink.write_run(Run(Layer().file(b"a", b"1").tar()[:1024]))
        for entry in entries_of(Layer().file(b"a", b"1").link(b"b", b"a").link(b"c", b"a").tar())[1:]:
            sink.add(entry, ())
        (b,) = entries_of(Layer().file(b"b").tar())
        sink.add(b, ())
        sink.finish()
        assert (tmp_path / "root/b").read_bytes() == b""
        assert (tmp_path / "root/c").samefile(tmp_path / "root/a")

    @pytest.mark.parametrize("kept", [512 * 3000 + 100, 512 * 1500])
    def test_a_truncated_layer(self, tmp_path: Path, stack: list[bytes], kept: int) -> None:
        layers = files(tmp_path, [stack[0][:kept]])
        before = sorted(tmp_path.iterdir())
        with pytest.raises(StreamergeError, match="truncated"):
            merge(layers, DirectorySink(str(tmp_path / "root"), workers=1, fsync=False))
        assert sorted(tmp_path.iterdir()) == before

    def test_a_layer_that_becomes_shorter(
        self, layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Pool.fetch

        def cut(pool: Pool, file: FileHandle, extents: list[int], size: int, to: int = 0) -> None:
            if file.size > len(BIG):
                os.truncate(layers[0].path, 1024)
            real(pool, file, extents, size, to)

        monkeypatch.setattr(Pool, "fetch", cut)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(StreamergeError, match="has changed while it was being merged"):
            merge(layers, DirectorySink(str(tmp_path / "root"), workers=1, fsync=False))
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize("who", ["a worker", "we"])
    @pytest.mark.parametrize("what", [b"../evil!", b"d/../../", b"d/e/../x", b"/etc/pwn"])
    def test_a_name_that_changes(
        self, layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: bytes, who: str
    ) -> None:
        """Whoever can write to a layer while it is read can change what has been found to be good."""
        change_before_fetching(monkeypatch, layers[0], (b"d/e/0303", what), helped=who == "a worker")
        before = everything(tmp_path)
        with pytest.raises(StreamergeError):
            merge(layers, DirectorySink(str(tmp_path / "root"), workers=1, fsync=False))
        assert everything(tmp_path) == before

    @pytest.mark.parametrize("who", ["a worker", "we"])
    @pytest.mark.parametrize("what", [b"\xff" * 11, b"7" * 11, b"99999999999", b"0" * 11])
    def test_a_size_that_changes(
        self, layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: bytes, who: str
    ) -> None:
        change_before_fetching(monkeypatch, layers[0], (b"%011o" % (303 * 3), what), helped=who == "a worker")
        with pytest.raises(StreamergeError, match=r"has changed while|cannot write it"):
            merge(layers, DirectorySink(str(tmp_path / "root"), workers=1, fsync=False))
        assert not (tmp_path / "root").exists()

    def test_without_helpers_where_there_may_be_none(
        self, layers: list[LayerFile], stack: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused() -> int:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

        monkeypatch.setattr(os, "fork", refused)
        before = descriptors()
        merge(layers, DirectorySink(str(tmp_path / "root"), workers=2, fsync=False))
        merge(layers, TarSink(FileOutput(str(tmp_path / "out.tar"), fsync=False), workers=1))
        assert (tmp_path / "out.tar").read_bytes() == merge_tars(stack)
        assert (tmp_path / "root/d/big").read_bytes() == BIG
        assert still_open() == before
