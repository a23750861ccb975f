"""Vectors as other Python libraries have them: GeoDataFrames, and a graph to route on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import shapely

from sat2map.errors import DataError, UsageError
from sat2map.geo.vector_layer import require, unreadable
from sat2map.vectors.formats import LayerName

if TYPE_CHECKING:
    import geopandas
    import networkx

_REMEDY = "Give a GeoPackage of `sat2map vectors`, with the layers roads and road_nodes."


def read_vectors(path: str | Path, layer: LayerName | None = None) -> geopandas.GeoDataFrame:
    """Return a layer of a file that `vectorise` wrote, with the file's coordinates.

    Args:
        path: The file.
        layer: Which layer; None where the file has one.

    Raises:
        DataError: It cannot be read, or has no such layer.
        UsageError: No layer is named, and the file has several.
        MissingExtraError: geopandas or pyogrio is not installed.
    """
    path = Path(path)
    for package in ("geopandas", "pyogrio", "pyarrow"):
        require(package, "vectors")
    import geopandas
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if not path.exists():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    try:
        if path.suffix.lower() == ".parquet":
            return geopandas.read_parquet(path)
        named = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if layer is None and len(named) > 1:
            raise UsageError(
                f"{path} has several layers",
                parameter="layer",
                remedy=f"Choose one of {', '.join(named)}.",
            )
        return pyogrio.read_dataframe(path, layer=layer or named[0], use_arrow=True)
    except DataLayerError as error:
        remedy = f"It has {', '.join(named)}."
        raise DataError(f"has no layer {layer!r}", where=path, remedy=remedy) from error
    except (DataSourceError, OSError, ValueError) as error:
        raise unreadable(path, error) from error


def road_graph(path: str | Path) -> networkx.MultiGraph[int]:
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
    path = Path(path)
    for package in ("networkx", "pyogrio"):
        require(package, "vectors")
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
