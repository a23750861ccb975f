"""From a class map to vectors: one valid coverage, buildings, roads that one can route on.

    class_map.py   a class map of any size, read window by window
    network.py     what a road network consists of, before it is written

Coordinates within the room are pixels, (column, row) from the upper left corner of the scene's
first pixel, float64. They become the scene's own coordinates where they are written. Metres and
square metres are taken on the ellipsoid.
"""
