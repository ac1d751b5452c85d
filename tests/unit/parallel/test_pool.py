"""Helpers: all work is done once, errors and counts come back, and nothing is left of them."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamerge.errors import SinkError
from streamerge.fileio import Check, FileHandle
from streamerge.parallel.pool import ENOUGH, MAX_EXTENTS, Pool
from streamerge.parallel.process import can_fork
from tests.support.descriptors import descriptors, still_open

pytestmark = pytest.mark.skipif(not can_fork(), reason="needs Linux's fork")


class Diary:
    """Work that writes each piece to a file of its own, by whatever process it is done."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.done: Counter[str] = Counter()

    def make(self, piece: memoryview) -> None:
        self.note("pieces", bytes(piece))

    def fetch(self, file: int, extents: Sequence[int], to: int, check: Check) -> None:
        pairs = zip(extents[::2], extents[1::2], strict=True)
        self.note("fetched", b"".join(os.pread(file, size, at) for at, size in pairs), to)
        check()

    def note(self, what: str, data: bytes, number: int = -1) -> None:
        if data.startswith(b"bad"):
            raise SinkError("cannot").at(path=b"a\xff")
        if data.startswith(b"slow"):
            time.sleep(0.2)
        self.done[what] += 1
        number = self.done[what] if number < 0 else number
        (self.directory / f"{what}-{number}-{os.getpid()}").write_bytes(data)

    def refused(self) -> Counter[str]:
        return self.done

    def all(self) -> bytes:
        return b"".join(sorted(path.read_bytes() for path in self.directory.iterdir()))

    def authors(self) -> set[int]:
        return {int(path.name.rpartition("-")[2]) for path in self.directory.iterdir()}

    def pool(self, count: int = 1) -> Pool:
        return Pool(count, fetch=self.fetch, make=self.make, refused=self.refused)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    (tmp_path / "diary").mkdir()
    return Diary(tmp_path / "diary")


@pytest.fixture
def file(tmp_path: Path) -> FileHandle:
    (tmp_path / "file").write_bytes(b"bad." + b"slow" + b"0123456789" + bytes(8 << 20))
    return FileHandle(os.open(tmp_path / "file", os.O_RDONLY))


def piece(letter: bytes) -> bytes:
    return letter * (1 << 17)


class TestInMemory:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_all_work_is_done_and_told(self, diary: Diary, count: int) -> None:
        pool = diary.pool(count)
        letters = [bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz"]
        taken = [letter for letter in letters if pool.make(piece(letter))]
        told = pool.finish()
        assert len(told) == count
        assert sum(told, Counter()) == Counter(pieces=len(taken))
        assert diary.all() == b"".join(map(piece, taken))
        assert taken[: 3 * count] == letters[: 3 * count], "there is room for three pieces each"

    def test_what_was_counted_before_is_not_told_again(self, diary: Diary) -> None:
        diary.done["pieces"] = 5
        pool = diary.pool()
        assert pool.make(piece(b"x"))
        assert pool.finish() == [Counter(pieces=1)]

    def test_small_pieces_are_gathered(self, diary: Diary) -> None:
        pool = diary.pool()
        assert all(pool.make(b"%03d" % number + bytes(509)) for number in range(300))
        (told,) = pool.finish()
        assert told["pieces"] == 2
        assert diary.all()[::512] == b"0" * 100 + b"1" * 100 + b"2" * 100

    def test_a_run_without_its_last_padding_is_padded(self, diary: Diary) -> None:
        """The next one was taken for its continuation: the file after it was garbage."""
        pool = diary.pool()
        assert pool.make(b"a" * 700)
        assert pool.make(b"b" * 512)
        pool.finish()
        assert diary.all()[1024:] == b"b" * 512

    def test_says_no_when_it_has_enough_to_do(self, diary: Diary) -> None:
        pool = diary.pool()
        assert [pool.make(b"slow" + piece(b"x")) for _ in range(4)] == [True, True, True, False]
        pool.wait()
        assert pool.make(piece(b"y"))
        pool.kill()

    def test_says_no_to_what_is_too_large(self, diary: Diary) -> None:
        pool = diary.pool()
        assert not pool.make(bytes((1 << 19) + 1))
        assert pool.make(bytes(1 << 19))
        pool.finish()


class TestInAFile:
    def test_places_are_fetched(self, diary: Diary, file: FileHandle) -> None:
        pool = diary.pool()
        pool.fetch(file, [8, 3, 15, 2], ENOUGH, 1)
        pool.fetch(file, [11, 4], 4, 2)
        (told,) = pool.finish()
        assert told == Counter(fetched=2)
        assert diary.all() == b"01278" + b"3456"

    def test_for_little_no_helper_is_started(self, diary: Diary, file: FileHandle) -> None:
        pool = diary.pool()
        pool.fetch(file, [8, 3], 3, 1)
        assert diary.all() == b"012"
        assert diary.authors() == {os.getpid()}
        assert pool.finish() == []

    def test_as_many_as_may_be(self, diary: Diary, file: FileHandle) -> None:
        pool = diary.pool()
        pool.fetch(file, [8 + number % 10 if at == 0 else 1 for number in range(MAX_EXTENTS) for at in (0, 1)], ENOUGH)
        pool.finish()
        assert diary.all() == (b"0123456789" * 26)[:MAX_EXTENTS]

    def test_another_file_when_nobody_else_holds_the_first(
        self, diary: Diary, file: FileHandle, tmp_path: Path
    ) -> None:
        pool = diary.pool()
        pool.fetch(FileHandle(os.dup(file.fd)), [8, 10], ENOUGH, 1)
        (tmp_path / "other").write_bytes(b"abcdefghijklmnopqrstuvwxyz")
        pool.fetch(FileHandle(os.open(tmp_path / "other", os.O_RDONLY)), [8, 10], 10, 2)
        pool.finish()
        assert diary.all() == b"0123456789" + b"ijklmnopqr"

    def test_what_no_helper_has_begun_is_done_here(self, diary: Diary, file: FileHandle) -> None:
        pool = diary.pool()
        assert pool.make(b"slow" + piece(b"x"))
        for number in range(8):
            pool.fetch(file, [100, 1 << 20], 1 << 20, number)
        assert len(diary.authors()) <= 1
        (told,) = pool.finish()
        assert told == Counter(pieces=1, fetched=2)
        assert diary.done == Counter(fetched=6)
        assert diary.authors() >= {os.getpid()}
        assert len(diary.all()) == (8 << 20) + 512 + (1 << 17), "with the padding of what was in memory"

    def test_few_files_are_kept_open(self, diary: Diary, file: FileHandle) -> None:
        """Be there as many layers as there may be, and a worker that has no time for any of them."""
        before = descriptors()
        pool = diary.pool()
        assert pool.make(b"slow" + piece(b"x"))
        for number in range(300):
            pool.fetch(FileHandle(os.dup(file.fd)), [8 + number % 10, 1], 1 << 20, number)
            assert len(still_open() - before) < 50
        pool.wait()
        held = len(os.listdir(f"/proc/{pool._workers[0]._process._pid}/fd"))
        pool.finish()
        assert held <= len(still_open()) + 3
        fetched = b"".join(b"%d" % number * 30 for number in range(10))
        assert diary.all().rstrip(b"\0") == fetched + b"slow" + piece(b"x")

    def test_both_kinds_of_work(self, diary: Diary, file: FileHandle) -> None:
        pool = diary.pool()
        for number in range(20):
            while not pool.make(b"%02d" % number + piece(b"m")):
                pass
            pool.fetch(file, [8 + number % 10, 1], 1, number)
        (told,) = pool.finish()
        assert told + diary.done == Counter(pieces=20, fetched=20)

    @pytest.mark.parametrize("who", ["a worker", "we"])
    def test_a_file_that_changes(self, diary: Diary, file: FileHandle, tmp_path: Path, who: str) -> None:
        pool = diary.pool()
        if who == "we":
            assert pool.make(b"slow" + piece(b"x"))
            pool.fetch(file, [100, 4 << 20], 4 << 20)
        pool.fetch(file, [8, 10], ENOUGH)
        os.utime(tmp_path / "file", ns=(1, 1))
        with pytest.raises(SinkError, match="the layer has changed while it was being merged"):
            pool.wait()
        pool.kill()


def ask(pool: Pool, file: FileHandle, call: str) -> None:
    """Once, or for what does not wait again and again, until a worker's word has come."""
    arguments = {"make": (piece(b"y"),), "fetch": (file, [8, 1], 1)}
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        getattr(pool, call)(*arguments.get(call, ()))
        time.sleep(0.01)


@pytest.mark.parametrize("call", ["make", "fetch", "wait", "finish"])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_error_is_raised_by_whatever_comes_next(diary: Diary, file: FileHandle, call: str, kind: str) -> None:
    pool = diary.pool()
    if kind == "memory":
        assert pool.make(b"bad" + piece(b"x"))
    else:
        pool.fetch(file, [0, 4], ENOUGH)
    with pytest.raises(SinkError, match="cannot") as caught:
        ask(pool, file, call)
    assert caught.value.path == b"a\xff"
    pool.kill()


@pytest.mark.parametrize("call", ["make", "fetch", "wait", "finish"])
def test_a_helper_that_is_killed(diary: Diary, file: FileHandle, call: str) -> None:
    pool = diary.pool()
    assert pool.make(b"slow" + piece(b"x"))
    pid = pool._workers[0]._process._pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(SinkError, match="a worker process was killed"):
        ask(pool, file, call)
    pool.kill()


@pytest.mark.parametrize("end", ["finish", "kill"])
def test_nothing_is_left(diary: Diary, file: FileHandle, end: str) -> None:
    before = descriptors()
    pool = diary.pool(2)
    pool.make(piece(b"x"))
    pool.fetch(file, [8, 1], ENOUGH)
    getattr(pool, end)()
    assert still_open() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_error_of_what_it_reports(diary: Diary) -> None:
    """It was taken for the report: found by failing each system call in turn."""

    def refused() -> Counter[str]:
        if diary.done:
            raise OSError(errno.EIO, "no")
        return diary.done

    pool = Pool(1, fetch=diary.fetch, make=diary.make, refused=refused)
    assert pool.make(piece(b"x"))
    with pytest.raises(OSError, match="no"):
        pool.finish()
    pool.kill()


def test_a_signal_when_a_helper_has_just_begun(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork

    def signalled() -> int:
        pid = fork()
        if pid:
            signal.raise_signal(signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", signalled)
    pool = diary.pool()
    with pytest.raises(KeyboardInterrupt):
        pool.make(piece(b"x"))
    pool.kill()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_nothing_is_made_after_a_kill(diary: Diary) -> None:
    pool = diary.pool()
    for _ in range(3):
        pool.make(b"slow" + piece(b"x"))
    pool.kill()
    before = diary.all()
    time.sleep(0.3)
    assert diary.all() == before
