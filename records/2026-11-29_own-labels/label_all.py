"""Label photos with a model where it is sure, once: masks for `sat2map data masks`.

    python label_all.py MODEL METRES SCALE,SCALE MASKS OUT PHOTO [PHOTO ...]

A photo of METRES a pixel is shown to the model at each SCALE (metres a pixel) and mirrored, and the
probabilities of land cover are averaged. Land and vegetation are labelled above .9, roads and
buildings above .7. Water is not: too much of what the model calls water away from home is dark
ground. Elsewhere a pixel may be of every class whose probability is at least .05; where that is
water alone, nothing is told. What the mask of the same name in MASKS tells goes first (`-` for no
masks). The values are those of OUT/mapping.json.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sat2map.model.folder import load_model

sys.path.insert(0, str(Path(__file__).parents[1] / "2026-11-29_self-training"))
from label import BUILDING, ROAD, VEGETATION, mapping, possible, probabilities, write_labels

TOLD = {2: BUILDING, 3: ROAD, 4: VEGETATION}
TOLD_NOT = {254: BUILDING, 255: ROAD, 253: VEGETATION}
"""What the values of given masks tell: what a pixel is, and what it is not."""

WATER_ALONE = "16"


def main(model: str, metres: str, scales: str, masks: str, out: str, *photos: str) -> None:
    """Label the photos."""
    network = load_model(model).network.eval()
    scales_m = [float(scale) for scale in scales.split(",")]

    def labelled() -> Iterator[tuple[str, NDArray[np.bool_]]]:
        for path in map(Path, photos):
            photo = np.asarray(Image.open(path).convert("RGB"))
            found = probabilities([network], photo, float(metres), scales_m, mirrored=True)
            may_be = possible(found)
            if masks != "-":
                told = np.asarray(Image.open(Path(masks) / f"{path.stem}.png"))
                for value, k in TOLD.items():
                    may_be[:, told == value] = False
                    may_be[k, told == value] = True
                for value, k in TOLD_NOT.items():
                    may_be[k, told == value] = False
            yield path.stem, may_be

    write_labels(labelled(), mapping() | {WATER_ALONE: "unknown"}, Path(out))


main(*sys.argv[1:])
