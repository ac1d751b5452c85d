"""One layer, read on its own: what docs/semantics.md says about names and repeats, before any merging.

Both oracles start here. This module decides what no kernel can be asked, since a directory holds each name once and
knows no whiteouts. What layers mean *together* is left to the oracles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Literal

from tests.support.layers import EntrySpec, Kind

__all__ = ["Changeset", "Instance", "ModelError", "Whiteouts", "ancestors", "clean", "read"]

Whiteouts = Literal["oci", "overlay", "any"]
"""Which whiteouts count: by name, as overlayfs stores them, or both."""

_BOOKKEEPING = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_PREFIX = b".wh."
_OPAQUE_XATTRS = frozenset({(b"trusted.overlay.opaque", b"y"), (b"user.overlay.opaque", b"y")})


class ModelError(Exception):
    """The layers mean nothing; ``position`` is the entry at fault, counted in its layer."""

    def __init__(self, problem: str, position: int | None = None) -> None:
        super().__init__(problem)
        self.position = position


class _Role(Enum):
    ENTRY = auto()
    WHITEOUT = auto()
    OPAQUE = auto()
    BOOKKEEPING = auto()
    IGNORED = auto()


@dataclass(frozen=True)
class Instance:
    """One entry at its clean path; a path that is repeated has several.

    ``bound`` is the position of the entry of the same layer that a hard link names, ``None`` for a link
    whose target is in older layers only. ``target`` is the hard link's clean target.
    """

    position: int
    path: bytes
    spec: EntrySpec
    bookkeeping: bool = False
    target: bytes = b""
    bound: int | None = None


@dataclass(frozen=True)
class Changeset:
    """A layer in which every path stands once."""

    instances: dict[int, Instance]
    """By position: all that a hard link may name, overwritten ones and AUFS bookkeeping too."""
    entries: dict[bytes, Instance]
    implicit: frozenset[bytes]
    """Directories without an entry; the root is one even of an empty layer."""
    whiteouts: frozenset[bytes]
    opaques: frozenset[bytes]
    linkable: dict[bytes, Instance]
    """The last instance of each path, as links from newer layers see it."""

    def is_directory(self, path: bytes) -> bool:
        return path in self.implicit or (path in self.entries and self.entries[path].spec.kind is Kind.DIR)

    def whites_out(self, path: bytes) -> bool:
        """Whether a whiteout of this layer hides an older entry at the path."""
        above = set(ancestors(path))
        return not self.whiteouts.isdisjoint(above | {path}) or not self.opaques.isdisjoint(above)

    def seals(self, path: bytes) -> bool:
        """Whether no older entry at the path shows through this layer, were it not replaced here."""
        return self.whites_out(path) or any(
            above in self.entries and not self.is_directory(above) for above in ancestors(path)
        )


def ancestors(path: bytes) -> Iterator[bytes]:
    """Every directory above, the nearest first, the root last; the root has none."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def read(specs: Sequence[EntrySpec], whiteouts: Whiteouts = "oci") -> Changeset:
    """Normalise a layer, or say with a :class:`ModelError` which entry makes it meaningless."""
    named: dict[_Role, list[Instance]] = defaultdict(list)
    for position, spec in enumerate(specs):
        role, instance = _named(position, spec, by_name=whiteouts != "overlay")
        named[role].append(instance)
    instances = {one.position: one for one in _bound(named[_Role.ENTRY] + named[_Role.BOOKKEEPING])}
    white = _white_devices(instances) if whiteouts != "oci" else set()
    opaque = [one for one in instances.values() if _is_opaque(one)] if whiteouts != "oci" else []
    removed = named[_Role.WHITEOUT] + [instances[position] for position in white]
    shown = {p: _without_marker(one, whiteouts) for p, one in instances.items() if p not in white}
    return _assembled(shown, {one.path for one in removed}, {one.path for one in named[_Role.OPAQUE] + opaque})


def _assembled(instances: dict[int, Instance], whiteouts: set[bytes], opaques: set[bytes]) -> Changeset:
    last = {one.path: one for _, one in sorted(instances.items())}
    entries = {path: one for path, one in last.items() if not one.bookkeeping}
    solid = {path for path, one in entries.items() if one.spec.kind is not Kind.DIR}
    for path, one in entries.items():
        if not solid.isdisjoint(ancestors(path)):
            raise ModelError(f"{path!r} is below a non-directory of its own layer", one.position)
    # Umoci writes whiteouts below its own symlinks: they are ignored, and make no parents either.
    acting = {path for path in whiteouts if solid.isdisjoint(ancestors(path))}
    emptied = {path for path in opaques if solid.isdisjoint({path, *ancestors(path)})}
    parents = {b""} | {above for path in {*entries, *acting} for above in ancestors(path)}
    parents |= {above for path in emptied for above in (path, *ancestors(path))}
    return Changeset(
        instances, entries, frozenset(parents - entries.keys()), frozenset(acting), frozenset(emptied), last
    )


# --- names ---------------------------------------------------------------------------------------


def _named(position: int, spec: EntrySpec, *, by_name: bool) -> tuple[_Role, Instance]:
    """Tell by its name what an entry is, and check what must hold for such an entry."""
    try:
        # The builder writes a directory without a name as ``./``.
        path = clean(spec.path or (b"./" if spec.kind is Kind.DIR else b""))
        role, path = _role(path) if by_name else (_Role.ENTRY, path)
        _check_limits(path)
        target = _checked_target(path, spec) if role is _Role.ENTRY else b""
        if role is _Role.BOOKKEEPING and spec.kind is Kind.LINK:
            target = clean(spec.target)
    except ModelError as error:
        error.position = position
        raise
    return role, Instance(position, path, spec, role is _Role.BOOKKEEPING, target)


def clean(path: bytes) -> bytes:
    """``./a``, ``/a``, ``a//b``, ``a/./b`` and ``a/`` cleaned; the root is the empty path."""
    if not path or b"\0" in path:
        raise ModelError(f"{path!r} is empty or holds a NUL")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ModelError(f"{path!r} leads upwards")
    return b"/".join(parts)


def _role(path: bytes) -> tuple[_Role, bytes]:
    """What a name says, and the path it says it about."""
    *above, name = path.split(b"/")
    if any(part.startswith(_BOOKKEEPING) for part in above):
        return _Role.BOOKKEEPING, path
    below_whiteout = any(part.startswith(_PREFIX) for part in above)
    if not name.startswith(_PREFIX):
        if below_whiteout:
            raise ModelError(f"{path!r} is below a whiteout")
        return _Role.ENTRY, path
    if name.startswith(_BOOKKEEPING) and name != _OPAQUE:
        return _Role.BOOKKEEPING, path
    subject = name.removeprefix(_PREFIX)
    if subject in (b"", b".", b".."):
        raise ModelError(f"{path!r} whites out no name")
    if below_whiteout:
        return _Role.IGNORED, path
    if name == _OPAQUE:
        return _Role.OPAQUE, b"/".join(above)
    return _Role.WHITEOUT, b"/".join([*above, subject])


def _check_limits(path: bytes) -> None:
    parts = path.split(b"/")
    if len(path) > 4096 or len(parts) > 1024 or max(map(len, parts)) > 255:
        raise ModelError(f"{path[:100]!r}... is more than a file system can hold")


def _checked_target(path: bytes, spec: EntrySpec) -> bytes:
    """The clean target of a hard link; what has no target to clean is only checked."""
    if not path and spec.kind is not Kind.DIR:
        raise ModelError("the root is no directory")
    if spec.kind is Kind.SYMLINK and not spec.target:
        raise ModelError(f"the symlink {path!r} has no target")
    if spec.kind is not Kind.LINK:
        return b""
    target = clean(spec.target)
    _check_limits(target)
    return target


# --- hard links, within the layer ----------------------------------------------------------------


def _bound(instances: list[Instance]) -> Iterator[Instance]:
    """Bind each link to the last instance of its target before it, or else to the last one after it."""
    at: dict[bytes, list[Instance]] = defaultdict(list)
    for one in sorted(instances, key=lambda one: one.position):
        at[one.path].append(one)
    for one in instances:
        candidates = at[one.target] if one.spec.kind is Kind.LINK else []
        before = [other for other in candidates if other.position < one.position]
        yield replace(one, bound=(before or candidates)[-1].position) if candidates else one


# --- whiteouts as overlayfs stores them ----------------------------------------------------------


def _white_devices(instances: dict[int, Instance]) -> set[int]:
    """Character devices 0:0, and the hard links to them: the kernel shares one inode among whiteouts."""
    white = {
        position
        for position, one in instances.items()
        if one.spec.kind is Kind.CHAR and (one.spec.major, one.spec.minor) == (0, 0)
    }
    while more := {p for p, one in instances.items() if one.bound in white and p not in white}:
        white |= more
    return white


def _is_opaque(one: Instance) -> bool:
    return one.spec.kind is Kind.DIR and not _OPAQUE_XATTRS.isdisjoint(one.spec.xattrs)


def _without_marker(one: Instance, whiteouts: Whiteouts) -> Instance:
    """The opaque marker is no attribute of the directory that it speaks of."""
    if whiteouts == "oci" or not _is_opaque(one):
        return one
    kept = tuple(pair for pair in one.spec.xattrs if pair not in _OPAQUE_XATTRS)
    return replace(one, spec=replace(one.spec, xattrs=kept))
