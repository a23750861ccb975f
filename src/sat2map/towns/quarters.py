"""Blocks to work and learn in: offices, industry, campuses, and the squares between."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

from sat2map.towns.buildings import CITY_ROOFS, flat, parking, roof_colours
from sat2map.towns.geometry import (
    along_line,
    direction,
    lattice,
    polygons,
    rectangles,
    scatter,
    split,
)
from sat2map.towns.greens import garden, lot_ground, pitch
from sat2map.towns.look import Look
from sat2map.towns.shapes import Layer, Material, Piece
from sat2map.towns.world import Floats

_HALL_ROOFS = {0: 0.8, 1: 1.4, 2: 0.3, 5: 0.25, 6: 0.4, 7: 0.15}


def downtown(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with tall buildings, some lots with squares and car parks."""
    piece.paint(block, Layer.PARCEL, Material.PAVING, (158, 154, 148))
    if rng.random() < 0.06:
        square(piece, block, look, rng)
        return
    tall = rng.uniform(12, 46)
    for lot in split(block.buffer(-1.0), rng, rng.uniform(700, 1900)):
        chance = rng.random()
        angle = direction(lot)
        if chance < 0.08 and lot.area > 500:
            piece.paint(lot, Layer.SURFACE, Material.ASPHALT, (112, 111, 110))
            parking(piece, lot, angle, rng, 0.7)
            continue
        base = lot.buffer(-rng.uniform(0.2, 2.2), join_style="mitre")
        for part in polygons(base, 90.0):
            outline = shapely.get_coordinates(part.simplify(0.5).exterior)[None, :-1]
            # No towers on slivers of land.
            most = float(np.clip(8 * part.area / part.length, 8, 58))
            height = np.array([np.clip(rng.lognormal(np.log(tall), 0.45), 8, most)])
            colour = roof_colours(look, rng, 1, CITY_ROOFS)
            flat(piece, outline, colour, height, rng)
            if height[0] > 24 and part.area > 500:
                inner = part.buffer(-rng.uniform(3, 6), join_style="mitre")
                for tower in polygons(inner, 120.0):
                    top = shapely.get_coordinates(tower.simplify(0.5).exterior)[None, :-1]
                    piece.paint_many(
                        top, Layer.FACET, Material.FLAT_ROOF, np.clip(colour * 1.15, 0, 235),
                        height=height + rng.uniform(4, 9),
                    )  # fmt: skip
            piece.feature(part, "building", "office", round(float(height[0]), 1))


def square(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Make a block a small city park: lawn, crossing paths and trees."""
    piece.paint(block, Layer.PARCEL, *lot_ground(look, rng))
    piece.feature(block, "park", "square")
    ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(block))[:4]
    ways = [LineString(ring[[0, 2]]), LineString(ring[[1, 3]])]
    for way in ways:
        path = way.intersection(block)
        piece.paint(path.buffer(1.6), Layer.SURFACE, Material.PAVING, (182, 172, 152))
    piece.paint(
        block.centroid.buffer(8).intersection(block), Layer.SURFACE, Material.PAVING,
        (186, 178, 162),
    )  # fmt: skip
    if block.area > 1500 and rng.random() < 0.6:
        basin = block.centroid.buffer(float(rng.uniform(2.5, 4.5)))
        piece.paint(basin, Layer.WATER, Material.WATER, (96, 132, 138))
    rim = block.buffer(-3).exterior if block.buffer(-3).geom_type == "Polygon" else None
    if rim is not None and rim.length > 20:
        places, _ = along_line(LineString(rim), np.arange(4, rim.length - 4, rng.uniform(7, 10)))
        piece.plant(places, rng, radius=(2.8, 5.0))
    piece.plant(scatter(block.buffer(-8), rng, 11.0, 0.5), rng, radius=(2.5, 5.5))


def works(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with halls, yards, tanks and car parks."""
    piece.paint(block, Layer.PARCEL, *lot_ground(look, rng))
    for lot in split(block.buffer(-2.0), rng, rng.uniform(7000, 16000)):
        ground = lot.buffer(-1.2)
        grey = rng.uniform(105, 150)
        piece.paint(ground, Layer.SURFACE, Material.ASPHALT, (grey + 3, grey, grey - 4))
        piece.feature(ground, "other", "industrial")
        angle = direction(lot)
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        box_ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(lot))[:4]
        extent = np.ptp(box_ring @ axes.T, axis=0)
        share = rng.uniform(0.45, 0.72)
        push = rng.choice([-1, 1]) * (1 - share) / 2 * extent[0] * 0.8
        middle = box_ring.mean(0) + axes[0] * push
        hall = Polygon(
            rectangles(middle[None], axes[:1], extent[0] * share, extent[1] * 0.78)[0]
        ).intersection(ground.buffer(-5))
        used = []
        for part in polygons(hall, 250.0):
            outline = shapely.get_coordinates(part.simplify(1.0).exterior)[None, :-1]
            height = float(rng.uniform(7, 13))
            colours = roof_colours(look, rng, 1, _HALL_ROOFS)
            flat(piece, outline, colours, np.array([height]), rng)
            _skylights(piece, part, axes, colours[0], height, rng)
            piece.feature(part, "building", "industrial", round(height, 1))
            used.append(part.buffer(5))
        rest = ground.difference(shapely.union_all(used)) if used else ground
        for part in polygons(rest, 500.0):
            chance = rng.random()
            if chance < 0.62:
                parking(piece, part, angle, rng, rng.uniform(0.25, 0.75))
            elif chance < 0.85:
                _yard(piece, part, axes, rng)
            else:
                _tanks(piece, part, rng)
    edge = block.buffer(-1.0).exterior if block.buffer(-1.0).geom_type == "Polygon" else None
    if edge is not None and edge.length > 40:
        places, _ = along_line(LineString(edge), np.arange(5, edge.length - 5, 9.0))
        keep = rng.random(len(places)) < 0.35 * look.trees
        piece.plant(places[keep], rng, radius=(1.8, 3.6))


def _skylights(
    piece: Piece,
    part: Polygon,
    axes: Floats,
    colour: Floats,
    height: float,
    rng: np.random.Generator,
) -> None:
    spots = lattice(part.buffer(-4), axes, (float(rng.uniform(10, 18)), 7.5))
    if len(spots) and rng.random() < 0.7:
        boxes = rectangles(spots, np.broadcast_to(axes[1], spots.shape), 4.5, 1.3)
        light = 225.0 if colour.mean() < 170 else 150.0
        piece.paint_many(boxes, Layer.TOP, Material.PLAIN, (light,) * 3, height=height + 0.3)


def _yard(piece: Piece, part: Polygon, axes: Floats, rng: np.random.Generator) -> None:
    """Add containers and stacks of material."""
    spots = lattice(part.buffer(-8), axes, (13.5, 4.0))
    spots = spots[rng.random(len(spots)) < 0.4]
    palette = np.array(
        [(150, 70, 55), (70, 95, 130), (190, 190, 186), (95, 120, 95), (176, 140, 80)]
    )
    colours = palette[rng.integers(0, len(palette), len(spots))] * rng.uniform(
        0.85, 1.1, (len(spots), 1)
    )
    boxes = rectangles(spots, np.broadcast_to(axes[0], spots.shape), 12.0, 2.5)
    piece.paint_many(boxes, Layer.SHED, Material.PLAIN, colours, height=2.7)


def _tanks(piece: Piece, part: Polygon, rng: np.random.Generator) -> None:
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = np.column_stack([np.cos(turn), np.sin(turn)])
    inner = part.buffer(-11)
    spots = scatter(inner, rng, 24.0) if not inner.is_empty else np.zeros((0, 2))
    for spot in spots[:6]:
        radius, height = rng.uniform(5, 9), float(rng.uniform(7, 11))
        outline = spot + circle * radius
        piece.paint_many(outline[None], Layer.ROOF, Material.PLAIN, (206, 205, 198), height=height)
        piece.paint_many(
            (spot + circle * radius * 0.9)[None], Layer.FACET, Material.PLAIN, (186, 186, 180),
            height=height,
        )  # fmt: skip
        piece.feature(Polygon(outline), "building", "tank", round(height, 1))


def campus(piece: Piece, block: Polygon, look: Look, rng: np.random.Generator) -> None:
    """Fill a block with school or hospital buildings, a pitch, a car park and trees."""
    piece.paint(block, Layer.PARCEL, *lot_ground(look, rng))
    piece.feature(block.buffer(-0.5), "other", "campus")
    angle = direction(block)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    taken = []
    for lot in split(block.buffer(-5.0), rng, 6500.0):
        chance = rng.random()
        middle = np.array(lot.centroid.coords[0])
        if chance < 0.34:
            pitched_field = pitch(piece, lot, angle, rng, look)
            if pitched_field is not None:
                taken.append(pitched_field)
                continue
        if chance < 0.5:
            ground = lot.buffer(-4)
            piece.paint(ground, Layer.SURFACE, Material.ASPHALT, (108, 107, 106))
            for part in polygons(ground, 300.0):
                parking(piece, part, angle, rng, 0.55)
            taken.append(ground)
            continue
        height = float(rng.integers(2, 6)) * 3.5
        arms = [(rng.uniform(34, 58), rng.uniform(13, 18), 0.0, 0.0)]
        arms += [
            (rng.uniform(11, 15), rng.uniform(26, 44), side * 17.0, 12.0)
            for side in (-1, 1)
            if rng.random() < 0.7
        ]
        colour = roof_colours(look, rng, 1, CITY_ROOFS)
        shapes = []
        for along, across, right, up in arms:
            spot = middle + axes[0] * right + axes[1] * up
            outline = rectangles(spot[None], axes[:1], along, across)
            if not lot.contains(Polygon(outline[0])):
                continue
            flat(piece, outline, colour, np.array([height]), rng)
            shapes.append(Polygon(outline[0]))
        if shapes:
            whole = shapely.union_all(shapes)
            piece.feature(whole, "building", "public", height)
            piece.paint(whole.buffer(4), Layer.SURFACE, Material.PAVING, (164, 158, 148))
            taken.append(whole.buffer(4))
    rest = block.buffer(-2).difference(shapely.union_all(taken)) if taken else block.buffer(-2)
    garden(piece, rest, look, rng, 0.3)
