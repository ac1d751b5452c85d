"""The model against the kernel: what an overlay shows is what merged means."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.support import model, overlay
from tests.support.layers import Dialect, Layer
from tests.support.strategies import stacks
from tests.support.tree import differences, from_directory

pytestmark = pytest.mark.overlayfs


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overlay")


@settings(max_examples=400, deadline=None)
@given(stack=stacks())
def test_model_shows_what_the_kernel_shows(scratch: Path, stack: list[Layer]) -> None:
    assert differences(model.merge(stack), overlay.merge(stack, scratch)) == []


@settings(max_examples=200, deadline=None)
@given(stack=stacks(valid=False, max_layers=3))
def test_model_refuses_what_the_oracle_refuses(scratch: Path, stack: list[Layer]) -> None:
    """Mostly about hard links: the kernel, not the model, says what the layers below show at a target."""
    try:
        shown = overlay.merge(stack, scratch)
    except model.ModelError:
        with pytest.raises(model.ModelError):
            model.merge(stack)
    else:
        assert differences(model.merge(stack), shown) == []


@settings(max_examples=100, deadline=None)
@given(stack=stacks(max_layers=3))
def test_tars_show_what_their_layers_show(scratch: Path, stack: list[Layer]) -> None:
    """Two ways to the kernel: the specs, and their tars as Python's tarfile reads them."""
    paths = []
    for index, layer in enumerate(stack):
        paths.append(scratch / f"{index}.tar")
        paths[-1].write_bytes(layer.tar(Dialect.PAX))
    assert differences(overlay.merge(stack, scratch), overlay.merge_tars(paths, scratch)) == []


def test_an_opaque_root_leaves_nothing_below(scratch: Path) -> None:
    """The kernel ignores the mark of a root directory, so the oracle leaves out the layers itself."""
    tree = overlay.merge([Layer().dir(b"", mode=0o700).file(b"a"), Layer().opaque(b"").file(b"b")], scratch)
    assert sorted(tree) == [b"", b"b"]
    assert tree[b""].mode == 0o700


def test_a_layer_may_end_before_its_last_padding(scratch: Path, tmp_path: Path) -> None:
    """Umoci writes neither the padding of the last body nor an end: found in layers of its own making."""
    (tmp_path / "whole.tar").write_bytes(Layer().file(b"a", b"data").tar(end=False)[: 512 + 4])
    assert overlay.merge_tars([tmp_path / "whole.tar"], scratch)[b"a"].content == b"data"
    (tmp_path / "torn.tar").write_bytes(Layer().file(b"a", b"data").tar(end=False)[: 512 + 3])
    with pytest.raises(tarfile.ReadError):
        overlay.merge_tars([tmp_path / "torn.tar"], scratch)


def test_directories_in_overlay_form(scratch: Path, tmp_path: Path) -> None:
    older, newer = tmp_path / "older", tmp_path / "newer"
    for directory in (older, newer):
        directory.mkdir()
    (older / "a").write_bytes(b"a")
    (older / "b").write_bytes(b"b")
    os.mknod(newer / "a", 0o20000, os.makedev(0, 0))
    assert sorted(overlay.merge_directories([newer, older])) == [b"", b"b"]
    assert sorted(overlay.merge_directories([older])) == sorted(from_directory(older))


def test_nothing_stays_mounted(scratch: Path) -> None:
    with pytest.raises(model.ModelError):
        overlay.merge([Layer().file(b"a"), Layer().link(b"b", b"c")], scratch)
    assert str(scratch) not in Path("/proc/mounts").read_text()
