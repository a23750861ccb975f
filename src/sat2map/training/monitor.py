"""What can be watched of a run: progress, losses, metrics and grids of images."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.atomic import write_text
from sat2map.closing import Closing
from sat2map.data.images import write_image
from sat2map.errors import writing_to
from sat2map.progress import Progress


class Monitor(Closing):
    """Writes `losses.csv`, `validation.csv`, TensorBoard events and grids into a run folder.

    Args:
        run: The run folder.
        step: How many steps are done already; later lines of an interrupted run are dropped.
        steps: How many steps the run has.
        progress: Shows how far the run is.
    """

    def __init__(self, run: Path, step: int, steps: int, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._run = run
        self._progress = progress
        self._steps = steps
        self._since = (time.monotonic(), step)
        for name in ("losses.csv", "validation.csv"):
            _drop_after(run / name, step)
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
        progress.show(step, steps)

    def close(self) -> None:
        """End the TensorBoard events."""
        self._writer.close()

    def step(self, step: int) -> None:
        """Say that a step is done."""
        self._progress.show(step, self._steps)

    def say(self, line: str) -> None:
        """Show a line to people."""
        self._progress.say(line)

    def losses(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Write the mean losses of the steps since the last call."""
        now = time.monotonic()
        then, before = self._since
        self._since = (now, step)
        rate = (step - before) / max(now - then, 1e-9)
        line = dict(values) | {"steps_per_second": rate}
        self._write("losses.csv", step, epoch, line)
        self._progress.note(" ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def validation(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Write the metrics of a validation."""
        self._write("validation.csv", step, epoch, values)
        self._since = (time.monotonic(), step)

    def grid(self, step: int, epoch: int, rows: list[tuple[NDArray[np.uint8], ...]]) -> None:
        """Write source, generated and target of some images side by side.

        Args:
            step: How many steps are done.
            epoch: The epoch that names the file.
            rows: For each image its three views, uint8 [H,W,3], all of one size; without
                any there is no grid.
        """
        if not rows:
            return
        image = np.vstack([np.hstack(row) for row in rows])
        write_image(self._run / "grids" / f"epoch-{epoch:04d}.png", image)
        self._writer.add_image("pictures", image, step, dataformats="HWC")
        self._since = (time.monotonic(), step)

    def _write(self, file: str, step: int, epoch: int, values: Mapping[str, float]) -> None:
        _append(
            self._run / file,
            {"step": str(step), "epoch": str(epoch)}
            | {name: f"{value:.6g}" for name, value in values.items()},
        )
        group = file.removesuffix(".csv")
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)


def _append(path: Path, line: dict[str, str]) -> None:
    """Add a line to a CSV file; a name that is new, or absent this time, keeps its column."""
    lines = _read(path)
    columns = list(dict.fromkeys([*(lines[0] if lines else ()), *line]))
    if lines and columns == list(lines[0]):
        with writing_to(path), path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, columns).writerow(line)
    else:
        _rewrite(path, columns, [*lines, line])


def _drop_after(path: Path, step: int) -> None:
    """Keep only the whole lines of a CSV file up to a step."""
    lines = _read(path)
    kept = [line for line in lines if line["step"].isdigit() and int(line["step"]) <= step]
    if kept:
        _rewrite(path, list(lines[0]), kept)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        # A line that a kill cut short has None for what it lacks.
        return [line for line in csv.DictReader(stream) if None not in line.values()]


def _rewrite(path: Path, columns: list[str], lines: list[dict[str, str]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, stream.getvalue())
