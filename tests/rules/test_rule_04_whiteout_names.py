"""Rule 4: which names are whiteouts, and of what."""

from __future__ import annotations

import pytest

from streamerge import FormatError, Options, Whiteouts
from tests.support.changeset import Whiteouts as Style
from tests.support.judges import DIR, described, refused, shows, tars
from tests.support.layers import Dialect, EntrySpec, Form, Kind, Layer
from tests.support.merged import merge_tars
from tests.support.tree import from_tar

FORMS: tuple[Form, ...] = ("file", "link", "symlink", "dir", "char")


class TestBookkeeping:
    """Names that begin with ``.wh..wh.`` are reserved for AUFS (aufs.5, "Whiteout") and never show."""

    @pytest.mark.parametrize("name", [b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.", b".wh..wh..opq2"])
    def test_is_not_shown(self, name: bytes) -> None:
        shows([Layer().file(name, b"x").file(b"a").dir(b"d").file(b"d/" + name)], {b"a": b"", b"d": DIR})

    def test_hides_nothing(self) -> None:
        shows([Layer().file(b".wh.aufs").file(b"a"), Layer().file(b".wh..wh.a").file(b".wh..wh.plnk/x")], {b"a": b""})

    def test_a_directory_of_it(self) -> None:
        shows(
            [Layer().dir(b".wh..wh.orph").file(b".wh..wh.orph/x").symlink(b".wh..wh.s", b"t").file(b"a")], {b"a": b""}
        )

    def test_targets_of_links_are_promoted(self) -> None:
        """AUFS kept the data of hard links in ``.wh..wh.plnk``: the first link becomes the file."""
        layer = Layer().file(b".wh..wh.plnk/1.2", b"data", mode=0o4755).link(b"a", b".wh..wh.plnk/1.2")
        merged = shows([layer.link(b"b", b".wh..wh.plnk/1.2")], {b"a": b"data", b"b": "= a"})
        assert merged[b"a"].mode == 0o4755

    def test_targets_listed_after_their_links(self) -> None:
        layer = Layer().link(b"b", b".wh..wh.plnk/1").file(b".wh..wh.plnk/1", b"data")
        shows([layer], {b"b": b"data"})

    def test_targets_in_an_older_layer(self) -> None:
        shows([Layer().file(b".wh..wh.plnk/1", b"old"), Layer().link(b"b", b".wh..wh.plnk/1")], {b"b": b"old"})


class TestWhiteoutsOfNothing:
    @pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh..."])
    @pytest.mark.parametrize("form", FORMS)
    def test_no_name_is_an_error(self, name: bytes, form: Form) -> None:
        kind = {"file": Kind.FILE, "link": Kind.LINK, "symlink": Kind.SYMLINK, "dir": Kind.DIR, "char": Kind.CHAR}[form]
        spec = EntrySpec(kind, b"d/" + name, target=b"x" if form in ("link", "symlink") else b"")
        error = refused([Layer().file(b"a"), Layer().entry(spec)], "whiteout of no name", error=FormatError)
        assert error.path == b"d/" + name

    @pytest.mark.parametrize("name", [b".wh....", b".wh...a", b".wh. ", b".wh.\n"])
    def test_odd_names_are_names(self, name: bytes) -> None:
        hidden = name.removeprefix(b".wh.")
        shows([Layer().file(hidden).file(b"a"), Layer().file(name)], {b"a": b""})

    def test_a_whiteout_for_nothing_is_none(self) -> None:
        shows([Layer().file(b"a"), Layer().whiteout(b"b").whiteout(b"c/d").opaque(b"e")],
              {b"a": b"", b"c": DIR, b"e": DIR})  # fmt: skip

    def test_below_a_whiteout_nothing_can_be(self) -> None:
        refused([Layer().file(b".wh.a/b")], "below one", error=FormatError)

    @pytest.mark.parametrize("name", [b"wh.a", b".wha", b".wh", b"a.wh.b", b".WH.a"])
    def test_names_that_only_look_so(self, name: bytes) -> None:
        shows([Layer().file(b"a", b"a"), Layer().file(name, b"x")], {b"a": b"a", name: b"x"})


class TestByNameAlone:
    """Type flag, mode and size do not matter: 15,842 of 15,868 whiteouts in real images have a bogus link name."""

    @pytest.mark.parametrize("form", FORMS)
    def test_every_form(self, form: Form) -> None:
        shows([Layer().file(b"a").file(b"b", b"b"), Layer().whiteout(b"a", form)], {b"b": b"b"})

    def test_with_a_body(self) -> None:
        newer = Layer().file(b".wh.a", b"x" * 1500, mode=0o644).file(b"c", b"c")
        shows([Layer().file(b"a"), newer], {b"c": b"c"})

    def test_long_names(self) -> None:
        """A name of 255 bytes has 259 with the prefix."""
        name = b"n" * 255
        shows([Layer().file(name).file(b"k"), Layer().whiteout(name)], {b"k": b""})
        shows([Layer().file(b"d/" + name).file(b"k"), Layer().whiteout(b"d/" + name)], {b"k": b"", b"d": DIR})

    @pytest.mark.parametrize("dialect", [Dialect.V7, Dialect.USTAR, Dialect.GNU])
    def test_in_every_dialect(self, dialect: Dialect) -> None:
        layers = [Layer().file(b"a").dir(b"d").file(b"d/x"), Layer().whiteout(b"a").dir(b"d").opaque(b"d")]
        shows(layers, {b"d": DIR}, dialect=dialect)

    @pytest.mark.parametrize("prefix", [b"./", b"/"])
    def test_below_prefixes(self, prefix: bytes) -> None:
        layers = [Layer().file(b"a").dir(b"d").file(b"d/x"), Layer().whiteout(b"a").dir(b"d").opaque(b"d")]
        shows(layers, {b"d": DIR}, prefix=prefix)

    def test_a_link_to_a_whiteout_is_a_link_to_nothing(self) -> None:
        refused([Layer().whiteout(b"a").link(b"b", b".wh.a")], "in no layer", error=FormatError)


class TestWhiteoutsOfOverlayfs:
    """Device 0:0 and the opaque xattr (overlayfs.rst, "Whiteouts and opaque directories"), if the option is set."""

    OPAQUE = (b"trusted.overlay.opaque", b"user.overlay.opaque")

    def test_by_default_a_device_is_a_device(self) -> None:
        output = merge_tars(tars([Layer().file(b"a"), Layer().char(b"a", 0, 0)]))
        assert described(from_tar(output)) == {b"a": "char 0:0"}

    def test_by_default_the_mark_is_an_xattr(self) -> None:
        newer = Layer().dir(b"d", xattrs={self.OPAQUE[0]: b"y"})
        merged = from_tar(merge_tars(tars([Layer().file(b"d/a"), newer])))
        assert described(merged) == {b"d": DIR, b"d/a": b""}
        assert merged[b"d"].xattrs == {(self.OPAQUE[0], b"y")}

    @pytest.mark.parametrize("style", ["overlay", "any"])
    @pytest.mark.parametrize("dialect", [Dialect.USTAR, Dialect.GNU, Dialect.PAX])
    def test_a_null_device_is_a_whiteout(self, style: Style, dialect: Dialect) -> None:
        newer = Layer().char(b"a", 0, 0).char(b"c", 0, 1)
        shows([Layer().file(b"a").file(b"b"), newer], {b"b": b"", b"c": "char 0:1"}, style=style, dialect=dialect)

    @pytest.mark.parametrize("style", ["overlay", "any"])
    def test_other_devices_are_none(self, style: Style) -> None:
        newer = Layer().char(b"a", 1, 0).block(b"b", 0, 0)
        shows([Layer().file(b"a").file(b"b"), newer], {b"a": "char 1:0", b"b": "block 0:0"}, style=style)

    @pytest.mark.parametrize("order", [1, -1])
    def test_hard_links_to_a_whiteout_are_whiteouts(self, order: int) -> None:
        newer = Layer((*Layer().char(b"a", 0, 0).link(b"b", b"a").link(b"c", b"b").items[::order],))
        shows([Layer().file(b"a").file(b"b").file(b"c").file(b"k"), newer], {b"k": b""}, style="overlay")

    @pytest.mark.parametrize("style", ["overlay", "any"])
    @pytest.mark.parametrize("name", OPAQUE)
    def test_an_opaque_directory_loses_its_mark(self, style: Style, name: bytes) -> None:
        newer = Layer().dir(b"d", mode=0o711, xattrs={name: b"y", b"trusted.k": b"k"}).file(b"d/new")
        merged = shows([Layer().file(b"d/a"), newer], {b"d": DIR, b"d/new": b""}, style=style)
        assert merged[b"d"].xattrs == {(b"trusted.k", b"k")}

    def test_only_y_means_opaque(self) -> None:
        newer = Layer().dir(b"d", xattrs={self.OPAQUE[0]: b"n"})
        shows([Layer().file(b"d/a"), newer], {b"d": DIR, b"d/a": b""}, style="overlay")

    def test_overlay_alone_takes_names_as_names(self) -> None:
        newer = Layer().file(b".wh.a", b"x").file(b".wh.")
        shows([Layer().file(b"a"), newer], {b"a": b"", b".wh.a": b"x", b".wh.": b""}, style="overlay")

    def test_any_knows_both(self) -> None:
        newer = Layer().whiteout(b"a").char(b"b", 0, 0)
        shows([Layer().file(b"a").file(b"b").file(b"c"), newer], {b"c": b""}, style="any")

    @pytest.mark.parametrize("what", [b"redirect", b"metacopy"])
    @pytest.mark.parametrize("space", [b"trusted", b"user"])
    @pytest.mark.parametrize("kind", [Kind.DIR, Kind.FILE])
    def test_what_points_into_other_layers_is_refused(self, what: bytes, space: bytes, kind: Kind) -> None:
        """Regression: only directories were checked, and a metacopy file was merged as an empty file."""
        spec = EntrySpec(kind, b"d", xattrs=((space + b".overlay." + what, b"/x"),))
        layers = tars([Layer().file(b"a"), Layer().entry(spec)])
        with pytest.raises(FormatError, match="cannot be merged") as caught:
            merge_tars(layers, Options(whiteouts=Whiteouts.OVERLAY))
        assert (caught.value.path, caught.value.index) == (b"d", 1)
        assert from_tar(merge_tars(layers))[b"d"].xattrs == {(space + b".overlay." + what, b"/x")}
