"""The results as a page of Markdown, and as values for JSON."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.images import Image
from benchmarks.measure import Series
from benchmarks.rivals import Contender

MIB = 1 << 20
TOOLS = ("tar", "bsdtar", "igzip", "zstd", "umoci")
PACKAGES = ("isal", "zstandard", "lz4")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one image."""

    image: Image
    contenders: Sequence[Contender]
    series: dict[str, Series]


def machine(streamerge: Sequence[str]) -> dict[str, str]:
    """What the figures depend on."""
    facts = {
        "processor": _first_match("/proc/cpuinfo", r"model name\s*: (.*)") or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_first_match('/proc/meminfo', 'MemTotal: *([0-9]+)') or 0) / MIB:.1f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "streamerge": _version_of([*streamerge, "--version"]),
    }
    facts |= {package: _package_version(package) for package in PACKAGES}
    return facts | {tool: _version_of([tool, "--version"]) for tool in TOOLS if shutil.which(tool)}


def _first_match(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text()) if Path(path).exists() else None
    return found[1] if found else ""


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _version_of(command: Sequence[str]) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (answer.stdout or answer.stderr).strip().splitlines()
    found = re.search(r"\d+\.\d+(?:\.\d+)?", lines[0]) if lines else None
    return found[0] if found and not answer.returncode else "unknown"


def page(facts: dict[str, str], results: Iterable[Result], repeats: int, rss_floor: int) -> str:
    """All of it in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        f"Median of {repeats} interleaved runs (fastest–slowest), page cache warm, nothing flushed to disk.",
        "The last but one column is streamerge's time over the rival's: below 1, streamerge is faster.",
        f"Peaks of memory below {rss_floor / MIB:.0f} MiB cannot be told apart and are shown as <.",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    for result in results:
        lines += ["", *_section(result, rss_floor)]
    return "\n".join([*lines, ""])


def _section(result: Result, rss_floor: int) -> list[str]:
    size = f"{result.image.plain_bytes / MIB:,.0f} MiB"
    if result.image.compression != "plain":
        size += f", packed {result.image.packed_bytes / MIB:,.0f} MiB"
    return [
        f"## {result.image.name}, {result.image.compression}: {len(result.image.layers)} layers, {size}",
        "",
        "| command | wall s | user + sys s | peak MiB | streamerge ÷ it | what it does |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
        *(_row(contender, result, rss_floor) for contender in result.contenders),
    ]


def _row(contender: Contender, result: Result, rss_floor: int) -> str:
    series = result.series[contender.name]
    if series.failure:
        return f"| {contender.name} | fails | | | | {contender.does} |"
    wall = f"{series.wall:.2f} ({series.fastest:.2f}–{series.slowest:.2f})"
    peak = f"< {rss_floor / MIB:.0f}" if series.rss <= rss_floor else f"{series.rss / MIB:.0f}"
    cells = [contender.name, wall, f"{series.cpu:.2f}", peak, _ratio(contender, result), contender.does]
    return f"| {' | '.join(cells)} |"


def _ratio(contender: Contender, result: Result) -> str:
    ours = result.series[result.contenders[0].name]
    if contender is result.contenders[0] or not ours.samples:
        return ""
    return f"{ours.wall / result.series[contender.name].wall:.2f}"


def as_values(facts: dict[str, str], results: Iterable[Result], repeats: int) -> dict[str, object]:
    """All of it for JSON, every run included."""
    return {
        "machine": facts,
        "repeats": repeats,
        "images": [
            {
                "name": result.image.name,
                "compression": result.image.compression,
                "layers": len(result.image.layers),
                "plain_bytes": result.image.plain_bytes,
                "packed_bytes": result.image.packed_bytes,
                "runs": {name: asdict(series) for name, series in result.series.items()},
            }
            for result in results
        ],
    }
