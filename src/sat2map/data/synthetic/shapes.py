"""What a plan consists of: patches and trees for the photo, features for the map.

Both are made by the same functions of `plan` from the same outlines, so that photo and map
show one world.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import LineString, MultiLineString, MultiPolygon, Polygon, box

from sat2map.data.synthetic.world import Floats


class Layer(IntEnum):
    """The order in which the photo is painted, from the ground up."""

    GROUND = 0
    PARCEL = 1
    SURFACE = 2
    BANK = 3
    WATER = 4
    WALK = 5
    VERGE = 6
    STREET = 7
    MAIN = 8
    PAINT = 9
    HIGHWAY = 10
    HIGHWAY_PAINT = 11
    CAR = 12
    SHED = 13
    ROOF = 14
    FACET = 15
    TOP = 16


class Material(IntEnum):
    """What a patch is made of: it decides the texture."""

    PLAIN = 0
    GRASS = 1
    SOIL = 2
    ASPHALT = 3
    PAVING = 4
    WATER = 5
    FLAT_ROOF = 6
    TILES = 7
    SAND = 8
    CROP = 9
    FOREST = 10


@dataclass(frozen=True)
class Patches:
    """Polygons of one material and layer with an equal number of corners.

    Attributes:
        corners: float64 [N,K,2], metres.
        layer: When they are painted.
        material: What they are made of.
        colour: float64 [N,3], RGB from 0 to 255, sunlight included.
        height: float64 [N], metres above the ground.
        stripe: float64 [N,3]: wave vector in radians per metre (x, y) and strength of the
            stripes, from 0 to 1.
    """

    corners: Floats
    layer: int
    material: int
    colour: Floats
    height: Floats
    stripe: Floats


@dataclass(frozen=True)
class Feature:
    """A shape of the map.

    Attributes:
        geometry: A polygon, or the middle line of a street; metres.
        legend: Name of its class in the legend.
        kind: What it is, more finely than the legend has it.
        width: Width of a street in metres, None for polygons.
        height: Height of a building in metres, otherwise None.
        bridge: Whether it crosses over others of its class.
    """

    geometry: Polygon | LineString
    legend: str
    kind: str
    width: float | None = None
    height: float | None = None


@dataclass
class Piece:
    """One part of a plan: what belongs to a cell or to a stretch of river or highway.

    Attributes:
        patches: For the photo.
        trees: float64 [N,6] each: x, y, radius, height, hue (0 to 1), darkness (0 to 1).
        features: For the map.
    """

    patches: list[Patches] = field(default_factory=list)
    trees: list[Floats] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)

    def paint(
        self,
        geometry: Any,
        layer: Layer,
        material: Material,
        colour: ArrayLike,
        *,
        height: float = 0.0,
        stripe: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Add the outlines of a shapely geometry; what lies in holes is painted later."""
        for polygon in polygons(geometry):
            ring = shapely.get_coordinates(polygon.exterior)[None]
            self.paint_many(ring, layer, material, colour, height=height, stripe=stripe)

    def paint_many(
        self,
        corners: Floats,
        layer: Layer,
        material: Material,
        colour: ArrayLike,
        *,
        height: ArrayLike = 0.0,
        stripe: ArrayLike = (0.0, 0.0, 0.0),
    ) -> None:
        """Add polygons [N,K,2]; colour, height and stripe are for each or for all."""
        n = len(corners)
        if n:
            self.patches.append(
                Patches(
                    corners,
                    int(layer),
                    int(material),
                    np.broadcast_to(np.asarray(colour, np.float64), (n, 3)),
                    np.broadcast_to(np.asarray(height, np.float64), (n,)),
                    np.broadcast_to(np.asarray(stripe, np.float64), (n, 3)),
                )
            )

    def plant(
        self,
        places: Floats,
        rng: np.random.Generator,
        *,
        radius: tuple[float, float] = (2.0, 4.6),
        hue: float = 0.5,
    ) -> None:
        """Add trees at places [N,2] with radii in a range and hues around one."""
        n = len(places)
        if n:
            radii = radius[0] + (radius[1] - radius[0]) * rng.beta(1.6, 2.2, n)
            heights = radii * rng.uniform(1.5, 2.5, n) + 0.5
            hues = np.clip(hue + rng.normal(0, 0.22, n), 0, 1)
            self.trees.append(np.column_stack([places, radii, heights, hues, rng.random(n)]))

    def feature(self, geometry: Any, legend: str, kind: str, height: float | None = None) -> None:
        """Add the polygons of a geometry to the map, cut so that none has a hole."""
        for polygon in polygons(geometry):
            for part in without_holes(polygon):
                self.features.append(Feature(part, legend, kind, None, height))

    def street(self, geometry: Any, legend: str, kind: str, width: float) -> None:
        """Add the lines of a geometry to the map."""
        for line in lines(geometry):
            self.features.append(Feature(line, legend, kind, round(width, 1)))


def polygons(geometry: Any, least: float = 0.5) -> list[Polygon]:
    """Return the polygons inside a geometry whose area in square metres is at least so."""
    if isinstance(geometry, Polygon):
        return [geometry] if geometry.area >= least else []
    if isinstance(geometry, MultiPolygon) or hasattr(geometry, "geoms"):
        return [polygon for part in geometry.geoms for polygon in polygons(part, least)]
    return []


def lines(geometry: Any, least: float = 2.0) -> list[LineString]:
    """Return the lines inside a geometry that are at least so many metres long."""
    if isinstance(geometry, LineString):
        return [geometry] if geometry.length >= least else []
    if isinstance(geometry, MultiLineString) or hasattr(geometry, "geoms"):
        return [line for part in geometry.geoms for line in lines(part, least)]
    return []


def without_holes(polygon: Polygon) -> list[Polygon]:
    """Cut a polygon into parts without holes that cover the same ground."""
    if not polygon.interiors:
        return [polygon]
    west, south, east, north = polygon.bounds
    middle = polygon.interiors[0].centroid.x
    return [
        part
        for side in (box(west, south, middle, north), box(middle, south, east, north))
        for half in polygons(polygon.intersection(side))
        for part in without_holes(half)
    ]


def rectangles(middles: Floats, along: Floats, length: ArrayLike, width: ArrayLike) -> Floats:
    """Return rectangles [N,4,2].

    Args:
        middles: Their middles [N,2].
        along: Unit vectors [N,2] of their lengths.
        length: In metres, [N] or one for all.
        width: In metres, [N] or one for all.
    """
    n = len(middles)
    half = along * (np.broadcast_to(np.asarray(length, np.float64), (n,))[:, None] / 2)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    side = across * (np.broadcast_to(np.asarray(width, np.float64), (n,))[:, None] / 2)
    return np.stack(
        [
            middles - half - side,
            middles + half - side,
            middles + half + side,
            middles - half + side,
        ],
        1,
    )


def along_line(
    line: LineString, distances: Floats, aside: ArrayLike = 0.0
) -> tuple[Floats, Floats]:
    """Return places [N,2] and directions [N,2] along a line.

    Args:
        line: The line.
        distances: Metres from its start, [N].
        aside: Metres to the left of it, [N] or one for all.
    """
    reach = min(1.0, line.length / 4)
    middles = np.clip(distances, reach, line.length - reach)
    ends = [
        shapely.get_coordinates(shapely.line_interpolate_point(line, middles + step))
        for step in (-reach, reach)
    ]
    along = ends[1] - ends[0]
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1])[:, None], 1e-9)
    places = shapely.get_coordinates(shapely.line_interpolate_point(line, distances))
    left = np.column_stack([-along[:, 1], along[:, 0]])
    offset = np.broadcast_to(np.asarray(aside, np.float64), (len(distances),))
    return places + left * offset[:, None], along


def free(boxes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which shapes to keep so that none overlaps an earlier one that is kept."""
    tree = shapely.STRtree(boxes)
    first, second = tree.query(boxes, predicate="intersects")
    keep = np.ones(len(boxes), np.bool_)
    order = np.argsort(first, kind="stable")
    for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if b < a and keep[b]:
            keep[a] = False
    return keep


def scatter(area: Polygon, rng: np.random.Generator, spacing: float, share: float = 1.0) -> Floats:
    """Return places [N,2] inside an area, about one per spacing squared, none too close."""
    if area.is_empty:
        return np.zeros((0, 2))
    west, south, east, north = area.bounds
    xs = np.arange(west, east + spacing, spacing)
    ys = np.arange(south, north + spacing, spacing)
    grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1).reshape(-1, 2)
    grid = grid + rng.uniform(-0.42, 0.42, grid.shape) * spacing
    grid = grid[rng.random(len(grid)) < share]
    inside: Floats = grid[shapely.contains_xy(area, grid[:, 0], grid[:, 1])]
    return inside


def merge(pieces: Iterable[Piece]) -> Piece:
    """Return one piece with everything that several have."""
    whole = Piece()
    for piece in pieces:
        whole.patches += piece.patches
        whole.trees += piece.trees
        whole.features += piece.features
    return whole
