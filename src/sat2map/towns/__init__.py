"""Procedural towns: one set of shapes drawn as an aerial photo, as a map, and as land cover."""

from sat2map.data.synthetic.kinds import KINDS
from sat2map.data.synthetic.write import (
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
