"""The bar that `progress.py` shows on a terminal; nothing else needs rich for it."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sat2map.progress import count_text, rate_text


class _Rate(ProgressColumn):
    def __init__(self, pixels: bool) -> None:
        super().__init__()
        self._pixels = pixels

    def render(self, task: Task) -> Text:
        told = "" if task.speed is None else rate_text(task.speed, self._pixels)
        return Text(told, style="cyan")


class _Megapixels(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = None if task.total is None else int(task.total)
        return Text(count_text(int(task.completed), total, pixels=True), style="green")


def progress_bar(pixels: bool) -> Progress:
    """Return a bar on stderr, whose tasks have a field `note`.

    Args:
        pixels: What is counted are pixels, shown as megapixels.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Megapixels() if pixels else MofNCompleteColumn(),
        _Rate(pixels),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=Console(stderr=True),
        speed_estimate_period=120,
    )
