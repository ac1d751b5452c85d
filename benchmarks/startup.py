"""The time to start: a merge of three tiny layers, compared with an empty Python program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure, ratio
from benchmarks.images import Image
from benchmarks.measure import Command, Plan
from benchmarks.ratio import Spread

LIMIT = 120
"""How many milliseconds longer than ``python3 -c pass`` it may take."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    name: str
    arguments: Sequence[str]
    slow: bool = False

    def start(self, place: Path) -> Command:
        return Command([*self.arguments, "-o", str(place / "out.tar")] if self.name == "ours" else self.arguments)


def surplus(command: Sequence[str], image: Image, directory: Path, rounds: int) -> Spread | None:
    """How many milliseconds longer a merge of tiny layers takes; None if it fails."""
    ours = _Fixed("ours", [*command, *image.arguments, "--no-fsync", "-q"])
    theirs = _Fixed("python3 -c pass", [sys.executable, "-c", "pass"])
    plan = Plan(directory, rounds, rounds, lambda what: None, lambda name, place: None)
    series = measure.in_turn([ours, theirs], plan)
    return ratio.surplus(series[ours.name], series[theirs.name])
