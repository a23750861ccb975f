from __future__ import annotations

import numpy as np

from sat2map.serve.overviews import NOTHING, halve, halved_size, level_count


def test_classes_are_halved_by_mode_and_images_by_mean() -> None:
    numbers = np.array([[1, 1, 2, 3], [2, 1, 3, 2], [4, NOTHING, NOTHING, NOTHING]], np.uint8)
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    shown = (numbers != NOTHING).astype(np.uint8)
    half = halve({"numbers": numbers, "image": image, "shown": shown})
    # Where two are as frequent the first in reading order counts; what is nothing never does.
    assert half["numbers"].tolist() == [[1, 2], [4, NOTHING]]
    assert half["shown"].tolist() == [[1, 1], [1, 0]]
    assert half["image"][0, 0].tolist() == np.rint(image[:2, :2].mean((0, 1)) + 0.01).tolist()
    assert half["image"][1, 0].tolist() == image[2, 0].tolist()
    assert half["image"][1, 1].tolist() == [0, 0, 0]


def test_a_class_that_is_rare_beside_nothing_stays() -> None:
    numbers = np.full((2, 2), NOTHING, np.uint8)
    numbers[1, 1] = 0
    half = halve({"numbers": numbers, "shown": (numbers != NOTHING).astype(np.uint8)})
    assert half["numbers"].tolist() == [[0]]


def test_overviews_of_neighbours_adjoin() -> None:
    assert level_count(1024) == 6
    assert level_count(64) == 2
    assert level_count(1000) == 3  # an eighth is odd
    assert level_count(31) == 0
    random = np.random.default_rng(0).integers(0, 5, (128, 128), dtype=np.uint8)
    layers = {"numbers": random, "shown": np.ones_like(random)}
    whole = halve(halve(layers))["numbers"]
    for row in (0, 64):
        for column in (0, 64):
            part = {k: v[row : row + 64, column : column + 64] for k, v in layers.items()}
            found = halve(halve(part))["numbers"]
            assert np.array_equal(found, whole[row // 4 :, column // 4 :][:16, :16])
    assert [halved_size(5, level) for level in range(4)] == [5, 3, 2, 1]
