"""The images of a report: which ones to show, and how they become part of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sat2map.data.pairs import Direction, PairFile
from sat2map.evaluation.images import error_map
from sat2map.evaluation.score import ImageScore, Translate, read_compared

Place = Literal["best", "median", "worst"]

ERROR_LIMIT = 64
SHOWN_SIDE = 640


@dataclass(frozen=True)
class Example:
    """One image to show.

    Attributes:
        place: Where it stands among all images.
        score: Its metrics.
        source: uint8 [H,W,C].
        generated: uint8 [H,W,C'].
        true: uint8 [H,W,C'].
    """

    place: Place
    score: ImageScore
    source: NDArray[np.uint8]
    generated: NDArray[np.uint8]
    true: NDArray[np.uint8]


def ranking_metric(scores: Sequence[ImageScore]) -> str:
    """Return the metric by which images are best or worst: road clDice where there is one."""
    return "road_cldice" if any("road_cldice" in score.values for score in scores) else "l1"


def choose_examples(scores: Sequence[ImageScore], count: int = 3) -> list[tuple[Place, ImageScore]]:
    """Return the best, the median and the worst images, at most `count` of each.

    No image is returned twice, so that few images give few examples.
    """
    metric = ranking_metric(scores)
    sign = 1 if metric == "l1" else -1
    ranked = sorted(
        (score for score in scores if metric in score.values),
        key=lambda score: sign * score.values[metric],
    )
    count = min(count, max(1, len(ranked) // 3))
    best, worst = ranked[:count], ranked[count:][-count:][::-1]
    between = ranked[count : len(ranked) - len(worst)]
    start = max(0, (len(between) - count) // 2)
    chosen: list[tuple[Place, ImageScore]] = [("best", score) for score in best]
    chosen += [("median", score) for score in between[start : start + count]]
    chosen += [("worst", score) for score in worst]
    return chosen


def collect_examples(
    translate: Translate,
    pairs: Sequence[PairFile],
    scores: Sequence[ImageScore],
    *,
    size: int | None,
    direction: Direction = "forward",
    count: int = 3,
) -> list[Example]:
    """Translate the images worth showing once more, so that not all had to be kept.

    Args:
        translate: As for `score_images`, uint8 [H,W,C] to uint8 [H,W,C'].
        pairs: As for `score_images`.
        scores: What it gave.
        size: As for `score_images`.
        direction: As for `score_images`.
        count: How many of the best, of the median and of the worst.

    Raises:
        DataError: A file can no longer be read.
    """
    files: Mapping[str, PairFile] = {pair.stem: pair for pair in pairs}
    examples = []
    for place, score in choose_examples(scores, count):
        source, true, _ = read_compared(files[score.name], direction, size)
        examples.append(Example(place, score, source, translate(source), true))
    return examples


def data_url(pixels: NDArray[np.uint8]) -> str:
    """Return an image, uint8 [H,W,C], as a data: URL that a page can hold.

    Of several bands the first three are shown, and large images are shrunk. The smaller
    of PNG, which suits maps, and JPEG, which suits photos, is taken.
    """
    bands = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., [0, 0, 0]]
    image = Image.fromarray(np.ascontiguousarray(bands))
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    encoded = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 92, "subsampling": 0})):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        encoded.append((kind, buffer.getvalue()))
    kind, content = min(encoded, key=lambda entry: len(entry[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def paint_error(generated: NDArray[np.uint8], true: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the error of each pixel as an image, uint8 [H,W,3].

    The mean absolute error of the channels from 0, black, to 64 and more, light yellow.
    """
    scaled = np.clip(error_map(generated, true) * (255 / ERROR_LIMIT), 0, 255)
    painted: NDArray[np.uint8] = colour_map()[np.rint(scaled).astype(np.uint8)]
    return painted


@cache
def colour_map() -> NDArray[np.uint8]:
    """Return 256 colours, uint8 [256,3], whose CIE lightness rises evenly.

    From near black over violet, red and orange to a light yellow: equal steps of the error
    look equally large, and it stays readable without colour vision.
    """
    from skimage.color import lab2rgb

    lightness = np.linspace(3, 97, 256)
    anchors = [3, 22, 42, 60, 78, 97]
    green_red = np.interp(lightness, anchors, [2, 36, 62, 44, 16, -6])
    blue_yellow = np.interp(lightness, anchors, [-4, -38, 2, 44, 60, 28])
    rgb = lab2rgb(np.stack([lightness, green_red, blue_yellow], axis=1))
    colours: NDArray[np.uint8] = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    return colours
