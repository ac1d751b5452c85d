"""docs/library.md: each example runs, and all of them together satisfy mypy as a user's script would."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamerge.codecs import Codec, encode
from tests.support.images import Image, oci_layout
from tests.support.layers import Layer
from tests.support.needs import missing

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
EXAMPLES = re.findall(r"^## (.+?)$|^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    found, heading = [], ""
    for title, code in EXAMPLES:
        heading = title or heading
        if code:
            found.append((heading, code))
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    base = Layer().dir(b"usr").file(b"usr/a", b"a" * 5000).tar()
    app = Layer().dir(b"usr").file(b"usr/b", b"b" * 9000).tar()
    for name, codec, data in (("base.tar.gz", Codec.GZIP, base), ("app.tar.zst", Codec.ZSTD, app)):
        encoder = encode(codec)
        (tmp_path / name).write_bytes(encoder.write(data) + encoder.finish())
    oci_layout(Image().layer(base).layer(app)).write(tmp_path / "layout")
    return tmp_path


@pytest.mark.parametrize(("heading", "code"), examples(), ids=[heading for heading, _ in examples()])
def test_example(place: Path, heading: str, code: str) -> None:
    script = place / "example.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], cwd=place, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), heading


def test_there_is_one_for_each_subject() -> None:
    assert len(examples()) == 8


def test_mypy_accepts_all_of_it(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        missing("mypy", "mypy is not installed")
    for number, (_, code) in enumerate(examples()):
        (tmp_path / f"example_{number}.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
