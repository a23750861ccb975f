"""A known shift is found, and nothing is claimed where there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sat2map.chips.offset import estimate_offset
from sat2map.towns import draw_pair

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
SIDE, ROOM = 128, 16


@pytest.fixture(scope="module")
def towns() -> list[Pair]:
    return [draw_pair(SIDE + 2 * ROOM, seed) for seed in range(8)]


def moved(towns: list[Pair], columns: int, rows: int) -> list[Pair]:
    """Windows in which the map lies so many pixels to the right and down."""
    inner = slice(ROOM, ROOM + SIDE)
    there = (slice(ROOM - rows, ROOM - rows + SIDE), slice(ROOM - columns, ROOM - columns + SIDE))
    return [(photo[inner, inner], drawn[there]) for photo, drawn in towns]


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (5, -3), (-9, 4), (0, 11)])
def test_a_known_shift_is_found(towns: list[Pair], columns: int, rows: int) -> None:
    offset = estimate_offset(moved(towns, columns, rows), reach=14)
    assert offset is not None and offset.sure
    assert (offset.columns, offset.rows) == pytest.approx((columns, rows), abs=0.75)
    assert offset.windows == 8


def test_half_a_pixel_is_seen(towns: list[Pair]) -> None:
    offsets = [estimate_offset(moved(towns, columns, 0), reach=14) for columns in (0, 1)]
    between = [
        (photo, ((a.astype(int) + b) // 2).astype(np.uint8))
        for (photo, a), (_, b) in zip(moved(towns, 0, 0), moved(towns, 1, 0), strict=True)
    ]
    offset = estimate_offset(between, reach=14)
    assert offsets[0] is not None and offsets[1] is not None and offset is not None
    assert offsets[0].columns + 0.2 < offset.columns < offsets[1].columns - 0.2


def test_maps_of_other_ground_are_not_trusted(towns: list[Pair]) -> None:
    here = moved(towns, 0, 0)
    swapped = [(here[i][0], here[(i + 3) % len(here)][1]) for i in range(len(here))]
    offset = estimate_offset(swapped, reach=14)
    assert offset is not None and not offset.sure


def test_empty_windows_are_passed_over(towns: list[Pair]) -> None:
    empty = np.full((SIDE, SIDE, 3), 200, np.uint8)
    assert estimate_offset([(empty, empty)], reach=8) is None
    mixed = [*moved(towns, 3, 2), (empty, empty)]
    offset = estimate_offset(mixed, reach=14)
    assert offset is not None and offset.windows == 8
