"""Draw a chart for the README: the times of all commands on one image.

python -m benchmarks.chart RESULTS.json CHART.svg [IMAGE]
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

WIDTH, HEIGHT_PER_BAR = 7.5, 0.32
"""Inches."""
OURS, MERGERS, PARTIAL = "#2a7f62", "#8c8c8c", "#d0d0d0"
PREFERRED = ("many", "mixed", "debian")
"""The image to show: the first of these that was measured."""


def draw(results: dict[str, Any], out: Path, image: str = "") -> None:
    """Write an SVG with the median wall times on one image, in gzip, in the first place. Needs matplotlib."""
    shown = _pick(results["images"], image)
    bars = sorted(_bars(shown["runs"]), key=lambda bar: bar[1], reverse=True)
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "streamerge", "font.size": 9})
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(WIDTH, 1 + HEIGHT_PER_BAR * len(bars)), layout="constrained")
    names, times = [name for name, _ in bars], [time for _, time in bars]
    drawn = axes.barh(names, times, color=[_colour(name) for name in names])
    axes.bar_label(drawn, [f"{time:.1f} s" for time in times], padding=3)
    figure.suptitle(_title(shown), x=0.01, horizontalalignment="left", fontsize=9)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.margins(x=0.1)
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def _pick(images: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    packed = [each for each in images if each["compression"] == "gzip"]
    names = [wanted] if wanted else [*PREFERRED, *(each["name"] for each in packed)]
    for name in names:
        for each in packed:
            if each["name"] == name:
                return each
    raise SystemExit("no results of an image in gzip")


def _bars(runs: dict[str, Any]) -> list[tuple[str, float]]:
    """Name and median seconds of each command; those that only list or copy, and parts of others, are left out."""
    left_out = ("tar -tf", "bsdtar -tf", "bsdtar -cf @layer", "tarfile", "streamerge → pipe", "cat")
    return [
        (name, statistics.median(sample["wall"] for sample in series["rounds"].values()))
        for name, series in runs.items()
        if series["rounds"] and not series["failure"] and name not in left_out and ": " not in name.replace("oci: ", "")
    ]


def _colour(name: str) -> str:
    if name.startswith("streamerge"):
        return OURS
    return PARTIAL if name == "igzip -dc" or name.endswith("-x merged") else MERGERS


def _title(shown: dict[str, Any]) -> str:
    size = shown["plain_bytes"] / (1 << 30)
    return (
        f"{shown['layers']} gzip layers, {shown['paths']:,} paths, {size:.1f} GiB, on {shown['place']['kind']}\n"
        "green: streamerge; grey: other tools that merge; light: only decode, or only extract the merged tar"
    )


def main(results: str, out: str, image: str = "") -> None:
    """Draw the chart from results that were kept."""
    draw(json.loads(Path(results).read_text()), Path(out), image)


if __name__ == "__main__":
    main(*sys.argv[1:])
