"""Which names and which of overlayfs's marks are whiteouts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.entry import Entry, Kind
from streamerge.errors import FormatError
from streamerge.options import Whiteouts
from streamerge.rules.whiteout import OVERLAY_OPAQUE, Mark, classify, strip_opaque

NULL = b"0000000\0" * 2
XATTR = b"SCHILY.xattr."


def entry(
    path: bytes, kind: Kind = Kind.FILE, device: bytes = NULL, records: dict[bytes, bytes] | None = None
) -> Entry:
    header = bytes(329) + device + bytes(512 - 345)
    return Entry(path, kind, header=header, records=records, verbatim=True)


class TestByName:
    @pytest.mark.parametrize(
        ("path", "mark", "subject"),
        [
            (b"a", Mark.NONE, b"a"),
            (b"a/b", Mark.NONE, b"a/b"),
            (b"", Mark.NONE, b""),
            (b".wh.a", Mark.EXPLICIT, b"a"),
            (b"d/.wh.a", Mark.EXPLICIT, b"d/a"),
            (b"d/e/.wh.a.wh.b", Mark.EXPLICIT, b"d/e/a.wh.b"),
            (b".wh..a", Mark.EXPLICIT, b".a"),
            (b".wh.....", Mark.EXPLICIT, b"...."),
            (b".wh..wh", Mark.EXPLICIT, b".wh"),
            (b".wh..wh..opq", Mark.OPAQUE, b""),
            (b"d/.wh..wh..opq", Mark.OPAQUE, b"d"),
            (b".wh..wh..opq2", Mark.BOOKKEEPING, b".wh..wh..opq2"),
            (b".wh..wh.aufs", Mark.BOOKKEEPING, b".wh..wh.aufs"),
            (b".wh..wh.plnk/1", Mark.BOOKKEEPING, b".wh..wh.plnk/1"),
            (b"d/.wh..wh.plnk/e/.wh.f", Mark.BOOKKEEPING, b"d/.wh..wh.plnk/e/.wh.f"),
            (b"wh.a", Mark.NONE, b"wh.a"),
            (b"a.wh.b", Mark.NONE, b"a.wh.b"),
            (b"d.wh.e/f", Mark.NONE, b"d.wh.e/f"),
            (b".wh", Mark.NONE, b".wh"),
            (b".WH.a", Mark.NONE, b".WH.a"),
        ],
    )
    @pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY, Kind.HARDLINK, Kind.CHAR, Kind.SYMLINK])
    def test_whatever_its_kind(self, path: bytes, mark: Mark, subject: bytes, kind: Kind) -> None:
        assert classify(entry(path, kind), Whiteouts.OCI) == (mark, subject)

    @pytest.mark.parametrize("path", [b".wh.", b"d/.wh..", b"d/.wh..."])
    def test_of_no_name(self, path: bytes) -> None:
        with pytest.raises(FormatError, match="no name") as caught:
            classify(entry(path), Whiteouts.OCI)
        assert caught.value.path == path

    @pytest.mark.parametrize("path", [b".wh.a/b", b"d/.wh.a/b/c", b".wh..wh..opq/a", b".wh.a/.wh.b", b".wh./a"])
    def test_below_a_whiteout(self, path: bytes) -> None:
        with pytest.raises(FormatError, match="below one") as caught:
            classify(entry(path), Whiteouts.OCI)
        assert caught.value.path == path

    @given(st.lists(st.sampled_from([b"a", b".wh.", b".wh..wh.", b"opq", b".", b"plnk"]), min_size=1, max_size=6))
    def test_names_without_the_prefix_are_never_marks(self, parts: list[bytes]) -> None:
        name = b"x" + b"".join(parts)
        assert classify(entry(name), Whiteouts.OCI) == (Mark.NONE, name)
        assert classify(entry(b"d/" + name), Whiteouts.OCI) == (Mark.NONE, b"d/" + name)


class TestDevices:
    @pytest.mark.parametrize("device", [NULL, bytes(16), b"\x80" + bytes(7) + b"\x80" + bytes(7), b"      0\0" * 2])
    def test_null_devices(self, device: bytes) -> None:
        null = entry(b"d/a", Kind.CHAR, device)
        assert classify(null, Whiteouts.OVERLAY) == classify(null, Whiteouts.ANY) == (Mark.EXPLICIT, b"d/a")
        assert classify(null, Whiteouts.OCI) == (Mark.NONE, b"d/a")
        assert classify(entry(b"d/a", Kind.BLOCK, device), Whiteouts.ANY) == (Mark.NONE, b"d/a")

    @pytest.mark.parametrize("device", [b"0000001\0" + NULL[:8], NULL[:8] + b"0000001\0", b"\x80" + bytes(14) + b"\1"])
    def test_others(self, device: bytes) -> None:
        assert classify(entry(b"a", Kind.CHAR, device), Whiteouts.ANY) == (Mark.NONE, b"a")

    def test_numbers_in_records(self) -> None:
        for key in (b"SCHILY.devmajor", b"SCHILY.devminor"):
            assert classify(entry(b"a", Kind.CHAR, records={key: b"7"}), Whiteouts.ANY)[0] is Mark.NONE
            assert classify(entry(b"a", Kind.CHAR, records={key: b"0"}), Whiteouts.ANY)[0] is Mark.EXPLICIT

    def test_overlay_knows_no_names(self) -> None:
        assert classify(entry(b".wh.a"), Whiteouts.OVERLAY) == (Mark.NONE, b".wh.a")
        assert classify(entry(b".wh."), Whiteouts.OVERLAY) == (Mark.NONE, b".wh.")
        assert classify(entry(b".wh.a", Kind.CHAR), Whiteouts.ANY) == (Mark.EXPLICIT, b"a")


class TestOpaqueDirectories:
    @pytest.mark.parametrize("name", OVERLAY_OPAQUE)
    @pytest.mark.parametrize("style", [Whiteouts.OVERLAY, Whiteouts.ANY])
    def test_the_mark_is_removed(self, name: bytes, style: Whiteouts) -> None:
        marked = entry(b"d", Kind.DIRECTORY, records={XATTR + name: b"y", b"k": b"v"})
        assert strip_opaque(marked, style)
        assert (marked.records, marked.verbatim) == ({b"k": b"v"}, False)
        assert not strip_opaque(marked, style)

    @pytest.mark.parametrize("value", [b"n", b"", b"x", b"yy", b"Y"])
    def test_only_y(self, value: bytes) -> None:
        marked = entry(b"d", Kind.DIRECTORY, records={XATTR + OVERLAY_OPAQUE[0]: value})
        assert not strip_opaque(marked, Whiteouts.ANY)
        assert marked.records == {XATTR + OVERLAY_OPAQUE[0]: value}
        assert marked.verbatim

    def test_only_when_asked_for(self) -> None:
        marked = entry(b"d", Kind.DIRECTORY, records={XATTR + OVERLAY_OPAQUE[0]: b"y"})
        assert not strip_opaque(marked, Whiteouts.OCI)
        assert marked.verbatim

    def test_only_of_directories(self) -> None:
        marked = entry(b"d", Kind.FILE, records={XATTR + OVERLAY_OPAQUE[0]: b"y"})
        assert not strip_opaque(marked, Whiteouts.ANY)

    @pytest.mark.parametrize("kind", Kind)
    @pytest.mark.parametrize("name", [b"trusted.overlay.redirect", b"user.overlay.metacopy"])
    def test_xattrs_that_point_into_other_layers(self, kind: Kind, name: bytes) -> None:
        pointing = entry(b"d", kind, records={XATTR + name: b""})
        with pytest.raises(FormatError, match="points into other layers") as caught:
            classify(pointing, Whiteouts.ANY)
        assert caught.value.path == b"d"
        assert classify(pointing, Whiteouts.OCI) == (Mark.NONE, b"d")
