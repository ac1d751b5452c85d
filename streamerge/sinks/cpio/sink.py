"""The merged root filesystem as a cpio archive, format newc: what the kernel unpacks as an initramfs.

All names of a file carry its inode number and its link count; the first name has the body, the others have none.
Linux (``init/initramfs.c``) links names with the same number if their count is over one, GNU cpio does so at its end.
The count must be known with the first name, so a first pass over the layers counts hard links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from streamerge.codecs import Codec
from streamerge.codecs.initramfs import cpio_codec, encode_initramfs
from streamerge.entry import Entry, Kind
from streamerge.errors import SinkError
from streamerge.interfaces import Preview, PreviewSink, Takes
from streamerge.sinks.base import AbortOnExit
from streamerge.sinks.cpio.header import MAX_PATH, Inode, end_of_archive, newc_header, padding
from streamerge.sinks.losses import CPIO, LossReport
from streamerge.sinks.output import Output, OutputTarget, compressed, open_output
from streamerge.sinks.treesize import LinkMap, TreeSize
from streamerge.tar.fields import GID, MODE, MTIME, UID
from streamerge.tar.header import parse_entry, parse_number
from streamerge.tar.metadata import metadata
from streamerge.tar.runs import FileByFileSink
from streamerge.tar.sparse import expanded, is_sparse, sparse_file

__all__ = ["CpioSink", "open_cpio"]

_MAX_PIECES = 512
_MAX_PENDING = 1 << 20
_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}
Piece = bytes | memoryview


class CpioSink(AbortOnExit, FileByFileSink, PreviewSink):
    """Writes entries to an :class:`~streamerge.sinks.output.Output` as one cpio archive.

    ``warn`` gets a line for each kind of thing that newc cannot store. Raises SinkError for a file of 4 GiB and for a
    path that the kernel would skip.
    Memory: an inode for each file that has several names.
    """

    def __init__(self, output: Output, *, warn: Callable[[str], None] = lambda text: None) -> None:
        self.takes = Takes.FILE_RUNS | Takes.PREVIEW
        if output.rewinds:
            self.takes |= Takes.RESTART
        self._output = output
        self._warn = warn
        self._links = LinkMap()
        self._pieces: list[Piece] = []
        self._begin()

    def prepare(self, preview: Preview) -> None:
        """Count the hard links of each file."""
        tree_size = TreeSize()
        preview.merge_into(tree_size)
        self._links = tree_size.links

    def add_file(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Append a plain file: as :meth:`add` does, with as little work as possible."""
        if self._losses.must_check(path, cut, header):
            self.add(parse_entry(header), (body,))
            return
        mode = stat.S_IFREG | parse_number(header[MODE]) & 0o7777
        uid, gid = parse_number(header[UID]), parse_number(header[GID])
        inode = self._inode(path, mode, uid, gid, parse_number(header[MTIME]))
        self._append(path, inode, (body,), len(body))

    def add(self, entry: Entry, body: Iterable[Piece]) -> None:
        """Append an entry; a file's holes are written out."""
        try:
            self._losses.note(entry)
            if entry.kind is Kind.HARDLINK:
                self._add_link(entry.path, self._links.first(entry.target))
            else:
                self._add(entry, body)
        except SinkError as error:
            error.at(path=entry.path)
            raise

    def restart(self) -> None:
        """Drop everything written so far."""
        self._output.rewind()
        self._begin()

    def finish(self) -> None:
        """Write the trailer and make the output appear."""
        self._write(end_of_archive(self._size))
        self._flush()
        self._output.commit()
        self._losses.report(self._warn)

    def abort(self) -> None:
        """Remove everything written so far. A pipe gets no trailer."""
        self._pieces = []
        self._output.discard()

    # -- entries -----------------------------------------------------------------------------------

    def _add(self, entry: Entry, body: Iterable[Piece]) -> None:
        data = metadata(entry, with_xattrs=False)
        mode = _TYPES[entry.kind] | (0o777 if entry.kind is Kind.SYMLINK else data.mode)
        inode = self._inode(entry.path, mode, data.uid, data.gid, data.mtime // 1_000_000_000, data.device)
        if entry.kind is Kind.SYMLINK:
            self._append_symlink(entry.path, inode, entry.target)
        elif is_sparse(entry):
            file = sparse_file(entry, body)
            self._append(entry.path, inode, expanded(file), file.size)
        else:
            self._append(entry.path, inode, body, entry.size)

    def _inode(self, path: bytes, mode: int, uid: int, gid: int, mtime: int, device: tuple[int, int] = (0, 0)) -> Inode:
        """Return a new inode; it is kept if more names of it follow."""
        self._last_inode += 1
        links = self._links.names.get(path, 1)
        inode = Inode(self._last_inode, mode, uid, gid, links, mtime, device)
        if links > 1:
            self._inodes[path] = inode
        return inode

    def _append_symlink(self, path: bytes, inode: Inode, target: bytes) -> None:
        if len(target) > MAX_PATH:
            raise SinkError(f"the symlink's target has {len(target)} bytes; an initramfs allows {MAX_PATH}")
        if inode.links > 1:
            self._targets[path] = target
        self._append(path, inode, (target,), len(target))

    def _add_link(self, path: bytes, first: bytes) -> None:
        """Append another name. Readers do not link symlinks by number, so each name of one has the target."""
        inode = self._inodes.get(first)
        if inode is None:
            raise SinkError("a hard link was not there in the first pass: the layers have changed since then")
        if first in self._targets:
            self._append(path, inode, (self._targets[first],), len(self._targets[first]))
        else:
            self._append(path, inode, (), 0)

    def _append(self, path: bytes, inode: Inode, body: Iterable[Piece], size: int) -> None:
        self._write(newc_header(path, inode, size))
        for piece in body:
            self._write(piece)
        if size % 4:
            self._write(padding(size))

    # -- bytes -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._losses = LossReport(CPIO)
        self._pieces = []
        self._pending = 0
        self._size = 0
        self._last_inode = 0
        self._inodes: dict[bytes, Inode] = {}
        self._targets: dict[bytes, bytes] = {}

    def _write(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        self._pending += len(piece)
        if self._pending >= _MAX_PENDING or len(self._pieces) >= _MAX_PIECES:
            self._flush()

    def _flush(self) -> None:
        pieces, self._pieces, self._pending = self._pieces, [], 0
        if pieces:
            self._output.write(pieces)


def open_cpio(
    target: OutputTarget,
    *,
    level: int | None = None,
    fsync: bool = True,
    warn: Callable[[str], None] = lambda text: None,
) -> CpioSink:
    """Return a sink that writes a cpio archive; ``.gz``, ``.zst``, ``.lz4`` and ``.xz`` compress it for the kernel.

    ``-`` is standard output. Standard output and file objects are not compressed. Raises SinkError, ValueError for a
    level out of range.
    """
    codec = cpio_codec(os.fspath(target)) if isinstance(target, str | os.PathLike) else Codec.NONE
    if codec is Codec.NONE:
        if level is not None:
            raise ValueError("a level is for compressed archives; name the output .cpio.gz, .cpio.zst, …")
        return CpioSink(open_output(target, fsync=fsync), warn=warn)
    encode_initramfs(codec, level)  # raises ValueError for a wrong level before a file is created
    output = compressed(open_output(target, fsync=fsync), codec, lambda: encode_initramfs(codec, level))
    return CpioSink(output, warn=warn)
