"""The whole merge: passes from layers to sink, restarted if a layer repeats a path."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence

from streamerge.engine.context import MergeContext
from streamerge.engine.onepass import OnePass
from streamerge.engine.spool import Spool, SpooledLayer
from streamerge.errors import UsageError
from streamerge.interfaces import ImageLayers, Layer, RestartNeeded, Sink, Takes, is_interruptible, needs_preview
from streamerge.observe import MergeFinished, Observer, OutputFlushing, Report
from streamerge.options import Options
from streamerge.rules.placing import RepeatedPath
from streamerge.tar.reader import TarReader

__all__ = ["merge"]


def merge(
    layers: Sequence[Layer], sink: Sink, options: Options | None = None, observer: Observer | None = None
) -> Report:
    """Merge ``layers``, base first as in a manifest, into ``sink``. Each layer is read once, newest first.

    The sink is finished on success and aborted on any error, including Ctrl-C. Raises StreamergeError, with layer, path
    and offset if they are known; TypeError for a path instead of layers; UsageError for an empty list that is not an
    image's. Memory: the paths, a chunk or two, ``options.read_ahead`` and ``options.spool_memory``; never a whole body.

    >>> from streamerge import layer_files, merge, open_tar
    >>> merge(layer_files(example_layers), open_tar(rootfs)).promoted
    1
    """
    try:
        _check_layers(layers)
        options = options if options is not None else Options()
        with contextlib.closing(Spool(options.spool_memory)) as spool:
            report = _merge(MergeContext(layers, options, observer, spool), sink)
    except BaseException:
        sink.abort()
        raise
    if observer is not None:
        observer.notify(MergeFinished(report))
    return report


def _check_layers(layers: Sequence[Layer]) -> None:
    if isinstance(layers, str | bytes | os.PathLike):
        raise TypeError(f"merge() takes a list of layers, not a path; use layer_files([{layers!r}])")
    if not layers and not isinstance(layers, ImageLayers):
        raise UsageError("there are no layers to merge; name at least one")


def _merge(context: MergeContext, sink: Sink) -> Report:
    start = time.monotonic()
    if is_interruptible(sink):
        sink.set_check(context.check)
    if needs_preview(sink):
        from streamerge.engine.preview import MergePreview  # few sinks need it

        sink.prepare(MergePreview(context, _make_passes))
    one_pass = _make_passes(context, sink)
    context.notify(OutputFlushing())
    sink.finish()
    counts, seconds = one_pass.counts, time.monotonic() - start
    return Report(len(context.layers), counts.written, counts.hidden, counts.hidden_bytes, one_pass.promoted, seconds)


def _make_passes(context: MergeContext, sink: Sink) -> OnePass:
    """Merge into a sink, and return the successful pass.

    If a layer repeats a path, read its headers first and merge again; if that happens again, read those of all layers.
    The superseded offsets that are found stay in the context.
    """
    if context.options.rescan:
        context.layers = [layer if layer.reopenable else SpooledLayer(layer, context.spool) for layer in context.layers]
        _read_headers(context, range(len(context.layers)))
    start = context.spool.end
    while True:
        one_pass = OnePass(context, sink)
        try:
            one_pass.merge_layers()
        except RepeatedPath as error:
            if Takes.RESTART not in sink.takes or not all(layer.reopenable for layer in context.layers):
                error.problem += "; a pipe cannot be rewound"
                error.setting = "rescan"
                raise
            sink.restart()
            context.spool.cut(start)
            _read_headers(context, _indices_to_read(context, error))
        except RestartNeeded:
            sink.restart()
            context.spool.cut(start)
        else:
            return one_pass


def _indices_to_read(context: MergeContext, error: RepeatedPath) -> Iterable[int]:
    """Return the layer that repeats a path; all layers if this has happened before."""
    if context.superseded or error.index is None:
        return range(len(context.layers))
    return (error.index,)


def _read_headers(context: MergeContext, indices: Iterable[int]) -> None:
    """Read the headers of some layers, and note which of their entries are superseded."""
    from streamerge.rules.superseded import superseded_offsets  # few merges need it

    for index in indices:
        if index in context.superseded:
            continue
        with context.locating(index), contextlib.closing(context.open_layer(index)) as stream:
            entries = iter(TarReader(stream).next_entry, None)
            context.superseded[index] = superseded_offsets(entries, context.options.whiteouts)
