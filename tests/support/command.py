"""The command as a user runs it: a process of its own, its exit code, and what it says."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import streamerge

__all__ = [
    "UNCOUNTED",
    "Argument",
    "Done",
    "argv",
    "end_soon",
    "environment",
    "finished",
    "on_terminal",
    "run",
    "shell",
    "start",
]

Argument = str | os.PathLike[str]

UNCOUNTED: dict[str, str | None] = {"COVERAGE_PROCESS_START": None, "COVERAGE_PROCESS_CONFIG": None}
"""Environment of a run whose branches are not counted: a signal that meets the counting leaves a lock behind."""

TIMEOUT = 120
"""Seconds after which a run hangs."""


@dataclass(frozen=True)
class Done:
    """A run that is over."""

    code: int
    out: bytes
    err: str

    def assert_merged(self) -> Done:
        assert self.code == 0, self.err
        return self

    def assert_failed(self, *words: str, code: int = 1) -> Done:
        """It failed with one line on stderr, which holds ``words`` and is no traceback."""
        assert self.code == code, (self.code, self.err)
        assert self.err.startswith("streamerge: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n"), self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in {self.err!r}"
        return self

    def assert_usage_error(self, *words: str) -> Done:
        """It failed with exit code 2 and how to do better, without a traceback."""
        assert self.code == 2, (self.code, self.err)
        assert "Traceback" not in self.err
        assert "--help" in self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in {self.err!r}"
        return self


def argv(*arguments: Argument) -> list[str]:
    """The command of the ``streamerge`` that these tests import, whether installed or not."""
    return [sys.executable, "-m", "streamerge", *(os.fspath(argument) for argument in arguments)]


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This process's environment with some variables changed, or gone where they are None."""
    where = str(Path(streamerge.__file__).parents[1])
    merged = {**os.environ, "PYTHONPATH": where, "PYTHONSAFEPATH": "1", **(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}


def run(
    *arguments: Argument,
    stdin: bytes = b"",
    env: Mapping[str, str | None] | None = None,
    cwd: Argument | None = None,
    prefix: Sequence[str] = (),
) -> Done:
    """Run the command to its end; ``prefix`` is a program that runs it, such as ``prlimit``."""
    done = subprocess.run(
        [*prefix, *argv(*arguments)],
        input=stdin,
        capture_output=True,
        env=environment(env),
        cwd=cwd,
        timeout=TIMEOUT,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "backslashreplace"))


def shell(script: str, *arguments: Argument, cwd: Argument, env: Mapping[str, str | None] | None = None) -> Done:
    """Run a bash script in which ``streamerge`` is the command, and ``$1`` and so on are the arguments."""
    function = 'streamerge() { "$PYTHON" -m streamerge "$@"; }\n'
    done = subprocess.run(
        ["bash", "-c", function + script, "bash", *(os.fspath(argument) for argument in arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment({"PYTHON": sys.executable, **(env or {})}),
        cwd=cwd,
        timeout=TIMEOUT,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "backslashreplace"))


def start(*arguments: Argument, env: Mapping[str, str | None] | None = None) -> subprocess.Popen[bytes]:
    """Begin to run the command; whoever calls ends it, by :func:`finished`. No signal is ignored from birth."""
    return subprocess.Popen(
        ["env", "--default-signal=HUP,INT,TERM", *argv(*arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
    )


def finished(process: subprocess.Popen[bytes]) -> Done:
    """Wait for a process of :func:`start`."""
    out, err = process.communicate(timeout=TIMEOUT)
    return Done(process.returncode, out, err.decode("utf-8", "backslashreplace"))


def on_terminal(*arguments: Argument, stdout: bool, env: Mapping[str, str | None] | None = None) -> Done:
    """Run the command with stderr, and stdout if asked, on a terminal: ``err`` is what that one showed."""
    leader, terminal = pty.openpty()
    with subprocess.Popen(
        argv(*arguments),
        stdin=terminal,
        stdout=terminal if stdout else subprocess.DEVNULL,
        stderr=terminal,
        env=environment({"TERM": "xterm", "COLUMNS": "200", "LINES": "50", **(env or {})}),
    ) as process:
        os.close(terminal)
        shown = bytearray()
        with suppress(OSError):  # EIO: nobody has the terminal open any more
            while chunk := os.read(leader, 4096):
                shown += chunk
        os.close(leader)
    return Done(process.returncode, b"", shown.decode("utf-8", "backslashreplace"))


def end_soon(pids: Iterable[int]) -> bool:
    """Whether all these processes are gone, or will be: one that has been killed may take a moment."""
    running, deadline = set(pids), time.monotonic() + 10
    while running and time.monotonic() < deadline:
        running = set(filter(_is_running, running))
        time.sleep(0.02)
    return not running


def _is_running(pid: int) -> bool:
    """Whether it is there, and more than a zombie that nobody has asked about."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
