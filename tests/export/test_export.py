from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from PIL import Image

from sat2map.data.pairs import DataSetCard, write_card
from sat2map.errors import DataError, MissingExtraError, ModelError, OutputError, UsageError
from sat2map.evaluation.score import score_image
from sat2map.export import export as module
from sat2map.export.deepness import export_for_deepness
from sat2map.export.export import Format, export_model
from sat2map.export.int8 import Calibration, count_layers
from sat2map.legend import STREETS
from sat2map.model.card import ModelCard, read_model_card
from sat2map.model.familiar import Familiar
from sat2map.model.folder import build_generator, load_model, save_model
from sat2map.networks.specs import LiteSpec
from sat2map.translation.translator import load

FORMATS: tuple[Format, ...] = ("openvino", "onnx")


@pytest.fixture(autouse=True)
def same_process() -> Iterator[None]:
    """NNCF, which changes the process that it works in, works in another one."""

    def state() -> tuple[object, ...]:  # other libraries, in tests before these, may load it too
        loaded = sys.modules.get("nncf") is not None
        return loaded, logging.getLoggerClass(), os.environ.get("NNCF_CI")

    before = state()
    yield
    assert state() == before


def answer(folder: Path, kind: Format, source: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Run an exported model as a stranger would, with nothing of ours."""
    if kind == "onnx":
        session = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )
        assert [i.name for i in session.get_inputs()] == ["source"]
        result: np.ndarray[Any, Any] = session.run(None, {"source": source})[0]
        return result
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # or a processor with bfloat16 computes in that
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", exact)
    found: np.ndarray[Any, Any] = compiled({"source": source})["picture"]
    return found


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_is_what_others_can_run(kind: Format, model_folder: Path, tmp_path: Path) -> None:
    done = export_model(model_folder, tmp_path / "out", kind)
    assert done.folder == tmp_path / "out"
    assert done.quantised is None
    assert 0 < done.difference < 1e-4
    files = {"openvino": {"model.xml", "model.bin"}, "onnx": {"model.onnx"}}[kind]
    assert {path.name for path in done.folder.iterdir()} == files | {"model.json"}
    assert read_model_card(done.folder).multiple == 16
    network = load_model(model_folder).network
    for batch, height, width in ((1, 16, 16), (3, 48, 16), (2, 16, 80)):
        source = torch.rand(batch, 3, height, width) * 2 - 1
        with torch.no_grad():
            expected = network(source).numpy()
        np.testing.assert_allclose(answer(done.folder, kind, source.numpy()), expected, atol=1e-5)


def test_onnx_is_of_an_opset_that_old_runtimes_read(model_folder: Path, tmp_path: Path) -> None:
    export_model(model_folder, tmp_path / "out", "onnx")
    model = onnx.load(tmp_path / "out" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8


@pytest.mark.parametrize("kind", FORMATS)
def test_int8_costs_little_and_says_so(
    kind: Format, model_folder: Path, data_set: Path, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    done = export_model(
        model_folder,
        tmp_path / "out",
        kind,
        Calibration(data_set, size=32, windows=8),
        lambda *c: calls.append(c),
    )
    told = done.quantised
    assert told is not None
    assert (told.windows, told.pairs) == (6, 3)
    assert (told.layers, told.kept) == (8, 0)
    assert calls[-1] == (3, 3)
    images = (np.zeros((32, 32, 3), np.uint8),) * 3
    assert set(score_image("x", *images, None).values) <= set(told.metrics)
    plain, small = told.metrics["psnr"]
    assert plain - small < 0.15
    assert plain != small
    source = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    exact = load(model_folder, "cpu", runtime="torch").translate(source)
    rough = load(tmp_path / "out").translate(source)
    difference = np.abs(rough.astype(int) - exact)
    assert 0 < difference.max() < 40
    assert json.loads(json.dumps(done.to_json()))["quantised"]["metrics"]["psnr"] == [plain, small]


@pytest.mark.parametrize(("kind", "kept"), [("openvino", 0), ("onnx", 6)])
def test_what_a_network_names_stays_float32_in_int8_for_onnx(
    kind: Format, kept: int, data_set: Path, tmp_path: Path
) -> None:
    """The first convolutions of `lite` meet the light of places that it was not calibrated on."""
    spec = LiteSpec(encoder="none", widths=[8, 8, 8, 8])
    folder = tmp_path / "model"
    save_model(folder, build_generator(spec), ModelCard(generator=spec, normalisation="fixed"))
    told = export_model(folder, tmp_path / "out", kind, Calibration(data_set, 32, 4, 1)).quantised
    assert told is not None
    assert (told.layers, told.kept) == (45, kept)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_layers_that_int8_ruins_are_put_back(
    kind: Format, model_folder: Path, data_set: Path, tmp_path: Path
) -> None:
    """One channel of a thousand times the others' range leaves those a single step of int8."""
    model = load_model(model_folder)
    network: Any = model.network
    for parameter in network.parameters():
        parameter.data.mul_(3.5)
    before, last = network.decoder[-2][2], network.decoder[-1][1]
    with torch.no_grad():
        before.weight[0] *= 1000
        before.bias[0] *= 1000
        last.weight[0] /= 1000
    folder, pairs = tmp_path / "model", tmp_path / "pairs"
    save_model(folder, network, model.card)
    translator, random = load(folder, "cpu", runtime="torch"), np.random.default_rng(0)
    for path in data_set.glob("*/*.png"):  # what the network itself answers, under some noise
        source = np.asarray(Image.open(path))[:, :40]
        noise = random.integers(-8, 9, source.shape)
        target = (translator.translate(source) + noise).clip(0, 255).astype(np.uint8)
        (pairs / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.hstack([source, target])).save(pairs / path.parent.name / path.name)
    write_card(pairs, DataSetCard(resolution_m=1.0, legend=STREETS, licence="CC0-1.0"))
    losses = {}
    for bound in (100.0, 0.5):
        calibration = Calibration(pairs, size=None, windows=6, drop=bound)
        told = export_model(folder, tmp_path / f"{bound}", kind, calibration).quantised
        assert told is not None
        plain, small = told.metrics["psnr"]
        losses[bound] = plain - small, told.kept
    assert losses[100.0][0] > 1 and losses[100.0][1] == 0
    assert losses[0.5][0] < 0.6 and 0 < losses[0.5][1] < 8


def test_int8_openvino_is_small_and_loaded_by_itself(model_folder: Path, data_set: Path) -> None:
    calibration = Calibration(data_set, size=32, windows=4, pairs=1)
    export_model(model_folder, model_folder / "openvino", "openvino", calibration)
    model = openvino.Core().read_model(model_folder / "openvino" / "model.xml")
    assert count_layers(model) == (8, 8)
    translator = load(model_folder, "cpu")
    assert translator.runtime == "openvino"
    weights = (model_folder / "model.safetensors").stat().st_size
    assert (model_folder / "openvino" / "model.bin").stat().st_size < weights / 2


def test_images_alone_will_do_to_calibrate(
    model_folder: Path, data_set: Path, tmp_path: Path
) -> None:
    calibration = Calibration(data_set / "train", windows=4)
    told = export_model(model_folder, tmp_path / "out", "openvino", calibration).quantised
    assert told is not None
    assert (told.windows, told.pairs, told.metrics) == (4, 0, {})


def test_photos_of_class_masks_will_do_to_calibrate(
    model_folder: Path, data_set: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    for split in ("train", "val"):
        for part in ("source", "classes"):
            (masks / split / part).mkdir(parents=True)
            Image.new("RGB" if part == "source" else "L", (32, 32)).save(
                masks / split / part / "a.png"
            )
    told = export_model(model_folder, tmp_path / "out", "openvino", Calibration(masks)).quantised
    assert told is not None
    assert (told.windows, told.pairs) == (4, 0)


def test_an_export_that_answers_otherwise_is_an_error(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_openvino = module.to_openvino

    def of_another(network: torch.nn.Module, *arguments: Any, **named: Any) -> Any:
        next(network.parameters()).data.add_(0.5)
        return to_openvino(network, *arguments, **named)

    def on_a_copy(network: torch.nn.Module, *arguments: Any, **named: Any) -> Any:
        import copy

        return of_another(copy.deepcopy(network), *arguments, **named)

    monkeypatch.setattr(module, "to_openvino", on_a_copy)
    with pytest.raises(ModelError, match="otherwise than torch"):
        export_model(model_folder, tmp_path / "out", "openvino")
    assert not (tmp_path / "out").exists()


def test_calls_that_do_not_fit(model_folder: Path, data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="model folder itself"):
        export_model(model_folder, model_folder, "onnx")
    with pytest.raises(OutputError, match="exists"):
        export_model(model_folder, data_set, "onnx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        export_model(model_folder, tmp_path / "out", "onnx", Calibration(tmp_path / "empty"))
    export_model(model_folder, tmp_path / "exported", "onnx")
    with pytest.raises(ModelError, match=r"safetensors.*missing"):
        export_model(tmp_path / "exported", tmp_path / "again", "onnx")


@pytest.mark.parametrize("kind", [*FORMATS, "deepness"])
def test_a_folder_of_others_is_left_as_it_is(
    model_folder: Path, tmp_path: Path, put_foreign: Callable[..., Callable[..., None]], kind: Any
) -> None:
    check = put_foreign(tmp_path / "mine", "model.xml", "model.onnx", "deepness.onnx")
    with pytest.raises(OutputError, match="mine: exists already"):
        if kind == "deepness":
            export_for_deepness(model_folder, tmp_path / "mine")
        else:
            export_model(model_folder, tmp_path / "mine", kind)
    check(alone=True)


@pytest.mark.parametrize(
    ("package", "extra", "kind"), [("nncf", "int8", "openvino"), ("onnx", "onnx", "onnx")]
)
def test_what_is_not_installed_is_named(
    package: str,
    extra: str,
    kind: Format,
    model_folder: Path,
    data_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"sat2map\[{extra}\]"):
        export_model(model_folder, tmp_path / "out", kind, Calibration(data_set))


def test_what_a_model_has_learned_from_goes_with_it(model_folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    photos = [random.integers(0, 200, (64, 64, 3), dtype=np.uint8) for _ in range(200)]
    known = Familiar.learn(photos)
    assert known is not None
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    known.save(folder)
    export_model(folder, tmp_path / "out", "openvino")
    assert load(tmp_path / "out", "cpu").familiar == known
    export_model(folder, folder / "openvino", "openvino")
    assert not (folder / "openvino" / "familiar.json").exists()
    assert load(folder, "cpu", runtime="openvino").familiar == known
