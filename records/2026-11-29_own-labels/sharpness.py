"""What images are worth if colours are mixed more or less sharply than by `SHARPNESS`.

    python sharpness.py MAPS MODEL [EVERY]

Every so many-th (14th) held-out pair of MAPS, at 256 pixels and as it is; torch, float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from sat2map.data.pairs import find_pairs
from sat2map.evaluation.score import ImageScore, read_compared, score_image, summarise
from sat2map.model.folder import load_model
from sat2map.networks.lite import Lite
from sat2map.networks.value_range import from_image

POWERS = (1, 2, 3, 4, 8, 50)
SHOWN = ("road_cldice", "mean_iou", "psnr", "ssim", "edge_density")


def main(maps: str, name: str, every: str = "14") -> None:
    """Print a table for each size."""
    model = load_model(name)
    network, legend = model.network.eval(), model.card.legend
    assert isinstance(network, Lite) and legend is not None
    colours = torch.tensor(legend.colours.astype(np.float32))
    for size in (256, None):
        scores: dict[int, list[ImageScore]] = {power: [] for power in POWERS}
        for pair in find_pairs(Path(maps), "val")[:: int(every)]:
            source, target, native = read_compared(pair, "forward", size)
            height, width = source.shape[:2]
            padded = np.pad(source, ((0, -height % 16), (0, -width % 16), (0, 0)), "reflect")
            with torch.inference_mode():
                logits = network.logits(from_image(padded))[0, :, :height, :width]
            for power in POWERS:
                mixed = (power * logits).softmax(0).permute(1, 2, 0) @ colours
                image = mixed.round().to(torch.uint8).numpy()
                scores[power].append(score_image(pair.stem, image, target, native, legend))
        print(f"\n| {size or 'as they are'} |", " | ".join(SHOWN), "|\n|---|" + "---|" * len(SHOWN))
        for power, of_images in scores.items():
            metrics = summarise(of_images, legend).metrics
            print(f"| {power} |", " | ".join(f"{metrics[m].mean:.3f}" for m in SHOWN), "|")


main(*sys.argv[1:])
