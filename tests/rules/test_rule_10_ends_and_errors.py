"""Rule 10: where a tar ends, and what is an error instead of a guess."""

from __future__ import annotations

import pytest

from streamerge import FormatError, LayerError, StreamergeError
from tests.support.judges import DIR, described, refused, shows
from tests.support.layers import Dialect, EntrySpec, Kind, Layer
from tests.support.merged import merge_tars
from tests.support.merged import options as merged_options
from tests.support.tree import from_tar

A = Layer().file(b"a", b"data" * 200).file(b"b", b"tail")
WAYS = [{"plain": plain, "chunk": chunk} for plain in (True, False) for chunk in (1, 512, 1 << 16)]
SHOWN = {b"a": b"data" * 200, b"b": b"tail"}


def merged(data: bytes, way: dict[str, int]) -> dict[bytes, bytes | str]:
    return described(from_tar(merge_tars([data], merged_options(plain=bool(way["plain"])), chunk=way["chunk"])))


@pytest.mark.parametrize("way", WAYS, ids=str)
class TestTheEndOfALayer:
    """GNU tar manual, "Basic Tar Format": two zero blocks end an archive; a good reader does not need them."""

    def test_an_empty_file_is_a_layer(self, way: dict[str, int]) -> None:
        assert merged(b"", way) == {}

    @pytest.mark.parametrize("blocks", [1, 2, 20])
    def test_zeros_alone_are_a_layer(self, way: dict[str, int], blocks: int) -> None:
        assert merged(bytes(512 * blocks), way) == {}

    def test_no_end_blocks(self, way: dict[str, int]) -> None:
        assert merged(A.tar(end=False), way) == SHOWN

    @pytest.mark.parametrize("missing", [1, 100, 507, 508])
    def test_it_ends_inside_the_last_padding(self, way: dict[str, int], missing: int) -> None:
        """Umoci writes neither the padding of the last body nor an end."""
        assert merged(A.tar(end=False)[:-missing], way) == SHOWN

    def test_a_single_zero_block_at_the_very_end(self, way: dict[str, int]) -> None:
        assert merged(A.tar(end=False) + bytes(512), way) == SHOWN

    @pytest.mark.parametrize("garbage", [b"x", b"garbage" * 1000, Layer().file(b"c").tar()])
    def test_what_follows_the_end_blocks_is_ignored(self, way: dict[str, int], garbage: bytes) -> None:
        assert merged(A.tar() + garbage, way) == SHOWN

    @pytest.mark.parametrize("size", [509, 512, 1000, 1000 + 512])
    def test_a_body_that_runs_past_the_end(self, way: dict[str, int], size: int) -> None:
        data = A.tar(end=False)[:-size]
        with pytest.raises(LayerError, match="truncated") as caught:
            merged(data, way)
        assert caught.value.layer == "layer 0 (0.tar)"

    def test_a_hidden_body_that_runs_past_the_end(self, way: dict[str, int]) -> None:
        data = Layer().file(b"a", b"data" * 500).tar(end=False)
        for size in (1, 48, 500):
            options = merged_options(plain=bool(way["plain"]))
            layers = [data[: 2512 - size], Layer().file(b"a", b"new").tar()]
            with pytest.raises(LayerError, match=r"layer 0 .0.tar.*truncated"):
                merge_tars(layers, options, chunk=way["chunk"])

    @pytest.mark.parametrize("size", [1, 100, 511])
    def test_part_of_a_header(self, way: dict[str, int], size: int) -> None:
        with pytest.raises(LayerError, match="truncated"):
            merged(A.tar(end=False) + A.tar()[:size], way)

    def test_a_lone_zero_block(self, way: dict[str, int]) -> None:
        with pytest.raises(FormatError, match="single zero block") as caught:
            merged(A.tar(end=False) + bytes(512) + A.tar(), way)
        assert caught.value.offset == len(A.tar(end=False))

    def test_a_bad_checksum(self, way: dict[str, int]) -> None:
        data = bytearray(A.tar())
        data[1536] ^= 1
        with pytest.raises(FormatError, match="its checksum is wrong") as caught:
            merged(bytes(data), way)
        assert caught.value.offset == 1536

    @pytest.mark.parametrize("data", [b"x" * 512, b"not a tar " * 100, b"\x7fELF" + bytes(600)])
    def test_no_tar_at_all(self, way: dict[str, int], data: bytes) -> None:
        with pytest.raises(FormatError, match="not a tar, nor compressed in a known way"):
            merged(data, way)

    def test_an_extension_without_its_entry(self, way: dict[str, int]) -> None:
        data = Layer().file(b"n" * 120, b"").tar(end=False)[:1024]
        for end in (b"", bytes(1024)):
            with pytest.raises(FormatError, match="should follow its extension"):
                merged(data + end, way)


class TestEntriesBelowNonDirectories:
    """An entry below a non-directory of its own layer is an error; a whiteout there is ignored."""

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize("kind", ["file", "symlink", "fifo", "link"])
    @pytest.mark.parametrize("newer", [Layer(), Layer().whiteout(b"a"), Layer().dir(b"a"), Layer().file(b"a/y")])
    def test_entries(self, order: int, kind: str, newer: Layer) -> None:
        """An error even if a newer layer hides all of it: the layer itself is wrong."""
        blocker = {
            "file": Layer().file(b"a"), "symlink": Layer().symlink(b"a", b"t"), "fifo": Layer().fifo(b"a"),
            "link": Layer().link(b"a", b"t"),
        }[kind]  # fmt: skip
        items = (*blocker.items, *Layer().file(b"a/x").items)
        refused([Layer().file(b"t"), Layer(items[::order]), newer], "lies below 'a'")

    @pytest.mark.parametrize("order", [1, -1])
    def test_directories_and_far_below(self, order: int) -> None:
        for below in (Layer().dir(b"a/b/c"), Layer().link(b"a/b/c", b"k"), Layer().symlink(b"a/b/c", b"k")):
            items = (*Layer().file(b"k").file(b"a").items, *below.items)
            refused([Layer(items[::order])], "lies below 'a'")

    @pytest.mark.parametrize("order", [1, -1])
    def test_whiteouts(self, order: int) -> None:
        items = Layer().file(b"a", b"x").whiteout(b"a/b").opaque(b"a").opaque(b"a/c").items
        shows([Layer().file(b"a/b").file(b"a/c/d"), Layer(items[::order])], {b"a": b"x"})

    def test_below_a_whiteout_that_is_a_directory_by_type(self) -> None:
        refused([Layer().file(b"a"), Layer().whiteout(b"a", "dir").file(b".wh.a/x")], "below one")

    def test_below_a_non_directory_of_another_layer(self) -> None:
        shows([Layer().file(b"a"), Layer().file(b"a/x", b"x")], {b"a": DIR, b"a/x": b"x"})


class TestErrorsNotGuesses:
    @pytest.mark.parametrize(
        ("spec", "match"),
        [
            (EntrySpec(Kind.FILE, b""), "name is empty"),
            (EntrySpec(Kind.SYMLINK, b"s"), "symlink is empty"),
            (EntrySpec(Kind.LINK, b"l"), "hard link: the name is empty"),
            (EntrySpec(Kind.FILE, b"."), "root is a directory"),
        ],
    )
    def test_names_and_targets(self, spec: EntrySpec, match: str) -> None:
        refused([Layer().file(b"a"), Layer().entry(spec)], match, error=FormatError)

    @pytest.mark.parametrize(
        "record",
        [b"9 a=b\n", b"6 a=b\n", b"5 a=b\n", b"x a=b\n", b"6 a:bc\n", b"6 =abc\n", b"99 a=b\n", b"7 a=bc", b" 6 a=b\n"],
    )
    def test_a_record_whose_length_lies(self, record: bytes) -> None:
        extension = EntrySpec(Kind.FILE, b"x", data=record, typeflag=b"x")
        data = Layer().entry(extension).file(b"a").tar(Dialect.USTAR)
        if record == b"6 a=b\n":  # the one whose length is right
            assert described(from_tar(merge_tars([data]))) == {b"a": b""}
            return
        with pytest.raises(FormatError, match="PAX record") as caught:
            merge_tars([data])
        assert caught.value.offset == 0

    @pytest.mark.parametrize("key", [b"size", b"uid", b"gid", b"mtime"])
    @pytest.mark.parametrize("value", [b"x", b"1 ", b"0x1", b"1" * 30, b"--1", b"1.2.3", b"\xd9\xa1"])
    def test_a_record_that_is_no_number(self, key: bytes, value: bytes) -> None:
        with pytest.raises(FormatError, match="is not a number"):
            merge_tars([Layer().file(b"a", records={key: value}).tar()])

    @pytest.mark.parametrize("flag", [b"x", b"L", b"K", b"g"])
    @pytest.mark.parametrize(
        "field", [b"%011o\0" % ((1 << 20) + 1), b"\x80" + b"\xff" * 11, b"\xff" * 12, b"777777777777"]
    )
    def test_extensions_over_a_mebibyte(self, flag: bytes, field: bytes) -> None:
        """They are refused by their size, before a byte of them is read."""
        data = bytearray(Layer().entry(EntrySpec(Kind.FILE, b"x", typeflag=flag)).tar(Dialect.USTAR))
        data[124:136] = field
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        with pytest.raises(FormatError, match="1048576 are the limit"):
            merge_tars([bytes(data)])

    def test_extensions_of_a_mebibyte_together(self) -> None:
        half = EntrySpec(Kind.FILE, b"x", data=b"t" * 600_000, typeflag=b"K")
        with pytest.raises(FormatError, match="1048576 are the limit"):
            merge_tars([Layer().entry(half, half).file(b"a").tar(Dialect.GNU)])

    def test_errors_say_layer_path_and_offset(self) -> None:
        with pytest.raises(StreamergeError) as caught:
            merge_tars([Layer().file(b"k").tar(), Layer().file(b"a", b"x").file(b"b/../c").tar(), b""])
        assert str(caught.value) == (
            "layer 1 (1.tar): b/../c: at byte 1024: a '..' component could lead out of the root"
        )
