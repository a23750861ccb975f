"""Ground for training and ground for validation: whole blocks, with a buffer between them.

Neighbouring chips share streets, roofs and light, so that a chip beside a training chip says
little about new ground. Validation therefore gets blocks of their own, and what is nearer than
the buffer to other ground is left out there. After Roberts et al., "Cross-validation strategies
for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40 (2017).

Everything is counted in pixels of a chip's grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

LARGEST = 8
"""Chips along a block's side at most."""

FAR = 0.3
"""Of the share that was asked for: where it is off by more, other sizes of blocks are tried."""

BLOCKS = 5
"""So many validation blocks are aimed at: fewer would show less of the ground's variety."""

NOWHERE = shapely.Polygon()


@dataclass(frozen=True)
class Split:
    """The ground of each split, on which its chips may lie.

    Attributes:
        training: Training chips lie within this.
        validation: Validation chips lie within this; empty where there are none.
        blocks: The validation blocks, which hold `validation` and its buffer.
    """

    training: BaseGeometry
    validation: BaseGeometry = NOWHERE
    blocks: list[BaseGeometry] = field(default_factory=list)


def split_ground(
    ground: BaseGeometry,
    size: int,
    share: float,
    buffer: float,
    seed: int,
    training: Callable[[BaseGeometry], int],
    validation: Callable[[BaseGeometry], int],
) -> Split:
    """Divide ground by blocks, at random, so that about a share of its chips validates.

    Blocks have up to `LARGEST` chips a side. On small ground they shrink, and become strips
    where nothing else fits, so that there is a validation chip and a training chip wherever a
    way to have both with the buffer between them is found; otherwise all is for training.

    Args:
        ground: All of it.
        size: Side of a chip.
        share: Of the chips that validate, 0 to 1.
        buffer: What lies at least between training and validation chips, above or equal 0.
        seed: Other seeds choose other blocks.
        training: Returns how many training chips fit into an area and are of use.
        validation: The same of validation chips.
    """
    total = training(ground) if share > 0 else 0
    if total < 2:
        return Split(ground)
    best, least = Split(ground), math.inf
    for width, height in _sides(ground, size, share, total):
        blocks = list(_blocks(ground, width, height, size))
        chosen: list[BaseGeometry] = []
        off = math.inf  # by how much the share that validates differs from the one asked for
        for place in np.random.default_rng(seed).permutation(len(blocks)).tolist():
            block = blocks[place]
            near = ground.intersection(block.buffer(buffer + 1, join_style="mitre"))
            together = shapely.union_all([*chosen, block])
            if not validation(_inside(near, block, buffer)):
                continue
            left = training(ground.difference(together))
            if not left:
                continue
            fits = validation(_inside(ground, together, buffer))
            reached = fits / (fits + left)
            if abs(reached - share) >= off:
                break  # one block more is too many
            chosen.append(block)
            off = abs(reached - share)
            if reached >= share:
                break
        if off < least:
            together = shapely.union_all(chosen)
            inside = _inside(ground, together, buffer)
            best, least = Split(ground.difference(together), inside, chosen), off
        if least <= FAR * share:
            break
    return best


def _sides(
    ground: BaseGeometry, size: int, share: float, total: int
) -> Iterator[tuple[float, float]]:
    """Yield widths and heights of blocks to try, the best first."""
    west, south, east, north = ground.bounds
    wide, high = math.ceil((east - west) / size), math.ceil((north - south) / size)
    best = min(max(round(math.sqrt(total * share / BLOCKS)), 1), LARGEST, max(wide, high))
    for chips in [*range(best, 0, -1), *range(best + 1, max(wide, high) + 1)]:
        yield chips * size, chips * size
    for chips in (1, 2):
        yield chips * size, math.inf
        yield math.inf, chips * size


def _blocks(ground: BaseGeometry, width: float, height: float, size: int) -> Iterator[BaseGeometry]:
    """Yield the blocks that the ground is divided into, as whole rectangles."""
    west, south, east, north = ground.bounds
    xs, ys = _cuts(west, east, width, size), _cuts(south, north, height, size)
    for bottom, top in pairwise(ys):
        for left, right in pairwise(xs):
            block = shapely.box(left, bottom, right, top)
            if ground.intersects(block):
                yield block


def _cuts(low: float, high: float, step: float, size: int) -> list[float]:
    """Return where an axis is cut: at multiples of the step.

    A rest that is smaller than a chip belongs to the piece before.
    """
    cuts = [low]
    while high - cuts[-1] >= step + size:
        cuts.append(cuts[-1] + step)
    return [*cuts, high]


def _inside(ground: BaseGeometry, block: BaseGeometry, buffer: float) -> BaseGeometry:
    """Return the block's ground that is at least the buffer away from other ground."""
    others = ground.difference(block)
    own = ground.intersection(block)
    return own if others.is_empty or not buffer else own.difference(_widened(others, buffer))


def _widened(area: BaseGeometry, by: float) -> BaseGeometry:
    return area.buffer(by, join_style="mitre")
