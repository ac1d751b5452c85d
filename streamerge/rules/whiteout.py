"""What an entry's name, or overlayfs's own marks, say about older layers.

OCI image spec, layer.md, "Whiteouts": a file whose base name is ``.wh.`` plus a name hides that name in
older layers; ``.wh..wh..opq`` hides all older children of its directory. Names that begin with ``.wh..wh.``
are AUFS's bookkeeping. A whiteout is known by its name alone: real images hold whiteouts that are hard links.
"""

from __future__ import annotations

import enum

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError
from streamerge.options import Whiteouts

__all__ = ["OVERLAY_OPAQUE", "Mark", "classify", "strip_opaque"]

_PREFIX = b".wh."
_AUFS = b".wh..wh."
_OPAQUE = b".wh..wh..opq"

OVERLAY_OPAQUE = (b"trusted.overlay.opaque", b"user.overlay.opaque")
"""xattrs by which overlayfs marks an opaque directory (kernel, Documentation/filesystems/overlayfs.rst)."""

_XATTR = b"SCHILY.xattr."
_UNSUPPORTED = tuple(
    _XATTR + space + b".overlay." + what for space in (b"trusted", b"user") for what in (b"redirect", b"metacopy")
)


class Mark(enum.Enum):
    """What an entry is to the merge."""

    NONE = "a plain entry"
    EXPLICIT = "an explicit whiteout"
    OPAQUE = "an opaque whiteout"
    BOOKKEEPING = "AUFS bookkeeping"


def classify(entry: Entry, style: Whiteouts) -> tuple[Mark, bytes]:
    """Tell what ``entry`` is under ``style``, and the path it is about.

    That path is the hidden one for an explicit whiteout, the directory for an opaque whiteout, else the
    entry's own. An entry that overlayfs marks opaque is still a directory entry: see :func:`strip_opaque`.
    Raises FormatError for whiteouts of nothing (``.wh.``, ``.wh..``, ``.wh...``), names below a whiteout, and
    where overlayfs says a thing that a tar of one layer cannot mean (redirect, metacopy).
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
            raise FormatError("a whiteout is no directory, yet this name is below one").at(path=path)
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
    """Overlayfs's whiteout is a character device 0:0: no digit but 0 stands in both number fields."""
    if entry.kind is not Kind.CHAR:
        return False
    numbers = entry.header[329:345]
    pax = entry.records.get(b"SCHILY.devmajor", b"0"), entry.records.get(b"SCHILY.devminor", b"0")
    return not numbers.strip(b"0 \0\x80") and all(not value.strip(b"0") for value in pax)


def _refuse_foreign(entry: Entry) -> None:
    for key in _UNSUPPORTED:
        if key in entry.records:
            name = key.removeprefix(_XATTR).decode()
            raise FormatError(f"overlayfs '{name}' points into other layers; it cannot be merged").at(path=entry.path)


def strip_opaque(entry: Entry, style: Whiteouts) -> bool:
    """Tell whether overlayfs marks this directory opaque; take the mark off, as it means nothing once merged."""
    if style is Whiteouts.OCI or not entry.records:
        return False
    marks = [_XATTR + name for name in OVERLAY_OPAQUE if entry.records.get(_XATTR + name) == b"y"]
    if not marks or entry.kind is not Kind.DIRECTORY:
        return False
    entry.records = {key: value for key, value in entry.records.items() if key not in marks}
    entry.verbatim = False
    return True
