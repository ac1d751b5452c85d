"""The directory sink against the oldest-first model and against the tar: the same tree, as root."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamerge import DirectorySink, Options, merge
from tests.support import model, tree
from tests.support.layers import Layer
from tests.support.merged import BytesLayer
from tests.support.merged import options as merged_options
from tests.support.strategies import stacks

pytestmark = pytest.mark.root


def merged(layers: list[Layer], options: Options | None = None, *, reopenable: bool = True) -> tree.Tree:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        path = Path(scratch, "root")
        stack = [BytesLayer(layer.tar(), reopenable=reopenable) for layer in layers]
        merge(stack, DirectorySink(str(path), fsync=False), options)
        assert [name.name for name in Path(scratch).iterdir()] == ["root"]
        return tree.from_directory(path)


@settings(max_examples=settings().max_examples)
@given(stacks(), st.booleans())
def test_makes_what_the_model_makes(layers: list[Layer], plain: bool) -> None:
    expected = model.merge(layers)
    assert tree.differences(expected, merged(layers, merged_options(plain=plain))) == []


@settings(max_examples=settings().max_examples // 2)
@given(stacks())
def test_pipes_headers_first(layers: list[Layer]) -> None:
    expected = model.merge(layers)
    assert tree.differences(expected, merged(layers, Options(rescan=True), reopenable=False)) == []
