"""Some sheets of a scene made into vectors again, for whoever compares them with a file.

    +-------+-------+-------+-------+
    |   .   |   .   |   .   |       |     X   a chosen sheet: its polygons are made
    +-------+-------+-------+-------+     .   is only sieved, since X looks over its edges
    |   .   |   X   |   .   |       |
    +-------+-------+-------+-------+
    |   .   |   .   |   .   |       |
    +-------+-------+-------+-------+

The polygons of a sheet follow from it and its neighbours alone. Roads do not: they are a network
over all sheets. Nor does a building that reaches into a sheet that is not chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from sat2map.geo.grid import Grid, Part
from sat2map.memory import give_back_memory
from sat2map.provenance import Provenance
from sat2map.vectors.class_map import ClassMap
from sat2map.vectors.coverage import MARGINS, Sheet, lay_sheets
from sat2map.vectors.formats import Placing, crs_of
from sat2map.vectors.geopackage import layers_of
from sat2map.vectors.measures import Measures
from sat2map.vectors.network import RoadNetwork
from sat2map.vectors.sieve import MINIMUM_M2
from sat2map.vectors.store import open_store
from sat2map.vectors.vectorise import (
    SIEVE_MARGIN,
    VectorOptions,
    sieved_sheet,
    store_sheet,
    write_layers,
)

LAYERS = ("coverage", "buildings")
"""Layers whose shapes follow from a sheet."""

_NEAR = 0.1
"""Pixels from a sheet's edge at which a shape counts as reaching it: coordinates may be rounded."""


@dataclass(frozen=True)
class Sheets:
    """Some sheets of a scene.

    Attributes:
        grid: The class map's pixels on the ground.
        side: Of a whole sheet, in pixels.
        every: All sheets.
        chosen: Those that are made again, in their order.
    """

    grid: Grid
    side: int
    every: Sequence[Sheet]
    chosen: Sequence[Sheet]

    @staticmethod
    def of(grid: Grid, side: int) -> Sheets:
        """Return all sheets of a scene, all of them chosen."""
        every = tuple(lay_sheets(grid.height, grid.width, side))
        return Sheets(grid, side, every, every)

    @property
    def is_whole(self) -> bool:
        """Whether all sheets are chosen."""
        return len(self.chosen) == len(self.every)

    def sieved(self) -> list[Sheet]:
        """Return the sheets that the chosen ones look at, themselves among them."""
        boxes = [_around(sheet, MARGINS[-1]) for sheet in self.chosen]
        return [one for one in self.every if any(_around(one, 0).overlaps(box) for box in boxes)]

    def parts(self) -> list[Part]:
        """Return the pixels that are looked at; they may reach beyond the scene."""
        return [_around(sheet, SIEVE_MARGIN) for sheet in self.sieved()]

    def bounds(self, sheet: Sheet, crs: str) -> tuple[float, float, float, float]:
        """Return the bounds of a sheet in the coordinates of a file.

        Args:
            sheet: The sheet.
            crs: The file's, as PROJ reads it.
        """
        box = shapely.box(
            sheet.column, sheet.row, sheet.column + sheet.width, sheet.row + sheet.height
        )
        way = self._way(crs)
        edge = np.array(
            self.grid.transform @ shapely.get_coordinates(shapely.segmentize(box, 64)).T
        )
        x, y = edge if way is None else way.transform(*edge)
        low_x, low_y, high_x, high_y = np.min(x), np.min(y), np.max(x), np.max(y)
        return float(low_x), float(low_y), float(high_x), float(high_y)

    def _way(self, crs: str, *, back: bool = False) -> Transformer | None:
        """Return what brings the scene's coordinates into a file's, or back; None of the same."""
        assert self.grid.crs is not None  # or nothing could have been measured
        own, other = crs_of(self.grid.crs.to_wkt(version="WKT2_2019")), crs_of(crs)
        if own.equals(other, ignore_axis_order=True):
            return None
        pair = (other, own) if back else (own, other)
        return Transformer.from_crs(*pair, always_xy=True)

    def holds(
        self, shapes: NDArray[np.object_], is_building: NDArray[np.bool_], crs: str
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which polygons of a file are of the chosen sheets.

        Args:
            shapes: Polygons in the file's coordinates, object [N].
            is_building: Which of them are buildings, bool [N].
            crs: The file's coordinate reference system.

        Returns:
            Those that follow from the chosen sheets, bool [N]; and the buildings that lie in them
            and in others, bool [N].
        """
        pixels = self.pixels(shapes, crs)
        x, y = shapely.get_coordinates(shapely.point_on_surface(pixels)).T
        inside = self._is_chosen(x, y)
        left, top, right, bottom = shapely.bounds(pixels).T
        reached = np.stack(
            [
                self._is_chosen(x + step, y + step)
                for x, y in ((left, top), (left, bottom), (right, top), (right, bottom))
                for step in (-_NEAR, _NEAR)
            ]
        )
        across = is_building & ~reached.all(0)
        return inside & ~across, across & (inside | reached.any(0))

    def pixels(self, shapes: NDArray[np.object_], crs: str) -> NDArray[np.object_]:
        """Return shapes of a file in pixels of the scene."""
        way, back = self._way(crs, back=True), ~self.grid.transform

        def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = points.T if way is None else way.transform(*points.T)
            return np.column_stack(back @ (x, y))

        moved: NDArray[np.object_] = shapely.transform(shapes, to_pixels)
        return moved

    def _is_chosen(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether places in pixels lie in chosen sheets, of those beyond the nearest."""
        chosen = np.zeros(len(self.every), np.bool_)
        chosen[[sheet.number for sheet in self.chosen]] = True
        across = -(-self.grid.width // self.side)
        row = np.clip(y, 0, self.grid.height - 1) // self.side
        column = np.clip(x, 0, self.grid.width - 1) // self.side
        return chosen[(row * across + column).astype(np.int64)]


def _around(sheet: Sheet, margin: int) -> Part:
    """Return the pixels of a sheet, and some around it."""
    return Part(
        sheet.row - margin,
        sheet.column - margin,
        sheet.height + 2 * margin,
        sheet.width + 2 * margin,
    )


def write_sheets(
    scene: ClassMap,
    sheets: Sheets,
    target: Path,
    options: VectorOptions,
    made: Provenance,
    heed: Callable[[int, int], None],
) -> None:
    """Write the layers `LAYERS` of some sheets as `vectorise` writes those of all.

    Buildings that reach into other sheets are not whole.

    Args:
        scene: The class map.
        sheets: Which sheets.
        target: The file; what is made on the way lies in its folder, and stays.
        options: How.
        made: What the file says of its making.
        heed: Called between sheets with (done, all); raises where the work is to stop.
    """
    minimum: Mapping[Any, float] = {**MINIMUM_M2, **options.minimum_m2}
    seen = sheets.sieved()
    steps = len(seen) + len(sheets.chosen)
    for done, sheet in enumerate(seen):
        heed(done, steps)
        np.save(target.with_name(f"{sheet.number}.npy"), sieved_sheet(scene, sheet, minimum))
    measures = Measures(scene.grid, scene.where)
    assert scene.grid.crs is not None  # or nothing could have been measured
    with open_store(target.with_name("scene.sqlite")) as store:
        for done, sheet in enumerate(sheets.chosen, len(seen)):
            heed(done, steps)
            store_sheet(scene, store, target.parent, sheet, options)
            give_back_memory()
        store.join()
        none = RoadNetwork((), ())
        layers: Iterator[Any] = islice(layers_of(store, scene.legend, none, measures), len(LAYERS))
        place = Placing(measures, scene.grid.crs, options.out_crs)
        write_layers(target, layers, place, scene.legend, options.layer, made)
