"""Helpers: all work is done once, errors and counts come back, and nothing is left of them."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from streamerge import DirectorySink, merge
from streamerge.errors import SinkError
from streamerge.fork import can_fork
from streamerge.sinks.crew import Crew
from tests.support.layers import Layer
from tests.support.merged import BytesLayer

pytestmark = pytest.mark.skipif(not can_fork(), reason="needs Linux's fork")


class Diary:
    """Work that writes each piece to a file of its own, by whatever process it is done."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.done: Counter[str] = Counter()

    def work(self, piece: memoryview) -> None:
        data = bytes(piece)
        if data.startswith(b"bad"):
            raise SinkError("cannot").at(path=b"a\xff")
        if data.startswith(b"slow"):
            time.sleep(0.2)
        self.done["pieces"] += 1
        name = f"{os.getpid()}-{self.done['pieces']}"
        (self.directory / name).write_bytes(data)

    def told(self) -> Counter[str]:
        return self.done

    def all(self) -> bytes:
        return b"".join(sorted(path.read_bytes() for path in self.directory.iterdir()))


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


def piece(letter: bytes) -> bytes:
    return letter * (1 << 17)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_work_is_done_and_told(diary: Diary, count: int) -> None:
    crew = Crew(count, diary.work, diary.told)
    letters = [bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz"]
    taken = [letter for letter in letters if crew.takes(piece(letter))]
    told = crew.finish()
    assert len(told) == count
    assert sum(told, Counter()) == Counter(pieces=len(taken))
    assert diary.all() == b"".join(map(piece, taken))
    assert taken[: 3 * count] == letters[: 3 * count], "there is room for three pieces each"


def test_small_pieces_are_gathered(diary: Diary) -> None:
    crew = Crew(1, diary.work, diary.told)
    assert all(crew.takes(b"%03d" % number + bytes(509)) for number in range(300))
    (told,) = crew.finish()
    assert told["pieces"] == 2
    assert diary.all()[::512] == b"0" * 100 + b"1" * 100 + b"2" * 100


def test_a_run_without_its_last_padding_is_padded(diary: Diary) -> None:
    """The next one was taken for its continuation: the file after it was garbage."""
    crew = Crew(1, diary.work, diary.told)
    assert crew.takes(b"a" * 700)
    assert crew.takes(b"b" * 512)
    crew.finish()
    assert diary.all()[1024:] == b"b" * 512


def test_says_no_when_it_has_enough_to_do(diary: Diary) -> None:
    crew = Crew(1, diary.work, diary.told)
    assert [crew.takes(b"slow" + piece(b"x")) for _ in range(4)] == [True, True, True, False]
    crew.wait()
    assert crew.takes(piece(b"y"))
    crew.kill()


def test_says_no_to_what_is_too_large(diary: Diary) -> None:
    crew = Crew(1, diary.work, diary.told)
    assert not crew.takes(bytes((1 << 19) + 1))
    assert crew.takes(bytes(1 << 19))
    crew.finish()


@pytest.mark.parametrize("call", ["takes", "wait", "finish"])
def test_an_error_is_raised_by_whatever_comes_next(diary: Diary, call: str) -> None:
    crew = Crew(1, diary.work, diary.told)
    assert crew.takes(b"bad" + piece(b"x"))
    time.sleep(0.2)
    with pytest.raises(SinkError, match="cannot") as caught:
        crew.takes(piece(b"y")) if call == "takes" else getattr(crew, call)()
    assert caught.value.path == b"a\xff"
    crew.kill()


def test_a_helper_that_is_killed(diary: Diary) -> None:
    crew = Crew(1, diary.work, diary.told)
    assert crew.takes(b"slow" + piece(b"x"))
    os.kill(crew._helpers[0]._child._pid, signal.SIGKILL)
    with pytest.raises(SinkError, match="a process that helped to make files was killed"):
        crew.wait()
    crew.kill()


@pytest.mark.parametrize("end", ["finish", "kill"])
def test_nothing_is_left(diary: Diary, end: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    crew = Crew(2, diary.work, diary.told)
    crew.takes(piece(b"x"))
    getattr(crew, end)()
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_nothing_is_made_after_a_kill(diary: Diary) -> None:
    crew = Crew(1, diary.work, diary.told)
    for _ in range(3):
        crew.takes(b"slow" + piece(b"x"))
    crew.kill()
    before = diary.all()
    time.sleep(0.3)
    assert diary.all() == before


def test_a_directory_is_written_without_helpers_where_there_may_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    before = set(os.listdir("/proc/self/fd"))
    layer = BytesLayer(Layer().dir(b"d").file(b"d/f", b"x").file(b"g", b"y").tar())
    merge([layer], DirectorySink(str(tmp_path / "root"), helpers=2, fsync=False))
    assert (tmp_path / "root/d/f").read_bytes() + (tmp_path / "root/g").read_bytes() == b"xy"
    assert set(os.listdir("/proc/self/fd")) == before
