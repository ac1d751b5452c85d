"""Rule 5: directories that no tar lists."""

from __future__ import annotations

import pytest

from tests.support.judges import DIR, judged, shows, tars
from tests.support.layers import Layer
from tests.support.merged import Listener, merge_tars


class TestImplicitDirectoriesAreDirectories:
    """Runtimes create missing parents (containerd archive.Apply), and overlayfs shows them over older files."""

    @pytest.mark.parametrize("older", ["file", "symlink", "fifo", "link"])
    def test_they_hide_older_non_directories(self, older: str) -> None:
        base = {
            "file": Layer().file(b"d", b"x"),
            "symlink": Layer().symlink(b"d", b"elsewhere"),
            "fifo": Layer().fifo(b"d"),
            "link": Layer().link(b"d", b"t"),
        }[older]
        shows([base.file(b"t", b"t"), Layer().file(b"d/a")], {b"d": DIR, b"d/a": b"", b"t": b"t"})

    def test_a_symlink_to_a_directory_is_not_followed(self) -> None:
        """As in Fedora's merge of /lib into /usr/lib, if a newer layer still writes lib/x."""
        base = Layer().dir(b"usr").dir(b"usr/lib").file(b"usr/lib/a").symlink(b"lib", b"usr/lib")
        shows([base, Layer().file(b"lib/x")],
              {b"usr": DIR, b"usr/lib": DIR, b"usr/lib/a": b"", b"lib": DIR, b"lib/x": b""})  # fmt: skip

    def test_a_warning_says_so(self) -> None:
        listener = Listener()
        merge_tars(tars([Layer().symlink(b"d", b"x").file(b"k"), Layer().file(b"d/a")]), observer=listener)
        assert listener.warnings == [
            "layer 0 (0.tar): d: a newer layer has something below it, so this symlink gives way to a directory"
        ]

    def test_a_listed_directory_needs_no_warning(self) -> None:
        listener = Listener()
        merge_tars(tars([Layer().symlink(b"d", b"x"), Layer().dir(b"d").file(b"d/a")]), observer=listener)
        assert listener.warnings == []


class TestParentsOfWhiteouts:
    """Runtimes create the parents of a whiteout like those of any entry, even if it hides nothing."""

    @pytest.mark.parametrize("mark", [Layer().whiteout(b"p/q/r"), Layer().opaque(b"p/q")])
    def test_show_as_directories(self, mark: Layer) -> None:
        shows([Layer().file(b"a"), mark], {b"a": b"", b"p": DIR, b"p/q": DIR})

    def test_hide_an_older_file(self) -> None:
        shows([Layer().file(b"p", b"file"), Layer().whiteout(b"p/q")], {b"p": DIR})


class TestMetadata:
    """From the newest older directory entry in view; else 0755, 0:0 and the epoch."""

    def test_of_the_newest_older_entry(self) -> None:
        layers = [Layer().dir(b"d", mode=0o700, uid=1), Layer().dir(b"d", mode=0o711, uid=2), Layer().file(b"d/a")]
        merged = shows(layers, {b"d": DIR, b"d/a": b""})
        assert (merged[b"d"].mode, merged[b"d"].uid) == (0o711, 2)

    def test_umoci_leaves_unchanged_parents_out(self) -> None:
        base = Layer().dir(b"etc", mode=0o2755, gid=5, mtime=9).dir(b"etc/conf", mode=0o750).file(b"etc/conf/a", b"1")
        merged = shows([base, Layer().file(b"etc/conf/a", b"2")], {b"etc": DIR, b"etc/conf": DIR, b"etc/conf/a": b"2"})
        assert (merged[b"etc"].mode, merged[b"etc"].gid, merged[b"etc"].mtime_ns) == (0o2755, 5, 9)
        assert merged[b"etc/conf"].mode == 0o750

    @pytest.mark.parametrize("epoch", [0, 1_700_000_000])
    def test_of_nobody(self, epoch: int) -> None:
        merged = judged([Layer().file(b"d/e/a", mtime=5)], epoch=epoch)
        for path in (b"", b"d", b"d/e"):
            node = merged[path]
            assert (node.mode, node.uid, node.gid, node.mtime_ns) == (0o755, 0, 0, epoch * 10**9)

    @pytest.mark.parametrize(
        "between",
        [Layer().whiteout(b"d"), Layer().file(b"d"), Layer().symlink(b"d", b"x")],
        ids=["whiteout", "file", "symlink"],
    )
    def test_not_of_an_entry_out_of_view(self, between: Layer) -> None:
        merged = shows([Layer().dir(b"d", mode=0o700), between, Layer().file(b"d/a")], {b"d": DIR, b"d/a": b""})
        assert merged[b"d"].mode == 0o755

    def test_not_of_an_entry_below_an_opaque_directory(self) -> None:
        layers = [Layer().dir(b"d/e", mode=0o700), Layer().opaque(b"d"), Layer().file(b"d/e/a")]
        merged = shows(layers, {b"d": DIR, b"d/e": DIR, b"d/e/a": b""})
        assert merged[b"d/e"].mode == 0o755

    def test_of_an_entry_in_the_same_layer_that_comes_late(self) -> None:
        merged = shows([Layer().file(b"d/e/a").dir(b"d/e", mode=0o700).dir(b"d", mode=0o711)],
                       {b"d": DIR, b"d/e": DIR, b"d/e/a": b""})  # fmt: skip
        assert (merged[b"d"].mode, merged[b"d/e"].mode) == (0o711, 0o700)

    def test_of_the_root(self) -> None:
        merged = judged([Layer().dir(b"", mode=0o700), Layer().file(b"a")])
        assert merged[b""].mode == 0o700
