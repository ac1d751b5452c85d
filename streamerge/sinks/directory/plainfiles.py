"""Plain files and symlinks made straight from their headers, with the fewest system calls that they can have.

It is the directory sink's work on many files at once, by whatever process it is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from streamerge.errors import SinkError
from streamerge.fileio import CHUNK, Check, copy_range, layer_changed, no_check, read_at, write_all
from streamerge.sinks.directory.attributes import Attributes, CreatePlan
from streamerge.sinks.directory.fds import DirectoryFds
from streamerge.sinks.directory.replace import PRIVATE
from streamerge.tar.fields import BLOCK, MTIME, OWNERS, TYPE_AT
from streamerge.tar.header import parse_number
from streamerge.tar.runs import SYMLINK, link_target, split_run

__all__ = ["CREATE", "PlainFiles", "failed"]

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_MAX_PLANS = 4096
_MTIME_DIGITS = slice(MTIME.start, MTIME.stop - 1)


class PlainFiles:
    """Makes files in directories that are there; what the system refuses, ``attributes`` counts."""

    def __init__(self, attributes: Attributes, fds: DirectoryFds) -> None:
        self._attributes = attributes
        self._fds = fds
        self._plans: dict[bytes, CreatePlan] = {}
        self._room = bytearray(2 * CHUNK)

    def make(self, run: memoryview) -> None:
        """Make the files of a run; see :func:`streamerge.tar.runs.split_run`. Raises SinkError."""
        self._make(run, write_all)

    def _make(self, run: memoryview, write_body: Callable[[int, memoryview], None]) -> None:
        path, here, parent = b"", None, 0
        try:
            for path, cut, header, body in split_run(run):
                if path[:cut] != here:
                    here, parent = path[:cut], self._fds.get(path[: cut - 1] if cut else b"")
                if header[TYPE_AT] == SYMLINK:
                    self._make_symlink(path[cut:], parent, header)
                    continue
                fd, plan = self._create(path[cut:], parent, header)
                try:
                    write_body(fd, body)
                    self._complete(fd, plan, header)
                finally:
                    os.close(fd)
        except OSError as error:
            raise failed(error).at(path=path) from error
        except SinkError as error:
            raise error.at(path=path) from error.__cause__

    def fetch(self, file: int, extents: Sequence[int], _to: int = 0, check: Check = no_check) -> None:
        """Make what lies in extents of a file (start, size, …): runs, or one large file that begins with its header.

        The headers were checked before, by the scan; if they have changed since then, that is an error.
        """
        room = memoryview(self._room)
        try:
            for position, size in zip(extents[::2], extents[1::2], strict=True):
                if size <= len(room):
                    read_at(file, position, room[:size])
                    self.make(room[:size])
                else:
                    read_at(file, position, room[:BLOCK])
                    self._make(room[:BLOCK], _copier(file, position + BLOCK, size - BLOCK, check))
        except (ValueError, IndexError):  # a number that is none, a header that is cut short
            raise layer_changed() from None

    def directory_mode(self, header: bytes) -> int:
        """What to make a directory with: its own mode, unless that must be set later, or we could not work in it."""
        plan = self._plan(header)
        return plan.create if plan.mode is None and plan.create & PRIVATE == PRIVATE else PRIVATE

    def complete_directory(self, fd: int, header: bytes) -> None:
        """Give a directory, into which nothing more goes, what its header says. Raises OSError, SinkError."""
        plan = self._plan(header)
        self._complete(fd, plan if plan.mode is not None else plan._replace(mode=plan.create), header)

    def _create(self, name: bytes, parent: int, header: bytes) -> tuple[int, CreatePlan]:
        plan = self._plan(header)
        return os.open(name, CREATE, plan.create, dir_fd=parent), plan

    def _complete(self, fd: int, plan: CreatePlan, header: bytes) -> None:
        if plan.owner is not None:
            self._attributes.own(fd, plan.owner)
        if plan.mode is not None:
            os.fchmod(fd, plan.mode)
        os.utime(fd, ns=_times(header))

    def _make_symlink(self, name: bytes, parent: int, header: bytes) -> None:
        os.symlink(link_target(header), name, dir_fd=parent)
        self.complete_named(name, parent, header)

    def complete_named(self, name: bytes, parent: int, header: bytes) -> None:
        """Give a symlink, or a directory that was made with its mode, the rest of what its header says."""
        plan = self._plan(header)
        if plan.owner is not None:
            self._attributes.own(name, plan.owner, parent=parent)
        os.utime(name, ns=_times(header), dir_fd=parent, follow_symlinks=False)

    def _plan(self, header: bytes) -> CreatePlan:
        """What mode and owner ask for: those of most files are among a few, so it is worked out once for each."""
        key = header[OWNERS]
        plan = self._plans.get(key)
        return plan if plan is not None else self._new_plan(key)

    def _new_plan(self, key: bytes) -> CreatePlan:
        mode, uid, gid = parse_number(key[:8]) & 0o7777, parse_number(key[8:16]), parse_number(key[16:])
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        plan = self._plans[key] = self._attributes.plan(mode, uid, gid)
        return plan


def _copier(file: int, position: int, size: int, check: Check) -> Callable[[int, memoryview], None]:
    """Return how to write a large body that has not been read."""
    return lambda fd, _: copy_range(file, position, size, fd, 0, check)


def failed(error: OSError) -> SinkError:
    """In our words, what the system says of a file that was to be made."""
    return SinkError(f"cannot write it: {error.strerror or error}")


def _times(header: bytes) -> tuple[int, int]:
    """Access and modification, in nanoseconds. The field holds octal digits and blanks alone, as all in a run do."""
    digits = header[_MTIME_DIGITS]
    mtime = int(digits, 8) if digits.isdigit() else parse_number(header[MTIME])
    return mtime * 1_000_000_000, mtime * 1_000_000_000
