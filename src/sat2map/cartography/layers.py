"""Layers of vector files as arrays, cut to a region and turned into its coordinates."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.cartography.expressions import Value
from sat2map.cartography.raw_layer import (
    BROKEN,
    RawLayer,
    lies,
    no_crs,
    place,
    require,
    source_bounds,
    unreadable,
)
from sat2map.errors import DataError
from sat2map.raster.grid import Bounds

logger = logging.getLogger(__name__)


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


def _read_gdal(path: Path, crs: Any, bounds: Bounds, columns: frozenset[str]) -> Iterator[RawLayer]:
    require("pyogrio")
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError

    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise DataError("holds no layer of shapes", where=path, remedy=BROKEN)
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
