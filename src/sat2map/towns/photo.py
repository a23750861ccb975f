"""The plan as an aerial photo with its land cover: textures, trees, one sun, a sensor.

Everything is painted at half the pixel size into one buffer of patch numbers, from which
colours, heights and textures are looked up. Shadows follow from the heights: a place lies
in shadow where the ground towards the sun rises above the ray. All noise is a function of
the place in the world, so that neighbouring tiles fit together. The classes of land cover
are painted from the same outlines, and the same crowns stand over them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from sat2map.towns.look import Look
from sat2map.towns.plan import Planner
from sat2map.towns.shapes import BELOW, Cover, Material, Patches
from sat2map.towns.world import NOISE, Bounds, Floats

Grid = NDArray[np.float32]

FINER = 2
"""Painted pixels per pixel of the image, in each direction."""
REACH = 100.0
"""No shadow is longer, metres."""

# Strength of fine, middle and coarse grain, and of the change of hue, by material.
_GRAIN = np.zeros((len(Material), 4), np.float32)
_GRAIN[Material.PLAIN] = (0.02, 0.0, 0.0, 0)
_GRAIN[Material.GRASS] = (0.08, 0.05, 0.085, 5)
_GRAIN[Material.SOIL] = (0.05, 0.05, 0.07, 3)
_GRAIN[Material.ASPHALT] = (0.035, 0.03, 0.05, 1)
_GRAIN[Material.PAVING] = (0.06, 0.05, 0.04, 1)
_GRAIN[Material.WATER] = (0.02, 0.03, 0.03, 1.5)
_GRAIN[Material.FLAT_ROOF] = (0.03, 0.04, 0.03, 1)
_GRAIN[Material.TILES] = (0.06, 0.03, 0.0, 1)
_GRAIN[Material.SAND] = (0.04, 0.04, 0.05, 3)
_GRAIN[Material.CROP] = (0.05, 0.04, 0.07, 4)
_GRAIN[Material.FOREST] = (0.14, 0.12, 0.08, 5)
_GRAIN[Material.TIN] = (0.035, 0.04, 0.05, 2.5)
_GRAIN[Material.THATCH] = (0.09, 0.06, 0.03, 3)
_GREEN = np.isin(np.arange(len(Material)), [Material.GRASS, Material.CROP, Material.FOREST])
_HUE = np.array([1.0, 0.15, -0.7], np.float32)

# How much of a material a closed snow cover hides; what was cleared comes on top.
_SNOWED = np.full(len(Material), 1.0, np.float32)
_SNOWED[Material.PLAIN] = 0.35
_SNOWED[Material.WATER] = 0.0
_SNOWED[[Material.FLAT_ROOF, Material.TILES, Material.TIN, Material.THATCH]] = 0.93
_SNOW = (214.0, 219.0, 227.0)


def draw_photo(
    planner: Planner, bounds: Bounds, resolution: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the photo, uint8 [H,W,3], and the land cover in it, uint8 [H,W], of a region.

    The cover of a pixel is the class of `Cover` that most of it shows from above: a crown over
    a road is vegetation, a car on it is road.

    Args:
        planner: Of the world; its region reaches `margin` around `bounds`.
        bounds: The region, on whole pixels.
        resolution: Metres per pixel.
    """
    look = planner.world.look
    finer = FINER / resolution  # painted pixels per metre
    seed = planner.world.seed
    west, south, east, north = margin(look, bounds)
    groups, trees = _gather(planner, (west, south, east, north))
    trees, form = _forms(trees, look)
    highest = max(
        max((float(group.height.max()) for group in groups), default=0.0),
        float(trees[:, 3].max()) if len(trees) else 0.0,
    )
    # Only as much around the image as can throw a shadow into it.
    west, south, east, north = frame = margin(look, bounds, highest * look.shadow)
    shape = (round((north - south) * finer), round((east - west) * finer))
    numbers, tables = _paint(groups, frame, shape, finer)
    fine, middle, coarse = grain(seed, frame, shape, finer)

    material = tables.material[numbers]
    strength = _GRAIN * np.float32(look.grain)
    light = fine * strength[:, 0][material]
    light += middle * strength[:, 1][material]
    light += coarse * strength[:, 2][material]
    light += 1
    _stripe(light, numbers, tables, frame, finer)
    hue = (coarse + 0.6 * middle) * _GRAIN[:, 3][material]
    tint = np.ones((len(Material), 3), np.float32)
    tint[_GREEN] = look.vegetation
    colour = np.empty((3, *shape), np.float32)
    for channel, plane in enumerate(colour):
        np.take(tables.colour[:, channel], numbers, out=plane)
        plane *= light
        plane += hue * _HUE[channel]
        plane *= tint[:, channel][material]
    height = tables.height[numbers]
    snow = _snow(colour, numbers, tables, look, fine, middle, coarse) if look.snow else None
    crowns = _grow(colour, height, trees, form, frame, look, fine, middle, finer)

    dark = _shadow(height, look, min(highest * look.shadow, REACH), finer)
    for plane, share in zip(colour, look.shade, strict=True):
        plane *= 1 - dark * np.float32(1 - share)
    rows = slice(round((north - bounds[3]) * finer), round((north - bounds[1]) * finer))
    columns = slice(round((bounds[0] - west) * finer), round((bounds[2] - west) * finer))
    place = (round(bounds[0] / resolution), -round(bounds[3] / resolution))
    photo = _expose(colour, rows, columns, look, seed, place)
    cover = _cover(groups, frame, shape, finer)
    if snow is not None:
        cover[(cover == Cover.VEGETATION) & (snow >= 0.5)] = Cover.LAND
    cover.ravel()[crowns] = Cover.VEGETATION
    return photo, _most(cover[rows, columns])


def margin(look: Look, bounds: Bounds, reach: float = REACH) -> Bounds:
    """Return the region whose shapes can change the photo of `bounds`: more to the sun."""
    reach = min(reach, REACH)
    west, south, east, north = bounds
    x, y = look.sun
    rim = 8.0  # more than the optics blur, at 2 metres per pixel too
    return (
        west - rim - np.ceil(max(0.0, -x) * reach),
        south - rim - np.ceil(max(0.0, -y) * reach),
        east + rim + np.ceil(max(0.0, x) * reach),
        north + rim + np.ceil(max(0.0, y) * reach),
    )


class _Tables:
    """Colours and textures of the numbers in the painted buffer."""

    def __init__(self, groups: list[Patches]) -> None:
        def joined(arrays: list[Any], width: int) -> Grid:
            first = np.zeros((1, width), np.float32)
            flat = [np.asarray(array, np.float32).reshape(-1, width) for array in arrays]
            return np.concatenate([first, *flat])

        self.colour = joined([group.colour for group in groups], 3)
        self.colour[0] = (104, 116, 76)
        self.height = joined([group.height for group in groups], 1)[:, 0]
        self.stripe = joined([group.stripe for group in groups], 3)
        # One random number for each patch, which follows from its place alone.
        chances = [group.corners[:, 0] @ (12.9898, 7.8233) % 1 for group in groups]
        self.chance = joined(chances, 1)[:, 0]
        materials = [np.full(len(group.corners), group.material) for group in groups]
        self.material = np.concatenate([np.full(1, int(Material.GRASS)), *materials])


def _gather(planner: Planner, bounds: Bounds) -> tuple[list[Patches], Floats]:
    """Return the patches by layer, and the trees, that touch a region."""
    west, south, east, north = bounds
    groups: list[Patches] = []
    trees = [np.zeros((0, 6))]
    for piece in planner.pieces(bounds):
        for group in piece.patches:
            low, high = group.corners.min(1), group.corners.max(1)
            near = (low[:, 0] < east) & (high[:, 0] > west)
            near &= (low[:, 1] < north) & (high[:, 1] > south)
            if near.all():
                groups.append(group)
            elif near.any():
                groups.append(
                    Patches(
                        group.corners[near], group.layer, group.material, group.colour[near],
                        group.height[near], group.stripe[near], group.cover[near],
                    )
                )  # fmt: skip
        for some in piece.trees:
            reach = some[:, 2]
            near = (some[:, 0] + reach > west) & (some[:, 0] - reach < east)
            near &= (some[:, 1] + reach > south) & (some[:, 1] - reach < north)
            trees.append(some[near])
    groups.sort(key=lambda group: group.layer)
    return groups, np.concatenate(trees)


def _paint(
    groups: list[Patches], frame: Bounds, shape: tuple[int, int], finer: float
) -> tuple[NDArray[np.int32], _Tables]:
    image = Image.new("I", (shape[1], shape[0]), 0)
    draw = ImageDraw.Draw(image)
    number = 0
    for group in groups:
        placed = to_pixels(group.corners, frame, finer)
        for ring in placed.reshape(len(placed), -1).tolist():
            number += 1
            draw.polygon(ring, fill=number)
    return np.asarray(image, np.int32), _Tables(groups)


def _cover(
    groups: list[Patches], frame: Bounds, shape: tuple[int, int], finer: float
) -> NDArray[np.uint8]:
    """Return the class of cover of each painted pixel, without the trees."""
    image = Image.new("L", (shape[1], shape[0]), int(Cover.VEGETATION))
    draw = ImageDraw.Draw(image)
    for group in groups:
        shown = group.cover != BELOW
        placed = to_pixels(group.corners[shown], frame, finer)
        rings = placed.reshape(len(placed), group.corners.shape[1] * 2).tolist()
        for ring, number in zip(rings, group.cover[shown].tolist(), strict=True):
            draw.polygon(ring, fill=number)
    return np.array(image)


def _most(painted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class that most painted pixels of each pixel have; of equals, the narrower."""
    order = np.array([Cover.LAND, Cover.VEGETATION, Cover.WATER, Cover.ROAD, Cover.BUILDING])
    height, width = painted.shape
    cells = painted.reshape(height // FINER, FINER, width // FINER, FINER)
    best = np.zeros((height // FINER, width // FINER), np.uint8)
    result = np.zeros_like(best)
    for number in order.tolist():
        counts = (cells == number).sum((1, 3), dtype=np.uint8)
        chosen = (counts > 0) & (counts >= best)
        best[chosen], result[chosen] = counts[chosen], number
    return result


def to_pixels(corners: Floats, frame: Bounds, finer: float) -> NDArray[np.int64]:
    """Return the painted pixels [...,2] (column, row) in which corners [...,2] in metres lie.

    Pillow paints polygons on whole pixels, their outline included: half a painted pixel more
    on every side.
    """
    placed = np.empty_like(corners)
    placed[..., 0] = (corners[..., 0] - frame[0]) * finer
    placed[..., 1] = (frame[3] - corners[..., 1]) * finer
    return np.floor(placed).astype(np.int64)


def _stripe(
    light: Grid, numbers: NDArray[np.int32], tables: _Tables, frame: Bounds, finer: float
) -> None:
    """Add the stripes of crops and mown lawns to the light, in place."""
    striped = tables.stripe[:, 2] > 0
    if not striped.any():
        return
    rows, columns = np.nonzero(striped[numbers])
    x = np.float32(frame[0]) + (columns.astype(np.float32) + 0.5) / np.float32(finer)
    y = np.float32(frame[3]) - (rows.astype(np.float32) + 0.5) / np.float32(finer)
    wave = tables.stripe[numbers[rows, columns]]
    light[rows, columns] += wave[:, 2] * np.sin(wave[:, 0] * x + wave[:, 1] * y)


_CROWN, _PALM, _BARE, _CONIFER = range(4)


def _forms(trees: Floats, look: Look) -> tuple[Floats, NDArray[np.int64]]:
    """Return the trees as they grow in a world, and of which form each is, int [N]."""
    form = np.full(len(trees), _CROWN)
    if not (look.palms or look.bare):
        return trees, form
    lot = trees[:, 5] * 97 % 1  # as good as another random number
    tall = trees[:, 2] > 1.5
    trees = trees.copy()
    if look.palms:
        palm = tall & (lot < look.palms)
        form[palm] = _PALM
        trees[palm, 2] = np.clip(trees[palm, 2] * 0.8, 1.7, 3.2)
        trees[palm, 3] = 3.0 + 2.6 * trees[palm, 2]
    if look.bare:
        form[tall] = np.where(lot[tall] < look.bare, _BARE, _CONIFER)
        trees[form == _BARE, 3] *= 0.6  # twigs throw thin shadows
        trees[form == _CONIFER, 2] *= 0.7
    return trees, form


def _snow(
    colour: Grid,
    numbers: NDArray[np.int32],
    tables: _Tables,
    look: Look,
    fine: Grid,
    middle: Grid,
    coarse: Grid,
) -> Grid:
    """Lay snow over the colours, in place; return how much of it lies where, 0 to 1."""
    share = np.float32(1.6 * look.snow - 0.3) + np.float32(0.16) * (coarse + middle)
    most = _SNOWED.copy()
    most[Material.ASPHALT] = 0.85 * (1 - look.ploughed)
    most[Material.PAVING] = 0.95 * (1 - 0.7 * look.ploughed)
    if look.bare > 0.6:
        most[Material.WATER] = 0.8  # deep in winter there is ice
    np.clip(share, 0, 1, out=share)
    material = tables.material[numbers]
    share *= most[material]
    # The snow slid off some roofs, or melted.
    slid = tables.chance[numbers] < 0.2
    roofs = (material == Material.TILES) | (material == Material.TIN)
    share[slid & roofs] *= np.float32(0.3)
    light = 1 + np.float32(0.02) * fine + np.float32(0.025) * coarse
    lit = np.clip(colour.mean(0) * np.float32(0.001) + np.float32(0.87), 0.87, 1.03)
    for plane, tone in zip(colour, _SNOW, strict=True):
        white = np.where(roofs, lit, light) * np.float32(tone)
        plane += (white - plane) * share
    return share


def _grow(
    colour: Grid,
    height: Grid,
    trees: Floats,
    form: NDArray[np.int64],
    frame: Bounds,
    look: Look,
    fine: Grid,
    middle: Grid,
    finer: float,
) -> NDArray[np.int64]:
    """Paint the trees over colour and height, in place; where crowns meet, the higher shows.

    Returns:
        The indices [N] of the painted pixels that show a tree.
    """
    if not len(trees):
        return np.zeros(0, np.int64)
    rows, columns = height.shape
    best = np.full(height.size, -1, np.int64)
    places = (trees[:, :2] - (frame[0], frame[3])) * (finer, -finer)
    radius = trees[:, 2] * finer
    size = np.ceil(radius * 1.15).astype(int)
    lumps = (0.86 + 0.13 * middle + 0.05 * fine).ravel()
    for reach in np.unique(size).tolist():
        step = np.arange(-reach, reach + 1)
        dy, dx = (part.ravel() for part in np.meshgrid(step, step, indexing="ij"))
        near = dx**2 + dy**2 <= (reach + 0.5) ** 2
        members = np.flatnonzero(size == reach)
        for some in np.array_split(members, len(members) * int(near.sum()) // 2_000_000 + 1):
            base = np.floor(places[some]).astype(int)
            px, py = base[:, :1] + dx[near], base[:, 1:] + dy[near]
            away = (px + 0.5 - places[some, :1]) ** 2 + (py + 0.5 - places[some, 1:]) ** 2
            away = away / radius[some, None] ** 2
            away = away * _spread(form[some], px + 0.5 - places[some, :1], py - places[some, 1:])
            good = (px >= 0) & (px < columns) & (py >= 0) & (py < rows)
            where = np.where(good, py * columns + px, 0)
            good &= away < lumps[where] ** 2
            top = trees[some, 3:4] - trees[some, 2:3] * 0.9 * away
            key = (np.clip(top * 500, 1, 60_000).astype(np.int64) << 32) | some[:, None]
            np.maximum.at(best, where[good], key[good])
    spots = np.flatnonzero(best >= 0)
    top = (best[spots] >> 32).astype(np.float32) / 500
    above = top > height.ravel()[spots]
    spots, top = spots[above], top[above]
    tree = best[spots] & 0xFFFFFFFF
    normal_x = (spots % columns + 0.5 - places[tree, 0]) / radius[tree]
    normal_y = -(spots // columns + 0.5 - places[tree, 1]) / radius[tree]
    sunny = normal_x * look.sun[0] + normal_y * look.sun[1]
    hue = trees[tree, 4] * 2
    low = np.clip(hue.astype(int), 0, 1)
    share = (hue - low)[:, None].astype(np.float32)
    palette = np.array(look.leaves, np.float32)
    leaves = palette[low] * (1 - share) + palette[low + 1] * share
    leaves = leaves * (0.82 + 0.4 * trees[tree, 5])[:, None].astype(np.float32)
    grainy = 0.16 * fine.ravel()[spots] + 0.12 * middle.ravel()[spots]
    light = (1.0 + 0.42 * sunny - 0.12 * (normal_x**2 + normal_y**2) + grainy).astype(np.float32)
    shown = leaves * np.clip(light, 0.35, 1.9)[:, None] * np.asarray(look.vegetation, np.float32)
    flat = colour.reshape(3, -1)
    if look.bare:
        # Between twigs the ground shows, and snow lies on the boughs of conifers.
        kind = form[tree]
        twigs = np.array([(96.0, 88.0, 80.0)], np.float32) * light[:, None]
        shown = np.where((kind == _BARE)[:, None], 0.55 * twigs + 0.45 * flat[:, spots].T, shown)
        dust = (kind == _CONIFER) * np.clip(0.25 * look.snow + 0.15 * fine.ravel()[spots], 0, 0.6)
        shown = shown + (np.array(_SNOW, np.float32) - shown) * dust[:, None]
    flat[:, spots] = shown.T
    height.ravel()[spots] = top
    return spots


def _spread(form: NDArray[np.int64], dx: Floats, dy: Floats) -> Any:
    """Return by how much a place seems farther from its tree [N,K]: fronds have gaps."""
    palm, spruce = form == _PALM, form == _CONIFER
    if not (palm.any() or spruce.any()):
        return 1.0
    turn = np.arctan2(dy, dx)
    gaps = np.where(palm[:, None], 1.6 * np.abs(np.sin(4 * turn + form[:, None])), 0.0)
    gaps = gaps + np.where(spruce[:, None], 0.5 * np.abs(np.sin(6 * turn)), 0.0)
    return 1 + gaps


def _shadow(height: Grid, look: Look, reach: float, finer: float) -> Grid:
    """Return how dark the shadow is, 0 to 1, float32 [H,W].

    The highest point above the ray to the sun is sought along 1, 2, 4, ... steps, each
    time by comparing the field with itself shifted.
    """
    drop = 1 / (finer * look.shadow)  # the ray climbs this many metres a step
    way = np.array([-look.sun[1], look.sun[0]])  # rows, columns
    above = _shifted(height, way) - np.float32(drop)
    steps = 1
    while steps < reach * finer:
        further = _shifted(above, way * steps) - np.float32(drop * steps)
        above = np.maximum(above, further)
        steps *= 2
    hidden = np.clip((above - height - 0.25) * 2.0, 0, 1)
    soft: Grid = ndimage.gaussian_filter(hidden, 0.5, truncate=3.0)
    return soft


def _shifted(field: Grid, way: Floats) -> Grid:
    """Return field[p + way] for each place p, and -1000 where that lies outside."""
    rows, columns = (round(float(step)) for step in way)
    result = np.full_like(field, -1000)
    height, width = field.shape
    if abs(rows) >= height or abs(columns) >= width:
        return result
    result[max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)] = (
        field[max(0, rows) : height - max(0, -rows), max(0, columns) : width - max(0, -columns)]
    )
    return result


def _expose(
    colour: Grid, rows: slice, columns: slice, look: Look, seed: int, place: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return what the sensor sees of a painted region whose first pixel is column, row `place`."""
    rim = 4 * FINER
    part = colour[:, rows.start - rim : rows.stop + rim, columns.start - rim : columns.stop + rim]
    height, width = part.shape[1] // FINER, part.shape[2] // FINER
    planes = np.empty((3, height - 8, width - 8), np.float32)
    for channel, plane in enumerate(planes):
        halves = part[channel].reshape(height, FINER, width, FINER)
        seen = np.asarray(halves[:, 0] + halves[:, 1])
        seen = (seen[..., 0] + seen[..., 1]) * np.float32(1 / FINER**2)
        plane[:] = ndimage.gaussian_filter(seen, look.blur, truncate=4.0)[4:-4, 4:-4]
    grey = planes.mean(0)
    haze = (176.0, 188.0, 202.0)
    result = np.empty((*grey.shape, 3), np.uint8)
    for channel, plane in enumerate(planes):
        seen = grey + (plane - grey) * np.float32(look.saturation)
        seen = (seen * np.float32(look.gain[channel]) - 110) * np.float32(look.contrast) + 110
        seen = seen * np.float32(1 - look.haze) + np.float32(haze[channel] * look.haze)
        seen += np.float32(look.noise) * _white(seed, 20 + channel, *place, seen.shape)
        result[..., channel] = np.clip(seen + 0.5, 0, 255)
    return result


def grain(
    seed: int, frame: Bounds, shape: tuple[int, int], finer: float = FINER
) -> tuple[Grid, Grid, Grid]:
    """Return fine, middle and coarse noise of mean 0 and deviation 1, float32 [H,W] each."""
    rim = 24
    left, top = round(frame[0] * finer), -round(frame[3] * finer)
    white = _white(seed, 0, left - rim, top - rim, (shape[0] + 2 * rim, shape[1] + 2 * rim))
    soft = ndimage.gaussian_filter(white, 0.6, truncate=3.0)
    fine = soft / np.float32(0.447)
    wide = ndimage.gaussian_filter(white, 3.5, truncate=3.0) * np.float32(12.5)
    inner = (slice(rim, -rim), slice(rim, -rim))
    coarse = sum(
        weight * _rolling(seed, number, left, top, shape, round(size * finer))
        for number, size, weight in ((1, 11, 0.75), (2, 31, 0.9), (3, 97, 0.9))
    )
    return fine[inner], wide[inner], np.asarray(coarse, np.float32)


def _white(seed: int, number: int, left: int, top: int, shape: tuple[int, int]) -> Grid:
    """Return noise of mean 0 and deviation 1 that depends on the place alone."""
    rows = np.arange(top, top + shape[0]).astype(np.uint32)[:, None]
    columns = np.arange(left, left + shape[1]).astype(np.uint32)[None]
    key = np.uint32((seed * 2654435761 + number * 40503 + NOISE) & 0xFFFFFFFF)
    with np.errstate(over="ignore"):
        mixed = rows * np.uint32(0x9E3779B1) ^ columns * np.uint32(0x85EBCA77) ^ key
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            mixed ^= mixed >> np.uint32(shift)
            mixed *= np.uint32(factor)
        mixed ^= mixed >> np.uint32(16)
    # The sum of two uniform numbers: near enough to a bell, and cheap.
    both = (mixed & np.uint32(0xFFFF)).astype(np.float32) + (mixed >> np.uint32(16)).astype(
        np.float32
    )
    return (both - np.float32(65535)) * np.float32(2.4495 / 65535)


def _rolling(
    seed: int, number: int, left: int, top: int, shape: tuple[int, int], size: int
) -> Grid:
    """Return smooth noise with hills of about `size` painted pixels."""

    def weights(start: int, count: int) -> tuple[int, int, Grid]:
        place = (np.arange(start, start + count) + 0.5) / size
        first, last = int(np.floor(place[0])), int(np.floor(place[-1])) + 1
        low = np.floor(place).astype(int) - first
        share = place - np.floor(place)
        share = share * share * (3 - 2 * share)
        matrix = np.zeros((count, last - first + 1), np.float32)
        matrix[np.arange(count), low] = 1 - share
        matrix[np.arange(count), low + 1] = share
        return first, last, matrix

    row, last_row, down = weights(top, shape[0])
    column, last_column, right = weights(left, shape[1])
    values = _white(seed, number, column, row, (last_row - row + 1, last_column - column + 1))
    return np.asarray(down @ values @ right.T, np.float32)
