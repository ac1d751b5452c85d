"""Excluded paths: gitignore patterns of what is left out of the output."""

from __future__ import annotations

import re
from collections.abc import Sequence

from streamerge.errors import UsageError

__all__ = ["Exclude"]


class Exclude:
    """Tells whether a path is excluded: it or a directory above it matches (gitignore(5), "PATTERN FORMAT").

    Names that are not UTF-8 are matched as decoded with ``surrogateescape``. Raises UsageError for an invalid
    pattern. Memory: one answer for each directory asked about.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec  # 15 ms that few merges need

        try:
            compiled = GitIgnoreSpec.from_lines(map(_inside, patterns)).patterns
        except ValueError as error:
            raise UsageError(f"a pattern to exclude is not valid: {error}") from error
        rules = [(rule.regex, rule.include) for rule in compiled if rule.regex is not None and rule.include is not None]
        self._rules: list[tuple[re.Pattern[str], bool]] = rules[::-1]
        self._directories: dict[bytes, bool] = {b"": False}

    def __call__(self, path: bytes, *, directory: bool) -> bool:
        """Whether the clean ``path`` is excluded. Cost: one match; the answer for a directory is cached."""
        if path in self._directories:
            return self._directories[path]
        parent = path.rpartition(b"/")[0]
        text = path.decode("utf-8", "surrogateescape")
        excluded = self(parent, directory=True) or self._matches(text + "/" if directory else text)
        if directory:
            self._directories[path] = excluded
        return excluded

    def _matches(self, text: str) -> bool:
        """Whether the last pattern that matches ``text`` itself excludes it."""
        return next((include for regex, include in self._rules if _matches_itself(regex, text)), False)


def _matches_itself(regex: re.Pattern[str], text: str) -> bool:
    """Whether a pattern matches a path itself, not only a directory above it.

    The expressions of pathspec also match what is below a directory; the group ``ps_d`` is the slash after it.
    pathspec's own ``match_file`` ranks such matches in a different order than git does.
    """
    if "ps_d" not in regex.groupindex:
        return regex.search(text) is not None
    return any(match.end("ps_d") in (-1, len(text)) for match in regex.finditer(text))


def _inside(pattern: str) -> str:
    """The pattern, with ``a/**`` matching only what is inside ``a`` (gitignore(5)); pathspec matches ``a`` too."""
    return pattern + "/*" if pattern.endswith("/**") else pattern
