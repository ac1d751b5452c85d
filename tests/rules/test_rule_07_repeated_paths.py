"""Rule 7: if a layer lists a path twice, the last entry wins.

OCI layer.md forbids two entries with the same path in a layer. But docker import, cachepots and ``tar -r`` make such
layers, and every unpacker lets the last entry win.
"""

from __future__ import annotations

import pytest

from streamerge import LayerError, Options
from streamerge.rules.placing import RepeatedPath
from tests.support.judges import DIR, shows, tars
from tests.support.layers import Dialect, Layer
from tests.support.merged import merge_tars
from tests.support.merged import options as merged_options
from tests.support.tree import from_tar

TWICE = Layer().file(b"a", b"1").file(b"b", b"b").file(b"a", b"2")


class TestTheLastOneWins:
    def test_a_file(self) -> None:
        shows([TWICE], {b"a": b"2", b"b": b"b"})

    @pytest.mark.parametrize("times", [2, 3, 10])
    def test_of_many(self, times: int) -> None:
        layer = Layer()
        for time in range(times):
            layer = layer.file(b"d/a", b"%d" % time)
        shows([layer], {b"d": DIR, b"d/a": b"%d" % (times - 1)})

    def test_a_directory_with_other_metadata(self) -> None:
        merged = shows([Layer().dir(b"d", mode=0o700).file(b"d/a").dir(b"d", mode=0o711)], {b"d": DIR, b"d/a": b""})
        assert merged[b"d"].mode == 0o711

    def test_the_root_with_other_metadata(self) -> None:
        merged = shows([Layer().dir(b"", mode=0o700).file(b"a").dir(b"", mode=0o711)], {b"a": b""})
        assert merged[b""].mode == 0o711

    @pytest.mark.parametrize("order", [1, -1])
    def test_another_kind(self, order: int) -> None:
        layer = Layer(Layer().file(b"a", b"x").symlink(b"a", b"t").items[::order])
        shows([layer], {b"a": "-> t" if order == 1 else b"x"})

    def test_a_file_then_a_directory_with_children(self) -> None:
        shows([Layer().file(b"a").dir(b"a").file(b"a/b")], {b"a": DIR, b"a/b": b""})

    def test_a_directory_then_a_file(self) -> None:
        shows([Layer().dir(b"a").file(b"a", b"x")], {b"a": b"x"})

    def test_twice_in_two_layers(self) -> None:
        shows([Layer().file(b"c", b"1").file(b"c", b"2"), TWICE], {b"a": b"2", b"b": b"b", b"c": b"2"})

    def test_a_hidden_repeat(self) -> None:
        shows([TWICE, Layer().file(b"a", b"new")], {b"a": b"new", b"b": b"b"})

    def test_written_differently(self) -> None:
        shows([Layer().file(b"./a", b"1").file(b"a", b"2").file(b"//a", b"3")], {b"a": b"3"})

    def test_links_mean_the_instance_before_them(self) -> None:
        """As when the layer is unpacked: the first link is to the first file, and now its only name."""
        layer = Layer().file(b"a", b"1").link(b"k", b"a").file(b"a", b"2").link(b"l", b"a")
        shows([layer], {b"a": b"2", b"k": b"1", b"l": "= a"})
        shows([layer, Layer().whiteout(b"a")], {b"k": b"1", b"l": b"2"})

    def test_so_do_links_to_such_links(self) -> None:
        layer = Layer().file(b"a", b"1").link(b"k", b"a").file(b"a", b"2").link(b"l", b"k")
        shows([layer], {b"a": b"2", b"k": b"1", b"l": "= k"})

    def test_and_hidden_links(self) -> None:
        """Found by mutation testing: h is hidden, but the file that it linked to when it was listed still counts."""
        layer = Layer().file(b"a", b"1").link(b"h", b"a").file(b"a", b"2").link(b"l", b"h")
        shows([layer, Layer().whiteout(b"h")], {b"a": b"2", b"l": b"1"})
        layer = Layer().file(b"a", b"1").file(b"b", b"2").link(b"h", b"a").link(b"l", b"h").link(b"h", b"b")
        shows([layer, Layer().whiteout(b"h")], {b"a": b"1", b"b": b"2", b"l": "= a"})

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_hidden_path_that_was_a_file_and_a_link(self, order: int) -> None:
        twice = Layer().file(b"h", b"1").link(b"h", b"t").items[::order]
        layer = Layer((*Layer().file(b"t", b"t").items, *twice)).link(b"l", b"h")
        shows([layer, Layer().whiteout(b"h")], {b"l": b"t", b"t": "= l"} if order == 1 else {b"l": b"1", b"t": b"t"})

    def test_a_link_before_both_means_the_last(self) -> None:
        layer = Layer().link(b"l", b"h").file(b"t", b"t").link(b"h", b"t").file(b"h", b"1")
        shows([layer, Layer().whiteout(b"h")], {b"l": b"1", b"t": b"t"})

    def test_a_whiteout_twice(self) -> None:
        shows([Layer().file(b"a").file(b"b"), Layer().whiteout(b"a").whiteout(b"a").opaque(b"").opaque(b"")], {})


class TestADirectoryAgainIsNoEvent:
    """One builder lists ``run/`` again in every layer of a RUN command."""

    @pytest.mark.parametrize("dialect", [Dialect.V7, Dialect.USTAR, Dialect.GNU, Dialect.PAX])
    def test_with_equal_metadata(self, dialect: Dialect) -> None:
        layer = Layer().dir(b"d", mode=0o711).file(b"d/a").dir(b"d", mode=0o711).file(b"d/b").dir(b"d", mode=0o711)
        merged = from_tar(merge_tars(tars([layer], dialect), reopenable=False, rewinds=False))
        assert sorted(merged) == [b"", b"d", b"d/a", b"d/b"]
        shows([layer], {b"d": DIR, b"d/a": b"", b"d/b": b""}, dialect=dialect)

    def test_and_equal_xattrs(self) -> None:
        layer = Layer().dir(b"d", xattrs={b"trusted.t": b"1"}).dir(b"d", xattrs={b"trusted.t": b"1"})
        assert b"d" in from_tar(merge_tars(tars([layer]), reopenable=False, rewinds=False))

    def test_the_root_too(self) -> None:
        layer = Layer().dir(b"", mode=0o711).file(b"a").dir(b"", mode=0o711)
        assert from_tar(merge_tars(tars([layer]), reopenable=False, rewinds=False))[b""].mode == 0o711

    @pytest.mark.parametrize(
        "again",
        [
            Layer().dir(b"d", mode=0o700),
            Layer().dir(b"d", uid=1),
            Layer().dir(b"d", gid=1),
            Layer().dir(b"d", mtime=10**9),
            Layer().dir(b"d", mtime=5),
            Layer().dir(b"d", xattrs={b"trusted.t": b"2"}),
        ],
        ids=["mode", "uid", "gid", "seconds", "nanoseconds", "xattrs"],
    )
    def test_with_other_metadata_it_is_one(self, again: Layer) -> None:
        layer = Layer(Layer().dir(b"d").items + again.items)
        with pytest.raises(RepeatedPath):
            merge_tars(tars([layer]), rewinds=False)
        shows([layer], {b"d": DIR})


class TestWhereItCannotBeTakenBack:
    """To a pipe it is an error that names layer, path and ``rescan``, which reads headers first from the start."""

    LAYERS = tars([Layer().file(b"old"), TWICE, Layer().file(b"new")])

    @pytest.mark.parametrize("reopenable", [True, False])
    @pytest.mark.parametrize("rewinds", [True, False])
    @pytest.mark.parametrize("plain", [True, False])
    def test_pipes(self, reopenable: bool, rewinds: bool, plain: bool) -> None:
        options = merged_options(plain=plain)
        if reopenable and rewinds:
            assert from_tar(merge_tars(self.LAYERS, options))[b"a"].content == b"2"
            return
        with pytest.raises(LayerError, match=r"layer 1 .1.tar.: a: .*twice; a pipe cannot be rewound") as caught:
            merge_tars(self.LAYERS, options, reopenable=reopenable, rewinds=rewinds)
        assert (caught.value.path, caught.value.index, caught.value.setting) == (b"a", 1, "rescan")

    @pytest.mark.parametrize("reopenable", [True, False])
    @pytest.mark.parametrize("rewinds", [True, False])
    @pytest.mark.parametrize("memory", [0, 1 << 20])
    def test_rescan_works_everywhere(self, reopenable: bool, rewinds: bool, memory: int) -> None:
        options = Options(rescan=True, spool_memory=memory)
        merged = merge_tars(self.LAYERS, options, reopenable=reopenable, rewinds=rewinds)
        assert merged == merge_tars(self.LAYERS)
