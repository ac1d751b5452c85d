"""Measure streamerge and its rivals: ``python -m benchmarks --quick``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import check, images, measure, rivals
from benchmarks.generate import PROFILES
from benchmarks.images import Image
from benchmarks.report import Result, as_values, machine, page


@dataclass(frozen=True, slots=True)
class Size:
    """How large the synthetic images are, and how often each command runs."""

    scale: float
    repeats: int


SIZES = {"smoke": Size(0.002, 1), "quick": Size(0.1, 3), "full": Size(1.0, 5)}
HELP = {
    "smoke": "tiny images, one run each, and look whether the results are right",
    "quick": "a tenth of the size, 3 runs (the default)",
    "full": "full size, 5 runs",
    "only": f"{', '.join(PROFILES)}, or the name of an --image; may be repeated",
    "image": "also what tests/real/build_debian.sh left there; may be repeated",
    "streamerge": "the command to measure, the options to be added (default: this Python's module)",
    "workdir": "for images (kept) and outputs (deleted); as large as three times the largest image",
    "out": "where the page goes (default: standard output)",
    "json": "where all runs go",
}


def main() -> None:
    """Measure streamerge and its rivals."""
    options = _parser().parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    repeats = options.repeats or SIZES[options.size].repeats
    command = shlex.split(options.streamerge)
    facts = machine(command)
    results = [_measure(image, command, repeats, options.workdir) for image in _images(options)]
    _write(options, page(facts, results, repeats, measure.floor()), as_values(facts, results, repeats))
    problems = [problem for result in results for problem in _problems(result)]
    if options.size == "smoke" and not problems:
        problems += _smoke([result.image for result in results], command, options.workdir)
    sys.exit("\n".join(problems) or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    size = parser.add_mutually_exclusive_group()
    for name in SIZES:
        size.add_argument(f"--{name}", action="store_const", const=name, dest="size", help=HELP[name])
    parser.set_defaults(size="quick")
    parser.add_argument("--only", action="append", metavar="NAME", help=HELP["only"])
    parser.add_argument("--image", action="append", type=Path, default=[], metavar="DIR", help=HELP["image"])
    parser.add_argument("--repeats", type=int, metavar="N")
    here = shlex.join([sys.executable, "-m", "streamerge"])
    parser.add_argument("--streamerge", default=here, metavar="CMD", help=HELP["streamerge"])
    scratch = Path(tempfile.gettempdir(), "streamerge-benchmarks")
    parser.add_argument("--workdir", type=Path, default=scratch, metavar="DIR", help=HELP["workdir"])
    parser.add_argument("--out", type=Path, metavar="FILE.md", help=HELP["out"])
    parser.add_argument("--json", type=Path, metavar="FILE", help=HELP["json"])
    return parser


def _images(options: argparse.Namespace) -> Iterator[Image]:
    def wanted(name: str) -> bool:
        return not options.only or name in options.only

    for profile in filter(wanted, PROFILES):
        yield from images.synthetic(profile, SIZES[options.size].scale, options.workdir / "images")
    for directory in options.image:
        if wanted(directory.name):
            yield from images.real(directory.resolve())


def _measure(image: Image, command: Sequence[str], repeats: int, workdir: Path) -> Result:
    contenders = [*rivals.streamerge(command), *rivals.RIVALS]
    able = [contender for contender in contenders if contender.can_run(image)]
    measure.warm(image.layers)
    runs = {each.name: lambda place, each=each: each.command(image, place) for each in able}
    series = measure.in_turn(runs, repeats, workdir, lambda what: _say(f"{image.name} {image.compression}: {what}"))
    return Result(image, able, series)


def _smoke(measured: Sequence[Image], command: Sequence[str], workdir: Path) -> Iterator[str]:
    """Of synthetic images only, and not as root: see by_hand.sh."""
    if os.geteuid() == 0:
        _say("the results are not checked: by_hand.sh does not run as root")
        return
    for image in measured:
        if image.layout is None:
            yield from check.smoke(image, command, workdir)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _problems(result: Result) -> Iterator[str]:
    """A rival may fail, and the page says so; streamerge may not."""
    for contender in result.contenders:
        failure = result.series[contender.name].failure
        if failure and contender.name.startswith("streamerge"):
            yield failure
        elif failure:
            _say(failure)


def _write(options: argparse.Namespace, text: str, values: dict[str, object]) -> None:
    if options.json:
        options.json.write_text(json.dumps(values, indent=1) + "\n")
    if options.out:
        options.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
