from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fixtures.scenes import MakeModel, MakeScene, noise, smooth
from sat2map.model.familiar import Familiar
from sat2map.translation.image import ImageOptions, translate_image
from sat2map.translation.info import scene_facts
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator

SAID = "looks unlike the photos that the model"


@pytest.fixture(scope="module")
def familiar() -> Familiar:
    random = np.random.default_rng(0)
    places = random.integers(0, 400 - 64, (400, 2))
    whole = waves(400, seed=2)
    learned = Familiar.learn([whole[r : r + 64, c : c + 64] for r, c in places])
    assert learned is not None
    return learned


@pytest.fixture
def knowing(make_model: MakeModel, familiar: Familiar) -> Translator:
    """Return a model that has learned from smooth photos with a little noise."""
    translator = make_model((0.5, 2))
    translator.__dict__["familiar"] = familiar
    return translator


def waves(side: int, seed: int) -> NDArray[np.uint8]:
    grain = np.random.default_rng(seed).integers(-4, 5, (side, side, 3))
    return (smooth(side, side) * 0.85 + grain).clip(0, 255).astype(np.uint8)


def photo(strange: bool) -> NDArray[np.uint8]:
    return noise(200, 200) if strange else waves(200, seed=1)


@pytest.mark.parametrize("strange", [False, True])
def test_a_strange_scene_gets_a_notice_and_a_map(
    knowing: Translator,
    make_scene: MakeScene,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    strange: bool,
) -> None:
    scene = make_scene(photo(strange))
    translate_raster(scene, tmp_path / "map.tif", knowing)
    assert (SAID in caplog.text) is strange
    notices = scene_facts(scene, knowing)["notices"]
    assert any(SAID in notice for notice in notices) is strange


@pytest.mark.parametrize("strange", [False, True])
def test_and_so_does_an_image(
    knowing: Translator, tmp_path: Path, caplog: pytest.LogCaptureFixture, strange: bool
) -> None:
    Image.fromarray(photo(strange)).save(tmp_path / "photo.png")
    translate_image(knowing, tmp_path / "photo.png", tmp_path / "map.png", ImageOptions())
    assert (SAID in caplog.text) is strange
    assert (tmp_path / "map.png").exists()


def test_what_is_nodata_is_not_looked_at(
    knowing: Translator, make_scene: MakeScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = photo(False)
    pixels[:, :60] = 0
    translate_raster(make_scene(pixels, nodata=0), tmp_path / "map.tif", knowing)
    assert SAID not in caplog.text


def test_a_model_that_does_not_know_says_nothing(
    make_model: MakeModel, make_scene: MakeScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    translate_raster(make_scene(photo(True)), tmp_path / "map.tif", make_model((0.5, 2)))
    assert SAID not in caplog.text
