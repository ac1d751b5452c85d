"""The kernel oracle: each layer in a directory of its own, stacked by overlayfs, and looked at.

Layers are unpacked as containerd's overlayfs snapshotter, Docker and Podman do it: whiteouts become character devices
0:0, opaque directories get ``trusted.overlay.opaque``. :mod:`tests.support.changeset` reads what a name means *within*
its layer. The kernel says what layers mean *together*, including where to find an implicit directory's metadata and the
target of a link to an older layer.

Two things that runtimes do are not imitated. They copy a link's older target up, which splits its group of hard links;
rule 6 of docs/semantics.md keeps the group, and so does this module, by linking to the inode in the older layer's
directory. The kernel ignores the opaque mark of a layer's root directory, so this module leaves the older layers out of
the stack. Every character device 0:0 is a whiteout here.
"""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.changeset import Changeset, Instance, ModelError, read
from tests.support.layers import SECOND, XATTR, EntrySpec, Kind, Layer, parse_pax_time
from tests.support.tree import Node, Tree, from_directory, node_at

__all__ = ["merge", "merge_directories", "merge_tars"]

_MS_RDONLY = 1
_MNT_DETACH = 2
_OPAQUE = "trusted.overlay.opaque"


def merge(layers: Sequence[Layer], workdir: Path, *, epoch_ns: int = 0) -> Tree:
    """What the kernel shows for these layers, base first; raises ModelError where a layer means nothing."""
    with _scratch(workdir) as root:
        stack = _Stack(root, epoch_ns)
        for layer in layers:
            specs = layer.entries
            stack.add(specs, lambda position, specs=specs: [specs[position].data])  # type: ignore[misc]
        return stack.tree()


def merge_tars(paths: Sequence[Path], workdir: Path, *, epoch_ns: int = 0) -> Tree:
    """Likewise for uncompressed tars, base first, as Python's tarfile reads them."""
    with _scratch(workdir) as root:
        stack = _Stack(root, epoch_ns)
        for path in paths:
            with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
                infos = list(_members(tar, path.stat().st_size))
                stack.add([_spec(info) for info in infos], _bodies(tar, infos))
        return stack.tree()


def merge_directories(lowerdirs: Sequence[Path]) -> Tree:
    """What the kernel shows for directories in overlayfs form, newest first."""
    with tempfile.TemporaryDirectory() as workdir, _overlay(lowerdirs, Path(workdir)) as view:
        return from_directory(view)


# --- mounts --------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _mounted(kind: str, target: Path, flags: int, options: str) -> Iterator[Path]:
    """A mount that is gone afterwards, whatever happens: detached, as a failed test may still hold it."""
    where = os.fsencode(target)
    if _libc.mount(kind.encode(), where, kind.encode(), ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {kind}", str(target))
    try:
        yield target
    finally:
        _libc.umount2(where, _MNT_DETACH)


@contextmanager
def _overlay(lowerdirs: Sequence[Path], workdir: Path) -> Iterator[Path]:
    """The directories stacked, newest first, at a mount point below ``workdir``."""
    # The kernel wants two lower directories, and all options in one page: so there is always an empty
    # base, and descriptors are named, which are short and hold nothing that must be escaped.
    view, base = Path(tempfile.mkdtemp(dir=workdir)), Path(tempfile.mkdtemp(dir=workdir))
    with ExitStack() as opened:
        names = []
        for directory in (*lowerdirs, base):
            descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
            opened.callback(os.close, descriptor)
            names.append(f"/proc/self/fd/{descriptor}")
        yield opened.enter_context(_mounted("overlay", view, _MS_RDONLY, "lowerdir=" + ":".join(names)))


@contextmanager
def _scratch(workdir: Path) -> Iterator[Path]:
    """An empty file system that knows all attributes: tmpfs, or ext4 where tmpfs has no ``user.*``."""
    root = Path(tempfile.mkdtemp(prefix="overlay-", dir=workdir))
    with _mounted("tmpfs", root, 0, "mode=755,size=90%"):
        if _takes_user_xattrs(root):
            yield root
            return
    with _loop_mounted(root):
        yield root


def _takes_user_xattrs(directory: Path) -> bool:
    try:
        os.setxattr(directory, "user.probe", b"")
    except OSError:
        return False
    return True


@contextmanager
def _loop_mounted(root: Path) -> Iterator[None]:
    image = root.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(16 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-I", "1024", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, root], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", root], check=True)
        image.unlink()


# --- layers into directories ---------------------------------------------------------------------

Bodies = Callable[[int], Iterable[bytes]]
"""From the position of an entry to its body, in chunks."""


@dataclass
class _Stack:
    """A stack of unpacked layers that grows upwards on one file system."""

    root: Path
    epoch_ns: int
    lower: list[Path] = field(default_factory=list)
    """The layers' directories, newest first, down to the newest layer with an opaque root."""
    bookkeeping: dict[bytes, bytes] = field(default_factory=dict)
    """AUFS's hidden names in older layers, which show nowhere but may be linked to."""

    def add(self, specs: Sequence[EntrySpec], bodies: Bodies) -> None:
        changes = read(specs)
        with ExitStack() as mounts:
            view = mounts.enter_context(_overlay(self.lower, self.root)) if self.lower else None
            unpacking = _Unpacking(self, changes, bodies, view)
            unpacking.run()
            self._remember(unpacking)
        if b"" in changes.opaques:
            self.lower = []
        self.lower = [unpacking.directory, *self.lower]

    def _remember(self, unpacked: _Unpacking) -> None:
        for path, one in unpacked.changes.linkable.items():
            if one.bookkeeping and one.spec.kind is not Kind.DIR:
                self.bookkeeping[path] = unpacked.inode(one)

    def tree(self) -> Tree:
        with _overlay(self.lower, self.root) as view:
            return from_directory(view)


class _Unpacking:
    """One layer on its way into its directory, with the view of the layers below it mounted."""

    def __init__(self, stack: _Stack, changes: Changeset, bodies: Bodies, view: Path | None) -> None:
        self.stack = stack
        self.changes = changes
        self.bodies = bodies
        self.view = view
        self.directory = Path(tempfile.mkdtemp(dir=stack.root))
        self._inodes = Path(tempfile.mkdtemp(dir=stack.root))
        self._pending: set[int] = set()

    def run(self) -> None:
        directories = sorted(filter(self.changes.is_directory, self._paths()))
        for path in directories:
            if path:
                os.mkdir(self._at(path))
        for path, one in self.changes.entries.items():
            if one.spec.kind is not Kind.DIR:
                os.link(self.inode(one), self._at(path), follow_symlinks=False)
        self._mark_hidden()
        # Metadata last and from below: every entry made changes the time of its directory.
        for path in reversed(directories):
            _apply(self._at(path), self._directory_node(path))

    def _paths(self) -> set[bytes]:
        return {*self.changes.implicit, *self.changes.entries}

    def _at(self, path: bytes) -> bytes:
        return os.fsencode(self.directory) + b"/" + path

    def _mark_hidden(self) -> None:
        """Whiteouts as overlayfs wants them: an entry of this layer takes the whiteout's place."""
        present = self._paths()
        for path in self.changes.whiteouts - present:
            os.mknod(self._at(path), stat.S_IFCHR, os.makedev(0, 0))
        for path in self.changes.opaques | (self.changes.whiteouts & present):
            if self.changes.is_directory(path):
                os.setxattr(self._at(path), _OPAQUE, b"y")

    def _directory_node(self, path: bytes) -> Node:
        """A directory's own metadata, or for an implicit one what the kernel shows of it below."""
        if path in self.changes.entries:
            return _stated(self.changes.entries[path].spec)
        if self.view is not None and not self.changes.whites_out(path):
            status = _lstat_inside(self.view, path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                return node_at(os.fsencode(self.view) + b"/" + path)
        return Node(Kind.DIR, 0o755, mtime_ns=self.stack.epoch_ns)

    # -- inodes: each is made once, beside the layer's directory, and linked to where it shows

    def inode(self, one: Instance) -> bytes:
        """A path of the entry's inode."""
        path = os.fsencode(self._inodes) + b"/%d" % one.position
        if not os.path.lexists(path):
            if one.spec.kind is Kind.LINK:
                os.link(self._target(one), path, follow_symlinks=False)
            else:
                _make(path, one.spec, self.bodies(one.position))
                _apply(path, _stated(one.spec))
        return path

    def _target(self, link: Instance) -> bytes:
        if link.bound is None:
            return self._older_target(link)
        target = self.changes.instances[link.bound]
        if target.spec.kind is Kind.DIR or link.position in self._pending:
            raise ModelError(f"{link.path!r} links to a directory, or in a circle", link.position)
        self._pending.add(link.position)
        path = self.inode(target)
        self._pending.remove(link.position)
        return path

    def _older_target(self, link: Instance) -> bytes:
        """Where the inode lies that the kernel shows for the target in the layers below."""
        if link.target in self.stack.bookkeeping:
            return self.stack.bookkeeping[link.target]
        shown = _lstat_inside(self.view, link.target) if self.view is not None else None
        if shown is None or stat.S_ISDIR(shown.st_mode) or link.target in self.changes.implicit:
            raise ModelError(f"{link.path!r} links to nothing, or to a directory", link.position)
        for directory in self.stack.lower:
            status = _lstat_inside(directory, link.target)
            if status is not None and status.st_ino == shown.st_ino:
                return os.fsencode(directory) + b"/" + link.target
        raise AssertionError(f"no layer has the inode that is shown at {link.target!r}")


def _lstat_inside(root: Path, path: bytes) -> os.stat_result | None:
    """Look at a path below ``root`` without following any symlink in it: it might lead to the host."""
    at = os.fsencode(root)
    status = os.lstat(at)
    for part in path.split(b"/") if path else []:
        if not stat.S_ISDIR(status.st_mode):
            return None
        at += b"/" + part
        try:
            status = os.lstat(at)
        except FileNotFoundError:
            return None
    return status


def _make(path: bytes, spec: EntrySpec, body: Iterable[bytes]) -> None:
    if spec.kind is Kind.FILE:
        with open(path, "xb") as file:
            file.writelines(body)
    elif spec.kind is Kind.SYMLINK:
        os.symlink(spec.target, path)
    elif spec.kind is Kind.FIFO:
        os.mkfifo(path)
    else:
        kind = stat.S_IFCHR if spec.kind is Kind.CHAR else stat.S_IFBLK
        os.mknod(path, kind, os.makedev(spec.major, spec.minor))


def _stated(spec: EntrySpec) -> Node:
    return Node(spec.kind, spec.mode & 0o7777, spec.uid, spec.gid, spec.mtime, xattrs=frozenset(spec.xattrs))


def _apply(path: bytes, node: Node) -> None:
    """Owner first, which clears set-user-id bits and capabilities; the time last."""
    os.chown(path, node.uid, node.gid, follow_symlinks=False)
    if node.kind is not Kind.SYMLINK:
        os.chmod(path, node.mode)
    for name, value in node.xattrs:
        os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)


# --- real tars -----------------------------------------------------------------------------------

_KINDS = {
    tarfile.LNKTYPE: Kind.LINK,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHAR,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.DIRTYPE: Kind.DIR,
    tarfile.FIFOTYPE: Kind.FIFO,
}


def _members(tar: tarfile.TarFile, size: int) -> Iterator[tarfile.TarInfo]:
    """All entries, also of umoci's tars, which may end with the last body, before its padding."""
    last = tarfile.TarInfo()
    try:
        while (info := tar.next()) is not None:
            last = info
            yield info
    except tarfile.ReadError:
        if last.offset_data + last.size > size:
            raise


def _spec(info: tarfile.TarInfo) -> EntrySpec:
    """An entry without its body, times to the nanosecond; tarfile cuts the name of ``/`` down to nothing."""
    pax = {key.encode(): _raw(value) for key, value in info.pax_headers.items()}
    return EntrySpec(
        _KINDS.get(info.type, Kind.FILE),
        _raw(info.name) or b"/",
        target=_raw(info.linkname),
        mode=info.mode,
        uid=info.uid,
        gid=info.gid,
        mtime=parse_pax_time(pax[b"mtime"]) if b"mtime" in pax else int(info.mtime) * SECOND,
        major=info.devmajor,
        minor=info.devminor,
        xattrs=tuple((key.removeprefix(XATTR), value) for key, value in pax.items() if key.startswith(XATTR)),
    )


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bodies(tar: tarfile.TarFile, infos: Sequence[tarfile.TarInfo]) -> Bodies:
    def body(position: int) -> Iterator[bytes]:
        file = tar.extractfile(infos[position])
        while file is not None and (chunk := file.read(1 << 20)):
            yield chunk

    return body
