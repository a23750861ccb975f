"""What IoU land cover has at each place if a class is made likelier or less likely.

    python shifts.py DATA SETS MODEL

DATA and SETS are as for ../2026-11-29_streets/places.py, whose places these are. The logit of one
class at a time is shifted; every second pixel of every second row counts, where its class is known.
The network runs on torch, float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sat2map.evaluation.masks import MaskProtocol, show
from sat2map.legend import COVER
from sat2map.model.folder import load_model
from sat2map.networks.lite import Lite
from sat2map.networks.value_range import from_image

sys.path.insert(0, str(Path(__file__).parents[1] / "2026-11-29_streets"))
from places import Ground, places

SHIFTS = (-0.8, -0.4, 0.0, 0.4, 0.8)
LEAST = 200
"""Pixels of a class that a place must have."""


def pixels(network: Lite, ground: Ground) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return logits float32 [P,5] of a place, and which classes each pixel may be, bool [P,5]."""
    protocol = MaskProtocol(COVER, ground.may_be, ground.metres, max(ground.metres, ground.finest))
    logits, may_be = [], []
    for photo, values in ground.images:
        source, true = show(photo, values, protocol)
        height, width = source.shape[:2]
        padded = np.pad(source, ((0, -height % 16), (0, -width % 16), (0, 0)), "reflect")
        with torch.inference_mode():
            answer = network.both_logits(from_image(padded))[1][0, :, :height, :width]
        logits.append(answer[:, ::2, ::2].flatten(1).T.numpy())
        may_be.append(ground.may_be[true[::2, ::2].ravel()])
    return np.concatenate(logits), np.concatenate(may_be)


def iou(found: NDArray[np.intp], may_be: NDArray[np.bool_], k: int) -> float:
    """Return the IoU of class k where masks tell of it; nan where the place has too little."""
    known = may_be.any(1) & ~may_be.all(1)
    is_k = (may_be.sum(1) == 1) & may_be[:, k]
    if is_k.sum() < LEAST:
        return float("nan")
    is_not = known & ~may_be[:, k]
    hit = found == k
    return float((hit & is_k).sum() / (is_k.sum() + (hit & is_not).sum()))


def main(data: str, sets: str, name: str) -> None:
    """Print a table for each class."""
    network = load_model(name).network.eval()
    assert isinstance(network, Lite)
    seen = {place: pixels(network, ground) for place, ground in places(Path(data), Path(sets))}
    for k, of_class in enumerate(COVER.names):
        print(f"\n| {of_class} |", " | ".join(f"{by:+.1f}" for by in SHIFTS), "|")
        print("|---|" + "---|" * len(SHIFTS))
        for place, (logits, may_be) in seen.items():
            row = [iou((logits + by * (np.arange(5) == k)).argmax(1), may_be, k) for by in SHIFTS]
            if not np.isnan(row).any():
                print(f"| {place} |", " | ".join(f"{value:.3f}" for value in row), "|")


main(*sys.argv[1:])
