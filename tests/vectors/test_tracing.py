from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import ndimage

from sat2map.vectors.blocks import Block
from sat2map.vectors.tracing import TRACED, traced_alone, traced_houses

EXTENT = (200, 300)


def houses(seed: int) -> list[Block]:
    """Return ragged blocks of one house; some lie at the scene's edge, one beside another block."""
    random = np.random.default_rng(seed)
    found = []
    for corner in ((20, 30), (-2, 40), (100, 280), (60, 60), (90, 90), (120, 150)):
        noise = ndimage.gaussian_filter(random.standard_normal((18, 22)), 3)
        whole, _ = ndimage.label(noise > np.quantile(noise, 0.5))
        own = np.pad(whole == np.bincount(whole[whole > 0]).argmax(), 2)
        labels = own.astype(np.int32)
        if corner == (90, 90):
            labels[0, 0] = -1
        found.append(Block(labels, (1,), corner, (corner[0] + 2, corner[1] + 2)))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_houses_that_are_traced_together_are_what_each_is_alone(seed: int) -> None:
    blocks = houses(seed)
    matrices = [np.array([[0.5, 0.01], [0.01, -0.5]]) * (1 + n) for n in range(len(blocks))]
    together = traced_alone(blocks, matrices, TRACED, EXTENT)
    for block, matrix, found in zip(blocks, matrices, together, strict=True):
        (alone,), (one,) = traced_houses(block, matrix, TRACED, EXTENT), found
        assert shapely.equals_exact(one.outline, alone.outline)
        assert (one.orientation_deg, one.first) == (alone.orientation_deg, alone.first)
        mask = np.argwhere(block.labels == 1)[:, ::-1] + block.corner[::-1] + 0.5
        assert shapely.contains_xy(one.outline, mask).mean() > 0.85


def test_nothing_to_trace_gives_nothing() -> None:
    assert traced_alone([], [], TRACED, EXTENT) == []


def test_a_house_beside_another_block_keeps_the_outline_of_its_pixels() -> None:
    blocks = [one for one in houses(0) if (one.labels < 0).any()]
    (found,) = traced_alone(blocks, [np.eye(2)], TRACED, EXTENT)
    (alone,) = traced_houses(blocks[0], np.eye(2), TRACED, EXTENT)
    assert shapely.equals_exact(found[0].outline, alone.outline)
