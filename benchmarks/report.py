"""The results as a page of Markdown, and as values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from benchmarks import ratio, startup
from benchmarks.check import Judge, Verdict
from benchmarks.ratio import Spread
from benchmarks.rivals import Contender, Part
from benchmarks.targets import MIB, TARGETS, Case, Place, Result, allowed_memory, cases, used_memory


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found out."""

    facts: dict[str, str]
    results: Sequence[Result]
    judges: dict[str, Judge]
    """By the name of the image."""
    surplus: Spread | None
    """Of starting, in milliseconds."""
    rounds: int
    slow_rounds: int
    rss_floor: int
    smoke: bool = False
    """The images are tiny, and times mean nothing."""

    @property
    def places(self) -> list[Place]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(result.place for result in self.results))


def page(report: Report) -> str:
    """All of it in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        *_introduction(report),
        "",
        *(f"- {name}: {value}" for name, value in report.facts.items()),
        "",
        *([] if report.smoke else [*_targets(report), "", *_cases(report), ""]),
        *_trees(report),
    ]
    for result in report.results:
        lines += ["", *_section(result, report.rss_floor)]
    return "\n".join([*lines, ""])


def _introduction(report: Report) -> Iterator[str]:
    if report.smoke:
        yield "**Tiny images: this looks whether results are right. The times mean nothing.**"
        yield ""
    yield f"{report.rounds} interleaved rounds ({report.slow_rounds} for those that take many times as long), page"
    yield "cache warm, nothing flushed to disk. A ratio is streamerge's wall time over the rival's in the same round:"
    yield "below 1, streamerge is faster. Given are the median of the rounds and (least–greatest). Who checks digests"
    yield "is compared with streamerge checking them, too."


# --- the targets -------------------------------------------------------------------------------------------------


def _targets(report: Report) -> Iterator[str]:
    yield "## Targets"
    yield ""
    yield "Where a target is about several images, the worst of them is shown."
    yield ""
    yield _row("work", "against", "at most", *(place.kind for place in report.places))
    yield _row("---", "---", "---:", *("---:" for _ in report.places))
    for target in TARGETS:
        found = {place: cases(target, _at(report, place)) for place in report.places}
        cells = [_worst(found[place]) for place in report.places]
        yield _row(target.work, f"`{target.against}`", f"{target.limit} ×", *cells)
    nowhere_else = [""] * (len(report.places) - 1)
    yield _row("three tiny layers", "`python3 -c pass`", f"+{startup.LIMIT} ms", _surplus(report), *nowhere_else)
    yield _row(
        "peak memory", "128 MiB + 120 bytes a path", "1 ×", *(_worst_memory(report, place) for place in report.places)
    )


def _at(report: Report, place: Place) -> list[Result]:
    return [result for result in report.results if result.place == place]


def _worst(found: Sequence[Case]) -> str:
    if not found:
        return "not measured"
    worst = max(found, key=lambda case: case.median)
    name = f", {worst.result.image.name}" if len(found) > 1 else ""
    return f"{worst.spread or 'fails'}{name}: {_met(worst.met)}"


def _met(met: bool) -> str:
    return "met" if met else "**not met**"


def _surplus(report: Report) -> str:
    if report.surplus is None:
        return "fails"
    low, high = report.surplus.low, report.surplus.high
    return f"+{report.surplus.median:.0f} ms ({low:.0f}–{high:.0f}): {_met(report.surplus.median <= startup.LIMIT)}"


def _worst_memory(report: Report, place: Place) -> str:
    results = [result for result in _at(report, place) if used_memory(result)]
    if not results:
        return "not measured"
    worst = max(results, key=lambda result: used_memory(result) / allowed_memory(result))
    used, allowed = used_memory(worst), allowed_memory(worst)
    return f"{used / MIB:.0f} of {allowed / MIB:.0f} MiB, {worst.image.name}: {_met(used <= allowed)}"


def _cases(report: Report) -> Iterator[str]:
    yield "## Each target on each image"
    yield ""
    yield _row("image", "work", "against", "at most", *(place.kind for place in report.places))
    yield _row("---", "---", "---", "---:", *("---:" for _ in report.places))
    for target in TARGETS:
        rows: dict[tuple[str, str], dict[Place, str]] = {}
        for case in cases(target, report.results):
            image = case.result.image
            shown = f"{case.spread or 'fails'}{'' if case.met else ' **!**'}"
            rows.setdefault((image.name, image.compression), {})[case.result.place] = shown
        for (name, compression), cells in rows.items():
            values = [cells.get(place, "") for place in report.places]
            yield _row(f"{name}, {compression}", target.work, f"`{target.against}`", f"{target.limit} ×", *values)


# --- the trees ---------------------------------------------------------------------------------------------------


def _trees(report: Report) -> Iterator[str]:
    yield "## Whose tree is right"
    yield ""
    yield "Compared are paths, kinds, modes, owners, times, contents, targets, devices, xattrs and hard links."
    for name, judge in report.judges.items():
        reference = "the kernel's overlayfs" if judge.by_kernel else "streamerge's own tar"
        right = sorted({who for (who, _), verdict in judge.verdicts.items() if not verdict.wrong} - {"merged"})
        yield ""
        yield f"**{name}**, compared with {reference}: the same from {', '.join(right) or 'nobody'}."
        for (who, compression), verdict in judge.verdicts.items():
            if verdict.wrong and who != "merged":
                yield ""
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
        yield ""
        yield f"- **{who}** fails: `{' '.join(failure.split())[:300]}`"


def describe(verdict: Verdict) -> str:
    """What is wrong, in a few words."""
    count = "one path differs:" if verdict.wrong == 1 else f"{verdict.wrong:,} paths differ, for example"
    return f"{count} `{verdict.example}`"


# --- each image --------------------------------------------------------------------------------------------------


def _section(result: Result, rss_floor: int) -> Iterator[str]:
    image = result.image
    size = f"{image.plain_bytes / MIB:,.0f} MiB"
    if image.compression != "plain":
        size += f", packed {image.packed_bytes / MIB:,.0f} MiB"
    yield f"## {image.name}, {image.compression}, on {result.place.kind}"
    yield ""
    yield f"{len(image.layers)} layers, {result.paths:,} distinct paths, {size}."
    yield ""
    yield _row("command", "wall s", "user + sys s", "peak MiB", "our tar ÷ it", "our directory ÷ it", "what it does")
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for contender in result.contenders:
        yield _contender_row(contender, result, rss_floor)
        for part in contender.parts:
            if part.name in result.series:
                yield _contender_row(part, result, rss_floor)


def _contender_row(who: Contender | Part, result: Result, rss_floor: int) -> str:
    series = result.series[who.name]
    if series.failure or not series.rounds:
        return _row(who.name, "fails", "", "", "", "", who.does)
    wall = f"{series.wall:.2f} ({series.fastest:.2f}–{series.slowest:.2f})"
    cpu = f"{series.cpu:.2f}" if series.cpu else ""
    tar, directory = (_against(who, result, kind) for kind in ("tar", "directory"))
    return _row(who.name, wall, cpu, _peak(series.rss, rss_floor), tar, directory, who.does)


def _peak(rss: int, rss_floor: int) -> str:
    """What lies below the floor cannot be told apart."""
    if not rss:
        return ""
    return f"< {rss_floor / MIB:.0f}" if rss <= rss_floor else f"{rss / MIB:.0f}"


def _against(who: Contender | Part, result: Result, kind: str) -> str:
    """The ratio to that of ours which makes a tar, or a directory."""
    for ours in who.against:
        if ours.endswith(kind) and ours in result.series:
            found = ratio.compare(result.series[ours], result.series[who.name])
            return str(found) if found else ""
    return ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


# --- values ------------------------------------------------------------------------------------------------------


def as_values(report: Report) -> dict[str, object]:
    """All of it for JSON, every run included."""
    return {
        "machine": report.facts,
        "rounds": report.rounds,
        "start_up_ms": asdict(report.surplus) if report.surplus else None,
        "targets": [_case_values(case) for target in TARGETS for case in cases(target, report.results)],
        "trees": {name: _tree_values(judge) for name, judge in report.judges.items()},
        "images": [_result_values(result) for result in report.results],
    }


def _case_values(case: Case) -> dict[str, object]:
    return {
        "work": case.target.work,
        "against": case.target.against,
        "limit": case.target.limit,
        "image": case.result.image.name,
        "compression": case.result.image.compression,
        "place": case.result.place.kind,
        "ratio": asdict(case.spread) if case.spread else None,
        "met": case.met,
    }


def _tree_values(judge: Judge) -> dict[str, object]:
    trees = [
        {"who": who, "compression": compression, **asdict(verdict)}
        for (who, compression), verdict in judge.verdicts.items()
    ]
    return {"reference": "overlayfs" if judge.by_kernel else "streamerge", "trees": trees}


def _result_values(result: Result) -> dict[str, object]:
    return {
        "name": result.image.name,
        "compression": result.image.compression,
        "place": asdict(result.place),
        "layers": len(result.image.layers),
        "paths": result.paths,
        "plain_bytes": result.image.plain_bytes,
        "packed_bytes": result.image.packed_bytes,
        "runs": {name: asdict(series) for name, series in result.series.items()},
    }
