"""What the plug-in's code does with a model, done here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sat2map.errors import UsageError
from sat2map.export.deepness import export_for_deepness, lab
from sat2map.legend import STREETS
from sat2map.legend import lab as lab_of_arrays
from sat2map.model.folder import ModelCard, build_generator, save_model
from sat2map.networks.specs import CompactSpec, UNetSpec
from sat2map.translation.translator import load


def model(folder: Path, *, with_head: bool, legend: bool = True) -> Path:
    colours = [list(entry.colour) for entry in STREETS.classes]
    if with_head:
        arguments = {"colours": colours, "channels": [8, 8, 8], "blocks": [1, 0, 0, 0, 0]}
        spec = CompactSpec(**arguments)
    else:
        spec = UNetSpec(size=16, base_channels=4)
    torch.manual_seed(0)
    network = build_generator(spec)
    if not with_head:  # a fresh one answers with one grey
        for parameter in network.parameters():
            parameter.data.mul_(3)
    card = ModelCard(
        generator=spec,
        normalisation="none",
        resolution_m=(0.5, 2.0),
        legend=STREETS if legend else None,
    )
    save_model(folder / "model", network.eval(), card)
    return folder / "model"


@pytest.mark.parametrize("with_head", [False, True])
def test_the_plug_in_gets_the_classes_that_we_see(with_head: bool, tmp_path: Path) -> None:
    folder = model(tmp_path, with_head=with_head)
    done = export_for_deepness(folder, tmp_path / "out", 64)
    assert done.difference < 1e-3
    session = onnxruntime.InferenceSession(
        tmp_path / "out" / "deepness.onnx", providers=["CPUExecutionProvider"]
    )
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    assert (source.shape, output.shape) == ([1, 3, 64, 64], [1, 8, 64, 64])
    tile = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    batch = np.float32(tile / 255).transpose(0, 3, 1, 2)
    scores = session.run(None, {source.name: batch})[0]
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    classes = scores.argmax(1)[0]
    translator = load(folder, "cpu", runtime="torch")
    if with_head:
        expected = translator.translate(tile[0], output="classes")
    else:
        expected = STREETS.label(translator.translate(tile[0]))
    assert (classes == expected).mean() > 0.98  # rounding to 8 bits moves a few


def test_the_metadata_is_what_its_code_reads(tmp_path: Path) -> None:
    export_for_deepness(model(tmp_path, with_head=False), tmp_path / "out")
    graph = onnx.load(tmp_path / "out" / "deepness.onnx")
    props = {prop.key: json.loads(prop.value) for prop in graph.metadata_props}
    assert props.pop("sat2map")["legend"] == STREETS.to_json()
    assert props == {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(STREETS.names)},
        "resolution": 100.0,
        "tile_size": 512,
        "tiles_overlap": 15,
        "seg_thresh": 0.0,
        "seg_small_segment": 1,
    }
    assert graph.opset_import[0].version <= 17
    assert graph.ir_version <= 8
    onnx.checker.check_model(graph, full_check=True)


def test_colours_are_measured_as_everywhere() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    values = torch.from_numpy(colours.astype(np.float32) / 255).T[None, :, :, None]
    np.testing.assert_allclose(lab(values)[0, :, :, 0].T, lab_of_arrays(colours), atol=0.02)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    folder = model(tmp_path, with_head=False)
    with pytest.raises(UsageError, match="multiple of 16"):
        export_for_deepness(folder, tmp_path / "out", 100)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="no legend"):
        export_for_deepness(
            model(tmp_path / "other", with_head=False, legend=False), tmp_path / "out"
        )
