"""What must hold of the trie between any two steps; stress tests call it after each."""

from __future__ import annotations

from streamerge.rules.trie import SEALED, WRITTEN, Node, leaf_layer

__all__ = ["check_trie"]


def check_trie(root: Node, layer: int, *, any_order: bool = False) -> int:
    """Assert all invariants of a trie that has seen layers down to ``layer``; return the number of its paths."""
    assert not SEALED.children, "the stand-in for sealed directories has been written to"
    assert (SEALED.taken, SEALED.sealed, SEALED.parent, SEALED.written) == (-1, -1, -1, False)
    paths, stack = 0, [root]
    while stack:
        node = stack.pop()
        for name, child in node.children.items():
            paths += 1
            assert name not in (b"", b".", b".."), name
            assert b"/" not in name, name
            assert _oldest(child) >= max(layer, node.sealed), "a layer has written where a newer one seals"
            assert node is root or max(node.taken, node.parent) >= _newest(child), (
                "a directory does not know what is below it"
            )
            if isinstance(child, int):
                _check_leaf(child, node, any_order)
            else:
                _check_node(child, node, any_order)
                stack.append(child)
    return paths


def _check_leaf(value: int, parent: Node, any_order: bool) -> None:
    assert value & 3 != 3, "a leaf has no fourth mark"
    assert value & 3 != WRITTEN or parent.written or any_order, "a leaf is written before its directory"


def _check_node(node: Node, parent: Node, any_order: bool) -> None:
    assert node is not SEALED
    assert max(node.taken, node.parent) >= 0, "nobody has said that this is a directory"
    assert node.sealed <= max(node.taken, node.parent), "sealed, but by nobody"
    assert not node.written or parent.written or any_order, "a directory is written before its parent"


def _newest(child: Node | int) -> int:
    return leaf_layer(child) if isinstance(child, int) else max(child.taken, child.parent, child.sealed)


def _oldest(child: Node | int) -> int:
    if isinstance(child, int):
        return leaf_layer(child)
    return min(value for value in (child.taken, child.parent, child.sealed) if value >= 0)
