"""One pass over all layers: read, decide, write or retain; then the epilogue.

The order of the output does not depend on how layers are compressed or stored. First come the entries as they are read,
newest layer first, each waiting directory right after its parent. Then comes the *epilogue*: directories that no layer
lists, retained files (newest layer first, in stream order), and hard links whose targets came late.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Sequence

from streamerge.engine.context import MergeContext
from streamerge.engine.retain import RetainBy, Retainer
from streamerge.engine.scan import ScanHooks, scan
from streamerge.entry import Entry, Kind
from streamerge.errors import LimitExceeded
from streamerge.interfaces import Layer, Run, RunSink, Sink, Takes, TreeSink, takes_runs, takes_trees
from streamerge.observe import (
    Counts,
    EntryDecided,
    EntryRetained,
    LayerFinished,
    LayerStarted,
    LinkPromoted,
    MergeStarted,
    Warned,
)
from streamerge.parallel.readahead import ReadAhead
from streamerge.rules.links import Held, Origin
from streamerge.rules.placing import Decision, Excluded, LayerView, MergedTree
from streamerge.rules.whiteout import strip_opaque
from streamerge.streams import Stream
from streamerge.tar.encode import implicit_directory
from streamerge.tar.reader import TarReader

__all__ = ["OnePass"]

_LEFT_OUT = (Decision.HIDE, Decision.DROP)


class OnePass:
    """One pass over the layers of a merge, into a sink. ``counts`` and ``promoted`` are its results."""

    def __init__(self, context: MergeContext, sink: Sink) -> None:
        options = context.options
        self.counts = Counts()
        self.promoted = 0
        self._context = context
        self._sink = sink
        self._run_sink: RunSink | None = sink if takes_runs(sink) else None
        self._tree_sink: TreeSink | None = sink if takes_trees(sink) else None
        self._retainer = Retainer(context.open_layer, context.spool)
        self._needed: list[int] = []
        self._waiting: dict[int, array[int]] = {}
        self._limited = options.max_entries is not None or options.max_bytes is not None
        self._watched = context.observer is not None and context.observer.wants_entries
        self._tree = MergedTree(
            whiteouts=options.whiteouts,
            any_order=Takes.ANY_ORDER in sink.takes,
            warn=lambda index, path, text: context.notify(Warned(index, path, text)),
            excluded=_exclude(options.exclude),
        )

    def merge_layers(self) -> None:
        """Read all layers, newest first, and write the entries that show. Raises StreamergeError with its layer."""
        context = self._context
        context.notify(MergeStarted(len(context.layers), self.counts))
        newest_first = range(len(context.layers) - 1, -1, -1)
        layers: list[Layer] = [context.layers[index] for index in newest_first]
        options = context.options
        with (
            context.locating(),
            ReadAhead(layers, options.read_ahead, processes=options.processes, check=context.check) as ahead,
        ):
            streams = ahead.streams()
            for index in newest_first:
                context.notify(LayerStarted(index, layers[-1 - index].name, layers[-1 - index].size))
                with context.locating(index):
                    self._read_layer(index, context.observed(index, next(streams)))
                context.notify(LayerFinished(index))
            self._write_epilogue()

    # -- one layer ---------------------------------------------------------------------------------

    def _read_layer(self, index: int, stream: Stream) -> None:
        layer = self._context.layers[index]
        reader = TarReader(stream, extents=Takes.EXTENTS in self._sink.takes)
        view = self._tree.begin(index, self._context.superseded.get(index))
        retain_by = _retain_by(layer, stream)
        self._retainer.begin(index, retain_by, reader.global_records)
        self._needed.clear()
        step = self._stepper(index, reader, view)
        if self._scans(index):
            keep_hidden = None if retain_by is RetainBy.OFFSET else self._retainer.keep_hidden
            scan(reader, view, self._hooks(step, keep_hidden), self.counts)
        else:
            while step():
                pass
        reader.drain()
        if not reader.offset and layer.size == 0:
            self._context.notify(Warned(index, None, "the file is empty; it adds nothing"))
        layer.mark_verified()
        view.end()
        self._needed.extend(origin.offset for origin in self._tree.links.bound_in(index))
        self._retainer.end(self._needed)

    def _scans(self, index: int) -> bool:
        """Return whether the scan can read this layer: not if each entry must be looked at."""
        options = self._context.options
        looks = self._watched or options.exclude or self._limited or index in self._context.superseded
        return not looks and (self._run_sink is not None or self._tree_sink is not None)

    def _hooks(self, step: Callable[[], bool], keep_hidden: Callable[[int, memoryview], None] | None) -> ScanHooks:
        if self._run_sink is not None:
            return ScanHooks(self._run_sink.write_run, self._write_released, step, keep_hidden)
        sink = self._tree_sink
        assert sink is not None
        enter, add = sink.enter_directory, sink.add_directory
        return ScanHooks(sink.write_run, self._write_released, step, keep_hidden, enter, add)

    def _stepper(self, index: int, reader: TarReader, view: LayerView) -> Callable[[], bool]:
        """Return a function that reads and handles the next entry. It returns False at the end of the layer."""

        def step() -> bool:
            entry = reader.next_entry()
            if entry is None:
                return False
            if entry.kind is Kind.HARDLINK:
                self._retainer.note_link()
            self._settle(index, entry, view.decide(entry), reader)
            return True

        def watched_step() -> bool:
            entry = reader.next_entry()
            if entry is None:
                return False
            if entry.kind is Kind.HARDLINK:
                self._retainer.note_link()
            path, decision = entry.path, view.decide(entry)
            hidden_by = self._tree.hidden_by(path, index) if decision in _LEFT_OUT else None
            self._context.notify(EntryDecided(index, path, entry.kind, entry.size, decision, hidden_by))
            self._settle(index, entry, decision, reader)
            return True

        return watched_step if self._watched else step

    def _settle(self, index: int, entry: Entry, decision: Decision, reader: TarReader) -> None:
        """Carry out the decision on an entry. Its body is next on ``reader``."""
        if decision is Decision.KEEP:
            self._write(entry, reader)
            self._write_released()
        elif decision is Decision.HIDE:
            self.counts.add(0, 1, entry.size)
            if self._retainer.wants(entry.size):
                self._spool(entry, reader)
        elif decision is not Decision.DROP:
            if self._watched:
                self._context.notify(EntryRetained(index, entry.path, entry.size))
            if not entry.size or self._retainer.wants(entry.size):
                self._spool(entry, reader)
            self._needed.append(entry.offset)
            if decision is Decision.WAIT and entry.kind is not Kind.DIRECTORY:
                self._waiting.setdefault(index, array("Q")).append(entry.offset)

    def _write(self, entry: Entry, reader: TarReader) -> None:
        """Write an entry; unchanged, as the scan does, if that is possible."""
        if not entry.verbatim or self._run_sink is None:
            self._add(entry, reader.body())
            return
        if self._limited:
            self._check_limits(entry)
        self._run_sink.write_run(Run(entry.prefix + entry.header))
        reader.pass_body_on(self._run_sink.write_run)
        self.counts.written += 1

    def _write_released(self) -> None:
        for origin in self._tree.take_released():
            self._add_retained(origin)

    def _spool(self, entry: Entry, reader: TarReader) -> None:
        padding = memoryview(bytes(-entry.size % 512))
        headers = memoryview(entry.prefix + entry.header)
        self._retainer.keep(entry.offset, itertools.chain((headers,), reader.body(), (padding,)))

    def _add(self, entry: Entry, body: Iterable[memoryview]) -> None:
        if self._limited:
            self._check_limits(entry)
        self._sink.add(entry, body)
        self.counts.written += 1

    def _check_limits(self, entry: Entry) -> None:
        self.counts.written_bytes += entry.size
        limit = self._context.options.max_entries
        if limit is not None and self.counts.written >= limit:
            raise LimitExceeded(f"the merged tree has more than the limit of {limit:,} entries")
        limit = self._context.options.max_bytes
        if limit is not None and self.counts.written_bytes > limit:
            raise LimitExceeded(f"the merged tree has more than the limit of {limit:,} bytes")

    # -- the epilogue ------------------------------------------------------------------------------

    def _write_epilogue(self) -> None:
        for path, origin in self._tree.unlisted():
            if origin is None:
                self._add(implicit_directory(path, self._context.options.mtime), ())
            else:
                self._add_retained(origin)
        promoted, links = self._tree.links.finish()
        self.promoted = len(promoted)
        for origin in promoted:
            self._waiting.setdefault(origin.layer, array("Q")).append(origin.offset)
        for layer in sorted(self._waiting, reverse=True):
            with self._context.locating(layer):
                self._add_waiting(layer, promoted)
        for link, target in links:
            self._add_link(link, target)

    def _add_waiting(self, layer: int, promoted: dict[Origin, bytes]) -> None:
        """Add a layer's retained files, and its hidden files under the paths of the promoted links."""
        for entry, body in self._retainer.recall(layer, sorted(self._waiting[layer])):
            self._context.raise_if_cancelled()
            path = promoted.get(Origin(layer, entry.offset))
            if path is not None:
                self._context.notify(LinkPromoted(layer, path))
            self._add(entry.renamed(path if path is not None else entry.path), body)

    def _add_retained(self, origin: Origin) -> None:
        with self._context.locating(origin.layer):
            for entry, body in self._retainer.recall(origin.layer, [origin.offset]):
                strip_opaque(entry, self._context.options.whiteouts)
                self._add(entry, body)

    def _add_link(self, link: Held, target: bytes) -> None:
        with self._context.locating(link.layer):
            for entry, body in self._retainer.recall(link.layer, [link.offset]):
                self._add(entry.retargeted(target), body)


def _exclude(patterns: Sequence[str]) -> Excluded | None:
    if not patterns:
        return None
    from streamerge.rules.exclude import Exclude  # few merges need it

    return Exclude(patterns)


def _retain_by(layer: Layer, stream: Stream) -> RetainBy:
    """Return how a layer's entries can be read again."""
    if not layer.reopenable:
        return RetainBy.SPOOL
    return RetainBy.OFFSET if stream.seeks else RetainBy.SPOOL_SMALL
