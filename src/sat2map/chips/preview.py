"""Looking at chips: a contact sheet, a page, and how far the vectors lie beside the imagery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sat2map.atomic import write_text
from sat2map.chips.chips import Chips
from sat2map.chips.cut import Outcome
from sat2map.chips.offset import Offset, estimate_offset
from sat2map.chips.record import WRITER, image_of
from sat2map.data.images import write_image
from sat2map.data.pairs import PairFile, read_pair
from sat2map.geo.grid import pixel_steps
from sat2map.journal import claim

SHOWN = 24
"""Chips on the page."""

WINDOWS = 150
"""Chips that the offset is estimated from, at most."""

REACH_M = 25.0
"""Metres of offset that are looked for, in each direction."""

OUTLINE = (230, 0, 126)
"""The colour of what is drawn over imagery: none that imagery or maps have much of."""

STEP = 6
"""Levels of 8 bits from which on a change of colour is an outline."""

THUMBNAIL = 224
GAP = 6


@dataclass(frozen=True)
class SheetOffset:
    """How far the vectors lie beside one file of imagery.

    Attributes:
        source: The imagery.
        east_m: How far east of it the vectors lie, metres.
        north_m: How far north.
        offset: The estimate in pixels, with its confidence.
        spread_m: Its median error by resampling, metres.
        shift_m: The `shift_m` that would correct it, with the shift that there is already.
    """

    source: str
    east_m: float
    north_m: float
    offset: Offset
    spread_m: float
    shift_m: tuple[float, float]

    def describe(self) -> str:
        """Return one line for people."""
        told = (
            f"{self.source}: the vectors lie {abs(self.east_m):.1f} m "
            f"{'east' if self.east_m >= 0 else 'west'} and {abs(self.north_m):.1f} m "
            f"{'north' if self.north_m >= 0 else 'south'} of the imagery (give or take "
            f"{self.spread_m:.1f} m; confidence {self.offset.confidence:.0%}, "
            f"{self.offset.windows} chips)"
        )
        if not self.offset.sure:
            return f"{told}; too unsure to act on: look at the overlay"
        if np.hypot(self.east_m, self.north_m) <= max(2 * self.spread_m, 2 * self.pixel_m):
            return f"{told}; that is as good as nothing"
        return f"{told}; `shift_m={self.shift_m[0]:g},{self.shift_m[1]:g}` corrects it"

    @property
    def pixel_m(self) -> float:
        """Metres per pixel, as far as the estimate tells."""
        pixels = np.hypot(self.offset.columns, self.offset.rows)
        return float(np.hypot(self.east_m, self.north_m) / pixels) if pixels > 0 else 0.0


def estimate_offsets(chips: Chips) -> list[SheetOffset]:
    """Estimate for each file of imagery how far the vectors lie beside it.

    Files with fewer than two chips, or without edges, are left out.
    """
    found: list[SheetOffset] = []
    for number, sheet in enumerate(chips.plan.sheets):
        own = [outcome for outcome in chips.kept if outcome.chip.sheet == number]
        if len(own) < 2:
            continue
        steps = pixel_steps(sheet.grid)
        pixel_m = float(np.sqrt(np.abs(np.linalg.det(steps))))
        reach = max(min(round(REACH_M / pixel_m), chips.plan.size // 4), 1)
        offset = estimate_offset(_pairs(chips, _some(own, WINDOWS)), reach)
        if offset is None:
            continue
        east, north = (np.array([offset.columns, offset.rows]) @ steps).tolist()
        shift = chips.plan.shift_m
        corrected = (round(shift[0] - east, 1) + 0.0, round(shift[1] - north, 1) + 0.0)  # no -0
        spread = offset.spread * pixel_m
        found.append(SheetOffset(sheet.shown, east, north, offset, spread, corrected))
    return found


def write_preview(chips: Chips, told: Sequence[str]) -> Path:
    """Write `preview/contact.png` and `preview/index.html` into the data set's folder.

    Args:
        chips: What was cut.
        told: Lines about it for the page, such as where the vectors lie.

    Returns:
        The page.

    Raises:
        OutputError: The place is not writable or the disk is full.
    """
    folder = chips.directory / "preview"
    shown = _some(chips.kept, SHOWN)
    outlines = [f"preview/outlines/{outcome.chip.name}.png" for outcome in shown]
    with claim(chips.directory, WRITER, {}) as journal:
        journal.begin("preview/index.html", "preview/contact.png", *outlines)
        write_image(folder / "contact.png", _contact_sheet(chips, shown))
        pairs = zip(outlines, _pairs(chips, shown), strict=True)
        for name, (_, drawn) in pairs:
            colour = np.broadcast_to(np.array(OUTLINE, np.uint8), drawn.shape)
            opaque = _outlines(drawn).astype(np.uint8) * np.uint8(255)
            write_image(chips.directory / name, colour, opaque)
        write_text(folder / "index.html", _page(chips, told, shown))
    return folder / "index.html"


def _page(chips: Chips, told: Sequence[str], shown: Sequence[Outcome]) -> str:
    from jinja2 import Environment, StrictUndefined

    template = files("sat2map.chips").joinpath("preview.html.jinja")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page: str = environment.from_string(template.read_text(encoding="utf-8")).render(
        name=chips.directory.absolute().name,
        size=chips.plan.size,
        resolution_m=chips.plan.painters[0].resolution_m,
        style=chips.style.name,
        counts=chips.counts(),
        told=told,
        legend=chips.style.legend.classes,
        chips=[
            {
                "name": outcome.chip.name,
                "split": outcome.chip.split,
                "image": f"../{outcome.chip.split}/{outcome.chip.name}.png",
                "outlines": f"outlines/{outcome.chip.name}.png",
                "mapped": f"{outcome.mapped:.0%}",
            }
            for outcome in shown
        ],
    )
    return page


def _some(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    """Return so many of them, evenly from all."""
    places = np.linspace(0, len(outcomes) - 1, min(count, len(outcomes))).round().astype(int)
    return [outcomes[place] for place in dict.fromkeys(places.tolist())]


def _pairs(
    chips: Chips, outcomes: Sequence[Outcome]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for outcome in outcomes:
        path = image_of(chips.directory, outcome.chip)
        yield read_pair(PairFile(outcome.chip.name, path, path))


def _contact_sheet(chips: Chips, outcomes: Sequence[Outcome]) -> NDArray[np.uint8]:
    """Return imagery, map and overlay of chips, two chips in a row, uint8 [H,W,3]."""
    side = min(THUMBNAIL, chips.plan.size)
    font = ImageFont.load_default(12)
    cell = (3 * side + 2 * GAP, side + 18)
    columns = min(2, len(outcomes))
    rows = -(-len(outcomes) // columns)
    page = Image.new(
        "RGB",
        (columns * (cell[0] + 3 * GAP) + 3 * GAP, rows * (cell[1] + 2 * GAP) + 2 * GAP),
        (255, 255, 255),
    )
    pen = ImageDraw.Draw(page)
    pairs = _pairs(chips, outcomes)
    for number, (outcome, (imagery, drawn)) in enumerate(zip(outcomes, pairs, strict=True)):
        left = 3 * GAP + number % columns * (cell[0] + 3 * GAP)
        top = 2 * GAP + number // columns * (cell[1] + 2 * GAP)
        pen.text((left, top), f"{outcome.chip.split}  {outcome.chip.name}", (60, 60, 60), font)
        over = (imagery.astype(np.uint16) + drawn) // 2
        over[_outlines(drawn)] = OUTLINE
        for place, image in enumerate((imagery, drawn, over.astype(np.uint8))):
            small = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
            page.paste(small, (left + place * (side + GAP), top + 17))
    return np.array(page)


def _outlines(drawn: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a map changes its colour, a pixel wide, bool [H,W]."""
    values = drawn.astype(np.int16)
    steps = np.zeros(drawn.shape[:2], np.int16)
    steps[:, 1:] = np.abs(np.diff(values, axis=1)).max(2)
    steps[1:] = np.maximum(steps[1:], np.abs(np.diff(values, axis=0)).max(2))
    return steps > STEP
