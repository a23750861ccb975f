"""From a class map to vectors: one valid coverage, buildings, roads that one can route on.

    class_map.py    a class map of any size, read window by window
    sieve.py        islands that are too small go to their neighbours
    arcs.py         the borders between classes, as lines
    houses.py       blocks of buildings, split at their necks
    buildings.py    outlines of buildings, squared block by block
    walls.py        where the walls of a block are
    coverage.py     both together: polygons without gaps, sheet by sheet
    centre_lines.py, road_graph.py, road_gaps.py, roads.py    the road network
    store.py        what is found, on the disk
    measures.py     metres and square metres on the ellipsoid
    geopackage.py   the layers, their columns, and QGIS's styles
    formats.py      the kinds of files, and coordinates other than the scene's
    vector_tiles.py a map for the web
    vectorise.py    all of it, in order
    routing.py      the road network of a file, for networkx
    report.py       what a class map holds, in numbers

Coordinates within the room are pixels, (column, row) from the upper left corner of the scene's
first pixel, float64. They become the scene's own coordinates where they are written.
"""
