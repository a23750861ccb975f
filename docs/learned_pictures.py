"""Draws what small models learn of towns: docs/images/ablation-*.webp and other-pairs.webp.

    python docs/learned_pictures.py [FOLDER]

The paper's ablations side by side, grey photos that are coloured, and maps that become photos. Each
training takes a minute or two on two cores. What is finished is kept in FOLDER, so that the command
goes on where it was broken off.
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

WITHOUT_DISCRIMINATOR = ["objective.adversarial_weight=0"]
"""What makes any recipe learn by L1 alone."""

PICTURES = {
    "losses": {
        "l1": "L1",
        "gan": "GAN",
        "cgan": "cGAN",
        "l1_gan": "L1 + GAN",
        "pix2pix": "L1 + cGAN",
    },
    "generators": {
        "encoder_decoder_l1": "encoder-decoder\nL1",
        "encoder_decoder": "encoder-decoder\nL1 + cGAN",
        "l1": "U-Net\nL1",
        "pix2pix": "U-Net\nL1 + cGAN",
    },
    "discriminators": {
        "l1": "none (L1)",
        "pixelgan": "1 pixel",
        "patch16": "16 pixels",
        "pix2pix": "70 pixels",
        "imagegan": "286 pixels",
    },
}
"""What each picture shows from left to right, between the photo and the true map."""

TOWNS = ("0002", "0014", "0040")
"""The validation towns that are shown of the ablations."""

OTHER_TOWNS = ("0001", "0002", "0003")
"""Those that are shown coloured, and made of maps."""

HALVES = ("source", "target")
HEAD, GAP = 18, 4


def main(folder: Path) -> None:
    """Make all pictures, with towns and models in a folder."""
    draw_ablations(folder)
    draw_other_pairs(folder)


def draw_ablations(folder: Path) -> None:
    """Train every variant on the same towns, and lay their maps side by side."""
    data = folder / "towns"
    if not (data / "dataset.json").is_file():
        write_pairs(data, PAIRS, size=SIDE, seed=1)
    for picture, columns in PICTURES.items():
        models = {
            label: sat2map.load(trained(name, data, folder)) for name, label in columns.items()
        }
        rows = []
        for town in TOWNS:
            photo, true = (pixels(data / "val" / part / f"{town}.png") for part in HALVES)
            rows.append([photo, *(model.translate(photo) for model in models.values()), true])
        save(side_by_side(rows, ["photo", *models, "true map"]), f"ablation-{picture}")


def draw_other_pairs(folder: Path) -> None:
    """Learn from grey to colour and from map to photo, as the how-to does, and show both."""
    halves = []
    for task, settings, heads in (
        ("colourise", [], ("grey", "coloured", "true colours")),
        ("map", ["data.direction=reverse"], ("map", "made of it", "true photo")),
    ):
        data = folder / f"pairs-{task}"
        if not (data / "dataset.json").is_file():
            write_pairs(data, 60, size=SIDE, task=task)
        recipe = sat2map.load_recipe("demo", settings)
        model = sat2map.load(sat2map.train(recipe, data, folder / f"run-{task}", resume=True))
        rows = []
        for town in OTHER_TOWNS:
            source, target = (pixels(data / "val" / part / f"{town}.png") for part in HALVES)
            if settings:
                source, target = target, source
            shown = source[..., :1] if task == "colourise" else source
            rows.append([source, model.translate(shown), target])
        halves.append((rows, heads))
    both = [[*left, *right] for left, right in zip(*(rows for rows, _ in halves), strict=True)]
    save(side_by_side(both, [head for _, heads in halves for head in heads]), "other-pairs")


def save(sheet: Image.Image, name: str) -> None:
    """Write a picture of the pages."""
    sheet.save(IMAGES / f"{name}.webp", quality=82, method=6)


def trained(name: str, data: Path, folder: Path) -> Path:
    """Train a small model of a recipe, `_l1` by L1 alone, or go on with it; return its folder."""
    recipe = name.removesuffix("_l1")
    settings = SMALL if recipe == name else [*SMALL, *WITHOUT_DISCRIMINATOR]
    return sat2map.train(sat2map.load_recipe(recipe, settings), data, folder / name, resume=True)


def pixels(path: Path) -> NDArray[np.uint8]:
    """Return an image, uint8 [H,W,3]."""
    return np.asarray(Image.open(path).convert("RGB"))


def side_by_side(rows: Sequence[Sequence[NDArray[np.uint8]]], heads: Sequence[str]) -> Image.Image:
    """Return a sheet of images of one size, uint8 [H,W,3] each, with a head over each column."""
    height, width = rows[0][0].shape[:2]
    top = HEAD * max(1 + head.count("\n") for head in heads)
    sheet = Image.new(
        "RGB",
        (len(heads) * (width + GAP) - GAP, top + len(rows) * (height + GAP) - GAP),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, head in enumerate(heads):
        left = column * (width + GAP)
        draw.text((left + width / 2, top / 2), head, "black", font, anchor="mm", align="center")
        for row, images in enumerate(rows):
            sheet.paste(Image.fromarray(images[column]), (left, top + row * (height + GAP)))
    return sheet


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
