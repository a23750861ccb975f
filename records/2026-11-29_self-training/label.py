"""Label photos with models where they are sure, once: masks for `sat2map data masks`.

    python label.py MODEL[,MODEL] METRES MASKS OUT PHOTO [PHOTO ...]

A photo of METRES a pixel is shown to each model at several scales, and the probabilities of land
cover are averaged. Land and vegetation are labelled above .9, roads and buildings above .7. Water
is not: too much of what these models call water away from home is dark ground. Elsewhere a pixel
may be of every class whose probability is at least .05. What the mask of the same name in MASKS
tells goes first (`-` for no masks). The values are those of OUT/mapping.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from sat2map.legend import COVER
from sat2map.model.folder import load_model
from sat2map.networks.lite import Lite
from sat2map.networks.value_range import from_image

SCALES_M = (0.7, 1.1)
LAND, BUILDING, ROAD, VEGETATION, WATER = range(5)
SURE = (0.9, 0.7, 0.7, 0.9, 1.1)
POSSIBLE = 0.05
TOLD_VEGETATION, TOLD_NOT_VEGETATION = 4, 253


def mapping() -> dict[str, object]:
    """Return what each value of a mask tells: a bit for each class that the pixel may be of."""
    told: dict[str, object] = {"0": "unknown", "31": "unknown"}
    for count in range(1, 5):
        for classes in combinations(range(5), count):
            names = [COVER.names[k] for k in classes]
            told[str(sum(1 << k for k in classes))] = names[0] if count == 1 else names
    return told


def probabilities(
    networks: list[Lite],
    photo: NDArray[np.uint8],
    metres: float,
    scales_m: Sequence[float],
    *,
    mirrored: bool = False,
) -> NDArray[np.float32]:
    """Return the mean of what networks tell of a photo at several scales, float32 [5,H,W]."""
    height, width = photo.shape[:2]
    total = torch.zeros(1, 5, height, width)
    for scale in scales_m:
        size = (round(width * metres / scale), round(height * metres / scale))
        shown = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
        rest = [(0, -side % 16) for side in shown.shape[:2]]
        source = from_image(np.pad(shown, [*rest, (0, 0)], "reflect"))
        for network in networks:
            with torch.inference_mode():
                answers = [network.both_logits(source)[1].softmax(1)]
                if mirrored:
                    answers.append(network.both_logits(source.flip(3))[1].softmax(1).flip(3))
            for answer in answers:
                answer = answer[:, :, : size[1], : size[0]]
                total += F.interpolate(answer, (height, width), mode="bilinear", antialias=True)
    return total[0].numpy() / (len(scales_m) * len(networks) * (2 if mirrored else 1))


def possible(probability: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which classes each pixel may be of, bool [5,H,W]: one where that is sure."""
    may_be = probability >= POSSIBLE
    best = probability.argmax(0)
    sure = probability.max(0) > np.array(SURE)[best]
    may_be[:, sure] = False
    may_be[best[sure], sure] = True
    return may_be


def write_labels(
    labelled: Iterable[tuple[str, NDArray[np.bool_]]], told: dict[str, object], out: Path
) -> None:
    """Write OUT/NAME.png for each photo and OUT/mapping.json, and print the share of each label."""
    counts = np.zeros(32)
    for name, may_be in labelled:
        labels = (may_be << np.arange(5)[:, None, None]).sum(0).astype(np.uint8)
        counts += np.bincount(labels.ravel(), minlength=32)
        Image.fromarray(labels).save(out / f"{name}.png")
    (out / "mapping.json").write_text(json.dumps(told, indent=1) + "\n")
    print({int(i): round(float(counts[i] / counts.sum()), 3) for i in counts.nonzero()[0]})


def main(models: str, metres: str, masks: str, out: str, *photos: str) -> None:
    """Label the photos."""
    networks = [load_model(name).network.eval() for name in models.split(",")]

    def labelled() -> Iterator[tuple[str, NDArray[np.bool_]]]:
        for path in map(Path, photos):
            photo = np.asarray(Image.open(path).convert("RGB"))
            may_be = possible(probabilities(networks, photo, float(metres), SCALES_M))
            if masks != "-":
                told = np.asarray(Image.open(Path(masks) / f"{path.stem}.png"))
                may_be[:, told == TOLD_VEGETATION] = False
                may_be[VEGETATION, told == TOLD_VEGETATION] = True
                may_be[VEGETATION, told == TOLD_NOT_VEGETATION] = False
            yield path.stem, may_be

    write_labels(labelled(), mapping(), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
