"""An entry of a layer, its kind, and clean paths: the types that all other modules share.

Paths are bytes from header to sink, because a tar can hold any bytes; they are decoded only to show them. A clean path
is relative and has no empty, ``.`` or ``..`` component and no trailing slash. The root directory is ``b""``.
"""

from __future__ import annotations

import enum

from streamerge.errors import UnsafePathError

__all__ = ["MAX_DEPTH", "MAX_NAME", "MAX_PATH", "Entry", "Kind", "clean_path"]

MAX_PATH = 4096
"""Most bytes in a path: Linux's PATH_MAX."""
MAX_NAME = 255
"""Most bytes in one component: Linux's NAME_MAX. The prefix of a whiteout is not counted."""
MAX_DEPTH = 1024
"""Most components in a path."""

_WHITEOUT_PREFIX = b".wh."


class Kind(enum.Enum):
    """The type that an entry has in a file system."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hard link"
    CHAR = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


class Entry:
    """One entry of a layer, parsed as far as the merge needs it.

    Owner, mode, times and xattrs stay in ``header`` and ``records`` until
    :func:`streamerge.tar.metadata.metadata` parses them.

    ======== =====================================================================================
    path     clean path
    kind     :class:`Kind`
    size     bytes of body in the stream, without padding; 0 except for files
    target   symlink: the target, byte for byte; hard link: the clean path of its target; else empty
    header   the 512-byte header, followed by its sparse blocks, if any
    prefix   the raw blocks before ``header``: PAX records, GNU long names
    records  PAX records in effect, globals included; may be empty
    verbatim whether prefix and header may be written unchanged
    offset   byte in the layer's decoded stream where ``prefix`` starts
    ======== =====================================================================================
    """

    __slots__ = ("header", "kind", "offset", "path", "prefix", "records", "size", "target", "verbatim")

    def __init__(
        self,
        path: bytes,
        kind: Kind,
        *,
        size: int = 0,
        target: bytes = b"",
        header: bytes,
        prefix: bytes = b"",
        records: dict[bytes, bytes] | None = None,
        verbatim: bool = False,
        offset: int = 0,
    ) -> None:
        self.path = path
        self.kind = kind
        self.size = size
        self.target = target
        self.header = header
        self.prefix = prefix
        self.records = records if records is not None else {}
        self.verbatim = verbatim
        self.offset = offset

    def renamed(self, path: bytes) -> Entry:
        """The entry itself, changed to another clean path, for a link that is promoted."""
        self.verbatim = self.verbatim and path == self.path
        self.path = path
        return self

    def retargeted(self, target: bytes) -> Entry:
        """The entry itself, a hard link, changed to another clean target."""
        self.verbatim = self.verbatim and target == self.target
        self.target = target
        return self

    def __repr__(self) -> str:
        return f"<Entry {self.kind.value} {self.path!r} size={self.size} at {self.offset}>"


def clean_path(raw: bytes) -> bytes:
    """The clean form of a name from a header; for ``./`` and ``/`` it is the root, ``b""``.

    Raises UnsafePathError for an empty name, a ``..`` component (never resolved), a NUL, more than
    :data:`MAX_PATH` bytes, a component over :data:`MAX_NAME` bytes, more than :data:`MAX_DEPTH` components.
    Cost: linear in the length, which is checked first.

    >>> clean_path(b"./usr//bin/./env/")
    b'usr/bin/env'
    """
    if not raw:
        raise UnsafePathError("the name is empty")
    if len(raw) > 2 * MAX_PATH:  # slashes and dots could make it shorter, but a name this long is not worth splitting
        raise UnsafePathError(f"the name has {len(raw)} bytes; a path may have {MAX_PATH}").at(path=raw[:64])
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    path = b"/".join(parts)
    problem = _problem(path, parts)
    if problem is not None:
        raise UnsafePathError(problem).at(path=path if len(path) <= MAX_PATH else path[:64])
    return path


def _problem(path: bytes, parts: list[bytes]) -> str | None:
    """What is wrong with a path; None if nothing is."""
    if b".." in parts:
        return "a '..' component could lead out of the root"
    if b"\0" in path:
        return "a name cannot have a NUL"
    if len(path) > MAX_PATH:
        return f"the path has {len(path)} bytes; it may have {MAX_PATH}"
    if len(parts) > MAX_DEPTH:
        return f"the path has {len(parts)} components; it may have {MAX_DEPTH}"
    if len(path) > MAX_NAME and any(len(part.removeprefix(_WHITEOUT_PREFIX)) > MAX_NAME for part in parts):
        return f"a component is longer than {MAX_NAME} bytes"
    return None
