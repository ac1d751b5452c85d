"""Ctrl-C while the command starts: exit code 130 and no traceback, as later."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

import streamerge
from tests.support.command import UNCOUNTED, argv, environment
from tests.support.layers import Layer

pytestmark = pytest.mark.slow

PACKAGE = str(Path(streamerge.__file__).parent)


def hear_interrupts() -> None:
    """A background job ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted_after(delay: float, layer: Path, output: Path) -> tuple[int, str]:
    process = subprocess.Popen(
        argv(layer, "-o", output),
        env=environment(UNCOUNTED),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - no threads run here
    )
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


def test_at_5_ms_steps_through_the_first_150_ms(tmp_path: Path) -> None:
    """The interpreter itself prints a traceback while it starts, before any line of the package can run.

    Such a traceback has no frame of the package. All others are faults.
    """
    layer = tmp_path / "layer.tar"
    layer.write_bytes(Layer().file(b"f", b"x").tar())
    codes = []
    for step in range(31):
        output = tmp_path / f"{step}.tar"
        code, err = interrupted_after(step * 0.005, layer, output)
        if "Traceback" in err:
            assert PACKAGE not in err, (step, err)
            continue
        if code == -signal.SIGINT:  # it came before the interpreter had a handler
            continue
        assert code in (0, 130), (step, code, err)
        assert output.exists() == (code == 0)
        codes.append(code)
    assert 130 in codes
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
