"""What a scene is, told from its header and a thinned look at it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.errors import DataError, UsageError
from sat2map.geo.gdal import settings
from sat2map.geo.grid import bounds_wgs84
from sat2map.geo.windows import OVERLAP, WINDOW, spans
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.scale import knows
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source, open_file, open_source, tile_tree
from sat2map.translation.folder import check_for_image, left_out
from sat2map.translation.image import look_at_image, resized, tell_strange
from sat2map.translation.pipeline import read_window
from sat2map.translation.scene_view import SceneView
from sat2map.translation.tile_tree import numbering, tile_parts
from sat2map.translation.translator import Translator
from sat2map.translation.windows import lay_cores

logger = logging.getLogger(__name__)

SMALLEST = 64
"""Smallest side at which a model is asked how sure it is."""

LARGEST = 768
"""Largest side of what it is asked about."""


@checks_arguments
def scene_facts(
    source: str | Path | Source,
    translator: Translator | None = None,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """Return what a scene is, as JSON's own types.

    Args:
        source: What `translate_raster` takes.
        translator: A model that is to translate it.
        reading: How it is to be read.

    Returns:
        `width`, `height`, `bands` (of each its `type`, `colour` and `nodata`), `crs`, `bounds`
        (west, south, east, north in degrees), `ground_resolution_m` (along a row, along a
        column), and `nodata_share` (0 to 1, from a thinned look at the bands that would be
        translated); of a mosaic how many `files` it has, of a tree how many `tiles` each zoom,
        the finest of which is told of; and `notices`, a list of what translating it would say.
        With a model also `model_knows_scale` and `estimated_seconds`, which is measured by
        translating a window here. Of a folder whose files are translated one by one, the `files`,
        these facts of `each`, all `notices`, and `failures`, a line for each that cannot be.

    Raises:
        DataError: The scene cannot be read.
        UsageError: `reading` does not fit it.
    """
    source, reading = open_source(source), reading or Reading()
    if source.kind == "image" and translator is not None:
        return _image_facts(Path(source.where), translator, reading)
    if source.kind == "folder":
        try:
            source = source.as_scene(reading.nodata, reading.bands)
        except DataError:  # its files are translated one by one
            return _folder_facts(source, translator, reading)
    if translator is None:
        # Percentiles cost another look at all of it, and nothing is told of them.
        reading = replace(reading, stretch=None, value_range=(0, 1))
    notices: list[str] = []
    options = SceneOptions(reading)
    with (
        settings(remote=source.kind == "address"),
        SceneView(source, translator, options, say=notices.append) as view,
    ):
        facts = _facts_of(view)
        valid, where = view.scene.shown(), str(view.scene.source.where)
        part, grid = view.part, view.scene.grid
        wanted = valid[
            _thinned(part.top, part.height, grid.height, valid.shape[0]),
            _thinned(part.left, part.width, grid.width, valid.shape[1]),
        ]
        facts |= {"nodata_share": 1 - float(wanted.mean()), "notices": notices}
        if translator is not None:
            ground = view.scale.ground
            facts["model_knows_scale"] = knows(translator.card.resolution_m, ground)
            facts["estimated_seconds"] = _estimate(view, valid, translator)
            if ground is None:
                shape = (view.scene.grid.height, view.scene.grid.width)
                middle = partial(_middle, view.scene)
                tried, said = _try_pixel_sizes(middle, shape, translator, where)
                facts |= tried
                notices += said
    if translator is not None and source.levels and reading.stretch is None:
        notices += _of_tiles(source, translator, options)
    facts["notices"] = list(dict.fromkeys(notices))
    return facts


def _facts_of(view: SceneView) -> dict[str, Any]:
    """Return what the file of a scene says, and what is meant of it."""
    scene, dataset, wanted = view.scene, view.scene.dataset, view.wanted
    facts: dict[str, Any] = {
        "name": scene.source.name,
        "driver": dataset.driver,
        "width": dataset.width,
        "height": dataset.height,
        "bands": [
            {"type": kind, "colour": colour.name, "nodata": _plain(nodata)}
            for kind, colour, nodata in zip(
                dataset.dtypes, dataset.colorinterp, dataset.nodatavals, strict=True
            )
        ],
        "crs": None if wanted.crs is None else wanted.crs.to_string(),
        "bounds": bounds_wgs84(wanted),
        "ground_resolution_m": view.scale.ground,
    }
    if scene.source.kind == "tile tree":
        levels = scene.source.levels
        facts["tiles"] = {str(level.zoom): len(level.tiles) for level in levels}
    elif scene.source.kind == "mosaic":
        facts["driver"], facts["files"] = "mosaic", len(scene.source.files)
    return facts


def _of_tiles(source: Source, translator: Translator, options: SceneOptions) -> list[str]:
    """Return what translating the tiles of every zoom into tiles would say."""
    first = numbering(source)
    notices = [] if first is None else [first]
    whole = replace(options, reading=replace(options.reading, bbox=None))
    for part in tile_parts(source.levels, translator, options):
        tiles = tile_tree([part.level])
        SceneView(tiles, translator, whole, part=part.place, say=notices.append).close()
    return notices


def _folder_facts(
    source: Source, translator: Translator | None, reading: Reading
) -> dict[str, Any]:
    """Return what the files of a folder are that are translated one by one.

    Raises:
        DataError: None of them can be translated.
    """
    each: list[dict[str, Any]] = []
    failures, notices = left_out(Path(source.where))
    for file in source.files:
        try:
            with open_file(file) as opened:
                each.append(scene_facts(opened, translator, reading))
        except (DataError, UsageError) as error:
            failures.append(error)
    if not each:
        raise failures[0]
    facts: dict[str, Any] = {
        "name": source.name,
        "files": len(source.files),
        "each": each,
        "notices": [*notices, *(notice for told in each for notice in told["notices"])],
        "failures": [str(failure) for failure in failures],
    }
    if translator is not None:
        facts["estimated_seconds"] = sum(told["estimated_seconds"] for told in each)
    return facts


def _try_pixel_sizes(
    middle: Callable[[int, int], NDArray[np.uint8]],
    shape: tuple[int, int],
    translator: Translator,
    where: str,
) -> tuple[dict[str, Any], list[str]]:
    """Return as facts how sure a model is of what does not say its scale, and as a notice."""
    known = translator.card.resolution_m
    if known is None:
        return {}, []
    tried = margins_by_pixel_size(middle, shape, translator, known)
    said = [f"{where}: {_surest(tried, translator)}"] if tried else []
    by_size = {f"{size:.2g}": margin for size, margin in tried.items()}
    return {"margin_by_pixel_size_m": by_size}, said


def _middle(scene: Scene, height: int, width: int) -> NDArray[np.uint8]:
    """Return the middle of a scene that is resampled to a size, uint8 [h,w,C]."""
    side = min(height, LARGEST), min(width, LARGEST)
    seen = ResampledScene(scene, height, width)
    return seen.read((height - side[0]) // 2, (width - side[1]) // 2, *side)[0]


def _middle_of_image(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    whole = resized(pixels, height, width)
    top, left = max(0, (height - LARGEST) // 2), max(0, (width - LARGEST) // 2)
    return whole[top : top + LARGEST, left : left + LARGEST]


def margins_by_pixel_size(
    middle: Callable[[int, int], NDArray[np.uint8]],
    shape: tuple[int, int],
    translator: Translator,
    known: tuple[float, float],
) -> dict[float, float]:
    """Return how sure a model is of a photo, by what its pixels are taken to measure.

    The middle of the photo is shown as it is, which suits all that the model knows, and reduced
    by two and by four, which suits finer ones.

    Args:
        middle: Takes the height and width that the photo is resampled to; returns the middle of
            it, uint8 [h,w,C].
        shape: Its own height and width.
        translator: The model.
        known: Finest and coarsest metres per pixel that it knows.

    Returns:
        By metres per pixel the mean margin of the most probable class over the second, 0 to 1;
        nothing where the model has no classes or the photo is small.
    """
    if not translator.answers_in_classes:
        return {}
    finest, coarsest = known
    tried = {math.sqrt(finest * coarsest): 1, finest / 2: 2, finest / 4: 4}
    margins = {}
    for size, reduced in tried.items():
        height, width = shape[0] // reduced, shape[1] // reduced
        if min(height, width) < SMALLEST:
            continue
        shares = translator.translate(middle(height, width), output="probabilities")
        best = np.sort(shares, axis=-1)
        margins[size] = round(float((best[..., -1] - best[..., -2]).mean()), 3)
    return margins


def _surest(margins: dict[float, float], translator: Translator) -> str:
    size = max(margins, key=lambda size: margins[size])
    tried = ", ".join(f"{size:.2g} m ({margin:.2f})" for size, margin in margins.items())
    return (
        f"the model {translator.name} is surest of it with pixels of about {size:.2g} m (margins "
        f"of those tried: {tried}); that is a guess. If you know their size, give "
        f"`pixel_size=METRES`."
    )


def _estimate(view: SceneView, valid: NDArray[np.bool_], translator: Translator) -> float:
    """Return about how many seconds reading and translating a scene take, without the writing.

    Args:
        view: The scene.
        valid: Where the scene has values, bool [h,w], thinned.
        translator: The model.
    """
    frame, multiple = translator.frame(), translator.multiple
    seen, size = view.seen, (view.seen.grid.height, view.seen.grid.width)
    if frame is None:
        window = math.ceil(WINDOW / multiple) * multiple
        rows, columns = (spans(side, window, OVERLAP, multiple) for side in size)
    else:
        part = view.part.on(view.scene.grid, seen.grid)
        rows, columns = (
            [axis.span for axis in lay_cores(side, side, frame, *within)]
            for side, within in zip(
                size, ((part.top, part.bottom), (part.left, part.right)), strict=True
            )
        )
    across = [_thinned(c.start, c.size, size[1], valid.shape[1]) for c in columns]
    down = [_thinned(r.start, r.size, size[0], valid.shape[0]) for r in rows]
    shown = [
        (row, column)
        for row, r in zip(rows, down, strict=True)
        for column, c in zip(columns, across, strict=True)
        if valid[r, c].any()
    ]
    if not shown:
        return 0.0
    row, column = shown[len(shown) // 2]
    began = time.perf_counter()
    pixels, _ = read_window(seen, frame, row, column)
    reading = time.perf_counter() - began
    asked = translator.kind.bytes(("image",))
    translator.predict(pixels, asked)  # the first one takes longer
    began = time.perf_counter()
    translator.predict(pixels, asked)
    # The next window is read while the network answers.
    return len(shown) * max(reading, time.perf_counter() - began)


def _thinned(start: int, size: int, whole: int, thin: int) -> slice:
    """Return which of the thinned pixels of an axis a window covers, at least one."""
    first = min(start * thin // whole, thin - 1)
    return slice(first, max(-(-(start + size) * thin // whole), first + 1))


def _image_facts(path: Path, translator: Translator, reading: Reading) -> dict[str, Any]:
    """Return what an image without coordinates is, as its translation sees it."""
    check_for_image(path, SceneOptions(reading))
    notices: list[str] = []
    image, pixels, seen = look_at_image(path, translator, reading.pixel_size, say=notices.append)
    tell_strange(translator, path, seen, notices.append)
    colours = ["red", "green", "blue"] if image.pixels.shape[2] == 3 else None
    names = colours or ["undefined"] * image.pixels.shape[2]
    names += ["alpha"] * (image.alpha is not None)
    size = reading.pixel_size
    ground = None if size is None else (size, size)
    multiple = translator.multiple
    window = math.ceil(WINDOW / multiple) * multiple
    rows, columns = (spans(side, window, OVERLAP, multiple) for side in seen.shape[:2])
    blank = np.zeros((rows[0].size, columns[0].size, pixels.shape[2]), np.uint8)
    translator.predict(blank)  # the first one takes longer
    began = time.perf_counter()
    translator.predict(blank)
    tried: dict[str, Any] = {}
    if ground is None:
        shape = (pixels.shape[0], pixels.shape[1])
        middle = partial(_middle_of_image, pixels)
        tried, said = _try_pixel_sizes(middle, shape, translator, str(path))
        notices += said
    return tried | {
        "name": path.name,
        "driver": path.suffix[1:].upper(),
        "width": image.pixels.shape[1],
        "height": image.pixels.shape[0],
        "bands": [{"type": "uint8", "colour": name, "nodata": None} for name in names],
        "crs": None,
        "bounds": None,
        "ground_resolution_m": ground,
        "nodata_share": 0.0 if image.alpha is None else float((image.alpha == 0).mean()),
        "notices": notices,
        "model_knows_scale": knows(translator.card.resolution_m, ground),
        "estimated_seconds": len(rows) * len(columns) * (time.perf_counter() - began),
    }


def describe_scene(facts: dict[str, Any]) -> str:
    """Return the facts for people."""
    if "each" in facts:
        blocks = [describe_scene(told) for told in facts["each"]]
        head = [f"# {facts['name']}", "", f"{'files':20}{facts['files']}"]
        if "estimated_seconds" in facts:
            head.append(f"{'estimated time':20}{_duration(facts['estimated_seconds'])}")
        return "\n\n".join(["\n".join(head), *blocks])
    kinds = sorted({band["type"] for band in facts["bands"]})
    colours = ", ".join(band["colour"] for band in facts["bands"])
    ground = facts["ground_resolution_m"]
    bounds = facts["bounds"]
    lines = [
        ("size", f"{facts['width']} x {facts['height']} pixels"),
        ("bands", f"{len(facts['bands'])} ({colours})"),
        ("type", ", ".join(kinds)),
        ("format", facts["driver"] + (f" of {facts['files']} files" if "files" in facts else "")),
        ("CRS", (facts["crs"] or "none").splitlines()[0]),
        ("bounds", "unknown" if bounds is None else _bounds(bounds)),
        ("ground resolution", "unknown" if ground is None else "{:.3g} x {:.3g} m".format(*ground)),
        ("nodata", f"{facts['nodata_share']:.1%} of the pixels"),
    ]
    if "model_knows_scale" in facts:
        lines.append(("model knows scale", facts["model_knows_scale"]))
        lines.append(("estimated time", _duration(facts["estimated_seconds"])))
    if "tiles" in facts:
        counts = ", ".join(f"{count:,} of zoom {zoom}" for zoom, count in facts["tiles"].items())
        lines.insert(1, ("tiles", counts))
    return "\n".join([f"# {facts['name']}", "", *(f"{name:20}{text}" for name, text in lines)])


def _bounds(bounds: tuple[float, float, float, float]) -> str:
    """Return bounds as `bbox` takes them, and say what the numbers are."""
    return ",".join(f"{bound:.6f}" for bound in bounds) + " (west,south,east,north in degrees)"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than 1 s"
    hours, rest = divmod(round(seconds), 3600)
    parts = ((hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    said = [f"{count} {unit}" for count, unit in parts if count]
    return "about " + " ".join(said[:2])


def _plain(value: float | None) -> float | str | None:
    """Return a number that JSON can hold."""
    return value if value is None or math.isfinite(value) else str(float(value))
