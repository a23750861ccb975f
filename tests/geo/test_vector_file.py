"""What GDAL reads, of every kind of geometry that it knows, is drawn or counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import shapely

pytest.importorskip("pyogrio")

from sat2map.geo.vector_file import as_polygons, read_layers

SQUARE = "0 0,1 0,1 1,0 1,0 0"
CIRCLE = "CIRCULARSTRING(0 0,1 1,2 0,1 -1,0 0)"


def read(tmp_path: Path, *shapes: str) -> tuple[list[shapely.Geometry], list[str]]:
    """Return the shapes and names of what GDAL makes of well-known text."""
    lines = [f'"{text}",{number}' for number, text in enumerate(shapes)]
    (tmp_path / "shapes.csv").write_text("\n".join(["WKT,name", *lines]) + "\n")
    (tmp_path / "shapes.vrt").write_text(
        "<OGRVRTDataSource><OGRVRTLayer name='shapes'><SrcDataSource relativeToVRT='1'>shapes.csv"
        "</SrcDataSource><LayerSRS>EPSG:32633</LayerSRS></OGRVRTLayer></OGRVRTDataSource>"
    )
    bounds = (-10.0, -10.0, 20.0, 20.0)
    (layer,) = read_layers(tmp_path / "shapes.vrt", "EPSG:32633", bounds, frozenset({"name"}))
    return list(layer.geometries), [str(name) for name in layer.columns["name"]]


@pytest.mark.parametrize(
    ("text", "area", "length"),
    [
        (f"POLYGON(({SQUARE}))", 1, 4),
        ("POLYGON Z((0 0 5,1 0 5,1 1 5,0 1 5,0 0 5))", 1, 4),
        ("POLYGON M((0 0 5,1 0 5,1 1 5,0 1 5,0 0 5))", 1, 4),
        ("POLYGON ZM((0 0 5 6,1 0 5 6,1 1 5 6,0 1 5 6,0 0 5 6))", 1, 4),
        (f"MULTIPOLYGON((({SQUARE})),((5 5,6 5,6 6,5 6,5 5)))", 2, 8),
        (f"CURVEPOLYGON({CIRCLE})", 3.1416, 6.2832),
        (f"MULTISURFACE(CURVEPOLYGON({CIRCLE}),((5 5,6 5,6 6,5 6,5 5)))", 4.1416, 10.2832),
        ("COMPOUNDCURVE(CIRCULARSTRING(0 0,1 1,2 0),(2 0,3 0))", 0, 4.1416),
        ("MULTICURVE((0 0,1 0),CIRCULARSTRING(0 0,1 1,2 0))", 0, 4.1416),
        ("LINESTRING Z(0 0 1,3 4 1)", 0, 5),
        ("MULTILINESTRING((0 0,3 4),(5 5,5 6))", 0, 6),
        ("TRIANGLE((0 0,1 0,1 1,0 0))", 0.5, 3.4142),
        ("TIN Z(((0 0 1,1 0 1,1 1 1,0 0 1)),((4 4 1,5 4 1,5 5 1,4 4 1)))", 1, 6.8284),
        ("POLYHEDRALSURFACE Z(((0 0 1,1 0 1,1 1 1,0 1 1,0 0 1)))", 1, 4),
    ],
)  # fmt: skip
def test_every_kind_is_read(
    tmp_path: Path,
    text: str,
    area: float,
    length: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (shape,), _ = read(tmp_path, text)
    assert shape.geom_type in {"Polygon", "MultiPolygon", "LineString", "MultiLineString"}
    assert not shape.has_z
    assert shape.area == pytest.approx(area, abs=1e-2)
    assert shape.length == pytest.approx(length, abs=1e-2)
    assert not caplog.messages


def test_a_collection_is_its_areas_and_its_lines(tmp_path: Path) -> None:
    inner = f"GEOMETRYCOLLECTION(POLYGON(({SQUARE})),LINESTRING(0 0,3 4),POINT(9 9))"
    text = f"GEOMETRYCOLLECTION(MULTIPOLYGON(((5 5,6 5,6 6,5 6,5 5))),{inner})"
    shapes, names = read(tmp_path, "LINESTRING(0 0,1 0)", text, "POINT(3 3)")
    assert [shape.geom_type for shape in shapes] == [
        *("LineString", "MultiPolygon", "MultiLineString", "Point"),
    ]
    assert names == ["0", "1", "1", "2"]
    assert shapes[1].area == pytest.approx(2)
    assert shapes[2].length == pytest.approx(5)


def test_features_without_a_shape_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shapes, names = read(tmp_path, "", f"POLYGON(({SQUARE}))", "POLYGON EMPTY")
    assert names == ["1"]
    assert len(shapes) == 1
    (line,) = caplog.messages
    assert "2 of 3 features have no shape" in line


@pytest.mark.parametrize("order", ["little", "big"])
def test_surfaces_in_either_byte_order(order: str) -> None:
    polygon = shapely.to_wkb(shapely.box(0, 0, 1, 1), byte_order=order == "little")
    flag, size = polygon[:1], len(polygon)
    head = flag + (16).to_bytes(4, order) + (2).to_bytes(4, order)  # type: ignore[arg-type]
    found = shapely.from_wkb(as_polygons(head + polygon + polygon))
    assert found.geom_type == "MultiPolygon"
    assert [part.area for part in found.geoms] == [1, 1]
    assert as_polygons(polygon) == polygon
    assert size == len(as_polygons(polygon) or b"")
    assert as_polygons(None) is None
