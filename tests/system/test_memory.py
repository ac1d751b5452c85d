"""Memory is a expected: peak resident size of the command, as the kernel counts it.

Baseline is the interpreter with click and the decoders, some 25 MiB. On top: what is decoded ahead (20 MiB, which
all processes share), the codec's windows, a chunk here and there, the spool's memory where there are pipes, and
the paths. A body, of whatever size, must add nothing.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.command import argv, environment
from tests.support.layers import Layer

pytestmark = pytest.mark.slow

MIB = 1 << 20
LIMIT = 96 * MIB
TOGETHER = 128 * MIB
BODY = 1 << 30
PATHS = 200_000
PER_PATH = 200

MEASURE = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
"""A parent as small as can be: Linux counts what the parent held between fork and exec as the child's."""


def peak(*arguments: str | Path, stdin: int = subprocess.DEVNULL) -> int:
    """Run the command, which must succeed; its peak resident size in bytes. Coverage would count as well."""
    quiet: dict[str, str | None] = {name: None for name in os.environ if name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", MEASURE, *argv(*arguments, "-q", "--no-fsync")],
        stdin=stdin,
        capture_output=True,
        env=environment(quiet),
        check=True,
    )
    code, kilobytes = map(int, done.stdout.split())
    assert code == 0, done.stderr.decode()
    return kilobytes * 1024


def together(*arguments: str | Path) -> int:
    """The same of the command and all its processes together; what they share is counted once (PSS, proc(5))."""
    process = subprocess.Popen(argv(*arguments, "-q", "--no-fsync"), env=environment({}), stdin=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(proportional, [process.pid, *children(process.pid)])))
        time.sleep(0.003)
    assert process.returncode == 0
    return most


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def proportional(pid: int) -> int:
    """0 for a process that has just ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def assert_peak(measured: int, limit: int, what: str, record: Callable[[str, object], None]) -> None:
    record(what, f"{measured / MIB:.1f} MiB")
    print(f"{what}: {measured / MIB:.1f} MiB of {limit / MIB:.1f} MiB")
    assert measured < limit, f"{what}: {measured / MIB:.1f} MiB"


def chunks() -> Iterator[bytes]:
    """A body of BODY bytes, a quarter of it incompressible: neither all zeros nor slow to make."""
    noise = random.Random(0).randbytes(MIB)
    for number in range(BODY // (4 * MIB)):
        yield number.to_bytes(8, "big") + noise[8:] + bytes(3 * MIB)


def large_layer() -> Iterator[bytes]:
    """The bytes of a layer with one large file ``d/large``."""
    yield Layer().dir(b"d").file(b"d/large", size=BODY).tar(end=False)
    yield from chunks()
    yield Layer().file(b"d/after", b"x").tar()


def write_plain(file: BinaryIO) -> None:
    for chunk in large_layer():
        file.write(chunk)


def write_gzip(file: BinaryIO) -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for chunk in large_layer():
        file.write(packer.compress(chunk))
    file.write(packer.flush())


WRITERS = {"plain": write_plain, "gzip": write_gzip}


@pytest.fixture(scope="module", params=WRITERS)
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A layer of 1 GiB on disk."""
    path = tmp_path_factory.mktemp("large") / f"large-{request.param}.tar"
    with path.open("wb") as file:
        WRITERS[request.param](file)
    yield path
    path.unlink()


@pytest.fixture
def hides(tmp_path: Path) -> Path:
    """A newer layer with another ``d/large``."""
    path = tmp_path / "hides.tar"
    path.write_bytes(Layer().dir(b"d").file(b"d/large", b"small").tar())
    return path


@pytest.fixture
def reference(tmp_path: Path) -> int:
    """What a merge of nothing takes."""
    empty = tmp_path / "empty.tar"
    empty.write_bytes(Layer().tar())
    return peak(empty, "-o", "/dev/null")


def test_a_body_that_shows(large: Path, record_property: Callable[[str, object], None]) -> None:
    assert_peak(peak(large, "-o", "/dev/null"), LIMIT, f"{large.stem}, shown", record_property)


@pytest.mark.parametrize("output", ["out.tar", "out/"])
def test_two_large_layers_and_all_processes(
    large: Path, tmp_path: Path, output: str, record_property: Callable[[str, object], None]
) -> None:
    """Both layers are decoded at once, workers make files; 128 MiB are for all of it."""
    beside = tmp_path / "beside.tar"
    beside.write_bytes(Layer().dir(b"e").link(b"e/kept", b"d/large").tar())
    measured = together(large, beside, large, "-o", tmp_path / output)
    assert_peak(measured, TOGETHER, f"{large.stem}, twice, all processes", record_property)


def test_a_body_that_is_hidden(large: Path, hides: Path, record_property: Callable[[str, object], None]) -> None:
    assert_peak(peak(large, hides, "-o", "/dev/null"), LIMIT, f"{large.stem}, hidden", record_property)


def test_a_body_that_is_promoted(large: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """It goes through once more at the end, under another name."""
    links, hides = tmp_path / "links.tar", tmp_path / "hides.tar"
    links.write_bytes(Layer().dir(b"e").link(b"e/kept", b"d/large").tar())
    hides.write_bytes(Layer().dir(b"d").whiteout(b"d/large").tar())
    measured = peak(large, links, hides, "-o", tmp_path / "out.tar")
    assert (tmp_path / "out.tar").stat().st_size > BODY
    (tmp_path / "out.tar").unlink()
    assert_peak(measured, LIMIT, f"{large.stem}, promoted", record_property)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst", ".tar.lz4"])
def test_a_body_that_is_compressed_again(
    tmp_path: Path, suffix: str, record_property: Callable[[str, object], None]
) -> None:
    layer = tmp_path / "zeros.tar"
    with layer.open("wb") as file:
        file.write(Layer().dir(b"d").file(b"d/large", size=BODY).tar(end=False))
        file.truncate(file.tell() + BODY)
    measured = peak(layer, "-o", tmp_path / f"out{suffix}", "--level", "1")
    assert_peak(measured, LIMIT, f"into {suffix}", record_property)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("shown", [True, False], ids=["shown", "hidden"])
def test_a_body_through_a_pipe(
    tmp_path: Path, hides: Path, form: str, shown: bool, record_property: Callable[[str, object], None]
) -> None:
    """What is hidden may be the target of a hard link that comes later: it goes to the spool, then to disk."""
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:
        feeder = threading.Thread(target=feed, args=(form, pipe))
        feeder.start()
        layers = ["-"] if shown else ["-", hides]
        measured = peak(*layers, "-o", "/dev/null", "--spool-memory", "16M", stdin=read)
        os.close(read)
        feeder.join()
    assert_peak(measured, LIMIT, f"pipe {form}, {'shown' if shown else 'hidden'}", record_property)


def test_a_hidden_body_through_a_pipe_with_the_spool_as_it_comes(
    tmp_path: Path, hides: Path, record_property: Callable[[str, object], None]
) -> None:
    """The spool's 64 MiB are memory that was asked for; they come on top of the limit for all else."""
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:
        feeder = threading.Thread(target=feed, args=("plain", pipe))
        feeder.start()
        measured = peak("-", hides, "-o", "/dev/null", stdin=read)
        os.close(read)
        feeder.join()
    assert_peak(measured, LIMIT + 64 * MIB, "pipe plain, hidden, 64M of spool", record_property)


def feed(form: str, pipe: BinaryIO) -> None:
    WRITERS[form](pipe)
    pipe.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer of PATHS entries that does not list the two directories above them all."""
    path = tmp_path_factory.mktemp("many") / "base.tar"
    with path.open("wb") as file:
        for directory in range(PATHS // 200):
            name = b"usr/share/directory-%04d" % directory
            file.write(Layer().dir(name).tar(end=False))
            for number in range(199):
                file.write(Layer().file(name + b"/a-file-of-some-name-%04d" % number).tar(end=False))
        file.write(bytes(1024))
    return path


PARENTS = Layer().dir(b"usr").dir(b"usr/share")
ABOVE = {
    "shown": [PARENTS],
    "hidden": [PARENTS.opaque(b"usr/share")],
    "waiting": [],
}


@pytest.mark.parametrize(
    "case",
    [
        "shown",
        "hidden",
        "waiting",
    ],
)
def test_many_paths(
    many: Path, tmp_path: Path, reference: int, case: str, record_property: Callable[[str, object], None]
) -> None:
    """The limit of every merge, and 200 bytes for each path; what a path takes by itself is printed."""
    layers = [many]
    for layer in ABOVE[case]:
        layers.append(tmp_path / "above.tar")
        layers[-1].write_bytes(layer.tar())
    measured = peak(*layers, "-o", "/dev/null")
    label = f"{PATHS:,} paths, {case}"
    record_property("bytes a path", (measured - reference) / PATHS)
    print(f"{label}: {(measured - reference) / PATHS:.0f} bytes a path")
    assert_peak(measured, LIMIT + PATHS * PER_PATH, label, record_property)


@pytest.mark.parametrize("output", ["out.tar", "out/"])
def test_many_paths_and_all_processes(
    many: Path, tmp_path: Path, output: str, record_property: Callable[[str, object], None]
) -> None:
    packed, above = tmp_path / "packed.tar.gz", tmp_path / "above.tar"
    packed.write_bytes(zlib.compress(many.read_bytes(), 1, wbits=31))
    above.write_bytes(PARENTS.tar())
    measured = together(packed, above, "-o", tmp_path / output)
    assert_peak(measured, TOGETHER + PATHS * 120, f"{PATHS:,} paths into {output}, all processes", record_property)
