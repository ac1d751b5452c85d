"""Excluded paths: gitignore's own examples, and git itself where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamerge.errors import UsageError
from streamerge.rules.exclude import Exclude
from tests.support.needs import missing


@pytest.mark.parametrize(
    ("patterns", "path", "directory", "excluded"),
    [
        (["dev/*"], b"dev", True, False),
        (["dev/*"], b"dev/null", False, True),
        (["dev/*"], b"dev/pts/0", False, True),
        (["dev/*"], b"sub/dev/null", False, False),
        (["/dev"], b"dev/null", False, True),
        (["dev"], b"sub/dev/null", False, True),
        (["*.pyc"], b"a/b/c.pyc", False, True),
        (["cache/"], b"cache", True, True),
        (["cache/"], b"cache", False, False),
        (["cache/"], b"var/cache/x", False, True),
        (["a/**/z"], b"a/b/c/z", False, True),
        (["a/**"], b"a", True, False),
        (["a/**"], b"a/b/c", False, True),
        (["*", "!keep"], b"keep", False, False),
        (["*", "!keep"], b"d/keep", False, True),
        (["d/", "!d/keep"], b"d/keep", False, True),
        (["d/*", "!d/keep"], b"d/keep", False, False),
        (["#x"], b"#x", False, False),
        ([r"\#x"], b"#x", False, True),
        (["[ab]"], b"b", False, True),
        (["?"], b"\xff", False, True),
        (["*.x"], b"\xff.x", False, True),
        (["ä"], "ä".encode(), False, True),
        (["a*"], b"a\nb", False, True),
        ([], b"a", False, False),
        (["*"], b"", True, False),
    ],
)
def test_patterns(patterns: list[str], path: bytes, directory: bool, excluded: bool) -> None:
    assert Exclude(patterns)(path, directory=directory) is excluded


def test_a_directorys_answer_holds_for_older_layers_too() -> None:
    """A path asked about as a directory stays excluded, even if an older layer has a file there."""
    exclude = Exclude(["cache/"])
    assert exclude(b"cache", directory=True)
    assert exclude(b"cache", directory=False)


@pytest.mark.parametrize("pattern", ["!", "\\", "x\\"])
def test_invalid_patterns(pattern: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        Exclude([pattern])


NAMES = st.sampled_from(["a", "b", "a.x", "ab"])
WORDS = st.sampled_from(["a", "b", "*", "**", "?", "a*", "*.x", "[ab]", "/", "/", "/"])
PATTERNS = st.lists(
    st.tuples(st.sampled_from(["", "", "!"]), st.lists(WORDS, min_size=1, max_size=5).map("".join)).map("".join),
    min_size=1,
    max_size=3,
).filter(lambda patterns: not any("//" in p or "***" in p or p.strip("!") in ("", "/") or _odd(p) for p in patterns))


def _odd(pattern: str) -> bool:
    """After a name ``**`` means ``*`` (gitignore(5)), but an optimisation in git lets ``a**`` match ``a/b``."""
    return re.search(r"[^/!*]\*\*", pattern) is not None


@pytest.mark.slow
@settings(max_examples=2 * settings().max_examples)
@example(["a/**", "!a/b"], "a/b")
@example(["!a/**", "b", "!a/**"], "a/b/a")
@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=3).map("/".join))
def test_git_agrees(patterns: list[str], path: str) -> None:
    """Compared with ``git check-ignore``. Git's index has no directories, so only files are asked about."""
    assert Exclude(patterns)(path.encode(), directory=False) is ignored(patterns, path)


def ignored(patterns: list[str], path: str) -> bool:
    repository = _repository()
    (repository / ".git" / "info" / "exclude").write_text("\n".join(patterns) + "\n")
    done = subprocess.run(
        ["git", "check-ignore", "-q", "--no-index", "--", path], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


_made: list[Path] = []


def _repository() -> Path:
    return _made[0]


@pytest.fixture(autouse=True, scope="module")
def _git(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("git") is None:
        missing("git", "git is not installed")
    repository = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", repository], check=True)
    (repository / ".git" / "info").mkdir(exist_ok=True)
    _made.append(repository)
