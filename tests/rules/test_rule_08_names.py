"""Rule 8: paths are bytes, cleaned and never resolved; nothing follows a symlink; the root's entry is kept."""

from __future__ import annotations

import pytest

from streamerge import FormatError, UnsafePathError
from tests.support.judges import DIR, described, judged, refused, shows
from tests.support.layers import Dialect, EntrySpec, Kind, Layer
from tests.support.merged import merge_tars
from tests.support.tree import from_tar


class TestNamesAreCleaned:
    """Empty and dot components mean nothing in POSIX path resolution (XBD 4.13), but tars have both."""

    @pytest.mark.parametrize("name", [b"./a/b", b"/a/b", b"a//b", b"a/./b", b".//./a/.//b", b"///a/b"])
    def test_of_files(self, name: bytes) -> None:
        shows([Layer().file(name, b"x")], {b"a": DIR, b"a/b": b"x"})

    @pytest.mark.parametrize("name", [b"a", b"./a", b"a/", b"a//", b"a/.", b"/a/./"])
    def test_of_directories(self, name: bytes) -> None:
        shows([Layer().dir(name, mode=0o700).file(b"a/x")], {b"a": DIR, b"a/x": b""})

    @pytest.mark.parametrize("name", [b"./t", b"/t", b".//t", b"t/."])
    def test_of_the_targets_of_hard_links(self, name: bytes) -> None:
        shows([Layer().file(b"t", b"x").link(b"u", name)], {b"t": b"x", b"u": "= t"})

    @pytest.mark.parametrize("older", [b"", b"./", b"/"])
    @pytest.mark.parametrize("newer", [b"", b"./", b"/"])
    def test_layers_of_different_prefixes_meet(self, older: bytes, newer: bytes) -> None:
        base = Layer().file(older + b"d/a", b"old").file(older + b"d/b")
        shows([base, Layer().file(newer + b"d/a", b"new").file(newer + b"d/.wh.b")], {b"d": DIR, b"d/a": b"new"})

    @pytest.mark.parametrize("name", [b"\xe9t\xe9", b"new\nline", b"caf\xc3\xa9", b" ", b"\x01", b"a\\b", b"..."])
    def test_odd_bytes_are_kept(self, name: bytes) -> None:
        shows([Layer().file(name, b"x").dir(name + b"d").file(name + b"d/" + name)],
              {name: b"x", name + b"d": DIR, name + b"d/" + name: b""})  # fmt: skip

    def test_names_that_differ_in_normalisation_or_case_differ(self) -> None:
        shows([Layer().file(b"caf\xc3\xa9", b"1").file(b"cafe\xcc\x81", b"2").file(b"CAFE", b"3")],
              {b"caf\xc3\xa9": b"1", b"cafe\xcc\x81": b"2", b"CAFE": b"3"})  # fmt: skip


class TestNamesThatAreErrors:
    @pytest.mark.parametrize("name", [b"..", b"../a", b"a/..", b"a/../b", b"/..", b"./../a"])
    def test_dots_are_never_resolved(self, name: bytes) -> None:
        refused([Layer().file(b"k"), Layer().file(name)], "'..' component", error=UnsafePathError)

    @pytest.mark.parametrize("name", [b"..a", b"a..", b"...", b"a/..b"])
    def test_names_that_only_look_so(self, name: bytes) -> None:
        assert judged([Layer().file(name, b"x")])[name].content == b"x"

    def test_a_nul(self) -> None:
        spec = EntrySpec(Kind.FILE, b"a", records=((b"path", b"a\0b"),))
        with pytest.raises(UnsafePathError, match="NUL"):
            merge_tars([Layer().entry(spec).tar()])

    def test_the_longest(self) -> None:
        part = b"d" * 255
        path = b"/".join([part] * 15 + [b"e" * 255])
        assert judged([Layer().file(path, b"x")], kernel=False)[path].content == b"x"
        refused([Layer().file(path + b"/x")], "4097 bytes|4098 bytes", error=UnsafePathError)
        refused([Layer().file(b"d" * 256)], "longer than 255", error=UnsafePathError)

    def test_the_deepest(self) -> None:
        deep = b"/".join([b"d"] * 1024)
        assert judged([Layer().dir(deep)])[deep].mode == 0o755
        refused([Layer().dir(deep + b"/d")], "1025 components", error=UnsafePathError)


class TestSymlinks:
    """Targets are kept byte for byte; nothing follows one."""

    @pytest.mark.parametrize("target", [b"/abs", b"../../up", b"./x//y/", b"\xff\n", b"t" * 1000, b".", b".wh.a"])
    def test_targets_are_kept(self, target: bytes) -> None:
        merged = judged([Layer().symlink(b"s", target)])
        assert merged[b"s"].target == target

    @pytest.mark.parametrize("order", [1, -1])
    def test_whiteouts_below_one_are_only_names(self, order: int) -> None:
        """Umoci wrote ``app/conf -> /etc`` and ``app/conf/.wh.group``: /etc/group stays."""
        base = Layer().dir(b"etc").file(b"etc/group").dir(b"app").dir(b"app/conf").file(b"app/conf/group")
        items = Layer().symlink(b"app/conf", b"/etc").whiteout(b"app/conf/group").opaque(b"app/conf").items
        shows([base, Layer(items[::order])],
              {b"etc": DIR, b"etc/group": b"", b"app": DIR, b"app/conf": "-> /etc"})  # fmt: skip

    def test_and_need_no_second_reading_behind_one(self) -> None:
        """Umoci lists the symlink first, so such a layer can be merged from a pipe."""
        layers = [
            Layer().file(b"conf/group"),
            Layer().symlink(b"conf", b"/etc").whiteout(b"conf/group").opaque(b"conf"),
        ]
        merged = from_tar(merge_tars([layer.tar() for layer in layers], reopenable=False, rewinds=False))
        assert described(merged) == {b"conf": "-> /etc"}

    @pytest.mark.parametrize("order", [1, -1])
    def test_likewise_where_a_newer_layer_hides_the_symlink(self, order: int) -> None:
        items = Layer().symlink(b"conf", b"/etc").whiteout(b"conf/group").items
        layers = [Layer().file(b"conf/group"), Layer(items[::order]), Layer().dir(b"conf").file(b"conf/new")]
        shows(layers, {b"conf": DIR, b"conf/new": b""})

    def test_an_entry_below_an_older_one_replaces_it(self) -> None:
        base = Layer().symlink(b"l", b"/etc").file(b"etc/passwd", b"safe")
        shows([base, Layer().file(b"l/passwd", b"evil")],
              {b"etc": DIR, b"etc/passwd": b"safe", b"l": DIR, b"l/passwd": b"evil"})  # fmt: skip


class TestTheRootsEntry:
    """A root entry gives the root directory's metadata and is kept."""

    @pytest.mark.parametrize("position", [0, 1, 2])
    @pytest.mark.parametrize("name", [b"", b".", b"/", b"./", b"//."])
    def test_wherever_it_stands(self, position: int, name: bytes) -> None:
        items = list(Layer().file(b"a").dir(b"b").items)
        items.insert(position, Layer().dir(name, mode=0o711, uid=5, mtime=9).items[0])
        merged = shows([Layer(tuple(items))], {b"a": b"", b"b": DIR})
        assert (merged[b""].mode, merged[b""].uid, merged[b""].mtime_ns) == (0o711, 5, 9)

    def test_the_newest_one_stands(self) -> None:
        layers = [Layer().dir(b"", mode=0o700), Layer().dir(b"", mode=0o711), Layer().file(b"a")]
        assert shows(layers, {b"a": b""})[b""].mode == 0o711

    def test_absent(self) -> None:
        node = shows([Layer().file(b"a")], {b"a": b""})[b""]
        assert (node.mode, node.uid, node.gid) == (0o755, 0, 0)

    def test_below_an_opaque_root(self) -> None:
        layers = [Layer().dir(b"", mode=0o711).file(b"a"), Layer().opaque(b"").file(b"b")]
        assert shows(layers, {b"b": b""})[b""].mode == 0o711

    @pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK, Kind.FIFO, Kind.CHAR, Kind.LINK])
    def test_is_a_directory(self, kind: Kind) -> None:
        target = b"x" if kind in (Kind.SYMLINK, Kind.LINK) else b""
        spec = EntrySpec(kind, b".", target=target)
        refused([Layer().file(b"x").entry(spec)], "root is a directory", error=FormatError)

    @pytest.mark.parametrize("dialect", Dialect)
    def test_in_every_dialect(self, dialect: Dialect) -> None:
        merged = shows([Layer().dir(b"", mode=0o711).file(b"a")], {b"a": b""}, dialect=dialect)
        assert merged[b""].mode == 0o711
