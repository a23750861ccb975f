"""The split as an image: which ground trains, which validates, and what lies between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sat2map.chips.cut import Cutter, Outcome, Plan
from sat2map.chips.ground import Region
from sat2map.chips.split import Split

SIDE = 1400
"""Longest side of a region in the image, in pixels."""

TRAINING = (38, 110, 210)
VALIDATION = (235, 120, 20)
PAPER = (255, 255, 255)
INK = (40, 40, 40)
DIMMED = 0.45
"""How much of the paper shines through the imagery."""

MARGIN = 16


def draw_split(
    plan: Plan, splits: Sequence[tuple[Region, Split]], kept: Sequence[Outcome]
) -> NDArray[np.uint8]:
    """Return the image of a split, the regions of the imagery below each other.

    Args:
        plan: How the chips were cut.
        splits: The regions, each with its split.
        kept: The chips that were written.

    Returns:
        uint8 [H,W,3].

    Raises:
        DataError: The imagery is damaged.
    """
    with Cutter(plan) as cutter:
        panels = [_panel(cutter, plan, region, split, kept) for region, split in splits]
    legend = _legend(kept)
    width = max(image.width for image in [*panels, legend]) + 2 * MARGIN
    height = sum(image.height + MARGIN for image in [*panels, legend]) + MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    top = MARGIN
    for image in [legend, *panels]:
        page.paste(image, (MARGIN, top))
        top += image.height + MARGIN
    return np.array(page)


def _panel(
    cutter: Cutter, plan: Plan, region: Region, split: Split, kept: Sequence[Outcome]
) -> Image.Image:
    west, north, east, south = region.ground.bounds  # rows count downwards
    scale = min(SIDE / (east - west), SIDE / (south - north), 1.0)
    size = (max(round((east - west) * scale), 1), max(round((south - north) * scale), 1))
    panel = Image.new("RGB", size, PAPER)
    numbers = {id(sheet): number for number, sheet in enumerate(plan.sheets)}

    def placed(area: shapely.Geometry) -> list[tuple[float, float]]:
        points = shapely.get_coordinates(shapely.get_exterior_ring(area))
        return [tuple(point) for point in (points - (west, north)) * scale]

    for sheet in region.sheets:
        box = np.array(placed(region.outline(sheet)))
        left, top = box.min(0).round().astype(int).tolist()
        right, bottom = box.max(0).round().astype(int).tolist()
        shown = cutter.thumbnail(numbers[id(sheet)], max(bottom - top, 1), max(right - left, 1))
        panel.paste(shown, (left, top), shown.getchannel("A"))
    panel = Image.blend(panel, Image.new("RGB", size, PAPER), DIMMED)
    pen = ImageDraw.Draw(panel, "RGBA")
    for outcome in kept:
        sheet = plan.sheets[outcome.chip.sheet]
        if sheet not in region.sheets:
            continue
        colour = TRAINING if outcome.chip.split == "train" else VALIDATION
        outline = placed(region.footprint(sheet, outcome.chip.place))
        pen.polygon(outline, fill=(*colour, 70), outline=(*colour, 220))
    for block in split.blocks:
        for part in shapely.get_parts(block.intersection(region.ground)):
            if part.geom_type == "Polygon":
                pen.line(placed(part), fill=(*VALIDATION, 255), width=3)
    return panel


def _legend(kept: Sequence[Outcome]) -> Image.Image:
    counts = {split: sum(o.chip.split == split for o in kept) for split in ("train", "val")}
    entries = [
        (TRAINING, True, f"training: {counts['train']} chips"),
        (VALIDATION, True, f"validation: {counts['val']} chips"),
        (VALIDATION, False, "blocks kept from training"),
    ]
    font = ImageFont.load_default(15)
    image = Image.new("RGB", (660, 24), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
    left = 0
    for colour, filled, words in entries:
        fill = (*colour, 70) if filled else None
        pen.rectangle((left, 3, left + 18, 21), fill=fill, outline=(*colour, 255), width=2)
        pen.text((left + 26, 3), words, fill=INK, font=font)
        left += 26 + round(pen.textlength(words, font=font)) + 24
    return image
