"""Everything that one run of the benchmarks measured, and the same as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.check import Trees, Verdict
from benchmarks.measure import Sample, Series
from benchmarks.ratio import Spread
from benchmarks.rivals import Contender, all_contenders
from benchmarks.targets import TARGETS, Case, Place, Result, Subject, cases


@dataclass(frozen=True, slots=True)
class Report:
    """All measurements, and what they depend on."""

    facts: dict[str, str]
    """The machine and the versions, by name."""
    results: Sequence[Result]
    trees: dict[str, Trees]
    """By the name of the image."""
    surplus: Spread | None
    """Milliseconds by which a merge of tiny layers exceeds an empty Python program."""
    rounds: int
    slow_rounds: int
    memory_floor: int
    """Bytes: the lowest peak that can be measured."""
    smoke: bool = False
    """The images are tiny, so the times mean nothing."""

    @property
    def places(self) -> list[Place]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(result.place for result in self.results))


def as_values(report: Report) -> dict[str, Any]:
    """The report as plain values for JSON, with every single run."""
    return {
        "machine": report.facts,
        "smoke": report.smoke,
        "rounds": report.rounds,
        "slow_rounds": report.slow_rounds,
        "memory_floor": report.memory_floor,
        "start_up_ms": asdict(report.surplus) if report.surplus else None,
        "targets": [_case_values(case) for target in TARGETS for case in cases(target, report.results)],
        "trees": {name: _tree_values(trees) for name, trees in report.trees.items()},
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


def _tree_values(found: Trees) -> dict[str, object]:
    trees = [
        {"who": who, "compression": compression, **asdict(verdict)}
        for (who, compression), verdict in found.verdicts.items()
    ]
    return {"reference": "overlayfs" if found.by_kernel else "streamerge", "trees": trees}


def _result_values(result: Result) -> dict[str, object]:
    return {
        "name": result.image.name,
        "compression": result.image.compression,
        "place": asdict(result.place),
        "layers": result.image.layers,
        "paths": result.image.paths,
        "plain_bytes": result.image.plain_bytes,
        "packed_bytes": result.image.packed_bytes,
        "runs": {name: asdict(series) for name, series in result.series.items()},
    }


def from_values(values: dict[str, Any]) -> Report:
    """The report that ``as_values`` was given; targets and descriptions of commands are those of this version."""
    known = all_contenders(["streamerge"])
    return Report(
        facts=values["machine"],
        results=[_result(image, known) for image in values["images"]],
        trees={name: _trees(found) for name, found in values["trees"].items()},
        surplus=Spread(**values["start_up_ms"]) if values["start_up_ms"] else None,
        rounds=values["rounds"],
        slow_rounds=values["slow_rounds"],
        memory_floor=values["memory_floor"],
        smoke=values["smoke"],
    )


def _result(values: dict[str, Any], known: Sequence[Contender]) -> Result:
    subject = Subject(**{field.name: values[field.name] for field in fields(Subject)})
    series = {name: _series(runs) for name, runs in values["runs"].items()}
    contenders = [each for each in known if each.name in series and subject.compression in each.compressions]
    return Result(subject, Place(**values["place"]), contenders, series)


def _series(values: dict[str, Any]) -> Series:
    return Series({int(number): Sample(**run) for number, run in values["rounds"].items()}, values["failure"])


def _trees(values: dict[str, Any]) -> Trees:
    verdicts = {(each["who"], each["compression"]): Verdict(each["wrong"], each["example"]) for each in values["trees"]}
    return Trees(values["reference"] == "overlayfs", verdicts)
