"""The road network of a GeoPackage as a graph of networkx, to route on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import shapely

from sat2map.errors import DataError, MissingExtraError
from sat2map.geo.vector_layer import unreadable

if TYPE_CHECKING:
    import networkx

_REMEDY = "Give a GeoPackage of `sat2map vectors`, with the layers roads and road_nodes."


def road_graph(path: Path) -> networkx.MultiGraph[int]:
    """Return the roads of a GeoPackage as an undirected graph, in which two may be parallel.

    Nodes are the numbers of the layer `road_nodes`, with `x` and `y` in the file's coordinates.
    Edges have the columns of the layer `roads` as attributes, such as `length_m`, and the line as
    `geometry`. So the shortest way is
    `networkx.shortest_path(graph, 3, 17, weight="length_m")`.

    Args:
        path: A GeoPackage with the layers `roads` and `road_nodes`.

    Raises:
        DataError: It cannot be read, or has no road network.
        MissingExtraError: networkx or pyogrio is not installed.
    """
    for package in ("networkx", "pyogrio"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "vectors")
    import networkx
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    graph: networkx.MultiGraph[int] = networkx.MultiGraph()
    if not path.exists():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    try:
        for layer in ("road_nodes", "roads"):
            meta, _, wkb, values = pyogrio.raw.read(path, layer=layer)
            columns = dict(zip(map(str, meta["fields"]), values, strict=True))
            needed = {"road_nodes": {"node"}, "roads": {"u", "v"}}[layer]
            if not needed <= columns.keys():
                raise DataError(
                    f"the layer {layer!r} has no column {sorted(needed - columns.keys())[0]!r}",
                    where=path,
                    remedy=_REMEDY,
                )
            rows = [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
            for row, geometry in zip(rows, shapely.from_wkb(wkb), strict=True):
                if layer == "road_nodes":
                    graph.add_node(int(row.pop("node")), x=geometry.x, y=geometry.y, **row)
                else:
                    graph.add_edge(int(row["u"]), int(row["v"]), geometry=geometry, **row)
    except DataLayerError as error:
        raise DataError("has no road network", where=path, remedy=_REMEDY) from error
    except DataSourceError as error:
        raise unreadable(path, error) from error
    return graph
