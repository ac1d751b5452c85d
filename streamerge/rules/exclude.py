"""``--exclude``: paths that shall not be in the output, by gitignore's patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Exclude"]


class Exclude:
    """Tells whether a path is excluded: it or a directory above it matches (gitignore(5), "PATTERN FORMAT").

    Names that are no UTF-8 match as Python's ``surrogateescape`` shows them. Raises ValueError for a pattern
    that is none. Memory: one answer for each directory asked about.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec  # 15 ms that few merges need

        compiled = GitIgnoreSpec.from_lines(map(_inside, patterns)).patterns
        rules = [(rule.regex, rule.include) for rule in compiled if rule.regex is not None and rule.include is not None]
        self._rules: list[tuple[re.Pattern[str], bool]] = rules[::-1]
        self._directories: dict[bytes, bool] = {b"": False}

    def __call__(self, path: bytes, *, directory: bool) -> bool:
        """Whether the clean ``path`` is excluded. Cost: one match; a directory's answer is kept."""
        if path in self._directories:
            return self._directories[path]
        parent = path.rpartition(b"/")[0]
        text = path.decode("utf-8", "surrogateescape")
        excluded = self(parent, directory=True) or self._matches(text + "/" if directory else text)
        if directory:
            self._directories[path] = excluded
        return excluded

    def _matches(self, text: str) -> bool:
        """What the last pattern says that matches ``text`` itself."""
        return next((include for regex, include in self._rules if _matches_itself(regex, text)), False)


def _matches_itself(regex: re.Pattern[str], text: str) -> bool:
    """Whether a pattern matches a path, and not only a directory above it.

    The library's expressions match what is below a directory too, and call the slash after it ``ps_d``; its own
    ``match_file`` then weighs such matches in another order than git does.
    """
    if "ps_d" not in regex.groupindex:
        return regex.search(text) is not None
    return any(match.end("ps_d") in (-1, len(text)) for match in regex.finditer(text))


def _inside(pattern: str) -> str:
    """``a/**`` is all that is inside ``a`` (gitignore(5)); the library takes it for the directory as well."""
    return pattern + "/*" if pattern.endswith("/**") else pattern
