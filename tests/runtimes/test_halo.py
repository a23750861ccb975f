"""What only a halo would show is not computed, and the core is the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray

from fixtures.scenes import noise
from sat2map.errors import UsageError
from sat2map.legend import STREETS
from sat2map.model.card import model_folder, read_model_card
from sat2map.model.folder import Model, ModelCard, build_generator
from sat2map.networks.specs import CompactSpec, GeneratorSpec, LiteSpec, ResNetSpec
from sat2map.runtimes.convert import to_onnx, to_openvino
from sat2map.runtimes.halo import cut_halo
from sat2map.runtimes.interface import Asked, Runtime
from sat2map.runtimes.onnx import OnnxRuntime
from sat2map.runtimes.openvino import OpenVINORuntime, with_pixels
from sat2map.runtimes.torch import TorchRuntime
from sat2map.translation.translator import Translator
from sat2map.translation.windows import MOST_BYTES, choose_frame, largest_tensor

COLOURS = STREETS.colours.tolist()
LITE = LiteSpec(colours=COLOURS, cover=True, widths=[8, 8, 16, 16])
COMPACT = CompactSpec(channels=[8, 8, 16], blocks=[1, 1, 2, 1, 1], colours=COLOURS)
ALL: tuple[Asked, ...] = ("probabilities", "image", "classes", "cover", "confidence")

RUNTIMES: dict[str, Callable[[torch.nn.Module, int], Runtime]] = {
    "torch": lambda network, _: TorchRuntime(network, "cpu"),
    "openvino": lambda network, multiple: OpenVINORuntime(to_openvino(network, 3), multiple),
    "onnx": lambda network, multiple: OnnxRuntime(
        to_onnx(network, 3).SerializeToString(), multiple
    ),
}


def network_of(spec: GeneratorSpec) -> torch.nn.Module:
    """A network whose answers differ from pixel to pixel."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(spec).eval()
    if hasattr(network, "exit"):
        network.exit.weight.data.mul_(3)  # type: ignore[operator, union-attr]
    return network


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("spec", [LITE, COMPACT], ids=lambda spec: spec.name)
def test_without_the_halo_the_answer_is_the_same(name: str, spec: LiteSpec | CompactSpec) -> None:
    network = network_of(spec)
    multiple = int(network.multiple)  # type: ignore[arg-type]
    halo = -(-spec.reach // multiple) * multiple
    runtime = RUNTIMES[name](network, multiple)
    source = noise(2 * halo + 64, 2 * halo + 96)[None]
    whole = runtime.run(source, ALL, STREETS)
    core = runtime.run(source, ALL, STREETS, halo)
    assert list(core) == list(ALL)
    for asked in ALL:
        expected = whole[asked][:, halo:-halo, halo:-halo]
        assert core[asked].shape == expected.shape
        assert core[asked].dtype == expected.dtype
        apart: NDArray[Any] = np.abs(core[asked].astype(np.float64) - expected)
        if asked == "probabilities":
            assert apart.max() < 1e-4
        else:  # a tie may be broken the other way
            assert (apart > 1).mean() < 1e-3


@pytest.mark.parametrize("spec", [LITE, COMPACT], ids=lambda spec: spec.name)
def test_hardly_any_halo_is_left_at_the_answer(spec: LiteSpec | CompactSpec) -> None:
    network = network_of(spec)
    multiple = int(network.multiple)  # type: ignore[arg-type]
    halo = 2 * multiple * -(-spec.reach // (2 * multiple))
    model = to_openvino(network, 3)
    answer = model.output("probabilities").node.input_value(0)
    assert cut_halo(model.get_parameters()[0], [answer], halo, multiple)[0] <= multiple


def test_a_layer_of_which_nothing_is_known_keeps_the_halo() -> None:
    """Instance norm looks at the whole image."""
    network = network_of(ResNetSpec(base_channels=4, blocks=1))
    model = to_openvino(network, 3)
    before = len(model.get_ordered_ops())
    answer = model.output("picture").node.input_value(0)
    assert cut_halo(model.get_parameters()[0], [answer], 64, 4) == [64]
    assert len(model.get_ordered_ops()) == before


def test_no_tensor_of_the_graph_is_larger_than_what_windows_are_chosen_by() -> None:
    """Padding, which is a node of its own there, adds a row and a column."""
    folder = model_folder("streets")
    model = openvino.Core().read_model(folder / "openvino" / "model.xml")
    card = read_model_card(folder)
    frame = choose_frame(card, 16)
    assert frame is not None
    for asked in (("image", "cover", "cover_confidence"), ("probabilities", "cover_probabilities")):
        graph = with_pixels(model, asked, card.legend, frame.halo, 16)
        graph.reshape([1, frame.size, frame.size, 3])
        nodes = [node for node in graph.get_ops() if node.get_type_name() != "Constant"]
        shapes = [output.get_shape() for node in nodes for output in node.outputs()]
        largest = 4 * max(math.prod(shape) for shape in shapes)
        assert largest == pytest.approx(largest_tensor(card, frame), rel=0.01)
        assert largest <= MOST_BYTES


def test_a_halo_is_a_multiple_and_leaves_something() -> None:
    network = network_of(COMPACT)
    card = ModelCard(generator=COMPACT, normalisation="none", legend=STREETS, resolution_m=(1, 1))
    translator = Translator(Model(network, card, Path("near")), "cpu")
    for halo in (-16, 8, 64):
        with pytest.raises(UsageError, match=rf"{halo} is not a halo of a window of 128 x 128"):
            translator.predict(noise(128, 128), halo=halo)
    assert translator.predict(noise(128, 128), halo=48).shape == (32, 32, 8)


def test_windows_that_are_answered_at_once_are_what_they_are_alone() -> None:
    network = network_of(COMPACT)
    model = to_openvino(network, 3)
    several, one = OpenVINORuntime(model, 16, threads=2), OpenVINORuntime(model, 16, threads=1)
    assert several.at_once == 2
    assert one.at_once == 1
    sizes = [(352, 352), (352, 160), (160, 352), (160, 160)]  # the last ones at a scene's end
    halo, windows = 48, [noise(*size, seed=seed)[None] for size in sizes for seed in (0, 1)]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda w: several.run(w, ["image"], STREETS, halo), windows))
    for window, found in zip(windows, together, strict=True):
        alone = several.run(window, ["image"], STREETS, halo)
        np.testing.assert_array_equal(found["image"], alone["image"])
        slowly = one.run(window, ["image"], STREETS, halo)["image"].astype(int)
        assert np.abs(found["image"] - slowly).max() <= 1
    assert len(several._compiled) == 2  # each has memory of its own for what is in the network
