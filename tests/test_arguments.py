"""What a caller can do wrong in Python is one line that names the parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sat2map
from fixtures.scenes import MakeModel, MakeScene, noise
from sat2map.arguments import checks_arguments
from sat2map.chips.chips import ChipOptions
from sat2map.errors import Sat2mapError, UsageError
from sat2map.evaluation.comparison import compare
from sat2map.evaluation.evaluate import evaluate, evaluate_masks
from sat2map.export.export import export_model
from sat2map.legend import STREETS
from sat2map.model.pix2pix_checkpoint import import_checkpoint
from sat2map.raster.options import Reading, SceneOptions
from sat2map.translation.info import scene_facts
from sat2map.translation.scene import translate_raster
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator, load
from sat2map.vectors.report import report_classes

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
    refused("name_or_folder", lambda: load(None))  # type: ignore[arg-type]
    refused("threads", lambda: load(model_folder, threads="2"))  # type: ignore[arg-type]
    translator = load(model_folder, "cpu", runtime="torch")
    refused("seed", lambda: translator.translate(noise(16, 16), mode="published", seed="x"))  # type: ignore[call-overload]


def test_scenes(make_scene: MakeScene, make_model: MakeModel, tmp_path: Path) -> None:
    path, out, translator = make_scene(noise(8, 8)), tmp_path / "map.tif", make_model()
    for wrong in (3, PIXELS, {"model": "streets"}):
        refused("model", lambda w=wrong: translate_raster(path, out, w))  # type: ignore[misc]
    refused("input", lambda: translate_raster(None, out, translator))  # type: ignore[arg-type]
    refused("text", lambda: sat2map.open_source(PIXELS))  # type: ignore[arg-type]
    refused("output", lambda: translate_raster(path, None, translator))  # type: ignore[arg-type]
    refused("options", lambda: translate_raster(path, out, translator, {}))  # type: ignore[arg-type]


def test_data_sets(data_set: Path, model_folder: Path, tmp_path: Path) -> None:
    translator: Translator = load(model_folder, "cpu", runtime="torch")
    for wrong in (None, 3):
        refused("translator", lambda w=wrong: evaluate(w, data_set))  # type: ignore[misc]
    refused("data", lambda: evaluate(translator, None))  # type: ignore[arg-type]
    refused("size", lambda: evaluate(translator, data_set, size="256"))  # type: ignore[arg-type]
    refused("size", lambda: evaluate(translator, data_set, size=100_000))
    page = evaluate(translator, str(data_set), size=16, report=str(tmp_path / "report")).report
    assert page is not None
    assert page.is_file()
    refused("recipe", lambda: sat2map.train(3, data_set, tmp_path / "run"))  # type: ignore[arg-type]
    recipe = sat2map.load_recipe("pix2pix")
    refused("data", lambda: sat2map.train(recipe, None, tmp_path / "run"))  # type: ignore[arg-type]


@pytest.mark.parametrize("translator", [None, 3])
def test_masks_are_evaluated_by_a_translator(translator: Any, tmp_path: Path) -> None:
    refused("translator", lambda: evaluate_masks(translator, tmp_path))


WRONG: list[Any] = [
    object(),
    b"x",
    3.5,
    10**30,
    float("nan"),
    "nonsense",
    [object()],
    (1, 2, 3, 4, 5),
    {"a": object()},
    True,
    np.full((2, 2), np.nan),
    torch.zeros(3, 3),
    Image.fromarray(PIXELS),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: f"{type(one).__name__}")
def test_no_wrong_argument_of_a_public_function_fails_somewhere_within(
    make_scene: MakeScene, make_model: MakeModel, data_set: Path, tmp_path: Path, wrong: Any
) -> None:
    scene, translator = make_scene(noise(20, 20)), make_model(legend=STREETS)
    calls: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (sat2map.load, {"name_or_folder": tmp_path / "none"}),
        (sat2map.load_recipe, {"name_or_path": "demo"}),
        (sat2map.open_source, {"text": scene}),
        (translator.translate, {"source": noise(8, 8)}),
        (translator.maps, {"source": noise(8, 8), "layers": ("image",)}),
        (translator.predict, {"window": noise(8, 8)}),
        (translator.frame, {}),
        (translator.in_colours, {"colours": {}}),
        (translate_raster, {"input": scene, "output": tmp_path / "map.tif", "model": translator}),
        (sat2map.translate_classes, {"input": scene, "classes": "none.png", "model": translator}),
        (sat2map.vectorise, {"classes": tmp_path / "none.tif", "out": tmp_path / "v.gpkg"}),
        (sat2map.ClassFiles, {"classes": "a.tif"}),
        (sat2map.VectorOptions, {}),
        (ChipOptions, {}),
        (SceneWindows, {"source": scene, "translator": translator}),
        (scene_facts, {"source": scene, "translator": translator}),
        (evaluate, {"translator": translator, "data": data_set, "size": 8}),
        (evaluate_masks, {"translator": translator, "data": data_set}),
        (compare, {"models": {"a": translator, "b": translator}, "data": data_set, "size": 8}),
        (sat2map.train, {"recipe": None, "data": data_set, "run": tmp_path / "run"}),
        (import_checkpoint, {"checkpoint": tmp_path / "none.pth", "out": tmp_path / "model"}),
        (export_model, {"folder": tmp_path / "no", "out": tmp_path / "out", "kind": "onnx"}),
        (report_classes, {"classes": tmp_path / "none.tif"}),
    ]
    for call, good in calls:
        for name in inspect.signature(call).parameters:
            if name in ("perceptual", "report", "save", "published"):
                continue
            with suppress(Sat2mapError):
                call(**good | {name: wrong})


def test_texts_are_paths_and_numbers_of_numpy_numbers() -> None:
    def told(path: Path, many: Sequence[Path], size: float = 1.0) -> tuple[Any, ...]:
        return path, list(many), size

    call: Any = checks_arguments(told)
    assert call("a", ["b", Path("c")], np.float32(2)) == (Path("a"), [Path("b"), Path("c")], 2)
    assert call(Path("a"), (), np.int64(3)) == (Path("a"), [], 3)
    refused("size", lambda: call("a", [], "3"))
    refused("many", lambda: call("a", "b"))
    refused("path", lambda: call(None, []))


def test_a_wrong_keyword_names_the_function() -> None:
    with pytest.raises(TypeError, match=r"translate_raster\(\) got an unexpected .*'zoom'"):
        translate_raster("ortho.tif", "map.tif", zoom=3)  # type: ignore[call-arg]


def test_public_errors_are_those_of_the_library() -> None:
    for name in ("DataError", "UsageError", "ModelError", "OutputError", "StoppedError"):
        assert issubclass(getattr(sat2map, name), Sat2mapError)
    with pytest.raises(sat2map.ModelError, match=r"nowhere: .* shipped model: .*streets"):
        sat2map.load("nowhere")


def test_models_and_recipes_may_be_named(tmp_path: Path) -> None:
    with pytest.raises(sat2map.DataError, match=r"no-data"):
        evaluate("streets", tmp_path / "no-data")
    with pytest.raises(sat2map.DataError, match=r"no-data"):
        compare({"one": "streets", "two": "streets"}, tmp_path / "no-data")
    with pytest.raises(UsageError, match="pix3pix"):
        sat2map.train("pix3pix", tmp_path / "no-data", tmp_path / "run")
    assert repr(load("streets")).startswith("<Translator streets, ")


def test_a_class_map_may_be_named(make_scene: MakeScene, tmp_path: Path) -> None:
    translate_raster(
        make_scene(noise(64, 64)), tmp_path / "m.tif", "streets", classes=tmp_path / "c.tif"
    )
    assert (tmp_path / "c.tif").is_file()
