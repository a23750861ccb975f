"""Houses of a block without right angles as a whole: each by itself, with straight common walls.

Where a neck parts two houses, the border that follows from pixels is ragged. In its place comes a
straight wall, along the house's main direction or across it, which is a wall of both:

      ##########         +---------+            Where two houses differ in direction, or one stands
      ###########..      |         +-----+      over the other, the overlap goes to the one with
      ##########......   |         |     |      which it has the longest border, and a gap of less
      #########.......   |         |     |      than a pixel, too. So outlines never overlap, and
               ......    +---------+-----+      common walls are exactly the same on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.vectors.arcs import PRECISION, Points, on_grid
from sat2map.vectors.blocks import Block, House
from sat2map.vectors.squaring import Grid, Ragged, Samples, houses_of, ragged_grid, squared_grid
from sat2map.vectors.tracing import TRACED, traced_alone, traced_houses
from sat2map.vectors.walls import Matrix, outlines_of, rotated, step_of

_LEAST_SIDES = 2
"""Pixels' sides that two houses have in common at least, where there is a wall between them."""

_MOST = 0.25
"""The share of the smaller house that may go to another for the sake of a straight border."""

_GAP = 1.0
"""Pixels: what is narrower between two houses of a block belongs to one of them."""

_SNAP = 4 * PRECISION


@dataclass(frozen=True)
class _Alone:
    block: int  # its place
    number: int  # of the house in it, from 1
    house: Block  # the house as a block of its own
    shared: list[Points]  # the borders with others of its block, on the ground


def square_apart(
    blocks: Sequence[Block],
    matrices: Sequence[Matrix],
    directions: Sequence[float],
    extent: tuple[int, int],
) -> list[list[House]]:
    """Return the houses of each block, squared one by one; traced are those that it costs too much.

    Args:
        blocks: Of two houses or more.
        matrices: Metres of steps in each.
        directions: The main direction of each, in radians.
        extent: Height and width of the scene.
    """
    blocks = list(map(_straightened, blocks, matrices, directions))
    alone = [one for n, block in enumerate(blocks) for one in _alone(n, block, matrices[n])]
    squared: list[tuple[_Alone, Grid]] = []
    left: list[tuple[_Alone, Ragged]] = []
    masks = [np.maximum(one.house.labels, 0) for one in alone]
    of_block = [directions[one.block] for one in alone]
    for n, outline in outlines_of(masks, [matrices[one.block] for one in alone], of_block):
        samples = Samples(alone[n].house, matrices[alone[n].block])
        grid = squared_grid(samples, outline, extent, alone[n].shared)
        if isinstance(grid, Grid):
            squared.append((alone[n], grid))
        elif grid is not None:
            left.append((alone[n], grid))
    houses_left = [one.house for one, _ in left]
    every = traced_alone(houses_left, [matrices[one.block] for one, _ in left], TRACED, extent)
    for (one, ragged), traced in zip(left, every, strict=True):
        best = ragged_grid(ragged, traced, extent)
        if best is not None:
            squared.append((one, best))
    found: list[dict[int, House]] = [{} for _ in blocks]
    made = houses_of([grid for _, grid in squared], extent)
    for (one, _), houses in zip(squared, made, strict=True):
        for house in houses:
            found[one.block][one.number] = replace(house, first=(*house.first[:2], one.number))
    return [_put_together(block, matrices[n], found[n], extent) for n, block in enumerate(blocks)]


def _straightened(block: Block, matrix: Matrix, angle: float) -> Block:
    """Return a block whose houses are parted by straight lines where a neck parts them.

    The line runs through the middle of the border, along the main direction or across it, whichever
    is shorter. Where a house would fall to pieces, or lose much of it, the border stays.
    """
    from scipy import ndimage

    labels = block.labels
    step = step_of(matrix)
    for (one, two), middles in _borders(labels).items():
        if block.numbers[one - 1] != block.numbers[two - 1]:
            continue  # nothing is guessed: the class map tells them apart
        rows, columns = np.nonzero((labels == one) | (labels == two))
        own = labels[rows, columns]
        places = rotated((np.column_stack([columns, rows]) + 0.5) @ matrix, angle)[::-1]
        border = rotated(middles @ matrix, angle)[::-1]
        off = [place - line.mean() for place, line in zip(places, border, strict=True)]
        kind = int(np.argmin([np.count_nonzero(np.abs(away) < step / 2) for away in off]))
        near = np.abs(off[kind]) <= np.ptp(border[kind]) + step
        behind = own == two
        if off[kind][behind].mean() < off[kind][~behind].mean():
            off[kind] *= -1
        parted = np.where(near, np.where(off[kind] > 0, two, one), own)
        if np.count_nonzero(parted != own) > _MOST * min(behind.sum(), (~behind).sum()):
            continue
        tried = labels.copy()
        tried[rows, columns] = parted
        for number, other in ((one, two), (two, one)):  # crumbs beyond the line go back
            pieces, count = ndimage.label(tried == number)
            if count > 1:
                tried[(pieces > 0) & (pieces != np.bincount(pieces[pieces > 0]).argmax())] = other
        if all(ndimage.label(tried == number)[1] == 1 for number in (one, two)):
            labels = tried
    return replace(block, labels=labels)


def _alone(n: int, block: Block, matrix: Matrix) -> list[_Alone]:
    """Return each house of a block as a block of its own."""
    from scipy import ndimage

    labels = block.labels
    borders = _borders(labels)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(np.maximum(labels, 0)), 1):
        top, left = rows.start - 2, columns.start - 2
        box = (slice(top, rows.stop + 2), slice(left, columns.stop + 2))
        near = labels[box]
        own = np.where(near == number, 1, np.minimum(near, 0)).astype(np.int32)
        house = Block(
            own,
            (block.numbers[number - 1],),
            (block.corner[0] + top, block.corner[1] + left),
            block.first,
        )
        shared = [
            (middles - (left, top)) @ matrix
            for pair, middles in borders.items()
            if number in pair and len(middles) >= _LEAST_SIDES
        ]
        found.append(_Alone(n, number, house, shared))
    return found


def _borders(labels: NDArray[np.int32]) -> dict[tuple[int, int], Points]:
    """Return the middles of the pixels' sides between each two houses, (column, row)."""
    pairs, middles = [], []
    for axis, first, second in ((0, labels[:-1], labels[1:]), (1, labels[:, :-1], labels[:, 1:])):
        rows, columns = np.nonzero((first != second) & (first > 0) & (second > 0))
        one, two = first[rows, columns], second[rows, columns]
        pairs.append(np.column_stack([np.minimum(one, two), np.maximum(one, two)]))
        half = (0.5, 1.0) if axis == 0 else (1.0, 0.5)
        middles.append(np.column_stack([columns, rows]) + half)
    every, places = np.concatenate(pairs), np.concatenate(middles)
    found, number = np.unique(every, axis=0, return_inverse=True)
    number = number.reshape(-1)
    return {(int(one), int(two)): places[number == place] for place, (one, two) in enumerate(found)}


def _put_together(
    block: Block, matrix: Matrix, squared: dict[int, House], extent: tuple[int, int]
) -> list[House]:
    """Return the houses of a block, of which some are squared, without overlaps."""
    traced = cache(partial(traced_houses, block, matrix, TRACED, extent))
    if not squared:
        return traced()
    corner = np.array(block.corner[::-1])

    def local(house: House) -> Any:  # so that where the scene begins changes no last digit
        return shapely.transform(house.outline, lambda points: points - corner)

    houses = [replace(house, outline=local(house)) for house in squared.values()]
    if len(squared) < len(block.numbers):
        walls = shapely.union_all([house.outline for house in houses])
        houses += [
            replace(house, outline=_largest(shapely.difference(local(house), walls)))
            for house in traced()
            if house.first[2] not in squared
        ]
    houses.sort(key=lambda house: house.first[2])
    outlines = shapely.coverage_clean(
        [house.outline for house in houses],
        gap_width=_GAP,
        snapping_distance=_SNAP,
        merge_strategy="longest_border",
    )
    outlines = shapely.transform(outlines, on_grid)
    if not (
        (shapely.get_type_id(outlines) == 3).all()
        and shapely.is_valid(outlines).all()
        and shapely.coverage_is_valid(outlines)
    ):
        return traced()
    placed = shapely.transform(outlines, lambda points: points + corner)
    return [replace(house, outline=shape) for house, shape in zip(houses, placed, strict=True)]


def _largest(shape: Any) -> Any:
    """Return the largest polygon of a shape."""
    parts = shapely.get_parts(shape)
    return parts[int(shapely.area(parts).argmax())] if len(parts) else shape
