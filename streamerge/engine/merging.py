"""A merge from its layers to its sink, begun again where a layer repeats a path."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from streamerge.engine.onepass import Observer, OnePass, Options
from streamerge.engine.retain import Spool, SpooledLayer
from streamerge.entry import Entry, Kind
from streamerge.errors import StreamergeError
from streamerge.interfaces import BeginAgain, Explains, Foresees, Layer, Sink
from streamerge.rules.placing import RepeatedPath
from streamerge.rules.superseded import superseded_offsets
from streamerge.tar.reader import TarReader

__all__ = ["Report", "merge"]


class Report(NamedTuple):
    """What a merge did. Entries are counted once each; hidden ones do not count directories."""

    layers: int
    written: int
    hidden: int
    hidden_bytes: int
    promoted: int
    seconds: float


def merge(layers: Sequence[Layer], sink: Sink, options: Options | None = None, watch: Observer | None = None) -> Report:
    """Merge ``layers``, base first as a manifest lists them, into ``sink``; each is read once, newest first.

    The sink is finished on success and aborted on any error, Ctrl-C included. Raises StreamergeError, with
    layer, path and offset where they are known. Memory: the paths, a chunk or two, ``options.read_ahead``
    and ``options.spool_memory``; never a body.

    >>> from streamerge import LayerFile, merge, open_tar
    >>> layers = [LayerFile(path) for path in example_layers]
    >>> merge(layers, open_tar(rootfs)).promoted
    1
    """
    options = options if options is not None else Options()
    watch = watch if watch is not None else Observer()
    start = time.monotonic()
    spool = Spool(options.spool_memory)
    known: dict[int, frozenset[int]] = {}
    try:
        if isinstance(sink, Foresees):
            preview = _Preview(layers, options, spool, known)
            sink.prepare(preview)
            layers = preview.layers
        one_pass = _passes(layers, sink, options, watch, spool, known)
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    finally:
        spool.close()
    counts = one_pass.counts
    seconds = time.monotonic() - start
    return Report(len(layers), counts.written, counts.hidden, counts.hidden_bytes, one_pass.promoted, seconds)


def _passes(
    layers: Sequence[Layer],
    sink: Sink,
    options: Options,
    watch: Observer,
    spool: Spool,
    known: dict[int, frozenset[int]],
) -> OnePass:
    """Merge; where a layer repeats a path, once more with its headers read first, then with all layers' so.

    ``known`` holds what such a reading has found before, and gets what it finds.
    """
    if options.rescan:
        with _located(layers):
            layers = [layer if layer.reopenable else SpooledLayer(layer, spool) for layer in layers]
            _rescan(range(len(layers)), layers, known, options)
    begin = spool.end
    while True:
        one_pass = OnePass(layers, sink, options, watch, spool, known)
        try:
            with _located(layers):
                one_pass.run()
        except RepeatedPath as error:
            if not sink.restartable or not all(layer.reopenable for layer in layers):
                error.problem += "; what has gone through a pipe cannot be taken back: use --rescan"
                raise
            sink.restart()
            spool.cut(begin)
            with _located(layers):
                again = range(len(layers)) if known or error.index is None else [error.index]
                _rescan(again, layers, known, options)
        except BeginAgain:
            sink.restart()
            spool.cut(begin)
        else:
            return one_pass


class _Preview:
    """See :class:`~streamerge.interfaces.Preview`. ``layers`` are those to merge afterwards.

    ``known`` gets what was found where a layer repeats a path, so that the merge itself takes the same course.
    """

    def __init__(
        self, layers: Sequence[Layer], options: Options, spool: Spool, known: dict[int, frozenset[int]]
    ) -> None:
        self.layers = layers
        self._known = known
        self._options = options
        self._spool = spool

    def root(self) -> Entry | None:
        """The root's entry, where it is the first of its layer, as it nearly always is."""
        with self._layers_again():
            for index in range(len(self.layers) - 1, -1, -1):
                entry = _first_entry(self.layers[index], index)
                if entry is not None and not entry.path and entry.kind is Kind.DIRECTORY:
                    return entry
        return None

    def merge_into(self, sink: Sink) -> None:
        """Merge without finishing; what is retained meanwhile is forgotten."""
        with self._layers_again():
            end = self._spool.end
            _passes(self.layers, sink, self._options, Observer(), self._spool, self._known)
            self._spool.cut(end)

    @contextlib.contextmanager
    def _layers_again(self) -> Iterator[None]:
        """The layers as ones that can be read more than once, in a context that adds their names to errors."""
        with _located(self.layers):
            self.layers = [self._again(index, layer) for index, layer in enumerate(self.layers)]
            yield

    def _again(self, index: int, layer: Layer) -> Layer:
        """A layer that is a pipe, read into the spool here and now, so that its errors are told before all else."""
        if layer.reopenable:
            return layer
        spooled = SpooledLayer(layer, self._spool)
        with _errors_of(index):
            spooled.open().close()
        return spooled


def _first_entry(layer: Layer, index: int) -> Entry | None:
    with _errors_of(index):
        stream = layer.open()
        try:
            return TarReader(stream).next_entry()
        finally:
            stream.close()


def _rescan(
    indices: Iterable[int], layers: Sequence[Layer], known: dict[int, frozenset[int]], options: Options
) -> None:
    """Read the headers of some layers, and note which of their entries are void."""
    for index in indices:
        if index in known:
            continue
        with _errors_of(index):
            stream = layers[index].open()
            try:
                entries = iter(TarReader(stream).next_entry, None)
                known[index] = superseded_offsets(entries, options.whiteouts)
            finally:
                stream.close()


@contextlib.contextmanager
def _errors_of(index: int) -> Iterator[None]:
    """Errors that pass are of this layer."""
    try:
        yield
    except StreamergeError as error:
        raise error.at(index=index) from None


@contextlib.contextmanager
def _located(layers: Sequence[Layer]) -> Iterator[None]:
    """Add the layer's name to errors that know its index."""
    try:
        yield
    except StreamergeError as error:
        if error.index is not None:
            layer = layers[error.index]
            better = layer.explain(error) if isinstance(layer, Explains) else error
            better.at(index=error.index, layer=f"layer {error.index} ({layer.name})")
            if better is not error:
                raise better from error
        raise
