"""A report as a page of Markdown, one number a cell.

    python -m benchmarks.page RESULTS.json PAGE.md

writes the page again from the results that were kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import ratio, startup
from benchmarks.check import Verdict
from benchmarks.ratio import Spread
from benchmarks.report import Report, from_values
from benchmarks.rivals import Contender, Part
from benchmarks.targets import (
    MEMORY,
    MEMORY_PER_PATH,
    MIB,
    TARGETS,
    Case,
    Place,
    Result,
    allowed_memory,
    cases,
    used_memory,
)

_NO_SPREAD = ("", "", "")


def page(report: Report) -> str:
    """The whole report in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        *_introduction(report),
        "",
        *(f"- {name}: {value}" for name, value in report.facts.items()),
        "",
        *([] if report.smoke else [*_targets(report), "", *_cases(report), ""]),
        *_trees(report),
        "",
        *_commands(report),
    ]
    for result in report.results:
        lines += ["", *_section(result, report.memory_floor)]
    return "\n".join([*lines, ""])


def _introduction(report: Report) -> Iterator[str]:
    if report.smoke:
        yield "**The images are tiny: this page shows whether the results are right. Its times mean nothing.**"
        yield ""
    slow = f"; slow ones for {_rounds(report.slow_rounds)}" if report.slow_rounds != report.rounds else ""
    yield f"The commands ran in turn for {_rounds(report.rounds)}{slow}. The page cache was warm, and nothing"
    yield "was flushed to disk."
    yield ""
    yield "A ratio is streamerge's wall time divided by the other command's wall time in the same round. Below 1,"
    yield "streamerge is faster. Commands that check digests are compared with streamerge checking digests too."
    yield "Where there was only one round, the lowest and the highest ratio are left blank."
    yield f"Peak memory below {report.memory_floor / MIB:.0f} MiB cannot be measured."


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


# --- the targets -------------------------------------------------------------------------------------------------


def _targets(report: Report) -> Iterator[str]:
    yield "## Targets"
    yield ""
    yield "The limit is the highest median ratio that meets the target. Where a target covers several images, the table"
    yield "shows the one with the highest ratio."
    yield ""
    yield from _head("work, compared with, >limit, file system, image, compression, >median, >lowest, >highest, result")
    for target in TARGETS:
        for place in report.places:
            found = cases(target, [result for result in report.results if result.place == place])
            cells = _worst(found) if found else ["", "", *_NO_SPREAD, "not measured"]
            yield _row(target.work, f"`{target.against}`", f"{target.limit}", place.kind, *cells)
    yield ""
    yield from _start_up(report)
    yield ""
    yield from _memory(report)


def _worst(found: Sequence[Case]) -> list[str]:
    case = max(found, key=lambda case: case.median)
    return [case.result.image.name, case.result.image.compression, *_ratio(case.spread), _met(case.met)]


def _ratio(found: Spread | None) -> tuple[str, str, str]:
    """Median, lowest and highest; the latter two only where there are several values."""
    if found is None:
        return ("fails", "", "")
    if found.count == 1:
        return (f"{found.median:.2f}", "", "")
    return (f"{found.median:.2f}", f"{found.low:.2f}", f"{found.high:.2f}")


def _met(met: bool) -> str:
    return "met" if met else "**not met**"


def _start_up(report: Report) -> Iterator[str]:
    yield "### Start-up"
    yield ""
    yield "How many milliseconds longer a merge of three tiny layers takes than `python3 -c pass`."
    yield ""
    yield from _head(">limit, >median, >lowest, >highest, result")
    found = report.surplus
    if found is None:
        yield _row(str(startup.LIMIT), "fails", "", "", _met(False))
    else:
        values = (f"{value:.0f}" for value in (found.median, found.low, found.high))
        yield _row(str(startup.LIMIT), *values, _met(found.median <= startup.LIMIT))


def _memory(report: Report) -> Iterator[str]:
    yield "### Peak memory"
    yield ""
    yield f"The limit is {MEMORY // MIB} MiB plus {MEMORY_PER_PATH} bytes for each path. For each file system, the"
    yield "table shows the image that came closest to its limit."
    yield ""
    yield from _head("file system, image, compression, >used MiB, >limit MiB, result")
    for place in report.places:
        results = [result for result in report.results if result.place == place and used_memory(result)]
        if results:
            yield _worst_memory(place, results)


def _worst_memory(place: Place, results: Sequence[Result]) -> str:
    worst = max(results, key=lambda result: used_memory(result) / allowed_memory(result))
    used, allowed = used_memory(worst), allowed_memory(worst)
    sizes = f"{used / MIB:.0f}", f"{allowed / MIB:.0f}"
    return _row(place.kind, worst.image.name, worst.image.compression, *sizes, _met(used <= allowed))


def _cases(report: Report) -> Iterator[str]:
    yield "## Each target on each image"
    yield ""
    yield from _head("image, compression, work, compared with, >limit, file system, >median, >lowest, >highest, result")
    for target in TARGETS:
        for case in cases(target, report.results):
            image, place = case.result.image, case.result.place
            work = target.work, f"`{target.against}`", f"{target.limit}"
            yield _row(image.name, image.compression, *work, place.kind, *_ratio(case.spread), _met(case.met))


# --- the trees ---------------------------------------------------------------------------------------------------


def _trees(report: Report) -> Iterator[str]:
    yield "## Which trees are right"
    yield ""
    yield "Trees are compared by path, type, mode, owner, time, content, link target, device, xattrs and hard links."
    for name, trees in report.trees.items():
        reference = "the kernel's overlayfs" if trees.by_kernel else "streamerge's own tar"
        right = sorted({who for (who, _), verdict in trees.verdicts.items() if not verdict.wrong} - {"merged"})
        yield ""
        yield f"### {name}, compared with {reference}"
        yield ""
        yield f"- Same tree: {', '.join(right) or 'none'}."
        for (who, compression), verdict in trees.verdicts.items():
            if verdict.wrong and who != "merged":
                yield f"- **{who}**, {compression}: {describe(verdict)}"
        yield from _failures(report, name)


def _failures(report: Report, image: str) -> Iterator[str]:
    failed = {
        who: series.failure
        for result in report.results
        for who, series in result.series.items()
        if result.image.name == image and series.failure
    }
    for who, failure in failed.items():
        yield f"- **{who}** fails: `{' '.join(failure.split())[:300]}`"


def describe(verdict: Verdict) -> str:
    """How many paths differ, and one of them as an example."""
    count = "one path differs:" if verdict.wrong == 1 else f"{verdict.wrong:,} paths differ, for example"
    return f"{count} `{verdict.example}`"


# --- each image --------------------------------------------------------------------------------------------------


def _commands(report: Report) -> Iterator[str]:
    yield "## What each command does"
    yield ""
    yield from _head("command, what it does")
    yield from dict.fromkeys(_row(who.name, who.does) for result in report.results for who in _everyone(result))


def _everyone(result: Result) -> Iterator[Contender | Part]:
    """All contenders, each followed by its parts that were measured."""
    for contender in result.contenders:
        yield contender
        yield from (part for part in contender.parts if part.name in result.series)


def _section(result: Result, memory_floor: int) -> Iterator[str]:
    image = result.image
    size = f"{image.plain_bytes / MIB:,.0f} MiB"
    if image.compression != "plain":
        size += f", compressed {image.packed_bytes / MIB:,.0f} MiB"
    yield f"## {image.name}, {image.compression}, on {result.place.kind}"
    yield ""
    yield f"{image.layers} layers, {image.paths:,} distinct paths, {size}."
    yield ""
    yield from _head("command, >median s, >lowest s, >highest s, >CPU s, >peak MiB")
    yield from (_times(who, result, memory_floor) for who in _everyone(result))
    ratios = [row for who in _everyone(result) for row in _ratios(who, result)]
    if ratios:
        yield ""
        yield from _head("streamerge command, compared with, >median ratio, >lowest, >highest")
        yield from ratios


def _times(who: Contender | Part, result: Result, memory_floor: int) -> str:
    series = result.series[who.name]
    if series.failure or not series.rounds:
        return _row(who.name, "fails", "", "", "", "")
    walls = (f"{wall:.2f}" for wall in (series.wall, series.fastest, series.slowest))
    return _row(who.name, *walls, f"{series.cpu:.2f}" if series.cpu else "", _peak(series.rss, memory_floor))


def _peak(rss: int, memory_floor: int) -> str:
    """MiB; a peak at the floor is only known to be below it."""
    if not rss:
        return ""
    return f"< {memory_floor / MIB:.0f}" if rss <= memory_floor else f"{rss / MIB:.0f}"


def _ratios(who: Contender | Part, result: Result) -> Iterator[str]:
    """One row for each of our commands that the contender is compared with."""
    for ours in who.against:
        found = ratio.compare(result.series[ours], result.series[who.name]) if ours in result.series else None
        if found:
            yield _row(ours, who.name, *_ratio(found))


def _head(names: str) -> Iterator[str]:
    """The head of a table from names separated by commas; ``>`` marks a column of numbers."""
    columns = names.split(", ")
    yield _row(*(name.removeprefix(">") for name in columns))
    yield _row(*("---:" if name.startswith(">") else "---" for name in columns))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main(results: str, out: str) -> None:
    """Write the page again from results that were kept."""
    Path(out).write_text(page(from_values(json.loads(Path(results).read_text()))))


if __name__ == "__main__":
    main(*sys.argv[1:])
