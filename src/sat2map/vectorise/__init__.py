"""From a class map to vectors: one valid coverage, buildings, roads that one can route on.

    class_map.py   a class map of any size, read window by window
    network.py     what a road network consists of, before it is written
    roads.py       the road network of a class map, from
    centre_lines.py  the centre lines, sheet by sheet, put together to
    road_graph.py    a graph, from which is removed what a rough edge leaves

Coordinates within the room are pixels, (column, row) from the upper left corner of the scene's
first pixel, float64. They become the scene's own coordinates where they are written. Metres and
square metres are taken on the ellipsoid.
"""
