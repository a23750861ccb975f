"""Results made ahead, beside everything else that is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

from sat2map.errors import DataError
from sat2map.serve.pool import Ticket
from sat2map.serve.results import Results


def warm_up(
    results: Results,
    stop: threading.Event,
    progress: Callable[[int, int], None] | None = None,
) -> list[DataError]:
    """Have all windows of a scene made, as idle work, a few at a time.

    Args:
        results: The scene's results.
        stop: Ends it once it is set.
        progress: Called with (done, all) windows.

    Returns:
        What could not be read; the other windows are made.
    """
    windows = results.all_windows()
    failures: list[DataError] = []
    waiting: list[Ticket] = []
    done = results.known_count()

    def finish(count: int) -> None:
        nonlocal done
        while len(waiting) > count and not stop.is_set():
            try:
                waiting[0].future.result(timeout=0.5)
            except TimeoutError:
                continue
            except DataError as error:
                failures.append(error)
            except CancelledError:  # the pool is closed
                stop.set()
                return
            del waiting[0]
            done += 1
            if progress is not None:
                progress(min(done, len(windows)), len(windows))

    for window in windows:
        if stop.is_set():
            break
        try:
            if results.missing([window]):
                waiting.append(results.ask(window, "warming", idle=True))
        except DataError as error:
            failures.append(error)
        finish(3)
    finish(0)
    for ticket in waiting:
        ticket.give_up()
    return failures
