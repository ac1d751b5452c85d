"""What a way of making a file system loses, counted as it passes and told in one line for each kind.

What each loses was found by trying: ``docs/filesystems.md`` has the table, ``tests/system/test_filesystems.py`` the
proof. Entries that never become an Entry (:class:`~streamerge.interfaces.FileSink`) have no PAX records, so neither
xattrs nor fractions of a second, and a time that is plain octal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from streamerge.entry import MAX_NAME, Entry, Kind
from streamerge.errors import SinkError
from streamerge.tar.metadata import mtime, xattr_names

__all__ = [
    "CPIO",
    "EROFS",
    "EROFS_TAR",
    "EXT4",
    "EXT4_TAR",
    "OLD_SQUASHFS_TOOLS",
    "SQUASHFS",
    "SQUASHFS_TOOLS",
    "Capabilities",
    "LossReport",
    "kind_of_xattr",
]

_SECOND = 1_000_000_000
_FOREVER = 1 << 62
_NAMESPACES = (b"user", b"trusted", b"security")
_LOST_AND_FOUND = b"lost+found"
_ONE = 0x31
_ACL = b"system.posix_acl_"
_ALL = ("user.*", "trusted.*", "security.*", "security.capability", "POSIX ACLs")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a file system, made in one way, keeps: kinds of xattrs, the times (in seconds) that it can hold.

    ``root``: whether the root directory has an owner and a time of its own. ``lost_and_found``: whether files are kept
    whose names begin so. ``sparse``: whether the tool understands sparse files; else it is given all their zeros, and
    nothing is lost.
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
    lost_and_found: bool = True
    longest_name: int = MAX_NAME

    @property
    def keeps_acls(self) -> bool:
        """Whether POSIX ACLs are among the xattrs that are kept."""
        return "POSIX ACLs" in self.xattrs


CPIO = Capabilities("cpio", linked_symlinks=False)
SQUASHFS = Capabilities("squashfs", ("user.*", "trusted.*", "security.*", "security.capability"))
SQUASHFS_TOOLS = Capabilities("squashfs by sqfstar or mksquashfs", SQUASHFS.xattrs, root_xattrs=False, sparse=False)
OLD_SQUASHFS_TOOLS = replace(SQUASHFS_TOOLS, name="squashfs by sqfstar before 4.6", root=False)
EROFS = Capabilities("erofs", _ALL, fractions=True, earliest=-_FOREVER, latest=_FOREVER)
EROFS_TAR = Capabilities("erofs", _ALL, fractions=True, earliest=-_FOREVER, latest=_FOREVER, sparse=False)
EXT4 = Capabilities("ext4 by mke2fs", _ALL, earliest=-(1 << 31), latest=(1 << 31) - 1, linked_symlinks=False)
EXT4_TAR = Capabilities(
    "ext4 by mke2fs from a tar", ("security.capability",), earliest=-(1 << 31), latest=(1 << 31) - 1
)


class LossReport:
    """Counts what ``keeps`` does not keep of the entries that pass."""

    def __init__(self, keeps: Capabilities) -> None:
        self._keeps = keeps
        self._counts: Counter[str] = Counter()
        self._symlinks: set[bytes] = set()

    def wants(self, path: bytes, cut: int, header: bytes) -> bool:
        """Whether a plain file, its base name from ``cut`` on, must be looked at by :meth:`note`."""
        return (
            header[136] > _ONE  # eleven octal digits, and so after 2038; or base-256
            or len(path) - cut > self._keeps.longest_name
            or (not self._keeps.lost_and_found and path.startswith(_LOST_AND_FOUND, cut))
        )

    def note(self, entry: Entry) -> None:
        """Look at an entry. Cost: little where it has no PAX records.

        Raises SinkError for a name that the tool would cut short.
        """
        self._note_name(entry.path)
        if entry.kind is Kind.HARDLINK:
            self._note_link(entry)
            return
        if not self._keeps.linked_symlinks and entry.kind is Kind.SYMLINK:
            self._symlinks.add(entry.path)
        if not entry.path and not self._keeps.root:
            self._counts["owner and time of the root directory"] += 1
        if entry.records or entry.header[136] > _ONE:
            self._note_metadata(entry)

    def tell(self, warn: Callable[[str], None]) -> None:
        """Give ``warn`` a line for each kind of loss."""
        for kind, count in sorted(self._counts.items()):
            warn(f"{kind}: {count:,} lost, which {self._keeps.name} cannot hold")

    def _note_name(self, path: bytes) -> None:
        name = path[path.rfind(b"/") + 1 :]
        if len(name) > self._keeps.longest_name:
            text = f"its name has {len(name)} bytes; {self._keeps.name} has room for {self._keeps.longest_name}"
            raise SinkError(text).at(path=path)
        if not self._keeps.lost_and_found and name.startswith(_LOST_AND_FOUND):
            self._counts["names like lost+found"] += 1

    def _note_link(self, entry: Entry) -> None:
        if entry.target in self._symlinks:
            self._symlinks.add(entry.path)
            self._counts["hard links to symlinks"] += 1

    def _note_metadata(self, entry: Entry) -> None:
        seconds, fraction = divmod(mtime(entry), _SECOND)
        if not self._keeps.earliest <= seconds <= self._keeps.latest:
            self._counts["times out of range"] += 1
        elif fraction and not self._keeps.fractions:
            self._counts["fractions of seconds"] += 1
        kept = self._keeps.xattrs if entry.path or self._keeps.root_xattrs else ()
        for name in xattr_names(entry.records):
            kind = kind_of_xattr(name)
            if kind not in kept:
                self._counts[kind if entry.path else f"{kind} of the root directory"] += 1


def kind_of_xattr(name: bytes) -> str:
    """What a :class:`Capabilities` calls an extended attribute of this full name."""
    if name.startswith(_ACL):
        return "POSIX ACLs"
    if name == b"security.capability":
        return "security.capability"
    namespace = name.partition(b".")[0]
    return f"{namespace.decode()}.*" if namespace in _NAMESPACES else "other attributes"
