"""Errors say where and what; names in them are safe to print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamerge
from streamerge.errors import FormatError, LayerError, StreamergeError, UnsafePathError, show


class TestShow:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            (b"plain/name", "plain/name"),
            (b"caf\xc3\xa9", "café"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"a\nb\tc", "a\\nb\\tc"),
            (b"\x1b[2Jx", "\\x1b[2Jx"),
            ("\u202ename".encode(), "\\u202ename"),
            (b"\x7f", "\\x7f"),
            (b"", ""),
        ],
    )
    def test_examples(self, name: bytes, shown: str) -> None:
        assert show(name) == shown

    @given(st.binary())
    def test_is_always_printable(self, name: bytes) -> None:
        assert show(name).isprintable()


class TestAt:
    def test_a_full_location(self) -> None:
        error = FormatError("is wrong").at(layer="layer 2 (x.tar)", index=2, path=b"a\n", offset=512)
        assert str(error) == "layer 2 (x.tar): a\\n: at byte 512: is wrong"
        assert (error.layer, error.index, error.path, error.offset) == ("layer 2 (x.tar)", 2, b"a\n", 512)

    def test_no_location(self) -> None:
        assert str(LayerError("is wrong")) == "is wrong"

    def test_the_root_is_a_slash(self) -> None:
        assert str(FormatError("is wrong").at(path=b"")) == "/: is wrong"

    def test_zero_is_a_location(self) -> None:
        assert str(FormatError("is wrong").at(offset=0)) == "at byte 0: is wrong"
        assert FormatError("x").at(index=0).at(index=3).index == 0

    def test_a_known_location_is_kept(self) -> None:
        error = FormatError("p").at(path=b"inner", offset=1)
        assert error.at(layer="l", index=1, path=b"outer", offset=2) is error
        assert (error.layer, error.index, error.path, error.offset) == ("l", 1, b"inner", 1)


def test_base_classes() -> None:
    """StreamergeError catches all errors, FormatError everything that is wrong with a tar.

    RestartNeeded is a message from a sink to the merge; no caller sees it.
    """
    assert issubclass(UnsafePathError, FormatError)
    names = [name for name in streamerge.__all__ if isinstance(getattr(streamerge, name), type)]
    errors = {e for e in (getattr(streamerge, name) for name in names) if issubclass(e, Exception)}
    errors.remove(streamerge.RestartNeeded)
    assert len(errors) >= 7
    assert all(issubclass(error, StreamergeError) for error in errors)
