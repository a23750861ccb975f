"""How far long work is: a bar on a terminal, plain lines elsewhere, nothing when quiet.

Everything goes to stderr; results belong to stdout.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

PLAIN_SECONDS = 15.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s", style="cyan")


class Progress:
    """Shows the progress of one piece of work.

    Args:
        title: What is being done.
        quiet: Show nothing.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet
        self._note = ""
        self._began: tuple[float, int] | None = None
        self._spoke = 0.0
        self._bar: RichProgress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
                console=Console(stderr=True),
                speed_estimate_period=120,
            )
            self._task = self._bar.add_task(title, total=None, note="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        line = f"{self._title}: {done}" if total is None else f"{self._title}: {done}/{total}"
        if rate > 0:
            line += f", {rate:.3g}/s"
            if total is not None and done < total:
                left = (total - done) / rate
                line += f", {left // 60:.0f} min {left % 60:.0f} s left"
        print(f"{line} {self._note}".rstrip(), file=sys.stderr, flush=True)
