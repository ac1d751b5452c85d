"""Rule 2: a whiteout acts on older layers only, at any position in its tar."""

from __future__ import annotations

import pytest

from tests.support.judges import DIR, shows
from tests.support.layers import Form, Layer

FORMS: tuple[Form, ...] = ("file", "link", "symlink", "dir", "char")


class TestItsOwnLayerIsNotConcerned:
    """Whiteouts apply to lower layers only; files of the same layer stay (OCI layer.md, "Whiteouts")."""

    @pytest.mark.parametrize("first", ["whiteout", "entry"])
    def test_both_in_one_layer_in_either_order(self, first: str) -> None:
        newer = Layer().whiteout(b"a").file(b"a", b"new")
        newer = newer if first == "whiteout" else Layer(newer.items[::-1])
        shows([Layer().file(b"a", b"old"), newer], {b"a": b"new"})

    @pytest.mark.parametrize("first", ["whiteout", "entry"])
    def test_nothing_older_shows_under_the_entry(self, first: str) -> None:
        older = Layer().dir(b"a", mode=0o700).file(b"a/old")
        newer = Layer().whiteout(b"a").dir(b"a", mode=0o711).file(b"a/new")
        newer = newer if first == "whiteout" else Layer(newer.items[1:] + newer.items[:1])
        merged = shows([older, newer], {b"a": DIR, b"a/new": b""})
        assert merged[b"a"].mode == 0o711

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_an_implicit_directory_beside_its_whiteout_is_new(self, position: int) -> None:
        """Nothing of the older directory is left, not even its metadata."""
        items = list(Layer().file(b"a/x").file(b"a/y").items)
        items.insert(position, Layer().whiteout(b"a").items[0])
        merged = shows([Layer().dir(b"a", mode=0o700).file(b"a/old"), Layer(tuple(items))],
                       {b"a": DIR, b"a/x": b"", b"a/y": b""})  # fmt: skip
        assert merged[b"a"].mode == 0o755

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_opaque_anywhere_among_its_siblings(self, position: int) -> None:
        items = list(Layer().dir(b"d").file(b"d/new").items)
        items.insert(position, Layer().opaque(b"d").items[0])
        shows([Layer().dir(b"d").file(b"d/old"), Layer(tuple(items))], {b"d": DIR, b"d/new": b""})

    def test_whiteout_of_a_link_target_beside_it(self) -> None:
        newer = Layer().file(b"t", b"new").link(b"l", b"t").whiteout(b"t").whiteout(b"l")
        shows([Layer().file(b"t", b"old"), newer], {b"l": b"new", b"t": "= l"})


class TestAnOpaqueWhiteoutHidesChildrenOnly:
    """The opaque whiteout hides all lower siblings (OCI layer.md, "Opaque Whiteout"), not their directory."""

    def test_without_an_own_entry_the_older_one_gives_the_metadata(self) -> None:
        older = Layer().dir(b"d", mode=0o1777, uid=7).file(b"d/old")
        merged = shows([older, Layer().opaque(b"d").file(b"d/new")], {b"d": DIR, b"d/new": b""})
        assert (merged[b"d"].mode, merged[b"d"].uid) == (0o1777, 7)

    def test_with_an_own_entry_that_one_does(self) -> None:
        older = Layer().dir(b"d", mode=0o1777).file(b"d/old")
        merged = shows([older, Layer().opaque(b"d").dir(b"d", mode=0o711)], {b"d": DIR})
        assert merged[b"d"].mode == 0o711

    def test_subdirectories_below_it_are_new(self) -> None:
        older = Layer().dir(b"d").dir(b"d/e", mode=0o700).file(b"d/e/old")
        merged = shows([older, Layer().opaque(b"d").file(b"d/e/new")], {b"d": DIR, b"d/e": DIR, b"d/e/new": b""})
        assert merged[b"d/e"].mode == 0o755

    def test_over_an_older_file_it_makes_a_directory(self) -> None:
        shows([Layer().file(b"d", b"old"), Layer().opaque(b"d")], {b"d": DIR})

    def test_of_the_root_leaves_the_newer_layers(self) -> None:
        layers = [Layer().dir(b"", mode=0o711).file(b"a").dir(b"d").file(b"d/b"), Layer().opaque(b"").file(b"c")]
        merged = shows([*layers, Layer().file(b"e")], {b"c": b"", b"e": b""})
        assert merged[b""].mode == 0o711

    def test_twice_in_one_stack(self) -> None:
        layers = [Layer().file(b"d/1"), Layer().opaque(b"d").file(b"d/2"), Layer().opaque(b"d").file(b"d/3")]
        shows(layers, {b"d": DIR, b"d/3": b""})


class TestSandwiches:
    def test_deleted_and_made_again(self) -> None:
        shows([Layer().file(b"a", b"1"), Layer().whiteout(b"a"), Layer().file(b"a", b"3")], {b"a": b"3"})

    def test_directory_deleted_and_made_again_is_empty(self) -> None:
        layers = [Layer().dir(b"d").file(b"d/1"), Layer().whiteout(b"d"), Layer().dir(b"d").file(b"d/3")]
        shows(layers, {b"d": DIR, b"d/3": b""})

    def test_made_deleted_in_a_deleted_directory(self) -> None:
        layers = [Layer().file(b"d/a"), Layer().file(b"d/b"), Layer().whiteout(b"d"), Layer().file(b"d/c")]
        shows(layers, {b"d": DIR, b"d/c": b""})

    def test_opaque_in_the_middle(self) -> None:
        layers = [Layer().file(b"d/1").file(b"k"), Layer().dir(b"d").opaque(b"d").file(b"d/2"), Layer().file(b"d/3")]
        shows(layers, {b"d": DIR, b"d/2": b"", b"d/3": b"", b"k": b""})

    def test_a_whiteout_hides_only_what_is_older_than_itself(self) -> None:
        layers = [Layer().file(b"a", b"1"), Layer().whiteout(b"a"), Layer().file(b"a", b"3"), Layer().file(b"b")]
        shows(layers, {b"a": b"3", b"b": b""})


class TestWhateverItsForm:
    """A whiteout should be an empty file with a special name. In real images it has any type and size."""

    @pytest.mark.parametrize("form", FORMS)
    def test_explicit(self, form: Form) -> None:
        shows([Layer().dir(b"d").file(b"d/a").file(b"d/b"), Layer().dir(b"d").whiteout(b"d/a", form)],
              {b"d": DIR, b"d/b": b""})  # fmt: skip

    @pytest.mark.parametrize("form", FORMS)
    def test_opaque(self, form: Form) -> None:
        shows([Layer().dir(b"d").file(b"d/a"), Layer().dir(b"d").opaque(b"d", form)], {b"d": DIR})
