"""Procedural towns: one set of shapes drawn twice, as an aerial photo and as a map."""

from sat2map.data.synthetic.write import Scene, draw_pair, write_pairs, write_scene

__all__ = ["Scene", "draw_pair", "write_pairs", "write_scene"]
