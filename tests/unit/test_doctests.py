"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import streamerge
from tests.support.images import Image, oci_layout
from tests.support.layers import Layer

MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(streamerge.__path__, "streamerge.") if not name.endswith("__main__")
)
EXAMPLES = Path(__file__).parent.parent / "data" / "layers"


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path) -> None:
    layout = oci_layout(Image().layer(Layer().file(b"a").tar()).named("latest")).write(tmp_path / "layout")
    given = {
        "example_layers": sorted(str(path) for path in EXAMPLES.glob("*.tar.gz")),
        "example_layout": str(layout),
        "rootfs": str(tmp_path / "rootfs.tar"),
    }
    failed, _ = doctest.testmod(importlib.import_module(name), extraglobs=given)
    assert failed == 0


def test_there_are_some() -> None:
    finder = doctest.DocTestFinder()
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) >= 8
