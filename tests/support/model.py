"""The in-memory oracle: the rules of docs/semantics.md, applied oldest layer first, as simply as possible.

The view is a dict of everything that shows. A layer's whiteouts are applied to it, then the layer's own entries are
laid over it. It shares nothing with the program, which goes the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.support.changeset import Changeset, Instance, ModelError, Whiteouts, read
from tests.support.layers import EntrySpec, Kind, Layer
from tests.support.tree import Node, Tree, content_of, grouped

__all__ = ["ModelError", "Whiteouts", "merge", "node_of"]


def merge(layers: Sequence[Layer], *, epoch_ns: int = 0, whiteouts: Whiteouts = "oci") -> Tree:
    """What the layers, base first, show together; :class:`ModelError` where they mean nothing.

    An error counts in whatever layer it is, also where newer layers hide the entry at fault.
    """
    implied = Node(Kind.DIR, 0o755, mtime_ns=epoch_ns)
    view: View = {b"": Shown(implied, None)}
    below: list[Changeset] = []
    for layer in layers:
        below.append(read(layer.entries, whiteouts))
        _remove(view, below[-1])
        _lay_over(view, below, implied)
    return grouped({path: (shown.node, shown.inode) for path, shown in view.items()})


Inode = tuple[int, int]
"""Layer index and position of the entry that made the inode."""


@dataclass(frozen=True)
class Shown:
    """What shows at a path; directories have no inode of interest."""

    node: Node
    inode: Inode | None


View = dict[bytes, Shown]


def _remove(view: View, changes: Changeset) -> None:
    """Rule 2: whiteouts act on older layers; an opaque one leaves the directory itself."""
    for path in changes.whiteouts:
        _empty(view, path)
        view.pop(path, None)
    for path in changes.opaques:
        _empty(view, path)


def _empty(view: View, directory: bytes) -> None:
    start = directory + b"/" if directory else b""
    for path in [path for path in view if path.startswith(start) and path != directory and path]:
        del view[path]


def _lay_over(view: View, below: Sequence[Changeset], implied: Node) -> None:
    """Rules 1, 5 and 6: the newest layer's directories and entries, parents first."""
    changes = below[-1]
    inodes = {path: _inode(below, one) for path, one in changes.entries.items()}
    for path in sorted(changes.implicit | changes.entries.keys()):
        older = view.get(path)
        if path in changes.implicit:
            # "Their metadata is that of the newest older directory entry still in view, else 0755."
            if older is None or older.node.kind is not Kind.DIR:
                view[path] = Shown(implied, None)
        elif changes.is_directory(path):
            view[path] = Shown(node_of(changes.entries[path].spec), None)
        else:
            _empty(view, path)
            layer, position = inodes[path]
            view[path] = Shown(node_of(below[layer].instances[position].spec), inodes[path])


def node_of(spec: EntrySpec) -> Node:
    """An entry that is no hard link, as it shows."""
    node = Node(
        spec.kind,
        spec.mode & 0o7777,
        spec.uid,
        spec.gid,
        spec.mtime,
        content_of(spec.data) if spec.kind is Kind.FILE else b"",
        xattrs=frozenset(spec.xattrs),
    )
    if spec.kind is Kind.SYMLINK:
        return replace(node, target=spec.target, mode=0o777)
    return replace(node, device=(spec.major, spec.minor)) if spec.kind in (Kind.CHAR, Kind.BLOCK) else node


# --- rule 6: hard links --------------------------------------------------------------------------


def _inode(below: Sequence[Changeset], one: Instance) -> Inode:
    """Follow a link, in the view of its own layer, to the entry that made the inode."""
    layer, start, passed = len(below) - 1, one.position, set()
    while one.spec.kind is Kind.LINK:
        if (layer, one.position) in passed:
            raise ModelError(f"{one.path!r} is a hard link in a circle", start)
        passed.add((layer, one.position))
        layer, found = _target(below, layer, one)
        if found is None or found.spec.kind is Kind.DIR:
            what = "nothing" if found is None else "a directory"
            raise ModelError(f"{one.path!r} is a hard link to {what}", start)
        one = found
    return layer, one.position


def _target(below: Sequence[Changeset], layer: int, link: Instance) -> tuple[int, Instance | None]:
    """The one entry a link names: in its own layer, else in the first older one that has the path."""
    if link.bound is not None:
        return layer, below[layer].instances[link.bound]
    if link.target in below[layer].implicit:
        return layer, None
    for older in range(layer - 1, -1, -1):
        if link.target in below[older].linkable:
            return older, below[older].linkable[link.target]
        if link.target in below[older].implicit or below[older].seals(link.target):
            return older, None
    return layer, None
