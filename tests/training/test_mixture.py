from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sat2map.data.mask_cache import decode_masks
from sat2map.errors import DataError, UsageError
from sat2map.legend import COVER, STREETS, map_to_cover_may_be
from sat2map.model import familiar
from sat2map.model.familiar import read_familiar
from sat2map.model.folder import load_model
from sat2map.recipe import Recipe, load_recipe
from sat2map.training import run, training_sets
from sat2map.training.batches import Batch
from sat2map.training.data_sets import load_data_sets
from sat2map.training.loop import train
from sat2map.training.mixture import Mixture
from sat2map.training.schedule import Plan
from sat2map.training.training_sets import MaskSet

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
MIXED = [
    "data.size=32",
    "data.resize=none",
    "data.resolutions_m=[0.5, 2.0]",
    "generator.name=lite",
    "generator.encoder=none",
    "generator.widths=[4, 4, 4, 4]",
    "generator.head=legend",
    "generator.cover=true",
    "generator.mix_norm=0.5",
    "objective.adversarial_weight=0.0",
    "objective.l1_weight=0.0",
    "objective.class_weight=1.0",
    "objective.cover_weight=1.0",
    "objective.cover_dice_weight=0.5",
    "training.batch=4",
    "training.epochs=1",
    "training.max_steps=4",
    "training.log_steps=1",
    "statistics.pictures=4",
    "statistics.validation_pictures=4",
]


def recipe(*settings: str) -> Recipe:
    return load_recipe("pix2pix", [*MIXED, *settings])


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Photos with maps at 1 m: left land, then a road, then water; photos are the maps."""
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 24:40] = STREETS.names.index("road")
    labels[:, 40:] = STREETS.names.index("water")
    for split in ("train", "val"):
        folder = tmp_path / "maps" / split
        folder.mkdir(parents=True)
        for number in range(3):
            painted = STREETS.paint(labels)
            Image.fromarray(np.hstack([painted, painted])).save(folder / f"{number}.png")
    card = {"resolution_m": 1.0, "legend": STREETS.to_json()}
    (tmp_path / "maps" / "dataset.json").write_text(json.dumps(card))
    return tmp_path / "maps"


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Photos of unequal size at 0.5 m: value 7 is a road, 8 no road, 0 unknown."""
    folder = tmp_path / "masks"
    for part in ("source", "classes"):
        (folder / "train" / part).mkdir(parents=True)
    for number, side in enumerate((48, 80)):
        values = np.zeros((side, side), np.uint8)
        values[: side // 2] = 8
        values[side // 2 : side // 2 + 8] = 7
        photo = np.repeat(values[..., None] * 20, 3, 2)
        Image.fromarray(photo).save(folder / "train" / "source" / f"{number}.png")
        Image.fromarray(values).save(folder / "train" / "classes" / f"{number}.png")
    card = {
        "resolution_m": 0.5,
        "legend": "cover",
        "classes": {"0": "unknown", "7": "road", "8": "not road"},
    }
    (folder / "dataset.json").write_text(json.dumps(card))
    return folder


def batches(recipe: Recipe, *data: Path) -> Callable[[int], Batch]:
    material = load_data_sets(recipe, data, quiet=True)
    made = material.batches(Plan(recipe, material.count), torch.device("cpu"))
    assert isinstance(made, Mixture)
    return made.at


def test_each_set_has_its_share_and_what_it_does_not_tell_is_unknown(
    maps: Path, masks: Path
) -> None:
    at = batches(recipe("data.shares=[3, 1]"), maps, masks)
    batch = at(0)
    assert batch.source.shape == (4, 3, 32, 32)
    assert batch.target is not None
    assert batch.shares is not None
    assert batch.cover is not None
    assert batch.drawn is None  # masks of land cover say nothing of what a map draws
    assert len(batch.target) == len(batch.shares) == 3  # those with maps come first
    torch.testing.assert_close(batch.shares.sum(1), torch.ones(3, 32, 32))
    # The photo is the map, so what is known must agree with what is seen.
    seen = STREETS.label(((batch.source[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    certain = batch.shares[0].amax(0) > 0.99
    agree = torch.from_numpy(seen)[certain] == batch.shares[0].argmax(0)[certain]
    assert agree.float().mean() > 0.9
    # Water is water; of a mask's unknown part all classes are possible.
    water = batch.shares[:, 4] > 0.99
    assert (batch.cover[:3, WATER][water] > 0.99).all()
    assert (batch.cover[:3, LAND][water] < 0.01).all()
    # The land is neither green nor dark, so it is not vegetation.
    land = batch.shares[:, 0] > 0.99
    assert (batch.cover[:3, LAND][land] > 0.99).all()
    assert (batch.cover[:3, VEGETATION][land] < 0.01).all()
    mask = batch.cover[3]
    told = {tuple((column > 0.5).tolist()) for column in mask.flatten(1).T}
    not_road = (True, True, False, True, True)
    assert told <= {(True,) * 5, (False, False, True, False, False), not_road}


def test_shares_hold_on_average(maps: Path, masks: Path) -> None:
    plan = Plan(recipe(), 5)
    drawn = [plan.draw(step, [3, 2, 7], [2.0, 0.5, 1.0]) for step in range(300)]
    assert all(len(batch) == 4 for batch in drawn)
    counts = np.bincount([part for batch in drawn for part, _ in batch], minlength=3)
    np.testing.assert_allclose(counts / counts.sum(), np.array([2, 0.5, 1]) / 3.5, atol=0.02)
    assert {number for batch in drawn for part, number in batch if part == 2} == set(range(7))
    assert plan.draw(5, [3, 2, 7], [2.0, 0.5, 1.0]) == drawn[5]


def test_ground_is_shown_at_the_scales_that_are_asked_for(maps: Path, masks: Path) -> None:
    """A road of 16 m is 32 pixels wide at 0.5 m, and 8 at 2 m; that of the masks is 4 m wide."""
    at = batches(recipe("data.resolutions_m=[2.0, 2.0]", "data.shares=[2, 2]"), maps, masks)
    batch = at(1)
    assert batch.shares is not None
    assert batch.cover is not None
    for image in batch.shares:
        share = float(image[2].mean())
        assert share == pytest.approx(16 / 64, abs=0.08)
    for image in batch.cover[2:]:
        road = (image[ROAD] > 0.5) & (image[LAND] < 0.5)
        thickness = min(int(road.sum(0).max()), int(road.sum(1).max()))
        assert thickness <= 6  # 4 m are 2 pixels; mirrored ground may show it twice, or joined


def test_a_run_with_masks_resumes_to_the_same_bits(tmp_path: Path, maps: Path, masks: Path) -> None:
    both = [maps, masks]
    whole = train(recipe(), both, tmp_path / "whole", quiet=True)
    train(recipe("training.max_steps=2"), both, tmp_path / "parts", quiet=True)
    # The shorter run stands for one that was stopped: its checkpoint is taken over.
    parts = tmp_path / "resumed"
    (parts / "checkpoints").mkdir(parents=True)
    (parts / "recipe.toml").write_text((tmp_path / "whole" / "recipe.toml").read_text())
    for file in (tmp_path / "parts" / "checkpoints").glob("step-*2.pt"):
        (parts / "checkpoints" / file.name).write_bytes(file.read_bytes())
    resumed = train(recipe(), both, parts, resume=True, quiet=True)
    expected = load_model(whole).network.state_dict()
    for name, tensor in load_model(resumed).network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_the_card_tells_both_legends_and_the_scales(
    tmp_path: Path, maps: Path, masks: Path
) -> None:
    model = load_model(train(recipe(), [maps, masks], tmp_path / "run", quiet=True))
    assert model.card.cover == COVER
    assert model.card.legend == STREETS
    assert model.card.resolution_m == (0.5, 2.0)
    assert model.card.data.pairs == 5


def test_a_model_learns_from_masks_alone(tmp_path: Path, masks: Path) -> None:
    alone = [
        "generator.cover=false",
        "objective.cover_weight=0.0",
        "objective.cover_dice_weight=0.0",
        "validation.metric=l1",
    ]
    material = load_data_sets(recipe(*alone), [masks], quiet=True)
    assert material.card.legend == COVER
    model = load_model(train(recipe(*alone), [masks], tmp_path / "run", quiet=True))
    lines = (tmp_path / "run" / "losses.csv").read_text().splitlines()
    first = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert float(first["classes"]) > 0
    assert model.card.legend == COVER


def test_sets_that_do_not_fit_are_refused(tmp_path: Path, maps: Path, masks: Path) -> None:
    with pytest.raises(UsageError, match="2 numbers, but there are 1"):
        load_data_sets(recipe("data.shares=[1, 1]"), [maps], quiet=True)
    other = json.loads((masks / "dataset.json").read_text())
    del other["resolution_m"]
    (masks / "dataset.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match="ground resolution") as refused:
        load_data_sets(recipe(), [maps, masks], quiet=True)
    assert refused.value.where == str(masks)
    other |= {
        "resolution_m": 0.5,
        "legend": [{"name": "field", "colour": [1, 2, 3]}, {"name": "road", "colour": [9, 9, 9]}],
    }
    (masks / "dataset.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match="classes field, road"):
        load_data_sets(recipe(), [maps, masks], quiet=True)


def test_maps_that_tell_of_some_classes_leave_the_others_open(maps: Path) -> None:
    card = json.loads((maps / "dataset.json").read_text())
    (maps / "dataset.json").write_text(json.dumps(card | {"told": ["water"]}))
    batch = batches(recipe(), maps)(0)
    assert batch.shares is None
    assert batch.drawn is not None
    assert batch.cover is not None
    names = STREETS.names
    columns = batch.drawn.movedim(1, -1).flatten(0, -2)
    whole = ((columns < 0.01) | (columns > 0.99)).all(1)  # pixels that lie within one class
    told = {tuple((column > 0.5).tolist()) for column in columns[whole]}
    land = tuple(name != "water" for name in names)
    assert told <= {land, *(tuple(name == one for name in names) for one in ("road", "water"))}
    assert land in told
    on_land = batch.drawn[:, 0] > 0.99
    assert (batch.cover[:, ROAD][on_land] > 0.99).all()
    assert (batch.cover[:, WATER][on_land] < 0.01).all()


def test_what_a_map_leaves_open_follows_from_how_the_photo_looks() -> None:
    photo = torch.tensor([[[150, 140, 130], [90, 130, 80], [30, 31, 30]]], dtype=torch.uint8)
    assert training_sets._look(photo).tolist() == [[0, 1, 2]]
    plain, green, dark = training_sets._by_look(map_to_cover_may_be(STREETS), STREETS)
    land, road, park = (STREETS.names.index(name) for name in ("land", "road", "park"))
    told = {
        look: [
            {COVER.names[i] for i in np.flatnonzero(table[number])} for number in (land, road, park)
        ]
        for look, table in (("plain", plain), ("green", green), ("dark", dark))
    }
    assert told == {
        "plain": [{"land"}, {"road"}, {"land", "vegetation"}],
        "green": [{"land", "vegetation"}, {"road", "vegetation"}, {"vegetation"}],
        "dark": [{"land", "vegetation"}, {"road"}, {"land", "vegetation"}],
    }


def test_a_model_knows_what_its_photos_look_like(
    tmp_path: Path, maps: Path, masks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (familiar, run):
        monkeypatch.setattr(module, "FEWEST", 5)
    monkeypatch.setattr(run, "DESCRIBED", 40)
    settings = recipe("data.size=64", "data.camera=1.0", "generator.widths=[4, 4, 8, 8]")
    known = read_familiar(train(settings, [maps, masks], tmp_path / "run", quiet=True))
    assert known is not None and known.side == 64
    photo = np.asarray(Image.open(maps / "train" / "0.png"))[:64, :64]
    negative, familiar_one = known.distances([255 - photo, photo])
    assert negative > familiar_one


def test_from_few_photos_it_does_not(tmp_path: Path, maps: Path, masks: Path) -> None:
    assert read_familiar(train(recipe(), [maps, masks], tmp_path / "run", quiet=True)) is None


def test_a_model_that_draws_maps_learns_land_cover_from_masks_alone(
    tmp_path: Path, maps: Path, masks: Path
) -> None:
    begun = train(recipe(), [maps, masks], tmp_path / "run", quiet=True)
    settings = [f'training.init="{begun}"', "objective.distillation_weight=1.0"]
    tuned = load_model(train(recipe(*settings), [masks], tmp_path / "tuned", quiet=True))
    assert (tuned.card.legend, tuned.card.cover) == (STREETS, COVER)
    lines = (tmp_path / "tuned" / "losses.csv").read_text().splitlines()
    first = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert float(first["cover"]) > 0 and float(first["classes"]) == 0


def test_what_is_rough_is_no_water_where_masks_leave_a_choice(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    photo = np.full((64, 64, 3), 60, np.uint8)
    photo[:, 32:] = random.integers(0, 120, (64, 32, 1))  # woods
    values = np.full((64, 64), 8, np.uint8)
    values[:8] = 7
    values[56:] = 5  # water, whatever it looks like
    folder = tmp_path / "roads"
    for part, image in (("source", photo), ("classes", values)):
        (folder / "train" / part).mkdir(parents=True)
        Image.fromarray(image).save(folder / "train" / part / "0.png")
    card = {
        "resolution_m": 1.0,
        "legend": "cover",
        "classes": {"0": "unknown", "5": "water", "7": "road", "8": "not road"},
    }
    (folder / "dataset.json").write_text(json.dumps(card))
    one = MaskSet(decode_masks(folder, "train"), STREETS, 1.0)
    labels = one.labels(0)[1]
    assert labels is not None
    may_be = labels.may_be[labels.numbers.long()]
    water, road = COVER.names.index("water"), COVER.names.index("road")
    land = COVER.names.index("land")
    smooth, rough = may_be[30, 10], may_be[30, 50]
    assert smooth[water] == 1 and rough[water] == 0
    assert smooth[land] == rough[land] == 1 and smooth[road] == rough[road] == 0
    assert may_be[60, 50].argmax() == water and may_be[60, 50].sum() == 1
    assert may_be[4, 50].argmax() == road and may_be[4, 50].sum() == 1
