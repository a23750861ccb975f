"""Layers of vector files as arrays, cut to a region and turned into its coordinates."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError

from sat2map.errors import DataError, parsed_json
from sat2map.geo.grid import Bounds
from sat2map.geo.silencing import SILENCING
from sat2map.geo.vector_layer import (
    BROKEN,
    RawLayer,
    Value,
    lies,
    no_crs,
    place,
    require,
    source_bounds,
    unreadable,
)

logger = logging.getLogger(__name__)

_POLYGON, _MULTIPOLYGON, _TRIANGLE = 3, 6, 17
_SURFACES = (15, 16)
"""Polyhedral surface and TIN; numbers of OGC 06-103r4, as WKB has them."""

ROWS_AT_ONCE = 16_384
"""Shapes of GeoParquet that are in memory beside those that are kept."""


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
    for layer in _layers(path, crs, bounds, columns):
        yield layer.without_collections()


def count_shapes(path: Path) -> int | None:
    """Return how many features the layers of a file have, wherever they lie.

    None stands for files that do not say it without being read, as extracts of OpenStreetMap.
    """
    name = path.name.lower()
    if name.endswith((".pbf", ".osm", ".osm.bz2", ".osm.gz", ".parquet", ".geoparquet")):
        return None
    import pyogrio

    layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
    found = [pyogrio.read_info(path, layer=name)["features"] for name in layers]
    return None if min(found, default=-1) < 0 else int(sum(found))


def _layers(path: Path, crs: Any, bounds: Bounds, columns: frozenset[str]) -> Iterator[RawLayer]:
    name = path.name.lower()
    if name.endswith((".pbf", ".osm", ".osm.bz2", ".osm.gz")):
        from sat2map.geo.osm_extract import read_osm

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

    info = pyogrio.read_info(path, layer=name, force_feature_count=True, force_total_bounds=True)
    names = tuple(map(str, info["fields"]))
    label = name if len(pyogrio.list_layers(path)) > 1 else ""
    if not info["features"]:
        logger.warning(f"{path}: the layer {name!r} is empty.")
        return RawLayer(name, np.empty(0, object), {}, names, f"{label} is empty".strip())
    if info["crs"] is None:
        raise no_crs(path)
    near = source_bounds(info["crs"], crs, bounds)
    meta, _, wkb, values = pyogrio.raw.read(
        path,
        layer=name,
        columns=[column for column in names if column in columns],
        bbox=near,
        force_2d=True,
    )
    geometries = shapely.from_wkb([as_polygons(one) for one in wkb], on_invalid="ignore")
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    shapeless = int((~there).sum())
    west, south, east, north = info["total_bounds"]
    if near[0] <= west and near[1] <= south and east <= near[2] and north <= near[3]:
        # All of the layer is wanted, so what GDAL did not give lies nowhere.
        shapeless += int(info["features"]) - len(there)
    if shapeless > 0:
        logger.warning(
            f"{path}: {shapeless:,} of {info['features']:,} features have no shape, or one that "
            "cannot be read, and are left out."
        )
    found = {
        str(field): plain(column[there].tolist())
        for field, column in zip(meta["fields"], values, strict=True)
    }
    placed = place(geometries[there], info["crs"], crs, bounds)
    return RawLayer(name, placed, found, names, lies(info["crs"], info["total_bounds"], label))


def as_polygons(wkb: bytes | None) -> bytes | None:
    """Return a triangle, and a surface of triangles or faces, as a polygon or as several.

    GDAL has these kinds, of buildings above all, and shapely does not; nor does a map need what
    they have beyond polygons.

    Args:
        wkb: Well-known binary of two dimensions, or None; other kinds come back as they are.
    """
    if wkb is None or len(wkb) < 9:
        return wkb

    def number(at: int, order: int) -> int:
        return int.from_bytes(wkb[at : at + 4], "little" if order else "big")

    kind = number(1, wkb[0])
    if kind not in (*_SURFACES, _TRIANGLE):
        return wkb
    told = bytearray(wkb)

    def put(at: int, kind: int, order: int) -> None:
        told[at : at + 4] = kind.to_bytes(4, "little" if order else "big")

    if kind == _TRIANGLE:
        put(1, _POLYGON, wkb[0])
        return bytes(told)
    put(1, _MULTIPOLYGON, wkb[0])
    at = 9
    for _ in range(number(5, wkb[0])):
        order = wkb[at]
        put(at + 1, _POLYGON, order)
        rings = number(at + 5, order)
        at += 9
        for _ in range(rings):
            at += 4 + 16 * number(at, order)
    return bytes(told)


def _read_parquet(path: Path, crs: Any, bounds: Bounds, columns: frozenset[str]) -> RawLayer:
    """Read GeoParquet piece by piece, keeping what touches the region."""
    require("geopandas")
    require("pyarrow")
    import pyarrow.parquet
    from pyarrow import ArrowException
    from pyproj.exceptions import CRSError

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            told = parsed_json((file.schema_arrow.metadata or {})[b"geo"])
            shape = str(told["primary_column"])
            facts = told["columns"][shape]
            names = tuple(name for name in file.schema_arrow.names if name != shape)
            if not file.metadata.num_rows:
                logger.warning(f"{path}: is empty.")
                return RawLayer(path.stem, np.empty(0, object), {}, names, "is empty")
            source = _parquet_crs(path, facts)
            near = source_bounds(source, crs, bounds)
            wanted = [name for name in names if name in columns]
            geometries: list[NDArray[np.object_]] = [np.empty(0, object)]
            found: dict[str, list[Value]] = {name: [] for name in wanted}
            extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
            shapeless = 0
            for piece in file.iter_batches(
                ROWS_AT_ONCE, _row_groups_near(file, facts, near), [shape, *wanted]
            ):
                shapes = _arrow_shapes(piece.column(shape), str(facts["encoding"]))
                whole = shapely.total_bounds(shapes)
                extent[:2] = np.fmin(extent[:2], whole[:2])
                extent[2:] = np.fmax(extent[2:], whole[2:])
                kept = np.flatnonzero(shapely.intersects(shapes, shapely.box(*near)))
                shapeless += int((shapely.is_missing(shapes) | shapely.is_empty(shapes)).sum())
                geometries.append(shapes[kept])
                for name in wanted:
                    found[name] += plain(piece.column(name).take(kept).to_pylist())
    except (ArrowException, OSError, ValueError, TypeError, KeyError, ShapelyError, CRSError) as e:
        raise unreadable(path, e) from e
    if shapeless:
        logger.warning(
            f"{path}: {shapeless:,} of the features that were read have no shape, and are left out."
        )
    whole = facts.get("bbox", extent)
    lying = lies(source, [*whole[:2], *whole[len(whole) // 2 :][:2]], "")
    placed = place(np.concatenate(geometries), source, crs, bounds)
    return RawLayer(path.stem, placed, found, names, lying)


def _parquet_crs(path: Path, facts: Mapping[str, Any]) -> str:
    """Return what GeoParquet says of its coordinates, by default longitude and latitude."""
    from pyproj import CRS

    crs = facts.get("crs", "OGC:CRS84")
    if crs is None:
        raise no_crs(path)
    return str(CRS.from_user_input(crs).to_wkt())


def _row_groups_near(file: Any, facts: Mapping[str, Any], near: Bounds) -> list[int]:
    """Return the parts of GeoParquet that may touch bounds, by the boxes that 1.1 may have.

    All of them where there are no boxes.
    """
    groups = list(range(file.metadata.num_row_groups))
    box = facts.get("covering", {}).get("bbox")
    if box is None or "bbox" not in facts:  # the second says where all of it lies
        return groups
    places = {
        file.metadata.schema.column(number).path: number
        for number in range(file.metadata.num_columns)
    }
    found = []
    for group in groups:
        limits = {}
        for side, path in box.items():
            place = places.get(".".join(path))
            column = None if place is None else file.metadata.row_group(group).column(place)
            known = None if column is None else column.statistics
            if known is not None and known.has_min_max:
                limits[side] = (known.min, known.max)
        if not {"xmin", "ymin", "xmax", "ymax"} <= limits.keys():
            return groups
        apart = (
            limits["xmin"][0] > near[2]
            or limits["ymin"][0] > near[3]
            or limits["xmax"][1] < near[0]
            or limits["ymax"][1] < near[1]
        )
        # A shape that crosses the antimeridian begins east of where all others end.
        if not apart or limits["xmin"][1] > limits["xmax"][1]:
            found.append(group)
    return found


def _arrow_shapes(column: Any, encoding: str) -> NDArray[np.object_]:
    """Return the shapes of a column of GeoParquet, object [N]."""
    import geopandas
    import pyarrow

    kind = {"ARROW:extension:name": f"geoarrow.{encoding.lower()}"}
    field = pyarrow.field("shape", column.type, metadata=kind)
    with SILENCING:
        frame = geopandas.GeoDataFrame.from_arrow(
            pyarrow.table([column], schema=pyarrow.schema([field]))
        )
        shapes: NDArray[np.object_] = np.asarray(frame.geometry.to_numpy(), object)
    return shapes


def plain(values: list[Any]) -> list[Value]:
    """Return values as None, bool, float or str; empty text and nan stand for no value."""
    return [_plain(value) for value in values]


def _plain(value: Any) -> Value:
    if value is None or value == "" or value != value:  # nan is not itself
        return None
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return float(value)
    return str(value)
