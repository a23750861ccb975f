"""How far long work is: a bar on a terminal, plain lines elsewhere, nothing when quiet.

Everything goes to stderr; results belong to stdout.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

PLAIN_SECONDS = 15.0

MILLIONS = {"pixels": "Mpx", "bytes": "MB"}
"""Units that are shown in millions."""


def count_text(done: int, total: int | None, unit: str) -> str:
    """Return how much is done, of how much."""
    if unit == "%":
        return "" if not total else f"{done / total:.0%}"
    if unit in MILLIONS:
        of = "" if total is None else f"/{total / 1e6:.1f}"
        return f"{done / 1e6:.1f}{of} {MILLIONS[unit]}"
    return f"{done}{'' if total is None else f'/{total}'} {unit}".rstrip()


def rate_text(rate: float, unit: str) -> str:
    """Return how much is done in a second; of a share that says no more than the time left."""
    if unit == "%":
        return ""
    if unit in MILLIONS:
        return f"{rate / 1e6:.3g} {MILLIONS[unit]}/s"
    return f"{rate:.3g} {unit}/s" if unit else f"{rate:.3g}/s"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Shows the progress of one piece of work.

    Args:
        title: What is being done.
        quiet: Show nothing.
        unit: What is counted, such as "pairs"; pixels and bytes are shown in millions, and "%"
            shows the share of the total alone.
    """

    def __init__(self, title: str, *, quiet: bool = False, unit: str = "") -> None:
        self._title = title
        self._unit = unit
        self._quiet = quiet
        self._note = ""
        self._began: tuple[float, int] | None = None
        self._spoke = 0.0
        self._bar: RichProgress | None = None
        if not quiet and sys.stderr.isatty():
            from sat2map.progress_bar import progress_bar  # a tenth of a second

            self._bar = progress_bar(partial(count_text, unit=unit), partial(rate_text, unit=unit))
            self._task = self._bar.add_task(title, total=None, note="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *details: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int | None) -> None:
        """Say how much is done, of how much."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif not self._quiet:
            self._speak(done, total)

    def note(self, text: str) -> None:
        """Show a few words beside the bar, or in the next line."""
        self._note = text
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def say(self, line: str) -> None:
        """Print a line of its own above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def _speak(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
        if now - self._spoke < PLAIN_SECONDS and done != total:
            return
        self._spoke = now
        began, first = self._began
        rate = (done - first) / (now - began) if now > began else 0.0
        told = [count_text(done, total, self._unit)]
        if rate > 0:
            told.append(rate_text(rate, self._unit))
            if total is not None and done < total:
                left = (total - done) / rate
                told.append(f"{_time(left)} left")
        line = f"{self._title}: {', '.join(filter(None, told))}"
        print(f"{line} {self._note}".rstrip(), file=sys.stderr, flush=True)
