"""Directory descriptors: found again, bounded, and never by way of a symlink."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamerge.fileio import few_descriptors
from streamerge.sinks.directory.fds import DirectoryFds
from tests.support.descriptors import descriptors, still_open


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def is_at(fd: int, path: Path) -> bool:
    return os.path.samestat(os.fstat(fd), path.stat())


def test_the_root_is_its_own(root: int) -> None:
    assert DirectoryFds(root).get(b"") == root


def test_each_path_is_its_directory(root: int, tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a-b").mkdir()
    fds = DirectoryFds(root)
    for path in ("a/b/c", "a", "a/b", "a-b", "a/b/c", "a"):
        assert is_at(fds.get(path.encode()), tmp_path / path)
    fds.close()


def test_one_is_opened_once(root: int, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    fds = DirectoryFds(root)
    before = descriptors()
    first = fds.get(b"a/b")
    assert fds.get(b"a/b") == first
    assert len(still_open() - before) == 2
    fds.close()
    assert still_open() == before
    fds.close()


def test_they_are_bounded(root: int, tmp_path: Path) -> None:
    """And each is right, however many have been closed since; also in a path deeper than the bound."""
    fds = DirectoryFds(root)
    before = descriptors()
    for number in range(400):
        (tmp_path / str(number)).mkdir()
    deep = "/".join(["d"] * 300)
    (tmp_path / deep).mkdir(parents=True)
    for _ in range(2):
        for number in range(400):
            assert is_at(fds.get(b"%d" % number), tmp_path / str(number))
        assert is_at(fds.get(deep.encode()), tmp_path / deep)
        assert is_at(fds.get(b"d"), tmp_path / "d")
        assert len(still_open() - before) <= 128
    fds.close()
    assert still_open() == before


@pytest.mark.parametrize("allowed", [16, 40, 400])
def test_never_too_many(root: int, tmp_path: Path, allowed: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, descriptors()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, before[1]))
    try:
        assert few_descriptors(1000) == allowed // 4
        assert few_descriptors(3) == 3
        fds = DirectoryFds(root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    deep = "/".join("abcdefgh") + "/" + "/".join(["d"] * allowed)
    (tmp_path / deep).mkdir(parents=True)
    for path in (deep, deep[:9], deep):
        assert is_at(fds.get(path.encode()), tmp_path / path)
        assert max(map(int, still_open())) <= highest + allowed // 4 + 1
    fds.close()


@pytest.mark.parametrize("path", [b"s", b"s/in", b"a/s", b"a/s/in", b"a/up/a"])
def test_no_symlink_is_followed(root: int, tmp_path: Path, path: bytes) -> None:
    (tmp_path / "real/in").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "s").symlink_to("real")
    (tmp_path / "a/s").symlink_to(tmp_path / "real")
    (tmp_path / "a/up").symlink_to("..")
    fds = DirectoryFds(root)
    before = descriptors()
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        fds.get(path)
    fds.close()
    assert still_open() == before


def test_what_is_open_stays_what_it_was(root: int, tmp_path: Path) -> None:
    """A symlink in a directory's place changes nothing for who has been there, and stops who has not."""
    (tmp_path / "a/b").mkdir(parents=True)
    fds = DirectoryFds(root)
    fd = fds.get(b"a")
    (tmp_path / "a").rename(tmp_path / "moved")
    (tmp_path / "a").symlink_to("/")
    assert fds.get(b"a") == fd
    assert is_at(fds.get(b"a/b"), tmp_path / "moved/b")
    fds.drop(b"a")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        fds.get(b"a")
    fds.close()


@pytest.mark.parametrize("path", [b"none", b"a/none", b"none/a", b"file", b"file/x"])
def test_what_is_no_directory(root: int, tmp_path: Path, path: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    fds = DirectoryFds(root)
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        fds.get(path)
    fds.close()


def test_dropping_what_is_not_open(root: int) -> None:
    DirectoryFds(root).drop(b"never")
