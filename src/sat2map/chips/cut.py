"""Cutting chips: imagery from a window, the map drawn on its pixels, both into one image."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from sat2map.chips.ground import Place, Sheet
from sat2map.data.images import write_image
from sat2map.errors import DataError
from sat2map.geo.gdal import open_dataset, reading_from
from sat2map.geo.grid import Grid, pixel_steps
from sat2map.raster.resampled import HALF, ResampledScene
from sat2map.raster.scene import Scene
from sat2map.style.render import Drawing, Painter

logger = logging.getLogger(__name__)

Split = Literal["train", "val"]
Reason = Literal["", "nodata", "clouds", "unmapped"]

BATCH = 8
"""Chips that a worker is handed at once."""


@dataclass(frozen=True)
class Chip:
    """A chip that is to be cut.

    Attributes:
        sheet: The place of its sheet in the plan.
        place: Row and column of its upper left pixel on the sheet's grid.
        split: For what it is used.
        name: The stem of its file.
    """

    sheet: int
    place: Place
    split: Split
    name: str


@dataclass(frozen=True)
class Outcome:
    """The result for one chip: written, or why not.

    Attributes:
        chip: The chip, and its place.
        reason: Why it was left out; empty where it was written.
        mapped: Share of its ground on which the map shows anything, 0 to 1.
    """

    chip: Chip
    reason: Reason
    mapped: float


@dataclass(frozen=True)
class Plan:
    """All that a worker is told once: settings, imagery, vectors.

    Attributes:
        directory: The data set.
        sheets: The imagery.
        painters: What draws the map of each sheet.
        size: Side of a chip.
        shift_m: How far the vectors are moved east and north, metres.
        clouds: Rasters that are above 0 where there are clouds.
        min_mapped: Least share of a chip on which the map shows anything.
    """

    directory: Path
    sheets: tuple[Sheet, ...]
    painters: tuple[Painter, ...]
    size: int
    shift_m: tuple[float, float]
    clouds: tuple[Path, ...]
    min_mapped: float


class Cutter:
    """Cuts chips by a plan; use it in a `with` statement."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stack = ExitStack()
        self._views: dict[int, ResampledScene] = {}
        self._clouds: list[Any] = []

    def __enter__(self) -> Cutter:
        for path in self._plan.clouds:
            self._clouds.append(self._stack.enter_context(open_dataset(str(path), path)))
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def cut(self, chip: Chip) -> Outcome:
        """Write a chip to SPLIT/NAME.png, or say why not.

        Raises:
            DataError: The imagery is damaged.
            OutputError: The place is not writable or the disk is full.
        """
        plan = self._plan
        pixels, valid = self.imagery(chip.sheet, chip.place, plan.size, plan.size)
        if not valid.all():
            return Outcome(chip, "nodata", 0.0)
        if self._cloudy(chip):
            return Outcome(chip, "clouds", 0.0)
        drawing = self.draw(chip.sheet, chip.place, plan.size, plan.size)
        mapped = round(drawing.mapped, 4)
        if drawing.mapped < plan.min_mapped or drawing.mapped == 0:
            return Outcome(chip, "unmapped", mapped)
        both = np.hstack([pixels, drawing.image])
        write_image(plan.directory / chip.split / f"{chip.name}.png", both)
        return Outcome(chip, "", mapped)

    def imagery(
        self, sheet: int, place: Place, height: int, width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return pixels of a sheet, uint8 [height,width,3], and where there are any."""
        if sheet not in self._views:
            told = self._plan.sheets[sheet]
            scene = self._stack.enter_context(Scene(told.source, 3, told.reading, say=logger.debug))
            self._views[sheet] = ResampledScene(scene, told.grid.height, told.grid.width)
        return self._views[sheet].read(*place, height, width, min_cover=HALF)

    def thumbnail(self, sheet: int, height: int, width: int) -> Image.Image:
        """Return all of a sheet, smaller, RGBA: transparent where it has no pixels."""
        told = self._plan.sheets[sheet]
        with Scene(told.source, 3, told.reading, say=logger.debug) as scene:
            small = ResampledScene(scene, height, width)
            pixels, valid = small.read(0, 0, height, width, min_cover=HALF)
        return Image.fromarray(np.dstack([pixels, valid.astype(np.uint8) * np.uint8(255)]))

    def draw(self, sheet: int, place: Place, height: int, width: int) -> Drawing:
        """Return the map on the same pixels."""
        grid = self._plan.sheets[sheet].grid
        return self._plan.painters[sheet].draw(
            shifted(grid.part(*place, height, width), grid, self._plan.shift_m)
        )

    def _cloudy(self, chip: Chip) -> bool:
        if not self._clouds:
            return False
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        grid = self._plan.sheets[chip.sheet].grid.part(
            *chip.place, self._plan.size, self._plan.size
        )
        for path, dataset in zip(self._plan.clouds, self._clouds, strict=True):
            with (
                reading_from(path),
                WarpedVRT(
                    dataset,
                    crs=grid.crs,
                    transform=grid.transform,
                    width=grid.width,
                    height=grid.height,
                    resampling=Resampling.max,
                    add_alpha=False,
                ) as seen,
            ):
                if (seen.read(1, masked=True).filled(0) > 0).any():
                    return True
        return False


def shifted(window: Grid, whole: Grid, shift_m: tuple[float, float]) -> Grid:
    """Return the grid on which vectors lie as if they had been moved.

    Args:
        window: The grid wanted.
        whole: The sheet's, at whose centre metres are measured.
        shift_m: How far the vectors move east and north.
    """
    if shift_m == (0.0, 0.0):
        return window
    column, row = np.array(shift_m) @ np.linalg.inv(pixel_steps(whole))
    moved = window.transform @ Affine.translation(-column, -row)
    return Grid(window.height, window.width, moved, window.crs)


def cut_all(
    plan: Plan, chips: Sequence[Chip], workers: int, stop: threading.Event
) -> Generator[Outcome, None, None]:
    """Cut chips, and yield what becomes of them as it does.

    Args:
        plan: Settings, imagery and vectors.
        chips: The chips to cut.
        workers: How many processes; 1 stays in this one.
        stop: Ends it early once it is set.

    Raises:
        DataError: The imagery is damaged, or a worker was killed.
        OutputError: The place is not writable or the disk is full.
    """
    if workers == 1 or len(chips) <= BATCH:
        with Cutter(plan) as cutter:
            for chip in chips:
                if stop.is_set():
                    return
                yield cutter.cut(chip)
        return
    batches = iter([chips[i : i + BATCH] for i in range(0, len(chips), BATCH)])
    context = multiprocessing.get_context("spawn")
    level = logging.getLogger("rasterio").level  # a worker says as much as this process
    pool = ProcessPoolExecutor(workers, context, _begin, (plan, level))
    waiting: deque[Future[list[Outcome]]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(_cut, batch))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
            if stop.is_set():
                break
        while waiting:
            future = waiting.popleft()
            if stop.is_set() and future.cancel():
                continue  # of those that are being cut, it is told what became of them
            yield from future.result()
    except BrokenProcessPool as error:
        if stop.is_set():  # whoever asked this process ended the others
            return
        raise DataError(
            "a process that cuts chips was killed, probably for want of memory",
            where=plan.directory,
            remedy="Run the command again with fewer `workers`; what is done is kept.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_cutters: list[Cutter] = []
"""The one of this process, where it is a worker."""


def _begin(plan: Plan, level: int) -> None:
    logging.getLogger("rasterio").setLevel(level)
    threading.Thread(target=_end_with_parent, name="sat2map-parent", daemon=True).start()
    # Ctrl-C is the first process's affair, and this one is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: TID251
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _cutters.append(Cutter(plan).__enter__())


def _end_with_parent() -> None:
    """End this worker once the first process is gone, which a kill does not let it tell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cut(chips: Sequence[Chip]) -> list[Outcome]:
    return [_cutters[0].cut(chip) for chip in chips]
