"""Ctrl-C and SIGTERM ask long work to stop where it can go on later; a second one acts at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sat2map.errors import StoppedError


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield the event that asks the library to stop; the first SIGINT or SIGTERM sets it.

    What stops because of it ends the process with 128 and the signal's number. Handlers belong to
    the whole process and its main thread; elsewhere nothing sets the event.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    noted: list[int] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        restore()
        stop.set()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    except StoppedError as error:
        if noted:
            error.exit_code = 128 + noted[0]
        raise
    finally:
        restore()
