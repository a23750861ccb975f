"""Geometry that the plan is made with; metres throughout."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import LineString, Polygon, box

from sat2map.towns.world import Bounds, Floats


def polygons(geometry: Any, least: float = 0.5) -> list[Polygon]:
    """Return the polygons inside a geometry whose area in square metres is at least so."""
    if isinstance(geometry, Polygon):
        return [geometry] if geometry.area >= least else []
    if hasattr(geometry, "geoms"):
        return [polygon for part in geometry.geoms for polygon in polygons(part, least)]
    return []


def lines(geometry: Any, least: float = 2.0) -> list[LineString]:
    """Return the lines inside a geometry that are at least so many metres long."""
    if isinstance(geometry, LineString):
        return [geometry] if geometry.length >= least else []
    if hasattr(geometry, "geoms"):
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
    half = along * (np.reshape(length, (-1, 1)) / 2)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    side = across * (np.reshape(width, (-1, 1)) / 2)
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
    return places + left * np.reshape(aside, (-1, 1)), along


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


def split(area: Polygon, rng: np.random.Generator, target: float) -> list[Polygon]:
    """Halve an area across its length until the parts have about a target area."""
    done: list[Polygon] = []
    waiting = polygons(area, 60.0)
    while waiting:
        part = waiting.pop()
        ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(part))
        if part.area < target * 1.5 or len(ring) < 5:
            done.append(part)
            continue
        sides = np.diff(ring[:3], axis=0)
        lengths = np.hypot(sides[:, 0], sides[:, 1])
        long = int(lengths.argmax())
        along, reach = sides[long] / lengths[long], float(lengths.sum())
        middle = ring[:4].mean(0) + along * lengths[long] * rng.uniform(-0.12, 0.12)
        half = Polygon(
            rectangles((middle + along * reach)[None], along[None], 2 * reach, 2 * reach)[0]
        )
        parts = polygons(part.intersection(half), 40.0) + polygons(part.difference(half), 40.0)
        if len(parts) < 2:
            done.append(part)
            continue
        waiting += parts
    return done


def direction(area: Polygon) -> float:
    """Return the direction of the longer side of an area, radians."""
    ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(area))
    if len(ring) < 4:
        return 0.0
    sides = np.diff(ring[:3], axis=0)
    longest = sides[int(np.hypot(sides[:, 0], sides[:, 1]).argmax())]
    return float(np.arctan2(longest[1], longest[0]))


def lattice(area: Polygon, axes: Floats, gap: tuple[float, float]) -> Floats:
    """Return the points [N,2] of a turned lattice that lie in an area."""
    if area.is_empty:
        return np.zeros((0, 2))
    west, south, east, north = area.bounds
    reach = np.hypot(east - west, north - south) / 2
    u, v = np.arange(-reach, reach, gap[0]), np.arange(-reach, reach, gap[1])
    local = np.stack(np.meshgrid(u, v, indexing="ij"), -1).reshape(-1, 2)
    spots = local @ axes + np.array([(west + east) / 2, (south + north) / 2])
    inside: Floats = spots[shapely.contains_xy(area, spots[:, 0], spots[:, 1])]
    return inside


def buffered(geometry: Any, by: float) -> Any:
    """Return a geometry buffered by so many metres, with corners cut coarsely."""
    return shapely.buffer(geometry, by, quad_segs=4)


def grown(bounds: tuple[float, ...], by: float) -> Bounds:
    """Return bounds moved outwards by so many metres."""
    west, south, east, north = bounds
    return west - by, south - by, east + by, north + by
