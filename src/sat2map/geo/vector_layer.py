"""What was read of a layer of vectors, and how it comes into the imagery's coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.errors import DataError, MissingExtraError
from sat2map.geo.grid import Bounds
from sat2map.geo.silencing import SILENCING

Value = Any
"""What a property of a feature holds: None, bool, int, float or str."""

EXTRA = "cartography"

LONGEST_M = 200.0
"""Longer straight lines get more points before they are projected, where they are curves: the
error of a line of this length is below a millimetre."""

DEGREE_M = 111_320.0


@dataclass(frozen=True)
class RawLayer:
    """One layer of a file of vectors, as it was read.

    Attributes:
        name: Of the layer.
        geometries: In the coordinates wanted, object [N].
        columns: Values of the wanted columns that it has; None stands for no value.
        names: Of all of its columns.
        extent: Where the layer lies or what is wrong with it, for messages.
    """

    name: str
    geometries: NDArray[np.object_]
    columns: Mapping[str, list[Value]]
    names: tuple[str, ...]
    extent: str

    def without_collections(self) -> RawLayer:
        """Return the layer with the areas and the lines of each collection as shapes of their own.

        Points of collections are left out, as nothing is drawn of points.
        """
        if not (shapely.get_type_id(self.geometries) == _COLLECTION).any():
            return self
        shapes: list[Any] = []
        rows: list[int] = []
        for row, geometry in enumerate(self.geometries):
            for shape in _shapes_of(geometry):
                shapes.append(shape)
                rows.append(row)
        geometries = np.empty(len(shapes), object)
        geometries[:] = shapes
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return replace(self, geometries=geometries, columns=columns)


_COLLECTION = 7


def _shapes_of(geometry: Any) -> list[Any]:
    """Return a geometry, or of a collection the areas and the lines, together each."""
    if shapely.get_type_id(geometry) != _COLLECTION:
        return [geometry]
    parts = np.array([geometry], object)
    while (shapely.get_type_id(parts) >= 4).any():  # multi-part ones, and collections in it
        parts = shapely.get_parts(parts)
    kinds = shapely.get_type_id(parts)
    areas, lines = parts[kinds == 3], parts[(kinds == 1) | (kinds == 2)]
    found = []
    if len(areas):
        found.append(shapely.MultiPolygon(list(areas)))
    if len(lines):
        found.append(shapely.MultiLineString(list(lines)))
    return found


def require(package: str, extra: str = EXTRA) -> None:
    """Say which extra is missing where a package is not installed.

    Raises:
        MissingExtraError: It is not.
    """
    if find_spec(package) is None:
        raise MissingExtraError(package, extra)


def metres_per_unit(crs: Any, bounds: Bounds) -> float:
    """Return how many metres a unit of a CRS is, roughly."""
    from rasterio.crs import CRS

    known = CRS.from_user_input(crs)
    if known.is_geographic:
        return DEGREE_M * max(math.cos(math.radians((bounds[1] + bounds[3]) / 2)), 0.01)
    return float(known.linear_units_factor[1])


def place(
    geometries: NDArray[np.object_], source: Any, target: Any, bounds: Bounds
) -> NDArray[np.object_]:
    """Return geometries cut to what surrounds a region, in its coordinates.

    Args:
        geometries: Object [N].
        source: Their CRS.
        target: The region's.
        bounds: Of the region, in its coordinates.
    """
    from pyproj import CRS, Transformer

    geometries = shapely.force_2d(geometries)
    wkt = _wkt(source), _wkt(target)
    one, other = (CRS.from_wkt(text) for text in wkt)
    if not len(geometries) or one.equals(other, ignore_axis_order=True):
        return geometries
    near = source_bounds(source, target, bounds)
    boxes = shapely.bounds(geometries)
    # What reaches far beyond is cut, so that no continent is projected into a city's plane.
    reach = max(near[2] - near[0], near[3] - near[1])
    wide = (near[0] - reach, near[1] - reach, near[2] + reach, near[3] + reach)
    far = (boxes[:, :2] < wide[:2]).any(1) | (boxes[:, 2:] > wide[2:]).any(1)
    if far.any():
        geometries = geometries.copy()
        valid = geometries[far]
        with SILENCING:
            wrong = ~shapely.is_valid(valid)
        valid[wrong] = shapely.make_valid(valid[wrong])
        geometries[far] = shapely.clip_by_rect(valid, *wide)
    geometries = shapely.segmentize(geometries, LONGEST_M / metres_per_unit(source, near))
    transformer = Transformer.from_crs(one, other, always_xy=True)

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(points[:, 0], points[:, 1]))

    placed: NDArray[np.object_] = shapely.transform(geometries, project)
    return placed


def source_bounds(source: Any, target: Any, bounds: Bounds) -> Bounds:
    """Return the bounds in one CRS of a region given in another."""
    from rasterio.warp import transform_bounds

    found = transform_bounds(target, source, *bounds, densify_pts=41)
    return found[0], found[1], found[2], found[3]


def _wkt(crs: Any) -> str:
    from rasterio.crs import CRS

    text: str = CRS.from_user_input(crs).to_wkt()
    return text


BROKEN = "The file is broken or holds no vectors: restore it, or give another one."


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error of a file that a library cannot read."""
    text = (str(error).strip().splitlines() or [repr(error)])[0]
    return DataError(
        f"cannot be read ({text.replace(str(path), path.name)})", where=path, remedy=BROKEN
    )


def no_crs(path: Path) -> DataError:
    """Return the error of a file that does not say what its coordinates mean."""
    return DataError(
        "does not say its coordinate reference system",
        where=path,
        remedy="Assign it, for example with: ogr2ogr -a_srs EPSG:CODE NEW.gpkg OLD.",
    )


def lies(crs: Any, bounds: Any, label: str) -> str:
    """Say where something lies, in degrees."""
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    try:
        degrees = transform_bounds(crs, "EPSG:4326", *map(float, bounds))
    except (RasterioError, ValueError):
        return label
    return f"{label} lies at ".lstrip() + ",".join(f"{value:.5f}" for value in degrees)
