"""What a test needs and not every machine has: rights, features of the kernel, programs.

A test names a right or feature by a mark (``root``, ``overlayfs``, ...; see ``ABILITIES``), a program by the fixture
``need_tool``. Where it is missing, the test is skipped with the reason. In CI, which is when ``CI`` is set, that is a
failure, except for what ``STREAMERGE_TEST_MAY_LACK`` lists, separated by commas: abilities, programs, or ``any``.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import overlay
from tests.support.layers import Layer

__all__ = ["ABILITIES", "has", "may_lack", "missing", "require"]

_LARGEST_ID = (1 << 32) - 2


def missing(what: str, reason: str) -> NoReturn:
    """Skip the test for want of ``what``, an ability or a program. Fails it in CI unless CI may lack that."""
    if os.environ.get("CI") and not may_lack(what):
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    _note(what, reason)
    pytest.skip(reason)


@cache
def _note(what: str, reason: str) -> None:
    """Tell tests/report_coverage.py that not all tests ran. Tools newer than Debian 12's do not count there."""
    skipped = os.environ.get("STREAMERGE_TEST_SKIPPED")
    if skipped and what != "new_tools":
        with open(skipped, "a") as file:
            file.write(reason.splitlines()[0] + "\n")


def may_lack(what: str) -> bool:
    """Whether ``STREAMERGE_TEST_MAY_LACK`` lists this."""
    listed = os.environ.get("STREAMERGE_TEST_MAY_LACK", "").split(",")
    return "any" in listed or what in listed


def require(ability: str) -> None:
    """Skip or fail the test if this process lacks the ability."""
    reason = _why_not(ability)
    if reason:
        missing(ability, reason)


def has(ability: str) -> bool:
    """Whether this process has the ability. Fails the test in CI if it must have it and has not."""
    reason = _why_not(ability)
    if reason and os.environ.get("CI") and not may_lack(ability):
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    if reason:
        _note(ability, reason)
    return not reason


@cache
def _why_not(ability: str) -> str:
    """Why this process lacks the ability; empty if it has it. Found out by trying, once."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            ABILITIES[ability](Path(directory))
    except subprocess.CalledProcessError as error:
        return f"needs {ability}: {error.stderr.decode(errors='backslashreplace').strip() or error}"
    except OSError as error:
        return f"needs {ability}: {error.strerror or error}"
    return ""


# --- each raises OSError or CalledProcessError where the ability is missing ------------------------


def _root(directory: Path) -> None:
    """All of root's rights, which the root of most containers does not have."""
    if os.geteuid() != 0:
        raise PermissionError(errno.EPERM, "the tests do not run as root")
    file, device, mount = directory / "file", directory / "device", directory / "mount"
    file.touch()
    os.chown(file, _LARGEST_ID, _LARGEST_ID)
    os.setxattr(file, "trusted.probe", b"")
    os.mknod(device, stat.S_IFCHR, os.makedev(1, 3))
    mount.mkdir()
    _run("mount", "-t", "tmpfs", "tmpfs", mount)
    _run("umount", mount)


def _overlayfs(directory: Path) -> None:
    _root(directory)
    overlay.merge([Layer()], directory)


def _loop(directory: Path) -> None:
    """Mounting a file as a disk."""
    _root(directory)
    image, mount = directory / "image", directory / "loop"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    mount.mkdir()
    _run("mke2fs", "-q", "-F", image)
    _run("mount", "-o", "loop,ro", image, mount)
    _run("umount", mount)


def _user_namespaces(_: Path) -> None:
    _run("unshare", "--user", "true")


def _mount_namespaces(_: Path) -> None:
    _run("unshare", "--mount", "true")


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


ABILITIES: dict[str, Callable[[Path], None]] = {
    "root": _root,
    "overlayfs": _overlayfs,
    "loop": _loop,
    "user_namespaces": _user_namespaces,
    "mount_namespaces": _mount_namespaces,
}
"""By the names of the marks."""
