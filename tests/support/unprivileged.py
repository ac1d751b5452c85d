"""The command as somebody who is not root, or is root of a user namespace only.

The interpreter itself may lie where only root may go, so that a child of root imports everything first
and then gives up what it is to give up, once and for all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from tests.support.command import TIMEOUT, Argument, Done, environment

__all__ = ["NOBODY", "Caller", "run_as", "start_as"]


@dataclass(frozen=True)
class Caller:
    """Who runs the command. ``uids`` and ``gids`` make a user namespace, lines of (inside, outside, count)."""

    uid: int = 65534
    gid: int = 65534
    groups: tuple[int, ...] = ()
    umask: int | None = None
    uids: tuple[tuple[int, int, int], ...] = ()
    gids: tuple[tuple[int, int, int], ...] = ()


NOBODY = Caller()

_CHILD = """
import ctypes, difflib, importlib, json, lz4.block, os, pathspec, pickle, pkgutil, socket, sys, tempfile, traceback
import urllib.parse
import streamerge

for module in pkgutil.walk_packages(streamerge.__path__, "streamerge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

arguments, caller = json.loads(sys.argv[1])
if caller["umask"] is not None:
    os.umask(caller["umask"])
if caller["uids"]:
    left, right = os.pipe()
    told, tell = os.pipe()
    parent = os.getpid()
    writer = os.fork()
    if writer == 0:  # stays outside and maps the ids: only there is a process that may
        os.read(left, 1)
        for name in ("uid", "gid"):
            lines = "".join("%d %d %d\\n" % tuple(line) for line in caller[name + "s"])
            with open("/proc/%d/%s_map" % (parent, name), "w") as file:
                file.write(lines)
        os.write(tell, b"x")
        os._exit(0)
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(right, b"x")
    assert os.read(told, 1) == b"x"
    os.waitpid(writer, 0)
os.setgroups(caller["groups"])
os.setresgid(caller["gid"], caller["gid"], caller["gid"])
os.setresuid(caller["uid"], caller["uid"], caller["uid"])
os.chdir("/")
streamerge.cli.main.main(arguments)
"""


def _argv(arguments: Sequence[Argument], caller: Caller) -> list[str]:
    given = json.dumps([[str(argument) for argument in arguments], asdict(caller)])
    return ["env", "--default-signal=HUP,INT,TERM", sys.executable, "-c", _CHILD, given]


def _environment(env: Mapping[str, str | None] | None) -> dict[str, str]:
    """Whoever gives up root cannot write coverage's data any more."""
    unmeasured = {"COVERAGE_PROCESS_START": None, "COVERAGE_PROCESS_CONFIG": None}
    return environment({**unmeasured, **(env or {})})


def run_as(caller: Caller, *arguments: Argument, env: Mapping[str, str | None] | None = None) -> Done:
    """Run the command to its end, by absolute paths, as ``caller``. The test itself must be root."""
    done = subprocess.run(
        _argv(arguments, caller),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment(env),
        timeout=TIMEOUT,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "backslashreplace"))


def start_as(caller: Caller, *arguments: Argument) -> subprocess.Popen[bytes]:
    """Begin to run the command as ``caller``; whoever calls ends it, by ``command.finished``."""
    return subprocess.Popen(
        _argv(arguments, caller),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(None),
    )
