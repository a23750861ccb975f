"""A class map of any size, read window by window: class numbers, and how sure they are.

A class map is a raster of one band. What its values mean says its tag `SAT2MAP_LEGEND`, which
`translate` writes for its `classes`, or a legend that is given: a JSON list of {name, colour, role}
as in `legend.json`, whose entries may have a `value` where the raster's values are not 0, 1, 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from sat2map.errors import DataError, UsageError, parsed_json
from sat2map.geo.gdal import reading_from
from sat2map.geo.grid import Grid, ground_resolution
from sat2map.legend import LEGEND_TAG, LEGENDS, ROAD_WIDTH_TAG, TEMPERATURE_TAG, Legend
from sat2map.provenance import TAG, Provenance
from sat2map.raster.georeference import grid_of, placed
from sat2map.raster.sources import Source, open_source
from sat2map.translation.maps import calibrated

NOTHING = 255
"""Stands in arrays of class numbers where there is no map."""

_VALUES = 1 << 16
_REMEDY = (
    "Give a legend, a JSON list of the classes in the order of their numbers, such as "
    '[{"name": "land", "colour": [244, 241, 234], "role": "land"}].'
)


class ClassMap:
    """A class map that is open; `open_class_map` makes it.

    Attributes:
        where: What messages call it.
        grid: Its pixels on the ground.
        legend: What its numbers mean.
        metres: Metres on the ground from pixel to pixel, (along a row, along a column).
        attribution: Whom those who show it are to name, as its tags say, or None.
        provenance: What it was made of and how, as its tags say, or None.
        width_is_true: Whether roads are as wide as roads are, as its tags say, and not as drawn.
    """

    def __init__(
        self,
        dataset: Any,
        grid: Grid,
        where: str | Path,
        legend: Legend,
        values: tuple[int, ...],
        confidence: Any = None,
        probabilities: Any = None,
        min_confidence: float = 0.0,
    ) -> None:
        metres = ground_resolution(grid)
        if metres is None:
            raise DataError(
                "does not say where on the ground it lies, so nothing can be measured",
                where=where,
                remedy="Give it coordinates first, for example with: gdal_translate -a_srs "
                "EPSG:CODE -a_ullr WEST NORTH EAST SOUTH OLD.tif NEW.tif.",
            )
        self.where, self.grid, self.legend, self.metres = where, grid, legend, metres
        self.attribution: str | None = dataset.tags().get("TIFFTAG_COPYRIGHT")
        self.provenance = Provenance.from_text(dataset.tags().get(TAG), where)
        self.width_is_true = ROAD_WIDTH_TAG in dataset.tags()
        self._dataset, self._confidence, self._shares = dataset, confidence, probabilities
        self._min_confidence = min_confidence
        told = {} if probabilities is None else probabilities.tags()
        self._temperature = float(told.get(TEMPERATURE_TAG, 1.0))
        self._numbers = np.full(_VALUES, NOTHING, np.uint8)
        self._numbers[list(values)] = np.arange(len(values))
        self._known = np.zeros(_VALUES, np.bool_)
        self._known[list(values)] = True

    def read(self, row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return class numbers, uint8 [height,width]; `NOTHING` outside and where there is no map.

        Raises:
            DataError: It cannot be read, or has a value that the legend lacks.
        """
        found = np.full((height, width), NOTHING, np.uint8)
        inside = _inside(self.grid, row, column, height, width)
        if inside is None:
            return found
        window, rows, columns = inside
        with reading_from(self.where):
            values = self._dataset.read(1, window=window)
            valid = self._dataset.read_masks(1, window=window) != 0
        if values.dtype.kind == "f":
            valid &= np.isfinite(values)
        whole = place = values
        if values.dtype != np.uint8:  # most maps are of bytes, which take eight times less room
            whole = np.where(valid, values, 0).astype(np.int64)
            place = np.clip(whole, 0, _VALUES - 1)
        wrong = valid & ~(self._known[place] & (place == whole))
        if wrong.any():
            unknown = sorted({int(value) for value in np.unique(whole[wrong])})
            raise DataError(
                f"has the value {unknown[0]}, which its legend of {len(self.legend)} classes lacks",
                where=self.where,
                remedy="Give a legend that has it, or make it the raster's nodata value.",
            )
        found[rows, columns] = np.where(valid, self._numbers[place], NOTHING)
        if self._min_confidence > 0:
            sure = self.read_confidence(row, column, height, width)
            assert sure is not None  # or it had been refused
            found[sure < self._min_confidence] = NOTHING
        return found

    @property
    def knows_confidence(self) -> bool:
        """Whether there is a raster of confidence or of probabilities beside it."""
        return self._confidence is not None or self._shares is not None

    def read_confidence(
        self, row: int, column: int, height: int, width: int
    ) -> NDArray[np.float32] | None:
        """Return how likely the class of each pixel is right, float32 [height,width], 0 to 1.

        It is nan where nothing tells.
        """
        if not self.knows_confidence:
            return None
        found = np.full((height, width), np.nan, np.float32)
        inside = _inside(self.grid, row, column, height, width)
        if inside is None:
            return found
        window, rows, columns = inside
        if self._confidence is None:
            with reading_from(self._shares.name):
                shares = self._shares.read(window=window)
            largest = shares.max(axis=0)
            sure = np.where(largest > 0, _unit(calibrated(largest, self._temperature)), np.nan)
        else:
            with reading_from(self._confidence.name):
                values = self._confidence.read(1, window=window)
                valid = self._confidence.read_masks(1, window=window) != 0
            sure = np.where(valid, _unit(values), np.nan)
        found[rows, columns] = sure
        return found

    @property
    def knows_roads(self) -> bool:
        """Whether there is a raster of probabilities beside it."""
        return self._shares is not None

    def read_roads(self, row: int, column: int, height: int, width: int) -> NDArray[np.float32]:
        """Return the probability of a road, float32 [height,width], 0 to 1; 0 outside.

        It is that of all roads together where there is a raster of probabilities. Of a class map
        alone it is 1 where the class is a road.
        """
        if self._shares is None:
            numbers = self.read(row, column, height, width)
            is_road = np.zeros(256, np.float32)
            is_road[: len(self.legend)] = self.legend.roads
            return is_road[numbers]
        found = np.zeros((height, width), np.float32)
        inside = _inside(self.grid, row, column, height, width)
        if inside is not None:
            window, rows, columns = inside
            roads = (np.flatnonzero(self.legend.roads) + 1).tolist()
            found[rows, columns] = self._read_shares(window, roads).sum(axis=0)
        return found

    def _read_shares(self, window: Window, bands: list[int] | None = None) -> NDArray[np.float32]:
        """Return probabilities of some classes, or of all, float32 [classes,height,width]."""
        with reading_from(self._shares.name):
            return np.nan_to_num(_unit(self._shares.read(bands, window=window)))


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as 0 to 1, of which those of 8 bits have 255 for 1."""
    top = np.float32(255 if values.dtype == np.uint8 else 1)
    scaled: NDArray[np.float32] = values.astype(np.float32) / top
    return scaled


def _inside(
    grid: Grid, row: int, column: int, height: int, width: int
) -> tuple[Window, slice, slice] | None:
    """Return the part of a window that lies in the scene, and where it lies in the window."""
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + height, grid.height), min(column + width, grid.width)
    if top >= bottom or left >= right:
        return None
    window = Window(left, top, right - left, bottom - top)
    return window, slice(top - row, bottom - row), slice(left - column, right - column)


@contextmanager
def open_class_map(
    source: str | Path | Source,
    *,
    legend: str | Path | Legend | None = None,
    confidence: str | Path | None = None,
    probabilities: str | Path | None = None,
    min_confidence: float = 0.0,
) -> Iterator[ClassMap]:
    """Open a class map.

    Args:
        source: A raster of one band of whole numbers.
        legend: What its numbers mean: a legend, "cover", "map", or a JSON file. None takes what
            the raster's tag says.
        confidence: A raster on the same grid, float 0 to 1 or uint8 0 to 255.
        probabilities: A raster on the same grid with a band for each class of the legend, uint8, 0
            to 1 as 0 to 255: how likely it is.
        min_confidence: What is less sure than this is read as where there is no map.

    Raises:
        DataError: It is not a class map, says no legend, or lies nowhere.
        UsageError: The rasters do not go together.
    """
    if min_confidence > 0 and confidence is None and probabilities is None:
        raise UsageError(
            "nothing tells how sure the classes are",
            parameter="min_confidence",
            remedy="Give `confidence`, too.",
        )
    opened = open_source(source)
    dataset = placed(opened.open(), None, opened.where, lambda _: None)
    beside: list[Any] = []
    try:
        check_is_class_map(dataset, opened.where)
        known, values = _legend_of(dataset, legend, opened.where)
        grid = grid_of(dataset)
        for name, path, bands in (
            ("confidence", confidence, 1),
            ("probabilities", probabilities, len(known)),
        ):
            beside.append(None if path is None else open_source(path).open())
            if beside[-1] is None:
                continue
            if beside[-1].shape != dataset.shape or beside[-1].count < bands:
                raise UsageError(
                    f"{path} has other pixels than {opened.where}",
                    parameter=name,
                    remedy="Give the raster that was written beside the class map.",
                )
        sure, shares = beside
        yield ClassMap(dataset, grid, opened.where, known, values, sure, shares, min_confidence)
    finally:
        for file in (dataset, *beside):
            if file is not None:
                file.close()


def check_is_class_map(dataset: Any, where: str | Path) -> None:
    """Refuse a raster that is not one of class numbers.

    Raises:
        DataError: It has several bands, or values that are not whole numbers.
    """
    if dataset.count != 1 or np.dtype(dataset.dtypes[0]).kind not in "ui":
        raise DataError(
            f"is not a class map: it has {dataset.count} band{'s' * (dataset.count != 1)} of "
            f"{dataset.dtypes[0]}",
            where=where,
            remedy="Give a raster of one band of class numbers, as `sat2map translate` writes it "
            "for `classes`.",
        )


def _legend_of(
    dataset: Any, given: str | Path | Legend | None, where: str | Path
) -> tuple[Legend, tuple[int, ...]]:
    """Return the legend of a class map, and the values of the classes in its order."""
    if isinstance(given, Legend):
        return given, tuple(range(len(given)))
    if given is not None:
        if str(given) in LEGENDS:
            known = LEGENDS[str(given)]
            return known, tuple(range(len(known)))
        return read_legend(Path(given))
    text = dataset.tags().get(LEGEND_TAG)
    if text is None:
        raise DataError("does not say what its values mean", where=where, remedy=_REMEDY)
    try:
        known = Legend.from_json(parsed_json(text))
    except (ValueError, DataError) as error:
        raise DataError(
            f"has a tag {LEGEND_TAG} that is not a legend", where=where, remedy=_REMEDY
        ) from error
    return known, tuple(range(len(known)))


def read_legend(path: Path) -> tuple[Legend, tuple[int, ...]]:
    """Read a legend and the values of its classes from a JSON file.

    An entry may have a `value`; without one it is its place in the list.

    Raises:
        DataError: It cannot be read, or is not a legend.
    """
    try:
        entries = parsed_json(path.read_text(encoding="utf-8"))
        legend = Legend.from_json(entries)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read ({getattr(error, 'strerror', None) or error})",
            where=path,
            remedy=_REMEDY,
        ) from error
    except DataError as error:
        raise DataError(error.what, where=path, remedy=error.remedy) from error
    values = tuple(
        entry.get("value", place) if isinstance(entry, Mapping) else place
        for place, entry in enumerate(entries)
    )
    whole = all(type(value) is int and 0 <= value < _VALUES for value in values)
    if not whole or len(set(values)) < len(values):
        raise DataError(
            "has a class whose value is not a whole number of its own",
            where=path,
            remedy=f"Give each class another value, 0 to {_VALUES - 1}, or none.",
        )
    return legend, values
