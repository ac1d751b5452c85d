"""A running tool: its input, its output, its exit code.

The tool runs in its own session, so that Ctrl-C reaches only streamerge, which then kills the tool and all processes
that it has started. Its output goes to standard error, since standard output may be where streamerge writes. The last
lines are kept for the message if it fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import IO

from streamerge.errors import SinkError, show
from streamerge.fileio import Check, no_check
from streamerge.sinks.mkfs.commands import Command
from streamerge.sinks.mkfs.options import Console

__all__ = ["Process"]

_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_LAST_LINES = 4
_LONGEST_LINE = 400
_CHECK_INTERVAL = 0.02  # seconds


class Process:
    """A running tool. With ``feeds`` the caller writes its standard input to :attr:`fd`; else the command holds it."""

    def __init__(self, command: Command, console: Console, *, feeds: bool) -> None:
        self._name = os.path.basename(command.argv[0])
        self._quiet = console.quiet or command.silent
        self._input = command.stdin
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        shows_progress = console.progress and command.progress
        if shows_progress:
            console.before()
        self._process = _started(command, pipe=feeds or command.stdin is not None, shows_progress=shows_progress)
        output = self._process.stderr if shows_progress else self._process.stdout
        assert output is not None
        self._output_thread = threading.Thread(target=self._read_output, args=(output,), daemon=True)
        self._output_thread.start()
        if feeds:
            self._enlarge_pipe()

    @property
    def fd(self) -> int:
        """The descriptor of the tool's standard input."""
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    def finish(self, check: Check = no_check) -> None:
        """End the tool's input and wait for it; ``check`` is called meanwhile. Raises SinkError if it fails."""
        if self._input is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(self._input)
        self._close_input()
        while check is not no_check and self._process.poll() is None:
            check()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_CHECK_INTERVAL)
        if not self.has_succeeded():
            raise self.failure()
        while self._last_lines:
            self._print(self._last_lines.popleft())

    def has_succeeded(self) -> bool:
        """Wait for a tool whose input has ended or which no longer reads it; whether its exit code is 0."""
        self._wait()
        return self._process.returncode == 0

    def failure(self) -> SinkError:
        """The error for a tool that failed or did not read its whole input; it holds the last lines of output."""
        self._wait()
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        lines = "; ".join(line.strip() for line in self._last_lines if line.strip())
        return SinkError(f"{self._name} failed ({how}){': ' + lines if lines else ''}")

    def kill(self) -> None:
        """Kill the tool and all processes that it has started. Never raises."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close_input()
        self._output_thread.join(timeout=1)

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _wait(self) -> None:
        self._process.wait()
        self._output_thread.join(timeout=5)

    def _read_output(self, output: IO[bytes]) -> None:
        """Keep the last lines for the message if the tool fails; print those before."""
        with output:
            for line in output:
                for part in line.replace(b"\r", b"\n").splitlines():
                    self._keep(show(part[:_LONGEST_LINE].expandtabs()).rstrip().removeprefix(self._name + ": "))

    def _keep(self, line: str) -> None:
        if line:
            if len(self._last_lines) == _LAST_LINES:
                self._print(self._last_lines[0])
            self._last_lines.append(line)

    def _print(self, line: str) -> None:
        if not self._quiet:
            print(f"{self._name}: {line}", file=sys.stderr)

    def _enlarge_pipe(self) -> None:
        """A larger pipe needs fewer system calls; a kernel that refuses it does no harm."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _PIPE_SIZE)


def _started(command: Command, *, pipe: bool, shows_progress: bool) -> subprocess.Popen[bytes]:
    """Start the command. ``pipe``: its standard input is a pipe. ``shows_progress``: its output is the terminal."""
    try:
        return subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stdout=2 if shows_progress else subprocess.PIPE,
            stderr=subprocess.PIPE if shows_progress else subprocess.STDOUT,
            env=_environment(command),
            start_new_session=True,
        )
    except OSError as error:
        raise SinkError(f"cannot run {command.argv[0]}: {error.strerror}") from error


def _environment(command: Command) -> dict[str, str]:
    """Our environment with the command's changes, in a UTF-8 locale: libarchive refuses names that it cannot decode."""
    merged = {**os.environ, "LC_ALL": "C.UTF-8", **command.environment}
    return {name: value for name, value in merged.items() if value is not None}
