"""What the output guarantees for any layers (docs/semantics.md)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge import FormatError, LayerError, Options, Report, Stream, StreamergeError, TarSink, UsageError, merge
from tests.support.judges import described, tars
from tests.support.layers import Dialect, Layer
from tests.support.merged import BytesLayer, BytesOutput, merge_tars
from tests.support.merged import options as merged_options
from tests.support.strategies import stacks
from tests.support.strict_tar import members
from tests.support.tree import from_tar

LATE = Layer().link(b"l", b"d/e/f").file(b"d/e/f", b"x").dir(b"d/e").file(b"d/g", b"y").dir(b"d").dir(b"", mode=0o700)
BASE = Layer().dir(b"d", mode=0o711).file(b"d/old", b"o").link(b"k", b"d/old").symlink(b"d/s", b"old")


def order(output: bytes) -> list[bytes]:
    return [member.path.removesuffix(b"/") for member in members(io.BytesIO(output))]


class TestOrder:
    """Each path once; a directory before its contents; a link after its target (mke2fs and tar2sqfs require it)."""

    def test_a_file_waits_for_its_directory(self) -> None:
        names = order(merge_tars(tars([LATE])))
        assert names.index(b"d") < names.index(b"d/e") < names.index(b"d/e/f") < names.index(b"l")
        assert names.index(b"d") < names.index(b"d/g")
        assert len(set(names)) == len(names) == 6

    def test_for_a_directory_of_an_older_layer_too(self) -> None:
        names = order(merge_tars(tars([BASE, Layer().file(b"d/new", b"n").link(b"l", b"d/old")])))
        assert names.index(b"d") < names.index(b"d/new")
        assert names.index(b"d/old") < names.index(b"l")

    def test_and_for_one_of_no_layer(self) -> None:
        assert order(merge_tars(tars([Layer().file(b"d/e/a")])))[1:] == [b"d", b"d/e", b"d/e/a"]

    def test_nothing_waits_for_the_root(self) -> None:
        assert order(merge_tars(tars([Layer().file(b"a").dir(b"").file(b"b")]))) == [b"a", b".", b"b"]

    def test_listed_parents_cost_nothing(self) -> None:
        """If layers list their parents first, entries are copied in their order, byte for byte."""
        layer = Layer().dir(b"").dir(b"d").file(b"d/a", b"x" * 700).symlink(b"d/s", b"a").link(b"d/l", b"d/a")
        assert merge_tars([layer.tar()]).startswith(layer.tar(end=False))

    @pytest.mark.slow
    @given(stacks(), st.booleans())
    def test_of_any_stack(self, layers: list[Layer], reopenable: bool) -> None:
        """``from_tar`` asserts all of it: names once, parents first, targets first, a root."""
        options = Options(rescan=not reopenable)
        assert b"" in from_tar(merge_tars(tars(layers), options, reopenable=reopenable))

    @pytest.mark.parametrize("reopenable", [True, False])
    def test_released_directories_keep_their_metadata(self, reopenable: bool) -> None:
        layer = Layer().dir(b"a/b/c", mode=0o701, xattrs={b"trusted.t": b"\0"}).dir(b"a/b", mode=0o702)
        merged = from_tar(merge_tars(tars([layer.dir(b"a", mode=0o703)]), reopenable=reopenable))
        assert [merged[path].mode for path in (b"a", b"a/b", b"a/b/c")] == [0o703, 0o702, 0o701]
        assert merged[b"a/b/c"].xattrs == {(b"trusted.t", b"\0")}


class TestTheRoot:
    """``./`` is always there, once: without it mkfs.erofs makes a root of mode 0777."""

    @pytest.mark.parametrize(
        "layers",
        [
            [Layer()],
            [Layer().file(b"a")],
            [Layer().dir(b"").file(b"a")],
            [Layer().file(b"a").dir(b"")],
            [Layer().dir(b""), Layer().dir(b"")],
            [Layer().dir(b""), Layer().opaque(b"")],
            [Layer().opaque(b"")],
        ],
    )
    @pytest.mark.parametrize("dialect", Dialect)
    def test_once(self, layers: list[Layer], dialect: Dialect) -> None:
        assert order(merge_tars(tars(layers, dialect))).count(b".") == 1

    def test_a_made_one(self) -> None:
        output = merge_tars([b""], Options(mtime=77))
        root = from_tar(output)[b""]
        assert (root.mode, root.uid, root.gid, root.mtime_ns) == (0o755, 0, 0, 77 * 10**9)


class TestSameBytes:
    """Independent of compression, threads, chunks, and how the layers are read."""

    STACK = tars([BASE, LATE, Layer().file(b"d/e/f", b"new").file(b"big", b"b" * 100_000), Layer().whiteout(b"d/old")])

    @pytest.mark.slow
    @pytest.mark.parametrize("plain", [True, False])
    @pytest.mark.parametrize("reopenable", [True, False])
    @pytest.mark.parametrize("chunk", [1, 7, 512, 513, 4096, 1 << 20])
    def test_any_way(self, plain: bool, reopenable: bool, chunk: int) -> None:
        expected = merge_tars(self.STACK)
        assert merge_tars(self.STACK, merged_options(plain=plain), chunk=chunk, reopenable=reopenable) == expected

    @pytest.mark.parametrize("options", [Options(rescan=True), Options(spool_memory=0), Options(read_ahead=1)], ids=str)
    @pytest.mark.parametrize("reopenable", [True, False])
    def test_any_options_of_the_machine(self, options: Options, reopenable: bool) -> None:
        assert merge_tars(self.STACK, options, reopenable=reopenable) == merge_tars(self.STACK)

    def test_whatever_stands_in_the_padding(self) -> None:
        data = bytearray(Layer().file(b"0").file(b"a", b"x").file(b"b", b"y").tar())
        data[1200:1207] = b"garbage"
        assert len({merge_tars([bytes(data)], chunk=chunk) for chunk in (100, 513, 1 << 16)}) == 1

    def test_an_unmoved_stack_merges_to_itself(self) -> None:
        once = merge_tars(self.STACK)
        assert from_tar(merge_tars([once])) == from_tar(once)


class Watched(BytesLayer):
    """A layer that counts how often it is opened and how much of it is read."""

    def __init__(self, data: bytes, *, reopenable: bool = True) -> None:
        super().__init__(data, reopenable=reopenable)
        self.opened = 0

    def open(self) -> Stream:
        self.opened += 1
        return super().open()


class Counted(BytesOutput):
    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        super().write(pieces)
        self.size += sum(map(len, pieces))


def run(layers: Sequence[BytesLayer], options: Options | None = None) -> tuple[Report, Counted]:
    output = Counted()
    return merge(layers, TarSink(output), options), output


class TestHiddenBodies:
    """The body of a hidden entry is never written anywhere."""

    HUGE = b"z" * (8 << 20)

    @pytest.mark.parametrize(
        "newer",
        [Layer().file(b"a"), Layer().whiteout(b"a"), Layer().dir(b"a"), Layer().opaque(b""), Layer().file(b"a/b")],
    )
    @pytest.mark.parametrize("plain", [True, False])
    def test_a_huge_one_is_not_copied(self, newer: Layer, plain: bool) -> None:
        layers = [Watched(Layer().file(b"a", self.HUGE).tar()), Watched(newer.tar())]
        report, output = run(layers, merged_options(plain=plain))
        assert output.size <= 20 * 512
        assert (report.hidden, report.hidden_bytes) == (1, len(self.HUGE))
        assert [layer.opened for layer in layers] == [1, 1]

    @pytest.mark.parametrize("reopenable", [True, False])
    def test_a_promoted_one_is_copied_once(self, reopenable: bool) -> None:
        base = Layer().file(b"a", self.HUGE).link(b"l", b"a").link(b"m", b"a").tar()
        layers = [Watched(base, reopenable=reopenable), Watched(Layer().file(b"a").tar())]
        report, output = run(layers)
        assert len(self.HUGE) < output.size < len(self.HUGE) + 50_000
        assert report.promoted == 1
        assert [layer.opened for layer in layers] == [2 if reopenable else 1, 1]

    def test_a_layer_is_read_once_where_nothing_waits(self) -> None:
        layers = [Watched(layer) for layer in tars([BASE, Layer().dir(b"d").file(b"d/x"), Layer().whiteout(b"d/x")])]
        run(layers)
        assert [layer.opened for layer in layers] == [1, 1, 1]


class TestTheReport:
    def test_counts(self) -> None:
        layers = [Layer().dir(b"d").file(b"d/a", b"12345").file(b"t", b"123").link(b"l", b"t"), Layer().file(b"t")]
        report, _ = run([BytesLayer(data) for data in tars([*layers, Layer().whiteout(b"d/a")])])
        assert (report.layers, report.written, report.hidden, report.hidden_bytes, report.promoted) == (3, 4, 2, 8, 1)
        assert report.seconds > 0


class TestAllOrNothing:
    """A failed merge does not finish its output: no end-of-archive blocks, and the sink is aborted."""

    BROKEN = tars([Layer().file(b"a", b"x" * 5000), Layer().file(b"b", b"y")])

    @pytest.mark.parametrize("cut", [512 + 4999, 512, 100])
    @pytest.mark.parametrize("reopenable", [True, False])
    def test_truncated(self, cut: int, reopenable: bool) -> None:
        output = BytesOutput()
        layers = [BytesLayer(data, reopenable=reopenable) for data in (self.BROKEN[0][:cut], self.BROKEN[1])]
        with pytest.raises(LayerError, match=r"layer 0 .bytes.*truncated"):
            merge(layers, TarSink(output))
        assert output.data is None
        assert output.discarded

    def test_any_exception(self) -> None:
        class Failing(BytesLayer):
            def open(self) -> Stream:
                raise KeyboardInterrupt

        output = BytesOutput()
        with pytest.raises(KeyboardInterrupt):
            merge([Failing(b"")], TarSink(output))
        assert (output.data, output.discarded) == (None, True)

    def test_an_error_of_a_layer_is_found_where_nothing_of_it_shows(self) -> None:
        layers = [Layer().file(b"a/../b").tar(), Layer().opaque(b"").tar()]
        with pytest.raises(FormatError, match=r"layer 0 .0.tar.*'..' component"):
            merge_tars(layers)

    def test_no_layers(self) -> None:
        assert described(from_tar(merge_tars([]))) == {}

    def test_no_layers_that_are_no_images(self) -> None:
        output = BytesOutput()
        with pytest.raises(UsageError, match="no layers"):
            merge([], TarSink(output))
        assert (output.data, output.discarded) == (None, True)


class TestErrorsNameTheLayer:
    @pytest.mark.parametrize("index", [0, 1, 2])
    @pytest.mark.parametrize("bad", [b"x" * 512, Layer().file(b"..").tar(), Layer().link(b"l", b"?").tar()])
    def test_by_index_and_name(self, index: int, bad: bytes) -> None:
        layers = tars([Layer().file(b"a")] * 3)
        layers[index] = bad
        with pytest.raises(StreamergeError) as caught:
            merge_tars(layers)
        assert caught.value.index == index
        assert str(caught.value).startswith(f"layer {index} ({index}.tar): ")


def test_what_is_given_is_given_in_pieces() -> None:
    """No body is in memory as a whole: a sink gets at most a chunk of it at a time."""

    class Measuring(BytesOutput):
        largest = 0

        def write(self, pieces: Sequence[bytes | memoryview]) -> None:
            self.largest = max(self.largest, *map(len, pieces))

    class Endless(BytesLayer):
        def _chunks(self) -> Iterable[bytes]:
            yield Layer().file(b"a", size=64 << 20).tar(end=False)
            for _ in range(1024):
                yield bytes(1 << 16)

    output = Measuring()
    merge([Endless(b"")], TarSink(output))
    assert output.largest <= 1 << 16
