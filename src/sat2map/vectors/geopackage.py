"""The file of vectors: layers and their columns, and how QGIS shows them.

Layers are streamed from the disk, so that memory does not grow with the scene. `docs/reference/
vectors.md` says what each column means.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.errors import DataError
from sat2map.legend import Legend
from sat2map.provenance import TAG, Provenance
from sat2map.vectors.measures import Measures
from sat2map.vectors.network import RoadLine, RoadNetwork, RoadNode
from sat2map.vectors.store import BATCH, Pieces, Store

Columns = dict[str, Any]
"""Values by column, arrays or lists of equal length; of numbers nan stands for none."""


@dataclass(frozen=True)
class Layer:
    """A layer that is about to be written.

    Attributes:
        name: Its name.
        kind: The type of its geometries.
        types: The types of its columns: "text", "real" or "whole".
        batches: Its rows: geometries in pixels of the scene and columns.
    """

    name: str
    kind: str
    types: dict[str, str]
    batches: Iterator[tuple[NDArray[np.object_], Columns]]


def layers_of(
    store: Store, legend: Legend, network: RoadNetwork, measures: Measures
) -> Iterator[Layer]:
    """Yield the layers of a scene; each is read to its end before the next."""
    area = {"class": "text", "role": "text", "confidence": "real", "area_m2": "real"}
    joint = area | {"part_of": "whole"}
    yield Layer("coverage", "Polygon", joint, _areas(store.pieces(), legend, measures))
    outline = {
        "class": "text",
        "confidence": "real",
        "area_m2": "real",
        "orientation_deg": "real",
        "method": "text",
        "building": "text",
    }
    yield Layer("buildings", "Polygon", outline, _buildings(store, legend, measures))
    wide = "width_m" if network.width_is_true else "drawn_width_m"
    line = {
        "class": "text",
        "confidence": "real",
        "length_m": "real",
        wide: "real",
        "u": "whole",
        "v": "whole",
        "highway": "text",
    }
    yield Layer("roads", "LineString", line, _roads(network, legend, measures, wide))
    yield Layer("road_nodes", "Point", {"node": "whole", "degree": "whole"}, _nodes(network))
    for role, tag in (("water", {"natural": "water"}), ("vegetation", {})):
        batches = _areas(store.areas(legend, role), legend, measures, tag)
        yield Layer(role, "Polygon", joint | dict.fromkeys(tag, "text"), batches)


def _named(pieces: Pieces, legend: Legend) -> list[str]:
    return [legend.names[number] for number in pieces.numbers]


def _areas(
    batches: Iterator[Pieces], legend: Legend, measures: Measures, tag: dict[str, str] | None = None
) -> Iterator[tuple[NDArray[np.object_], Columns]]:
    for pieces in batches:
        columns: Columns = {
            "class": _named(pieces, legend),
            "role": [legend.classes[number].role for number in pieces.numbers],
            "confidence": pieces.confidence,
            "area_m2": measures.areas_m2(pieces.shapes),
            "part_of": pieces.parts,
        }
        for key, value in (tag or {}).items():
            columns[key] = [value] * len(pieces.fids)
        yield pieces.shapes, columns


def _buildings(
    store: Store, legend: Legend, measures: Measures
) -> Iterator[tuple[NDArray[np.object_], Columns]]:
    for pieces in store.pieces(buildings=True):
        yield (
            pieces.shapes,
            {
                "class": _named(pieces, legend),
                "confidence": pieces.confidence,
                "area_m2": measures.areas_m2(pieces.shapes),
                "orientation_deg": pieces.bearings,
                "method": pieces.methods,
                "building": ["yes"] * len(pieces.fids),
            },
        )


def _roads(
    network: RoadNetwork, legend: Legend, measures: Measures, wide: str
) -> Iterator[tuple[NDArray[np.object_], Columns]]:
    for lines in _batched(network.lines):
        shapes = np.array([shapely.LineString(line.points) for line in lines], object)
        yield (
            shapes,
            {
                "class": [legend.names[line.number] for line in lines],
                "confidence": [_real(line.confidence) for line in lines],
                "length_m": measures.lengths_m(shapes),
                wide: [_real(line.width_m) for line in lines],
                "u": [line.u for line in lines],
                "v": [line.v for line in lines],
                "highway": ["road"] * len(lines),
            },
        )


def _nodes(network: RoadNetwork) -> Iterator[tuple[NDArray[np.object_], Columns]]:
    for nodes in _batched(network.nodes):
        shapes = np.array([shapely.Point(node.column, node.row) for node in nodes], object)
        yield (
            shapes,
            {"node": [node.node for node in nodes], "degree": [node.degree for node in nodes]},
        )


def _real(value: float | None) -> float:
    return float("nan") if value is None else value


def _batched(items: Any) -> Iterator[list[Any]]:
    batch: list[RoadLine | RoadNode] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def write_styles(path: Path, legend: Legend) -> None:
    """Fill the table from which QGIS takes how layers are drawn, in the legend's colours."""
    styles = {
        "coverage": _categories(legend, "fill"),
        "buildings": _categories(legend, "fill", roles=("building",)),
        "roads": _categories(legend, "line", roles=("road",)),
        "road_nodes": _single("marker", (60, 60, 60)),
        "water": _categories(legend, "fill", roles=("water",)),
        "vegetation": _categories(legend, "fill", roles=("vegetation",)),
    }
    database = sqlite3.connect(path)
    try:
        with database:
            database.execute(
                # As QGIS makes it; names of types in capitals, as the standard has them.
                "create table layer_styles (id INTEGER primary key autoincrement not null, "
                "f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), "
                "f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, "
                "useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), "
                "update_time DATETIME default (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"
            )
            database.execute(
                "insert into gpkg_contents (table_name, data_type, identifier, description) "
                "values ('layer_styles', 'attributes', 'layer_styles', '')"
            )
            database.executemany(
                "insert into layer_styles (f_table_catalog, f_table_schema, f_table_name, "
                "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, "
                "owner) values ('', '', ?, 'geom', ?, ?, '', 1, '', '')",
                [(name, name, qml) for name, qml in styles.items()],
            )
    finally:
        database.close()


def write_provenance(path: Path, made: Provenance) -> None:
    """Write into a finished file what it was made of, with the fingerprint of its contents.

    It becomes metadata of each layer as GDAL writes it (GeoPackage 1.3, extension
    `gpkg_metadata`). Times that the format asks for are the same in every file, so that the same
    work gives the same bytes.
    """
    told = replace(made, contents=contents_of(path))
    root = Element("GDALMultiDomainMetadata")
    SubElement(SubElement(root, "Metadata"), "MDI", {"key": TAG}).text = told.to_text()
    uri = "http://www.geopackage.org/spec120/#extension_metadata"
    database = sqlite3.connect(path)
    try:
        with database:
            for table in _METADATA:
                database.execute(_METADATA[table])
                database.execute(
                    "insert into gpkg_extensions values "
                    "(?, null, 'gpkg_metadata', ?, 'read-write')",
                    (table, uri),
                )
            database.execute(
                "insert into gpkg_metadata values (1, 'dataset', 'http://gdal.org', 'text/xml', ?)",
                (tostring(root, encoding="unicode"),),
            )
            # Of each layer, not of the file: for that GDAL writes .aux.xml beside it when it reads.
            database.execute(
                "insert into gpkg_metadata_reference select 'table', table_name, null, null, ?, 1, "
                "null from gpkg_contents where data_type = 'features'",
                (_TIME,),
            )
    finally:
        database.close()
    set_times(path)


def set_times(path: Path) -> None:
    """Give a GeoPackage the times of every other, so that the same work gives the same bytes.

    SQLite also counts in a file's header how often it wrote, and GDAL writes once more where two of
    its times differ.
    """
    database = sqlite3.connect(path)
    try:
        with database:
            tables = {name for (name,) in database.execute("select name from sqlite_master")}
            for table, column in _TIMES.items():
                if table in tables:
                    database.execute(f"update {table} set {column} = ?", (_TIME,))
    finally:
        database.close()
    with path.open("r+b") as file:
        for place in _WRITES:
            file.seek(place)
            file.write((1).to_bytes(4, "big"))


_WRITES = (24, 92)
"""Where the header counts, and for which count it is valid (sqlite.org/fileformat.html)."""

_TIMES = {
    "gpkg_contents": "last_change",
    "gpkg_metadata_reference": "timestamp",
    "layer_styles": "update_time",
}
_TIME = "2000-01-01T00:00:00.000Z"

_METADATA = {
    "gpkg_metadata": "create table gpkg_metadata (id INTEGER constraint m_pk primary key not "
    "null, md_scope TEXT not null default 'dataset', md_standard_uri TEXT not null, mime_type "
    "TEXT not null default 'text/xml', metadata TEXT not null default '')",
    "gpkg_metadata_reference": "create table gpkg_metadata_reference (reference_scope TEXT not "
    "null, table_name TEXT, column_name TEXT, row_id_value INTEGER, timestamp DATETIME not null "
    "default (strftime('%Y-%m-%dT%H:%M:%fZ','now')), md_file_id INTEGER not null, md_parent_id "
    "INTEGER, constraint crmr_mfi_fk foreign key (md_file_id) references gpkg_metadata(id), "
    "constraint crmr_mpi_fk foreign key (md_parent_id) references gpkg_metadata(id))",
}
"""The tables of the extension, as the standard defines them."""


def contents_of(path: Path) -> str:
    """Return the fingerprint of all shapes of a GeoPackage and their columns.

    Raises:
        DataError: It cannot be read.
    """
    found = hashlib.blake2b(digest_size=16)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = database.execute(
                "select table_name from gpkg_contents where data_type = 'features' "
                "order by table_name"
            ).fetchall()
            for (table,) in tables:
                rows = database.execute(f'select * from "{table}" order by rowid')
                found.update(repr((table, [name for name, *_ in rows.description])).encode())
                for row in rows:
                    held = [v if isinstance(v, bytes) else repr(v).encode() for v in row]
                    found.update(b"".join([len(h).to_bytes(8, "little") + h for h in held]))
    except sqlite3.Error as error:
        raise DataError(
            f"cannot be read ({error})", where=path, remedy="Restore it, or make it anew."
        ) from error
    return found.hexdigest()


def _document() -> Element:
    return Element("qgis", {"version": "3.28.0", "styleCategories": "Symbology"})


def _text(root: Element) -> str:
    header = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return header + tostring(root, encoding="unicode")


def _categories(legend: Legend, kind: str, roles: tuple[str, ...] = ()) -> str:
    """Return QGIS's style of a layer whose classes have the legend's colours."""
    root = _document()
    renderer = SubElement(
        root,
        "renderer-v2",
        {"type": "categorizedSymbol", "attr": "class", "symbollevels": "0", "enableorderby": "0"},
    )
    categories = SubElement(renderer, "categories")
    symbols = SubElement(renderer, "symbols")
    shown = [entry for entry in legend.classes if not roles or entry.role in roles]
    for number, entry in enumerate(shown):
        SubElement(
            categories,
            "category",
            {"symbol": str(number), "value": entry.name, "label": entry.name, "render": "true"},
        )
        _symbol(symbols, str(number), kind, entry.colour)
    return _text(root)


def _single(kind: str, colour: tuple[int, int, int]) -> str:
    root = _document()
    renderer = SubElement(root, "renderer-v2", {"type": "singleSymbol", "symbollevels": "0"})
    _symbol(SubElement(renderer, "symbols"), "0", kind, colour)
    return _text(root)


def _symbol(parent: Element, name: str, kind: str, colour: tuple[int, int, int]) -> None:
    darker = ",".join(str(value * 3 // 4) for value in colour)
    own = ",".join(map(str, colour))
    layer, facts = {
        "fill": (
            "SimpleFill",
            {
                "color": f"{own},255",
                "style": "solid",
                "outline_color": f"{darker},255",
                "outline_style": "solid",
                "outline_width": "0.1",
                "outline_width_unit": "MM",
            },
        ),
        "line": (
            "SimpleLine",
            {
                "line_color": f"{darker},255",
                "line_style": "solid",
                "line_width": "0.6",
                "line_width_unit": "MM",
                "capstyle": "round",
                "joinstyle": "round",
            },
        ),
        "marker": (
            "SimpleMarker",
            {"color": f"{own},255", "name": "circle", "size": "1", "size_unit": "MM"},
        ),
    }[kind]
    symbol = SubElement(parent, "symbol", {"type": kind, "name": name, "alpha": "1"})
    inner = SubElement(symbol, "layer", {"class": layer, "enabled": "1", "pass": "0"})
    options = SubElement(inner, "Option", {"type": "Map"})
    for key, value in facts.items():
        SubElement(options, "Option", {"type": "QString", "name": key, "value": value})
        SubElement(inner, "prop", {"k": key, "v": value})  # for QGIS before 3.26
