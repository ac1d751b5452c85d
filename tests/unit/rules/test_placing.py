"""The decisions of a LayerView, entry by entry: newest layer first, no byte written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamerge.errors import FormatError
from streamerge.rules.links import Origin
from streamerge.rules.placing import Decision, LayerView, MergedTree, RepeatedPath, fingerprint
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from tests.support.invariants import check_trie
from tests.support.layers import Dialect, Layer

KEEP, WAIT, HOLD, HIDE, DROP = Decision


def decide_all(view: LayerView, layer: Layer, dialect: Dialect = Dialect.PAX) -> list[Decision]:
    reader, found = TarReader(ChunkStream([layer.tar(dialect)])), []
    while (entry := reader.next_entry()) is not None:
        found.append(view.decide(entry))
        check_trie(view.tree.root, view.index, any_order=view.tree.any_order)
    return found


def decisions(layers: Sequence[Layer], *, any_order: bool = False) -> list[list[Decision]]:
    """The decisions of all layers, newest first as they are read; ``layers`` are base first."""
    tree, found = MergedTree(any_order=any_order), []
    for index in reversed(range(len(layers))):
        view = tree.begin(index)
        found.append(decide_all(view, layers[index]))
        view.end()
    return found


class TestDecisions:
    @pytest.mark.parametrize(
        ("layer", "expected"),
        [
            (Layer().file(b"a").symlink(b"s", b"t").fifo(b"p").char(b"c", 1, 3), [KEEP] * 4),
            (Layer().dir(b"").dir(b"d").file(b"d/a").dir(b"d/e").file(b"d/e/b"), [KEEP] * 5),
            (Layer().file(b"a").dir(b""), [KEEP, KEEP]),
            (Layer().file(b"d/a"), [WAIT]),
            (Layer().file(b"d/a").dir(b"d").file(b"d/b"), [WAIT, KEEP, KEEP]),
            (Layer().dir(b"d/e").file(b"d/e/a").dir(b"d").file(b"d/e/b"), [WAIT, WAIT, KEEP, KEEP]),
            (Layer().file(b"t").link(b"l", b"t"), [KEEP, KEEP]),
            (Layer().link(b"l", b"t").file(b"t"), [HOLD, KEEP]),
            (Layer().file(b"d/t").link(b"l", b"d/t"), [WAIT, HOLD]),
            (Layer().file(b"t").link(b"d/l", b"t").dir(b"d"), [KEEP, HOLD, KEEP]),
            (Layer().whiteout(b"a").opaque(b"d").whiteout(b"d/x"), [DROP] * 3),
            (Layer().dir(b"d").dir(b"d").dir(b"d"), [KEEP, DROP, DROP]),
            (Layer().file(b".wh..wh.plnk/1").dir(b".wh..wh.orph"), [HIDE, DROP]),
            (Layer().whiteout(b"a").file(b"a").file(b"b").whiteout(b"b"), [DROP, KEEP, KEEP, DROP]),
        ],
    )
    def test_of_a_layer_alone(self, layer: Layer, expected: list[Decision]) -> None:
        assert decisions([layer]) == [expected]

    @pytest.mark.parametrize(
        ("older", "newer", "expected"),
        [
            (Layer().file(b"a").file(b"b"), Layer().file(b"a"), [HIDE, KEEP]),
            (Layer().file(b"a").file(b"b"), Layer().whiteout(b"a"), [HIDE, KEEP]),
            (Layer().dir(b"d").file(b"d/a").file(b"b"), Layer().whiteout(b"d"), [DROP, HIDE, KEEP]),
            (Layer().dir(b"d").file(b"d/a").dir(b"d/e"), Layer().opaque(b"d"), [KEEP, HIDE, DROP]),
            (Layer().dir(b"d").file(b"d/a"), Layer().dir(b"d"), [DROP, KEEP]),
            (Layer().dir(b"d").file(b"d/a"), Layer().file(b"d/b"), [KEEP, KEEP]),
            (Layer().file(b"d/a"), Layer().dir(b"d"), [KEEP]),
            (Layer().file(b"d"), Layer().file(b"d/b"), [HIDE]),
            (Layer().file(b"a").dir(b"").dir(b"d"), Layer().opaque(b""), [HIDE, KEEP, DROP]),
            (Layer().dir(b""), Layer().dir(b""), [DROP]),
            (Layer().file(b"t").link(b"l", b"t"), Layer().whiteout(b"t"), [HIDE, HOLD]),
            (Layer().file(b"t").link(b"l", b"t"), Layer().whiteout(b"l"), [KEEP, HIDE]),
            (Layer().file(b"a").whiteout(b"b"), Layer().file(b"a").file(b"b"), [HIDE, DROP]),
        ],
    )
    def test_below_a_newer_layer(self, older: Layer, newer: Layer, expected: list[Decision]) -> None:
        assert decisions([older, newer])[1] == expected

    def test_any_order_waits_for_no_directory(self) -> None:
        layer = Layer().file(b"d/a").dir(b"d/e").link(b"m", b"d/z").link(b"d/l", b"d/a").dir(b"d")
        assert decisions([layer.file(b"d/z")], any_order=True) == [[KEEP, KEEP, HOLD, KEEP, KEEP, KEEP]]

    def test_a_middle_layer_records_what_it_hides_of_older_ones(self) -> None:
        layers = [Layer().file(b"a/old"), Layer().file(b"a"), Layer().dir(b"a").file(b"a/new")]
        assert decisions(layers) == [[KEEP, KEEP], [HIDE], [HIDE]]


class TestRepeatedPaths:
    @pytest.mark.parametrize(
        "layer",
        [
            Layer().file(b"a").file(b"a"),
            Layer().file(b"a").symlink(b"a", b"t"),
            Layer().file(b"a").dir(b"a"),
            Layer().dir(b"a").file(b"a"),
            Layer().file(b"a/b").file(b"a"),
            Layer().file(b"a").file(b"a/b"),
            Layer().link(b"a", b"t").file(b"a"),
            Layer().dir(b"a").dir(b"a", mode=0o700),
            Layer().dir(b"").dir(b"", uid=5),
            Layer().file(b"d/a").file(b"d/a"),
        ],
    )
    @pytest.mark.parametrize("newer", [Layer(), Layer().dir(b"k")])
    def test_are_refused_without_a_rescan(self, layer: Layer, newer: Layer) -> None:
        tree = MergedTree()
        decide_all(tree.begin(1), newer)
        with pytest.raises(RepeatedPath) as caught:
            decide_all(tree.begin(0), layer)
        assert caught.value.path is not None

    @pytest.mark.parametrize("newer", [Layer().opaque(b""), Layer().whiteout(b"a"), Layer().file(b"a")])
    @pytest.mark.parametrize("layer", [Layer().file(b"a").dir(b"a"), Layer().dir(b"a").file(b"a")])
    def test_are_refused_even_if_hidden_when_kinds_differ(self, newer: Layer, layer: Layer) -> None:
        tree = MergedTree()
        decide_all(tree.begin(1), newer)
        with pytest.raises(RepeatedPath):
            decide_all(tree.begin(0), layer)

    def test_hidden_files_may_repeat(self) -> None:
        assert decisions([Layer().file(b"a").file(b"a"), Layer().file(b"a")])[1] == [HIDE, HIDE]

    def test_superseded_entries_are_hidden(self) -> None:
        view = MergedTree().begin(0, frozenset({0, 512}))
        layer = Layer().file(b"a").dir(b"d").file(b"a").dir(b"d", mode=0o700)
        assert decide_all(view, layer, Dialect.USTAR) == [HIDE, DROP, KEEP, KEEP]

    def test_superseded_whiteouts_do_nothing(self) -> None:
        tree = MergedTree()
        view = tree.begin(1, frozenset({512}))
        decide_all(view, Layer().symlink(b"a", b"t").whiteout(b"a/b"), Dialect.USTAR)
        assert decide_all(tree.begin(0), Layer().file(b"b")) == [KEEP]


class TestWhatWaits:
    def test_is_released_parents_first(self) -> None:
        tree = MergedTree()
        view = tree.begin(0)
        assert decide_all(view, Layer().dir(b"a/b/c").dir(b"a/b").dir(b"a/x"), Dialect.USTAR) == [WAIT] * 3
        assert tree.take_released() == []
        assert decide_all(view, Layer().dir(b"a"), Dialect.USTAR) == [KEEP]
        released = tree.take_released()
        assert sorted(origin.offset for origin in released) == [0, 512, 1024]
        assert released.index(Origin(0, 512)) < released.index(Origin(0, 0))
        assert tree.take_released() == []
        assert [path for path, _ in tree.unlisted()] == [b""]

    def test_is_unlisted_if_never_released(self) -> None:
        tree = MergedTree()
        decide_all(tree.begin(0), Layer().dir(b"a/b").file(b"c/d/e"), Dialect.USTAR)
        assert list(tree.unlisted()) == [
            (b"", None), (b"a", None), (b"a/b", Origin(0, 0)), (b"c", None), (b"c/d", None)
        ]  # fmt: skip
        assert list(tree.unlisted()) == [(b"", None)]

    def test_a_listed_root_is_not_unlisted(self) -> None:
        tree = MergedTree()
        decide_all(tree.begin(0), Layer().dir(b""))
        assert list(tree.unlisted()) == []


class TestErrors:
    @pytest.mark.parametrize("layer", [Layer().file(b"."), Layer().symlink(b"/", b"t"), Layer().link(b"./", b"t")])
    @pytest.mark.parametrize("newer", [Layer(), Layer().opaque(b"")])
    def test_the_root_is_a_directory(self, layer: Layer, newer: Layer) -> None:
        tree = MergedTree()
        decide_all(tree.begin(1), newer)
        with pytest.raises(FormatError, match="root is a directory"):
            decide_all(tree.begin(0), layer)

    def test_warnings_say_where(self) -> None:
        warnings: list[tuple[int, bytes, str]] = []
        tree = MergedTree(warn=lambda index, path, text: warnings.append((index, path, text)))
        decide_all(tree.begin(2), Layer().file(b"d/a"))
        decide_all(tree.begin(1), Layer().fifo(b"d"))
        decide_all(tree.begin(0), Layer().file(b"d"))
        assert [(index, path) for index, path, _ in warnings] == [(1, b"d")]
        assert "so this fifo gives way to a directory" in warnings[0][2]


class TestFingerprint:
    BASE = Layer().dir(b"d", uid=1, gid=2, uname=b"u", gname=b"g", mtime=10**9, xattrs={b"user.a": b"1"})

    def of(self, layer: Layer, dialect: Dialect = Dialect.PAX) -> int:
        entry = TarReader(ChunkStream([layer.tar(dialect)])).next_entry()
        assert entry is not None
        return fingerprint(entry.header, entry.records)

    def test_equal_whatever_the_name(self) -> None:
        assert self.of(Layer().dir(b"d")) == self.of(Layer().dir(b"e")) == self.of(Layer().dir(b"\xff" * 120))

    @pytest.mark.parametrize(
        "other",
        [
            Layer().dir(b"d", mode=0o700),
            Layer().dir(b"d", uid=1),
            Layer().dir(b"d", gid=1),
            Layer().dir(b"d", uid=1 << 30),
            Layer().dir(b"d", uname=b"u"),
            Layer().dir(b"d", gname=b"u"),
            Layer().dir(b"d", mtime=10**9),
            Layer().dir(b"d", mtime=1),
            Layer().dir(b"d", xattrs={b"user.a": b""}),
            Layer().dir(b"d", records={b"VENDOR.k": b"v"}),
        ],
    )
    def test_differs_with_all_that_shows(self, other: Layer) -> None:
        assert self.of(Layer().dir(b"d")) != self.of(other)
