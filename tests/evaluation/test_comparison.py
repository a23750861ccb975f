from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sat2map.data.pairs import find_pairs
from sat2map.errors import OutputError, UsageError
from sat2map.evaluation.comparison import compare
from sat2map.evaluation.evaluate import evaluate
from sat2map.evaluation.score import ImageScore, resampled
from sat2map.legend import STREETS
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import UNetSpec
from sat2map.translation.translator import Translator, load


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Translator]:
    """Two small untrained models with the legend of the data."""
    found = {}
    for seed, name in enumerate(("a/model", "b/model")):
        spec = UNetSpec(size=16, base_channels=4)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = build_generator(spec)
        save_model(
            tmp_path / name,
            network,
            ModelCard(generator=spec, normalisation="none", legend=STREETS),
        )
        found[name] = load(tmp_path / name, runtime="torch")
    return found


def test_each_model_has_the_metrics_that_it_has_alone(
    data_set: Path, models: dict[str, Translator]
) -> None:
    result = compare(models, data_set, size=16)
    assert result.models == ("a/model", "b/model")
    for summary, translator in zip(result.summaries, models.values(), strict=True):
        assert summary.metrics == evaluate(translator, data_set, size=16).summary.metrics
    (difference,) = result.differences
    first, second = result.summaries
    for name in result.metrics:
        expected = second.metrics[name].mean - first.metrics[name].mean
        assert difference[name].mean == pytest.approx(expected)
    told = json.loads(json.dumps(result.to_json()))
    assert set(told["models"]) == {"a/model", "b/model"}
    assert set(told["differences"]["b/model"]["l1"]) == {"mean", "low", "high"}


def test_the_interval_of_a_difference_is_paired() -> None:
    """A model that is always worse by 1 is so for sure, however much images differ."""
    random = np.random.default_rng(0)
    hard = random.uniform(0, 100, 12)
    first, second = (
        [ImageScore(str(i), {"l1": value + more}) for i, value in enumerate(hard)]
        for more in (0.0, 1.0)
    )
    difference = resampled(second, None)["l1"] - resampled(first, None)["l1"]
    np.testing.assert_allclose(difference, 1.0)
    assert np.ptp(resampled(first, None)["l1"]) > 10


def test_all_images_are_saved_side_by_side(
    data_set: Path, tmp_path: Path, models: dict[str, Translator]
) -> None:
    result = compare(models, data_set, size=16, save=tmp_path / "page")
    assert result.saved == tmp_path / "page" / "index.html"
    names = {pair.stem for pair in find_pairs(data_set, "val")}
    parts = ("source", "target", "result/a_model", "result/b_model")
    assert {p.relative_to(tmp_path / "page").as_posix() for p in tmp_path.rglob("*.png")} >= {
        f"{part}/{name}.png" for part in parts for name in names
    }
    text = result.saved.read_text(encoding="utf-8")
    for words in ("a/model and b/model", "b/model less a/model", "L1, b/model", "IoU water, 2 px"):
        assert words in text
    assert text.count("<img") == 4 * len(names)
    left, right = (np.asarray(Image.open(tmp_path / "page" / part / "1.png")) for part in parts[2:])
    assert not np.array_equal(left, right)


def test_a_pair_that_one_model_cannot_use_counts_for_none(
    data_set: Path, tmp_path: Path, models: dict[str, Translator]
) -> None:
    before = compare(models, data_set, size=16)
    (data_set / "val" / "4.png").write_bytes(b"no image")
    result = compare(models, data_set, size=16, save=tmp_path / "page")
    assert [one.metrics for one in result.summaries] == [one.metrics for one in before.summaries]
    assert len(result.failures) == 1
    assert "4.png" in str(result.failures[0])


def test_what_cannot_be_compared_is_one_line(
    data_set: Path, tmp_path: Path, models: dict[str, Translator], put_foreign: Any
) -> None:
    one = dict([next(iter(models.items()))])
    with pytest.raises(UsageError, match="nothing to compare with"):
        compare(one, data_set)
    spec = UNetSpec(size=16, base_channels=4)
    card = ModelCard(generator=spec, normalisation="none", direction="reverse")
    save_model(tmp_path / "back", build_generator(spec), card)
    back = load(tmp_path / "back", runtime="torch")
    with pytest.raises(UsageError, match="back: translates reverse, but a/model forward"):
        compare({**one, "back": back}, data_set)
    check = put_foreign(tmp_path / "mine", "index.html")
    with pytest.raises(OutputError, match="mine: is not empty"):
        compare(models, data_set, size=16, save=tmp_path / "mine")
    check(alone=True)
