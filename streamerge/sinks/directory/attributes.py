"""Set owner, mode, times and xattrs of new files, in the order that the kernel requires.

The owner comes first, because a change of owner removes setuid bits and ``security.capability``. Then come the xattrs,
the mode, and the access ACL, whose mask a change of mode would change (acl(5)). The times come last.
"""

from __future__ import annotations

import enum
import errno
import os
from collections import Counter
from typing import NamedTuple

from streamerge.errors import SinkError, show
from streamerge.sinks.directory.ownership import Ownership, is_root
from streamerge.tar.metadata import Metadata

__all__ = ["Attributes", "CreatePlan"]

_REFUSED = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
_NAMESPACES = (b"user", b"trusted", b"security", b"system")
_ACCESS = b"system.posix_acl_access"


class NoOwner(enum.Enum):
    """Why a file has no owner to set."""

    UNMAPPED = "no range of the id map contains its owner"


Owner = tuple[int, int] | NoOwner
"""User and group id."""


class CreatePlan(NamedTuple):
    """How to give a new file its mode and owner: the mode to create it with, and what to set later; None: nothing."""

    create: int
    owner: Owner | None
    mode: int | None


class Attributes:
    """Sets metadata, and counts in ``refused``, by kind, what the system did not allow."""

    def __init__(self, ownership: Ownership) -> None:
        self.refused: Counter[str] = Counter()
        self._ownership = ownership
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._umask = _current_umask()
        self._may_refuse_owner = not is_root() or not _is_initial_namespace()

    def plan(self, mode: int, uid: int, gid: int, *, xattrs: bool = False) -> CreatePlan:
        """Return the plan with the fewest system calls. Setuid and setgid bits are set after the owner.

        With ``xattrs``, the file stays writable until they are set, because the kernel requires it (xattr(7)).
        """
        owner = self._owner(uid, gid)
        if xattrs:
            return CreatePlan(0o600, owner, mode)
        create = mode & 0o777
        done = create & ~self._umask == mode
        return CreatePlan(create, owner, None if done else mode)

    def apply(self, target: int | bytes, data: Metadata, plan: CreatePlan | None = None) -> None:
        """Set the metadata of a file, given as a descriptor, or as a ``/proc/self/fd`` path if it cannot be opened.

        ``plan`` is the plan with which the file has just been created.
        """
        owner = plan.owner if plan is not None else self._owner(data.uid, data.gid)
        if owner is not None:
            self.own(target, owner)
        if data.xattrs:
            self._set_xattrs(target, data.xattrs, follow=True)
        if plan is None or plan.mode is not None:
            os.chmod(target, data.mode)
        if data.xattrs and _ACCESS in data.xattrs:
            self._set_xattr(target, _ACCESS, data.xattrs[_ACCESS], follow=True)
        os.utime(target, ns=(data.mtime, data.mtime))

    def own(self, target: int | bytes, owner: Owner, *, parent: int | None = None) -> None:
        """Set a file's owner, if that is allowed."""
        if isinstance(owner, NoOwner):
            self.refused["owners"] += 1
            return
        try:
            os.chown(target, *owner, dir_fd=parent, follow_symlinks=parent is None)
        except OSError as error:
            self._refuse_owner(error)

    def apply_link(self, name: bytes, parent: int, data: Metadata) -> None:
        """Set the metadata of a symlink, which has no mode."""
        if (owner := self._owner(data.uid, data.gid)) is not None:
            self.own(name, owner, parent=parent)
        if data.xattrs:
            self._set_xattrs(b"/proc/self/fd/%d/%s" % (parent, name), data.xattrs, follow=False)
        os.utime(name, ns=(data.mtime, data.mtime), dir_fd=parent, follow_symlinks=False)

    def refuse(self, kind: str, error: OSError) -> None:
        """Count something that the system did not allow. Raises ``error`` if it has another reason."""
        if error.errno not in _REFUSED:
            raise error
        self.refused[kind] += 1

    def _owner(self, uid: int, gid: int) -> Owner | None:
        """Return the owner to set; None if a new file already has it."""
        ownership = self._ownership
        if not ownership.same_owner and not ownership.uids.ranges and not ownership.gids.ranges:
            return None
        try:
            owner = ownership.uids(uid), ownership.gids(gid)
        except SinkError:
            if not self._may_refuse_owner:
                raise
            return NoOwner.UNMAPPED
        return None if owner == (self._uid, self._gid) else owner

    def _refuse_owner(self, error: OSError) -> None:
        """Count an owner that only root can set. For root itself, raise the error."""
        if not self._may_refuse_owner:
            raise error
        self.refuse("owners", error)

    def _set_xattrs(self, target: int | bytes, xattrs: dict[bytes, bytes], *, follow: bool) -> None:
        for name, value in xattrs.items():
            if name != _ACCESS or not follow:
                self._set_xattr(target, name, value, follow=follow)

    def _set_xattr(self, target: int | bytes, name: bytes, value: bytes, *, follow: bool) -> None:
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            self._refuse_xattr(name, error)

    def _refuse_xattr(self, name: bytes, error: OSError) -> None:
        """Count an attribute that the system does not allow. Raises SinkError if there is no space for it."""
        namespace = name.partition(b".")[0]
        kind = f"{namespace.decode()}.* attributes" if namespace in _NAMESPACES else "other attributes"
        try:
            self.refuse(kind, error)
        except OSError:
            raise SinkError(f"cannot set the attribute '{show(name[:80])}': {error.strerror}") from error


def _current_umask() -> int:
    """Return the umask. It is read without being set, because other threads may create files."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o7777  # unknown: always set the mode


def _is_initial_namespace() -> bool:
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return file.read().split() == [b"0", b"0", b"4294967295"]
    except OSError:
        return True
