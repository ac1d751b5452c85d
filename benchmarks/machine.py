"""What the figures depend on: the machine, the file systems, and the versions of everything that is measured."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

MIB = 1 << 20
TOOLS = ("tar", "bsdtar", "gzip", "igzip", "zstd", "umoci", "buildah", "podman")
PACKAGES = ("isal", "zstandard", "lz4")


def describe(streamerge: Sequence[str]) -> dict[str, str]:
    """The machine, and the versions of the command and of the installed tools."""
    facts = {
        "processor": _first_match("/proc/cpuinfo", r"model name\s*: (.*)") or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_first_match('/proc/meminfo', 'MemTotal: *([0-9]+)') or 0) / MIB:.1f} GiB",
        "kernel": platform.release(),
        "Python": _version_of([interpreter_of(streamerge), "-V"]),
        "streamerge": _version_of([*streamerge, "--version"]),
    }
    facts |= {package: _package_version(package) for package in PACKAGES}
    return facts | {tool: _version_of([tool, "--version"]) for tool in TOOLS if shutil.which(tool)}


def installed() -> str:
    """A shell command for the streamerge that is installed beside this Python, or else for the module."""
    script = Path(sys.executable).with_name("streamerge")
    return shlex.join([str(script)] if script.exists() else [sys.executable, "-m", "streamerge"])


def interpreter_of(command: Sequence[str]) -> str:
    """The Python that runs a command: the one that its script's first line names, or the command itself."""
    found = shutil.which(command[0])
    first = Path(found).read_bytes()[:200].partition(b"\n")[0] if found else b""
    return os.fsdecode(first[2:].strip()) if first.startswith(b"#!/") else command[0]


def file_system(directory: Path) -> str:
    """The type of the file system that a directory is on, as ``mount`` names it."""
    answer = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", directory], capture_output=True, text=True)
    return (answer.stdout.split() or ["unknown"])[-1]


def _first_match(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text()) if Path(path).exists() else None
    return found[1] if found else ""


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _version_of(command: Sequence[str]) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (answer.stdout or answer.stderr).strip().splitlines()
    found = re.search(r"\d+\.\d+(?:\.\d+)?", lines[0]) if lines else None
    return found[0] if found and not answer.returncode else "unknown"
