from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sat2map.recipe import Recipe, load_recipe

SMALL = [
    "data.size=16",
    "data.resize=20",
    "generator.base_channels=4",
    "discriminator.base_channels=4",
    "discriminator.strided_layers=1",
    "training.epochs=3",
    "training.log_steps=2",
    "training.grid_epochs=2",
    "validation.epochs=1",
    "statistics.pictures=4",
    "statistics.validation_pictures=3",
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six training and three validation pairs: coloured rectangles and their outlines."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        for number in range(count):
            both = np.full((24, 48, 3), 200, np.uint8)
            top, left = random.integers(0, 14, 2)
            both[top : top + 8, left : left + 9] = random.integers(0, 255, 3)
            both[top : top + 8, 24 + left : 24 + left + 9] = (30, 60, 90)
            Image.fromarray(both).save(folder / f"{number}.png")
    return tmp_path / "set"


@pytest.fixture
def small() -> Callable[..., Recipe]:
    """Return a maker of recipes that run in a moment, with further settings."""

    def make(*settings: str, recipe: str = "pix2pix") -> Recipe:
        return load_recipe(recipe, [*SMALL, *settings])

    return make
