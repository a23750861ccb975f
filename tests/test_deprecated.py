"""Public names of the version before work one version more, and say what they are called now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from sat2map.errors import UsageError
from sat2map.evaluation.score import score_image, summarise
from sat2map.geo.grid import Grid
from sat2map.legend import STREETS
from sat2map.model.card import ModelCard, model_folder
from sat2map.model.folder import Model
from sat2map.networks.normalisation import as_published
from sat2map.networks.specs import UNetSpec
from sat2map.networks.unet import UNet
from sat2map.raster.options import SceneOptions
from sat2map.style.features import Features, Vectors
from sat2map.style.render import Painter
from sat2map.style.spec import read_style
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load


def test_a_summary_counts_images():
    same = np.zeros((8, 8, 3), np.uint8)
    summary = summarise([score_image("a", same, same, same, STREETS)], STREETS)
    with pytest.warns(DeprecationWarning, match="images"):
        assert summary.pictures == 1
    assert summary.images == summary.to_json()["pictures"] == 1


def test_a_drawing_has_an_image():
    grid = Grid(8, 8, Affine(1, 0, 500_000, 0, -1, 0), CRS.from_epsg(32633))
    nothing = Features(np.array([], object), np.array([], np.int32), [])
    vectors = Vectors(read_style("streets"), grid.crs, nothing, 0, 0)
    drawing = Painter(vectors, 1.0).draw(grid)
    with pytest.warns(DeprecationWarning, match="called image"):
        assert drawing.picture is drawing.image


def test_a_translation_gives_an_image():
    source = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    translator = load("streets", "cpu")
    with pytest.warns(DeprecationWarning, match='"image"'):
        found = translator.translate(source, output="picture")
    np.testing.assert_array_equal(found, translator.translate(source, output="image"))


def test_published_is_a_mode(tmp_path):
    source = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    generator = UNet(size=32, base_channels=4)
    card = ModelCard(generator=UNetSpec(size=32, base_channels=4), normalisation="none")
    translator = Translator(Model(generator, card, tmp_path), "cpu")
    with pytest.warns(DeprecationWarning, match="mode") as told:
        found = translator.translate(source, published=True, seed=3)
    assert told[0].filename == __file__
    np.testing.assert_array_equal(found, translator.translate(source, mode="published", seed=3))
    with pytest.warns(DeprecationWarning, match="mode") as told:
        options = SceneOptions(published=True, window=64, overlap=0)
    assert told[0].filename == __file__
    assert options == SceneOptions(mode="published", window=64, overlap=0)
    assert replace(options, seed=2).mode == "published"
    with pytest.warns(DeprecationWarning, match="in_published_mode"):
        assert not isinstance(as_published(generator), type(None))
    with pytest.raises(UsageError, match="`mode`: is 'fast'"):
        translator.translate(source, mode="fast")


def test_a_raster_is_translated_with_a_name_a_folder_or_a_translator(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 60), np.uint8)
    facts = {"driver": "GTiff", "height": 40, "width": 60, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 500_000, 0, -1, 5_000_000)}
    with rasterio.open(tmp_path / "scene.tif", "w", **facts, **place) as file:
        file.write(pixels)
    maps = []
    for number, model in enumerate((None, "streets", model_folder("streets"), load("streets"))):
        path = translate_raster(tmp_path / "scene.tif", tmp_path / f"{number}.tif", model)
        maps.append(path.read_bytes())
    assert len(set(maps)) == 1
    with pytest.warns(DeprecationWarning, match="called model"):
        path = translate_raster(
            tmp_path / "scene.tif", tmp_path / "old.tif", translator=load("streets")
        )
    assert path.read_bytes() == maps[0]
