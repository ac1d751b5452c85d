"""Trees taken away, put in the place of others, and left alone where something is mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamerge.sinks.directory import replace
from streamerge.sinks.directory.replace import mounts_in, remove_tree, replace_tree


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What symlinks point to, and no removal touches."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "kept").write_text("x")
    yield path
    assert (path / "kept").read_text() == "x"


def grown(path: Path, outside: Path) -> Path:
    for name in ("a/b/c", "e/f", "g"):
        (path / name).mkdir(parents=True)
        (path / name / "file").write_text("x")
        (path / name / "link").symlink_to(outside)
        (path / name / "new\nline").touch(mode=0)
        os.mkfifo(path / name / "fifo")
        os.symlink(b"\xff", os.fsencode(path / name) + b"/\xff")
    return path


def test_a_tree_goes_whatever_its_modes(tmp_path: Path, outside: Path) -> None:
    tree = grown(tmp_path / "tree", outside)
    for name in ("a/b/c", "a/b", "a", "e/f", ""):
        (tree / name).chmod(0)
    remove_tree(str(tree))
    assert os.listdir(tmp_path) == ["outside"]


def test_a_deep_tree_goes(tmp_path: Path) -> None:
    """Deeper than a path can be long, or a function be recursive."""
    (tmp_path / "tree").mkdir()
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=fd)
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["nothing", "file", "symlink"])
def test_what_is_no_tree(tmp_path: Path, outside: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "tree").write_text("x")
    elif kind == "symlink":
        (tmp_path / "tree").symlink_to(outside)
    mode = outside.stat().st_mode
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match=r"No such file|Not a directory|not supported|Too many levels"):
        remove_tree(str(tmp_path / "tree"))
    assert sorted(os.listdir(tmp_path)) == before
    assert outside.stat().st_mode == mode


@pytest.mark.parametrize("there", ["nothing", "empty"])
@pytest.mark.parametrize("force", [False, True])
def test_a_tree_takes_a_free_place(tmp_path: Path, there: str, force: bool) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "x").touch()
    if there == "empty":
        (tmp_path / "old").mkdir()
    assert replace_tree(str(tmp_path / "new"), str(tmp_path / "old"), force=force, fsync=True) is None
    assert os.listdir(tmp_path) == ["old"]
    assert os.listdir(tmp_path / "old") == ["x"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_tree_takes_anothers_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of the {name}").touch()
    if not exchanges:
        monkeypatch.setattr(replace, "_exchange", lambda _new, _path: False)
    new, old = str(tmp_path / "new"), str(tmp_path / "old")
    with pytest.raises(OSError, match="not empty"):
        replace_tree(new, old, force=False, fsync=False)
    assert os.listdir(old) == ["of the old"]
    aside = replace_tree(new, old, force=True, fsync=False)
    assert aside is not None
    assert (aside == new) is exchanges
    assert os.listdir(old) == ["of the new"]
    assert os.listdir(aside) == ["of the old"]


@pytest.mark.parametrize("error", [OSError(5, "made to fail"), KeyboardInterrupt()])
def test_an_old_tree_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Where the kernel cannot swap, and it stops between the two renames."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of the {name}").touch()
    rename, calls = os.rename, []

    def failing(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) == 3:
            raise error
        rename(source, target)

    monkeypatch.setattr(replace, "_exchange", lambda _new, _path: False)
    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(type(error)):
        replace_tree(str(tmp_path / "new"), str(tmp_path / "old"), force=True, fsync=False)
    assert os.listdir(tmp_path / "old") == ["of the old"]
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def test_mounts() -> None:
    assert "/proc" in mounts_in("/")
    assert mounts_in("/proc")[0] == "/proc"
    assert mounts_in("/pro") == []
    assert mounts_in("/no/such/place") == []


def test_the_exchange_is_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """False, and nothing changed, where one of the two is missing."""
    (tmp_path / "a").mkdir()
    assert replace._exchange(str(tmp_path / "a"), str(tmp_path / "b")) is False
    assert os.listdir(tmp_path) == ["a"]
