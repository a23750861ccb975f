"""Translating a tree of tiles into a tree of the same tiles, each with its neighbours in sight."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from sat2map.errors import EmptySceneError, StoppedError, UsageError
from sat2map.geo.grid import Part, window_of
from sat2map.journal import Files
from sat2map.legend import Legend
from sat2map.provenance import KEY, Provenance
from sat2map.raster.named import Named, named
from sat2map.raster.options import SceneOptions
from sat2map.raster.output import check_room, give_name
from sat2map.raster.partial import partial_work
from sat2map.raster.sources import Source, tile_tree
from sat2map.raster.tile_archives import encode
from sat2map.raster.tile_tree import TileLevel
from sat2map.translation.image import legend_of
from sat2map.translation.provenance import made_of, provenance_of
from sat2map.translation.scene import translate_scene
from sat2map.translation.translator import Translator

logger = logging.getLogger(__name__)

CONTEXT = 2048
"""Pixels around a part of a tree that are translated with it where windows are blended, so that
it comes out as it would in the whole."""


def translate_tiles(
    source: Source,
    output: Path,
    translator: Translator,
    options: SceneOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Path:
    """Translate the tiles of every zoom into PNG tiles of the same numbers.

    Tiles that touch each other are one scene, so each is translated with its neighbours in
    sight. Tiles of which nothing shows are left out. Rows count from the north, whichever way those
    of the input do.

    Args:
        source: A tile level.
        output: DIR or DIR/{z}/{x}/{y}.png, new or empty.
        translator: The model.
        options: How; with a `bbox`, the tiles that it touches.
        progress: Called with (done, all) pixels.
        stop: As for `translate_raster`.

    Returns:
        DIR.

    Raises:
        DataError: A tile cannot be read, or nothing shows in all of them.
        UsageError: The options do not apply to tiles.
        OutputError: The place exists, is not writable, or the disk is full.
        StoppedError: `stop` is set.
    """
    options = options or SceneOptions()
    _check_options(options)
    target = named(output).path if "{z}" in str(output) else output
    levels, root = source.levels, source.levels[0].root
    if target.resolve().is_relative_to(root.resolve()):
        raise UsageError("lies in the input", where=target, remedy="Choose a place outside.")
    legend = legend_of(translator) if options.legend_colours else None
    reading = replace(options.reading, bbox=None)
    each = replace(options, reading=reading, resume=True)
    parts = tile_parts(levels, translator, options)
    check_room(Named(target, "folder"), levels[0].grid)
    sizes = [part.place.height * part.place.width for part in parts]
    files = tuple(file for level in levels for file in level.files())
    whole = made_of(translator, {"input": Files(files, root)}, options)
    said: set[str] = set()

    def say(notice: str) -> None:
        """Give the same notice once, however many parts it is true of."""
        if notice not in said:
            said.add(notice)
            logger.warning(notice)

    notice = numbering(source)
    if notice is not None:
        logger.warning(notice)
    with partial_work(target, whole, resume=options.resume) as partial:
        made = partial.strips / "tiles"
        made.mkdir(exist_ok=True)
        for number in range(partial.rows, len(parts)):
            part = parts[number]
            before = sum(sizes[:number])

            def show(done: int, total: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, sum(sizes))

            file = partial.strips / f"{number}.tif"
            some = partial.some
            try:
                translate_scene(
                    tile_tree([part.level]),
                    file,
                    translator,
                    each,
                    show,
                    stop,
                    part=part.place,
                    say=say,
                    say_unfinished=logger.debug,
                )
                some = _cut(file, part, made, legend) or some
                file.unlink()
            except EmptySceneError:
                show(sizes[number], 0)
            except StoppedError as error:
                raise StoppedError(
                    f"stopped as asked; {number:,} of {len(parts):,} parts are finished",
                    where=target,
                ) from error
            partial.advance(number + 1, some)
        if not partial.some:
            partial.discard()
            raise EmptySceneError(
                "has no tile in which anything shows", where=root, remedy="Give other tiles."
            )
        told = provenance_of(translator, replace(source, files=files), options)
        (made / "tiles.json").write_text(_tilejson(levels, told), encoding="utf-8")
        give_name(made, target)
    return target


@dataclass(frozen=True)
class TilePart:
    """Tiles that touch each other, and what is wanted of them.

    Attributes:
        level: The tiles.
        tiles: Column and row of those that are wanted.
        place: Where these lie, in pixels of `level`.
    """

    level: TileLevel
    tiles: set[tuple[int, int]]
    place: Part


def tile_parts(
    levels: Sequence[TileLevel], translator: Translator, options: SceneOptions
) -> list[TilePart]:
    """Return the parts of a tree that are translated one by one into tiles.

    Args:
        levels: The zooms.
        translator: The model.
        options: How; with a `bbox`, the tiles that it touches.

    Raises:
        UsageError: None lies in the `bbox`.
    """
    wanted = [_chosen(level, options) for level in levels]
    if not any(len(tiles) for tiles in wanted):
        raise UsageError(
            f"no tile of {levels[0].root} lies in it",
            parameter="bbox",
            remedy="Give another, in degrees.",
        )
    canonical = options.mode != "published" and translator.frame(options.window) is not None
    parts = [
        (part, {(int(x), int(y)) for x, y in tiles})
        for level, tiles in zip(levels, wanted, strict=True)
        for part in (level if canonical else _near(level, tiles)).parts()
    ]
    return [
        TilePart(part, tiles, _pixels(part, tiles if canonical else None))
        for part, tiles in parts
        if _of(part, tiles)
    ]


def numbering(source: Source) -> str | None:
    """Return what to say where the rows of tiles that become tiles count from the south."""
    if not source.levels[0].from_south:
        return None
    return (
        f"{source.levels[0].root}: its rows count from the south (TMS); those of tiles that are "
        "made of them count from the north, as web maps have them."
    )


def _tilejson(levels: Sequence[TileLevel], made: Provenance) -> str:
    """Return the TileJSON of a tree; its zooms need not cover the same ground."""
    zooms = [level.zoom for level in levels]
    told = {
        "tilejson": "3.0.0",
        "name": made.source.name,
        "scheme": "xyz",
        "format": "png",
        "minzoom": min(zooms),
        "maxzoom": max(zooms),
        "tiles": ["{z}/{x}/{y}.png"],
        KEY: made.to_json(),
    }
    return json.dumps(told, indent=1) + "\n"


def _check_options(options: SceneOptions) -> None:
    if options.resolution != "native":
        raise UsageError(
            "does not apply to tiles that become tiles",
            parameter="resolution",
            remedy="Leave it out, or write a .tif or .pmtiles.",
        )
    if options.compare:
        raise UsageError(
            "has no room for a second image",
            parameter="compare",
            remedy="Leave it out, or write a .tif, .png or .jpg.",
        )
    if options.reading.stretch is not None:
        raise UsageError(
            "would treat parts of a tree that do not touch each other unlike",
            parameter="stretch",
            remedy="Give `value_range`.",
        )


def _chosen(level: TileLevel, options: SceneOptions) -> NDArray[np.int64]:
    """Return the tiles that are to be translated, int64 [N,2]."""
    if options.reading.bbox is None:
        return level.tiles
    try:
        top, left, height, width = window_of(level.grid, options.reading.bbox, level.root)
    except UsageError:  # another zoom may lie there
        return level.tiles[:0]
    first = np.array(level.first) + np.array([left, top]) // level.side
    last = np.array(level.first) + np.array([left + width - 1, top + height - 1]) // level.side
    inside = (level.tiles >= first) & (level.tiles <= last)
    tiles: NDArray[np.int64] = level.tiles[inside.all(1)]
    return tiles


def _near(level: TileLevel, tiles: NDArray[np.int64]) -> TileLevel:
    """Return a level with those of the tiles too that lie around the chosen ones."""
    if not len(tiles) or len(tiles) == len(level.tiles):
        return replace(level, tiles=tiles)
    reach = -(-CONTEXT // level.side)
    inside = (level.tiles >= tiles.min(0) - reach) & (level.tiles <= tiles.max(0) + reach)
    return replace(level, tiles=level.tiles[inside.all(1)])


def _pixels(part: TileLevel, tiles: set[tuple[int, int]] | None) -> Part:
    """Return where the wanted tiles of a part lie, in its pixels; None wants all of them."""
    width, height = part.extent
    if tiles is None:
        return Part(0, 0, height * part.side, width * part.side)
    own = [(x, y) for x, y in map(tuple, part.tiles.tolist()) if (x, y) in tiles]
    (left, top), (right, bottom) = np.min(own, axis=0), np.max(own, axis=0) + 1
    first_x, first_y = part.first
    return Part(
        int(top - first_y) * part.side,
        int(left - first_x) * part.side,
        int(bottom - top) * part.side,
        int(right - left) * part.side,
    )


def _of(part: TileLevel, tiles: set[tuple[int, int]]) -> bool:
    return any((int(x), int(y)) in tiles for x, y in part.tiles)


def _cut(file: Path, part: TilePart, folder: Path, legend: Legend | None) -> bool:
    """Cut the map of a part into tiles, and return whether anything shows in one of them."""
    some = False
    level, place = part.level, part.place
    side, (first_x, first_y) = level.side, level.first
    with rasterio.open(file) as raster:
        for x, y in level.tiles.tolist():
            if (x, y) not in part.tiles:
                continue
            window = Window(
                (x - first_x) * side - place.left, (y - first_y) * side - place.top, side, side
            )
            valid = raster.dataset_mask(window=window) > 0
            if not valid.any():
                continue
            if legend is None:
                pixels = raster.read((1, 2, 3), window=window).transpose(1, 2, 0)
                tile = np.dstack([pixels, valid.astype(np.uint8) * np.uint8(255)])
            else:  # the map holds class numbers
                tile = np.where(valid, raster.read(1, window=window), np.uint8(len(legend)))
            path = folder / str(level.zoom) / str(x) / f"{y}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(tile, legend))
            some = True
    return some
