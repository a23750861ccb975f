"""The tutorial of one's own region, with its numbers: docs/tutorial-own-region.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat2map.chips.chips import ChipOptions, Chips, make_chips
from sat2map.evaluation.evaluate import evaluate
from sat2map.recipe import load_recipe
from sat2map.style.features import VectorFile
from sat2map.towns import write_scene
from sat2map.training.loop import train
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import load


def cut(folder: Path, side: int, seed: int, *, size: int = 256, validation: float = 0.1) -> Chips:
    scene = write_scene(folder / "scene", side, seed=seed)
    options = ChipOptions(size=size, validation=validation)
    vectors = [VectorFile(scene.shapes)]
    return make_chips([str(scene.photo)], vectors, folder / "pairs", options)


def trained(chips: Chips, run: Path, *settings: str) -> Path:
    return train(load_recipe("demo", list(settings)), chips.directory, run, quiet=True)


def metrics(model: Path, chips: Chips) -> dict[str, float]:
    summary = evaluate(load(model), chips.directory, split="train", size=None).summary
    return {name: summary.metrics[name].mean for name in ("road_cldice", "mean_iou")}


def test_chips_are_trained_on_evaluated_and_tuned_further(tmp_path: Path) -> None:
    chips = cut(tmp_path / "here", 256, 11, size=64, validation=0.2)
    assert chips.counts()["train"] and chips.counts()["val"]
    small = ("data.size=32", "generator.base_channels=4", "discriminator.base_channels=4",
             "discriminator.strided_layers=1", "statistics.pictures=2")  # fmt: skip
    model = trained(chips, tmp_path / "run", *small, "training.max_steps=3")
    card = load(model).card
    assert card.resolution_m == (1.0, 1.0)
    assert card.legend is not None and "building" in card.legend.names
    more = (*small, "training.max_steps=2", f'training.init="{model}"')
    tuned = trained(chips, tmp_path / "tuned", *more)
    assert set(metrics(tuned, chips)) == {"road_cldice", "mean_iou"}


@pytest.mark.slow
def test_a_model_of_a_region_knows_another_town_better_than_one_that_learned_nothing(
    tmp_path: Path,
) -> None:
    region = cut(tmp_path / "region", 2048, 11)
    elsewhere = cut(tmp_path / "elsewhere", 768, 12, validation=0.0)
    untrained = metrics(trained(region, tmp_path / "none", "training.max_steps=1"), elsewhere)
    model = trained(region, tmp_path / "run")
    scratch = metrics(model, elsewhere)
    assert scratch["road_cldice"] > untrained["road_cldice"] + 0.05
    assert scratch["mean_iou"] > untrained["mean_iou"] + 0.05

    target = tmp_path / "elsewhere.tif"
    translate_raster(tmp_path / "elsewhere" / "scene" / "scene.tif", target, load(model))
    assert target.is_file()

    # With few chips and few steps, a model of another region is ahead of none.
    small = cut(tmp_path / "small", 768, 13)
    few = "training.max_steps=60"
    fresh = metrics(trained(small, tmp_path / "fresh", few), elsewhere)
    init = f'training.init="{model}"'
    tuned = metrics(trained(small, tmp_path / "tuned", few, init), elsewhere)
    assert tuned["road_cldice"] > fresh["road_cldice"]
