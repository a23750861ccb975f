from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sat2map.data.images import resize_square
from sat2map.data.pairs import PairFile, find_pairs
from sat2map.errors import BatchError
from sat2map.evaluation import classes
from sat2map.evaluation import images as image
from sat2map.evaluation.classes import Agreement
from sat2map.evaluation.score import (
    ImageScore,
    score_image,
    score_images,
    summarise,
)
from sat2map.legend import STREETS

LAND, ROAD, WATER, HIGHWAY = (tuple(int(c) for c in STREETS.colours[i]) for i in (0, 2, 4, 5))


def small_map(seed: int, side: int = 96, roads: bool = True) -> np.ndarray:
    """A map with water, and with streets and a highway if wished."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), LAND)
    draw = ImageDraw.Draw(image)
    x, y = (int(v) for v in random.integers(10, side - 40, 2))
    draw.rectangle((x, y, x + 30, y + 30), fill=WATER)
    if roads:
        for at in random.integers(5, side - 5, 3):
            draw.line((0, int(at), side, int(at) + 4), fill=ROAD, width=5)
            draw.line((int(at), 0, int(at), side), fill=ROAD, width=5)
        draw.line((0, side // 2, side, side // 3), fill=HIGHWAY, width=6)
    return np.asarray(image)


@pytest.fixture
def pairs(tmp_path):
    """Three side-by-side pairs whose source is the map itself, inverted."""
    (tmp_path / "val").mkdir()
    for seed in range(3):
        true = small_map(seed, roads=seed != 1)
        Image.fromarray(np.hstack([255 - true, true])).save(tmp_path / "val" / f"{seed}.png")
    return find_pairs(tmp_path, "val")


def invert(source: np.ndarray) -> np.ndarray:
    return 255 - source


def test_the_true_map_scores_best():
    true = small_map(0)
    score = score_image("a", true, true, true, STREETS)
    best = {
        "l1": 0, "rmse": 0, "psnr": 100, "ssim": 1, "acc_5": 1, "acc_10": 1,
        "mean_iou": 1, "mean_iou_2px": 1,
        "road_cldice": 1, "road_completeness": 1, "road_correctness": 1,
        "road_components_difference": 0, "road_loops_difference": 0,
        "edge_f1": 1, "edge_density": 1, "highway_f1": 1, "highway_ratio": 1,
    }  # fmt: skip
    assert score.values == pytest.approx(best)


def test_haze_scores_low_where_it_matters():
    true = small_map(0)
    haze = np.full_like(true, true.mean(axis=(0, 1)).astype(np.uint8))
    values = score_image("a", haze, true, true, STREETS).values
    assert values["road_cldice"] == values["edge_density"] == values["highway_ratio"] == 0
    assert values["edge_f1"] == 0
    assert values["road_components_difference"] > 0
    assert values["psnr"] > 15


def test_without_roads_in_truth_road_metrics_are_absent():
    true = small_map(1, roads=False)
    values = score_image("a", true, true, true, STREETS).values
    assert "road_cldice" not in values
    assert "road_completeness" not in values
    assert "highway_ratio" not in values
    assert values["road_components_difference"] == 0
    invented = score_image("a", small_map(1), true, true, STREETS).values
    assert "road_cldice" not in invented
    assert invented["road_correctness"] == 0
    assert invented["road_components_difference"] > 0


def test_without_a_legend_only_the_metrics_of_images():
    true = small_map(0)
    score = score_image("a", true, true, true, None)
    assert set(score.values) == {
        "l1", "rmse", "psnr", "ssim", "acc_5", "acc_10", "edge_f1", "edge_density",
    }  # fmt: skip
    assert score.agreement is None


def test_classes_are_labelled_at_the_native_size():
    native = small_map(3, side=240)
    small = resize_square(native, 96)
    by_native = score_image("a", small, small, native, STREETS)
    by_itself = score_image("a", small, small, small, STREETS)
    assert by_itself.values["mean_iou"] == 1
    # Shrinking mixes colours into those of other classes, and only the native labels can tell.
    water, building = STREETS.names.index("water"), STREETS.names.index("building")
    assert by_native.agreement.intersections[building] == 0
    assert by_native.agreement.unions[building] > 0
    assert classes.iou(by_native.agreement)[water] > 0.9


def test_a_batch(pairs):
    seen, done = [], []
    result = score_images(
        invert,
        pairs,
        size=None,
        legend=STREETS,
        progress=lambda *counts: done.append(counts),
        on_image=lambda *args: seen.append((threading.get_ident(), *args)),
    )
    assert [score.name for score in result.scores] == ["0", "1", "2"]
    assert all(score.values["l1"] == 0 for score in result.scores)
    assert done == [(1, 3), (2, 3), (3, 3)]
    thread, name, source, generated, target, score = seen[0]
    assert thread == threading.get_ident()
    assert name == score.name == "0"
    np.testing.assert_array_equal(generated, 255 - source)
    np.testing.assert_array_equal(generated, target)


def test_a_size_resizes_each_half_by_pillow(pairs):
    sizes = set()

    def translate(source):
        sizes.add(source.shape)
        return invert(source)

    result = score_images(translate, pairs, size=64, legend=STREETS)
    assert sizes == {(64, 64, 3)}
    assert result.protocol["size"] == 64
    native = small_map(0)
    expected = np.asarray(Image.fromarray(native).resize((64, 64), Image.Resampling.BICUBIC))
    source = np.asarray(Image.fromarray(255 - native).resize((64, 64), Image.Resampling.BICUBIC))
    assert result.scores[0].values["l1"] == image.l1(255 - source, expected)


def test_reverse_swaps(pairs):
    sources = []
    score_images(
        lambda source: sources.append(source) or source, pairs, size=None, direction="reverse"
    )
    np.testing.assert_array_equal(sources[0], small_map(0))


def test_a_broken_pair_does_not_stop_the_others(pairs, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    result = score_images(
        invert, [pairs[0], PairFile("broken", broken, broken), pairs[2]], size=None
    )
    assert [score.name for score in result.scores] == ["0", "2"]
    with pytest.raises(BatchError, match=r"broken\.png.*2 done|2 done.*broken\.png"):
        result.raise_failures()


def test_an_answer_of_another_shape_is_named(pairs):
    result = score_images(lambda source: invert(source)[..., :1], pairs, size=None)
    assert not result.scores
    assert "96 x 96 pixels in 1 bands" in str(result.failures[0])
    with pytest.raises(BatchError):
        result.raise_failures()


def test_targets_of_several_bands_get_the_metrics_of_images():
    target = np.random.default_rng(0).integers(0, 255, (20, 20, 4), np.uint8)
    native = np.random.default_rng(0).integers(0, 255, (40, 40, 4), np.uint8)
    values = score_image("a", target, target, native, STREETS).values
    assert values["l1"] == 0
    assert "mean_iou" not in values
    assert resize_square(native, 20).shape == (20, 20, 4)
    small = resize_square(native, 20)[..., :3]
    np.testing.assert_array_equal(small, resize_square(native[..., :3], 20))


def counted(name: str, both: list[int], either: list[int], **values: float) -> ImageScore:
    counts = Agreement(np.array(both), np.array(either))
    return ImageScore(name, dict(values), counts, counts)


def test_means_are_over_images_where_defined_and_iou_is_summed():
    absent = [0] * 5
    scores = [
        counted("a", [1, 0, 0, *absent], [10, 0, 4, *absent], l1=1.0, road_cldice=0.5),
        counted("b", [80, 0, 0, *absent], [90, 0, 4, *absent], l1=4.0),
    ]
    summary = summarise(scores, STREETS)
    assert summary.images == 2
    assert summary.metrics["l1"].mean == 2.5
    assert summary.metrics["road_cldice"].mean == 0.5
    assert summary.metrics["iou_land"].mean == pytest.approx(81 / 100)
    assert summary.metrics["iou_road"].mean == 0
    assert "iou_building" not in summary.metrics
    assert summary.metrics["mean_iou"].mean == pytest.approx(81 / 200)
    assert set(summary.class_iou) == {"land", "road"}


def test_intervals_hold_the_mean_and_shrink_with_images():
    random = np.random.default_rng(1)

    def width(count: int) -> float:
        scores = [ImageScore(str(i), {"l1": float(random.normal(10, 2))}) for i in range(count)]
        interval = summarise(scores, None).metrics["l1"]
        assert interval.low < interval.mean < interval.high
        return interval.high - interval.low

    # The interval of a mean of n is 2 x 1.96 x sigma / sqrt(n) wide.
    assert width(400) == pytest.approx(2 * 1.96 * 2 / 20, rel=0.2)
    assert width(25) > 2 * width(400)


def test_the_same_scores_give_the_same_intervals():
    scores = [ImageScore(str(i), {"l1": float(i)}) for i in range(10)]
    assert summarise(scores, None) == summarise(scores, None)


def test_a_summary_is_json(pairs):
    result = score_images(invert, pairs, size=64, legend=STREETS)
    text = json.dumps(summarise(result.scores, STREETS, result.protocol).to_json(), allow_nan=False)
    read = json.loads(text)
    assert read["pictures"] == 3
    assert read["protocol"]["size"] == 64
    assert set(read["metrics"]["l1"]) == {"mean", "low", "high"}
    assert read["class_iou"]["water"]["iou"]["mean"] > 0.9
    assert read["metrics"]["iou_water"] == read["class_iou"]["water"]["iou"]


def test_no_scores_give_an_empty_summary():
    assert summarise([], STREETS).to_json()["metrics"] == {}


def test_of_maps_that_tell_of_houses_only_houses_are_scored(tmp_path):
    labels = np.zeros((64, 64), np.uint8)
    house, road = STREETS.names.index("building"), STREETS.names.index("road")
    labels[10:20, 10:30] = house
    answered = labels.copy()
    answered[40:48] = road  # of which the vectors say nothing
    answered[10:20, 20:30] = 0
    true, answer = STREETS.paint(labels), STREETS.paint(answered)
    score = score_image("a", answer, true, true, STREETS, ["building"])
    assert set(score.values) == {"mean_iou", "mean_iou_2px"}
    assert score.values["mean_iou"] == pytest.approx(0.5)
    empty = STREETS.paint(np.zeros((64, 64), np.uint8))
    # A house where the vectors have none is wrong, too.
    assert score_image("b", answer, empty, empty, STREETS, ["building"]).values["mean_iou"] == 0
    summary = summarise([score], STREETS)
    assert set(summary.class_iou) == {"building"}
    assert summary.metrics["mean_iou"].mean == pytest.approx(0.5)
    roads_too = score_image("c", answer, true, true, STREETS, ["road", "highway", "main_road"])
    assert roads_too.values["road_correctness"] == 0
    some = score_image("d", answer, true, true, STREETS, ["road"])
    assert some.values["road_correctness"] == 0

    folder = tmp_path / "chips" / "val"
    folder.mkdir(parents=True)
    Image.fromarray(np.hstack([answer, true])).save(folder / "1.png")
    scores = score_images(
        lambda source: source,
        find_pairs(tmp_path / "chips", "val"),
        size=None,
        legend=STREETS,
        told=("building",),
    )
    assert scores.protocol["told"] == ["building"]
    assert scores.scores[0].values == score.values
