"""What a file system image cannot store: counted as entries pass, reported as one warning per kind.

What each tool stores was found by running it: ``docs/filesystems.md`` has the table,
``tests/system/test_filesystems.py`` the proof. Files that never become an Entry
(:class:`~streamerge.interfaces.TreeSink`) have no PAX records, so they have no xattrs and no fractions of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from streamerge.entry import MAX_NAME, Entry, Kind
from streamerge.errors import SinkError
from streamerge.tar.fields import MTIME
from streamerge.tar.metadata import mtime, xattr_names

__all__ = ["CPIO", "XATTRS", "XATTRS_AND_ACLS", "Capabilities", "LossReport", "has_plain_mtime", "kind_of_xattr"]

XATTRS = ("user.*", "trusted.*", "security.*", "security.capability")
"""Kinds of extended attributes, as :func:`kind_of_xattr` names them, without ACLs."""
_ACLS = "POSIX ACLs"
XATTRS_AND_ACLS = (*XATTRS, _ACLS)

_SECOND = 1_000_000_000
_NAMESPACES = (b"user", b"trusted", b"security")
_LOST_AND_FOUND = b"lost+found"
_ACL_PREFIX = b"system.posix_acl_"
_MTIME_AT = MTIME.start
_DIGIT_1 = b"1"[0]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an image can store: kinds of xattrs, and times from ``earliest`` to ``latest`` (in seconds since 1970).

    ``root``: the root directory can have its own owner and time. ``root_xattrs``: and its own xattrs.
    ``linked_symlinks``: symlinks can have hard links. ``lost_and_found``: files can have names that start so.
    ``sparse``, ``pax_names``: the tool reads sparse files, and long names in PAX records. If it does not, it gets the
    holes as zeros and the names in GNU headers, and nothing is lost.
    """

    name: str
    xattrs: tuple[str, ...] = ()
    fractions: bool = False
    earliest: int = 0
    latest: int = (1 << 32) - 1
    root: bool = True
    root_xattrs: bool = True
    linked_symlinks: bool = True
    sparse: bool = True
    pax_names: bool = True
    lost_and_found: bool = True
    longest_name: int = MAX_NAME

    @property
    def acls(self) -> bool:
        """Whether the xattrs that can be stored include POSIX ACLs."""
        return _ACLS in self.xattrs


CPIO = Capabilities("cpio", linked_symlinks=False)


class LossReport:
    """Counts what ``capabilities`` do not cover in the entries that pass."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._counts: Counter[str] = Counter()
        self._symlinks: set[bytes] = set()

    def must_check(self, path: bytes, cut: int, header: bytes) -> bool:
        """Return whether :meth:`note` must check a plain file; its base name starts at ``cut``."""
        return (
            not has_plain_mtime(header)
            or len(path) - cut > self._capabilities.longest_name
            or (not self._capabilities.lost_and_found and path.startswith(_LOST_AND_FOUND, cut))
        )

    def note(self, entry: Entry) -> None:
        """Count what an entry loses. Cost: little if it has no PAX records.

        Raises SinkError for a name that the tool would shorten.
        """
        self._note_name(entry.path)
        if entry.kind is Kind.HARDLINK:
            self._note_link(entry)
            return
        if not self._capabilities.linked_symlinks and entry.kind is Kind.SYMLINK:
            self._symlinks.add(entry.path)
        if not entry.path and not self._capabilities.root:
            self._counts["owner and time of the root directory"] += 1
        if entry.records or not has_plain_mtime(entry.header):
            self._note_metadata(entry)

    def report(self, warn: Callable[[str], None]) -> None:
        """Pass one line for each kind of loss to ``warn``."""
        for kind, count in sorted(self._counts.items()):
            warn(f"{kind}: {count:,} lost; {self._capabilities.name} cannot store them")

    def _note_name(self, path: bytes) -> None:
        name = path[path.rfind(b"/") + 1 :]
        longest = self._capabilities.longest_name
        if len(name) > longest:
            raise SinkError(
                f"the name has {len(name)} bytes, but {self._capabilities.name} stores at most {longest}; "
                "install a newer version of the tool",
                setting="exclude",
            ).at(path=path)
        if not self._capabilities.lost_and_found and name.startswith(_LOST_AND_FOUND):
            self._counts["names like lost+found"] += 1

    def _note_link(self, entry: Entry) -> None:
        if entry.target in self._symlinks:
            self._symlinks.add(entry.path)
            self._counts["hard links to symlinks"] += 1

    def _note_metadata(self, entry: Entry) -> None:
        seconds, fraction = divmod(mtime(entry), _SECOND)
        if not self._capabilities.earliest <= seconds <= self._capabilities.latest:
            self._counts["times out of range"] += 1
        elif fraction and not self._capabilities.fractions:
            self._counts["fractions of seconds"] += 1
        stored = self._capabilities.xattrs if entry.path or self._capabilities.root_xattrs else ()
        for name in xattr_names(entry.records):
            kind = kind_of_xattr(name)
            if kind not in stored:
                self._counts[kind if entry.path else f"{kind} of the root directory"] += 1


def has_plain_mtime(header: bytes) -> bool:
    """Return whether the header's mtime is octal digits and before 2038, so that every image can store it."""
    return header[_MTIME_AT] <= _DIGIT_1


def kind_of_xattr(name: bytes) -> str:
    """Return the kind, as in :attr:`Capabilities.xattrs`, of an extended attribute with this full name."""
    if name.startswith(_ACL_PREFIX):
        return _ACLS
    if name == b"security.capability":
        return "security.capability"
    namespace = name.partition(b".")[0]
    return f"{namespace.decode()}.*" if namespace in _NAMESPACES else "other attributes"
