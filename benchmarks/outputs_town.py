"""A small town for `outputs.py`: its shapes with OpenStreetMap's tags, its classes, its photo.

Drawn without sat2map, so that a change of sat2map's own procedural towns changes nothing here.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform
from scipy.ndimage import gaussian_filter

Photo = NDArray[np.uint8]
Tags = dict[str, str]
Shape = tuple[Any, Tags]

HEIGHT, WIDTH = 1120, 1300
"""Of the town in pixels of 1 m: two windows of 1024 each way."""

EAST, NORTH = 391_000.0, 5_820_000.0
UTM = CRS.from_epsg(32633)

LEGEND: dict[str, tuple[int, int, int]] = {
    "land": (233, 229, 221),
    "building": (243, 241, 235),
    "road": (255, 255, 253),
    "park": (203, 223, 173),
    "water": (178, 209, 254),
    "highway": (247, 160, 33),
    "main_road": (254, 223, 95),
    "other": (221, 217, 211),
}
ROADS = frozenset({"road", "highway", "main_road"})
GROUND: dict[str, tuple[int, int, int]] = {
    "land": (122, 118, 94),
    "building": (150, 122, 112),
    "road": (120, 120, 122),
    "park": (72, 92, 52),
    "water": (46, 66, 78),
    "highway": (140, 138, 134),
    "main_road": (128, 128, 128),
    "other": (168, 164, 156),
}
"""The colour of each class in the photo, before its noise."""

STREET_TAGS: tuple[Tags, ...] = (
    {"highway": "residential"},
    {"highway": "tertiary", "bridge": "yes", "layer": "1"},
    {"highway": "service"},
    {"highway": "cycleway"},
    {"highway": "secondary"},
    {"highway": "residential", "tunnel": "yes"},
    {"highway": "pedestrian"},
    {"railway": "rail"},
)
GREEN_TAGS: tuple[Tags, ...] = (
    {"leisure": "park"},
    {"natural": "wood"},
    {"landuse": "farmland"},
    {"leisure": "pitch"},
    {"natural": "scrub"},
    {"landuse": "cemetery"},
    {"natural": "wetland"},
    {"landuse": "grass"},
)
OTHER_TAGS: tuple[Tags, ...] = (
    {"amenity": "parking"},
    {"landuse": "industrial"},
    {"landuse": "retail"},
    {"amenity": "school"},
    {"natural": "sand"},
    {"landuse": "residential"},
)


def town(random: np.random.Generator) -> dict[str, list[Shape]]:
    """Draw the shapes of a town: class to shapes in metres east and south, with OSM's tags."""
    shapes: dict[str, list[Shape]] = {name: [] for name in LEGEND}
    columns = np.cumsum(random.uniform(70, 150, 13)) - 40
    rows = np.cumsum(random.uniform(60, 130, 13)) - 40
    for i, (left, right) in enumerate(itertools.pairwise(columns)):
        for j, (top, bottom) in enumerate(itertools.pairwise(rows)):
            block = shapely.box(left + 8, top + 8, right - 8, bottom - 8)
            kind = random.random()
            if kind < 0.2:
                shapes["park"].append((block, GREEN_TAGS[(3 * i + j) % len(GREEN_TAGS)]))
            elif kind < 0.35:
                shapes["other"].append((block, OTHER_TAGS[(i + j) % len(OTHER_TAGS)]))
            else:
                shapes["building"] += houses(block, random)
    for number, x in enumerate(columns):
        bend = random.normal(0, 4, 5)
        points = np.stack([x + bend, np.linspace(-20, HEIGHT + 20, 5)], 1)
        shapes["road"].append((shapely.LineString(points), STREET_TAGS[number % len(STREET_TAGS)]))
    for number, y in enumerate(rows):
        line = shapely.LineString([(-20, y), (WIDTH + 20, y + random.normal(0, 6))])
        main = number % 5 == 2
        tags = {"highway": "primary"} if main else STREET_TAGS[(number + 3) % len(STREET_TAGS)]
        shapes["main_road" if main else "road"].append((line, tags))
    way = [(-20, 900), (500, 820), (900, 560), (1320, 480)]
    shapes["highway"].append((shapely.LineString(way), {"highway": "motorway"}))
    x = np.linspace(-20, WIDTH + 20, 30)
    river = shapely.LineString(np.stack([x, 250 + 60 * np.sin(x / 190)], 1)).buffer(22)
    island = shapely.Point(640, 250 + 60 * np.sin(640 / 190)).buffer(12)
    shapes["water"].append((river.difference(island), {"natural": "water"}))
    return shapes


def houses(block: Any, random: np.random.Generator) -> list[Shape]:
    """Return houses along the upper and the lower edge of a block."""
    left, top, right, bottom = block.bounds
    found: list[Shape] = []
    x = left
    while x < right - 22:
        width, depth = random.uniform(10, 20), random.uniform(9, 16)
        for y in (top + 3, bottom - 3 - depth):
            house = shapely.box(x, y, x + width, y + depth)
            found.append((house, {"building": "yes" if random.random() < 0.7 else "house"}))
        x += width + random.uniform(3, 12)
    return found


WIDTHS = {"road": 8.0, "main_road": 14.0, "highway": 24.0}


def drawn(shapes: dict[str, list[Shape]]) -> NDArray[np.uint8]:
    """Return the class numbers of the town [H,W]."""
    order = ["park", "other", "building", "water", "road", "main_road", "highway"]
    numbers = {name: number for number, name in enumerate(LEGEND)}
    painted: list[tuple[Any, int]] = []
    for name in order:
        for shape, _ in shapes[name]:
            area = shape.buffer(WIDTHS[name] / 2) if name in WIDTHS else shape
            painted.append((area, numbers[name]))
    classes: NDArray[np.uint8] = rasterize(
        painted, (HEIGHT, WIDTH), fill=numbers["land"], dtype="uint8"
    )
    return classes


def photographed(classes: NDArray[np.uint8], random: np.random.Generator) -> Photo:
    """Return a photo of class numbers: shadows, blotches and grain, uint8 [H,W,3]."""
    photo = np.array(list(GROUND.values()), np.float32)[classes]
    house = list(LEGEND).index("building")
    shadow = np.roll(classes == house, (4, 3), (0, 1)) & (classes != house)
    photo[shadow] *= 0.5
    blotches = gaussian_filter(random.normal(0, 1, classes.shape).astype(np.float32), 12) * 150
    grain = random.normal(0, 6, (*classes.shape, 1)).astype(np.float32)
    photo = gaussian_filter(photo + blotches[..., None] + grain, (0.7, 0.7, 0))
    return np.asarray(photo.clip(0, 255).round(), np.uint8)


def in_degrees(shape: Any) -> Any:
    """Move a shape from metres east and south of the town's corner to WGS 84, ten digits."""

    def moved(points: NDArray[Any]) -> NDArray[Any]:
        place = transform(UTM, "EPSG:4326", EAST + points[:, 0], NORTH - points[:, 1])
        return np.stack(place, 1).round(10)

    return shapely.transform(shape, moved)
