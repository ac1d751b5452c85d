"""Large bodies of plain layers go from file to file without being read, where the system can; the same bytes come."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from streamerge import LayerFile, SinkError, merge, open_tar
from tests.support.layers import Layer
from tests.support.merged import merge_tars

BIG = os.urandom((1 << 20) + 700)
BASE = Layer().dir(b"d").file(b"d/big", BIG).file(b"small", b"s").file(b"hidden", BIG).file(b"last", BIG[:400_000])
NEWER = Layer().file(b"hidden", b"h" * 300_000)
STACK = [BASE.tar(), NEWER.tar()]


class Copying:
    """os.copy_file_range, counted, and refused once so many bytes have been copied."""

    def __init__(self, most: int = 1 << 62, refusal: int = errno.EXDEV) -> None:
        self.real = os.copy_file_range
        self.copied = 0
        self.most = most
        self.refusal = refusal

    def __call__(self, source: int, target: int, count: int, position: int, to: int) -> int:
        if self.copied >= self.most:
            raise OSError(self.refusal, os.strerror(self.refusal))
        count = self.real(source, target, min(count, self.most - self.copied), position, to)
        self.copied += count
        return count


@pytest.fixture
def layers(tmp_path: Path) -> list[LayerFile]:
    paths = [tmp_path / "base.tar", tmp_path / "newer.tar"]
    for path, data in zip(paths, STACK, strict=True):
        path.write_bytes(data)
    return [LayerFile(path) for path in paths]


def merged(layers: list[LayerFile], out: Path) -> bytes:
    merge(layers, open_tar(str(out), fsync=False))
    return out.read_bytes()


def test_bodies_that_show_are_copied(layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copying = Copying()
    monkeypatch.setattr(os, "copy_file_range", copying)
    assert merged(layers, tmp_path / "out.tar") == merge_tars(STACK)
    shown = len(BIG) + 400_000 + 300_000
    assert shown - 4 * (1 << 18) < copying.copied < shown, "all but what stood in the buffer with the headers"


@pytest.mark.parametrize("most", [0, 1, 512, 700_001])
@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_what_cannot_be_copied_is_read_and_written(
    layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, refusal: int
) -> None:
    copying = Copying(most, refusal)
    monkeypatch.setattr(os, "copy_file_range", copying)
    assert merged(layers, tmp_path / "out.tar") == merge_tars(STACK)
    assert copying.copied == most


def test_a_disk_that_is_full_meanwhile(
    layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", Copying(5000, errno.ENOSPC))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SinkError, match="No space left"):
        merged(layers, tmp_path / "out.tar")
    assert sorted(tmp_path.iterdir()) == before


def test_a_layer_that_ends_within_the_body(tmp_path: Path) -> None:
    layer = tmp_path / "short.tar"
    layer.write_bytes(STACK[0][: 512 * 1500])
    with pytest.raises(Exception, match="truncated"):
        merged([LayerFile(layer)], tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_elsewhere_than_on_linux(layers: list[LayerFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range")
    assert merged(layers, tmp_path / "out.tar") == merge_tars(STACK)
