"""Outlines of buildings: squared block by block, so that row houses keep their common walls.

    pixels     cut into blocks, which touch nowhere, and their houses (`blocks.py`, `houses.py`)
    squared    along a main direction of the block (`squaring.py`, `walls.py`)
    apart      where the block as a whole fits no such grid, house by house, with straight walls in
               place of the borders between them (`party_walls.py`)
    traced     where that costs a house too much of its overlap with its pixels, as of round ones
               (`tracing.py`)

Blocks never overlap each other, nor do the houses of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.blocks import Block, House, blocks_of, connected, cut_out
from sat2map.vectors.party_walls import square_apart
from sat2map.vectors.squaring import Grid, Ragged, Samples, houses_of, ragged_grid, squared_grid
from sat2map.vectors.tracing import TRACED, traced_alone, traced_houses
from sat2map.vectors.walls import Matrix, outlines_of

LARGEST = 1024
"""Pixels along a side: a block that is larger is no building, and stays as it is in the map."""

_BESIDE = 3
"""Pixels around a block in which another's outline may overlap its own."""


def outline_buildings(
    numbers: NDArray[np.uint8],
    is_building: NDArray[np.bool_],
    corner: tuple[int, int],
    core: tuple[int, int, int, int],
    matrix_at: Callable[[int, int], Matrix],
    extent: tuple[int, int],
    sure: NDArray[np.float32] | None = None,
    complete: bool = True,
) -> tuple[list[House], NDArray[np.integer[Any]]] | None:
    """Return the outlines of all buildings that touch a part of a scene.

    Args:
        numbers: Class numbers, uint8 [H,W], of the part and of what is around it.
        is_building: Which classes are buildings, bool [256].
        corner: Row and column in the scene of the first pixel.
        core: Row and column in the scene of the part, its height and its width.
        matrix_at: Returns metres of steps around a row and a column of the scene.
        extent: Height and width of the scene, beyond which no building reaches.
        sure: How sure each class is, float32 [H,W], nan where unknown; None where nothing tells.
        complete: Whether nothing that is needed goes on beyond `numbers`.

    Returns:
        The houses, and the number of the block that each pixel is of, [H,W]; 0 none. None if it
        is not complete and a building may go on.
    """
    from scipy import ndimage

    mask = is_building[numbers]
    whole, _ = ndimage.label(mask, np.ones((3, 3)))
    top, left = core[0] - corner[0], core[1] - corner[1]
    inner = whole[top : top + core[2], left : left + core[3]]
    boxes = ndimage.find_objects(whole)
    touching = [int(n) for n in np.unique(inner) if n and _fits(boxes[n - 1])]
    wanted = dict.fromkeys(touching, True) | dict.fromkeys(
        _beside(whole, boxes, touching, (top, left, core[2], core[3])), False
    )
    if not complete and any(_nears_edge(boxes[n - 1], numbers.shape) for n in wanted):
        return None
    fours = connected(np.where(mask, numbers + np.uint16(1), 0))
    cut = {n: cut_out(numbers, (whole, fours), boxes[n - 1], n, corner, sure) for n in wanted}
    del fours  # four bytes a pixel
    blocks = dict(zip(cut, blocks_of(list(cut.values()), matrix_at), strict=True))
    shapes = dict(zip(blocks, _outlined(list(blocks.values()), matrix_at, extent), strict=True))
    for n in _overlapping(shapes):
        shapes[n] = traced_houses(blocks[n], matrix_at(*blocks[n].first), 0.0, extent)
    chosen = np.zeros(len(boxes) + 1, whole.dtype)
    chosen[touching] = touching
    return [house for n in touching for house in shapes[n]], chosen[whole]


def _fits(box: tuple[slice, slice]) -> bool:
    return all(side.stop - side.start <= LARGEST for side in box)


def _nears_edge(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Return whether what lies beside a block, which counts as well, may lie out of reach."""
    return any(
        side.start <= _BESIDE or side.stop >= length - _BESIDE
        for side, length in zip(box, shape, strict=True)
    )


def _beside(
    whole: NDArray[Any],
    boxes: list[tuple[slice, slice]],
    touching: list[int],
    core: tuple[int, int, int, int],
) -> set[int]:
    """Return blocks near to those that reach out of the core, whose outlines may overlap theirs."""
    found: set[int] = set()
    top, left, height, width = core
    for n in touching:
        rows, columns = boxes[n - 1]
        if (
            rows.start - 2 < top
            or columns.start - 2 < left
            or rows.stop + 2 > top + height
            or columns.stop + 2 > left + width
        ):
            near = whole[
                max(rows.start - _BESIDE, 0) : rows.stop + _BESIDE,
                max(columns.start - _BESIDE, 0) : columns.stop + _BESIDE,
            ]
            found.update(int(m) for m in np.unique(near) if m and _fits(boxes[m - 1]))
    return found - set(touching)


def _outlined(
    blocks: list[Block], matrix_at: Callable[[int, int], Matrix], extent: tuple[int, int]
) -> list[list[House]]:
    """Return the houses of each block: with right angles, or traced where that costs too much."""
    matrices = [matrix_at(*block.first) for block in blocks]
    found: list[list[House]] = [[] for _ in blocks]
    squared: list[tuple[int, Grid]] = []
    rows: dict[int, float] = {}
    left: dict[int, Ragged | None] = {}
    owns = [np.maximum(block.labels, 0) for block in blocks]
    for n, outline in outlines_of(owns, matrices):
        grid = squared_grid(Samples(blocks[n], matrices[n]), outline, extent)
        if isinstance(grid, Grid):
            squared.append((n, grid))
        elif len(blocks[n].numbers) > 1:
            rows[n] = outline.directions[0]
        else:
            left[n] = grid
    alone = [blocks[n] for n in left], [matrices[n] for n in left]
    for (n, ragged), houses in zip(left.items(), traced_alone(*alone, TRACED, extent), strict=True):
        found[n] = houses
        best = None if ragged is None else ragged_grid(ragged, houses, extent)
        if best is not None:
            squared.append((n, best))
    made = houses_of([grid for _, grid in squared], extent)
    for (n, _), houses in zip(squared, made, strict=True):
        found[n] = houses
    apart = square_apart(
        [blocks[n] for n in rows], [matrices[n] for n in rows], list(rows.values()), extent
    )
    for n, houses in zip(rows, apart, strict=True):
        found[n] = houses
    return found


def _overlapping(shapes: dict[int, list[House]]) -> list[int]:
    """Return the blocks whose houses overlap those of another block."""
    numbers = np.array([n for n, houses in shapes.items() for _ in houses])
    outlines = np.array([h.outline for houses in shapes.values() for h in houses], object)
    if not len(outlines):
        return []
    tree = shapely.STRtree(outlines)
    one, other = tree.query(outlines, predicate="intersects")
    apart = numbers[one] != numbers[other]
    one, other = one[apart], other[apart]
    shared = ~shapely.touches(outlines[one], outlines[other])
    return sorted({int(n) for n in numbers[one[shared]]})
