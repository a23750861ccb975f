"""Areas and lengths on the ellipsoid, whatever the scene's coordinates are."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.errors import DataError
from sat2map.geo.grid import Grid

LONGEST = 64.0
"""Pixels; longer straight lines get more points before they are projected, where they bend."""


class Measures:
    """Measures shapes of a scene, which come in its pixels, on the WGS 84 ellipsoid.

    Areas are those in an equal-area projection of the ellipsoid, the cylindrical one around the
    scene's own meridian; lengths are those of geodesics from point to point.

    Args:
        grid: The scene's pixels on the ground.
        where: What messages call the scene.

    Attributes:
        middle: The scene's middle in its own coordinates.

    Raises:
        DataError: The scene has no coordinate reference system that PROJ knows.
    """

    def __init__(self, grid: Grid, where: object) -> None:
        from pyproj import CRS, Geod, Transformer
        from pyproj.exceptions import ProjError

        try:
            own = CRS.from_wkt(grid.crs.to_wkt())  # type: ignore[union-attr]
            self._degrees = Transformer.from_crs(own, "EPSG:4326", always_xy=True)
            middle = grid.transform @ (grid.width / 2, grid.height / 2)
            meridian = self._degrees.transform(*middle)[0]
            equal = CRS.from_proj4(f"+proj=cea +ellps=WGS84 +lon_0={meridian!r} +units=m")
            self._equal = Transformer.from_crs(own, equal, always_xy=True)
        except (ProjError, AttributeError) as error:
            raise DataError(
                "has a coordinate reference system in which nothing can be measured",
                where=str(where),
                remedy="Give it another one first, for example with gdalwarp.",
            ) from error
        self._grid = grid
        self.middle: tuple[float, float] = middle
        self._geod = Geod(ellps="WGS84")

    def to_crs(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """Return shapes in the scene's own coordinates, object [N]."""
        placed: NDArray[np.object_] = shapely.transform(shapes, self._placed)
        return placed

    def _placed(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(self._grid.transform @ (points[:, 0], points[:, 1]))

    def areas_m2(self, polygons: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the areas of polygons in square metres, float64 [N]."""
        dense = _densified(polygons)

        def equal(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(self._equal.transform(*self._placed(points).T))

        areas: NDArray[np.float64] = shapely.area(shapely.transform(dense, equal))
        return areas

    def lengths_m(self, lines: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the lengths of lines in metres, float64 [N]."""
        points, line = shapely.get_coordinates(_densified(lines), return_index=True)
        if not len(points):
            return np.zeros(len(lines))
        x, y = self._degrees.transform(*self._placed(points).T)
        same = line[1:] == line[:-1]
        metres = self._geod.inv(x[:-1][same], y[:-1][same], x[1:][same], y[1:][same])[2]
        return np.bincount(line[1:][same], metres, minlength=len(lines)).astype(np.float64)


def _densified(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return shapes with more points on their long straight lines, of which few have any."""
    points, number = shapely.get_coordinates(shapes, return_index=True)
    step = np.diff(points, axis=0)
    # From one ring to the next it is no line, and does no harm.
    long = (np.hypot(*step.T) > LONGEST) & (number[1:] == number[:-1])
    some = np.unique(number[1:][long])
    found = shapes.copy()
    found[some] = shapely.segmentize(shapes[some], LONGEST)
    return found
