"""Draws docs/images/ablation-*.webp: the paper's ablations side by side, learned from towns.

    python docs/learned_pictures.py [FOLDER]

Each of the six trainings takes a minute or two on two cores. What is finished is kept in FOLDER, so
that the command goes on where it was broken off.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import sat2map
from sat2map.towns.write import write_pairs

IMAGES = Path(__file__).parent / "images"

SIDE = 128
PAIRS = 240
STEPS = 1500

SMALL = [
    f"data.size={SIDE}",
    "data.resize=none",
    "generator.base_channels=16",
    "discriminator.base_channels=16",
    "optimiser.learning_rate=3e-4",
    f"training.max_steps={STEPS}",
    "training.grid_epochs=1000",
    "validation.epochs=1000",
    "statistics.pictures=100",
]
"""What makes each recipe fit a laptop: a quarter of the channels, 128 pixels, few steps."""

VARIANTS = ("pix2pix", "l1", "cgan", "encoder_decoder", "patch16", "pixelgan")
"""The recipes that are trained."""

PICTURES = {
    "losses": {"l1": "L1", "cgan": "cGAN", "pix2pix": "L1 + cGAN"},
    "generators": {"encoder_decoder": "encoder-decoder", "pix2pix": "U-Net"},
    "discriminators": {
        "l1": "none (L1)",
        "pixelgan": "1 pixel",
        "patch16": "16 pixels",
        "pix2pix": "70 pixels",
    },
}
"""What each picture shows from left to right, between the photo and the true map."""

TOWNS = ("0002", "0014", "0040")
"""The validation towns that are shown of the ablations."""

HALVES = ("source", "target")
HEAD, GAP = 18, 4


def main(folder: Path) -> None:
    """Train every variant on the same towns, and lay their maps side by side."""
    data = folder / "towns"
    if not (data / "dataset.json").is_file():
        write_pairs(data, PAIRS, size=SIDE, seed=1)
    for name in VARIANTS:
        trained(name, data, folder)
    for picture, columns in PICTURES.items():
        models = {label: sat2map.load(folder / name / "model") for name, label in columns.items()}
        rows = []
        for town in TOWNS:
            photo, true = (pixels(data / "val" / part / f"{town}.png") for part in HALVES)
            rows.append([photo, *(model.translate(photo) for model in models.values()), true])
        save(side_by_side(rows, ["photo", *models, "true map"]), f"ablation-{picture}")


def save(sheet: Image.Image, name: str) -> None:
    """Write a picture of the pages."""
    sheet.save(IMAGES / f"{name}.webp", quality=82, method=6)


def trained(recipe: str, data: Path, folder: Path) -> Path:
    """Train a small model of a recipe, or go on with it; return its folder."""
    return sat2map.train(sat2map.load_recipe(recipe, SMALL), data, folder / recipe, resume=True)


def pixels(path: Path) -> NDArray[np.uint8]:
    """Return an image, uint8 [H,W,3]."""
    return np.asarray(Image.open(path).convert("RGB"))


def side_by_side(rows: Sequence[Sequence[NDArray[np.uint8]]], heads: Sequence[str]) -> Image.Image:
    """Return a sheet of images of one size, uint8 [H,W,3] each, with a head over each column."""
    height, width = rows[0][0].shape[:2]
    sheet = Image.new(
        "RGB",
        (len(heads) * (width + GAP) - GAP, HEAD + len(rows) * (height + GAP) - GAP),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, head in enumerate(heads):
        left = column * (width + GAP)
        draw.text((left + width / 2, HEAD / 2), head, "black", font, anchor="mm")
        for row, images in enumerate(rows):
            sheet.paste(Image.fromarray(images[column]), (left, HEAD + row * (height + GAP)))
    return sheet


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
