"""Label photos with a model where it is sure, once: masks for `sat2map data masks`.

    python label.py MODEL METRES SCALE,SCALE MASKS OUT PHOTO [PHOTO ...]

A photo of METRES a pixel is shown to the model at each SCALE (metres a pixel) and mirrored, and the
probabilities of land cover are averaged. Land and vegetation are labelled above .9, roads and
buildings above .7. Water is not: too much of what the model calls water away from home is dark
ground. Elsewhere a pixel may be of every class whose probability is at least .05; where that is
water alone, nothing is told. What the mask of the same name in MASKS tells goes first (`-` for no
masks). The values are those of OUT/mapping.json.
"""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from sat2map.legend import COVER
from sat2map.model.folder import load_model
from sat2map.networks.value_range import from_image

LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
SURE = (0.9, 0.7, 0.7, 0.9, 1.1)
POSSIBLE = 0.05
TOLD = {2: BUILDING, 3: ROAD, 4: VEGETATION}
TOLD_NOT = {254: BUILDING, 255: ROAD, 253: VEGETATION}
"""What the values of given masks tell: what a pixel is, and what it is not."""


def mapping() -> dict[str, object]:
    """Return what each value of a mask tells: a bit for each class that the pixel may be of."""
    told: dict[str, object] = {"0": "unknown", "16": "unknown", "31": "unknown"}
    for count in range(1, 5):
        for classes in combinations(range(5), count):
            names = [COVER.names[k] for k in classes]
            told.setdefault(str(sum(1 << k for k in classes)), names[0] if count == 1 else names)
    return told


def main(model: str, metres: str, scales: str, masks: str, out: str, *photos: str) -> None:
    """Write OUT/NAME.png for each photo and OUT/mapping.json, and print the share of each label."""
    network, counts = load_model(model).network.eval(), np.zeros(32)
    sizes_m = [float(scale) for scale in scales.split(",")]
    for name in photos:
        photo = np.asarray(Image.open(name).convert("RGB"))
        height, width = photo.shape[:2]
        total = torch.zeros(1, 5, height, width)
        for scale in sizes_m:
            size = (round(width * float(metres) / scale), round(height * float(metres) / scale))
            shown = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
            rest = [(0, -side % 16) for side in shown.shape[:2]]
            shown = np.pad(shown, [*rest, (0, 0)], "reflect")
            for turned in (shown, shown[:, ::-1]):
                with torch.inference_mode():
                    answer = network.both_logits(from_image(np.ascontiguousarray(turned)))[
                        1
                    ].softmax(1)
                answer = answer.flip(3) if turned is not shown else answer
                answer = answer[:, :, : size[1], : size[0]]
                total += F.interpolate(answer, (height, width), mode="bilinear", antialias=True)
        probability = total[0].numpy() / (2 * len(sizes_m))
        may_be = probability >= POSSIBLE
        best = probability.argmax(0)
        sure = probability.max(0) > np.array(SURE)[best]
        may_be[:, sure] = False
        may_be[best[sure], sure] = True
        if masks != "-":
            told = np.asarray(Image.open(Path(masks) / f"{Path(name).stem}.png"))
            for value, k in TOLD.items():
                may_be[:, told == value] = False
                may_be[k, told == value] = True
            for value, k in TOLD_NOT.items():
                may_be[k, told == value] = False
        labels = (may_be << np.arange(5)[:, None, None]).sum(0).astype(np.uint8)
        counts += np.bincount(labels.ravel(), minlength=32)
        Image.fromarray(labels).save(Path(out) / f"{Path(name).stem}.png")
    (Path(out) / "mapping.json").write_text(json.dumps(mapping(), indent=1) + "\n")
    print({int(i): round(float(counts[i] / counts.sum()), 3) for i in counts.nonzero()[0]})


main(*sys.argv[1:])
