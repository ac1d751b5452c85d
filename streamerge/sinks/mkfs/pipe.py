"""A sink that feeds a tar to a tool: nothing is unpacked, and no file but the image is written.

Some tools must be told the root directory's metadata when they start. They are told what the layers' first entries
say. If the root's own entry, which may come last, says something else, the merge starts again with that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from streamerge.entry import Entry, Kind
from streamerge.fileio import Check, no_check
from streamerge.interfaces import Preview, PreviewSink, RestartNeeded, Run, Takes
from streamerge.signals import signals_wait
from streamerge.sinks.base import AbortOnExit
from streamerge.sinks.losses import Capabilities, LossReport
from streamerge.sinks.mkfs.commands import Command, RootDirectory
from streamerge.sinks.mkfs.image import ImageFile
from streamerge.sinks.mkfs.options import Console
from streamerge.sinks.mkfs.plaintar import link_to, plain_entry, whole_file
from streamerge.sinks.mkfs.process import Process
from streamerge.sinks.output import ClosedPipe, PipeOutput
from streamerge.sinks.tar import TarSink
from streamerge.sinks.treesize import LinkMap, TreeSize
from streamerge.tar.header import parse_entry
from streamerge.tar.metadata import metadata
from streamerge.tar.runs import FileByFileSink
from streamerge.tar.sparse import is_sparse

__all__ = ["PipePlan", "TarToTool"]

Body = Iterable[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class PipePlan:
    """How a tool is run: ``command`` gives its command line for an image.

    ``needs_root`` and ``needs_size`` are those of :class:`~streamerge.sinks.mkfs.tools.MkfsTool`.
    """

    command: Callable[[str, RootDirectory, TreeSize | None], Command]
    capabilities: Capabilities
    needs_root: bool = False
    needs_size: bool = False


class TarToTool(AbortOnExit, FileByFileSink, PreviewSink):
    """Gives every entry to a tool that makes ``image`` from a tar. Raises SinkError with the tool's words if it fails.

    Memory: if the tool must know the size, a number for each directory and an entry for each file with several names.
    """

    takes = Takes.FILE_RUNS | Takes.RESTART | Takes.PREVIEW | Takes.CHECK

    def __init__(self, plan: PipePlan, image: ImageFile, console: Console, warn: Callable[[str], None]) -> None:
        self._plan = plan
        self._image = image
        self._console = console
        self._warn = warn
        self._root = RootDirectory()
        self._tree_size: TreeSize | None = None
        self._process: Process | None = None
        self._tar: TarSink | None = None
        self._check: Check = no_check
        self._begin()

    def set_check(self, check: Check) -> None:
        """Call ``check`` while the tool is waited for."""
        self._check = check

    def prepare(self, preview: Preview) -> None:
        """Collect what the tool must be told when it starts."""
        if self._plan.needs_size:
            self._tree_size = TreeSize()
            preview.merge_into(self._tree_size)
            self._links = self._tree_size.links
        if self._plan.needs_root:
            root = preview.root()
            self._root = _root_directory(root) if root is not None else RootDirectory()
        self._start()

    def add_file(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Give a plain file to the tool; its header needs no change."""
        if self._losses.must_check(path, cut, header):
            self.add(parse_entry(header), (body,))
            return
        if path in self._links.names:
            self._inodes[path] = Entry(path, Kind.FILE, header=header)
        tar = self._tar or self._start()
        tar.write_run(Run(header))
        if body:
            tar.write_run(Run(body))
            if len(body) % 512:
                tar.write_run(Run(bytes(-len(body) % 512)))

    def add(self, entry: Entry, body: Body) -> None:
        """Give an entry to the tool. Raises RestartNeeded for a root directory that differs from its preview."""
        self._losses.note(entry)
        if not entry.path and self._plan.needs_root:
            self._check_root(entry)
            return
        entry = self._made_plain(entry)
        if not self._plan.capabilities.sparse and is_sparse(entry):
            entry, body = whole_file(entry, body)
        (self._tar or self._start()).add(entry, body)

    def restart(self) -> None:
        """Kill the tool; a new one starts with the next entry."""
        self._end()
        self._begin()

    def finish(self) -> None:
        """End the tar, wait for the tool, and make the image appear."""
        tar = self._tar or self._start()
        self._ending = True
        tar.finish()
        process, self._process = self._process, None
        assert process is not None
        try:
            process.finish(self._check)
        except BaseException:
            process.kill()
            raise
        self._image.commit()
        self._losses.report(self._warn)

    def abort(self) -> None:
        """Kill the tool before it can take the end of its input for the end of the tar; remove what it has made."""
        self._end()

    # -- the tool ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._losses = LossReport(self._plan.capabilities)
        self._links = self._tree_size.links if self._tree_size is not None else LinkMap()
        self._inodes: dict[bytes, Entry] = {}
        self._tar = None
        self._ending = False

    def _start(self) -> TarSink:
        command = self._plan.command(self._image.partial, self._root, self._tree_size)
        self._image.reserve(command.size)
        with signals_wait():
            self._process = process = Process(command, self._console, feeds=True)
        self._tar = TarSink(_Feed(process, lambda: self._ending))
        return self._tar

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
        self._image.discard()

    # -- entries that need a check -----------------------------------------------------------------

    def _made_plain(self, entry: Entry) -> Entry:
        """Return the entry in the form that the tool reads correctly."""
        if entry.kind is Kind.HARDLINK:
            file = self._inodes.get(self._links.first(entry.target))
            entry = link_to(file, entry) if file is not None else entry
        elif entry.path in self._links.names:
            self._inodes[entry.path] = entry
        return plain_entry(entry, self._plan.capabilities)

    def _check_root(self, entry: Entry) -> None:
        """Compare the root's entry with its preview. It is not passed on, since the tool would only warn about it."""
        root = _root_directory(entry)
        if root != self._root:
            self._root = root
            raise RestartNeeded


class _Feed(PipeOutput):
    """The tool's standard input. If the pipe breaks, the error is what the tool has printed."""

    def __init__(self, process: Process, ends: Callable[[], bool]) -> None:
        super().__init__(process.fd, "the tool's input")
        self._process = process
        self._ends = ends

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces. Raises SinkError where the tool does not read to the end."""
        try:
            super().write(pieces)
        except ClosedPipe as error:
            if self._process.has_succeeded() and self._ends():
                return  # it has read the end-of-archive blocks, and needs no more of them
            raise self._process.failure() from error


def _root_directory(entry: Entry) -> RootDirectory:
    data = metadata(entry, with_xattrs=False)
    return replace(RootDirectory(), mode=data.mode, uid=data.uid, gid=data.gid, mtime=data.mtime // 1_000_000_000)
