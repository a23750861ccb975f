"""What a caller can do wrong in Python is one line that names the parameter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sat2map
from fixtures.scenes import MakeModel, MakeScene, noise
from sat2map.errors import UsageError
from sat2map.evaluation.evaluate import evaluate, evaluate_masks
from sat2map.raster.options import Reading, SceneOptions
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load

PIXELS = np.zeros((8, 8, 3), np.uint8)


def refused(parameter: str, call: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.parameter == parameter
    assert str(caught.value).startswith(f"`{parameter}`: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("parameter", "options"),
    [
        ("window", {"window": "256"}),
        ("window", {"window": 256.5}),
        ("window", {"window": 1}),
        ("overlap", {"overlap": "2"}),
        ("resolution", {"resolution": None}),
        ("resolution", {"resolution": "fine"}),
        ("reading", {"reading": None}),
        ("mask", {"mask": 3}),
        ("seed", {"seed": "x"}),
    ],
)
def test_options_of_scenes(parameter: str, options: dict[str, Any]) -> None:
    refused(parameter, lambda: SceneOptions(**options))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("bbox", (1, 2, 3)),
        ("bbox", "1,2,3,4"),
        ("bands", "321"),
        ("bands", (1.5, 2, 3)),
        ("nodata", "0"),
        ("nodata", ("0",)),
        ("stretch", (2,)),
        ("stretch", 2),
        ("value_range", ("0", "1")),
        ("crs", 32633),
        ("pixel_size", "0.3"),
    ],
)
def test_readings(parameter: str, value: object) -> None:
    refused(parameter, lambda: Reading(**{parameter: value}))


def test_lists_and_single_numbers_are_taken() -> None:
    assert Reading(nodata=0).nodata == (0,)  # type: ignore[arg-type]
    assert Reading(nodata=float("nan")).nodata == ()  # type: ignore[arg-type]
    taken = Reading(bands=[3, 2, 1], value_range=[0, 9])  # type: ignore[arg-type]
    assert (taken.bands, taken.value_range) == ((3, 2, 1), (0, 9))
    assert SceneOptions(mask="area.geojson").mask == Path("area.geojson")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [
        None,
        "photo.png",
        PIXELS.tolist(),
        Image.fromarray(PIXELS),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        PIXELS / 255,
        PIXELS[..., 0],
        PIXELS[:0],
    ],
    ids=["None", "str", "list", "PIL", "torch", "float", "2-D", "empty"],
)
def test_what_is_not_an_array_of_bytes(make_model: MakeModel, source: Any) -> None:
    translator = make_model()
    refused("source", lambda: translator.translate(source))


@pytest.mark.parametrize("window", [PIXELS[:7], PIXELS / 2, [1], None, PIXELS[..., :2]])
def test_windows_that_no_network_takes(make_model: MakeModel, window: Any) -> None:
    translator = make_model()
    refused("window", lambda: translator.predict(window))


@pytest.mark.parametrize("device", ["cuda", "cuda:9", "nonsense", 3.5])
def test_a_device_that_is_not_there(model_folder: Path, device: Any) -> None:
    if torch.cuda.is_available() and device == "cuda":
        pytest.skip("CUDA is here")
    refused("device", lambda: load(model_folder, device, runtime="torch"))


def test_models(model_folder: Path) -> None:
    refused("model", lambda: load(None))  # type: ignore[arg-type]
    refused("threads", lambda: load(model_folder, threads="2"))  # type: ignore[arg-type]
    translator = load(model_folder, "cpu", runtime="torch")
    refused("seed", lambda: translator.translate(noise(16, 16), mode="published", seed="x"))  # type: ignore[call-overload]


def test_scenes(make_scene: MakeScene, make_model: MakeModel, tmp_path: Path) -> None:
    path, out, translator = make_scene(noise(8, 8)), tmp_path / "map.tif", make_model()
    for wrong in (3, PIXELS, {"model": "streets"}):
        refused("model", lambda w=wrong: translate_raster(path, out, w))  # type: ignore[misc]
    refused("source", lambda: translate_raster(None, out, translator))  # type: ignore[arg-type]
    refused("source", lambda: sat2map.open_source(PIXELS))  # type: ignore[arg-type]
    refused("output", lambda: translate_raster(path, None, translator))  # type: ignore[arg-type]
    refused("options", lambda: translate_raster(path, out, translator, {}))  # type: ignore[arg-type]


def test_data_sets(data_set: Path, model_folder: Path, tmp_path: Path) -> None:
    translator: Translator = load(model_folder, "cpu", runtime="torch")
    for wrong in (None, "streets", model_folder):
        refused("translator", lambda w=wrong: evaluate(w, data_set))  # type: ignore[misc]
    refused("data", lambda: evaluate(translator, None))  # type: ignore[arg-type]
    refused("size", lambda: evaluate(translator, data_set, size="256"))  # type: ignore[arg-type]
    refused("size", lambda: evaluate(translator, data_set, size=100_000))
    page = evaluate(translator, str(data_set), size=16, report=str(tmp_path / "report")).report
    assert page is not None
    assert page.is_file()
    refused("recipe", lambda: sat2map.train("pix2pix", data_set, tmp_path / "run"))  # type: ignore[arg-type]
    recipe = sat2map.load_recipe("pix2pix")
    refused("data", lambda: sat2map.train(recipe, None, tmp_path / "run"))  # type: ignore[arg-type]


@pytest.mark.parametrize("translator", [None, "streets", 3])
def test_masks_are_evaluated_by_a_translator(translator: Any, tmp_path: Path) -> None:
    refused("translator", lambda: evaluate_masks(translator, tmp_path))
