"""Signals: they end the command once, are deferred where needed, and never interrupt what must be complete."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from streamerge.signals import (
    end_on_signals,
    exit_on_interrupt,
    ignore_signals,
    point_of_no_return,
    raise_again,
    signals_wait,
    undone_on_error,
)

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def _as_at_the_start() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class TestEndOnSignals:
    @pytest.mark.parametrize("number", ALL)
    def test_unwinds_like_an_error(self, number: signal.Signals) -> None:
        end_on_signals()
        with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
            signal.raise_signal(number)
        assert getattr(caught.value, "code", None) == CODES.get(number)

    def test_a_second_one_is_ignored(self) -> None:
        end_on_signals()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        for number in ALL:
            signal.raise_signal(number)

    def test_what_was_ignored_stays_so(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        end_on_signals()
        signal.raise_signal(signal.SIGHUP)

    def test_ignore_signals(self) -> None:
        end_on_signals()
        ignore_signals()
        for number in ALL:
            signal.raise_signal(number)

    @pytest.mark.parametrize("number", ALL)
    def test_what_python_drops_is_raised_again(self, number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
        """Regression, found by signals at random times: in an import's callback a signal only printed a traceback."""
        end_on_signals()
        with pytest.raises((KeyboardInterrupt, SystemExit)) as first:
            signal.raise_signal(number)
        raise_again(SimpleNamespace(exc_value=first.value))
        with pytest.raises((KeyboardInterrupt, SystemExit)) as again:
            time.sleep(10)
        assert type(again.value) is type(first.value)
        assert again.value.args == first.value.args
        assert capfd.readouterr() == ("", "")

    def test_it_is_deferred_while_signals_wait(self) -> None:
        """Regression: raised again while an output was created, it left the output behind."""
        done = False
        raise_again(SimpleNamespace(exc_value=KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt), signals_wait():  # noqa: PT012
            time.sleep(0.1)
            done = True
        assert done

    def test_other_errors_that_python_drops_are_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reported: list[object] = []
        monkeypatch.setattr(sys, "__unraisablehook__", reported.append)
        dropped = SimpleNamespace(exc_value=ValueError())
        raise_again(dropped)
        assert reported == [dropped]


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_exit_on_interrupt(handler: signal.Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    signal.signal(signal.SIGINT, handler)
    exit_on_interrupt(130)
    signal.raise_signal(signal.SIGINT)
    assert codes == ([] if handler is signal.SIG_IGN else [130])


class TestSignalsWait:
    def test_until_the_block_is_over(self) -> None:
        done = False
        with pytest.raises(KeyboardInterrupt), signals_wait():  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done = True
        assert done

    def test_until_the_outermost_is_over(self) -> None:
        done = False
        with pytest.raises(KeyboardInterrupt), signals_wait():  # noqa: PT012
            with signals_wait():
                signal.raise_signal(signal.SIGINT)
            done = True
        assert done

    def test_also_after_an_error(self) -> None:
        with pytest.raises(KeyboardInterrupt) as caught, signals_wait():  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            raise ValueError
        assert isinstance(caught.value.__context__, ValueError)

    def test_handlers_are_what_they_were(self) -> None:
        before = [signal.getsignal(number) for number in ALL]
        with signals_wait():
            assert signal.getsignal(signal.SIGINT) is not before[0]
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert [signal.getsignal(number) for number in ALL] == before

    def test_does_nothing_in_a_thread(self) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with signals_wait():
                    pass
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert errors == []


class TestPointOfNoReturn:
    def test_before_it_a_signal_ends_the_command(self) -> None:
        end_on_signals()
        with pytest.raises(ValueError, match="no"), point_of_no_return():
            raise ValueError("no")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    @pytest.mark.parametrize("when", ["within", "after"])
    def test_after_it_signals_are_ignored(self, when: str) -> None:
        end_on_signals()
        with point_of_no_return():
            if when == "within":
                signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    def test_until_the_next_command_begins(self) -> None:
        end_on_signals()
        with point_of_no_return():
            pass
        end_on_signals()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    def test_in_other_programs_signals_are_only_deferred(self) -> None:
        with pytest.raises(KeyboardInterrupt), point_of_no_return():
            signal.raise_signal(signal.SIGINT)


class TestUndoneOnError:
    def test_not_without_one(self) -> None:
        undone: list[int] = []
        with undone_on_error(lambda: 7, undone.append) as made:
            assert made == 7
        assert undone == []

    def test_on_an_error(self) -> None:
        undone: list[int] = []
        with pytest.raises(ValueError, match="no"), undone_on_error(lambda: 7, undone.append):
            raise ValueError("no")
        assert undone == [7]

    def test_on_a_signal_while_it_is_made(self) -> None:
        """Regression, found by signals at random times: one in a hundred left an empty partial directory."""
        undone: list[str] = []

        def make() -> str:
            signal.raise_signal(signal.SIGINT)
            return "made"

        with pytest.raises(KeyboardInterrupt), undone_on_error(make, undone.append):
            pass
        assert undone == ["made"]

    def test_nothing_has_been_made(self) -> None:
        undone: list[int] = []
        with pytest.raises(ZeroDivisionError), undone_on_error(lambda: 1 // 0, undone.append):
            pass
        assert undone == []

    def test_a_long_make_can_be_interrupted(self) -> None:
        after: list[bool] = []

        def make() -> None:
            signal.raise_signal(signal.SIGINT)
            after.append(True)

        with pytest.raises(KeyboardInterrupt), undone_on_error(make, lambda _: None, at_once=False):
            pass
        assert after == []
