from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sat2map.errors import DataError, UsageError
from sat2map.evaluation.evaluate import evaluate_masks
from sat2map.legend import COVER, STREETS
from sat2map.model.folder import Model, ModelCard, load_model
from sat2map.networks.specs import LiteSpec, UNetSpec
from sat2map.recipe import Recipe, load_recipe
from sat2map.training.loop import train
from sat2map.training.validation import Validator, improves
from sat2map.translation.translator import Translator

CPU = torch.device("cpu")
LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
MIXED = [
    "data.size=32",
    "data.resize=none",
    "data.resolutions_m=[0.5, 2.0]",
    "generator.name=lite",
    "generator.encoder=none",
    "generator.widths=[4, 4, 4, 4]",
    "generator.head=legend",
    "objective.adversarial_weight=0.0",
    "objective.l1_weight=0.0",
    "objective.class_weight=1.0",
    "training.batch=2",
    "training.epochs=2",
    "training.log_steps=1",
    "validation.epochs=1",
    "validation.metric=mean_iou",
    "statistics.pictures=4",
    "statistics.validation_pictures=4",
]


def recipe(*settings: str) -> Recipe:
    return load_recipe("pix2pix", [*MIXED, *settings])


def ground(number: int, side: int = 64) -> NDArray[np.uint8]:
    """Land cover, uint8 [side,side]: land, a road, and water on the right."""
    labels = np.zeros((side, side), np.uint8)
    labels[:, 48:] = WATER
    labels[8 * number + 8 : 8 * number + 14] = ROAD
    return labels


def write_masks(folder: Path, resolution_m: float | None = 1.0, count: int = 3) -> Path:
    """Photos in the colours of `COVER`, with masks of its numbers and 9 where nobody looked."""
    for split in ("train", "val"):
        for part in ("source", "classes"):
            (folder / split / part).mkdir(parents=True)
        for number in range(count):
            labels = ground(number)
            values = labels.copy()
            values[:, :4] = 9
            Image.fromarray(COVER.paint(labels)).save(folder / split / "source" / f"{number}.png")
            Image.fromarray(values).save(folder / split / "classes" / f"{number}.png")
    card = {
        "legend": "cover",
        "classes": {"9": "unknown", **{str(n): name for n, name in enumerate(COVER.names)}},
    }
    told = {} if resolution_m is None else {"resolution_m": resolution_m}
    (folder / "dataset.json").write_text(json.dumps(card | told))
    return folder


def write_maps(folder: Path) -> Path:
    """Photos that are their own maps, in the colours of `STREETS`."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for number in range(3):
            labels = np.zeros((64, 64), np.uint8)
            labels[8 * number + 8 : 8 * number + 14] = STREETS.names.index("road")
            painted = STREETS.paint(labels)
            Image.fromarray(np.hstack([painted, painted])).save(folder / split / f"{number}.png")
    told = {"resolution_m": 1.0, "legend": STREETS.to_json()}
    (folder / "dataset.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return write_masks(tmp_path / "masks")


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    return write_maps(tmp_path / "maps")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


class Knows(nn.Module):
    """Answers in the colours of its photo, but for one class that it takes for another."""

    multiple = 1

    def __init__(self, mistakes: dict[int, int] | None = None) -> None:
        super().__init__()
        self.mistakes = mistakes or {}

    def forward(self, source: Tensor) -> Tensor:
        answer = source.clone()
        for true, said in self.mistakes.items():
            colours = torch.from_numpy(COVER.colours).float() / 127.5 - 1
            at = (source - colours[true].view(1, 3, 1, 1)).abs().amax(1) < 0.01
            answer = torch.where(at[:, None], colours[said].view(1, 3, 1, 1), answer)
        return answer


CARD = ModelCard(
    generator=UNetSpec(size=16), normalisation="none", legend=COVER, resolution_m=(0.5, 2.0)
)


def test_masks_of_the_first_set_are_scored_where_it_has_nothing_else(masks: Path) -> None:
    validator = Validator(recipe(), [masks], CARD)
    assert validator
    right = validator.score(Knows(), CPU)
    assert right.summary is not None
    assert right.summary.images == 3
    assert right.scores["road_cldice"] == right.scores["mean_iou"] == 1
    assert right.away == {} and right.failures == []
    wrong = validator.score(Knows({ROAD: LAND}), CPU)
    assert wrong.scores["iou_road"] == wrong.scores["road_cldice"] == 0
    assert wrong.scores["iou_water"] == 1
    assert improves("mean_iou", right.scores, wrong.scores["mean_iou"])
    assert validator.grid(Knows(), CPU) == []  # there is no map to draw beside


def test_validation_agrees_with_evaluate(masks: Path) -> None:
    network = Knows({WATER: VEGETATION})
    validation = Validator(recipe(), [masks], CARD).score(network, CPU)
    evaluated = evaluate_masks(Translator(Model(network, CARD, masks), "cpu"), masks).summary
    assert validation.scores == {name: m.mean for name, m in evaluated.metrics.items()}


def test_at_most_so_many_masks_are_looked_at(masks: Path) -> None:
    validation = Validator(recipe("validation.pictures=2"), [masks], CARD).score(Knows(), CPU)
    assert validation.summary is not None
    assert validation.summary.images == 2


def test_further_sets_have_columns_of_their_own(maps: Path, masks: Path, tmp_path: Path) -> None:
    card = CARD.model_copy(update={"legend": STREETS})
    twin = write_masks(tmp_path / "other" / "masks")
    pairs_only = write_maps(tmp_path / "more")
    data = [maps, masks, pairs_only, twin]
    validation = Validator(recipe(), data, card).score(Knows(), CPU)
    assert set(validation.away) == {"masks", "masks_4"}
    assert validation.summary is not None
    assert validation.summary.metrics["l1"].mean == 0
    assert validation.scores["l1"] == 0
    of_masks = {name for name in validation.scores if name.startswith("masks_road")}
    assert of_masks == {"masks_road_cldice", "masks_road_completeness", "masks_road_correctness"}
    # The colours of `COVER` are nearest to others of `STREETS`, so that the roads are not met.
    assert validation.scores["masks_iou_water"] > 0.9
    assert "masks_road_cldice" in str(validation) and "l1 0.000" in str(validation)


@pytest.mark.parametrize(
    ("resolution_m", "known", "shown_m"),
    [
        (1.0, (0.5, 2.0), 1.0),
        (0.3, (0.25, 2.0), 0.75),
        (0.3, (0.25, 0.5), 0.5),
        (0.5, (1.0, 2.0), 1.0),
        (0.5, None, 0.75),
    ],
)
def test_masks_are_shown_at_a_scale_that_the_model_knows(
    tmp_path: Path,
    resolution_m: float,
    known: tuple[float, float] | None,
    shown_m: float,
) -> None:
    data = write_masks(tmp_path / "masks", resolution_m)
    card = CARD.model_copy(update={"resolution_m": known})
    validation = Validator(recipe(), [data], card).score(Knows(), CPU)
    assert validation.summary is not None
    assert validation.summary.protocol["shown_m"] == shown_m


def test_a_run_on_masks_alone_chooses_the_best_by_them(masks: Path, tmp_path: Path) -> None:
    model = train(recipe(), [masks], tmp_path / "run", quiet=True)
    lines = table(tmp_path / "run" / "validation.csv")
    assert [line["epoch"] for line in lines] == ["1", "2"]
    assert {"mean_iou", "iou_road", "iou_water"} <= lines[0].keys()
    best = load_model(tmp_path / "run" / "best").card.metrics["validation"]
    scores = [float(line["mean_iou"]) for line in lines]
    assert best["metrics"]["mean_iou"]["mean"] == pytest.approx(max(scores), rel=1e-4)
    assert best["protocol"]["split"] == "val"
    kept = load_model(model).card.metrics["validation"]
    assert kept["pictures"] == 3


def test_home_and_away_are_watched_together(maps: Path, masks: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ("generator.cover=true", "objective.cover_weight=1.0")
    train(recipe(*settings), [maps, masks], run, quiet=True)
    lines = table(run / "validation.csv")
    assert len(lines) == 2
    for line in lines:
        assert {"l1", "mean_iou", "masks_mean_iou", "masks_iou_water"} <= line.keys()
        assert 0 <= float(line["masks_mean_iou"]) <= 1
    card = load_model(run / "best").card
    assert "l1" in card.metrics["validation"]["metrics"]  # by home alone the best is chosen
    assert isinstance(card.generator, LiteSpec)


def test_away_alone_is_written_and_chooses_nothing(
    maps: Path, masks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (maps / "val").iterdir():
        path.unlink()
    (maps / "val").rmdir()
    with caplog.at_level(logging.WARNING):
        train(recipe(), [maps, write_pairs_with_masks(tmp_path / "towns")], tmp_path / "run")
    line = table(tmp_path / "run" / "validation.csv")[0]
    assert "towns_mean_iou" in line and "mean_iou" not in line
    assert not (tmp_path / "run" / "best").exists()
    assert "no best/" not in caplog.text
    assert "validation" not in load_model(tmp_path / "run" / "model").card.metrics


def write_pairs_with_masks(folder: Path) -> Path:
    """Photos with maps and with masks, as procedural towns are."""
    write_masks(folder)
    for split in ("train", "val"):
        (folder / split / "target").mkdir()
        for number in range(3):
            painted = STREETS.paint(ground(number))  # of equal numbers
            Image.fromarray(painted).save(folder / split / "target" / f"{number}.png")
    told = json.loads((folder / "dataset.json").read_text())
    told |= {"legend": STREETS.to_json(), "mask_legend": "cover"}
    (folder / "dataset.json").write_text(json.dumps(told))
    return folder


def test_a_metric_that_masks_do_not_tell_is_refused_before_the_work(
    masks: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"metric is l1, .*masks do not tell.*mean_iou or road"):
        train(recipe("validation.metric=l1"), [masks], tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*"))


def test_the_first_sets_masks_must_be_usable_and_further_ones_are_left_out_with_a_notice(
    maps: Path, masks: Path
) -> None:
    (masks / "val" / "classes" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        Validator(recipe(), [masks], CARD)
    card = CARD.model_copy(update={"legend": STREETS})
    validator = Validator(recipe(), [maps, masks], card)
    assert len(validator.notices) == 1
    assert "masks: its class masks are not scored, since: " in validator.notices[0]
    assert validator.score(Knows(), CPU).away == {}


def test_a_mask_that_cannot_be_read_is_left_out_by_name(masks: Path) -> None:
    (masks / "val" / "classes" / "1.png").write_text("no image")
    validation = Validator(recipe(), [masks], CARD).score(Knows(), CPU)
    assert validation.summary is not None
    assert validation.summary.images == 2
    assert len(validation.failures) == 1 and "1.png" in str(validation.failures[0])


def test_the_resolution_of_the_recipe_holds_where_the_first_set_is_silent(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "masks", None)
    with pytest.raises(DataError, match="ground resolution"):
        Validator(recipe(), [data], CARD)
    validator = Validator(recipe("data.resolution_m=1.5"), [data], CARD)
    summary = validator.score(Knows(), CPU).summary
    assert summary is not None
    assert summary.protocol["resolution_m"] == 1.5


@pytest.mark.parametrize(
    "card",
    [
        CARD.model_copy(update={"legend": None}),
        CARD.model_copy(update={"direction": "reverse"}),
    ],
)
def test_models_without_classes_are_not_scored_on_masks(
    maps: Path, masks: Path, card: ModelCard
) -> None:
    validator = Validator(recipe(), [maps, masks], card)
    assert validator.notices == []
    assert validator.score(Knows(), CPU).away == {}


def test_scores_on_masks_change_no_weight(maps: Path, masks: Path, tmp_path: Path) -> None:
    both = train(recipe(), [maps, write_pairs_with_masks(tmp_path / "a")], tmp_path / "x")
    other = write_pairs_with_masks(tmp_path / "b")
    for path in sorted((other / "val" / "classes").iterdir()):
        path.unlink()
    (other / "val" / "classes").rmdir()
    without = train(recipe(), [maps, other], tmp_path / "y")
    assert "a_mean_iou" in table(tmp_path / "x" / "validation.csv")[0]
    assert "b_mean_iou" not in table(tmp_path / "y" / "validation.csv")[0]
    expected = load_model(both).network.state_dict()
    for name, tensor in load_model(without).network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
