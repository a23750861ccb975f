"""Procedural towns: one set of shapes drawn as an aerial photo, as a map, and as land cover."""

from sat2map.towns.kinds import KINDS
from sat2map.towns.write import (
    RESOLUTIONS_M,
    Scene,
    Town,
    draw_pair,
    draw_town,
    write_pairs,
    write_scene,
)

__all__ = [
    "KINDS",
    "RESOLUTIONS_M",
    "Scene",
    "Town",
    "draw_pair",
    "draw_town",
    "write_pairs",
    "write_scene",
]
