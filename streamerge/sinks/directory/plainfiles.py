"""Create plain files and symlinks directly from their headers, with as few system calls as possible.

This is what the directory sink does for runs, in its own process or in workers.
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
    """Creates files in existing directories. ``attributes`` counts what the system refuses."""

    def __init__(self, attributes: Attributes, fds: DirectoryFds) -> None:
        self._attributes = attributes
        self._fds = fds
        self._plans: dict[bytes, CreatePlan] = {}
        self._room = bytearray(2 * CHUNK)

    def make(self, run: memoryview) -> None:
        """Create the files of a run; see :func:`streamerge.tar.runs.split_run`. Raises SinkError."""
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
            error.at(path=path)
            raise

    def fetch(self, file: int, extents: Sequence[int], _to: int = 0, check: Check = no_check) -> None:
        """Create files from extents of a layer (start, size, …): each is a run, or a header with one large body.

        The scan has checked the headers before. Raises SinkError if they have changed since then.
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
        except (ValueError, IndexError):  # an invalid number, a truncated header
            raise layer_changed() from None

    def directory_mode(self, header: bytes) -> int:
        """Return the mode to create a directory with: its own, unless that must be set later or would lock us out."""
        plan = self._plan(header)
        return plan.create if plan.mode is None and plan.create & PRIVATE == PRIVATE else PRIVATE

    def complete_directory(self, fd: int, header: bytes) -> None:
        """Set the metadata of a complete directory. Raises OSError, SinkError."""
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
        """Set the owner and time of a symlink, or of a directory that was created with its mode."""
        plan = self._plan(header)
        if plan.owner is not None:
            self._attributes.own(name, plan.owner, parent=parent)
        os.utime(name, ns=_times(header), dir_fd=parent, follow_symlinks=False)

    def _plan(self, header: bytes) -> CreatePlan:
        """Return the plan for a header's mode and owner. Plans are cached: most files share a few."""
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
    """Return a function that copies a large body, which has not been read, to a new file."""
    return lambda fd, _: copy_range(file, position, size, fd, 0, check)


def failed(error: OSError) -> SinkError:
    """Return the SinkError for an error of the system."""
    return SinkError(f"cannot write it: {error.strerror or error}")


def _times(header: bytes) -> tuple[int, int]:
    """Return access and modification time in nanoseconds. In a run, the field holds only octal digits and blanks."""
    digits = header[_MTIME_DIGITS]
    mtime = int(digits, 8) if digits.isdigit() else parse_number(header[MTIME])
    return mtime * 1_000_000_000, mtime * 1_000_000_000
