"""Rule 6: a hard link means the file that its own layer saw at the target's path.

In the OCI spec, as in tar, a hard link is an entry that names another (layer.md, "File Types"). The file was fixed
when the layer was made, so a newer layer cannot change it.
"""

from __future__ import annotations

from itertools import permutations
from typing import ClassVar

import pytest

from streamerge import FormatError
from tests.support.judges import DIR, refused, shows
from tests.support.layers import EntrySpec, Kind, Layer
from tests.support.tree import content_of

OLD = EntrySpec(Kind.FILE, b"t", data=b"old", mode=0o4750, uid=3, gid=4, mtime=7, xattrs=((b"trusted.t", b"t"),))


class TestATargetThatShows:
    """The target is in the same layer and shows: a link."""

    def test_is_linked_to(self) -> None:
        shows([Layer().file(b"a", b"x").link(b"b", b"a").link(b"c", b"a")], {b"a": b"x", b"b": "= a", b"c": "= a"})

    @pytest.mark.parametrize("order", sorted(permutations(range(3))), ids=str)
    def test_in_any_order_even_before_it_is_listed(self, order: tuple[int, ...]) -> None:
        items = Layer().file(b"m", b"x").link(b"a", b"m").link(b"z", b"m").items
        shows([Layer(tuple(items[n] for n in order))], {b"a": b"x", b"m": "= a", b"z": "= a"})

    @pytest.mark.parametrize("order", sorted(permutations(range(3))), ids=str)
    def test_through_a_chain(self, order: tuple[int, ...]) -> None:
        items = Layer().file(b"a", b"x").link(b"b", b"a").link(b"c", b"b").items
        shows([Layer(tuple(items[n] for n in order))], {b"a": b"x", b"b": "= a", b"c": "= a"})

    def test_in_a_directory_that_is_listed_last(self) -> None:
        shows([Layer().file(b"d/t", b"x").link(b"l", b"d/t").dir(b"d", mode=0o700)],
              {b"d": DIR, b"d/t": b"x", b"l": "= d/t"})  # fmt: skip

    @pytest.mark.parametrize("kind", ["symlink", "char", "block", "fifo"])
    def test_of_any_kind_but_directories(self, kind: str) -> None:
        layer, said = {
            "symlink": (Layer().symlink(b"t", b"/x"), "-> /x"),
            "char": (Layer().char(b"t", 5, 1), "char 5:1"),
            "block": (Layer().block(b"t", 8, 70000), "block 8:70000"),
            "fifo": (Layer().fifo(b"t"), "fifo"),
        }[kind]
        shows([layer.link(b"u", b"t")], {b"t": said, b"u": "= t"})
        shows([layer.link(b"u", b"t"), Layer().whiteout(b"t")], {b"u": said})
        shows([layer, Layer().link(b"u", b"t")], {b"t": said, b"u": "= t"})

    @pytest.mark.parametrize("prefix", [b"./", b"/"])
    def test_names_with_prefixes(self, prefix: bytes) -> None:
        shows([Layer().file(b"a", b"x").link(b"b", b"a")], {b"a": b"x", b"b": "= a"}, prefix=prefix)


class TestATargetThatIsHidden:
    """The target is in the same layer, but a newer one hides it: the first link is promoted, the others link to it."""

    NEWER: ClassVar[dict[str, tuple[Layer, dict[bytes, bytes | str]]]] = {
        "whiteout": (Layer().whiteout(b"t"), {}),
        "replaced by a file": (Layer().file(b"t", b"new"), {b"t": b"new"}),
        "replaced by a symlink": (Layer().symlink(b"t", b"l"), {b"t": "-> l"}),
        "replaced by a directory": (Layer().dir(b"t"), {b"t": DIR}),
        "replaced by an implicit directory": (Layer().file(b"t/x"), {b"t": DIR, b"t/x": b""}),
    }

    @pytest.mark.parametrize("how", NEWER)
    @pytest.mark.parametrize("first", ["target", "link"])
    def test_the_survivor_is_the_file(self, how: str, first: str) -> None:
        newer, seen = self.NEWER[how]
        items = Layer().entry(OLD).link(b"l", b"t", mode=0o777).items
        merged = shows([Layer(items if first == "target" else items[::-1]), newer], {b"l": b"old", **seen})
        node = merged[b"l"]
        assert (node.mode, node.uid, node.gid, node.mtime_ns) == (0o4750, 3, 4, 7)
        assert node.xattrs == {(b"trusted.t", b"t")}

    @pytest.mark.parametrize("how", NEWER)
    def test_further_survivors_link_to_the_first(self, how: str) -> None:
        newer, seen = self.NEWER[how]
        base = Layer().link(b"k", b"t").entry(OLD).link(b"l", b"t").link(b"m", b"l")
        shows([base, newer], {b"k": b"old", b"l": "= k", b"m": "= k", **seen})

    def test_a_replaced_survivor_is_no_survivor(self) -> None:
        base = Layer().file(b"t", b"old").link(b"l", b"t").link(b"m", b"t")
        shows([base, Layer().file(b"t", b"new").file(b"l", b"new")], {b"t": b"new", b"l": b"new", b"m": b"old"})

    def test_nobody_survives(self) -> None:
        base = Layer().file(b"t", b"old").link(b"l", b"t")
        shows([base, Layer().whiteout(b"t").whiteout(b"l")], {})

    def test_links_within_a_directory_that_is_gone(self) -> None:
        base = Layer().file(b"d/t", b"old").link(b"l", b"d/t").link(b"d/m", b"d/t")
        shows([base, Layer().whiteout(b"d")], {b"l": b"old"})
        shows([base, Layer().opaque(b"d")], {b"l": b"old", b"d": DIR})

    @pytest.mark.parametrize("hidden", [b"a", b"b", b"c", b"d"])
    def test_a_chain_with_a_hidden_part(self, hidden: bytes) -> None:
        base = Layer().file(b"a", b"x").link(b"b", b"a").link(b"c", b"b").link(b"d", b"c")
        left = [name for name in (b"a", b"b", b"c", b"d") if name != hidden]
        first = left[0].decode()
        shows([base, Layer().whiteout(hidden)], {left[0]: b"x", left[1]: f"= {first}", left[2]: f"= {first}"})
        shows([Layer(base.items[::-1]), Layer().file(hidden, b"new")],
              {left[0]: b"x", left[1]: f"= {first}", left[2]: f"= {first}", hidden: b"new"})  # fmt: skip

    def test_a_big_body_is_promoted_whole(self) -> None:
        data = bytes(range(256)) * 5000
        merged = shows([Layer().file(b"t", data).link(b"l", b"t"), Layer().file(b"t", b"new")],
                       {b"t": b"new", b"l": content_of(data)})  # fmt: skip
        assert merged[b"l"].group == b"l"

    def test_an_empty_file_is_promoted(self) -> None:
        shows([Layer().file(b"t").link(b"l", b"t"), Layer().whiteout(b"t")], {b"l": b""})

    def test_the_newer_link_is_of_another_inode(self) -> None:
        """Both layers link l to t; each link means its own layer's t."""
        base = Layer().file(b"t", b"old").link(b"l", b"t").link(b"m", b"t")
        shows([base, Layer().file(b"t", b"new").link(b"l", b"t")], {b"l": b"new", b"t": "= l", b"m": b"old"})

    def test_two_groups_are_promoted_apart(self) -> None:
        base = Layer().file(b"t", b"1").link(b"a", b"t").file(b"u", b"2").link(b"b", b"u").link(b"c", b"t")
        shows([base, Layer().whiteout(b"t").whiteout(b"u")], {b"a": b"1", b"c": "= a", b"b": b"2"})


class TestATargetInAnOlderLayer:
    """Resolved as the link's layer sees it: in the first older layer that has the path."""

    def test_shown(self) -> None:
        shows([Layer().file(b"t", b"x"), Layer().link(b"l", b"t")], {b"l": b"x", b"t": "= l"})

    def test_hidden_by_a_still_newer_layer(self) -> None:
        layers = [Layer().file(b"t", b"x"), Layer().link(b"l", b"t").link(b"m", b"t"), Layer().file(b"t", b"new")]
        shows(layers, {b"l": b"x", b"m": "= l", b"t": b"new"})

    def test_the_first_older_one_is_meant(self) -> None:
        layers = [Layer().file(b"t", b"1"), Layer().file(b"t", b"2"), Layer().link(b"l", b"t")]
        shows(layers, {b"l": b"2", b"t": "= l"})
        shows([*layers, Layer().whiteout(b"t")], {b"l": b"2"})

    def test_which_is_a_link_itself(self) -> None:
        layers = [Layer().file(b"f", b"x").link(b"t", b"f"), Layer().link(b"l", b"t"), Layer().whiteout(b"t")]
        shows(layers, {b"f": b"x", b"l": "= f"})
        shows([*layers, Layer().whiteout(b"f")], {b"l": b"x"})

    def test_which_links_to_a_still_older_one(self) -> None:
        layers = [Layer().file(b"f", b"x"), Layer().link(b"t", b"f"), Layer().link(b"l", b"t")]
        shows(layers, {b"f": b"x", b"l": "= f", b"t": "= f"})
        shows([*layers, Layer().whiteout(b"t").file(b"f", b"new")], {b"f": b"new", b"l": b"x"})

    def test_links_of_two_layers_to_one_inode(self) -> None:
        layers = [Layer().file(b"t", b"x"), Layer().link(b"k", b"t"), Layer().link(b"l", b"t"), Layer().whiteout(b"t")]
        shows(layers, {b"k": b"x", b"l": "= k"})

    def test_own_whiteout_of_the_target(self) -> None:
        """A whiteout acts on older layers, but the layer's own links still see what it hides: l was made first."""
        shows([Layer().file(b"t", b"x"), Layer().link(b"l", b"t").whiteout(b"t")], {b"l": b"x"})

    def test_a_whiteout_newer_than_the_link_is_no_obstacle(self) -> None:
        shows([Layer().file(b"t", b"x"), Layer().link(b"l", b"t"), Layer().whiteout(b"t")], {b"l": b"x"})

    @pytest.mark.parametrize(
        ("between", "match"),
        [
            (Layer().whiteout(b"d/t"), "in no layer"),
            (Layer().whiteout(b"d"), "in no layer"),
            (Layer().opaque(b"d"), "in no layer"),
            (Layer().opaque(b""), "in no layer"),
            (Layer().file(b"d"), "in no layer"),
            (Layer().dir(b"d/t"), "directory"),
            (Layer().file(b"d/t/x"), "directory"),
        ],
        ids=["whiteout", "parent whited out", "opaque", "opaque root", "file above", "directory", "implicit directory"],
    )
    def test_a_layer_between_hides_it(self, between: Layer, match: str) -> None:
        layers = [Layer().dir(b"d").file(b"d/t", b"x"), between, Layer().link(b"l", b"d/t")]
        error = refused(layers, match, error=FormatError)
        assert (error.path, error.index) == (b"l", 2)

    def test_a_layer_between_that_made_it_again(self) -> None:
        layers = [Layer().file(b"t", b"1"), Layer().whiteout(b"t"), Layer().file(b"t", b"3"), Layer().link(b"l", b"t")]
        shows(layers, {b"l": b"3", b"t": "= l"})

    def test_a_layer_between_with_whiteout_and_entry(self) -> None:
        layers = [Layer().file(b"t", b"1"), Layer().whiteout(b"t").file(b"t", b"2"), Layer().link(b"l", b"t")]
        shows(layers, {b"l": b"2", b"t": "= l"})

    def test_a_group_split_by_a_copy_up(self) -> None:
        """On overlayfs, ``chmod`` on one name of a file copies up only that name."""
        base = Layer().file(b"a", b"x").link(b"b", b"a").link(b"c", b"a")
        shows([base, Layer().file(b"a", b"x", mode=0o755)], {b"a": b"x", b"b": b"x", b"c": "= b"})
        shows([base, Layer().file(b"b", b"x", mode=0o755)], {b"a": b"x", b"b": b"x", b"c": "= a"})

    def test_a_group_half_moved_to_a_newer_layer(self) -> None:
        base = Layer().file(b"a", b"x").link(b"b", b"a").link(b"c", b"a")
        shows([base, Layer().file(b"a", b"x").link(b"b", b"a")], {b"a": b"x", b"b": "= a", b"c": b"x"})


class TestLinksThatMeanNothing:
    """A link to nothing, or to a directory, is an error."""

    @pytest.mark.parametrize(
        ("layer", "match"),
        [
            (Layer().link(b"l", b"nothing"), "'nothing', is in no layer"),
            (Layer().dir(b"d").link(b"l", b"d"), "directory"),
            (Layer().link(b"l", b"d").dir(b"d"), "directory"),
            (Layer().file(b"d/x").link(b"l", b"d"), "directory"),
            (Layer().link(b"l", b"."), "directory"),
            (Layer().link(b"l", b"l"), "only name each other"),
            (Layer().link(b"l", b"m").link(b"m", b"l"), "only name each other"),
            (Layer().link(b"l", b"m").link(b"m", b"n").link(b"n", b"m"), "only name each other"),
            (Layer().file(b"f").link(b"l", b"f/x"), "in no layer"),
        ],
    )
    def test_in_one_layer(self, layer: Layer, match: str) -> None:
        error = refused([layer], match, error=FormatError)
        assert error.path in (b"l", b"m")

    @pytest.mark.parametrize("target", [b"../t", b"a/../t"])
    def test_upwards(self, target: bytes) -> None:
        refused([Layer().file(b"t").entry(EntrySpec(Kind.LINK, b"l", target=target))], "hard link: a '..'")

    def test_to_nothing_below_other_layers(self) -> None:
        refused([Layer().file(b"a"), Layer().link(b"l", b"t"), Layer().file(b"t")], "in no layer")

    def test_to_an_older_directory(self) -> None:
        refused([Layer().dir(b"t"), Layer().link(b"l", b"t")], "directory")
