"""The trie, step by step and with random layers; its invariants after every step."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.errors import StreamergeError
from streamerge.interfaces import Stream
from streamerge.rules.placing import LayerView, MergedTree, RepeatedPath
from streamerge.rules.trie import SEALED, WAITING, WHITEOUT, WRITTEN, Child, Node, directories, leaf, leaf_layer
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from tests.support import model
from tests.support.invariants import check_trie
from tests.support.layers import Dialect, Kind, Layer
from tests.support.strategies import stacks


class TestLeaves:
    @given(st.integers(0, 1 << 40), st.sampled_from([WHITEOUT, WRITTEN, WAITING]))
    def test_hold_layer_and_mark(self, layer: int, mark: int) -> None:
        assert leaf_layer(leaf(layer, mark)) == layer
        assert leaf(layer, mark) & 3 == mark

    @given(st.integers(0, 1000), st.integers(0, 1000))
    def test_order_as_their_layers(self, one: int, other: int) -> None:
        assert (one < other) == (leaf(one, WAITING) < leaf(other, WHITEOUT))


class TestNode:
    def test_indices_only_rise(self) -> None:
        node = Node()
        for layer in (3, 1, 5):
            node.seal(layer)
            node.take(layer)
        assert (node.taken, node.sealed, node.parent) == (5, 5, -1)
        node.seal(2)
        node.take(2)
        assert (node.taken, node.sealed) == (5, 5)

    def test_enter_makes_a_parent(self) -> None:
        root = Node()
        child = root.enter(b"a", 4)
        assert (child.taken, child.sealed, child.parent, child.written) == (-1, -1, 4, False)
        assert root.enter(b"a", 2) is child
        assert child.parent == 4

    def test_enter_notes_the_first_parent_of_a_listed_directory(self) -> None:
        root = Node()
        root.children[b"a"] = node = Node(taken=4)
        assert root.enter(b"a", 3) is node
        assert (node.taken, node.parent) == (4, 3)

    def test_enter_below_a_leaf(self) -> None:
        root = Node()
        root.children[b"a"] = leaf(4, WRITTEN)
        assert root.enter(b"a", 3) is SEALED
        assert root.children[b"a"] == leaf(4, WRITTEN)

    def test_enter_below_a_whiteout_of_the_same_layer(self) -> None:
        root = Node()
        root.white_out(b"a", 4)
        node = root.enter(b"a", 4)
        assert (node.taken, node.sealed, node.parent) == (4, 4, 4)
        assert root.enter(b"a", 3) is SEALED

    @pytest.mark.parametrize(("sealed", "seen"), [(5, False), (4, True), (3, True), (-1, True)])
    def test_enter_a_sealed_directory(self, sealed: int, seen: bool) -> None:
        root = Node()
        root.children[b"a"] = node = Node(taken=5, sealed=sealed)
        assert root.enter(b"a", 4) is (node if seen else SEALED)

    def test_white_out(self) -> None:
        root = Node()
        root.white_out(b"new", 3)
        assert root.children[b"new"] == leaf(3, WHITEOUT)
        root.children[b"leaf"] = leaf(5, WRITTEN)
        root.white_out(b"leaf", 3)
        assert root.children[b"leaf"] == leaf(5, WRITTEN)
        root.children[b"dir"] = node = Node(taken=5)
        root.white_out(b"dir", 3)
        assert (node.taken, node.sealed) == (5, 3)
        root.children[b"implicit"] = node = Node(parent=5)
        root.white_out(b"implicit", 3)
        assert (node.taken, node.sealed) == (3, 3)


class TestDirectories:
    def test_parents_first_siblings_by_name(self) -> None:
        root = Node()
        for path in (b"b/x", b"a/y", b"a", b"a-b", b"b"):
            node = root
            for name in path.split(b"/"):
                node = node.enter(name, 1)
        root.children[b"leaf"] = leaf(1, WRITTEN)
        assert [path for path, _ in directories(root)] == [b"a", b"a/y", b"a-b", b"b", b"b/x"]

    def test_of_nothing(self) -> None:
        assert list(directories(Node())) == []

    def test_deep(self) -> None:
        root = node = Node()
        for _ in range(1024):
            node = node.enter(b"d", 1)
        paths = [path for path, _ in directories(root)]
        assert len(paths) == 1024
        assert all(len(one) < len(other) for one, other in pairwise(paths))


def decide_all(tree: MergedTree, view: LayerView, stream: Stream) -> None:
    """Decide all entries of a layer, and check the trie after each."""
    reader = TarReader(stream)
    while (entry := reader.next_entry()) is not None:
        view.decide(entry)
        tree.take_released()
        check_trie(tree.root, view.index, any_order=tree.any_order)


class TestRandomLayers:
    """All invariants hold after every entry of random stacks, even if a layer is refused half way."""

    @pytest.mark.slow
    @given(stacks(valid=False), st.booleans())
    def test_invariants(self, layers: list[Layer], any_order: bool) -> None:
        tree = MergedTree(any_order=any_order)
        for index in reversed(range(len(layers))):
            view = tree.begin(index)
            try:
                decide_all(tree, view, ChunkStream([layers[index].tar()]))
                view.end()
            except StreamergeError:
                assert check_trie(tree.root, index, any_order=any_order) >= 0
                return
        unlisted = [path for path, _ in tree.unlisted()]
        assert len(set(unlisted)) == len(unlisted)
        assert all(node.written for _, node in directories(tree.root))

    @pytest.mark.slow
    @given(stacks(dialect=Dialect.GNU))
    def test_what_shows_is_what_the_trie_says(self, layers: list[Layer]) -> None:
        tree = MergedTree()
        try:
            for index in reversed(range(len(layers))):
                view = tree.begin(index)
                decide_all(tree, view, ChunkStream([layers[index].tar(Dialect.GNU)]))
                view.end()
        except RepeatedPath:
            return
        expected = model.merge(layers)
        shown = {path for path, node in directories(tree.root) if node.taken >= 0 or node.parent >= 0}
        nodes = {b"": tree.root, **dict(directories(tree.root))}
        leaves = {
            (path + b"/" if path else b"") + name
            for path, node in nodes.items()
            for name, child in node.children.items()
            if isinstance(child, int) and child & 3 != WHITEOUT
        }
        assert leaves == {path for path, node in expected.items() if node.kind is not Kind.DIR}
        assert shown == {path for path, node in expected.items() if path and node.kind is Kind.DIR}


def test_the_invariants_can_fail() -> None:
    """Broken tries are found, so the check is not empty."""
    broken: list[tuple[bytes, Child]] = [
        (b"a/b", leaf(1, WRITTEN)),
        (b"..", leaf(1, WRITTEN)),
        (b"a", leaf(1, 3)),
        (b"a", leaf(0, WHITEOUT)),
        (b"a", Node(sealed=2)),
        (b"a", Node(taken=2, sealed=3)),
    ]
    for name, child in broken:
        root = Node()
        root.written = True
        root.children[name] = child
        with pytest.raises(AssertionError):
            check_trie(root, 1)
    root, node = Node(), Node(taken=1)
    root.children[b"d"] = node
    node.children[b"x"] = leaf(2, WAITING)
    with pytest.raises(AssertionError, match="does not know"):
        check_trie(root, 1)
    node.parent = 2
    assert check_trie(root, 1) == 2
    node.children[b"x"] = leaf(2, WRITTEN)
    with pytest.raises(AssertionError, match="before its directory"):
        check_trie(root, 1)
    node.children[b"x"] = leaf(2, WAITING)
    node.taken = node.sealed = 3
    with pytest.raises(AssertionError, match="where a newer one seals"):
        check_trie(root, 1)
