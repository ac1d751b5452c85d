"""Rule 1: an entry of a layer is hidden by an entry or a whiteout of a newer one."""

from __future__ import annotations

import pytest

from tests.support.judges import DIR, judged, refused, shows
from tests.support.layers import EntrySpec, Kind, Layer

NODES = {
    "file": EntrySpec(Kind.FILE, b"p", data=b"file"),
    "symlink": EntrySpec(Kind.SYMLINK, b"p", target=b"to", mode=0o777),
    "fifo": EntrySpec(Kind.FIFO, b"p"),
    "char": EntrySpec(Kind.CHAR, b"p", major=1, minor=3),
    "block": EntrySpec(Kind.BLOCK, b"p", major=8, minor=1),
    "dir": EntrySpec(Kind.DIR, b"p", mode=0o755),
}
SAID: dict[str, bytes | str] = {
    "file": b"file",
    "symlink": "-> to",
    "fifo": "fifo",
    "char": "char 1:3",
    "block": "block 8:1",
    "dir": DIR,
}


class TestANewerEntryHidesAnOlderOneAtItsPath:
    """An upper object hides a lower one of the same name (kernel, overlayfs.rst, "Upper and Lower")."""

    @pytest.mark.parametrize("newer", NODES)
    @pytest.mark.parametrize("older", NODES)
    def test_every_pair_of_kinds(self, older: str, newer: str) -> None:
        shows([Layer().entry(NODES[older]), Layer().entry(NODES[newer])], {b"p": SAID[newer]})

    def test_the_newest_of_three(self) -> None:
        shows([Layer().file(b"a", b"1"), Layer().file(b"a", b"2"), Layer().file(b"a", b"3")], {b"a": b"3"})

    def test_in_a_directory(self) -> None:
        older = Layer().dir(b"d").file(b"d/a", b"old").file(b"d/b", b"kept")
        shows([older, Layer().dir(b"d").file(b"d/a", b"new")], {b"d": DIR, b"d/a": b"new", b"d/b": b"kept"})

    def test_a_name_that_begins_alike_is_another_name(self) -> None:
        shows([Layer().file(b"ab").dir(b"a-b").file(b"a-b/x"), Layer().file(b"a", b"new")],
              {b"a": b"new", b"ab": b"", b"a-b": DIR, b"a-b/x": b""})  # fmt: skip


class TestTwoDirectoriesMerge:
    """Where both are directories a merged directory is made; the upper's metadata is reported (overlayfs.rst)."""

    def test_children_unite_and_the_newest_metadata_stands(self) -> None:
        older = Layer().dir(b"d", mode=0o700, uid=1, mtime=1, xattrs={b"trusted.old": b"1"}).file(b"d/old")
        newer = Layer().dir(b"d", mode=0o1777, uid=2, mtime=2).file(b"d/new")
        merged = shows([older, newer], {b"d": DIR, b"d/old": b"", b"d/new": b""})
        node = merged[b"d"]
        assert (node.mode, node.uid, node.mtime_ns, node.xattrs) == (0o1777, 2, 2, frozenset())

    def test_through_a_layer_that_says_nothing_of_it(self) -> None:
        layers = [Layer().dir(b"d").file(b"d/1"), Layer().file(b"other"), Layer().dir(b"d").file(b"d/3")]
        shows(layers, {b"d": DIR, b"d/1": b"", b"d/3": b"", b"other": b""})


class TestAWhiteoutHidesWhatIsOlder:
    """A whiteout hides its name in the lower layers (OCI layer.md, "Whiteouts")."""

    @pytest.mark.parametrize("older", NODES)
    def test_at_its_path(self, older: str) -> None:
        shows([Layer().entry(NODES[older]), Layer().whiteout(b"p")], {})

    def test_below_its_path(self) -> None:
        shows([Layer().dir(b"p").dir(b"p/q").file(b"p/q/r"), Layer().whiteout(b"p")], {})

    def test_at_an_ancestor_of_implicit_directories(self) -> None:
        shows([Layer().file(b"p/q/r/s").file(b"k"), Layer().whiteout(b"p/q")], {b"p": DIR, b"k": b""})

    def test_an_opaque_whiteout_hides_below_its_directory(self) -> None:
        older = Layer().dir(b"p").file(b"p/a").dir(b"p/q").file(b"p/q/b").file(b"k")
        shows([older, Layer().dir(b"p").opaque(b"p")], {b"p": DIR, b"k": b""})

    def test_an_opaque_whiteout_high_above(self) -> None:
        shows([Layer().file(b"a/b/c/d/e"), Layer().opaque(b"a")], {b"a": DIR})


class TestANonDirectoryAboveHides:
    """A non-directory ends the lookup in lower layers (overlayfs.rst, "Directories")."""

    @pytest.mark.parametrize("newer", sorted(NODES.keys() - {"dir"}))
    def test_replaced_directory(self, newer: str) -> None:
        older = Layer().dir(b"p").file(b"p/a").dir(b"p/q").file(b"p/q/b")
        shows([older, Layer().entry(NODES[newer])], {b"p": SAID[newer]})

    def test_a_symlink_to_the_directory_itself_is_not_followed(self) -> None:
        older = Layer().dir(b"real").file(b"real/f", b"f").dir(b"p").file(b"p/f", b"gone")
        shows([older, Layer().symlink(b"p", b"real")], {b"real": DIR, b"real/f": b"f", b"p": "-> real"})

    def test_a_hidden_hard_link_is_no_directory_either(self) -> None:
        layers = [Layer().dir(b"p").file(b"p/a"), Layer().file(b"t", b"t").link(b"p", b"t"), Layer().whiteout(b"p")]
        shows(layers, {b"t": b"t"})


class TestNothingElseHides:
    def test_a_sibling_whiteout(self) -> None:
        shows([Layer().file(b"a", b"a").file(b"b", b"b"), Layer().whiteout(b"b")], {b"a": b"a"})

    def test_the_same_name_elsewhere(self) -> None:
        shows(
            [Layer().dir(b"d").file(b"d/a", b"1").file(b"a", b"2"), Layer().whiteout(b"a")], {b"d": DIR, b"d/a": b"1"}
        )

    def test_no_layer_at_all_but_empty_ones(self) -> None:
        merged = judged([Layer(), Layer()])
        assert sorted(merged) == [b""]
        assert (merged[b""].mode, merged[b""].uid, merged[b""].mtime_ns) == (0o755, 0, 0)

    def test_a_hidden_entry_must_still_make_sense(self) -> None:
        refused([Layer().file(b"a").file(b"a/b"), Layer().whiteout(b"a")], "lies below 'a'")
