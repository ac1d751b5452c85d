"""Run a command and take its time and memory; run several in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

PHASES = "phases"
"""A command that does its work in parts may leave a file of this name: lines of a part's name and its seconds."""


class CommandFailed(Exception):
    """A measured command did not succeed, so its time means nothing."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run; its output goes to a file, or nowhere."""

    arguments: Sequence[str]
    stdout: Path | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One run, or one part of a run, of which only the wall time is known."""

    wall: float
    cpu: float = 0.0
    """User and system time, of the command and of all that it waited for."""
    rss: int = 0
    """Bytes at the peak of the largest process; never less than ``floor()``."""


@dataclass(slots=True)
class Series:
    """The runs of one command by the number of their round, up to the one that failed. Figures are medians."""

    rounds: dict[int, Sample] = field(default_factory=dict)
    failure: str = ""

    @property
    def wall(self) -> float:
        """The median wall time."""
        return statistics.median(sample.wall for sample in self.rounds.values())

    @property
    def fastest(self) -> float:
        """The shortest wall time."""
        return min(sample.wall for sample in self.rounds.values())

    @property
    def slowest(self) -> float:
        """The longest wall time."""
        return max(sample.wall for sample in self.rounds.values())

    @property
    def cpu(self) -> float:
        """The median processor time; 0 where it is not known."""
        return statistics.median(sample.cpu for sample in self.rounds.values())

    @property
    def rss(self) -> int:
        """The highest peak; 0 where it is not known."""
        return max(sample.rss for sample in self.rounds.values())


class Runner(Protocol):
    """What can be run in turn with others."""

    @property
    def name(self) -> str:
        """What its series is called."""

    @property
    def slow(self) -> bool:
        """Whether it takes part in the first rounds only."""

    def start(self, place: Path) -> Command:
        """The command, given an empty directory to write to."""


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
    """One locale for all: bsdtar refuses names that it cannot spell. And no checkout before what is installed."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "LC_ALL": "C.UTF-8"}


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
        subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=True)  # some times as fast as shutil


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to run what, and where."""

    directory: Path
    rounds: int
    slow_rounds: int
    watch: Callable[[str], None]
    """Told what is run next."""
    inspect: Callable[[str, Path], None]
    """Given each contender's name and output directory, once, before that is deleted."""


def in_turn(runners: Sequence[Runner], plan: Plan) -> dict[str, Series]:
    """Run all, then all of them again in the other order, and so on; each in an empty directory.

    So a machine that slows down or speeds up meanwhile does it to all of them, and what ran in one round may be
    compared.
    """
    series = {runner.name: Series() for runner in runners}
    for number in range(plan.rounds):
        for runner in list(runners)[:: -1 if number % 2 else 1]:
            if not series[runner.name].failure and (number < plan.slow_rounds or not runner.slow):
                plan.watch(f"{runner.name}, {number + 1} of {plan.rounds}")
                _once_more(series, runner, number, plan)
    return series


def _once_more(series: dict[str, Series], runner: Runner, number: int, plan: Plan) -> None:
    with scratch(plan.directory) as place:
        command = runner.start(place)
        os.sync()
        try:
            series[runner.name].rounds[number] = run(command)
        except CommandFailed as error:
            series[runner.name].failure = str(error)
            return
        for part, seconds in _phases(place / PHASES):
            series.setdefault(f"{runner.name}: {part}", Series()).rounds[number] = Sample(seconds)
        if number == 0:
            plan.inspect(runner.name, place)


def _phases(path: Path) -> Iterator[tuple[str, float]]:
    for line in path.read_text().splitlines() if path.exists() else []:
        name, _, seconds = line.rpartition(" ")
        yield name, float(seconds)


def warm(paths: Sequence[Path]) -> None:
    """Read the files once, so that all contenders find them in the page cache."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
