"""A signal at the worst of moments: all or nothing, no process left, no traceback.

The moments are those right after a system call that makes something which the program does not hold yet, or has given
away already: a module that Python imports at its start sends the signal from there.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest

from tests.support.command import UNCOUNTED, Done, end_soon, environment, finished, run, start
from tests.support.images import Image, oci_layout
from tests.support.layers import Layer

SENDER = """
import atexit, fnmatch, os, signal, subprocess

NUMBER, FUNCTION, PATTERN = int(os.environ["NUMBER"]), os.environ["FUNCTION"], os.environ["PATTERN"]

def send():
    signal.raise_signal(NUMBER)

class Dropped:
    def __del__(self):
        send()

def sending(function):
    def call(*arguments, **named):
        result = function(*arguments, **named)
        said = " ".join(map(os.fsdecode, filter(lambda it: isinstance(it, (str, bytes)), arguments)))
        if fnmatch.fnmatch(said, PATTERN):
            Dropped() if "DROPPED" in os.environ else send()
        return result
    return call

class Popen(subprocess.Popen):
    def __init__(self, argv, **named):
        super().__init__(argv, **named)
        if fnmatch.fnmatch(" ".join(argv), PATTERN):
            while not os.path.exists(os.environ["STARTED"]):
                pass
            send()

if FUNCTION == "exit":
    atexit.register(send)
elif FUNCTION == "Popen":
    subprocess.Popen = Popen
else:
    setattr(os, FUNCTION, sending(getattr(os, FUNCTION)))
"""

NUMBERS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tar"
    path.write_bytes(Layer().dir(b"d").file(b"d/f", b"x" * 1000).tar())
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def merged(tmp_path: Path, function: str, pattern: str, number: int, *arguments: object, **more: str) -> Done:
    """Run the command with a signal sent after a call of a function of ``os`` whose arguments match ``pattern``."""
    (tmp_path / "sender").mkdir()
    (tmp_path / "sender/sitecustomize.py").write_text(SENDER)
    settings = {"NUMBER": f"{number:d}", "FUNCTION": function, "PATTERN": pattern, **more}
    path = f"{tmp_path}/sender:{environment()['PYTHONPATH']}"
    return finished(start(*map(str, arguments), "-q", env={"PYTHONPATH": path, **settings, **UNCOUNTED}))


@pytest.mark.parametrize(("number", "code"), NUMBERS)
@pytest.mark.parametrize(
    ("name", "function"), [("root.tar", "open"), ("root.tar.gz", "open"), ("root.cpio", "open"), ("root/", "mkdir")]
)
def test_when_the_output_has_just_been_made(
    tmp_path: Path, layer: Path, output: Path, name: str, function: str, number: int, code: int
) -> None:
    done = merged(tmp_path, function, "*/.root*.partial-*", number, layer, "-o", f"{output}/{name}")
    assert (done.code, list(output.iterdir())) == (code, [])
    assert "Traceback" not in done.err


def test_when_the_config_has_just_been_made(tmp_path: Path, output: Path) -> None:
    oci_layout(Image().layer(Layer().file(b"a"))).write(tmp_path / "image")
    arguments = (f"oci:{tmp_path}/image", "-o", output / "root.tar", "--config-out", output / "config.json")
    done = merged(tmp_path, "open", "*/.config.json.partial-*", signal.SIGINT, *arguments)
    assert (done.code, list(output.iterdir())) == (130, [])
    assert done.err.strip() == "streamerge: interrupted; nothing is left behind"


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_where_python_drops_what_it_raises(tmp_path: Path, layer: Path, output: Path, number: int, code: int) -> None:
    """In a destructor: it left a traceback, and the merge went on, deaf to every further signal."""
    done = merged(tmp_path, "open", "*/layer.tar", number, layer, "-o", output / "root.tar", DROPPED="1")
    assert (done.code, list(output.iterdir())) == (code, [])
    assert "Traceback" not in done.err


def test_when_all_is_over(tmp_path: Path, output: Path) -> None:
    done = merged(tmp_path, "exit", "", signal.SIGINT, tmp_path / "none.tar", "-o", output / "root.tar")
    done.assert_failed("none.tar", "No such file")


@pytest.mark.parametrize(("number", "_code"), NUMBERS)
@pytest.mark.parametrize(("name", "function"), [("root.tar", "replace"), ("root.cpio", "replace"), ("root/", "rename")])
def test_when_the_output_is_complete(
    tmp_path: Path, layer: Path, output: Path, name: str, function: str, number: int, _code: int
) -> None:
    """It said that nothing was left behind."""
    done = merged(tmp_path, function, "*/.root*.partial-*", number, layer, "-o", f"{output}/{name}")
    assert (done.code, done.err) == (0, "")
    assert os.listdir(output) == [name.rstrip("/")]
    run(layer, "-q", "-o", tmp_path / "again").assert_merged()
    if name == "root.tar":
        assert (output / name).read_bytes() == (tmp_path / "again").read_bytes()


def test_when_an_image_is_complete(tmp_path: Path, layer: Path, output: Path) -> None:
    path = tool(tmp_path, "mkfs.erofs (erofs-utils) 1.8.7", "for image; do :; done; cat >${@: -2:1}")
    done = merged(
        tmp_path, "replace", "*/.root.erofs.partial-*", signal.SIGTERM, layer, "-o", output / "root.erofs", PATH=path
    )
    assert (done.code, done.err) == (0, "")
    assert os.listdir(output) == ["root.erofs"]


def test_when_a_directory_is_replaced(tmp_path: Path, layer: Path, output: Path) -> None:
    """The old tree goes all the same."""
    (output / "root").mkdir()
    (output / "root/old").write_text("old")
    done = merged(tmp_path, "scandir", "*", signal.SIGTERM, layer, "--force", "-o", f"{output}/root/")
    assert (done.code, done.err) == (0, "")
    assert os.listdir(output) == ["root"]
    assert os.listdir(output / "root") == ["d"]


def tool(tmp_path: Path, version: str, script: str) -> str:
    """A mkfs.erofs of our own; returns the $PATH on which it is the first."""
    path = tmp_path / "bin/mkfs.erofs"
    path.parent.mkdir()
    path.write_text(f'#!/bin/bash\n[[ $* == -V ]] && echo "{version}" && exit\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{path.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize(("number", "code"), NUMBERS)
@pytest.mark.parametrize("reads", ["tar", pytest.param("directory", marks=pytest.mark.root)])
def test_when_a_tool_has_just_been_started(
    tmp_path: Path, layer: Path, output: Path, reads: str, number: int, code: int
) -> None:
    """Found under load: the tool's process was never known to who should end it."""
    version = "mkfs.erofs (erofs-utils) 1.8.4" if reads == "tar" else "mkfs.erofs 1.5"
    path = tool(tmp_path, version, 'echo $$ >"$STARTED"; sleep 1000')
    more = {"PATH": path, "STARTED": str(tmp_path / "started")}
    done = merged(tmp_path, "Popen", "*mkfs.erofs *root.erofs*", number, layer, "-o", output / "root.erofs", **more)
    assert (done.code, list(output.iterdir())) == (code, [])
    assert "Traceback" not in done.err
    assert end_soon([int((tmp_path / "started").read_text())])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["root.tar", "root/"])
def test_at_any_moment(tmp_path: Path, output: Path, name: str) -> None:
    """Forty moments between the first one and the last: it has either done its work, or left nothing."""
    layers = []
    for number in range(3):
        files = Layer().dir(b"d")
        for file in range(300):
            files = files.file(b"d/%d-%d" % (number, file), b"x" * 700)
        layers.append(tmp_path / f"{number}.tar.gz")
        layers[-1].write_bytes(gzip.compress(files.tar(), 1))
    arguments: list[str | Path] = [*layers, "-q", "--no-fsync", "-o", f"{output}/{name}"]
    begun = time.monotonic()
    finished(start(*arguments, env=UNCOUNTED)).assert_merged()
    needed = time.monotonic() - begun
    for moment in range(40):
        for path in output.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        process = start(*arguments, env=UNCOUNTED)
        time.sleep(needed * moment / 40)
        process.send_signal(signal.SIGTERM)
        done = finished(process)
        assert (done.code, os.listdir(output)) in [
            (0, [name.rstrip("/")]),
            (143, []),
            (-signal.SIGTERM, []),  # Python itself had not yet begun
        ]
        assert done.err == ""
