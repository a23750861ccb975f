"""The kinds of files that vectors are written to, by the suffix of a name.

    .gpkg                     all layers, with styles for QGIS
    .pmtiles                  vector tiles of all layers, and a style beside it (`vector_tiles.py`)
    .geojson .fgb .parquet    one layer

Layers are streamed from the disk, so that memory does not grow with the scene.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.atomic import check_file_name
from sat2map.errors import OutputError, UsageError
from sat2map.geo.vector_layer import require
from sat2map.provenance import KEY, TAG, Provenance
from sat2map.raster.tile_archives import pmtiles_order
from sat2map.vectors.geopackage import Layer
from sat2map.vectors.measures import Measures

LayerName = Literal["coverage", "buildings", "roads", "road_nodes", "water", "vegetation"]
LAYERS: tuple[LayerName, ...] = get_args(LayerName)

STYLE = ".style.json"
"""What stands in place of an archive's suffix in the name of the style beside it."""

DRIVERS = {
    ".gpkg": "GPKG",
    ".pmtiles": "PMTiles",
    ".geojson": "GeoJSON",
    ".fgb": "FlatGeobuf",
    ".parquet": "Parquet",
}
"""Formats by suffix, as GDAL calls them."""

_OF_ALL_LAYERS = ("GPKG", "PMTiles")
_OF_ONE_CRS = ("GeoJSON", "PMTiles")

Rows = tuple[NDArray[np.object_], Mapping[str, Any]]


def driver_of(target: Path) -> str:
    """Return the format that a name asks for.

    Raises:
        UsageError: It is not a name for vectors.
    """
    driver = DRIVERS.get(target.suffix.lower())
    if driver is None:
        raise UsageError(
            "is not a name for vectors",
            where=target,
            remedy="End it in .gpkg, in .pmtiles for tiles, or in .geojson, .fgb or .parquet for "
            "one layer.",
        )
    return driver


def check_target(target: Path, layer: str | None = None, out_crs: str | None = None) -> None:
    """Refuse, before the work, a name that is not for vectors, and say what is not installed.

    Args:
        target: The file.
        layer: The layer that is wanted, if one is.
        out_crs: The coordinate reference system that is wanted, if one is.

    Raises:
        UsageError: The name has no suffix that is known, or the others do not fit it.
        OutputError: There is a folder of that name.
        MissingExtraError: A package is not installed.
    """
    driver = driver_of(target)
    if layer is not None and layer not in LAYERS:
        raise UsageError(
            f"{layer!r} is not a layer",
            parameter="layer",
            remedy=f"Choose of {', '.join(LAYERS)}.",
        )
    if driver in _OF_ALL_LAYERS and layer is not None:
        raise UsageError(
            f"a {target.suffix} has all layers",
            parameter="layer",
            remedy="Leave it out, or write a .geojson, .fgb or .parquet.",
        )
    if driver not in _OF_ALL_LAYERS and layer is None:
        raise UsageError(
            f"a {target.suffix} has one layer",
            parameter="layer",
            remedy=f"Choose one of {', '.join(LAYERS)}.",
        )
    if out_crs is not None:
        if driver in _OF_ONE_CRS:
            raise UsageError(
                f"a {target.suffix} has coordinates of one kind only",
                parameter="out_crs",
                remedy="Leave it out.",
            )
        crs_of(out_crs)
    check_file_name(target)
    if driver == "PMTiles":
        check_file_name(style_beside(target))
    for package in ("pyogrio", "pyarrow"):
        require(package, "vectors")
    if driver == "PMTiles":
        pmtiles_order()


def crs_of(text: str) -> Any:
    """Return pyproj's coordinate reference system of a text such as EPSG:25833.

    Raises:
        UsageError: It is not one of a plane or of degrees.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        found = CRS.from_user_input(text)
    except CRSError as error:
        raise UsageError(
            f"{text!r} is not a coordinate reference system that PROJ knows",
            parameter="out_crs",
            remedy="Give one such as EPSG:25833.",
        ) from error
    if not (found.is_projected or found.is_geographic) or len(found.axis_info) != 2:
        raise UsageError(
            f"{text!r} is not a coordinate reference system of a plane or of degrees",
            parameter="out_crs",
            remedy="Give one such as EPSG:25833.",
        )
    return found


def style_beside(path: Path) -> Path:
    """Return the name of the style of an archive of vector tiles."""
    return path.with_suffix(STYLE)


class Placing:
    """Brings shapes from the scene's pixels into the coordinates of a file.

    Args:
        measures: Knows where the pixels lie.
        own: The scene's coordinate reference system, rasterio's.
        out_crs: Another one for the file; None keeps the scene's.

    Attributes:
        crs: The file's, as WKT.
    """

    def __init__(self, measures: Measures, own: Any, out_crs: str | None) -> None:
        from pyproj import Transformer

        self._measures, self._transformer = measures, None
        self._middle: float | None = None
        self.crs: str = own.to_wkt(version="WKT2_2019")
        if out_crs is not None:
            other = crs_of(out_crs)
            self._transformer = Transformer.from_crs(self.crs, other, always_xy=True)
            if other.is_geographic:  # across the antimeridian longitudes go on
                self._middle = self._transformer.transform(*measures.middle)[0]
            self.crs = other.to_wkt("WKT2_2019")

    def __call__(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """Return shapes in the file's coordinates, object [N]."""
        placed = self._measures.to_crs(shapes)
        if self._transformer is None:
            return placed
        moved: NDArray[np.object_] = shapely.transform(placed, self._moved)
        return moved

    def _moved(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self._transformer is not None
        x, y = self._transformer.transform(*points.T)
        if self._middle is not None:
            x = (x - self._middle + 180) % 360 - 180 + self._middle
        return np.column_stack([x, y])


def write_layer(
    path: Path,
    layer: Layer,
    place: Callable[[NDArray[np.object_]], NDArray[np.object_]],
    crs: str,
    driver: str,
    options: Mapping[str, Any] | None = None,
    made: Provenance | None = None,
    **of_dataset: Any,
) -> None:
    """Write a layer into a file that GDAL writes, beside those that are there.

    Args:
        path: The file.
        layer: The layer.
        place: Brings its shapes from the scene's pixels into the file's coordinates.
        crs: WKT of these.
        driver: GDAL's name of the format.
        options: Of the driver, for the layer.
        made: What it was made of and how; None where the file says so already.
        of_dataset: Of the driver, for the file.

    Raises:
        OutputError: The disk is full.
    """
    import pyarrow
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import write_arrow

    schema = _schema(layer, "geom")
    try:
        write_arrow(
            pyarrow.RecordBatchReader.from_batches(schema, _batches(layer, place, schema)),
            path,
            layer=layer.name,
            driver=driver,
            geometry_name="geom",
            geometry_type=layer.kind,
            crs=crs,
            layer_options={**(options or {}), **_members(driver, made)},
            dataset_options=of_dataset,
            **_metadata(driver, made),
        )
    except (DataSourceError, DataLayerError, RuntimeError) as error:
        raise OutputError(
            f"cannot be written ({str(error).splitlines()[0]})",
            where=path,
            remedy="Free some space, or choose a folder that you may write to.",
        ) from error


def _metadata(driver: str, made: Provenance | None) -> dict[str, dict[str, str]]:
    """Return the metadata of a layer that says what it was made of."""
    if made is None or driver != "FlatGeobuf":
        return {}
    return {"layer_metadata": {TAG: made.to_text()}}


def _members(driver: str, made: Provenance | None) -> dict[str, str]:
    """Return the option by which GDAL writes the same into a collection of GeoJSON."""
    if made is None or driver != "GeoJSON":
        return {}
    told = {"type": "FeatureCollection", KEY: made.to_json()}
    return {"NATIVE_DATA": json.dumps(told), "NATIVE_MEDIA_TYPE": "application/vnd.geo+json"}


def write_parquet(path: Path, layer: Layer, place: Placing, made: Provenance) -> None:
    """Write a layer as GeoParquet 1.1, with WKB in the column `geometry`."""
    from pyarrow import parquet
    from pyproj import CRS

    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def placed(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        found: NDArray[np.object_] = shapely.orient_polygons(place(shapes))
        if len(found):
            low_x, low_y, high_x, high_y = shapely.total_bounds(found)
            bounds[:2] = np.minimum(bounds[:2], (low_x, low_y))
            bounds[2:] = np.maximum(bounds[2:], (high_x, high_y))
        return found

    column = {
        "encoding": "WKB",
        "geometry_types": [layer.kind],
        "crs": CRS.from_wkt(place.crs).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    schema = _schema(layer, "geometry")
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for batch in _batches(layer, placed, schema):
            file.write_batch(batch)
        if np.isfinite(bounds).all():
            column["bbox"] = bounds.tolist()
        told = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        file.add_key_value_metadata({"geo": json.dumps(told), KEY: made.to_text()})


def _schema(layer: Layer, geometry: str) -> Any:
    import pyarrow

    types = {"text": pyarrow.string(), "real": pyarrow.float64(), "whole": pyarrow.int64()}
    fields = [pyarrow.field(name, types[kind]) for name, kind in layer.types.items()]
    return pyarrow.schema([pyarrow.field(geometry, pyarrow.binary()), *fields])


def _batches(
    layer: Layer, place: Callable[[NDArray[np.object_]], NDArray[np.object_]], schema: Any
) -> Iterator[Any]:
    """Yield the rows of a layer as pyarrow's batches."""
    import pyarrow

    for shapes, columns in layer.batches:
        arrays = [pyarrow.array(shapely.to_wkb(place(shapes)), pyarrow.binary())]
        for name, kind in layer.types.items():
            values, known = columns[name], schema.field(name).type
            if kind == "real":
                values = np.asarray(values, float)
                arrays.append(pyarrow.array(values, known, mask=np.isnan(values)))
            else:
                arrays.append(pyarrow.array(values, known))
        yield pyarrow.record_batch(arrays, schema)
