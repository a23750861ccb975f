"""How models do at each place, with intervals, the worst place first.

    python places.py DATA SETS MODEL [MODEL ...] [--scales 0.7,1,1.4] [--json FILE] [--card FOLDER]

DATA is the folder of what was given (`maps`, `rasters`, `openaerialmap`), SETS that of the data
sets of class masks that the record makes (`naip`, `massachusetts_1m46`, `towns`,
`towns_temperate`); of these only what is held out is read. Everything is shown at its true ground
resolution times each scale, no finer than 0.75 m (0.5 m for towns), and scored as land cover by
`sat2map.evaluation.masks`, in tiles of 80 m of the answer to the whole image: an interval is a
bootstrap over the tiles of a place; that of a mean over places draws places first. With --card the
tables become a part of that model's README.md.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize
from rasterio.transform import from_bounds

from sat2map.data.masks import read_mask
from sat2map.data.pairs import find_pairs
from sat2map.evaluation.masks import MaskProtocol, open_mask_split, score_mask, show
from sat2map.evaluation.score import read_compared
from sat2map.legend import COVER, STREETS, map_to_cover_may_be
from sat2map.translation.translator import Translator, load

Pixels = NDArray[np.uint8]
TILE_M = 80.0
"""Side of a tile on the ground."""
RESAMPLES = 1000
BUILDINGS = {
    "massachusetts_1m": "massachusetts_buildings.gpkg",
    "atlanta_rgbnir_50cm": "atlanta_buildings.geojson",
}
NEW_BRUNSWICK = {"building": "Building", "road": "Road", "vegetation": "Forest", "water": "Hydro"}


@dataclass(frozen=True)
class Ground:
    """Photos of one place and what is known of them.

    Attributes:
        images: Photo uint8 [H,W,3] and values of its mask uint8 [H,W], one for each image.
        may_be: Which classes of land cover pixels of each value may be, bool [256,5].
        metres: Ground resolution.
        finest: Photos are shown no finer, metres per pixel.
    """

    images: list[tuple[Pixels, Pixels]]
    may_be: NDArray[np.bool_]
    metres: float
    finest: float = 0.75


def only(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return what values 1, 2, ... may be that say "this class", and 255 "none of them"."""
    may_be = np.zeros((256, len(COVER)), np.bool_)
    may_be[255] = True
    for value, name in enumerate(names, 1):
        may_be[value, COVER.names.index(name)] = True
        may_be[255, COVER.names.index(name)] = False
    return may_be


def tiles(labels: Pixels, values: Pixels, metres: float) -> Iterator[tuple[Pixels, Pixels]]:
    """Cut answers uint8 [H,W] and masks uint8 [H,W] into squares of about `TILE_M`."""
    down, across = (max(1, round(side * metres / TILE_M)) for side in values.shape)
    for answer_row, row in zip(
        np.array_split(labels, down), np.array_split(values, down), strict=True
    ):
        yield from zip(
            np.array_split(answer_row, across, 1), np.array_split(row, across, 1), strict=True
        )


def mask_set(folder: Path, pattern: str = "", finest: float = 0.75) -> Ground:
    """Return the validation images of a set of class masks whose names match."""
    split = open_mask_split(folder, "val", None)
    images = [read_mask(file) for file in split.files if re.search(pattern, file.name)]
    return Ground(images, split.protocol.may_be, split.protocol.resolution_m, finest)


def raster(path: Path, told: dict[str, tuple[Path, str | None]]) -> Ground:
    """Return an orthophoto with what vectors tell of it: {class: (file, Niveau_3 or None)}."""
    with rasterio.open(path) as opened:
        photo = opened.read([1, 2, 3]).transpose(1, 2, 0)
        transform, crs = opened.transform, opened.crs
    values = np.full(photo.shape[:2], 255, np.uint8)
    for value, (file, kind) in enumerate(told.values(), 1):
        shapes = pyogrio.read_dataframe(file).to_crs(crs)
        if kind is not None:
            shapes = shapes[shapes.Niveau_3 == kind]
        values[rasterize(shapes.geometry, values.shape, transform=transform) > 0] = value
    metres = abs(transform.a)
    return Ground([(photo, values)], only(tuple(told)), metres)


def zanzibar(folder: Path) -> Ground:
    """Return the tiles of zoom 19 with the houses of OpenStreetMap that lie on whole blocks."""
    shapes = pyogrio.read_dataframe(folder / "osm_buildings.geojson").to_crs("EPSG:3857")
    side, half, images = 2 * 20037508.342789244 / 2**19, 20037508.342789244, []
    for file in sorted(folder.glob("19/*/*.png")):
        x, y = int(file.parent.name), int(file.stem)
        west, north = x * side - half, half - y * side
        transform = from_bounds(west, north - side, west + side, north, 256, 256)
        true = rasterize(shapes.geometry, (256, 256), transform=transform) > 0
        photo = np.asarray(Image.open(file).convert("RGB"))
        if true.any():
            images.append((photo, np.where(true, 1, 255).astype(np.uint8)))
    return Ground(images, only(("building",)), 0.2968)


def maps(folder: Path) -> Ground:
    """Return every seventh held-out pair of `maps` as what its classes may be of land cover."""
    images = []
    for pair in find_pairs(folder, "val")[::7]:
        source, target, _ = read_compared(pair, "forward", None)
        images.append((source, STREETS.label(target) + 1))
    may_be = np.zeros((256, len(COVER)), np.bool_)
    may_be[1 : len(STREETS) + 1] = map_to_cover_may_be(STREETS)
    may_be[1 : len(STREETS) + 1][STREETS.roads] = [name == "road" for name in COVER.names]
    return Ground(images, may_be, 1.0)


def places(data: Path, sets: Path) -> Iterator[tuple[str, Ground]]:
    """Return every place by name."""
    yield "New York (maps), held out", maps(data / "maps")
    yield "Massachusetts 1.46 m, held out", mask_set(sets / "massachusetts_1m46")
    yield "Palm Springs (NAIP), held out", mask_set(sets / "naip", "palm_springs")
    yield "Eureka (NAIP), held out", mask_set(sets / "naip", "eureka")
    rasters = data / "rasters"
    for name, file in BUILDINGS.items():
        yield f"{name}", raster(rasters / f"{name}.tif", {"building": (rasters / file, None)})
    land = rasters / "new_brunswick_landcover.gpkg"
    told = {name: (land, kind) for name, kind in NEW_BRUNSWICK.items()}
    yield "new_brunswick_50cm", raster(rasters / "new_brunswick_50cm.tif", told)
    yield "Zanzibar, zoom 19", zanzibar(data / "openaerialmap" / "zanzibar")
    yield "drawn towns of five kinds, held out", mask_set(sets / "towns", finest=0.5)
    yield "drawn temperate towns, held out", mask_set(sets / "towns_temperate", finest=0.5)


def score(model: Translator, ground: Ground, scale: float) -> dict[str, NDArray[np.float64]]:
    """Return for each metric what each tile has above and below the line, float64 [T,2]."""
    shown = max(ground.metres, ground.finest) * scale
    protocol = MaskProtocol(COVER, ground.may_be, ground.metres, shown)
    found: dict[str, list[tuple[float, float]]] = {}
    told = np.zeros(len(COVER), np.bool_)
    sure = ground.may_be & (ground.may_be.sum(1, keepdims=True) == 1)
    answers = (
        part
        for photo, values in ground.images
        for source, true in [show(photo, values, protocol)]
        for part in tiles(model.translate(source, output="cover"), true, shown)
    )
    for labels, true in answers:
        result = score_mask("", labels, true, protocol)
        told |= sure[np.unique(true)].any(0)
        assert result.agreement is not None
        for name, a, b in zip(
            COVER.names, result.agreement.intersections, result.agreement.unions, strict=True
        ):
            found.setdefault(f"iou {name}", []).append((float(a), float(b)))
        value = result.values.get("road_cldice", np.nan)
        found.setdefault("road clDice", []).append((value, 1.0) if value == value else (0.0, 0.0))
    asked = {f"iou {name}" for name, is_told in zip(COVER.names, told, strict=True) if is_told}
    return {
        name: np.array(rows)
        for name, rows in found.items()
        if (name in asked or name == "road clDice") and np.array(rows)[:, 1].sum() > 0
    }


def resampled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a quotient of sums over tiles, and over resamples of them, float64 [1001]."""
    drawn = np.random.default_rng(0).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES
    )
    sums = np.vstack([np.ones(len(rows)), drawn]) @ rows
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)


def over_places(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over places, and over places drawn at random with drawn tiles, [1001]."""
    table = np.array(values)
    rng = np.random.default_rng(1)
    mean = [np.nanmean(table[:, 0])]
    for _ in range(RESAMPLES):
        who = rng.integers(0, len(table), len(table))
        mean.append(np.nanmean(table[who, rng.integers(1, table.shape[1], len(table))]))
    return np.array(mean)


def shown(values: NDArray[np.float64]) -> str:
    """Return a value and its 95 % interval."""
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return f"{values[0]:.3f} ({low:.3f} to {high:.3f})".replace("0.", ".")


CARD = """## Place by place

Land cover and centre lines of roads on ground that no training saw, by the int8 files. In brackets
95 % intervals: over tiles of 80 m, and of means over places and tiles. The worst place is first.
"""


def write_card(card: Path, lines: list[str]) -> None:
    """Put the tables before the legend of a card, in place of what is there of them."""
    head, rest = card.read_text(encoding="utf-8").split("\n## Legend", 1)
    head = head.split("\n## Place by place")[0].rstrip()
    part = CARD + "\n".join(lines)
    card.write_text(f"{head}\n\n{part}\n\n## Legend{rest}", encoding="utf-8")


def main() -> None:
    """Print a table for each metric and write all values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--scales", default="1")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--card", type=Path)
    options = parser.parse_args()
    scales = [float(scale) for scale in options.scales.split(",")]
    columns = [(name, scale) for name in options.models for scale in scales]
    values: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    models = {name: load(name) for name in options.models}
    for place, ground in places(options.data, options.sets):
        for name, scale in columns:
            for metric, rows in score(models[name], ground, scale).items():
                values.setdefault(metric, {}).setdefault(place, []).append(resampled(rows))
    heads = [
        f"`{Path(name).name}`" + (f" x {s:g}" if len(scales) > 1 else "") for name, s in columns
    ]
    lines: list[str] = []
    for metric, table in values.items():
        lines += ["", f"| {metric} | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
        for place, cells in sorted(table.items(), key=lambda item: item[1][-1][0]):
            lines.append(f"| {place} | {' | '.join(map(shown, cells))} |")
        if len(table) > 2:
            means = [over_places([cells[k] for cells in table.values()]) for k in range(len(heads))]
            lines.append(f"| mean over places | {' | '.join(map(shown, means))} |")
    print(*lines, sep="\n", flush=True)
    if options.card:
        write_card(options.card / "README.md", lines)
    if options.json:
        plain = {m: {p: [c[0] for c in cells] for p, cells in t.items()} for m, t in values.items()}
        options.json.write_text(json.dumps({"columns": columns, "values": plain}, indent=1) + "\n")


if __name__ == "__main__":
    main()
