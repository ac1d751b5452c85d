"""Measure streamerge and other tools: ``python -m benchmarks --quick``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import chart, images, machine, measure, places, rivals, startup
from benchmarks.check import Judge, Trees
from benchmarks.images import Image
from benchmarks.measure import Command, Plan
from benchmarks.page import describe, page
from benchmarks.profiles import PROFILES
from benchmarks.ratio import Spread
from benchmarks.report import Report, as_values
from benchmarks.rivals import Entrant
from benchmarks.targets import Place, Result, Subject


@dataclass(frozen=True, slots=True)
class Size:
    """The scale of synthetic images, and how often fast commands, slow commands and the start-up test run."""

    scale: float
    rounds: int
    slow_rounds: int
    starts: int


SIZES = {"smoke": Size(0.002, 1, 1, 1), "quick": Size(0.1, 3, 1, 10), "full": Size(1.0, 3, 1, 40)}
_START = time.monotonic()
EXAMPLE = Path(__file__).parents[1] / "tests" / "data" / "layers"
HELP = {
    "smoke": "tiny images, one run each; checks results, not times",
    "quick": "a tenth of the full size, 3 rounds (default)",
    "full": "full size, 3 rounds",
    "only": f"measure only this image: {', '.join(PROFILES)}, or the name of an --image; may be repeated",
    "image": "also measure the image that build_images.sh has built in DIR; may be repeated",
    "rounds": "number of rounds; commands that take many times as long as streamerge run a third as often",
    "streamerge": "command to measure (default: the streamerge that is installed beside this Python)",
    "workdir": "directory for outputs, which are deleted at once; needs four times the size of the largest image;"
    " ext4:DIR is a new ext4 in a file in DIR; may be repeated (default: one in memory, and one in the directory for"
    " temporary files, as root on a new ext4; with --smoke only the latter, without the ext4)",
    "cache": "directory for synthetic images, which are kept (default: in the directory for temporary files)",
    "out": "write the page to this file (default: standard output)",
    "json": "write all runs to this file, as JSON",
    "chart": "write a chart of one image to this file; needs matplotlib",
}


def main() -> None:
    """Measure streamerge and other tools."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that file systems are unmounted
    with places.opened(options.workdir or _workdirs(options.size)) as workdirs:
        session = Session(shlex.split(options.streamerge), _size(options), workdirs, options.cache)
        report = session.measure(_images(options))
    _write(options, report)
    sys.exit("\n".join(_problems(report)) or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    size = parser.add_mutually_exclusive_group()
    for name in SIZES:
        size.add_argument(f"--{name}", action="store_const", const=name, dest="size", help=HELP[name])
    parser.set_defaults(size="quick")
    parser.add_argument("--only", action="append", metavar="NAME", help=HELP["only"])
    parser.add_argument("--image", action="append", type=Path, default=[], metavar="DIR", help=HELP["image"])
    parser.add_argument("--rounds", type=int, metavar="N", help=HELP["rounds"])
    parser.add_argument("--streamerge", default=machine.installed(), metavar="CMD", help=HELP["streamerge"])
    parser.add_argument("--workdir", action="append", metavar="DIR", help=HELP["workdir"])
    scratch = Path(tempfile.gettempdir(), "streamerge-benchmarks")
    parser.add_argument("--cache", type=Path, default=scratch / "images", metavar="DIR", help=HELP["cache"])
    parser.add_argument("--out", type=Path, metavar="FILE.md", help=HELP["out"])
    parser.add_argument("--json", type=Path, metavar="FILE", help=HELP["json"])
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help=HELP["chart"])
    return parser


def _workdirs(size: str) -> list[str]:
    """One directory for a smoke run, which is not about times; otherwise memory and disk, as root a new ext4."""
    scratch = str(Path(tempfile.gettempdir(), "streamerge-benchmarks"))
    memory = ["/dev/shm/streamerge-benchmarks"] if Path("/dev/shm").is_dir() else []
    if size == "smoke":
        return [scratch]
    return [*memory, places.EXT4 + scratch if os.geteuid() == 0 else scratch]


def _size(options: argparse.Namespace) -> Size:
    size = SIZES[options.size]
    return replace(size, rounds=options.rounds, slow_rounds=max(1, options.rounds // 3)) if options.rounds else size


def _images(options: argparse.Namespace) -> Iterator[list[Image]]:
    """Each image in all compressions, made only when it is needed."""

    def wanted(name: str) -> bool:
        return name in options.only if options.only else name != "tiny"

    if options.size == "smoke" and EXAMPLE.is_dir() and wanted("example"):
        layers = sorted(EXAMPLE.glob("*.tar.gz"))
        yield list(images.of_gzip_layers("example", layers, options.cache))
    for profile in filter(wanted, PROFILES):
        yield list(images.synthetic(profile, SIZES[options.size].scale, options.cache))
    for directory in options.image:
        if wanted(directory.name):
            yield list(images.real(directory.resolve()))


@dataclass(slots=True)
class Session:
    """One run of the benchmarks."""

    command: Sequence[str]
    size: Size
    workdirs: Sequence[Path]
    cache: Path

    def measure(self, groups: Iterator[list[Image]]) -> Report:
        """The report on all images, in all compressions, in all working directories."""
        facts = machine.describe(self.command)
        self.cache.mkdir(parents=True, exist_ok=True)
        surplus = self._surplus()
        results: list[Result] = []
        trees: dict[str, Trees] = {}
        for forms in groups:
            with measure.scratch(self.cache) as place:
                forms = [replace(form, merged=place / "merged.tar") for form in forms]
                measure.run(self._merge(forms[0]))
                forms = [replace(form, xattrs=images.has_xattrs(place / "merged.tar")) for form in forms]
                forms = [replace(form, packed=images.pack(place / "merged.tar", form.compression)) for form in forms]
                judge = Judge(place, forms[0])
                trees[forms[0].name] = judge.trees
                _say(f"{forms[0].name}: making the reference tree")
                judge.prepare()
                results += self._one_image(forms, judge)
        rounds = self.size.rounds, self.size.slow_rounds
        return Report(facts, results, trees, surplus, *rounds, measure.floor(), self.size == SIZES["smoke"])

    def _surplus(self) -> Spread | None:
        tiny = next(form for form in images.synthetic("tiny", 1.0, self.cache) if form.compression == "gzip")
        return startup.surplus(self.command, tiny, self.workdirs[0], self.size.starts)

    def _merge(self, image: Image) -> Command:
        return Command([*self.command, *image.arguments, "-o", str(image.merged), "-q", "--no-fsync"])

    def _one_image(self, forms: Sequence[Image], judge: Judge) -> Iterator[Result]:
        paths = images.count_paths(forms[0].plain)
        for image in forms:
            for directory in self.workdirs:
                yield self._one_place(image, directory, judge, paths)

    def _one_place(self, image: Image, directory: Path, judge: Judge, paths: int) -> Result:
        first = directory == self.workdirs[0]
        able = [
            each for each in rivals.all_contenders(self.command) if each.can_run(image) and (first or not each.once)
        ]
        by_name = {each.name: each for each in able}
        place = Place(str(directory), machine.file_system(directory))
        assert image.merged is not None
        measure.warm([*image.layers, image.merged, *([image.packed] if image.packed else [])])

        def inspect(name: str, made: Path) -> None:
            if first:
                judge.look(by_name[name], image, made)

        def watch(what: str) -> None:
            _say(f"{image.name}, {image.compression}, {place.kind}: {what}")

        plan = Plan(directory, self.size.rounds, self.size.slow_rounds, watch, inspect)
        series = measure.in_turn([Entrant(each, image) for each in able], plan)
        return Result(_subject(image, paths), place, able, series)


def _subject(image: Image, paths: int) -> Subject:
    return Subject(image.name, image.compression, len(image.layers), paths, image.plain_bytes, image.packed_bytes)


def _say(what: str) -> None:
    print(f"{time.monotonic() - _START:5.0f} s  {what}", file=sys.stderr, flush=True)


def _problems(report: Report) -> Iterator[str]:
    """Failures and wrong trees of streamerge. Those of other tools are only reported on the page."""
    for result in report.results:
        for name, series in result.series.items():
            where = f"{result.image.name}, {result.image.compression}: {name}"
            if series.failure and name.startswith("streamerge"):
                yield f"{where}: {series.failure}"
            elif series.failure:
                _say(f"{where}: {series.failure}")
    for image, trees in report.trees.items():
        for (name, compression), verdict in trees.verdicts.items():
            if verdict.wrong and (name.startswith("streamerge") or name == "merged"):
                yield f"{image}, {compression}: {name}: {describe(verdict)}"


def _write(options: argparse.Namespace, report: Report) -> None:
    values = as_values(report)
    if options.json:
        options.json.write_text(json.dumps(values, indent=1) + "\n")
    if options.chart:
        chart.draw(values, options.chart)
    if options.out:
        options.out.write_text(page(report))
    else:
        print(page(report), end="")


if __name__ == "__main__":
    main()
