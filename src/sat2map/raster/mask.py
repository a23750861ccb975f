"""Polygons of a vector file, as the part of a scene of which a map is wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize

from sat2map.errors import DataError, MissingExtraError, UsageError
from sat2map.geo.grid import Grid, project
from sat2map.geo.silencing import SILENCING

logger = logging.getLogger(__name__)

STEPS = 200
"""A line as long as all of the polygons gets so many points before it is projected, since it
becomes a curve."""


class Mask:
    """Polygons in a scene's coordinates.

    Args:
        path: Any file of polygons that GDAL reads, in any coordinate reference system.
        grid: The scene's.
        where: The scene, for messages.
        say: Called with a notice, where there is one.

    Raises:
        MissingExtraError: pyogrio is not installed.
        DataError: The file cannot be read, or holds no polygons.
        UsageError: The scene has no coordinate reference system, or lies wholly outside.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        where: str | Path,
        say: Callable[[str], object] = logger.warning,
    ) -> None:
        if grid.crs is None:
            raise UsageError(
                f"{where} has no coordinate reference system, so nothing can be found in it",
                parameter="mask",
                remedy="Assign one first, for example with: gdal_edit.py -a_srs EPSG:CODE.",
            )
        shapes, crs = _polygons(path)
        if crs is None:
            say(
                f"{path}: has no coordinate reference system; its coordinates are taken for those "
                "of the scene."
            )
        self._shapes = _placed(shapes, crs, grid, path)
        self._tree = shapely.STRtree(self._shapes)
        if not self.touches(grid):
            raise UsageError(
                f"the scene {where} lies wholly outside of its polygons",
                where=path,
                remedy="Give other polygons; their coordinates may also be wrong.",
            )

    def touches(self, grid: Grid) -> bool:
        """Return whether a polygon touches a grid."""
        return bool(len(self._tree.query(_outline(grid), predicate="intersects")))

    def inside(self, grid: Grid) -> NDArray[np.bool_]:
        """Return which pixels of a grid have their centre in a polygon, bool [h,w]."""
        found = self._tree.query(_outline(grid), predicate="intersects")
        shape = (grid.height, grid.width)
        if not len(found):
            return np.zeros(shape, np.bool_)
        with SILENCING:
            burnt = rasterize(
                ((self._shapes[i], 1) for i in found),
                out_shape=shape,
                transform=grid.transform,
                dtype="uint8",
            )
        return np.asarray(burnt, np.bool_)


def vector_files(path: Path) -> tuple[Path, ...]:
    """Return the files that a file of vectors consists of: a shapefile has its parts beside it."""
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    if path.suffix.lower() != ".shp":
        return (path,)
    return tuple(sorted(file for file in path.parent.iterdir() if file.stem == path.stem))


def _outline(grid: Grid) -> Any:
    corners = ((0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height))
    return shapely.Polygon([grid.transform @ corner for corner in corners])


def _polygons(path: Path) -> tuple[NDArray[np.object_], str | None]:
    """Return the polygons of a file and what their coordinates mean."""
    if find_spec("pyogrio") is None:
        raise MissingExtraError("pyogrio", "cartography")
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, GeometryError

    if not path.exists():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    try:
        kinds = pyogrio.list_layers(path)
        # A layer may leave open what its geometries are.
        layers = [name for name, kind in kinds if kind and ("Polygon" in kind or "Unk" in kind)]
        layers += [name for name, kind in kinds if kind and "Collection" in kind]
        for name in layers:
            meta, _, wkb, _ = pyogrio.raw.read(path, layer=name, columns=[], force_2d=True)
            shapes = shapely.from_wkb(wkb, on_invalid="ignore")
            parts = shapely.get_parts(shapely.make_valid(shapes[~shapely.is_missing(shapes)]))
            parts = shapely.get_parts(parts)  # of what stood in a collection
            surfaces = parts[(shapely.get_dimensions(parts) == 2) & ~shapely.is_empty(parts)]
            if len(surfaces):
                return surfaces, meta["crs"]
    except (DataSourceError, DataLayerError, GeometryError) as error:
        text = (str(error).splitlines() or [""])[0].replace(str(path), path.name)
        raise DataError(
            f"cannot be read ({text})",
            where=path,
            remedy="Give a file of polygons, such as a GeoPackage, a Shapefile or GeoJSON.",
        ) from error
    raise DataError(
        "holds no polygons", where=path, remedy="Draw the area as a polygon; lines have no inside."
    )


def _placed(
    shapes: NDArray[np.object_], crs: str | None, grid: Grid, path: Path
) -> NDArray[np.object_]:
    """Return polygons in a grid's coordinates."""
    assert grid.crs is not None
    if crs is None:
        return shapes
    own = CRS.from_user_input(crs)
    placed = shapes
    if own != grid.crs:
        shapes = _near(shapes, own, grid)
        if not len(shapes):
            return shapes
        west, south, east, north = shapely.total_bounds(shapes)
        longest = max(east - west, north - south) / STEPS
        fine = shapely.segmentize(shapes, longest)

        def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return project(own, grid.crs, points)

        placed = shapely.transform(fine, moved)
        placed = placed[np.isfinite(shapely.bounds(placed)).all(1)]
    if grid.crs.is_geographic:  # the scene's own degrees may run beyond 180
        placed = np.concatenate([shapely.transform(placed, _turned(by)) for by in (-360, 0, 360)])
    return placed


def _near(shapes: NDArray[np.object_], own: CRS, grid: Grid) -> NDArray[np.object_]:
    """Leave out polygons that are far away, where the scene's projection may mean nothing."""
    outline = shapely.segmentize(_outline(grid), max(shapely.length(_outline(grid)) / STEPS, 1e-9))
    found = project(grid.crs, own, shapely.get_coordinates(outline))
    (west, south), (east, north) = found.min(0), found.max(0)
    across_antimeridian = own.is_geographic and east - west > 180
    if across_antimeridian or not np.isfinite([west, south, east, north]).all():
        return shapes
    box = shapely.buffer(shapely.box(west, south, east, north), 0.1 * (east - west + north - south))
    near: NDArray[np.object_] = shapes[shapely.intersects(shapes, box)]
    return near


def _turned(degrees: float) -> Any:
    return lambda points: points + np.array([degrees, 0.0])
