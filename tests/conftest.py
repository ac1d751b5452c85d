"""What all tests share: Hypothesis profiles, and that a test is skipped where its needs are not met."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import needs

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("default", max_examples=150, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("ci", max_examples=400, print_blob=True, **_COMMON)  # type: ignore[arg-type]
settings.load_profile("ci" if os.environ.get("CI") else "default")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-minutes", type=float, default=0, help="run each fuzz test for this long")


def pytest_configure() -> None:
    """A shell ignores Ctrl-C in what it starts in the background: tests of it would wait in vain."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Whatever a test, or the command that it calls, makes of signals, the next one finds them as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def need_tool() -> Callable[[str], str]:
    """Finds a program. Without it the test is skipped, or fails in CI."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            needs.missing(name, f"{name} is not installed")
        return path

    return find


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture is made: fixtures of a module also need what their tests need."""
    for ability in needs.ABILITIES:
        if item.get_closest_marker(ability):
            needs.require(ability)
