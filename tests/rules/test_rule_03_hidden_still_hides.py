"""Rule 3: a hidden entry still hides what is older."""

from __future__ import annotations

import pytest

from tests.support.judges import DIR, shows
from tests.support.layers import Layer


class TestHiddenEntriesSealWhatIsOlder:
    """Each layer is merged onto the layers below it, so an entry takes effect even if it never shows."""

    def test_a_file_under_a_newer_directory(self) -> None:
        layers = [Layer().dir(b"a").file(b"a/old"), Layer().file(b"a", b"file"), Layer().dir(b"a").file(b"a/new")]
        shows(layers, {b"a": DIR, b"a/new": b""})

    def test_a_file_under_an_implicit_directory(self) -> None:
        layers = [Layer().dir(b"a", mode=0o700).file(b"a/old"), Layer().file(b"a"), Layer().file(b"a/new")]
        merged = shows(layers, {b"a": DIR, b"a/new": b""})
        assert merged[b"a"].mode == 0o755  # the older directory is out of view

    @pytest.mark.parametrize("middle", ["symlink", "fifo", "char", "link"])
    def test_any_non_directory(self, middle: str) -> None:
        between = {
            "symlink": Layer().symlink(b"a", b"x"),
            "fifo": Layer().fifo(b"a"),
            "char": Layer().char(b"a", 1, 3),
            "link": Layer().file(b"t").link(b"a", b"t").whiteout(b"gone"),
        }[middle]
        merged = shows([Layer().file(b"a/old").file(b"t", b"t"), between, Layer().dir(b"a"), Layer().file(b"t", b"t")],
                       {b"a": DIR, b"t": b"t"})  # fmt: skip
        assert merged[b"a"].mode == 0o755

    def test_a_whiteout_under_a_newer_directory(self) -> None:
        layers = [Layer().file(b"a/old"), Layer().whiteout(b"a"), Layer().dir(b"a")]
        shows(layers, {b"a": DIR})

    def test_an_opaque_whiteout_under_a_newer_directory(self) -> None:
        layers = [Layer().file(b"a/1"), Layer().opaque(b"a").file(b"a/2"), Layer().dir(b"a").file(b"a/3")]
        shows(layers, {b"a": DIR, b"a/2": b"", b"a/3": b""})

    def test_a_whiteout_below_a_directory_that_is_listed_later(self) -> None:
        layers = [Layer().file(b"a/b/c").file(b"a/k"), Layer().whiteout(b"a/b"), Layer().file(b"a/b/new")]
        shows(layers, {b"a": DIR, b"a/k": b"", b"a/b": DIR, b"a/b/new": b""})


class TestHiddenDirectoriesDoNotSeal:
    def test_three_directories_unite(self) -> None:
        layers = [Layer().dir(b"a").file(b"a/1"), Layer().dir(b"a").file(b"a/2"), Layer().dir(b"a").file(b"a/3")]
        shows(layers, {b"a": DIR, b"a/1": b"", b"a/2": b"", b"a/3": b""})

    def test_a_directory_under_a_file_is_wholly_hidden(self) -> None:
        layers = [Layer().dir(b"a").file(b"a/1"), Layer().dir(b"a").file(b"a/2"), Layer().file(b"a", b"file")]
        shows(layers, {b"a": b"file"})


class TestTheParentIndex:
    """A layer that has something below a path has a directory there, listed or not (rule 5)."""

    def test_an_older_file_gives_way_to_a_directory_made_by_a_child(self) -> None:
        shows([Layer().file(b"a", b"old"), Layer().file(b"a/b", b"new")], {b"a": DIR, b"a/b": b"new"})

    def test_even_where_that_child_is_deleted_again(self) -> None:
        shows([Layer().file(b"a", b"old"), Layer().file(b"a/b"), Layer().whiteout(b"a/b")], {b"a": DIR})

    def test_a_sealed_ancestor_keeps_the_news_from_below(self) -> None:
        """Layer 0 has a/b/c, but layer 2 seals a: it does not matter that a/b is a directory in layer 0."""
        layers = [Layer().file(b"a/b/c"), Layer().file(b"a/b", b"file"), Layer().opaque(b"a").file(b"a/x")]
        shows(layers, {b"a": DIR, b"a/x": b""})

    def test_a_directory_entry_older_than_an_implicit_one_still_counts(self) -> None:
        merged = shows([Layer().dir(b"a", mode=0o700), Layer().file(b"a/b"), Layer().file(b"a/c")],
                       {b"a": DIR, b"a/b": b"", b"a/c": b""})  # fmt: skip
        assert merged[b"a"].mode == 0o700


class TestAtDepth:
    @pytest.mark.parametrize("depth", [1, 2, 5, 40])
    def test_a_middle_file_seals_at_any_depth(self, depth: int) -> None:
        path = b"/".join([b"d"] * depth)
        merged = shows([Layer().file(path + b"/old"), Layer().file(path, b"f"), Layer().file(path + b"/new")],
                       {**{b"/".join([b"d"] * n): DIR for n in range(1, depth + 1)}, path + b"/new": b""})  # fmt: skip
        assert path + b"/old" not in merged

    def test_a_hundred_layers(self) -> None:
        layers = [Layer().file(b"d/%d" % n).whiteout(b"d/%d" % (n - 1)) for n in range(100)]
        shows(layers, {b"d": DIR, b"d/99": b""})
