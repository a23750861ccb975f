"""The bar that `progress.py` shows on a terminal; nothing else needs rich for it."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def __init__(self, told: Callable[[float], str]) -> None:
        super().__init__()
        self._told = told

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else self._told(task.speed), style="cyan")


class _Count(ProgressColumn):
    def __init__(self, told: Callable[[int, int | None], str]) -> None:
        super().__init__()
        self._told = told

    def render(self, task: Task) -> Text:
        total = None if task.total is None else int(task.total)
        return Text(self._told(int(task.completed), total), style="green")


def progress_bar(count: Callable[[int, int | None], str], rate: Callable[[float], str]) -> Progress:
    """Return a bar on stderr, whose tasks have a field `note`.

    Args:
        count: Says how much is done, of how much.
        rate: Says how much a second.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Count(count),
        _Rate(rate),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=Console(stderr=True),
        speed_estimate_period=120,
    )
