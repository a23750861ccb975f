from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from openvino import opset13 as op

from sat2map.export.rounding import round_for_inputs, rounded_weights

Array = NDArray[np.float64]


@pytest.mark.parametrize("largest", [64, 127])
def test_weights_err_less_on_what_they_see(largest: int) -> None:
    """Neighbours that are nearly equal, as in an image."""
    random = np.random.default_rng(0)
    seen = random.normal(size=(2000, 1)) * 3 + 5 + random.normal(size=(2000, 25)) * 0.2
    weights = random.normal(size=(16, 25))
    steps = np.abs(weights).max(1, keepdims=True) / largest
    found = rounded_weights(weights, steps, seen.T @ seen / len(seen), largest)
    assert np.array_equal(found, np.round(found))
    assert np.abs(found).max() <= largest
    nearest = np.round(weights / steps)

    def error(numbers: Array) -> float:
        return float(np.square(seen @ (numbers * steps - weights).T).mean())

    assert error(found) < error(nearest) / 10


def test_of_what_is_never_seen_they_are_the_nearest() -> None:
    weights = np.random.default_rng(1).normal(size=(4, 9))
    steps = np.full((4, 1), 0.1)
    found = rounded_weights(weights, steps, np.zeros((9, 9)), 127)
    assert np.array_equal(found, np.round(weights / steps))


def graphs(weights: NDArray[np.float32], low: float, high: float) -> tuple[Any, Any]:
    """Return one convolution of clamped values in float32, and as NNCF quantises it."""
    made = []
    for int8 in (False, True):
        source = op.parameter([1, 3, -1, -1], np.float32, name="source")
        scaled = op.add(op.multiply(source, np.float32(127.5 / 128)), np.float32(0.5 / 128))
        used: Any = scaled
        kernel: Any = op.constant(weights)
        if int8:
            used = _quantiser(scaled, -0.7, 0.6)
            step = np.abs(weights).max((1, 2, 3), keepdims=True) / 63.5
            numbers = op.constant(np.round(weights / step).clip(-64, 64).astype(np.int8))
            kernel = op.multiply(op.convert(numbers, "f32"), op.constant(step))
        told = op.convolution(used, kernel, [1, 1], [1, 1], [1, 1], [1, 1], name="convolution")
        biased = op.add(told, op.constant(np.ones((1, len(weights), 1, 1), np.float32)))
        clamped: Any = op.clamp(biased, low, high)
        if int8:
            clamped = _quantiser(clamped, 0.0, high / 3)
        made.append(openvino.Model([op.result(clamped)], [source]))
    return made[0], made[1]


def _quantiser(values: Any, low: float, high: float) -> Any:
    bounds = [op.constant(np.full((1, 1, 1, 1), x, np.float32)) for x in (low, high)]
    return op.fake_quantize(values, *bounds, *bounds, 256)


def windows(count: int) -> Iterator[NDArray[np.float32]]:
    """Yield smooth windows, brighter than most."""
    random = np.random.default_rng(2)
    for _ in range(count):
        yield (
            random.uniform(-0.2, 1, (1, 3, 1, 1)) + random.normal(size=(1, 3, 16, 16)) / 50
        ).astype(np.float32)


def ranges(graph: Any) -> list[list[float]]:
    """Return the bounds of each quantiser."""
    return [
        [node.input_value(i).get_node().get_data().item() for i in (1, 2, 3, 4)]
        for node in graph.get_ordered_ops()
        if node.get_type_name() == "FakeQuantize"
    ]


def answer(graph: Any, window: NDArray[np.float32]) -> NDArray[np.float32]:
    how = {"INFERENCE_PRECISION_HINT": "f32"}
    found: NDArray[np.float32] = openvino.Core().compile_model(graph, "CPU", how)(window)[0]
    return found


def test_a_graph_answers_more_as_in_float32_and_bytes_stay_what_they_are() -> None:
    weights = np.random.default_rng(3).normal(size=(8, 3, 3, 3)).astype(np.float32)
    plain, quantised = graphs(weights, 0.0, 6.0)
    sources = [np.clip(window, -1, 1) for window in windows(8)]
    before = [np.abs(answer(quantised, s) - answer(plain, s)).mean() for s in sources]
    round_for_inputs(quantised, plain, windows(30))
    after = [np.abs(answer(quantised, s) - answer(plain, s)).mean() for s in sources]
    assert np.mean(after) < np.mean(before) / 4
    (source, clamped) = ranges(quantised)
    assert source == pytest.approx([-127 / 128, 1, -127 / 128, 1])
    assert clamped == [0, 6, 0, 6]


def test_what_is_not_known_stays_as_it_was() -> None:
    """Zero, with which convolutions pad, would be none of the numbers."""
    weights = np.random.default_rng(3).normal(size=(8, 3, 3, 3)).astype(np.float32)
    plain, quantised = graphs(weights, 0.5, 6.0)
    round_for_inputs(quantised, plain, windows(2))
    assert ranges(quantised)[1] == [0, 2, 0, 2]
