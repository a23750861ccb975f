"""What a server tells of its scenes: TileJSON, WMTS, legends, and pages without scripts."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sat2map.geo.grid import Bounds
from sat2map.geo.web_mercator import world_m
from sat2map.legend import Legend
from sat2map.raster.pyramid import HIGHEST, SIDE
from sat2map.serve.open_scene import LayerName, OpenScene

if TYPE_CHECKING:
    from jinja2 import Template

PIXEL_M = 0.00028
"""The side of a pixel by which WMTS tells scales, in metres (OGC 07-057r7)."""

FINER = 2
"""How many zooms beyond a scene's own resolution are offered by WMTS."""


def layers_without_numbers(scene: OpenScene) -> list[LayerName]:
    """Return the layers that are images for people's eyes."""
    return [layer for layer in scene.layers if layer not in ("numbers", "vectors")]


def tile_address(
    base: str, id: str, layer: LayerName, place: str, token: str | None, style: str | None = None
) -> str:
    """Return the address of the tiles of a layer.

    Args:
        base: The server's own address, without a slash at its end.
        id: The scene's.
        layer: The layer.
        place: What stands for a tile, such as {z}/{x}/{y}.png.
        token: What is added to the query, if anything.
        style: The colours that are asked for, if any.
    """
    told = {"style": style, "token": token}
    query = "&".join(f"{k}={quote(v, safe='{}')}" for k, v in told.items() if v is not None)
    return f"{base}/scenes/{id}/{layer}/{place}{'?' if query else ''}{query}"


def tile_json(
    scene: OpenScene,
    name: str,
    layer: LayerName,
    address: str,
    attribution: str | None,
) -> dict[str, Any]:
    """Return a layer as TileJSON 3.0.0.

    Args:
        scene: The scene.
        name: What people call it.
        layer: The layer.
        address: Of its tiles, with {z}, {x} and {y}.
        attribution: Plain text; readers take it for HTML, so it is made harmless.
    """
    west, south, east, north = upright(scene.bounds)
    pyramid = scene.pyramid
    told = {
        "tilejson": "3.0.0",
        "name": html.escape(f"{name}: {layer}"),
        "scheme": "xyz",
        "tiles": [address],
        "bounds": [west, south, east, north],
        "center": [(west + east) / 2, (south + north) / 2, pyramid.lowest],
        "minzoom": pyramid.lowest,
        "maxzoom": scene.highest(layer),
    }
    if scene.archive is not None and attribution is None:
        attribution = scene.archive.attribution
    return told if attribution is None else told | {"attribution": html.escape(attribution)}


def upright(bounds: Bounds) -> Bounds:
    """Return bounds whose west is no greater than their east.

    Those that cross the antimeridian become those of all longitudes.
    """
    west, south, east, north = bounds
    return bounds if west <= east else (-180.0, south, 180.0, north)


def legend_json(legend: Legend | None) -> dict[str, Any]:
    """Return what the numbers of a layer mean and which colours they have."""
    classes = () if legend is None else legend.classes
    return {
        "classes": [
            {
                "number": number,
                "name": entry.name,
                "colour": "#{:02x}{:02x}{:02x}".format(*entry.colour),
                "role": entry.role,
            }
            for number, entry in enumerate(classes)
        ],
        "nodata": 255,
    }


def capabilities(
    scene: OpenScene, id: str, name: str, base: str, token: str | None, attribution: str | None
) -> str:
    """Return a scene's layers as WMTS 1.0.0 describes them, RESTful, in WebMercatorQuad."""
    widest = world_m() / SIDE
    finest = max(scene.highest(layer) for layer in scene.layers)
    zooms = range(min(finest + FINER, HIGHEST) + 1)
    return _template("capabilities.xml.jinja").render(
        name=name,
        attribution=attribution,
        bounds=upright(scene.bounds),
        layers=[
            {
                "id": layer,
                "styles": list(scene.styles_of(layer)),
                "address": tile_address(
                    base,
                    id,
                    layer,
                    "{TileMatrix}/{TileCol}/{TileRow}.png",
                    token,
                    "{Style}" if scene.styles_of(layer) else None,
                ),
            }
            for layer in layers_without_numbers(scene)
        ],
        corner=world_m() / 2,
        matrices=[
            {"zoom": z, "scale": repr(widest / 2**z / PIXEL_M), "count": 2**z} for z in zooms
        ],
        own=f"{base}/scenes/{id}/WMTSCapabilities.xml",
    )


def scenes_page(scenes: Sequence[dict[str, Any]], base: str, *, has_page: bool) -> str:
    """Return a page that lists scenes and their addresses."""
    return _template("scenes.html.jinja").render(scenes=scenes, base=base, has_page=has_page)


def endpoints_page(schema: dict[str, Any]) -> str:
    """Return a page of the endpoints of an OpenAPI schema."""
    return _template("endpoints.html.jinja").render(schema=schema)


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    # What stands in a template is for HTML or XML, which escape alike.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = files("sat2map.serve").joinpath(name).read_text(encoding="utf-8")
    return environment.from_string(text)
