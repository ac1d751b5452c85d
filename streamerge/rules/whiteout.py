"""Whiteouts: which entries hide something in older layers, and what.

OCI image spec, layer.md, "Whiteouts": a file whose base name is ``.wh.`` plus a name hides that name in older
layers; ``.wh..wh..opq`` hides all older children of its directory. Names that begin with ``.wh..wh.`` are AUFS's
bookkeeping. Only the name makes a whiteout, whatever the type: real images have whiteouts that are hard links.
"""

from __future__ import annotations

import enum

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError
from streamerge.options import Whiteouts
from streamerge.tar.fields import DEVICES

__all__ = ["OVERLAY_OPAQUE", "Mark", "classify", "strip_opaque"]

_PREFIX = b".wh."
_AUFS = b".wh..wh."
_OPAQUE = b".wh..wh..opq"

OVERLAY_OPAQUE = (b"trusted.overlay.opaque", b"user.overlay.opaque")
"""xattrs by which overlayfs marks an opaque directory (kernel, Documentation/filesystems/overlayfs.rst)."""

_XATTR = b"SCHILY.xattr."
_UNSUPPORTED = tuple(
    _XATTR + space + b".overlay." + name for space in (b"trusted", b"user") for name in (b"redirect", b"metacopy")
)


class Mark(enum.Enum):
    """What an entry means to the merge."""

    NONE = "a plain entry"
    EXPLICIT = "an explicit whiteout"
    OPAQUE = "an opaque whiteout"
    BOOKKEEPING = "AUFS bookkeeping"


def classify(entry: Entry, style: Whiteouts) -> tuple[Mark, bytes]:
    """Return what ``entry`` means under ``style``, and the path it applies to.

    That path is the hidden one for an explicit whiteout, the directory for an opaque whiteout, otherwise the
    entry's own. An entry that overlayfs marks opaque is still a directory entry: see :func:`strip_opaque`.
    Raises FormatError for whiteouts of nothing (``.wh.``, ``.wh..``, ``.wh...``), names below a whiteout, and
    overlayfs xattrs that refer to other layers (redirect, metacopy).
    """
    if style is not Whiteouts.OCI and entry.records:
        _refuse_foreign(entry)
    if style is not Whiteouts.OVERLAY and _PREFIX in entry.path:
        return _by_name(entry.path)
    if style is not Whiteouts.OCI and _is_null_device(entry):
        return Mark.EXPLICIT, entry.path
    return Mark.NONE, entry.path


def _by_name(path: bytes) -> tuple[Mark, bytes]:
    *ancestors, name = path.split(b"/")
    for ancestor in ancestors:
        if ancestor.startswith(_AUFS) and ancestor != _OPAQUE:
            return Mark.BOOKKEEPING, path
        if ancestor.startswith(_PREFIX):
            raise FormatError("a whiteout is not a directory, but this name is below one").at(path=path)
    directory = b"/".join(ancestors)
    if name == _OPAQUE:
        return Mark.OPAQUE, directory
    if name.startswith(_AUFS):
        return Mark.BOOKKEEPING, path
    if not name.startswith(_PREFIX):
        return Mark.NONE, path
    hidden = name[len(_PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise FormatError(f"'{name.decode()}' is a whiteout of no name").at(path=path)
    return Mark.EXPLICIT, directory + b"/" + hidden if directory else hidden


def _is_null_device(entry: Entry) -> bool:
    """Whether this is overlayfs's whiteout, a character device 0:0: both number fields have no digit but 0."""
    if entry.kind is not Kind.CHAR:
        return False
    numbers = entry.header[DEVICES]
    pax = entry.records.get(b"SCHILY.devmajor", b"0"), entry.records.get(b"SCHILY.devminor", b"0")
    return not numbers.strip(b"0 \0\x80") and all(not value.strip(b"0") for value in pax)


def _refuse_foreign(entry: Entry) -> None:
    for key in _UNSUPPORTED:
        if key in entry.records:
            name = key.removeprefix(_XATTR).decode()
            raise FormatError(f"overlayfs '{name}' points into other layers; it cannot be merged").at(path=entry.path)


def strip_opaque(entry: Entry, style: Whiteouts) -> bool:
    """Return whether overlayfs marks this directory opaque, and remove the mark: it means nothing once merged."""
    if style is Whiteouts.OCI or not entry.records:
        return False
    marks = [_XATTR + name for name in OVERLAY_OPAQUE if entry.records.get(_XATTR + name) == b"y"]
    if not marks or entry.kind is not Kind.DIRECTORY:
        return False
    entry.records = {key: value for key, value in entry.records.items() if key not in marks}
    entry.verbatim = False
    return True
