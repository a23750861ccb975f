"""Signals set the event that the library is handed, and are given back."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from sat2map.cli.signals import stop_on_signals
from sat2map.errors import StoppedError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_tells_the_exit_code(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(StoppedError) as caught, stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(10)
        raise StoppedError("stopped as asked", where=Path("map.tif"))
    assert caught.value.exit_code == 128 + number
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_second_signal_acts_at_once() -> None:
    # Where the tests run in the background of a shell, Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _signal_twice()
    finally:
        signal.signal(signal.SIGINT, before)


def _signal_twice() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(10)
        pytest.fail("it did not act")


def test_other_threads_leave_the_handlers_alone() -> None:
    seen: list[bool] = []

    def enter() -> None:
        with stop_on_signals() as stop:
            seen.append(stop.is_set())

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [False]
    assert signal.getsignal(signal.SIGINT) is before
