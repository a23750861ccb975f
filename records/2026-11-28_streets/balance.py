"""Shift the classes' logits so that each is drawn as often as its IoU is best served.

python balance.py RUN/model MAPS TOWNS OUT

A weighted cross-entropy makes classes likely in proportion to their weights, not where their IoU
gains. The shifts are found on 64 training pairs of MAPS, at 256 pixels and as they are, and of
TOWNS as they are, by going up the mean IoU of the most probable class, one class at a time, as
long as the recall of all roads together stays on each. They are added to the bias of the last
convolution of the map's head: OUT is a model like any.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sat2map.data.pairs import find_pairs
from sat2map.evaluation.classes import agreement, iou
from sat2map.evaluation.score import read_compared
from sat2map.model.calibration_set import spread
from sat2map.model.familiar import read_familiar
from sat2map.model.folder import Model, load_model, save_model
from sat2map.networks.lite import Lite
from sat2map.networks.value_range import from_image

PAIRS = 64
LOST = 0.003
"""How much of the roads' recall may go."""


@dataclass(frozen=True)
class Sample:
    """Pixels of one scale: logits float32 [P,K] and true classes uint8 [P]."""

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]

    def score(
        self, shifts: NDArray[np.float32], roads: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], float]:
        """Return the IoU of each class, and which share of all roads is found as any road."""
        found = (self.logits + shifts).argmax(1).astype(np.uint8)
        true = roads[self.labels]
        recall = float((roads[found] & true).sum() / true.sum())
        return iou(agreement(found, self.labels, len(roads))), recall


def sample(model: Model, data: Path, size: int | None, every: int) -> Sample:
    """Return every so many-th pixel of training pairs that lie spread over all of them."""
    found = find_pairs(data, "train")
    legend, network = model.card.legend, model.network
    assert legend is not None and isinstance(network, Lite)
    logits, labels = [], []
    for i in spread(len(found), PAIRS):
        source, target, _ = read_compared(found[i], "forward", size)
        height, width = (side // 16 * 16 for side in source.shape[:2])
        with torch.inference_mode():
            answer = network.both_logits(from_image(source[:height, :width]))[0][0]
        logits.append(answer[:, ::every, ::every].flatten(1).T.numpy())
        labels.append(legend.label(target[:height, :width])[::every, ::every].ravel())
    return Sample(np.concatenate(logits), np.concatenate(labels))


def balance(samples: list[Sample], roads: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return what to add to the logits of each class, float32 [K], with mean 0."""
    shifts = np.zeros(len(roads), np.float32)
    least = [part.score(shifts, roads)[1] - LOST for part in samples]

    def worth(shifts: NDArray[np.float32]) -> float:
        scores = [part.score(shifts, roads) for part in samples]
        if any(recall < bound for (_, recall), bound in zip(scores, least, strict=True)):
            return 0.0
        return float(np.mean([np.nanmean(of_classes) for of_classes, _ in scores]))

    best = worth(shifts)
    for step in (0.8, 0.4, 0.2, 0.1):
        better = True
        while better:
            better = False
            for k in range(len(roads)):
                for move in (-step, step):
                    tried = shifts.copy()
                    tried[k] += move
                    if (value := worth(tried)) > best + 1e-5:
                        best, shifts, better = value, tried, True
    centred: NDArray[np.float32] = shifts - shifts.mean()
    return centred


def main(name: str, maps: str, towns: str, out: str) -> None:
    """Write OUT and print the shifts and what they do on the training pairs."""
    model = load_model(name)
    legend = model.card.legend
    assert legend is not None
    names = ("maps, 256 pixels", "maps, as they are", "towns, as they are")
    samples = [
        sample(model, Path(maps), 256, 2),
        sample(model, Path(maps), None, 4),
        sample(model, Path(towns), None, 4),
    ]
    shifts = balance(samples, legend.roads)
    print("added", *(f"{n} {by:+.2f}" for n, by in zip(legend.names, shifts, strict=True)))
    for which, part in zip(names, samples, strict=True):
        for when, added in (("before", np.zeros_like(shifts)), ("after", shifts)):
            of_classes, _ = part.score(added, legend.roads)
            print(which, when, of_classes.round(3), np.nanmean(of_classes).round(4))
    # Each class has a bias for every pixel of the sub-pixel shuffle.
    assert isinstance(model.network, Lite)
    bias = model.network.exit.bias
    assert bias is not None
    bias.data += torch.from_numpy(shifts).repeat_interleave(len(bias) // len(shifts))
    familiar = read_familiar(Path(name))
    save_model(Path(out), model.network, model.card, familiar=familiar)


if __name__ == "__main__":
    main(*sys.argv[1:])
