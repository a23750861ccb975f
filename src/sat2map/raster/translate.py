"""Translating a georeferenced scene: read, translate, blend, write, all at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

import sat2map
from sat2map.errors import DataError, UsageError
from sat2map.legend import Legend
from sat2map.networks.values import round_picture
from sat2map.raster.blend import blend
from sat2map.raster.gdal import is_address, settings
from sat2map.raster.grid import Grid
from sat2map.raster.opening import Source
from sat2map.raster.options import SceneOptions
from sat2map.raster.pipeline import ahead, behind
from sat2map.raster.placement import Placement, placements
from sat2map.raster.resample import resample
from sat2map.raster.scale import Scale, choose_scale
from sat2map.raster.sink import TILE, Sink, check_name, whole_map
from sat2map.raster.source import Scene
from sat2map.raster.view import View
from sat2map.translation.picture import compare_name, fill_nearest, legend_of, three_bands
from sat2map.translation.translator import MAX_PUBLISHED_PIXELS, Translator

PIECE = 4 * TILE
"""Side of what is resampled and written at once, in pixels of the map."""


def translate_raster(
    input: Source,
    output: str | Path,
    translator: Translator,
    options: SceneOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Translate a scene of any size into a map with the same georeference, in flat memory.

    The scene is read at a ground resolution that the model knows, in windows that overlap;
    what has no values is filled from the nearest that has, and beyond the edges the scene is
    mirrored. The answers are blended, resampled to the map's resolution and written block by
    block. Reading, translating and writing go on at the same time.

    Args:
        input: Any one raster that GDAL opens (GeoTIFF, COG, JPEG 2000, VRT), an address
            (https://, /vsicurl/), a folder of adjoining scenes, which is read as one mosaic, or
            a tree of tiles, FOLDER or FOLDER/{z}/{x}/{y}.png, of which the finest is read.
        output: .tif becomes a Cloud Optimized GeoTIFF with overviews and mask; .png and .jpg a
            picture with a world file.
        translator: The model.
        options: How.
        progress: Called with (done, all) pixels of the map.

    Returns:
        `output`.

    Raises:
        DataError: The scene cannot be read, or has no valid pixel.
        UsageError: The options do not fit the scene or the model.
        OutputError: The place is not writable or the disk is full.
    """
    target, options = Path(output), options or SceneOptions()
    legend = legend_of(translator) if options.legend_colours else None
    check_name(target)
    with ExitStack() as stack:
        stack.enter_context(settings(remote=is_address(input)))
        bands = len(translator.card.bands)
        scene = stack.enter_context(Scene(input, bands, options.reading))
        source = scene.opening.where
        _check_target(target, scene)
        scale = choose_scale(scene.grid, translator.card.resolution_m, options.resolution, source)
        # A second handle: the first is read ahead by another thread, and GDAL's are for one.
        again = stack.enter_context(scene.twin())
        shown = View(again, *scale.written)
        work = _Work(translator, View(scene, *scale.seen), shown, options, legend)
        open_map = partial(
            whole_map, masked=scene.masked, tags=_tags(translator, scene, scale, options)
        )
        sinks = [stack.enter_context(open_map(target, shown.grid, flat=legend is not None))]
        if options.compare:
            pair = Grid(shown.grid.height, 2 * shown.grid.width, Affine.identity(), None)
            sinks.append(stack.enter_context(open_map(compare_name(target), pair, flat=False)))
        work.run(sinks, target, progress)
        if not work.some:
            raise DataError(
                "has no valid pixel, only nodata",
                where=source,
                remedy="Give another scene, or another --bbox.",
            )
    return target


class _Work:
    """One scene on its way.

    Args:
        translator: The model.
        seen: What the network sees.
        shown: The scene on the map's grid.
        options: How.
        legend: Whose colours the map gets, if any.
    """

    def __init__(
        self,
        translator: Translator,
        seen: View,
        shown: View,
        options: SceneOptions,
        legend: Legend | None,
    ) -> None:
        self._translator = translator
        self._seen = seen
        self._shown = shown
        self._options = options
        self._legend = legend
        self.some = False
        sizes = (seen.grid.height, seen.grid.width)
        written = (shown.grid.height, shown.grid.width)
        self._rows, self._columns = (
            self._placements(size, wanted) for size, wanted in zip(sizes, written, strict=True)
        )

    def _placements(self, seen: int, written: int) -> list[Placement]:
        multiple = self._translator.multiple
        window, overlap = max(self._options.window, 2), self._options.overlap
        if self._options.published:
            grid = self._seen.grid
            if grid.height * grid.width > MAX_PUBLISHED_PIXELS:
                raise UsageError(
                    f"{grid.width} x {grid.height} pixels are too many to be predicted as "
                    "published, which takes the whole scene at once",
                    remedy="Predict deterministically, or give a --bbox.",
                )
            window, overlap = seen, 0
        window = math.ceil(window / multiple) * multiple
        return placements(seen, written, window, overlap, multiple, TILE)

    def run(
        self, sinks: list[Sink], target: Path, progress: Callable[[int, int], None] | None
    ) -> None:
        """Translate all windows into the map's sink, and into that of the comparison."""
        done, total = 0, self._shown.grid.height * self._shown.grid.width
        with behind(partial(self._write, sinks, target.parent)) as hand_over:
            for row, column, pixels in ahead(self._windows()):
                hand_over(None if pixels is None else self._answer(pixels, target))
                if progress is not None:
                    done += (row.last - row.first) * (column.last - column.first)
                    progress(done, total)

    def _windows(self) -> Iterator[tuple[Placement, Placement, NDArray[np.uint8] | None]]:
        for row in self._rows:
            for column in self._columns:
                pixels, valid = self._seen.read(
                    row.span.start, column.span.start, row.span.size, column.span.size
                )
                self.some = self.some or bool(valid.any())
                yield row, column, fill_nearest(pixels, valid) if valid.any() else None

    def _answer(self, pixels: NDArray[np.uint8], target: Path) -> NDArray[np.float32]:
        if self._options.published:
            result = self._translator.translate(pixels, published=True, seed=self._options.seed)
            values = result.astype(np.float32) / 127.5 - 1
        else:
            values = self._translator.predict(pixels)
        if values.shape[2] != 3:
            raise UsageError(
                f"the result has {values.shape[2]} bands, but a map has 3",
                where=target,
                remedy="Use a model whose targets are RGB pictures.",
            )
        return values

    def _write(
        self, sinks: list[Sink], scratch: Path, answers: Iterator[NDArray[np.float32] | None]
    ) -> None:
        for row, column, values in blend(self._rows, self._columns, answers, 3, scratch):
            for top in range(row.first, row.last, PIECE):
                for left in range(column.first, column.last, PIECE):
                    bottom, right = min(top + PIECE, row.last), min(left + PIECE, column.last)
                    vertical = row.matrix[top - row.first : bottom - row.first]
                    horizontal = column.matrix[left - column.first : right - column.first]
                    self._write_piece(sinks, top, left, resample(vertical, values, horizontal))

    def _write_piece(
        self, sinks: list[Sink], top: int, left: int, values: NDArray[np.float32]
    ) -> None:
        pixels = round_picture(values)
        if self._legend is not None:
            pixels = self._legend.paint(self._legend.label(pixels))
        height, width, _ = pixels.shape
        if len(sinks) == 1:
            sinks[0].write(top, left, pixels, self._shown.valid(top, left, height, width))
            return
        photo, valid = self._shown.look(top, left, height, width)
        sinks[0].write(top, left, pixels, valid)
        sinks[1].write(top, left, three_bands(photo), valid)
        sinks[1].write(top, left + self._shown.grid.width, pixels, valid)


def _check_target(target: Path, scene: Scene) -> None:
    """Refuse a map that would overwrite what it is made of."""
    known = scene.opening.files
    files = known if scene.opening.folder else [*known, *map(Path, scene.dataset.files)]
    if any(_same(target, file) for file in files):
        raise UsageError("is the input itself", where=target, remedy="Choose another name.")
    folder = scene.opening.folder
    if folder is not None and target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"lies in the input's folder {folder}, as if it were a part of it",
            where=target,
            remedy="Choose a place outside.",
        )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or (
        one.exists() and other.exists() and one.samefile(other)
    )


def _tags(
    translator: Translator, scene: Scene, scale: Scale, options: SceneOptions
) -> dict[str, str]:
    """Return what a map says of its making."""
    ranges = scene.value_range
    parameters: dict[str, Any] = {
        "source": scene.opening.name,
        "bands": list(scene.bands),
        "value_range": None if ranges is None else [[float(f"{v:.6g}") for v in r] for r in ranges],
        "scene_m": None if scale.ground is None else [round(v, 6) for v in scale.ground],
        "seen_m": None if scale.seen_m is None else round(scale.seen_m, 6),
        "resolution": options.resolution,
        "bbox": options.reading.bbox,
        "mode": f"as published, seed {options.seed}" if options.published else "deterministic",
        "window": options.window,
        "overlap": options.overlap,
        "legend_colours": options.legend_colours,
    }
    return {
        "TIFFTAG_SOFTWARE": f"sat2map {sat2map.__version__}",
        "SAT2MAP_VERSION": sat2map.__version__,
        "SAT2MAP_MODEL": translator.name,
        "SAT2MAP_PARAMETERS": json.dumps(parameters),
    }
