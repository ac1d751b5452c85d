"""A tool while it runs: what it says, how it ends, how it is ended.

It has a session of its own, so that Ctrl-C reaches it through us alone, after which nothing of it is left. What it
says goes to standard error, never to standard output, which may be ours to write to; its last lines are kept for
the message, should it fail.
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
_CHECK_INTERVAL = 0.05  # seconds


class Process:
    """A running tool. With ``feeds`` the caller writes its standard input to :attr:`fd`; else that is the command's."""

    def __init__(self, command: Command, console: Console, *, feeds: bool) -> None:
        self._name = os.path.basename(command.argv[0])
        self._quiet = console.quiet or command.silent
        self._input = command.stdin
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        shows = console.progress and command.progress
        if shows:
            console.before()
        try:
            self._process = subprocess.Popen(
                command.argv,
                stdin=subprocess.PIPE if feeds or command.stdin is not None else subprocess.DEVNULL,
                stdout=2 if shows else subprocess.PIPE,
                stderr=subprocess.PIPE if shows else subprocess.STDOUT,
                env=_environment(command),
                start_new_session=True,
            )
        except OSError as error:
            raise SinkError(f"cannot run {command.argv[0]}: {error.strerror}") from error
        said = self._process.stderr if shows else self._process.stdout
        assert said is not None
        self._listener = threading.Thread(target=self._listen, args=(said,), daemon=True)
        self._listener.start()
        if feeds:
            self._grow_pipe()

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
        while self._last:
            self._pass_on(self._last.popleft())

    def has_succeeded(self) -> bool:
        """Whether a tool that has stopped reading has done so because it has all it wants."""
        self._wait()
        return self._process.returncode == 0

    def failure(self) -> SinkError:
        """Why a tool that has ended did not do its work, in its own last words."""
        self._wait()
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        words = "; ".join(line.strip() for line in self._last if line.strip())
        return SinkError(f"{self._name} failed ({how}){': ' + words if words else ''}")

    def kill(self) -> None:
        """End the tool, and all that it has started, at once. Never raises."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close_input()
        self._listener.join(timeout=1)

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _wait(self) -> None:
        self._process.wait()
        self._listener.join(timeout=5)

    def _listen(self, said: IO[bytes]) -> None:
        """Keep the last lines, which the message repeats should the tool fail; pass on those before."""
        with said:
            for line in said:
                for part in line.replace(b"\r", b"\n").splitlines():
                    self._hear(show(part[:_LONGEST_LINE].expandtabs()).rstrip().removeprefix(self._name + ": "))

    def _hear(self, text: str) -> None:
        if text:
            if len(self._last) == _LAST_LINES:
                self._pass_on(self._last[0])
            self._last.append(text)

    def _pass_on(self, text: str) -> None:
        if not self._quiet:
            print(f"{self._name}: {text}", file=sys.stderr)

    def _grow_pipe(self) -> None:
        """A larger pipe means fewer turns; a kernel that says no does no harm."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _PIPE_SIZE)


def _environment(command: Command) -> dict[str, str]:
    """Ours, in the C locale with names of any bytes: libarchive refuses what the locale cannot spell."""
    merged = {**os.environ, "LC_ALL": "C.UTF-8", **command.environment}
    return {name: value for name, value in merged.items() if value is not None}
