"""Compare one streamerge command with unpacking and then running mkfs: time, and disk space beside the image.

    python -m benchmarks.filesystems IMAGE [--rounds N] [--only FILESYSTEM]

IMAGE is a directory that a tests/real/build_*.sh script has made. The other side unpacks its OCI layout with umoci,
which merges correctly, and runs the same tool with the same options on the tree. Each run has its own tmpfs. Disk space
beside the image is the most that this tmpfs held, less the image. Needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.measure import Command, CommandFailed, run, warm

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Contest:
    """A file system: the options for streamerge, and the shell command that makes ``$out`` from ``$tree``."""

    name: str
    options: Sequence[str]
    mkfs: str

    def can_run(self) -> bool:
        """Whether both tools are installed."""
        return all(shutil.which(word) for word in (self.mkfs.split()[0], "umoci"))


CONTESTS = (
    Contest("squashfs", ["--mkfs", "sqfstar", "--", "-comp", "lz4"], 'mksquashfs "$tree" "$out" -comp lz4 -quiet'),
    Contest("squashfs", ["--mkfs", "tar2sqfs"], 'mksquashfs "$tree" "$out" -quiet'),
    Contest("erofs", [], 'mkfs.erofs --quiet "$out" "$tree"'),
    Contest("erofs", ["--", "-zlz4hc"], 'mkfs.erofs --quiet -zlz4hc "$out" "$tree"'),
    Contest("ext4", [], 'mke2fs -q -t ext4 -N "$inodes" -d "$tree" "$out" "${size}m"'),
)

_RIVAL = """
set -e; tree=$1/bundle/rootfs; out=$2
mkdir -p "$1/bundle"; umoci raw unpack --image "$3" "$tree"
inodes=$(($(find "$tree" | wc -l) + 1000)) size=$(($(du -sm "$tree" | cut -f1) * 13 / 10 + 64))
{mkfs}
sync "$out"; rm -rf "$1"
"""


@dataclass(slots=True)
class Runs:
    """The time and the space that one side used."""

    walls: list[float] = field(default_factory=list)
    beside: int = 0
    """Bytes on disk beside the image, at the most."""


def main() -> None:
    """Measure all contests and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="one file system")
    given = parser.parse_args()
    layers = sorted((given.image / "layers-gz").iterdir())
    warm(layers)
    print("| image | command, s | unpack and mkfs, s | ratio | command, MiB beside | unpack and mkfs, MiB beside |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for contest in filter(Contest.can_run, CONTESTS):
        if given.only not in (None, contest.name):
            continue
        name = f"{contest.name} ({' '.join(contest.options) or 'no options'})"
        try:
            ours, rival = _measure(contest, given.image, layers, given.rounds)
        except CommandFailed as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        ratio = median(ours.walls) / median(rival.walls)
        walls = f"{median(ours.walls):.2f} | {median(rival.walls):.2f} | {ratio:.2f}"
        print(f"| {name} | {walls} | {ours.beside / _MIB:.0f} | {rival.beside / _MIB:.0f} |", flush=True)


def _measure(contest: Contest, image: Path, layers: Sequence[Path], rounds: int) -> tuple[Runs, Runs]:
    """Both sides in turn, ``rounds`` times."""
    ours, rival = Runs(), Runs()
    own, tools = _split(contest.options)
    for _ in range(rounds):
        with _disk() as disk:
            out = disk / f"image.{contest.name}"
            command = [sys.executable, "-m", "streamerge", *map(str, layers), "-q", "-o", str(out), *own, *tools]
            _once(Command(command), disk, out, ours)
        with _disk() as disk:
            out = disk / f"image.{contest.name}"
            script = _RIVAL.format(mkfs=contest.mkfs)
            arguments = [str(disk / "work"), str(out), f"{image / 'oci'}:latest"]
            _once(Command(["bash", "-c", script, "bash", *arguments]), disk, out, rival)
    return ours, rival


def _split(options: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The options for streamerge, and from ``--`` on those for the tool."""
    at = options.index("--") if "--" in options else len(options)
    return options[:at], options[at:]


def _once(command: Command, disk: Path, out: Path, runs: Runs) -> None:
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, _used(disk))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        runs.walls.append(run(command).wall)
    finally:
        done.set()
        watcher.join()
    runs.beside = max(runs.beside, peak - out.stat().st_blocks * 512)


def _used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@contextmanager
def _disk() -> Iterator[Path]:
    """A tmpfs that is unmounted afterwards."""
    path = Path(tempfile.mkdtemp(prefix="streamerge-bench-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70%", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        path.rmdir()


if __name__ == "__main__":
    main()
