"""What the headers of a layer, read first, say of its repeated paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.errors import FormatError
from streamerge.options import Whiteouts
from streamerge.rules.superseded import superseded
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from tests.support.layers import Dialect, Layer


def void(layer: Layer, style: Whiteouts = Whiteouts.OCI) -> list[int]:
    """The numbers, counted from 0, of the entries that are void; all have empty bodies and plain headers."""
    reader = TarReader(ChunkStream([layer.tar(Dialect.USTAR)]))
    return sorted(offset // 512 for offset in superseded(iter(reader.next_entry, None), style))


class TestRepeats:
    @pytest.mark.parametrize(
        ("layer", "expected"),
        [
            (Layer(), []),
            (Layer().file(b"a").file(b"b"), []),
            (Layer().file(b"a").file(b"a"), [0]),
            (Layer().file(b"a").file(b"b").file(b"./a").file(b"a"), [0, 2]),
            (Layer().dir(b"a").dir(b"a"), [1]),
            (Layer().dir(b"a").dir(b"a/").dir(b"./a"), [1, 2]),
            (Layer().dir(b"a").dir(b"a", mode=0o700), [0]),
            (Layer().dir(b"a").dir(b"a", mode=0o700).dir(b"a"), [0, 1]),
            (Layer().dir(b"a").file(b"a"), [0]),
            (Layer().file(b"a").dir(b"a"), [0]),
            (Layer().file(b"a").dir(b"a").file(b"a/b"), [0]),
            (Layer().dir(b"a").file(b"a").dir(b"a"), [0, 1]),
            (Layer().dir(b"").dir(b"", mode=0o711), [0]),
            (Layer().whiteout(b"a").whiteout(b"a").file(b"a"), []),
            (Layer().file(b".wh..wh.plnk/1").file(b".wh..wh.plnk/1"), []),
        ],
    )
    def test_the_last_stands(self, layer: Layer, expected: list[int]) -> None:
        assert void(layer) == expected

    @given(st.lists(st.sampled_from([b"a", b"b", b"c"])))
    def test_files_of_any_order(self, names: list[bytes]) -> None:
        layer = Layer()
        for name in names:
            layer = layer.file(name)
        last = {name: number for number, name in enumerate(names)}
        assert void(layer) == sorted(set(range(len(names))) - set(last.values()))


class TestBelowNonDirectories:
    @pytest.mark.parametrize("order", [1, -1])
    def test_entries_are_errors(self, order: int) -> None:
        items = Layer().symlink(b"a", b"t").file(b"a/b/c").items
        with pytest.raises(FormatError, match="lies below 'a'") as caught:
            void(Layer(items[::order]))
        assert caught.value.path == b"a/b/c"
        assert caught.value.offset == (512 if order == 1 else 0)

    @pytest.mark.parametrize("order", [1, -1])
    def test_whiteouts_are_void(self, order: int) -> None:
        items = Layer().symlink(b"a", b"t").whiteout(b"a/b").opaque(b"a").opaque(b"a/c").whiteout(b"b").items
        assert void(Layer(items[::order])) == [1, 2, 3]

    def test_of_a_path_that_is_a_directory_in_the_end_are_none(self) -> None:
        assert void(Layer().file(b"a").whiteout(b"a/b").dir(b"a")) == [0]

    def test_of_a_path_that_is_a_file_in_the_end_are_errors(self) -> None:
        with pytest.raises(FormatError, match="lies below 'a'"):
            void(Layer().dir(b"a").file(b"a/b").file(b"a"))


def test_overlay_whiteouts_are_no_entries() -> None:
    layer = Layer().char(b"a", 0, 0).file(b"a").char(b"a", 0, 0)
    assert void(layer, Whiteouts.OVERLAY) == []
    assert void(layer, Whiteouts.OCI) == [0, 1]


def test_names_are_checked() -> None:
    with pytest.raises(FormatError, match="no name"):
        void(Layer().file(b".wh."))
