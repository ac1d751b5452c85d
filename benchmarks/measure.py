"""Run a command and take its time and memory; run several in turn."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


class CommandFailed(Exception):
    """A measured command did not succeed, so its time means nothing."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run; its output goes to a file, or nowhere."""

    arguments: Sequence[str]
    stdout: Path | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One run."""

    wall: float
    cpu: float
    """User and system time, of the command and of all that it waited for."""
    rss: int
    """Bytes at the peak of the largest process; never less than ``floor()``."""


@dataclass(slots=True)
class Series:
    """All runs of one command, up to the one that failed."""

    samples: list[Sample] = field(default_factory=list)
    failure: str = ""

    @property
    def wall(self) -> float:
        """The median, as all figures here."""
        return statistics.median(sample.wall for sample in self.samples)

    @property
    def fastest(self) -> float:
        """The shortest wall time."""
        return min(sample.wall for sample in self.samples)

    @property
    def slowest(self) -> float:
        """The longest wall time."""
        return max(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        """The median processor time."""
        return statistics.median(sample.cpu for sample in self.samples)

    @property
    def rss(self) -> int:
        """The highest peak."""
        return max(sample.rss for sample in self.samples)


def run(command: Command) -> Sample:
    """Run it once, with nothing on standard input."""
    with (command.stdout or Path(os.devnull)).open("wb") as stdout, tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(
            command.arguments, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=_environment()
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            said = stderr.read()[-1000:].decode(errors="replace")
            raise CommandFailed(f"{command.arguments[0]}: exit {process.returncode}: {said}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _environment() -> dict[str, str]:
    """One locale for all: bsdtar refuses names that the locale cannot spell."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def floor() -> int:
    """The peak that even ``true`` shows: Linux counts what the forking process had before the exec."""
    return run(Command(["true"])).rss


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A new directory that is gone afterwards, and its dirty pages with it."""
    path = Path(tempfile.mkdtemp(dir=directory))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def in_turn(
    contenders: Mapping[str, Callable[[Path], Command]],
    repeats: int,
    directory: Path,
    watch: Callable[[str], None],
) -> dict[str, Series]:
    """Run all contenders, then all of them again in the other order, and so on; each in an empty directory.

    So a machine that slows down or speeds up meanwhile does it to all of them.
    """
    series = {name: Series() for name in contenders}
    for repeat in range(repeats):
        for name in list(contenders)[:: -1 if repeat % 2 else 1]:
            watch(f"{name}, {repeat + 1} of {repeats}")
            _once_more(series[name], contenders[name], directory)
    return series


def _once_more(series: Series, contender: Callable[[Path], Command], directory: Path) -> None:
    if series.failure:
        return
    with scratch(directory) as place:
        os.sync()
        try:
            series.samples.append(run(contender(place)))
        except CommandFailed as error:
            series.failure = str(error)


def warm(paths: Sequence[Path]) -> None:
    """Read the files once, so that all contenders find them in the page cache."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
