"""One pass over all layers: read, decide, write or retain; then the epilogue.

Order of the output, the same however layers are compressed or stored: entries as they pass, newest layer
first, each waiting directory right after its parent; then the *epilogue*: directories that no layer lists,
retained files (newest layer first, in stream order), and last the hard links that had to wait.
"""

from __future__ import annotations

import contextlib
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from streamerge.engine.retain import DEFAULT_SPOOL_MEMORY, Retainer, RetainMethod, Spool
from streamerge.engine.scan import Counts, ScanHooks, scan
from streamerge.entry import Entry, Kind
from streamerge.errors import LimitExceeded, SinkError, StreamergeError, show
from streamerge.interfaces import Fetches, InFile, Layer, Sink, Stream, Vouched
from streamerge.parallel.readahead import DEFAULT_READ_AHEAD, ReadAhead
from streamerge.rules.exclude import Exclude
from streamerge.rules.links import Held, Origin
from streamerge.rules.placing import Decision, MergedTree
from streamerge.rules.whiteout import Whiteouts, strip_opaque
from streamerge.tar.encode import implicit_directory
from streamerge.tar.reader import TarReader, Write

__all__ = ["Observer", "OnePass", "Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to merge. Sizes are in bytes.

    ``rescan`` reads each layer's headers first; ``mtime`` (seconds) is what implicit directories get;
    ``exclude`` holds gitignore patterns of what shall not be written; ``max_entries`` and ``max_bytes`` (of
    file contents) end the merge before more is. ``read_ahead`` is what may be decoded before its turn; with
    ``processes`` other processes do it, which are forked: nearly twice as fast, but for programs that have no threads
    of their own. ``plain`` turns the hot loop off, for the tests that compare.
    """

    whiteouts: Whiteouts = Whiteouts.OCI
    rescan: bool = False
    mtime: int = 0
    spool_memory: int = DEFAULT_SPOOL_MEMORY
    read_ahead: int = DEFAULT_READ_AHEAD
    processes: bool = False
    exclude: tuple[str, ...] = ()
    max_entries: int | None = None
    max_bytes: int | None = None
    plain: bool = False


class Observer:
    """What a merge tells while it runs; override what you want to hear. Called from the merging thread."""

    def layer(self, index: int, name: str, counts: Counts) -> None:
        """Reading of a layer begins; ``counts`` goes on counting."""

    def warning(self, text: str) -> None:
        """Something worth knowing that is no error."""


class OnePass:
    """One pass. ``known`` holds, for layers whose headers were read first, the offsets that are void."""

    def __init__(
        self,
        layers: Sequence[Layer],
        sink: Sink,
        options: Options,
        watch: Observer,
        spool: Spool,
        known: dict[int, frozenset[int]],
    ) -> None:
        self.counts = Counts()
        self.promoted = 0
        self._layers = layers
        self._sink = sink
        self._options = options
        self._watch = watch
        self._known = known
        self._retainer = Retainer(layers, spool)
        self._write: Write | None = getattr(sink, "write", None)
        self._write_files: Write | None = getattr(sink, "write_files", None)
        self._needed: list[int] = []
        self._waiting: dict[int, array[int]] = {}
        self._limited = options.max_entries is not None or options.max_bytes is not None
        self._merge = MergedTree(
            whiteouts=options.whiteouts,
            any_order=sink.any_order,
            warn=self._warn,
            excluded=Exclude(options.exclude) if options.exclude else None,
        )

    def run(self) -> None:
        """Read all layers, newest first, and write what shows. Raises StreamergeError with the layer's index."""
        newest_first = range(len(self._layers) - 1, -1, -1)
        layers = [self._layers[index] for index in newest_first]
        with ReadAhead(layers, self._options.read_ahead, processes=self._options.processes) as ahead:
            streams = ahead.streams()
            for index in newest_first:
                self._watch.layer(index, self._layers[index].name, self.counts)
                with _errors_of(index):
                    self._read_layer(index, next(streams))
        self._write_epilogue()

    # -- one layer ---------------------------------------------------------------------------------

    def _read_layer(self, index: int, stream: Stream) -> None:
        reader = TarReader(stream)
        if isinstance(self._sink, Fetches) and isinstance(stream, InFile):
            self._sink.read_from(stream)
            reader.fetch = self._sink.fetch
        self._retainer.note_globals(index, reader.global_records)
        self._needed.clear()
        view = self._merge.begin(index, self._known.get(index))
        means = self._means(index, stream)
        self._retainer.begin(index, means)

        def step() -> bool:
            entry = reader.next_entry()
            if entry is None:
                return False
            if entry.kind is Kind.HARDLINK:
                self._retainer.expect_links()
            self._settle(index, entry, view.decide(entry), reader, means)
            return True

        if self._takes_runs(index):
            keep = None if means is RetainMethod.POSITION else self._retainer.keep_hidden
            scan(reader, view, self._door(step, keep), self.counts)
        else:
            while step():
                pass
        reader.drain()
        if isinstance(self._sink, Fetches):
            self._sink.read_from(None)
        layer = self._layers[index]
        if isinstance(layer, Vouched):
            layer.vouch()
        view.end()
        self._needed.extend(inode.offset for inode in self._merge.links.bound_in(index))
        self._retainer.end(self._needed)

    def _door(self, step: Callable[[], bool], keep_hidden: Callable[[int, memoryview], None] | None) -> ScanHooks:
        write = self._write if self._write is not None else self._write_files
        assert write is not None
        door = ScanHooks(write, release=self._write_released, step=step, keep_hidden=keep_hidden)
        if self._write is None:
            add = getattr(self._sink, "add_directory", None)
            door = door._replace(enter=getattr(self._sink, "enter", None), add=add)
        return door

    def _takes_runs(self, index: int) -> bool:
        """Whether the hot loop may read this layer: nothing asks for a look at every entry."""
        plain = self._options.plain or self._options.exclude or self._limited or index in self._known
        return not plain and (self._write is not None or self._write_files is not None)

    def _settle(self, index: int, entry: Entry, decision: Decision, reader: TarReader, means: RetainMethod) -> None:
        """Do what the decision says with an entry whose body is next on ``reader``."""
        if decision is Decision.KEEP:
            if entry.verbatim and self._write is not None:
                self._pass(entry, reader, self._write)
            else:
                self._add(entry, reader.body())
            self._write_released()
        elif decision is Decision.HIDE:
            self.counts.hidden += 1
            self.counts.hidden_bytes += entry.size
            if self._retainer.wants(entry.size, means):
                self._spool(entry, reader)
        elif decision is not Decision.DROP:
            if not entry.size or self._retainer.wants(entry.size, means):
                self._spool(entry, reader)
            self._needed.append(entry.offset)
            if decision is Decision.WAIT and entry.kind is not Kind.DIRECTORY:
                self._waiting.setdefault(index, array("Q")).append(entry.offset)

    def _write_released(self) -> None:
        for inode in self._merge.take_released():
            self._add_retained(inode)

    def _means(self, index: int, stream: Stream) -> RetainMethod:
        """How this layer's entries can be read again."""
        if not self._layers[index].reopenable:
            return RetainMethod.SPOOL
        return RetainMethod.POSITION if stream.seeks else RetainMethod.SPOOL_SMALL

    def _spool(self, entry: Entry, reader: TarReader) -> None:
        padding = memoryview(bytes(-entry.size % 512))
        headers = memoryview(entry.prefix + entry.header)
        self._retainer.keep(entry.offset, itertools.chain((headers,), reader.body(), (padding,)))

    def _add(self, entry: Entry, body: Iterable[memoryview]) -> None:
        if self._limited:
            self._check_limits(entry)
        self._sink.add(entry, body)
        self.counts.written += 1

    def _pass(self, entry: Entry, reader: TarReader, write: Write) -> None:
        """Write an entry just as the hot loop does: byte for byte, be there anything in its padding."""
        if self._limited:
            self._check_limits(entry)
        write(entry.prefix + entry.header, -1)
        reader.pass_body_on(write)
        self.counts.written += 1

    def _check_limits(self, entry: Entry) -> None:
        self.counts.written_bytes += entry.size
        most = self._options.max_entries
        if most is not None and self.counts.written >= most:
            raise LimitExceeded(f"the merged tree has more than {most:,} entries, the limit that was set")
        most = self._options.max_bytes
        if most is not None and self.counts.written_bytes > most:
            raise LimitExceeded(f"the merged tree has more than {most:,} bytes, the limit that was set")

    def _warn(self, index: int, path: bytes, text: str) -> None:
        self._watch.warning(f"layer {index} ({self._layers[index].name}): {show(path)}: {text}")

    # -- the epilogue ------------------------------------------------------------------------------

    def _write_epilogue(self) -> None:
        for path, inode in self._merge.unlisted():
            if inode is None:
                self._add(implicit_directory(path, self._options.mtime), ())
            else:
                self._add_retained(inode)
        promoted, links = self._merge.links.finish()
        self.promoted = len(promoted)
        for inode in promoted:
            self._waiting.setdefault(inode.layer, array("Q")).append(inode.offset)
        for layer in sorted(self._waiting, reverse=True):
            with _errors_of(layer):
                for entry, body in self._retainer.recall(layer, sorted(self._waiting[layer])):
                    path = promoted.get(Origin(layer, entry.offset), entry.path)
                    self._add(entry.renamed(path), body)
        for link, target in links:
            self._add_link(link, target)

    def _add_retained(self, inode: Origin) -> None:
        for entry, body in self._retainer.recall(inode.layer, [inode.offset]):
            strip_opaque(entry, self._options.whiteouts)
            self._add(entry, body)

    def _add_link(self, link: Held, target: bytes) -> None:
        for entry, body in self._retainer.recall(link.layer, [link.offset]):
            self._add(entry.retargeted(target), body)


@contextlib.contextmanager
def _errors_of(layer: int) -> Iterator[None]:
    """Errors that pass are of this layer, but for those of the sink and the limits."""
    try:
        yield
    except (SinkError, LimitExceeded):
        raise
    except StreamergeError as error:
        error.at(index=layer)
        raise
