"""Vectors of any format and projection, read where the imagery lies, found by place.

Only what lies within the imagery's bounds is read and turned into its coordinates, so that a
country's extract serves a city's imagery.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.errors import DataError, UsageError
from sat2map.geo.grid import Bounds
from sat2map.geo.silencing import SILENCING
from sat2map.geo.vector_file import read_layers
from sat2map.geo.vector_layer import RawLayer, metres_per_unit
from sat2map.style.expressions import Value, View
from sat2map.style.style import CLASS, Style

logger = logging.getLogger(__name__)

MARGIN_M = 100.0
"""Features are read so far beyond the imagery, since lines have a width."""

Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class VectorFile:
    """A file of vectors.

    Attributes:
        path: .osm.pbf, .gpkg, .geojson, .shp, .fgb, .parquet, or what else GDAL reads.
        feature_class: The class of all of its features; None takes it from their properties.
    """

    path: Path
    feature_class: str | None = None


@dataclass(frozen=True)
class FeatureKind:
    """The class, geometry and tags of features that a style cannot tell apart.

    Attributes:
        feature_class: Their class in the style.
        geometry: "LineString" or "Polygon".
        source_layer: The layer of the file that they come from.
        properties: Those that the style looks at, with `class`.
    """

    feature_class: str
    geometry: str
    source_layer: str
    properties: Mapping[str, Value]

    def view(self, resolution_m: float) -> View:
        """Return for what the style's expressions are evaluated."""
        return View(self.properties, self.geometry, resolution_m)


@dataclass(frozen=True)
class Features:
    """Features of a window.

    Attributes:
        geometries: Their (multi)lines and (multi)polygons, object [N].
        kinds: The place of each one's kind in `table`, int32 [N].
        table: The kinds.
    """

    geometries: Geometries
    kinds: NDArray[np.int32]
    table: Sequence[FeatureKind]

    def __len__(self) -> int:
        return len(self.geometries)

    @property
    def classes(self) -> list[str]:
        """The class of each feature."""
        return [self.table[kind].feature_class for kind in self.kinds.tolist()]


class Vectors:
    """All features near some imagery, in its coordinates, behind a spatial index.

    It can be sent to other processes. `open_vectors` makes one.

    Attributes:
        style: Whose classes the features have.
        crs: Of the coordinates.
        features: All of them; later ones are painted over earlier ones of the same layer.
        repaired: How many had invalid geometries.
        unclassed: How many belong to no class of the style, and are left out.
    """

    def __init__(
        self, style: Style, crs: Any, features: Features, repaired: int, unclassed: int
    ) -> None:
        self.style = style
        self.crs = crs
        self.features = features
        self.repaired = repaired
        self.unclassed = unclassed

    def __len__(self) -> int:
        return len(self.features)

    @property
    def classes(self) -> set[str]:
        """The classes of which there is a feature."""
        return {self.features.table[kind].feature_class for kind in np.unique(self.features.kinds)}

    @cached_property
    def _tree(self) -> Any:
        return shapely.STRtree(self.features.geometries)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_tree"}

    def window(self, bounds: Bounds, *, whole: NDArray[np.bool_] | None = None) -> Features:
        """Return the features that come into a window, cut to it, in the order of the files.

        Args:
            bounds: West, south, east, north, in the vectors' coordinates.
            whole: Which kinds are not cut, bool [S].
        """
        found = np.sort(self._tree.query(shapely.box(*bounds), predicate="intersects"))
        geometries = self.features.geometries[found]
        kinds = self.features.kinds[found]
        cut = np.ones(len(found), bool) if whole is None else ~whole[kinds]
        geometries[cut] = _clipped(geometries[cut], bounds)
        left = ~shapely.is_empty(geometries)
        geometries, kinds = geometries[left], kinds[left]
        return Features(geometries, kinds, self.features.table)


def open_vectors(files: Sequence[VectorFile], style: Style, crs: Any, bounds: Bounds) -> Vectors:
    """Read the vectors of a region.

    Args:
        files: What to read; later ones are painted over earlier ones of the same layer.
        style: Whose classes the features get: that of the file, or of their property `class`,
            or of the style's rules. Features of none are left out and counted.
        crs: The coordinates wanted, those of the imagery: anything rasterio takes.
        bounds: West, south, east, north of the imagery in these coordinates.

    Raises:
        DataError: A file cannot be read or has no coordinate reference system, or none of the
            features lies there or belongs to a class of the style.
        UsageError: `crs` is None, or the style has no such class.
        MissingExtraError: A package of the extra `cartography` is not installed.
    """
    if crs is None:
        raise UsageError(
            "the imagery has no coordinate reference system, so no vectors can be laid over it",
            remedy="Assign one first, for example with: gdal_edit.py -a_srs EPSG:CODE.",
        )
    for file in files:
        if file.feature_class is not None and file.feature_class not in style.classes:
            raise UsageError(
                f"the style {style.name!r} has no class {file.feature_class!r}",
                where=file.path,
                remedy=f"Its classes are: {', '.join(style.classes)}.",
            )
    margin = MARGIN_M / metres_per_unit(crs, bounds)
    west, south, east, north = bounds
    wide = (west - margin, south - margin, east + margin, north + margin)
    collected = _Collected(style)
    extents: list[str] = []
    for file in files:
        for layer in read_layers(file.path, crs, wide, style.columns):
            collected.add(layer, file)
            extents.append(f"{file.path} {layer.extent}")
    return collected.finish(crs, bounds, extents, files)


class _Collected:
    """Gathers the features of several layers, and what was wrong with some."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._sorts: dict[tuple[Value, ...], int] = {}
        self._table: list[FeatureKind] = []
        self._geometries: list[Geometries] = []
        self._numbers: list[NDArray[np.int32]] = []
        self._columns: set[str] = set()
        self._read = 0
        self._repaired = 0
        self._unclassed = 0

    def add(self, layer: RawLayer, file: VectorFile) -> None:
        """Add the features of a layer that have a class."""
        geometries, repaired = _repaired(layer.geometries)
        if repaired:
            logger.warning(
                f"{file.path}: {repaired} of {len(geometries)} geometries were invalid and have "
                "been repaired."
            )
        self._repaired += repaired
        self._read += len(geometries)
        self._columns.update(layer.names)
        kinds = shapely.get_type_id(geometries)
        numbers = np.full(len(geometries), -1, np.int32)
        names = sorted(layer.columns)
        values = zip(*(layer.columns[name] for name in names), strict=True)
        rows = values if names else (() for _ in range(len(geometries)))
        for place, (kind, row) in enumerate(zip(kinds.tolist(), rows, strict=True)):
            geometry = _KINDS.get(kind)
            if geometry is None:
                continue
            key = (file.feature_class, layer.name, geometry, *zip(names, row, strict=True))
            if key not in self._sorts:
                given = {n: v for n, v in zip(names, row, strict=True) if v is not None}
                self._sorts[key] = self._add_sort(file, layer.name, geometry, given)
            numbers[place] = self._sorts[key]
        known = numbers >= 0
        drawn = np.isin(kinds, list(_KINDS))
        if (points := int((~drawn).sum())) and points < len(geometries):
            logger.warning(
                f"{file.path}: {points} of {len(geometries)} features are points, of which nothing "
                "is drawn, and are left out."
            )
        missing = int((~known & drawn).sum())
        self._unclassed += int((~known).sum())
        if 0 < missing < len(geometries):
            logger.warning(
                f"{file.path}: {missing} of {len(geometries)} features belong to no class of the "
                f"style {self._style.name!r} and are left out."
            )
        self._geometries.append(geometries[known])
        self._numbers.append(numbers[known])

    def _add_sort(
        self, file: VectorFile, source_layer: str, geometry: str, given: dict[str, Value]
    ) -> int:
        name = file.feature_class or self._style.class_of(given, geometry)
        if name is None:
            return -1
        self._table.append(FeatureKind(name, geometry, source_layer, {**given, CLASS: name}))
        return len(self._table) - 1

    def finish(
        self, crs: Any, bounds: Bounds, extents: list[str], files: Sequence[VectorFile]
    ) -> Vectors:
        """Return the vectors, or say why there are none."""
        names = ", ".join(str(file.path) for file in files)
        geometries = np.concatenate([np.empty(0, object), *self._geometries])
        touching = shapely.intersects(shapely.box(*bounds), geometries).any()
        if not self._read or (len(geometries) and not touching):
            raise DataError(
                f"none of the vectors lies on the imagery, at {_degrees(crs, bounds)} (west, "
                f"south, east, north); {'; '.join(extents) or 'there are none'}",
                where=names,
                remedy="Give vectors of the imagery's place, and check both coordinate systems.",
            )
        if not len(geometries):
            columns = ", ".join(sorted(self._columns)[:20]) or "none"
            raise DataError(
                f"none of the {self._read} features belongs to a class of the style "
                f"{self._style.name!r} ({', '.join(self._style.classes)}); their columns are "
                f"{columns}",
                where=names,
                remedy="Say it by FILE=CLASS, or by 'sat2map:classes' in a style of your own.",
            )
        features = Features(geometries, np.concatenate(self._numbers), tuple(self._table))
        return Vectors(self._style, crs, features, self._repaired, self._unclassed)


_KINDS = {1: "LineString", 5: "LineString", 3: "Polygon", 6: "Polygon"}


def _repaired(geometries: Geometries) -> tuple[Geometries, int]:
    """Return valid geometries, and how many were not; what cannot be mended becomes empty."""
    with SILENCING:
        wrong = ~shapely.is_valid(geometries)
    if not wrong.any():
        return geometries, 0
    mended = geometries.copy()
    mended[wrong] = [_areas(shapely.make_valid(one)) for one in geometries[wrong]]
    return mended, int(wrong.sum())


def _areas(geometry: Any) -> Any:
    """Return the polygons of what `make_valid` makes of a polygon, without lines and points."""
    if geometry.geom_type != "GeometryCollection":
        return geometry
    parts = [p for p in shapely.get_parts(geometry) if p.geom_type in {"Polygon", "MultiPolygon"}]
    return shapely.union_all(parts) if parts else geometry


def _clipped(geometries: Geometries, bounds: Bounds) -> Geometries:
    """Return geometries cut to bounds; what lies within is not touched."""
    west, south, east, north = bounds
    boxes = shapely.bounds(geometries)
    out = (
        (boxes[:, 0] < west) | (boxes[:, 1] < south) | (boxes[:, 2] > east) | (boxes[:, 3] > north)
    )
    if not out.any():
        return geometries
    cut = geometries.copy()
    cut[out] = shapely.clip_by_rect(geometries[out], *bounds)
    return cut


def _degrees(crs: Any, bounds: Bounds) -> str:
    from rasterio.warp import transform_bounds

    degrees = transform_bounds(crs, "EPSG:4326", *bounds)
    return ",".join(f"{value:.5f}" for value in degrees)
