"""Open ground outside the temperate zone: deserts, scrub, and small fields."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from sat2map.towns.geometry import direction, lattice, polygons, rectangles, scatter, split
from sat2map.towns.greens import lawn, lot_ground, soil
from sat2map.towns.grounds import bent_way, blob, inside, led_on
from sat2map.towns.look import Look
from sat2map.towns.roads import earth_road
from sat2map.towns.settlements import patches
from sat2map.towns.shapes import Cover, Layer, Material, Piece

__all__ = ["barren", "plots", "scrub"]


def barren(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with bare ground: blotches, washes, bushes, now and then a track."""
    tone = soil(look, rng, 1)[0]
    piece.paint(block, Layer.PARCEL, Material.SOIL, tone)
    for _ in range(int(np.clip(block.area / 2500, 1, 14))):
        shape = blob(inside(block, rng), float(rng.uniform(8, 34)), rng).intersection(block)
        piece.paint(shape, Layer.PARCEL, Material.SOIL, tone * rng.uniform(0.88, 1.1))
    for _ in range(int(rng.integers(0, 4))):
        wash = bent_way(block, rng)
        if wash is not None:
            strip = wash.buffer(rng.uniform(0.8, 3.5)).intersection(block)
            piece.paint(strip, Layer.PARCEL, Material.SAND, tone * rng.uniform(1.03, 1.12))
    if block.area > 4000 and rng.random() < 0.75:
        _track(piece, bent_way(block, rng), look, rng)
    scrub(piece, block, look, rng)


def scrub(piece: Piece, area: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Plant bushes and a few trees over an area, in clumps."""
    for part in polygons(area.buffer(-0.8, quad_segs=1), 12.0):
        shapely.prepare(part)
        spots = scatter(part, rng, 4.2, 0.32 * look.scrub)
        wave = rng.uniform(14, 50, 2)
        clump = np.sin(spots[:, 0] / wave[0]) + np.sin(spots[:, 1] / wave[1])
        spots = spots[rng.random(len(spots)) < 0.5 + 0.4 * clump]
        piece.plant(spots, rng, radius=(0.5, 1.7), hue=0.6)
        piece.plant(scatter(part, rng, 15.0, 0.2 * look.trees), rng, radius=(1.4, 4.2))


def left_over(piece: Piece, area: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Cover left-over ground."""
    for part in polygons(area, 4.0):
        piece.paint(part, Layer.PARCEL, *lot_ground(look, rng, 0.97))
        scrub(piece, part, look, rng)


def plots(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with small fields, fallow land and plantations."""
    piece.paint(block, Layer.PARCEL, *lot_ground(look, rng, 0.95))
    for lot in split(block, rng, float(rng.uniform(900, 5200))):
        chance = rng.random()
        angle = direction(lot)
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        wave = 2 * np.pi / float(rng.choice([2.2, 2.8, 4.0])) * axes[int(rng.integers(2))]
        stripe = (float(wave[0]), float(wave[1]), float(rng.uniform(0.02, 0.09)))
        ground = lot.buffer(-rng.uniform(0.4, 1.6), join_style="mitre")
        if chance < 0.34:
            tone = soil(look, rng, 1)[0] * rng.uniform(0.85, 1.08)
            piece.paint(ground, Layer.PARCEL, Material.SOIL, tone, stripe=stripe)
        elif chance < 0.6:
            tone = lawn(look, rng, 1)[0] * rng.uniform(0.82, 1.05)
            piece.paint(ground, Layer.PARCEL, Material.CROP, tone, stripe=stripe)
        elif chance < 0.74:
            piece.paint(ground, Layer.PARCEL, *lot_ground(look, rng))
            patches(piece, lot, look, rng, 0.4)
            scrub(piece, lot, look, rng)
        else:
            piece.paint(ground, Layer.PARCEL, *lot_ground(look, rng))
            gap = float(rng.uniform(5.5, 10.0))
            rows = lattice(lot.buffer(-2.0), axes, (gap, gap))
            rows = rows + rng.normal(0, 0.1 * gap, rows.shape)
            rows = rows[rng.random(len(rows)) < rng.uniform(0.55, 0.95)]
            piece.plant(rows, rng, radius=(0.25 * gap, 0.5 * gap), hue=0.55)
    trees = scatter(block.buffer(-2.0), rng, 13.0, 0.25 * look.trees)
    piece.plant(trees, rng, radius=(1.6, 4.6))
    way = bent_way(block, rng) if block.area > 6000 and rng.random() < 0.75 else None
    _track(piece, way, look, rng)
    if block.area > 9000 and rng.random() < 0.18:
        _reservoir(piece, block, way, look, rng)


def _reservoir(
    piece: Piece, block: Polygon, way: LineString | None, look: Look, rng: np.random.Generator
) -> None:
    """Add a basin of water with straight banks, beside a track."""
    spot = np.array(inside(block.buffer(-28), rng))
    angle = direction(block)
    along = np.array([[np.cos(angle), np.sin(angle)]])
    length, width = rng.uniform(18, 42), rng.uniform(14, 30)
    outer = Polygon(rectangles(spot[None], along, length + 6, width + 6)[0])
    inner = Polygon(rectangles(spot[None], along, length, width)[0])
    crossed = way is not None and way.distance(outer) < 8.0
    if look.water is None or crossed or not block.contains(outer):
        return
    piece.paint(outer, Layer.WATER, Material.SOIL, np.array(look.soil) * 1.05, cover=Cover.LAND)
    piece.paint(inner, Layer.WATER, Material.WATER, np.array(look.water))
    piece.feature(inner, "water", "reservoir")


def _track(piece: Piece, way: LineString | None, look: Look, rng: np.random.Generator) -> None:
    if way is not None:
        way = led_on(way)
        width = float(rng.uniform(3.6, 7.0))
        earth_road(piece, way, width, look, rng)
        piece.street(way, "road", "track", width)
