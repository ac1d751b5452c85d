"""Merging in memory: layers from bytes, the tar into bytes, no file touched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from streamerge import (
    ChunkStream,
    Event,
    ImageLayers,
    Layer,
    LayerStarted,
    Observer,
    Options,
    Stream,
    TarSink,
    Warned,
    Whiteouts,
    merge,
)
from streamerge.engine.onepass import OnePass
from streamerge.errors import show

__all__ = ["BytesLayer", "BytesOutput", "Listener", "SlowOptions", "merge_tars", "options"]


class BytesLayer(Layer):
    """A layer in memory, given in chunks of ``chunk`` bytes; ``reopenable`` as asked, and held to it."""

    def __init__(self, data: bytes, *, name: str = "bytes", chunk: int = 1 << 16, reopenable: bool = True) -> None:
        self.name = name
        self.reopenable = reopenable
        self._data = data
        self._chunk = chunk
        self._opened = False

    def open(self) -> Stream:
        assert self.reopenable or not self._opened, "a layer that cannot be opened again was opened again"
        self._opened = True
        return ChunkStream(self._chunks())

    def _chunks(self) -> Iterable[bytes]:
        for start in range(0, len(self._data), self._chunk):
            yield self._data[start : start + self._chunk]


class BytesOutput:
    """An output in memory; ``data`` is what has appeared, None until it is committed."""

    def __init__(self, *, rewinds: bool = True) -> None:
        self.rewinds = rewinds
        self.data: bytes | None = None
        self.written = bytearray()
        self.discarded = False

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            self.written += piece

    def rewind(self) -> None:
        assert self.rewinds
        self.written.clear()

    def commit(self) -> None:
        self.data = bytes(self.written)

    def discard(self) -> None:
        self.discarded = True


class Listener(Observer):
    """Collects the warnings, each with what it is about."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._names: dict[int, str] = {}

    def notify(self, event: Event) -> None:
        if isinstance(event, LayerStarted):
            self._names[event.layer] = event.name
        elif isinstance(event, Warned):
            layer = [f"layer {event.layer} ({self._names[event.layer]})"] if event.layer is not None else []
            path = [show(event.path)] if event.path is not None else []
            self.warnings.append(": ".join([*layer, *path, event.text]))


class SlowOptions(Options):
    """Options of a merge without the scan: the slow path decides on every entry."""


def options(
    *, plain: bool, whiteouts: Whiteouts = Whiteouts.OCI, rescan: bool = False, mtime: int = 0, **others: Any
) -> Options:
    """Options of a merge; a ``plain`` one does without the scan."""
    kind = SlowOptions if plain else Options
    return kind(whiteouts=whiteouts, rescan=rescan, mtime=mtime, **others)


_scans = OnePass._scans


def _scans_unless_slow(self: OnePass, index: int) -> bool:
    return not isinstance(self._context.options, SlowOptions) and _scans(self, index)


OnePass._scans = _scans_unless_slow  # type: ignore[method-assign]  # the package has no switch for it


def merge_tars(
    tars: Iterable[bytes],
    options: Options | None = None,
    *,
    chunk: int = 1 << 16,
    reopenable: bool = True,
    rewinds: bool = True,
    observer: Observer | None = None,
) -> bytes:
    """The merged tar of plain layers, base first; of no layers an empty one, as of an image that has none."""
    layers = [
        BytesLayer(tar, name=f"{number}.tar", chunk=chunk, reopenable=reopenable) for number, tar in enumerate(tars)
    ]
    output = BytesOutput(rewinds=rewinds)
    merge(ImageLayers(layers), TarSink(output), options, observer)
    assert output.data is not None
    return output.data
