from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rasterio.enums import ColorInterp

from sat2map.errors import DataError
from sat2map.raster.info import describe_scene, scene_facts

from .conftest import MakeScene, noise


def test_what_a_scene_is(make_scene: MakeScene) -> None:
    pixels = noise(40, 60).astype(np.int16)
    pixels[:10] = -1
    facts = scene_facts(make_scene(pixels, nodata=-1), (0.5, 2))
    assert json.loads(json.dumps(facts)) == json.loads(json.dumps(facts))
    assert (facts["width"], facts["height"], facts["crs"]) == (60, 40, "EPSG:32633")
    assert facts["bands"][0] == {"type": "int16", "colour": "red", "nodata": -1}
    assert facts["ground_resolution_m"] == pytest.approx((1, 1), rel=0.001)
    assert facts["nodata_share"] == pytest.approx(0.25)
    assert facts["model_knows_scale"] == "yes: the model knows 0.5 to 2 m"
    said = describe_scene(facts)
    for words in ("60 x 40 pixels", "3 (red, green, blue)", "int16", "EPSG:32633", "1 x 1 m"):
        assert words in said
    assert "25.0% of the pixels" in said


def test_what_nobody_said_is_unknown(make_scene: MakeScene) -> None:
    path = make_scene(noise(9, 9, 1), colours=[ColorInterp.gray], georeference={})
    facts = scene_facts(path)
    assert facts["crs"] is facts["bounds"] is facts["ground_resolution_m"] is None
    assert facts["nodata_share"] == 0
    assert "model_knows_scale" not in facts
    assert "unknown" in describe_scene(facts)
    assert "unknown: the model" not in describe_scene(scene_facts(path, None))


def test_nodata_that_is_not_a_number_is_json(make_scene: MakeScene) -> None:
    values = np.ones((9, 9, 3), np.float32)
    values[0] = np.nan
    facts = scene_facts(make_scene(values, nodata=float("nan")))
    assert facts["bands"][0]["nodata"] == "nan"
    assert json.loads(json.dumps(facts, allow_nan=False))["nodata_share"] == pytest.approx(1 / 9)


def test_no_raster(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("text")
    with pytest.raises(DataError, match=r"text\.tif: cannot be read"):
        scene_facts(tmp_path / "text.tif")
