"""One way to judge a stack: what the test expects, what the model says, what the kernel shows.

    shows([Layer().file(b"a"), Layer().whiteout(b"a")], {})

Every stack is merged as files and as pipes, by the hot loop and the plain one, into a file and into a pipe;
all must give the same bytes. The kernel judges where this process may mount an overlay; in CI it must.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import pytest

from streamerge import Options, StreamergeError, Whiteouts
from tests.support import model, overlay, tree
from tests.support.changeset import Whiteouts as Style
from tests.support.layers import Dialect, Kind, Layer
from tests.support.merged import merge_tars
from tests.support.merged import options as merged_options
from tests.support.needs import has
from tests.support.tree import Node, Tree

__all__ = ["DIR", "described", "judged", "kernel_judges", "refused", "shows", "tars"]

DIR = "dir"
"""How :func:`described` calls a directory."""

Dialects = Dialect | Sequence[Dialect]


def kernel_judges() -> bool:
    """Whether the kernel can be asked. In CI it must be, unless CI may lack overlayfs."""
    return has("overlayfs")


def shows(
    layers: Sequence[Layer],
    expected: Mapping[bytes, bytes | str],
    *,
    dialect: Dialects = Dialect.PAX,
    prefix: bytes = b"",
    style: Style = "oci",
    epoch: int = 0,
) -> Tree:
    """Assert that the stack shows just ``expected`` (as :func:`described` puts it), by all judges."""
    merged = judged(layers, dialect=dialect, prefix=prefix, style=style, epoch=epoch)
    assert described(merged) == dict(expected)
    return merged


def judged(
    layers: Sequence[Layer],
    *,
    dialect: Dialects = Dialect.PAX,
    prefix: bytes = b"",
    style: Style = "oci",
    epoch: int = 0,
    kernel: bool = True,
) -> Tree:
    """The merged tree, once model and kernel have agreed with it.

    ``kernel`` is false for what our way of asking cannot put into a directory, such as the longest paths.
    """
    options = Options(whiteouts=Whiteouts(style), mtime=epoch)
    merged = tree.from_tar(merged_every_way(tars(layers, dialect, prefix), options))
    epoch_ns = epoch * 1_000_000_000
    assert tree.differences(model.merge(layers, whiteouts=style, epoch_ns=epoch_ns), merged) == [], "model, merge"
    if kernel and style == "oci" and kernel_judges():
        with tempfile.TemporaryDirectory() as workdir:
            shown = overlay.merge(layers, Path(workdir), epoch_ns=epoch_ns)
        assert tree.differences(shown, merged) == [], "kernel, merge"
    return merged


def merged_every_way(layers: Sequence[bytes], options: Options) -> bytes:
    """The merged tar, the same however the layers come and whichever loop reads them."""
    output = merge_tars(layers, options)
    plain = merged_options(whiteouts=options.whiteouts, mtime=options.mtime, plain=True)
    first = Options(whiteouts=options.whiteouts, mtime=options.mtime, rescan=True, spool_memory=0)
    assert merge_tars(layers, plain, chunk=700) == output, "the plain loop differs"
    assert merge_tars(layers, options, chunk=513) == output, "small chunks differ"
    assert merge_tars(layers, first, reopenable=False, rewinds=False) == output, "pipes differ"
    return output


def refused(
    layers: Sequence[Layer],
    match: str,
    *,
    error: type[StreamergeError] = StreamergeError,
    dialect: Dialects = Dialect.PAX,
    style: Style = "oci",
) -> StreamergeError:
    """Assert that the stack is an error to all judges; return ours, which says ``match`` and which layer."""
    with pytest.raises(error, match=match) as caught:
        merge_tars(tars(layers, dialect), Options(whiteouts=Whiteouts(style)))
    assert caught.value.layer is not None
    with pytest.raises(error, match=match):
        merge_tars(tars(layers, dialect), merged_options(whiteouts=Whiteouts(style), plain=True), chunk=700)
    with pytest.raises(model.ModelError):
        model.merge(layers, whiteouts=style)
    if style == "oci" and kernel_judges():
        with tempfile.TemporaryDirectory() as workdir, pytest.raises(model.ModelError):
            overlay.merge(layers, Path(workdir))
    return caught.value


def tars(layers: Sequence[Layer], dialect: Dialects = Dialect.PAX, prefix: bytes = b"") -> list[bytes]:
    """The layers' bytes, in one dialect or each in its own."""
    dialects = [dialect] * len(layers) if isinstance(dialect, Dialect) else dialect
    return [layer.tar(one, prefix) for layer, one in zip_longest(layers, dialects)]


def described(tree: Tree) -> dict[bytes, bytes | str]:
    """A tree, without its root, in words a test can state: files are their content.

    ``"dir"``, ``"-> TARGET"``, ``"= PATH"`` for a further name of the inode at PATH, ``"char 1:3"``,
    ``"block 8:1"``, ``"fifo"``.
    """
    return {path: _described(path, node) for path, node in tree.items() if path}


def _described(path: bytes, node: Node) -> bytes | str:
    if node.group not in (b"", path):
        return f"= {node.group.decode('utf-8', 'surrogateescape')}"
    if node.kind is Kind.FILE:
        return node.content
    if node.kind is Kind.SYMLINK:
        return f"-> {node.target.decode('utf-8', 'surrogateescape')}"
    if node.kind in (Kind.CHAR, Kind.BLOCK):
        return f"{node.kind.name.lower()} {node.device[0]}:{node.device[1]}"
    return node.kind.name.lower()
