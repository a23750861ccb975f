"""Outlines of buildings as their pixels are, without stairs, and polygons of labels at large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import batches, on_grid, side_by_side, trace_arcs
from sat2map.vectors.blocks import Block, House
from sat2map.vectors.walls import Matrix

TRACED = 1.5
"""How far the outlines of traced houses are simplified, in pixels."""


def faces_of(grid: NDArray[Any]) -> list[tuple[Any, int]]:
    """Return the polygons of a grid's labels other than 0, and their labels."""
    parts = shapely.get_parts(shapely.polygonize(trace_arcs(grid, smooth=False)))
    points = shapely.get_coordinates(shapely.point_on_surface(parts)).astype(int)
    numbers = grid[points[:, 1], points[:, 0]]
    return [(part, int(n)) for part, n in zip(parts, numbers, strict=True) if n > 0]


def within_scene(outline: Any, extent: tuple[int, int]) -> Any:
    """Return an outline cut to the scene; None where that leaves no polygon."""
    west, south, east, north = shapely.bounds(outline)
    if west >= 0 and south >= 0 and east <= extent[1] and north <= extent[0]:
        return outline
    cut = shapely.intersection(outline, shapely.box(0, 0, extent[1], extent[0]))
    if shapely.get_type_id(cut) != 3 or shapely.is_empty(cut):
        return None
    rounded = shapely.transform(cut, on_grid)
    return rounded if shapely.is_valid(rounded) else None


def traced_houses(
    block: Block, matrix: Matrix, tolerance: float, extent: tuple[int, int]
) -> list[House]:
    """Return the houses of a block as their pixels are, without stairs.

    Where it lies at the scene's edge, or beside another block, it keeps its pixels' outline.
    """
    labels = np.maximum(block.labels, 0)
    edge = _is_at_edge(block, extent)
    faces = faces_of(labels) if edge else _smooth_faces(labels)
    if tolerance and not edge and not (block.labels < 0).any():
        outlines = shapely.coverage_simplify([face for face, _ in faces], tolerance)
        outlines = shapely.transform(outlines, on_grid)
        if shapely.is_valid(outlines).all() and (shapely.get_type_id(outlines) == 3).all():
            faces = [(shape, n) for shape, (_, n) in zip(outlines, faces, strict=True)]
    every = sorted(faces, key=lambda item: item[1])
    return [_placed(block, number, face, matrix) for face, number in every]


def traced_alone(
    blocks: list[Block], matrices: list[Matrix], tolerance: float, extent: tuple[int, int]
) -> list[list[House]]:
    """Return what `traced_houses` returns of each block of one house, most of them at once.

    Args:
        blocks: Each of one house.
        matrices: Metres of steps in each.
        tolerance: How far outlines are simplified, in pixels.
        extent: Height and width of the scene.
    """
    free = [n for n, block in enumerate(blocks) if not _is_at_edge(block, extent)]
    found = {
        n: traced_houses(blocks[n], matrices[n], tolerance, extent)
        for n in set(range(len(blocks))) - set(free)
    }
    for batch in batches([blocks[n].labels.size for n in free]):
        own = free[batch]
        every = _outlines([blocks[n].labels for n in own], tolerance)
        for n, outlines in zip(own, every, strict=True):
            found[n] = [_placed(blocks[n], 1, outline, matrices[n]) for outline in outlines]
    return [found[n] for n in range(len(blocks))]


def _outlines(blocks: list[NDArray[np.int32]], tolerance: float) -> list[list[Any]]:
    """Return the simplified outlines of blocks of one house, in pixels from the corner of each."""
    canvas, corners = side_by_side([np.maximum(labels, 0) for labels in blocks])
    faces = _smooth_faces(canvas)
    owner = np.array([number - 1 for _, number in faces])
    outlines = np.array([face for face, _ in faces], object)
    alone = np.array([labels.min() == 0 for labels in blocks])[owner]
    simple = shapely.transform(shapely.coverage_simplify(outlines[alone], tolerance), on_grid)
    wrong = ~shapely.is_valid(simple) | (shapely.get_type_id(simple) != 3)
    right = ~np.isin(owner[alone], owner[alone][wrong])
    outlines[np.flatnonzero(alone)[right]] = simple[right]
    points, outline = shapely.get_coordinates(outlines, return_index=True)
    corner = np.array(corners, np.float64)[owner, ::-1]
    outlines = shapely.set_coordinates(outlines, points - corner[outline])
    found: list[list[Any]] = [[] for _ in blocks]
    for number, shape in zip(owner.tolist(), outlines, strict=True):
        found[number].append(shape)
    return found


def _is_at_edge(block: Block, extent: tuple[int, int]) -> bool:
    """Return whether a block lies at the edge of the scene."""
    return any(
        first + 2 <= 0 or first + length - 2 >= whole
        for first, length, whole in zip(block.corner, block.labels.shape, extent, strict=True)
    )


def _placed(block: Block, number: int, outline: Any, matrix: Matrix) -> House:
    """Return a traced house of a block, whose outline is in pixels from the block's corner."""
    shape = shapely.transform(outline, lambda points: points + np.array(block.corner[::-1]))
    first = (*block.first, number)
    bearing = bearing_of(outline, matrix)
    return House(shape, block.numbers[number - 1], "traced", bearing, first)


def _smooth_faces(labels: NDArray[Any]) -> list[tuple[Any, int]]:
    """Return the polygons of labels other than 0 along smooth arcs, and their labels."""
    parts = shapely.get_parts(shapely.polygonize(trace_arcs(labels)))
    numbers = labels_of(parts, labels)
    return [(part, int(n)) for part, n in zip(parts, numbers, strict=True) if n > 0]


def labels_of(
    polygons: NDArray[np.object_], labels: NDArray[np.integer[Any]]
) -> NDArray[np.integer[Any]]:
    """Return which label each polygon between smooth arcs is of.

    Beside the middle of a pixel's side that its outline goes through lie two pixels of different
    labels, of which one is inside. An outline without such a middle is that of its pixels.

    Args:
        polygons: In pixels from the upper left corner of `labels`, object [N].
        labels: [H,W].
    """
    surface = shapely.get_coordinates(shapely.point_on_surface(polygons))
    inside = surface.copy()
    points, number = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    half = points % 1 == 0.5
    middle = np.flatnonzero(half.any(1))
    # One of the first row or column has no pixel beyond; none of them is on the raster's edge.
    which, at = np.unique(number[middle], return_index=True)
    place = points[middle[at]]
    normal = np.where(half[middle[at]][:, :1], (0.0, 0.25), (0.25, 0.0))
    shapely.prepare(polygons)
    one = shapely.contains_xy(polygons[which], *(place + normal).T)
    inside[which] = np.where(one[:, None], place + normal, place - normal)
    columns, rows = np.floor(inside).astype(int).T
    rows = np.clip(rows, 0, labels.shape[0] - 1)
    columns = np.clip(columns, 0, labels.shape[1] - 1)
    found: NDArray[np.integer[Any]] = labels[rows, columns]
    return found


def bearing_of(outline: Any, matrix: Matrix) -> float:
    """Return where the long side of the smallest rectangle around an outline points."""
    ground = shapely.transform(outline, lambda points: points @ matrix)
    corners = shapely.get_coordinates(shapely.oriented_envelope(ground))
    sides = np.diff(corners[:3], axis=0)
    if len(sides) < 2:
        return 0.0
    east, north = sides[np.hypot(*sides.T).argmax()]
    return math.degrees(math.atan2(east, north)) % 180
