"""Styles: what is read, what is refused, and how one builds on another."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sat2map.errors import DataError, UsageError
from sat2map.legend import STREETS
from sat2map.style.expressions import View
from sat2map.style.spec import read_style, shipped_styles, style_entries
from sat2map.style.style import Style

SMALL: dict[str, Any] = {
    "version": 8,
    "name": "small",
    "metadata": {
        "sat2map:legend": [
            {"name": "land", "colour": [200, 200, 200]},
            {"name": "road", "colour": [255, 255, 255], "road": True},
        ],
        "sat2map:classes": {"road": ["has", "highway"]},
    },
    "layers": [
        {
            "id": "land",
            "type": "background",
            "metadata": {"sat2map:class": "land"},
            "paint": {"background-color": "#c8c8c8"},
        },
        {
            "id": "road",
            "type": "line",
            "metadata": {"sat2map:class": "road"},
            "filter": ["==", ["get", "class"], "road"],
            "paint": {"line-color": "#ffffff", "line-width": ["to-number", ["get", "width"], 3]},
        },
    ],
}


def read(tmp_path: Path, change: dict[str, Any] | None = None, **road: Any) -> Style:
    style = copy.deepcopy(SMALL) | (change or {})
    style["layers"][-1].update(road)
    path = tmp_path / "own.json"
    path.write_text(json.dumps(style), encoding="utf-8")
    return read_style(path)


def test_the_shipped_styles_are_valid_and_streets_has_the_house_legend() -> None:
    assert shipped_styles() == ["houses", "landcover", "osm", "streets"]
    for name in shipped_styles():
        style = read_style(name)
        assert style.name == name
        # Whatever the legend names is drawn.
        assert {layer.class_number for layer in style.layers} - {None} == set(
            range(len(style.legend))
        )
    assert read_style("streets").legend == STREETS


@pytest.mark.parametrize("name", ["streets", "houses", "osm", "landcover"])
def test_solid_layers_have_the_colours_of_the_legend(name: str) -> None:
    style = read_style(name)
    for layer in style.layers:
        key = f"{layer.kind}-color"
        if layer.class_number is None or not layer.properties[key].constant or "path" in layer.name:
            continue
        colour = layer.value(key, View({}, "Polygon", 1.0))
        if layer.name in {"rail", "rail-area"} and name == "streets":
            assert style.legend.names[layer.class_number] == "other"
            continue
        assert colour[:3] == style.legend.classes[layer.class_number].colour, layer.name


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"building": "yes"}, "building"),
        ({"building": "no"}, None),
        ({"highway": "residential"}, "road"),
        ({"highway": "primary"}, "main_road"),
        ({"highway": "motorway"}, "highway"),
        ({"highway": "motorway_link"}, "main_road"),
        ({"highway": "footway"}, "path"),
        ({"natural": "water"}, "water"),
        ({"leisure": "park"}, "park"),
        ({"railway": "rail"}, "rail"),
        ({"fclass": "primary"}, "main_road"),  # shapefiles of Geofabrik
        ({"class": "water", "building": "yes"}, "water"),
        ({"name": "Nowhere"}, None),
    ],
)
def test_streets_knows_the_tags_of_openstreetmap(
    tags: dict[str, str], expected: str | None
) -> None:
    assert read_style("streets").class_of(tags, "Polygon") == expected


def test_a_few_lines_map_another_schema(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    classes = {"water": ["==", ["get", "Niveau_3"], "Hydro"]}
    metadata = {"sat2map:base": "streets", "sat2map:classes": classes}
    layer = {"id": "water", "paint": {"fill-color": "#0000ff"}}
    top = {"id": "mine", "type": "line", "metadata": {"sat2map:below": "building"}}
    path.write_text(json.dumps({"version": 8, "metadata": metadata, "layers": [layer, top]}))
    style = read_style(path)
    assert style.class_of({"Niveau_3": "Hydro"}, "Polygon") == "water"
    assert style.class_of({"natural": "water"}, "Polygon") == "water"  # the base's rule stays
    assert style.legend == STREETS
    names = [layer.name for layer in style.layers]
    assert names.index("mine") == names.index("building") - 1
    water = style.layers[names.index("water")]
    assert water.value("fill-color", View({}, "Polygon", 1.0)) == (0, 0, 255, 1)
    assert "Niveau_3" in style.columns


@pytest.mark.parametrize(
    ("road", "message"),
    [
        ({"paint": {"line-blur": 2}}, "layer 'road': the property 'line-blur' is not supported"),
        ({"paint": {"line-width": ["foo", 1]}}, "layer 'road': line-width: .*'foo'"),
        ({"filter": ["==", "class", "road"]}, "layer 'road': filter: .*old styles"),
        ({"type": "symbol"}, "layer 'road': the type 'symbol' is not supported"),
        ({"ref": "x"}, "layer 'road': unknown key 'ref'"),
        ({"layout": {"line-cap": "pointed"}}, "layer 'road': line-cap is 'pointed'"),
        ({"metadata": {"sat2map:class": "rode"}}, "layer 'road': .*'rode'; the legend has"),
        ({"id": "land"}, "layer 2 has no id of its own"),
        ({"minzoom": "low"}, "layer 'road': minzoom"),
        ({"type": ["line"]}, "layer 'road': the type \\['line'\\] is not supported"),
        (
            {"paint": {"line-color": "rgba(1,2,3,1.2.3)"}},
            "layer 'road': line-color: .*not a colour",
        ),
        ({"paint": {"line-width": 10**400}}, "layer 'road': line-width: .*is not a number"),
    ],
)
def test_what_is_not_supported_names_the_layer_and_the_key(
    tmp_path: Path, road: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=rf"own\.json: {message}"):
        read(tmp_path, **road)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 7}, "version is 7"),
        ({"colours": {}}, "unknown key 'colours'"),
        ({"metadata": {}}, "no 'sat2map:legend'"),
        ({"layers": "none"}, "no list of layers"),
    ],
)
def test_a_broken_style_is_said(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(SMALL | change), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_style(path)


@pytest.mark.parametrize("layers", [None, "none", [1], [None], {"id": "road"}])
def test_a_broken_base_is_said(tmp_path: Path, layers: object) -> None:
    over = {"version": 8, "metadata": {"sat2map:base": "base.json"}, "layers": [{"id": "road"}]}
    for name, entries in (
        ("base.json", SMALL | {"layers": layers}),
        ("own.json", over | {"layers": layers}),
    ):
        (tmp_path / "base.json").write_text(json.dumps(SMALL))
        (tmp_path / "own.json").write_text(json.dumps(over))
        (tmp_path / name).write_text(json.dumps(entries))
        with pytest.raises(UsageError, match=rf"{name}: its layers are not a list of objects"):
            read_style(tmp_path / "own.json")


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    text = json.dumps(SMALL).replace('"version"', '"zoom": NaN, "version"')
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(UsageError, match=r"not valid JSON \(NaN is not a number\)"):
        read_style(tmp_path / "own.json")


def test_a_missing_style_names_those_that_are_shipped(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="houses, landcover, osm, streets"):
        read_style(tmp_path / "none.json")
    (tmp_path / "own.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        read_style(tmp_path / "own.json")
    (tmp_path / "own.json").write_text('{"metadata": {"sat2map:base": "own.json"}}')
    with pytest.raises(UsageError, match="its own base"):
        read_style(tmp_path / "own.json")


def test_a_value_of_no_use_names_the_layer_and_the_key(tmp_path: Path) -> None:
    style = read(tmp_path, paint={"line-width": ["get", "width"]})
    with pytest.raises(DataError, match="line-width of the style's layer 'road': '6 m'"):
        style.layers[1].value("line-width", View({"width": "6 m"}, "LineString", 1.0))


def test_a_style_is_read_without_what_draws() -> None:
    code = (
        "from sat2map.style.spec import read_style; read_style('streets').legend\n"
        "import sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"rasterio", "pyogrio", "shapely", "torch"} & set(done.stdout.split()) == set()


def test_a_style_nested_without_end_is_one_line(tmp_path: Path) -> None:
    deep = '["!",' * 100_000 + "true" + "]" * 100_000
    (tmp_path / "deep.json").write_text('{"version": 8, "layers": ' + deep + "}")
    with pytest.raises(UsageError, match=r"deep\.json: is nested too deeply"):
        read_style(tmp_path / "deep.json")


@pytest.mark.parametrize("depth", [100, 400, 900, 3000])
def test_a_style_nested_without_end_is_refused(tmp_path: Path, depth: int) -> None:
    entries = style_entries("streets")
    entries["layers"][1]["filter"] = "HERE"
    nested = '["!",' * depth + '["has", "x"]' + "]" * depth
    path = tmp_path / "deep.json"
    path.write_text(json.dumps(entries).replace('"HERE"', nested))
    with pytest.raises(UsageError, match=r"deep\.json: .*nested (more than 64 deep|too deeply)"):
        read_style(path)


def test_styles_upon_styles_without_end_are_refused(tmp_path: Path) -> None:
    for number in range(50):
        entries = {"version": 8, "metadata": {"sat2map:base": f"{number + 1}.json"}, "layers": []}
        (tmp_path / f"{number}.json").write_text(json.dumps(entries))
    with pytest.raises(UsageError, match="builds on more than 16 styles"):
        read_style(tmp_path / "0.json")
