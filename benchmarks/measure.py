"""Run a command and measure its time and memory; run several commands in turn."""

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
"""The name of a file that a command may leave: each line has the name of a part of its work, and the seconds."""


class CommandFailed(Exception):
    """A measured command failed, so its time means nothing."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run; its output goes to a file or is discarded."""

    arguments: Sequence[str]
    stdout: Path | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One run, in seconds and bytes; for a part of a run, only the wall time is known."""

    wall: float
    cpu: float = 0.0
    """User and system time of the command and of all processes that it waited for."""
    rss: int = 0
    """Peak memory of the largest process in bytes; never less than ``floor()``."""


@dataclass(slots=True)
class Series:
    """The runs of one command by round; it is not run again after a failure."""

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
        """The median CPU time; 0 if it is not known."""
        return statistics.median(sample.cpu for sample in self.rounds.values())

    @property
    def rss(self) -> int:
        """The highest peak memory; 0 if it is not known."""
        return max(sample.rss for sample in self.rounds.values())


class Runner(Protocol):
    """A command that can be run in turn with others."""

    @property
    def name(self) -> str:
        """The name of its series."""

    @property
    def slow(self) -> bool:
        """Whether it runs in the first rounds only."""

    def start(self, place: Path) -> Command:
        """The command, which writes to the empty directory ``place``."""


def run(command: Command) -> Sample:
    """Run a command once, with empty standard input. Raises CommandFailed."""
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
    """Ours with a UTF-8 locale, since bsdtar refuses names that it cannot convert, and without PYTHONPATH."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "LC_ALL": "C.UTF-8"}


def floor() -> int:
    """The peak memory of ``true``: Linux also counts the memory of the forking process before the exec."""
    return run(Command(["true"])).rss


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A new directory that is removed afterwards, together with its dirty pages."""
    path = Path(tempfile.mkdtemp(dir=directory))
    try:
        yield path
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=True)  # several times as fast as shutil


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and where to run commands."""

    directory: Path
    rounds: int
    slow_rounds: int
    watch: Callable[[str], None]
    """Called with a description of each run before it starts."""
    inspect: Callable[[str, Path], None]
    """Called once for each contender, with its name and its output directory, before that is deleted."""


def in_turn(runners: Sequence[Runner], plan: Plan) -> dict[str, Series]:
    """Run all commands, then all of them again in reverse order, and so on; each in an empty directory.

    If the machine becomes slower or faster meanwhile, that affects all commands alike. So times from the same round
    can be compared.
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
    """Read the files once, so that they are in the page cache for all contenders."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
