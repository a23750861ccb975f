"""What a plan consists of: patches and trees for the photo, features for the map.

Both are made from the same outlines, so that photo and map show one world.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import LineString, Polygon

from sat2map.towns.geometry import lines, polygons, without_holes
from sat2map.towns.world import Floats


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
    MEDIAN = 10
    HIGHWAY = 11
    HIGHWAY_PAINT = 12
    CAR = 13
    SHED = 14
    ROOF = 15
    FACET = 16
    TOP = 17


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
    TIN = 11
    THATCH = 12


class Cover(IntEnum):
    """The classes of land cover, with their numbers in a class mask."""

    LAND = 0
    BUILDING = 1
    ROAD = 2
    VEGETATION = 3
    WATER = 4


BELOW = 255
"""In place of a class of cover: what lies below counts, as with cars and painted lines."""

_GREENERY = (Material.GRASS, Material.CROP, Material.FOREST)


def cover_of(layer: Layer, material: Material) -> int:
    """Return the class of cover of a patch, or `BELOW`, unless its maker knows better."""
    if layer in (Layer.PAINT, Layer.HIGHWAY_PAINT, Layer.CAR, Layer.SHED, Layer.TOP):
        return BELOW
    if layer in (Layer.ROOF, Layer.FACET):
        return Cover.BUILDING
    if material in _GREENERY:
        return Cover.VEGETATION
    if layer in (Layer.STREET, Layer.MAIN, Layer.HIGHWAY):
        return Cover.ROAD
    return Cover.WATER if material == Material.WATER else Cover.LAND


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
        cover: uint8 [N], the class of `Cover` that is seen there, or `BELOW`.
    """

    corners: Floats
    layer: int
    material: int
    colour: Floats
    height: Floats
    stripe: Floats
    cover: NDArray[np.uint8]


SHED = "shed"
"""The kind of those buildings that a map does not draw."""


@dataclass(frozen=True)
class Feature:
    """A shape of the map.

    Attributes:
        geometry: A polygon, or the middle line of a street; metres.
        legend: Name of its class in the legend.
        kind: What it is, more finely than the legend has it.
        width: Width of a street in metres, None for polygons.
        height: Height of a building in metres, otherwise None.
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
        cover: int | None = None,
    ) -> None:
        """Add the polygons of a shapely geometry, cut so that none has a hole."""
        for polygon in polygons(geometry):
            for part in without_holes(polygon):
                ring = shapely.get_coordinates(part.exterior)[None]
                self.paint_many(
                    ring, layer, material, colour, height=height, stripe=stripe, cover=cover
                )

    def paint_many(
        self,
        corners: Floats,
        layer: Layer,
        material: Material,
        colour: ArrayLike,
        *,
        height: ArrayLike = 0.0,
        stripe: ArrayLike = (0.0, 0.0, 0.0),
        cover: ArrayLike | None = None,
    ) -> None:
        """Add polygons [N,K,2]; colour, height, stripe and cover are for each or for all.

        Without `cover`, layer and material tell it (`cover_of`).
        """
        n = len(corners)
        if n:
            self.patches.append(
                Patches(
                    corners,
                    int(layer),
                    int(material),
                    _rows(colour, (n, 3)),
                    _rows(height, (n,)),
                    _rows(stripe, (n, 3)),
                    _rows(cover_of(layer, material) if cover is None else cover, (n,)).astype(
                        np.uint8
                    ),
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


def _rows(values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    rows = np.empty(shape)
    rows[:] = values
    return rows
