"""The dense loop against the plain step: the same bytes, the same counts, the same trie."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamerge import Report, StreamergeError, TarSink, Whiteouts
from streamerge import merge as merge_layers
from streamerge.engine.scan import ScanHooks, scan
from streamerge.observe import Counts
from streamerge.rules.placing import MergedTree
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from streamerge.tar.runs import split_run
from tests.support.layers import Dialect, EntrySpec, Kind, Layer
from tests.support.merged import BytesLayer, BytesOutput
from tests.support.merged import options as merged_options
from tests.support.strategies import mutated, stacks

PLAIN_FILES = (
    Layer()
    .dir(b"d")
    .file(b"d/empty")
    .file(b"d/one", b"1")
    .file(b"d/block", b"b" * 512)
    .file(b"d/more", b"m" * 1025)
    .file(b"top", b"t" * 5000)
    .file(b"d/last", b"l" * 511)
)

Outcome = tuple[bytes | None, tuple[int, ...] | str]


def outcome(
    layers: Sequence[bytes], *, plain: bool, chunk: int, reopenable: bool = True, whiteouts: Whiteouts = Whiteouts.OCI
) -> Outcome:
    """What a merge gives: bytes and counts, or an error."""
    output = BytesOutput()
    stack = [BytesLayer(data, chunk=chunk, reopenable=reopenable) for data in layers]
    try:
        report: Report = merge_layers(stack, TarSink(output), merged_options(plain=plain, whiteouts=whiteouts))
    except StreamergeError as error:
        return None, str(error)
    counts = (report.layers, report.written, report.hidden, report.hidden_bytes, report.promoted)
    return output.data, counts


def assert_same(layers: Sequence[bytes], chunk: int = 1 << 16, whiteouts: Whiteouts = Whiteouts.OCI) -> None:
    for reopenable in (True, False):
        expected = outcome(layers, plain=True, chunk=chunk, reopenable=reopenable, whiteouts=whiteouts)
        assert outcome(layers, plain=False, chunk=chunk, reopenable=reopenable, whiteouts=whiteouts) == expected


class TestTheSameAsStep:
    @pytest.mark.slow
    @settings(max_examples=80)
    @given(stacks(), st.sampled_from([100, 512, 700, 1 << 16]))
    def test_for_any_stack(self, layers: list[Layer], chunk: int) -> None:
        assert_same([layer.tar() for layer in layers], chunk)

    @pytest.mark.slow
    @given(stacks(valid=False, dialect=Dialect.GNU))
    def test_for_stacks_that_are_refused(self, layers: list[Layer]) -> None:
        assert_same([layer.tar(Dialect.GNU) for layer in layers])

    @pytest.mark.slow
    @given(st.data())
    def test_for_damaged_layers(self, data: st.DataObject) -> None:
        """The padding is left whole: see test_promise, test_whatever_stands_in_the_padding."""
        layer = Layer().dir(b"d").file(b"d/a").file(b"d/b").file(b"c").file(b"d/e").tar()
        hurt = data.draw(mutated(layer))
        newer = data.draw(st.sampled_from([Layer(), Layer().file(b"d/a"), Layer().opaque(b"d")]))
        assert_same([hurt, newer.tar()])

    @pytest.mark.slow
    @given(st.integers(0, 511), st.integers(0, 255), st.integers(1, 4))
    @example(at=156, value=ord("7"), number=1)
    @example(at=124, value=0x80, number=1)
    @example(at=345, value=ord("d"), number=3)
    @example(at=0, value=0, number=2)
    @example(at=0, value=ord("/"), number=2)
    def test_for_any_header_with_a_right_sum(self, at: int, value: int, number: int) -> None:
        data = bytearray(Layer().dir(b"d").file(b"d/a").file(b"d/b").file(b"c").file(b"d/e").tar())
        header = data[512 * number : 512 * number + 512]
        header[at] = value
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[512 * number : 512 * number + 512] = header
        for newer in (Layer(), Layer().file(b"d/a").file(b"c"), Layer().opaque(b"d")):
            assert_same([bytes(data), newer.tar()])


class TestPassesRunsOn:
    @pytest.mark.parametrize("dialect", [Dialect.USTAR, Dialect.GNU, Dialect.PAX])
    @pytest.mark.parametrize("chunk", [1, 100, 512, 1000, 1 << 20])
    def test_as_they_came(self, dialect: Dialect, chunk: int) -> None:
        data = PLAIN_FILES.tar(dialect)
        output, counts = outcome([data], plain=False, chunk=chunk)
        assert output is not None
        assert output.startswith(data[:-1024])
        assert counts == (1, 8, 0, 0, 0)

    @pytest.mark.parametrize("chunk", [1, 100, 512, 1000, 1 << 20])
    @pytest.mark.parametrize("hidden", [b"d/empty", b"d/one", b"d/block", b"d/more", b"top", b"d/last"])
    def test_without_what_is_hidden(self, hidden: bytes, chunk: int) -> None:
        kept = Layer(tuple(i for i in PLAIN_FILES.items if isinstance(i, EntrySpec) and i.path != hidden))
        size = next(len(spec.data) for spec in PLAIN_FILES.entries if spec.path == hidden)
        layers = [PLAIN_FILES.tar(), Layer().whiteout(hidden).tar()]
        output, counts = outcome(layers, plain=False, chunk=chunk)
        alone, _ = outcome([kept.tar()], plain=True, chunk=chunk)
        assert output == alone
        assert counts == (2, 7, 1, size, 0)

    @pytest.mark.parametrize("chunk", [1, 511, 512, 513, 1 << 20])
    @pytest.mark.parametrize("missing", [0, 1, 300, 511])
    def test_to_the_last_byte_of_a_layer_without_an_end(self, chunk: int, missing: int) -> None:
        data = Layer().file(b"a").file(b"b", b"x").tar(end=False)
        whole, _ = outcome([data], plain=True, chunk=chunk)
        assert outcome([data[: len(data) - missing]], plain=False, chunk=chunk)[0] == whole

    @pytest.mark.parametrize("chunk", [1, 511, 512, 513, 1 << 20])
    @pytest.mark.parametrize("newer", [Layer(), Layer().whiteout(b"b")])
    def test_and_says_where_a_body_is_missing(self, chunk: int, newer: Layer) -> None:
        data = Layer().file(b"a").file(b"b", b"x" * 600).tar(end=False)
        for cut in (1024, 1100, 1623):
            layers = [data[:cut], newer.tar()]
            output, text = outcome(layers, plain=False, chunk=chunk)
            assert (output, text) == outcome(layers, plain=True, chunk=chunk)
            assert output is None
            assert isinstance(text, str)
            assert "truncated" in text


class TestWhatItLeavesToStep:
    @pytest.mark.parametrize(
        "spec",
        [
            EntrySpec(Kind.FILE, b"a", typeflag=b"7"),
            EntrySpec(Kind.FILE, b"a", typeflag=b"\0"),
            EntrySpec(Kind.FILE, b"./a"),
            EntrySpec(Kind.FILE, b"/a"),
            EntrySpec(Kind.FILE, b"d//a"),
            EntrySpec(Kind.FILE, b"d/./a"),
            EntrySpec(Kind.FILE, b"d/.wh.a"),
            EntrySpec(Kind.FILE, b".wh..wh.aufs"),
            EntrySpec(Kind.FILE, b"new/a"),
            EntrySpec(Kind.FILE, b"a", mtime=-5 * 10**9),
            EntrySpec(Kind.FILE, b"a", uid=1 << 30),
            EntrySpec(Kind.FILE, b"d", data=b"x", typeflag=b"5"),
            EntrySpec(Kind.FILE, b"x" * 200),
        ],
        ids=lambda spec: repr(spec.path),
    )
    def test_comes_out_the_same(self, spec: EntrySpec) -> None:
        layer = Layer().dir(b"d").file(b"d/b", b"1").entry(spec).file(b"d/c", b"2")
        assert_same([layer.tar(Dialect.GNU), Layer().file(b"d/b").tar()])

    @pytest.mark.parametrize("path", [b"d/b", b"d"])
    def test_repeats_are_found(self, path: bytes) -> None:
        layer = Layer().file(b"0").dir(b"d").file(b"d/b", b"1").file(path, b"2").file(b"d/c").tar()
        for chunk in (512, 1 << 16):
            output = BytesOutput(rewinds=False)
            with pytest.raises(StreamergeError, match="twice"):
                merge_layers([BytesLayer(layer, chunk=chunk)], TarSink(output))
            assert output.data is None

    def test_globals_turn_it_off(self) -> None:
        layer = Layer().file(b"0").file(b"a").globals({b"uid": b"7"}).file(b"b").file(b"c")
        assert_same([layer.tar()])
        output, _ = outcome([layer.tar()], plain=False, chunk=1 << 16)
        assert output is not None
        assert output.count(b"7 uid=7\n"[1:]) == 2


class TestWhiteouts:
    BASE = Layer().dir(b"d").dir(b"d/e").file(b"d/a", b"old").file(b"d/.x").file(b"d/e/f", b"f" * 600).file(b"top")

    @pytest.mark.parametrize("style", Whiteouts)
    @pytest.mark.parametrize(
        "newer",
        [
            Layer().dir(b"d").whiteout(b"d/a").file(b"d/z", b"z"),
            Layer().whiteout(b"top").file(b"z"),
            Layer().dir(b"d").file(b"d/.wh.a", b"a body" * 100).file(b"d/z", b"z"),
            Layer().dir(b"d").whiteout(b"d/.x").whiteout(b"d/e").file(b"d/z", b"z"),
            Layer().dir(b"d").opaque(b"d").whiteout(b"d/a").file(b"d/a", b"new"),
            Layer().dir(b"d").file(b"d/a", b"new").whiteout(b"d/a").whiteout(b"d/nothing"),
            Layer().whiteout(b"d/e/f").whiteout(b"no/such/place"),
            Layer().dir(b"d").file(b"d/.wh.", b"").file(b"d/z"),
            Layer().dir(b"d").file(b"d/.wh...", b"").file(b"d/z"),
            Layer().dir(b"d").file(b"d/.wh..wh.aufs", b"x").file(b"d/z"),
            Layer().file(b"d", b"no directory any more"),
        ],
    )
    def test_come_out_the_same(self, newer: Layer, style: Whiteouts) -> None:
        assert_same([self.BASE.tar(), newer.tar()], whiteouts=style)
        assert_same([self.BASE.tar(), newer.tar(), Layer().dir(b"d").file(b"d/e").tar()], whiteouts=style)
        assert_same([newer.tar(), self.BASE.tar()], whiteouts=style)


class TestSplitRun:
    def test_a_run_taken_apart_again(self) -> None:
        long = b"d" * 90 + b"/" + b"e" * 60 + b"/f"
        layer = Layer().file(b"a", b"1" * 700).file(b"d/b").file(b"d/c", b"2" * 512).file(long, b"3")
        run = layer.tar(Dialect.USTAR)[: 512 * 8]
        found = [(path, path[cut:], bytes(body)) for path, cut, _, body in split_run(memoryview(run))]
        assert found == [
            (b"a", b"a", b"1" * 700),
            (b"d/b", b"b", b""),
            (b"d/c", b"c", b"2" * 512),
            (long, b"f", b"3"),
        ]

    def test_the_last_padding_may_be_missing(self) -> None:
        run = Layer().file(b"a", b"1").file(b"b", b"2" * 513).tar()[: 512 * 3 + 513]
        assert [bytes(body) for *_, body in split_run(memoryview(run))] == [b"1", b"2" * 513]


def test_hidden_entries_after_a_stepped_one_are_not_stepped() -> None:
    """Found by counting: behind a hidden entry that went to ``step``, all hidden ones that followed did."""
    older = Layer().dir(b"d").dir(b"d/e").file(b"d/e/\\xff", b"x" * 600, xattrs={b"user.a": b"b"})
    for number in range(50):
        older = older.file(b"d/e/%d" % number, b"x" * 600)
    reader = TarReader(ChunkStream([older.tar()]))
    merge = MergedTree()
    newer = merge.begin(1)
    for entry in iter(TarReader(ChunkStream([Layer().whiteout(b"d").tar()])).next_entry, None):
        newer.decide(entry)
    view = merge.begin(0)
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        entry = reader.next_entry()
        return entry is not None and bool(view.decide(entry))

    counts = Counts()
    scan(reader, view, ScanHooks(write_run=lambda run: None, release=lambda: None, step=step), counts)
    assert (counts.hidden, steps) == (50, 2), "one xattr, the end"
