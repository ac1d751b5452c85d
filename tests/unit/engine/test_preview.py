"""What a sink may learn of a merge before it begins, and how it begins again."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from streamerge import Entry, LayerError, Stream, TarSink, merge
from streamerge.errors import StreamergeError
from streamerge.interfaces import Preview, PreviewSink, RestartNeeded, Takes
from streamerge.sinks.treesize import TreeSize
from tests.support import tree
from tests.support.layers import SECOND, Layer
from tests.support.merged import BytesLayer, BytesOutput

BASE = Layer().dir(b"", mode=0o711, mtime=SECOND).dir(b"d").file(b"d/a", b"x" * 1000).link(b"d/b", b"d/a")


class Curious(TarSink, PreviewSink):
    """A tar sink that wants to know."""

    def __init__(self) -> None:
        self.output = BytesOutput()
        super().__init__(self.output)
        self.takes |= Takes.PREVIEW
        self.root: Entry | None = None
        self.tree_size = TreeSize()
        self.doubts = 0

    def prepare(self, preview: Preview) -> None:
        preview.merge_into(self.tree_size)
        self.root = preview.root()

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        if self.doubts:
            self.doubts -= 1
            raise RestartNeeded
        super().add(entry, body)


class Watched(BytesLayer):
    """A layer that notes which thread opens it."""

    def __init__(self, data: bytes, *, reopenable: bool = True) -> None:
        super().__init__(data, reopenable=reopenable)
        self.threads: list[threading.Thread] = []

    def open(self) -> Stream:
        self.threads.append(threading.current_thread())
        return super().open()


@pytest.mark.parametrize("reopenable", [True, False])
def test_a_sink_learns_of_root_links_and_sizes(reopenable: bool) -> None:
    sink = Curious()
    newer = Layer().file(b"d/c", b"y", mtime=SECOND)
    merge([BytesLayer(layer.tar(), reopenable=reopenable) for layer in (BASE, newer)], sink)
    assert sink.root is not None
    assert sink.root.path == b""
    assert (sink.tree_size.inodes, dict(sink.tree_size.links.names)) == (4, {b"d/a": 2})
    assert sink.output.data is not None
    assert set(tree.from_tar(sink.output.data)) == {b"", b"d", b"d/a", b"d/b", b"d/c"}


def test_a_root_that_is_no_first_entry_is_not_found() -> None:
    sink = Curious()
    merge([BytesLayer(Layer().dir(b"d").dir(b"").tar())], sink)
    assert sink.root is None


def test_pipes_are_read_before_another_thread_runs_ahead() -> None:
    """The spool is not made for two threads: while one fills it with a layer, the other would retain entries in it."""
    layers = [Watched(BASE.tar(), reopenable=False), Watched(Layer().file(b"e").tar(), reopenable=False)]
    merge(layers, Curious())
    assert [layer.threads for layer in layers] == [[threading.main_thread()]] * 2


def test_a_sink_may_begin_again() -> None:
    sink = Curious()
    sink.doubts = 2
    merge([BytesLayer(BASE.tar(), reopenable=False)], sink)
    assert sink.output.data is not None
    assert tree.from_tar(sink.output.data)[b"d/b"].group == b"d/a"


def test_errors_say_which_layer_also_when_it_is_only_looked_at() -> None:
    with pytest.raises(LayerError) as caught:
        merge([BytesLayer(BASE.tar()), BytesLayer(BASE.tar()[:700], name="cut")], Curious())
    assert (caught.value.index, caught.value.layer) == (1, "layer 1 (cut)")
    with pytest.raises(StreamergeError, match="layer 0"):
        merge([BytesLayer(b"x" * 2000, reopenable=False)], Curious())
