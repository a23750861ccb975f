"""Layers of vector files as arrays, cut to a region and turned into its coordinates."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.cartography.expressions import Value
from sat2map.errors import DataError, MissingExtraError
from sat2map.raster.grid import Bounds

logger = logging.getLogger(__name__)

EXTRA = "cartography"

LONGEST_M = 200.0
"""Longer straight lines get more points before they are projected, where they are curves: the
error of a line of this length is below a millimetre."""

DEGREE_M = 111_320.0


@dataclass(frozen=True)
class RawLayer:
    """What was read of one layer of a file.

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


def read_layers(
    path: Path, crs: Any, bounds: Bounds, columns: frozenset[str]
) -> Iterator[RawLayer]:
    """Read the part of a file's layers that touches a region.

    Args:
        path: The file.
        crs: Coordinates wanted.
        bounds: The region in these coordinates.
        columns: Those that are of interest.

    Raises:
        DataError: The file cannot be read or does not say what its coordinates mean.
        MissingExtraError: A package of the extra `cartography` is not installed.
    """
    if not path.exists():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    name = path.name.lower()
    if name.endswith((".pbf", ".osm", ".osm.bz2", ".osm.gz")):
        from sat2map.cartography.osm import read_osm

        require("osmium")
        yield read_osm(path, crs, bounds, columns)
    elif name.endswith((".parquet", ".geoparquet")):
        yield _read_parquet(path, crs, bounds, columns)
    else:
        yield from _read_gdal(path, crs, bounds, columns)


def require(package: str) -> None:
    """Say which extra is missing where a package is not installed.

    Raises:
        MissingExtraError: It is not.
    """
    if find_spec(package) is None:
        raise MissingExtraError(package, EXTRA)


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


def _read_gdal(path: Path, crs: Any, bounds: Bounds, columns: frozenset[str]) -> Iterator[RawLayer]:
    require("pyogrio")
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError

    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise DataError("holds no layer of shapes", where=path, remedy=_BROKEN)
        for name in layers:
            yield _read_gdal_layer(path, name, crs, bounds, columns)
    except (DataSourceError, DataLayerError, FieldError, GeometryError) as error:
        raise unreadable(path, error) from error


def _read_gdal_layer(
    path: Path, name: str, crs: Any, bounds: Bounds, columns: frozenset[str]
) -> RawLayer:
    import pyogrio

    info = pyogrio.read_info(path, layer=name, force_total_bounds=True)
    names = tuple(map(str, info["fields"]))
    label = name if len(pyogrio.list_layers(path)) > 1 else ""
    if not info["features"]:
        logger.warning(f"{path}: the layer {name!r} is empty.")
        return RawLayer(name, np.empty(0, object), {}, names, f"{label} is empty".strip())
    if info["crs"] is None:
        raise no_crs(path)
    meta, _, wkb, values = pyogrio.raw.read(
        path,
        layer=name,
        columns=[column for column in names if column in columns],
        bbox=source_bounds(info["crs"], crs, bounds),
        force_2d=True,
    )
    geometries = shapely.from_wkb(wkb, on_invalid="ignore")
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    found = {
        str(field): plain(column[there])
        for field, column in zip(meta["fields"], values, strict=True)
    }
    placed = place(geometries[there], info["crs"], crs, bounds)
    return RawLayer(name, placed, found, names, lies(info["crs"], info["total_bounds"], label))


def _read_parquet(path: Path, crs: Any, bounds: Bounds, columns: frozenset[str]) -> RawLayer:
    require("geopandas")
    require("pyarrow")
    import geopandas
    import pyarrow.parquet
    from pyarrow import ArrowException

    try:
        schema = pyarrow.parquet.read_schema(path)
        names = tuple(name for name in schema.names if name != "geometry")
        frame = geopandas.read_parquet(path)
    except (ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not len(frame):
        logger.warning(f"{path}: is empty.")
        return RawLayer(path.stem, np.empty(0, object), {}, names, "is empty")
    if frame.crs is None:
        raise no_crs(path)
    source = frame.crs.to_wkt()
    near = frame.cx[_slices(source_bounds(source, crs, bounds))]
    geometries = np.asarray(near.geometry.to_numpy(), object)
    found = {
        name: plain(near[name].to_numpy(object, na_value=None)) for name in names if name in columns
    }
    placed = place(geometries, source, crs, bounds)
    return RawLayer(path.stem, placed, found, names, lies(source, frame.total_bounds, ""))


def _slices(bounds: Bounds) -> tuple[slice, slice]:
    return slice(bounds[0], bounds[2]), slice(bounds[1], bounds[3])


_BROKEN = "The file is broken or holds no vectors: restore it, or give another one."


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error of a file that a library cannot read."""
    text = (str(error).strip().splitlines() or [repr(error)])[0]
    return DataError(
        f"cannot be read ({text.replace(str(path), path.name)})", where=path, remedy=_BROKEN
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


def plain(values: NDArray[Any]) -> list[Value]:
    """Return values as None, bool, float or str; empty text and nan stand for no value."""
    return [_plain(value) for value in values.tolist()]


def _plain(value: Any) -> Value:
    if value is None or value == "" or value != value:  # nan is not itself
        return None
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return float(value)
    return str(value)
