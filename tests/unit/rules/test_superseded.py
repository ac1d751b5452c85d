"""Which entries of a layer are superseded by later ones, from its headers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.errors import FormatError
from streamerge.options import Whiteouts
from streamerge.rules.superseded import superseded_offsets
from streamerge.streams import ChunkStream
from streamerge.tar.reader import TarReader
from tests.support.layers import Dialect, Layer


def superseded(layer: Layer, style: Whiteouts = Whiteouts.OCI) -> list[int]:
    """The numbers of the superseded entries, from 0; all have empty bodies and plain headers."""
    reader = TarReader(ChunkStream([layer.tar(Dialect.USTAR)]))
    return sorted(offset // 512 for offset in superseded_offsets(iter(reader.next_entry, None), style))


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
    def test_the_last_counts(self, layer: Layer, expected: list[int]) -> None:
        assert superseded(layer) == expected

    @given(st.lists(st.sampled_from([b"a", b"b", b"c"])))
    def test_files_of_any_order(self, names: list[bytes]) -> None:
        layer = Layer()
        for name in names:
            layer = layer.file(name)
        last = {name: number for number, name in enumerate(names)}
        assert superseded(layer) == sorted(set(range(len(names))) - set(last.values()))


class TestBelowNonDirectories:
    @pytest.mark.parametrize("order", [1, -1])
    def test_entries_are_errors(self, order: int) -> None:
        items = Layer().symlink(b"a", b"t").file(b"a/b/c").items
        with pytest.raises(FormatError, match="lies below 'a'") as caught:
            superseded(Layer(items[::order]))
        assert caught.value.path == b"a/b/c"
        assert caught.value.offset == (512 if order == 1 else 0)

    @pytest.mark.parametrize("order", [1, -1])
    def test_whiteouts_are_superseded(self, order: int) -> None:
        items = Layer().symlink(b"a", b"t").whiteout(b"a/b").opaque(b"a").opaque(b"a/c").whiteout(b"b").items
        assert superseded(Layer(items[::order])) == [1, 2, 3]

    def test_no_error_if_the_path_is_a_directory_in_the_end(self) -> None:
        assert superseded(Layer().file(b"a").whiteout(b"a/b").dir(b"a")) == [0]

    def test_an_error_if_the_path_is_a_file_in_the_end(self) -> None:
        with pytest.raises(FormatError, match="lies below 'a'"):
            superseded(Layer().dir(b"a").file(b"a/b").file(b"a"))


def test_overlay_whiteouts_are_no_entries() -> None:
    layer = Layer().char(b"a", 0, 0).file(b"a").char(b"a", 0, 0)
    assert superseded(layer, Whiteouts.OVERLAY) == []
    assert superseded(layer, Whiteouts.OCI) == [0, 1]


def test_names_are_checked() -> None:
    with pytest.raises(FormatError, match="no name"):
        superseded(Layer().file(b".wh."))
