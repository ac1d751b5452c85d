"""Time and memory against entries, layers and bytes: ``python -m benchmarks.scaling`` writes docs/scaling.md."""

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
    """What grows: entries, layers or bytes."""

    name: str
    what: str
    """What the images are, for the page."""
    unit: str
    """What one more of it is called."""
    sizes: Sequence[int]
    smoke: Sequence[int]
    forms: Sequence[str]
    layers: Callable[[Path, int, str], list[Path]]
    outputs: Sequence[str]
    scale: float
    """What a second is multiplied by for the time of one unit."""
    time_unit: str
    straight_memory: str
    """What the memory of one unit is called; empty where memory should not grow."""


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
        "bytes a path",
    ),
    Axis(
        "Layers",
        f"Each layer has {growing.PER_LAYER} files of {growing.BODY} bytes and replaces some of the layer below it.",
        "layer",
        (1, 10, 100, 500),
        (1, 5),
        ("plain", "gzip"),
        growing.layers,
        ("pipe",),
        1e3,
        "ms",
        "bytes a layer",
    ),
    Axis(
        "Bytes",
        "One layer with one file: a hole where it is plain, text that packs to a tenth where it is compressed.",
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
    """One image merged several times: the best wall time, the highest peak of memory."""

    size: int
    samples: list[Sample]
    ahead: int = 0
    """Bytes that may be decoded before their turn: a step, and the same for all images that are large enough."""

    @property
    def wall(self) -> float:
        """The least: what disturbs a run only ever makes it longer."""
        return min(sample.wall for sample in self.samples)

    @property
    def rss(self) -> int:
        """Bytes."""
        return max(sample.rss for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Curve:
    """One axis in one form of the layers and of the output."""

    axis: Axis
    form: str
    output: str
    points: Sequence[Point]

    @property
    def name(self) -> str:
        """Short."""
        return f"{self.form} → {self.output}"

    @property
    def time(self) -> Line:
        """Seconds by size."""
        return straight.fit([(point.size, point.wall) for point in self.points])

    @property
    def memory(self) -> Line:
        """Bytes at the peak by size, less those of the read-ahead."""
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
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, once each, only to see that all of it works")
    parser.add_argument("--only", choices=[axis.name.lower() for axis in AXES], help="one axis")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--streamerge", default=machine.installed(), metavar="CMD", help="the command to measure")
    parser.add_argument("--workdir", type=Path, default=scratch, metavar="DIR", help="for directories, deleted at once")
    parser.add_argument("--cache", type=Path, default=scratch / "scaling", metavar="DIR", help="for images: 5 GB, kept")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="where the page goes (default: standard output)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all runs go")
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
    """A pipe is one to nowhere."""
    if output == "pipe":
        return measure.run(Command([*command, "-o", "-"]))
    with measure.scratch(workdir) as place:
        return measure.run(Command([*command, "-o", f"{place}/out/", "--no-fsync"]))


# --- the page ----------------------------------------------------------------------------------------------------


def page(facts: dict[str, str], curves: Sequence[Curve], file_system: str) -> str:
    """All of it in Markdown."""
    lines = [
        "# How it grows",
        "",
        "Time and memory against entries, layers and bytes; made by `python -m benchmarks.scaling`. The output goes to",
        f"`-o - >/dev/null` (“pipe”) or to a directory on {file_system}. Shown are the least time of several runs,",
        "start-up included, and the highest peak of memory.",
        "",
        "A curve is called straight if one line, fitted to all its points, misses none of them by more than",
        f"{straight.TOLERANCE:.0%} – over three decades. Where compressed layers are large enough to be decoded by",
        f"other processes, memory is judged without the {DEFAULT_READ_AHEAD >> 20} MiB for what they decode ahead.",
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
    cells = (f"{curve.name}, s | peak MiB" for curve in curves)
    yield f"| {axis.name.lower()} | {' | '.join(cells)} |"
    yield f"| ---: |{' ---: | ---: |' * len(curves)}"
    for row in zip(*(curve.points for curve in curves), strict=True):
        cells = (f"{point.wall:.2f} | {point.rss / MIB:.0f}" for point in row)
        yield f"| {row[0].size:,} | {' | '.join(cells)} |"
    yield ""
    yield from (sentence for curve in curves for sentence in _sentences(curve))


def _sentences(curve: Curve) -> Iterator[str]:
    axis, time, memory = curve.axis, curve.time, curve.memory
    each = f"{time.slope * axis.scale:.2f} {axis.time_unit} for each {axis.unit}"
    yield f"- {curve.name}: {time.offset:.2f} s and {each}; at most {time.worst:.0%} off: {_judged(time)}."
    if axis.straight_memory:
        grown = f"{memory.offset / MIB:.0f} MiB and {memory.slope:.0f} {axis.straight_memory}"
        yield f"  Memory: {grown}; at most {memory.worst:.0%} off: {_judged(memory)}."
    else:
        least, most = (bound(point.rss for point in curve.points) / MIB for bound in (min, max))
        yield f"  Memory: {least:.0f} to {most:.0f} MiB."


def _judged(line: Line) -> str:
    return "straight" if line.straight else "**not straight**"


def _values(facts: dict[str, str], curves: Sequence[Curve]) -> dict[str, object]:
    """All of it for JSON, every run included."""
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
