"""What all other rooms speak of: an entry of a layer, its kind, and a clean path.

Paths are bytes from header to sink (DESIGN: "Paths are bytes"). A clean path is relative, has no empty,
``.`` or ``..`` component and no trailing slash; the root directory is ``b""``.
"""

from __future__ import annotations

import enum

from streamerge.errors import UnsafePathError

__all__ = ["MAX_DEPTH", "MAX_NAME", "MAX_PATH", "Entry", "Kind", "clean_path"]

MAX_PATH = 4096
"""Bytes in a path: Linux's PATH_MAX."""
MAX_NAME = 255
"""Bytes in one component: Linux's NAME_MAX. A whiteout may have its prefix on top."""
MAX_DEPTH = 1024
"""Components in a path."""

_WHITEOUT_PREFIX = b".wh."


class Kind(enum.Enum):
    """What an entry is once it stands in a file system."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hard link"
    CHAR = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


class Entry:
    """One entry of a layer, parsed as far as the merge needs it.

    Owner, mode, times and xattrs stay in ``header`` and ``records`` until somebody asks
    (:func:`streamerge.tar.metadata.metadata`).

    ======== =====================================================================================
    path     clean path
    kind     :class:`Kind`
    size     bytes of body in the stream, without padding; 0 for all but files
    target   symlink: the target, byte for byte; hard link: the clean path it names; else empty
    header   the 512-byte block that describes the entry, with its sparse blocks behind it
    prefix   the raw blocks before ``header``: PAX records, GNU long names
    records  PAX records in effect, globals folded in; empty where there are none
    verbatim whether prefix and header may be written as they are
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
        """The same file under another clean path, as a promoted link becomes. Changes and returns the entry."""
        self.verbatim = self.verbatim and path == self.path
        self.path = path
        return self

    def retargeted(self, target: bytes) -> Entry:
        """The same hard link to another clean path. Changes and returns the entry."""
        self.verbatim = self.verbatim and target == self.target
        self.target = target
        return self

    def __repr__(self) -> str:
        return f"<Entry {self.kind.value} {self.path!r} size={self.size} at {self.offset}>"


def clean_path(raw: bytes) -> bytes:
    """Return the clean form of a name from a header; ``./`` and ``/`` are the root, ``b""``.

    Raises UnsafePathError for an empty name, a ``..`` component (never resolved), a NUL, more than
    :data:`MAX_PATH` bytes, a component over :data:`MAX_NAME` bytes, more than :data:`MAX_DEPTH` components.
    Cost: linear in the length, which is checked first.

    >>> clean_path(b"./usr//bin/./env/")
    b'usr/bin/env'
    """
    if not raw:
        raise UnsafePathError("the name is empty")
    if len(raw) > 2 * MAX_PATH:  # slashes and dots may go, but a header's claim is not worth splitting
        raise UnsafePathError(f"the name has {len(raw)} bytes; a path may have {MAX_PATH}").at(path=raw[:64])
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    path = b"/".join(parts)
    _check(path, parts)
    return path


def _check(path: bytes, parts: list[bytes]) -> None:
    problem = ""
    if b".." in parts:
        problem = "a '..' component could lead out of the root"
    elif b"\0" in path:
        problem = "a name cannot hold a NUL"
    elif len(path) > MAX_PATH:
        problem = f"the path has {len(path)} bytes; it may have {MAX_PATH}"
    elif len(parts) > MAX_DEPTH:
        problem = f"the path has {len(parts)} components; it may have {MAX_DEPTH}"
    elif len(path) > MAX_NAME and any(len(part.removeprefix(_WHITEOUT_PREFIX)) > MAX_NAME for part in parts):
        problem = f"a component is longer than {MAX_NAME} bytes"
    if problem:
        raise UnsafePathError(problem).at(path=path if len(path) <= MAX_PATH else path[:64])
