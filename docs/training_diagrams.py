"""Draws the two diagrams of docs/explanation/pix2pix.md: how each network's weights are updated.

    python docs/training_diagrams.py

The photo, the true map and the generated map in them are of a procedural town; the generated one is
the shipped model's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sat2map
from sat2map.evaluation.examples import data_url
from sat2map.towns import draw_pair

OUT = Path(__file__).parent / "images"
SEED = 11
SIDE = 96
"""Pixels of the images, and units of the drawing along a side of each."""

HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" aria-label="{label}">
<style>
svg {{ --ink: #22252a; --soft: #5d636c; --paper: #fbfaf7; --net: #efe3d6; --line: #b4540a; --still: #e4e3df; }}
@media (prefers-color-scheme: dark) {{
  svg {{ --ink: #e9e7e2; --soft: #a6acb4; --paper: #1d2024; --net: #4a3524; --line: #f0a35e; --still: #33373d; }}
}}
text {{ font: 15px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); text-anchor: middle; }}
.soft {{ fill: var(--soft); font-size: 13px; }}
.back {{ fill: var(--paper); }}
.box {{ fill: var(--net); stroke: var(--line); stroke-width: 1.5; }}
.still {{ fill: var(--still); stroke: var(--soft); stroke-dasharray: 4 3; }}
.way {{ fill: none; stroke: var(--ink); stroke-width: 1.5; marker-end: url(#tip); }}
.back-way {{ fill: none; stroke: var(--line); stroke-width: 2.5; marker-end: url(#back-tip); }}
</style>
<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" style="fill: var(--ink)"/></marker>
<marker id="back-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8z" style="fill: var(--line)"/></marker>
</defs>
<rect class="back" width="760" height="{height}" rx="10"/>
"""


def main() -> None:
    """Write both diagrams."""
    photo, true = draw_pair(SIDE, SEED)
    generated = sat2map.load("streets").translate(photo)
    for name, text in (
        ("discriminator-update", discriminator(photo, true, generated)),
        ("generator-update", generator(photo, true, generated)),
    ):
        (OUT / f"{name}.svg").write_text(text, encoding="utf-8")


def discriminator(photo: Image, true: Image, generated: Image) -> str:
    """Return the drawing of the discriminator's update."""
    parts = [
        picture(photo, 164, 24, "photo x"),
        picture(true, 262, 24, "true map y"),
        picture(photo, 30, 190, "photo x"),
        picture(generated, 262, 190, "generated map G(x)"),
        way("M126 238 H156"),
        box(162, 204, 64, 68, "G", "stays", still=True),
        way("M226 238 H256"),
        way("M78 190 V168 H404 V212 H434"),
        box(440, 24, 110, 96, "D", "judges (x, y)"),
        box(440, 190, 110, 96, "D", "(x, G(x))"),
        way("M358 72 H434"),
        way("M358 248 H434"),
        decisions(604, 34, "should all be 1"),
        decisions(604, 200, "should all be 0"),
        way("M550 72 H598"),
        way("M550 238 H598"),
        back_way("M640 322 H495 V292"),
        text(540, 346, "half of the sum of both losses updates the weights of D"),
    ]
    return drawing("How the weights of the discriminator are updated", 366, parts)


def generator(photo: Image, true: Image, generated: Image) -> str:
    """Return the drawing of the generator's update."""
    parts = [
        picture(photo, 30, 56, "photo x"),
        way("M126 104 H156"),
        box(162, 70, 64, 68, "G", "learns"),
        way("M226 104 H256"),
        picture(generated, 262, 56, "generated map G(x)"),
        way("M358 104 H434"),
        way("M78 56 V28 H495 V50"),
        box(440, 56, 110, 96, "D", "stays", still=True),
        way("M550 104 H598"),
        decisions(604, 66, "should all be 1"),
        picture(true, 262, 224, "true map y"),
        way("M384 104 V262 H490"),
        way("M358 284 H490"),
        text(588, 270, "L1: mean of |y - G(x)|"),
        text(588, 292, "times 100", soft=True),
        back_way("M640 366 H194 V144"),
        text(500, 390, "the sum of both losses updates the weights of G"),
    ]
    return drawing("How the weights of the generator are updated", 410, parts)


Image = NDArray[np.uint8]


def drawing(label: str, height: int, parts: list[str]) -> str:
    """Return a whole drawing."""
    return HEAD.format(height=height, label=label) + "\n".join(parts) + "\n</svg>\n"


def picture(pixels: Image, x: int, y: int, caption: str) -> str:
    """Return an image with a caption below it."""
    return (
        f'<image x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" href="{data_url(pixels)}"/>'
        + text(x + SIDE // 2, y + SIDE + 17, caption, soft=True)
    )


def box(
    x: int, y: int, width: int, height: int, name: str, role: str, *, still: bool = False
) -> str:
    """Return a network; one that stays as it is is dashed."""
    middle = x + width // 2
    return (
        f'<rect class="{"still" if still else "box"}" x="{x}" y="{y}" width="{width}" '
        f'height="{height}" rx="8"/>'
        + text(middle, y + height // 2, name)
        + text(middle, y + height // 2 + 20, role, soft=True)
    )


def decisions(x: int, y: int, wanted: str) -> str:
    """Return the map of decisions of a discriminator, fewer than there are."""
    random = np.random.default_rng(x + y)
    cells = "".join(
        f'<rect x="{x + 9 * column}" y="{y + 9 * row}" width="8" height="8" '
        f'style="fill: var(--line)" fill-opacity="{random.uniform(0.15, 0.95):.2f}"/>'
        for row in range(8)
        for column in range(8)
    )
    return (
        cells
        + text(x + 36, y + 90, "30 x 30 decisions", soft=True)
        + text(x + 36, y + 107, wanted, soft=True)
    )


def text(x: int, y: int, words: str, *, soft: bool = False) -> str:
    """Return words around a place."""
    return f'<text x="{x}" y="{y}"{" class=" + chr(34) + "soft" + chr(34) if soft else ""}>{words}</text>'


def way(path: str) -> str:
    """Return an arrow: what is computed from what."""
    return f'<path class="way" d="{path}"/>'


def back_way(path: str) -> str:
    """Return an arrow of a gradient."""
    return f'<path class="back-way" d="{path}"/>'


if __name__ == "__main__":
    main()
