from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fixtures.scenes import MakeScene
from sat2map.errors import DataError, UsageError
from sat2map.legend import COVER, LEGEND_TAG
from sat2map.vectors.class_map import NOTHING, open_class_map

NUMBERS = (np.arange(12, dtype=np.uint8) % 5).reshape(3, 4)


def tagged(path: Path) -> Path:
    with rasterio.open(path, "r+") as file:
        file.update_tags(**{LEGEND_TAG: json.dumps(COVER.to_json())})
    return path


def test_numbers_come_with_the_legend_of_the_tag_and_nothing_outside(
    make_scene: MakeScene,
) -> None:
    path = tagged(make_scene(NUMBERS[..., None], nodata=4))
    with open_class_map(path) as classes:
        assert classes.legend == COVER
        assert classes.metres == pytest.approx((1, 1), rel=2e-3)
        read = classes.read(-1, -2, 5, 7)
    expected = np.full((5, 7), NOTHING, np.uint8)
    expected[1:4, 2:6] = np.where(NUMBERS == 4, NOTHING, NUMBERS)
    np.testing.assert_array_equal(read, expected)


def test_of_a_class_map_alone_the_probability_of_a_road_is_its_class(
    make_scene: MakeScene,
) -> None:
    with open_class_map(make_scene(NUMBERS[..., None]), legend="cover") as classes:
        np.testing.assert_array_equal(classes.read_roads(0, 0, 3, 4), NUMBERS == 2)
        assert classes.read_confidence(0, 0, 3, 4) is None


def test_a_legend_of_others_may_have_values_of_its_own(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    legend = [
        {"name": "tree cover", "colour": [0, 100, 0], "role": "vegetation", "value": 10},
        {"name": "built-up", "colour": [250, 0, 0], "role": "building", "value": 50},
    ]
    (tmp_path / "world.json").write_text(json.dumps(legend))
    values = np.array([[10, 50], [50, 0]], np.uint16)
    path = make_scene(values[..., None], nodata=0)
    with open_class_map(path, legend=tmp_path / "world.json") as classes:
        assert classes.read(0, 0, 2, 2).tolist() == [[0, 1], [1, NOTHING]]


@pytest.mark.parametrize(
    ("pixels", "legend", "message"),
    [
        (NUMBERS[..., None], None, "does not say what its values mean"),
        (np.full((2, 2, 1), 7, np.uint8), "cover", "has the value 7"),
        (np.zeros((2, 2, 3), np.uint8), "cover", "is not a class map"),
        (np.zeros((2, 2, 1), np.float32), "cover", "is not a class map"),
    ],
)
def test_what_is_not_a_class_map_is_refused(
    make_scene: MakeScene, pixels: np.ndarray, legend: str | None, message: str
) -> None:
    path = make_scene(pixels)
    with pytest.raises(DataError, match=message), open_class_map(path, legend=legend) as classes:
        classes.read(0, 0, 2, 2)


def test_without_coordinates_nothing_can_be_measured(make_scene: MakeScene) -> None:
    path = make_scene(NUMBERS[..., None], georeference={"crs": None})
    with pytest.raises(DataError, match="where on the ground"), open_class_map(path, legend=COVER):
        pass


def test_a_raster_of_other_pixels_is_not_its_confidence(make_scene: MakeScene) -> None:
    path = make_scene(NUMBERS[..., None])
    other = make_scene(np.zeros((2, 2, 1), np.float32), "other.tif")
    with (
        pytest.raises(UsageError, match="has other pixels"),
        open_class_map(path, legend=COVER, confidence=other),
    ):
        pass


def test_ground_that_is_not_sure_enough_is_left_out(make_scene: MakeScene) -> None:
    path = make_scene(NUMBERS[..., None])
    sure = np.linspace(0, 255, 12).astype(np.uint8).reshape(3, 4)
    beside = make_scene(sure[..., None], "sure.tif")
    with open_class_map(path, legend=COVER, confidence=beside, min_confidence=0.5) as classes:
        read = classes.read(0, 0, 3, 4)
    np.testing.assert_array_equal(read, np.where(sure / 255 >= 0.5, NUMBERS, NOTHING))
    with (
        pytest.raises(UsageError, match="nothing tells how sure"),
        open_class_map(path, legend=COVER, min_confidence=0.5),
    ):
        pass
