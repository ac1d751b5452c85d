"""The merge against the oldest-first model, over random stacks of layers: 2,000 in CI for the main test alone."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamerge import Options, StreamergeError, Whiteouts
from tests.support import model, tree
from tests.support.changeset import ancestors
from tests.support.layers import Dialect, EntrySpec, Item, Kind, Layer
from tests.support.merged import merge_tars
from tests.support.merged import options as merged_options
from tests.support.strategies import stacks

Style = Literal["oci", "overlay", "any"]
PREFIXES = st.sampled_from([b"", b"./", b"/"])


def tars(layers: list[Layer], dialect: Dialect = Dialect.PAX, prefix: bytes = b"") -> list[bytes]:
    return [layer.tar(dialect, prefix=prefix) for layer in layers]


def assert_same(layers: list[Layer], style: Style, output: bytes) -> None:
    expected = model.merge(layers, whiteouts=style)
    assert tree.differences(expected, tree.from_tar(output)) == []


def as_directory(layer: Layer) -> Layer:
    """The layer as a directory of overlayfs's could hold it: no path twice, nothing below a whiteout device."""
    items: dict[bytes, Item] = {}
    for item in layer.items:
        if isinstance(item, EntrySpec):
            items.setdefault(item.path, item)
    others = {path for path, item in items.items() if isinstance(item, EntrySpec) and item.kind is not Kind.DIR}
    return Layer(tuple(item for path, item in items.items() if others.isdisjoint(ancestors(path))))


def accepted(layers: list[Layer], style: Style) -> bool:
    try:
        model.merge(layers, whiteouts=style)
    except model.ModelError:
        return False
    return True


@settings(max_examples=5 * settings().max_examples)
@given(stacks(), PREFIXES)
def test_merges_what_the_model_merges(layers: list[Layer], prefix: bytes) -> None:
    output = merge_tars(tars(layers, prefix=prefix))
    assert_same(layers, "oci", output)


@pytest.mark.parametrize("style", ["overlay", "any"])
@given(data=st.data())
def test_other_whiteouts(style: Style, data: st.DataObject) -> None:
    layers = [as_directory(layer) for layer in data.draw(stacks(whiteouts=style))]
    assume(accepted(layers, style))
    output = merge_tars(tars(layers), Options(whiteouts=Whiteouts(style)))
    assert_same(layers, style, output)


@pytest.mark.parametrize("dialect", [Dialect.GNU, Dialect.USTAR, Dialect.V7])
@given(data=st.data())
def test_other_dialects(dialect: Dialect, data: st.DataObject) -> None:
    layers = data.draw(stacks(dialect=dialect))
    output = merge_tars(tars(layers, dialect))
    assert_same(layers, "oci", output)


@given(stacks(), st.integers(1, 3000))
def test_bytes_are_the_same_however_layers_come(layers: list[Layer], chunk: int) -> None:
    """Plain loop or hot loop, any chunking, from files or from pipes with headers first."""
    plain = merge_tars(tars(layers), merged_options(plain=True))
    assert merge_tars(tars(layers), chunk=chunk) == plain
    assert merge_tars(tars(layers), Options(rescan=True, spool_memory=0), reopenable=False, rewinds=False) == plain


@given(stacks(valid=False))
def test_errors_are_the_models_errors(layers: list[Layer]) -> None:
    try:
        expected = model.merge(layers)
    except model.ModelError:
        with pytest.raises(StreamergeError):
            merge_tars(tars(layers))
    else:
        assert tree.differences(expected, tree.from_tar(merge_tars(tars(layers)))) == []
