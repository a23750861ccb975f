from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from skimage.morphology import skeletonize

from fixtures.scenes import with_classes
from sat2map.data.mask_mapping import MaskMapping
from sat2map.data.masks import MaskFile, find_masks
from sat2map.errors import BatchError, DataError, UsageError
from sat2map.evaluation.comparison import compare_masks
from sat2map.evaluation.evaluate import evaluate, evaluate_masks
from sat2map.evaluation.masks import (
    MaskProtocol,
    asked_legend,
    mask_notices,
    road_metrics,
    score_mask,
    score_masks,
    show,
    shown_resolution,
)
from sat2map.evaluation.score import summarise
from sat2map.legend import COVER, STREETS, Legend, LegendClass
from sat2map.translation.translator import Translator

Array = NDArray[np.uint8]
LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
MAPPING = MaskMapping.from_json(
    {
        "0": "unknown",
        **{str(number + 1): name for number, name in enumerate(COVER.names)},
        "254": "not building",
        "255": "not road",
    },
    COVER,
)


def protocol(**changes: Any) -> MaskProtocol:
    facts: dict[str, Any] = {"resolution_m": 1.0, "shown_m": 1.0}
    return MaskProtocol(COVER, MAPPING.may_be(COVER), **{**facts, **changes})


def streets(seed: int, side: int = 80) -> Array:
    """Class numbers, uint8 [side,side]: land, a few streets, a lake, a house."""
    random = np.random.default_rng(seed)
    image = Image.new("L", (side, side), LAND)
    draw = ImageDraw.Draw(image)
    x, y = random.integers(0, side - 30, 2).tolist()
    draw.rectangle((x, y, x + 25, y + 25), fill=WATER)
    draw.rectangle((y, x, y + 9, x + 9), fill=BUILDING)
    for at in random.integers(5, side - 5, 3).tolist():
        draw.line((0, at, side, at + 4), fill=ROAD, width=5)
        draw.line((at, 0, at, side), fill=ROAD, width=5)
    return np.asarray(image)


def partly(labels: Array, seed: int) -> Array:
    """A mask of `labels` that says of some ground only what it is not, of some nothing."""
    random = np.random.default_rng(seed)
    values = labels + 1
    side = len(labels)
    for value, numbers in ((254, (BUILDING,)), (255, (ROAD,)), (0, ())):
        top, left = random.integers(0, side - 20, 2).tolist()
        part = values[top : top + 20, left : left + 20]
        part[~np.isin(labels[top : top + 20, left : left + 20], numbers)] = value
    return values


def naive(labels: Array, values: Array, number: int) -> tuple[int, int]:
    """Intersection and union of a class, pixel by pixel."""
    both = either = 0
    for label, value in zip(labels.ravel().tolist(), values.ravel().tolist(), strict=True):
        known = 1 <= value <= 5 or value == {BUILDING: 254, ROAD: 255}.get(number)
        if known:
            both += label == number == value - 1
            either += label == number or value - 1 == number
    return both, either


def test_classes_are_scored_where_the_mask_tells_them() -> None:
    labels, values = streets(1), partly(streets(2), 3)
    assert {0, 254, 255} < set(np.unique(values).tolist())
    score = score_mask("a", labels, values, protocol())
    assert score.name == "a"
    assert score.agreement is not None
    for number in range(5):
        both, either = naive(labels, values, number)
        assert score.agreement.intersections[number] == both
        assert score.agreement.unions[number] == either


def test_unknown_pixels_cost_nothing() -> None:
    truth = streets(1)
    values = truth + 1
    spoilt = truth.copy()
    spoilt[:40] = WATER
    values[:40] = 0
    score = score_mask("a", spoilt, values, protocol())
    assert score.agreement is not None
    assert np.array_equal(score.agreement.intersections, score.agreement.unions)


def test_road_metrics_allow_a_tolerance() -> None:
    true, generated = streets(1) == ROAD, streets(2) == ROAD
    known = np.random.default_rng(0).random(true.shape) < 0.9
    metrics = road_metrics(generated, true, known, 3.0)
    lines = skeletonize(generated) & known, skeletonize(true) & known
    right = (distance_transform_edt(~true) <= 3)[lines[0]].sum() / lines[0].sum()
    found = (distance_transform_edt(~generated) <= 3)[lines[1]].sum() / lines[1].sum()
    assert metrics["road_correctness"] == pytest.approx(right)
    assert metrics["road_completeness"] == pytest.approx(found)
    assert metrics["road_cldice"] == pytest.approx(2 * right * found / (right + found))
    assert road_metrics(true, true, known, 1.5)["road_cldice"] == 1
    moved = np.roll(true, 4, axis=(0, 1))
    assert road_metrics(moved, true, known, 6.0)["road_cldice"] > 0.95
    assert road_metrics(moved, true, known, 1.5)["road_cldice"] < 0.9


def test_road_metrics_where_there_is_no_road() -> None:
    true, nothing = streets(1) == ROAD, np.zeros((80, 80), np.bool_)
    known = np.ones((80, 80), np.bool_)
    assert road_metrics(true, nothing, known, 3.0) == {}
    assert road_metrics(true, true, nothing, 3.0) == {}
    missed = road_metrics(nothing, true, known, 3.0)
    assert missed == {"road_cldice": 0, "road_completeness": 0, "road_correctness": 0}


def test_the_tolerance_is_in_metres_but_never_below_a_pixel_and_a_half() -> None:
    assert protocol(shown_m=0.75).tolerance == 4
    assert protocol(shown_m=3.0).tolerance == 1.5
    assert protocol(shown_m=1.0, tolerance_m=5.0).tolerance == 5


def test_images_are_shown_no_finer_than_asked() -> None:
    assert shown_resolution(0.3) == 0.75
    assert shown_resolution(1.2) == 1.2
    assert shown_resolution(0.3, "native") == 0.3
    assert shown_resolution(0.3, 0.42) == 0.42
    for metres in (0.0, -1.0, float("nan"), 0.01):
        with pytest.raises(UsageError, match=r"is not a resolution for images of 0\.3 m"):
            shown_resolution(0.3, metres)
    random = np.random.default_rng(0)
    source, values = (
        random.integers(0, 256, (60, 90, 3), np.uint8),
        random.integers(0, 5, (60, 90), np.uint8),
    )
    seen, told = show(source, values, protocol(resolution_m=0.5, shown_m=0.75))
    assert seen.shape == (40, 60, 3)
    assert np.array_equal(seen, Image.fromarray(source).resize((60, 40), Image.Resampling.LANCZOS))
    assert np.array_equal(told, Image.fromarray(values).resize((60, 40), Image.Resampling.NEAREST))
    assert show(source, values, protocol(shown_m=1.0)) == (source, values)
    assert show(source, values, protocol(shown_m=10.0))[1].shape == (32, 32)


def test_masks_of_another_legend_are_scored_as_cover() -> None:
    entries = {"0": "land", "1": "park", "2": ["road", "highway"], "3": "other", "4": "not water"}
    mapping = MaskMapping.from_json(entries, STREETS)
    legend, may_be = asked_legend(STREETS, mapping, STREETS)
    assert legend == STREETS
    assert np.array_equal(may_be, mapping.may_be(STREETS))
    own = Legend((LegendClass("ground", (0, 0, 0), "land"),))
    legend, may_be = asked_legend(STREETS, mapping, own)
    assert legend == COVER
    assert np.flatnonzero(may_be[0]).tolist() == [LAND, VEGETATION]
    assert np.flatnonzero(may_be[1]).tolist() == [LAND, VEGETATION]
    assert np.flatnonzero(may_be[2]).tolist() == [ROAD, VEGETATION]
    assert not may_be[3].any()
    assert not may_be[4].any()  # "other" is not water and may be anything
    assert asked_legend(COVER, MAPPING, STREETS)[0] == COVER


def test_notices_name_what_the_metrics_do_not_say() -> None:
    told = protocol(shown_m=0.75).describe(["land", "water"])
    assert json.loads(json.dumps(told)) == told
    (line,) = mask_notices(told, (0.7, 2.6))
    assert "land, water" in line
    assert mask_notices(protocol(shown_m=0.75).describe([]), None) == ()
    (line,) = mask_notices(protocol(shown_m=0.3).describe([]), (0.7, 2.6))
    assert line == "The images were shown at 0.3 m per pixel; the model knows 0.7 to 2.6 m."
    assert mask_notices(protocol(shown_m=0.65).describe([]), (0.7, 2.6)) == ()


def masks_set(directory: Path, masks: dict[str, Array], **more: Any) -> Path:
    """A data set whose photos have the class numbers in the first band."""
    for name, values in masks.items():
        for folder, pixels in (
            ("source", np.dstack([values, values, values])),
            ("classes", values),
        ):
            path = directory / "val" / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    entries = {"resolution_m": 1.0, "legend": "cover", "classes": MAPPING.to_json()}
    (directory / "dataset.json").write_text(json.dumps({**entries, **more}))
    return directory


def test_a_class_that_no_mask_shows_is_not_asked(tmp_path: Path) -> None:
    truth = streets(1)
    roads = np.where(truth == ROAD, ROAD + 1, 255).astype(np.uint8)
    files = find_masks(masks_set(tmp_path, {"1": roads, "2": roads}), "val")
    scores = score_masks(lambda source: truth, files, protocol())
    assert scores.protocol["not_asked"] == ["land", "building", "vegetation", "water"]
    summary = summarise(scores.scores, COVER, scores.protocol)
    assert set(summary.class_iou) == {"road"}
    assert summary.metrics["iou_road"].mean == 1
    assert summary.metrics["mean_iou"].mean == 1
    assert summary.metrics["road_cldice"].mean == 1


def test_where_no_class_is_asked_there_is_no_mean(tmp_path: Path) -> None:
    barred = np.full((40, 40), 255, np.uint8)
    files = find_masks(masks_set(tmp_path, {"1": barred}), "val")
    scores = score_masks(lambda source: streets(1, 40), files, protocol())
    assert summarise(scores.scores, COVER).metrics == {}


def test_iou_is_summed_over_images_and_roads_are_averaged(tmp_path: Path) -> None:
    truths = {str(i): partly(streets(i), i) for i in range(4)}
    truths["4"] = np.full((80, 80), 1, np.uint8)  # no road
    files = find_masks(masks_set(tmp_path, truths), "val")
    answers = iter([streets(i + 10) for i in range(5)])
    calls: list[tuple[int, int]] = []
    scores = score_masks(
        lambda source: next(answers), files, protocol(), progress=lambda i, n: calls.append((i, n))
    )
    assert calls == [(i, 5) for i in range(1, 6)]
    summary = summarise(scores.scores, COVER)
    counts = [naive(streets(i + 10), truths[str(i)], ROAD) for i in range(5)]
    both, either = np.sum(counts, axis=0)
    assert summary.metrics["iou_road"].mean == pytest.approx(both / either)
    metrics = [score.values.get("road_cldice") for score in scores.scores]
    assert metrics[4] is None
    assert summary.metrics["road_cldice"].mean == pytest.approx(np.mean(metrics[:4]))  # type: ignore[arg-type]
    interval = summary.metrics["road_cldice"]
    assert interval.low < interval.mean < interval.high


def test_files_that_cannot_be_used_do_not_stop_the_others(tmp_path: Path) -> None:
    good = streets(1) + 1
    masks_set(tmp_path, {"1": good, "2": good + 60, "3": good, "4": good})
    Image.fromarray(good[:-1]).save(tmp_path / "val/classes/3.png")

    def check(values: Array, file: MaskFile) -> None:
        MAPPING.check(values, file.classes)

    scores = score_masks(
        lambda source: streets(1), find_masks(tmp_path, "val"), protocol(), check=check
    )
    assert [score.name for score in scores.scores] == ["1", "4"]
    with pytest.raises(BatchError, match="2 items could not be used, 2 done") as caught:
        scores.raise_failures()
    assert "2.png: has the values 61, 62, 63, 65, which" in str(caught.value)
    assert "3.png: is 80 x 79 pixels" in str(caught.value)


class Card(dict[str, Any]):
    """Stands in for a card: what a page tells of it."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return dict(self)


class Reader(Translator):
    """Stands in for a translator: it reads the classes off the photo's first band."""

    name = "reader"
    legend = STREETS

    def __init__(self, **card: Any) -> None:
        facts: dict[str, Any] = {
            "bands": ("red", "green", "blue"),
            "direction": "forward",
            "resolution_m": (0.7, 2.6),
        }
        self.card = Card({**facts, **card})  # type: ignore[assignment]
        self.asked: list[dict[str, Any]] = []

    def translate(self, source: Array, **options: Any) -> Array:  # type: ignore[override]
        self.asked.append(options | {"shape": source.shape})
        return np.clip(source[..., 0], 1, 5) - 1


def scored(reader: Reader, data: Path, **options: Any) -> Any:
    translator: Translator = reader  # type: ignore[assignment]
    return evaluate_masks(translator, data, **options)


def test_a_model_is_scored_on_what_is_on_the_ground(tmp_path: Path) -> None:
    reader = Reader()
    masks_set(tmp_path, {str(i): streets(i) + 1 for i in range(3)}, resolution_m=0.375)
    result = scored(reader, tmp_path, seed=7)
    assert result.failures == []
    assert reader.asked[0] == {
        "output": "cover",
        "mode": "deterministic",
        "seed": 7,
        "shape": (40, 40, 3),
    }
    told = result.to_json()["protocol"]
    assert (told["shown_m"], told["tolerance_m"], told["output"]) == (0.75, 3.0, "cover")
    assert told["not_asked"] == ["vegetation"]
    assert "vegetation" in result.notices[0]
    assert 0.7 < result.summary.metrics["iou_water"].mean < 1  # its edges are smoothed
    exact = scored(reader, tmp_path, resolution="native", tolerance_m=1.0)
    assert exact.summary.metrics["mean_iou"].mean == 1
    assert exact.summary.protocol["tolerance_m"] == 1.0
    assert "the model knows 0.7 to 2.6 m" in exact.notices[1]


def test_masks_of_the_map_are_scored_as_the_map(tmp_path: Path) -> None:
    reader = Reader()
    classes = {str(number + 1): name for number, name in enumerate(STREETS.names[:5])}
    masks_set(tmp_path, {"1": streets(1) + 1}, legend="map", classes=classes)
    result = scored(reader, tmp_path)
    assert reader.asked[0]["output"] == "classes"
    assert result.summary.metrics["iou_road"].mean == 1
    assert "park" in result.summary.protocol["not_asked"]


@pytest.mark.parametrize(
    ("card", "more", "options", "what"),
    [
        ({"direction": "reverse"}, {}, {}, "reader: the model has no classes to compare"),
        ({}, {"resolution_m": None}, {}, r"dataset\.json: does not say the ground resolution"),
        ({}, {"classes": None}, {}, r"dataset\.json: does not say what the numbers"),
        ({}, {}, {"tolerance_m": 0.0}, "`tolerance_m`: 0 m is not a tolerance"),
        ({}, {}, {"resolution": 0.0}, "`resolution`: 0 m per pixel is not a resolution"),
        ({}, {}, {"split": "test"}, "has no folder test/classes"),
        ({}, {"classes": {"1": "land"}}, {}, "1 item could not be used, 0 done"),
    ],
)
def test_what_cannot_be_scored(
    tmp_path: Path, card: Any, more: Any, options: Any, what: str
) -> None:
    masks_set(tmp_path, {"1": streets(1) + 1}, **more)
    with pytest.raises((DataError, UsageError), match=what) as caught:
        scored(Reader(**card), tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_pairs_are_not_read_from_class_masks(tmp_path: Path) -> None:
    masks_set(tmp_path, {"1": streets(1) + 1})
    translator = with_classes((0.5, 2))
    with pytest.raises(DataError, match="val: has class masks, not target maps"):
        evaluate(translator, tmp_path)


class Blind(Reader):
    """One that takes all ground for land."""

    def __init__(self, legend: Legend | None = STREETS) -> None:
        super().__init__()
        self.legend = legend  # type: ignore[misc]

    def translate(self, source: Array, **options: Any) -> Array:  # type: ignore[override]
        return np.zeros(source.shape[:2], np.uint8)


def test_every_mask_is_saved_and_shown_in_the_colours_of_its_classes(tmp_path: Path) -> None:
    masks_set(tmp_path / "set", {str(i): partly(streets(i), i) for i in range(3)})
    result = scored(Reader(), tmp_path / "set", save=tmp_path / "all")
    assert result.saved == tmp_path / "all" / "index.html"
    text = result.saved.read_text(encoding="utf-8")
    for part in ("source", "result", "target"):
        for i in range(3):
            assert f'src="{part}/{i}.png"' in text
    values = partly(streets(1), 1)
    target = np.asarray(Image.open(tmp_path / "all" / "target" / "1.png"))
    expected = np.zeros_like(target)
    for number in range(5):
        expected[values == number + 1] = COVER.colours[number]
    some = values < 6  # a class, or 0, which is unknown
    np.testing.assert_array_equal(target[some], expected[some])
    assert not np.isin(target[values == 254], COVER.colours[BUILDING]).all(axis=-1).any()
    found = np.asarray(Image.open(tmp_path / "all" / "result" / "1.png"))
    np.testing.assert_array_equal(found, COVER.colours[np.clip(values, 1, 5) - 1])
    # The page sorts by what each image has.
    orders = re.findall(r'data-order="([^"]+)"', text)
    assert len(orders) == 3 and all("null" not in order for order in orders)
    assert "Mean class IoU" in text


def test_models_are_compared_on_the_same_masks(tmp_path: Path) -> None:
    masks_set(tmp_path / "set", {str(i): streets(i) + 1 for i in range(3)})
    right, blind = Reader(), Blind()
    models: Any = {"right": right, "blind": blind}
    result = compare_masks(models, tmp_path / "set", save=tmp_path / "page")
    for reader, summary in zip((right, blind), result.summaries, strict=True):
        assert summary.metrics == scored(reader, tmp_path / "set").summary.metrics
    (difference,) = result.differences
    assert difference["iou_road"].high < 0
    assert result.saved is not None
    text = result.saved.read_text(encoding="utf-8")
    for part in ("source", "result/right", "result/blind", "target"):
        assert f'src="{part}/2.png"' in text
    with pytest.raises(UsageError, match="the model has no classes to compare with masks"):
        compare_masks(models | {"nameless": Blind(None)}, tmp_path / "set")
    with pytest.raises(UsageError, match="there is nothing to compare with"):
        compare_masks({"right": models["right"]}, tmp_path / "set")


def test_models_of_unlike_legends_are_compared_by_what_is_on_the_ground(tmp_path: Path) -> None:
    classes = {str(number + 1): name for number, name in enumerate(STREETS.names[:5])}
    masks_set(tmp_path, {"1": streets(1) + 1}, legend="map", classes=classes)
    models: Any = {"map": Reader(), "ground": Blind(COVER)}
    result = compare_masks(models, tmp_path)
    assert {one.protocol["output"] for one in result.summaries} == {"cover"}
