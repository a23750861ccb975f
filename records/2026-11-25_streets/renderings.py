"""Which picture to make of the probabilities of classes: a table of candidates.

python renderings.py MODEL DATA [PICTURES]

MODEL is a model folder with a legend head, DATA a data set; PICTURES of its validation pairs,
evenly spread, are predicted once at 256 pixels and once as they are, and each way of painting
is scored on all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sat2map.networks.values import from_picture

from sat2map.data.pairs import find_pairs
from sat2map.evaluation.score import read_compared, score_picture, summarise
from sat2map.legend import Legend
from sat2map.model import load_model
from sat2map.training.validation import spread

SHOWN = ("road_cldice", "mean_iou", "edge_density", "edge_f1", "psnr", "ssim", "acc_10")


def candidates(legend: Legend) -> dict[str, Callable[[NDArray[np.float32]], NDArray[np.uint8]]]:
    """Return the ways of painting logits, float32 [H,W,K]."""

    def mixed(sharpness: float) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
        def paint(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
            return np.rint(softmax(logits * sharpness) @ legend.colours).astype(np.uint8)

        return paint

    def roads_from(least: float) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
        def paint(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
            shares = softmax(logits)
            road = shares[..., legend.roads].sum(2) > least
            allowed = np.where(road[..., None], legend.roads, ~legend.roads)
            return legend.paint((shares * allowed).argmax(2))

        return paint

    return {
        "argmax": lambda logits: legend.paint(logits.argmax(2)),
        **{f"roads from {least}": roads_from(least) for least in (0.3, 0.4, 0.5, 0.6)},
        **{f"softmax x {sharpness}": mixed(sharpness) for sharpness in (1, 2, 4)},
    }


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)


def main(model: str, data: str, pictures: str = "48") -> None:
    """Print the table, and all figures as JSON behind it."""
    loaded = load_model(model)
    legend, network = loaded.card.legend, loaded.network
    assert legend is not None
    everything = {}
    for size in (256, None):
        scores: dict[str, list[object]] = {}
        for pair in spread(find_pairs(Path(data), "val"), int(pictures)):
            source, target, native = read_compared(pair, "forward", size)
            height, width = (side // 16 * 16 for side in source.shape[:2])
            source, target = source[:height, :width], target[:height, :width]
            native = target if size is None else native
            with torch.inference_mode():
                logits = network.logits(from_picture(source))[0].permute(1, 2, 0).numpy()
            for name, paint in candidates(legend).items():
                score = score_picture(pair.stem, paint(logits), target, native, legend)
                scores.setdefault(name, []).append(score)
        place = "native" if size is None else str(size)
        print(f"{place:16}" + "".join(f"{metric:>14}" for metric in SHOWN))
        for name, found in scores.items():
            metrics = summarise(found, legend).metrics  # type: ignore[arg-type]
            print(f"{name:16}" + "".join(f"{metrics[m].mean:14.3f}" for m in SHOWN), flush=True)
            everything[f"{place}, {name}"] = {m: metrics[m].mean for m in metrics}
    Path("renderings.json").write_text(json.dumps(everything, indent=1) + "\n")


main(*sys.argv[1:])
