"""Clean paths, and entries that change their path or target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamerge.entry import MAX_DEPTH, MAX_NAME, MAX_PATH, Entry, Kind, clean_path
from streamerge.errors import UnsafePathError

COMPONENTS = st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"").replace(b"/", b""))
NAMES = COMPONENTS.filter(lambda name: name not in (b"", b".", b".."))


class TestCleanPath:
    @pytest.mark.parametrize(
        ("raw", "clean"),
        [
            (b"a", b"a"),
            (b"./a", b"a"),
            (b"/a", b"a"),
            (b"a/", b"a"),
            (b"a//b", b"a/b"),
            (b"a/./b", b"a/b"),
            (b"///a/.//b/.", b"a/b"),
            (b".", b""),
            (b"./", b""),
            (b"/", b""),
            (b"//./.", b""),
            (b"...", b"..."),
            (b"..a/b..", b"..a/b.."),
            (b"\xff\n ", b"\xff\n "),
        ],
    )
    def test_cleans(self, raw: bytes, clean: bytes) -> None:
        assert clean_path(raw) == clean

    @given(st.lists(NAMES, min_size=1, max_size=6), st.data())
    def test_noise_goes_and_names_stay(self, names: list[bytes], data: st.DataObject) -> None:
        noise = st.lists(st.sampled_from([b"/", b"/./", b"//"]), min_size=len(names), max_size=len(names))
        joined = b"".join(name + slash for name, slash in zip(names, data.draw(noise), strict=True))
        lead = data.draw(st.sampled_from([b"", b"/", b"./", b".//./"]))
        assert clean_path(lead + joined) == b"/".join(names)

    @given(st.binary(max_size=64))
    def test_is_idempotent_or_refuses(self, raw: bytes) -> None:
        try:
            path = clean_path(raw)
        except UnsafePathError:
            assert raw == b"" or b"\0" in raw or b".." in raw.split(b"/")
        else:
            assert path == b"" or clean_path(path) == path
            assert not {b".", b".."} & set(path.split(b"/"))

    @pytest.mark.parametrize("raw", [b"..", b"../a", b"a/..", b"a/../b", b"/..", b"./.."])
    def test_never_resolves(self, raw: bytes) -> None:
        with pytest.raises(UnsafePathError, match=r"'\.\.' component"):
            clean_path(raw)

    def test_refuses_empty_names_and_nul(self) -> None:
        with pytest.raises(UnsafePathError, match="empty"):
            clean_path(b"")
        with pytest.raises(UnsafePathError, match="NUL"):
            clean_path(b"a\0b")

    def test_limits(self) -> None:
        longest = b"/".join([b"n" * MAX_NAME] * 16)
        assert len(longest) == MAX_PATH - 1
        assert clean_path(longest) == longest
        assert clean_path(b"./" + longest + b"/") == longest
        with pytest.raises(UnsafePathError, match="it may have 4096"):
            clean_path(longest + b"/n")
        assert clean_path(b"d/" * MAX_DEPTH) == b"/".join([b"d"] * MAX_DEPTH)
        with pytest.raises(UnsafePathError, match="1025 components"):
            clean_path(b"d/" * (MAX_DEPTH + 1))

    @pytest.mark.parametrize("where", [b"%s", b"a/%s", b"%s/a", b"a/%s/b"])
    def test_components(self, where: bytes) -> None:
        for name in (b"n" * MAX_NAME, b".wh." + b"n" * MAX_NAME):
            assert clean_path(where % name) == where % name
            with pytest.raises(UnsafePathError, match="longer than 255"):
                clean_path(where % (name + b"n"))

    def test_a_huge_name_is_not_split(self) -> None:
        with pytest.raises(UnsafePathError, match="100000000 bytes") as caught:
            clean_path(b"/" * 100_000_000)
        assert caught.value.path == b"/" * 64

    def test_errors_show_the_path_but_cut_a_long_one(self) -> None:
        with pytest.raises(UnsafePathError) as caught:
            clean_path(b"a/../b")
        assert caught.value.path == b"a/../b"
        with pytest.raises(UnsafePathError) as caught:
            clean_path(b"x/" * 4000)
        assert caught.value.path == b"x/" * 32


class TestEntry:
    def entry(self, **more: object) -> Entry:
        return Entry(b"a", Kind.HARDLINK, target=b"t", header=bytes(512), verbatim=True)

    def test_renamed(self) -> None:
        entry = self.entry()
        assert entry.renamed(b"a").verbatim
        assert entry.renamed(b"b") is entry
        assert (entry.path, entry.verbatim) == (b"b", False)

    def test_retargeted(self) -> None:
        entry = self.entry()
        assert entry.retargeted(b"t").verbatim
        assert entry.retargeted(b"u") is entry
        assert (entry.target, entry.verbatim) == (b"u", False)

    def test_verbatim_is_never_restored(self) -> None:
        entry = self.entry().renamed(b"b").renamed(b"a")
        assert not entry.verbatim

    def test_records_are_its_own(self) -> None:
        one, other = self.entry(), self.entry()
        one.records[b"k"] = b"v"
        assert other.records == {}

    def test_repr(self) -> None:
        assert repr(self.entry()) == "<Entry hard link b'a' size=0 at 0>"
