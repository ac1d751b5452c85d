"""Measure how time and memory grow with entries, layers and bytes.

``python -m benchmarks.scaling --out docs/scaling.md`` writes the page.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import growing, machine, measure, straight
from benchmarks.measure import Command, CommandFailed, Sample
from benchmarks.straight import Line
from streamerge.options import DEFAULT_READ_AHEAD
from streamerge.streams import WORTH_A_PROCESS

MIB = 1 << 20
DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True, slots=True)
class Axis:
    """One quantity that grows: entries, layers or bytes."""

    name: str
    what: str
    """A description of the images, for the page."""
    unit: str
    """The word for one of them."""
    sizes: Sequence[int]
    smoke: Sequence[int]
    forms: Sequence[str]
    layers: Callable[[Path, int, str], list[Path]]
    outputs: Sequence[str]
    scale: float
    """``time_unit`` in a second."""
    time_unit: str
    memory_unit: str
    """The word for one unit that needs memory; empty if memory should not grow."""


AXES = [
    Axis(
        "Entries",
        f"Files of {growing.BODY} bytes, a hundred to a directory, in {growing.LAYERS} layers.",
        "entry",
        (1_000, 10_000, 100_000, 1_000_000),
        (100, 1_000),
        ("plain", "gzip"),
        growing.entries,
        ("pipe", "directory"),
        1e6,
        "µs",
        "path",
    ),
    Axis(
        "Layers",
        f"Each layer has {growing.PER_LAYER} files of {growing.BODY} bytes and replaces some files of older layers.",
        "layer",
        (1, 10, 100, 500),
        (1, 5),
        ("plain", "gzip"),
        growing.layers,
        ("pipe",),
        1e3,
        "ms",
        "layer",
    ),
    Axis(
        "Bytes",
        "One layer with one file: a hole in a plain layer; in a compressed layer, text that shrinks to a tenth.",
        "GB",
        (10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000),
        (5_000_000, 10_000_000),
        ("plain", "gzip", "zstd"),
        growing.size,
        ("pipe",),
        1e9,
        "s",
        "",
    ),
]


@dataclass(frozen=True, slots=True)
class Point:
    """One image, merged several times."""

    size: int
    samples: list[Sample]
    ahead: int = 0
    """Bytes that may be decoded ahead; the same for all images that are large enough, 0 for the others."""

    @property
    def wall(self) -> float:
        """The lowest wall time in seconds: a disturbance only makes a run longer."""
        return min(sample.wall for sample in self.samples)

    @property
    def rss(self) -> int:
        """The highest peak memory in bytes."""
        return max(sample.rss for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one axis, for one compression of the layers and one output."""

    axis: Axis
    form: str
    output: str
    points: Sequence[Point]

    @property
    def name(self) -> str:
        """The compression and the output."""
        return f"{self.form} → {self.output}"

    @property
    def time(self) -> Line:
        """The line fitted to seconds by size."""
        return straight.fit([(point.size, point.wall) for point in self.points])

    @property
    def memory(self) -> Line:
        """The line fitted to peak memory in bytes by size, less the read-ahead."""
        return straight.fit([(point.size, point.rss - point.ahead) for point in self.points])


def main() -> None:
    """Measure how time and memory grow, and write the page."""
    options = _parser().parse_args()
    for directory in (options.workdir, options.cache):
        directory.mkdir(parents=True, exist_ok=True)
    command = shlex.split(options.streamerge)
    facts = machine.describe(command)
    try:
        curves = [curve for axis in AXES for curve in _curves(axis, command, options)]
    except CommandFailed as error:
        sys.exit(str(error))
    text = page(facts, curves, machine.file_system(options.workdir))
    options.out.write_text(text) if options.out else print(text, end="")
    if options.json:
        options.json.write_text(json.dumps(_values(facts, curves), indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=main.__doc__)
    scratch = Path(tempfile.gettempdir(), "streamerge-benchmarks")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, once each; only checks that everything works")
    parser.add_argument("--only", choices=[axis.name.lower() for axis in AXES], help="measure only one of these")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--streamerge", default=machine.installed(), metavar="CMD", help="the command to measure")
    parser.add_argument(
        "--workdir", type=Path, default=scratch, metavar="DIR", help="directory for outputs, which are deleted at once"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=scratch / "scaling",
        metavar="DIR",
        help="directory for images, which are kept: 5 GB",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.md", help="write the page to this file (default: standard output)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs to this file, as JSON")
    return parser


def _curves(axis: Axis, command: Sequence[str], options: argparse.Namespace) -> Iterator[Curve]:
    if options.only not in (None, axis.name.lower()):
        return
    for form in axis.forms:
        for output in axis.outputs:
            print(f"{axis.name}, {form} → {output}", file=sys.stderr, flush=True)
            sizes = axis.smoke if options.smoke else axis.sizes
            points = [_point(axis, size, form, output, command, options) for size in sizes]
            yield Curve(axis, form, output, points)


def _point(axis: Axis, size: int, form: str, output: str, command: Sequence[str], options: argparse.Namespace) -> Point:
    layers = axis.layers(options.cache, size, form)
    measure.warm(layers)
    rounds = 1 if options.smoke else options.rounds
    ahead = form != "plain" and any(layer.stat().st_size >= WORTH_A_PROCESS for layer in layers)
    samples = [_sample([*command, *map(str, layers), "-q"], output, options.workdir) for _ in range(rounds)]
    return Point(size, samples, DEFAULT_READ_AHEAD if ahead else 0)


def _sample(command: Sequence[str], output: str, workdir: Path) -> Sample:
    """One run; the output of a pipe is discarded."""
    if output == "pipe":
        return measure.run(Command([*command, "-o", "-"]))
    with measure.scratch(workdir) as place:
        return measure.run(Command([*command, "-o", f"{place}/out/", "--no-fsync"]))


# --- the page ----------------------------------------------------------------------------------------------------


def page(facts: dict[str, str], curves: Sequence[Curve], file_system: str) -> str:
    """The whole page in Markdown."""
    lines = [
        "# Scaling",
        "",
        "How time and memory grow with entries, layers and bytes. `python -m benchmarks.scaling` writes this page.",
        f"The output goes to `-o - >/dev/null` (“pipe”) or to a directory on {file_system}. A time is the lowest of",
        "several runs, start-up included. Memory is the highest peak.",
        "",
        "A line is fitted to the points of each curve. The curve counts as straight if no point is more than",
        f"{straight.TOLERANCE:.0%} off the line. Large compressed layers are decoded by decoder processes; for the",
        f"fit, the {DEFAULT_READ_AHEAD >> 20} MiB for what they decode ahead are subtracted from the memory.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    for axis in dict.fromkeys(curve.axis.name for curve in curves):
        lines += ["", *_section([curve for curve in curves if curve.axis.name == axis])]
    return "\n".join([*lines, ""])


def _section(curves: Sequence[Curve]) -> Iterator[str]:
    axis = curves[0].axis
    yield f"## {axis.name}"
    yield ""
    yield axis.what
    yield ""
    yield from _points(axis, curves)
    yield ""
    yield f"Lines fitted to time: start-up, and time for each {axis.unit}."
    yield ""
    yield f"| layers → output | start-up s | {axis.time_unit} each | worst point off, % | straight |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for curve in curves:
        line, slope = curve.time, f"{curve.time.slope * axis.scale:.2f}"
        yield f"| {curve.name} | {line.offset:.2f} | {slope} | {100 * line.worst:.0f} | {_straight(line)} |"
    yield ""
    yield from (_fitted_memory if axis.memory_unit else _memory_range)(axis, curves)


def _points(axis: Axis, curves: Sequence[Curve]) -> Iterator[str]:
    cells = (f"{curve.name}, s | {curve.name}, MiB" for curve in curves)
    yield f"| {axis.name.lower()} | {' | '.join(cells)} |"
    yield f"| ---: |{' ---: | ---: |' * len(curves)}"
    for row in zip(*(curve.points for curve in curves), strict=True):
        cells = (f"{point.wall:.2f} | {point.rss / MIB:.0f}" for point in row)
        yield f"| {row[0].size:,} | {' | '.join(cells)} |"


def _fitted_memory(axis: Axis, curves: Sequence[Curve]) -> Iterator[str]:
    yield f"Lines fitted to memory: at the start, and for each {axis.memory_unit}."
    yield ""
    yield "| layers → output | start MiB | bytes each | worst point off, % | straight |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for curve in curves:
        line = curve.memory
        start, slope = f"{line.offset / MIB:.0f}", f"{line.slope:,.0f}"
        yield f"| {curve.name} | {start} | {slope} | {100 * line.worst:.0f} | {_straight(line)} |"


def _memory_range(_: Axis, curves: Sequence[Curve]) -> Iterator[str]:
    yield "Memory is bounded here, so no line is fitted."
    yield ""
    yield "| layers → output | lowest MiB | highest MiB |"
    yield "| --- | ---: | ---: |"
    for curve in curves:
        least, most = (bound(point.rss for point in curve.points) / MIB for bound in (min, max))
        yield f"| {curve.name} | {least:.0f} | {most:.0f} |"


def _straight(line: Line) -> str:
    return "yes" if line.straight else "**no**"


def _values(facts: dict[str, str], curves: Sequence[Curve]) -> dict[str, object]:
    """Everything as values for JSON, with every single run."""
    return {"machine": facts, "curves": [_curve_values(curve) for curve in curves]}


def _curve_values(curve: Curve) -> dict[str, object]:
    return {
        "axis": curve.axis.name,
        "form": curve.form,
        "output": curve.output,
        "time": asdict(curve.time),
        "memory": asdict(curve.memory),
        "points": [asdict(point) for point in curve.points],
    }


if __name__ == "__main__":
    main()
