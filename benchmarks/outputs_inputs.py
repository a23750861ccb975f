"""What `outputs.py` gives to sat2map: a small town, drawn here, in all the forms that it reads.

Nothing of sat2map is used, so the inputs stay the same whatever becomes of it: a change of its
own procedural towns changes no other output. Each input is made when it is first asked for.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from outputs_town import (
    EAST,
    HEIGHT,
    LEGEND,
    NORTH,
    ROADS,
    UTM,
    WIDTH,
    Photo,
    Shape,
    drawn,
    in_degrees,
    photographed,
    town,
)

COMPACT = """
[data]
size = 64
resize = "none"
scales = [0.78, 2.6]
weather = 0.5

[generator]
name = "compact"
head = "legend"
channels = [8, 16, 24]
blocks = [1, 1, 1, 1, 1]

[objective]
adversarial_weight = 0.0
l1_weight = 0.0
class_weight = 1.0
road_dice_weight = 0.5
road_cldice_weight = 0.3

[optimiser]
name = "adamw"
learning_rate = 5e-3
beta1 = 0.9
weight_decay = 0.02
clip_norm = 1.0

[schedule]
name = "cosine"
warmup_steps = 100

[training]
epochs = 40
batch = 2
channels_last = true
ema_decay = 0.995

[validation]
metric = "road_cldice"
"""


class Inputs:
    """The inputs by name, each the path of a file or folder within `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    @functools.cached_property
    def shapes(self) -> dict[str, list[Shape]]:
        """The town."""
        return town(np.random.default_rng(7))

    @functools.cached_property
    def classes(self) -> NDArray[np.uint8]:
        """Its true class numbers [H,W]."""
        return drawn(self.shapes)

    @functools.cached_property
    def photo(self) -> Photo:
        """Its photo [H,W,3]."""
        return photographed(self.classes, np.random.default_rng(8))

    def write(
        self,
        name: str,
        pixels: NDArray[Any],
        *,
        left: float = 0,
        top: float = 0,
        metre: float = 1,
        place: Affine | None = None,
        crs: CRS = UTM,
        **more: Any,
    ) -> Path:
        """Write a GeoTIFF of pixels [H,W,C] that lie so many metres right and below the town's."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        place = place or Affine(metre, 0, EAST + left, 0, -metre, NORTH - top)
        height, width, count = pixels.shape
        shape = {"height": height, "width": width, "count": count, "dtype": pixels.dtype}
        with rasterio.open(
            path, "w", driver="GTiff", crs=crs, transform=place, compress="deflate", **shape, **more
        ) as file:
            file.write(np.moveaxis(pixels, 2, 0))
        return path

    @functools.cached_property
    def scene(self) -> Path:
        """The whole town, RGB."""
        return self.write("scene.tif", self.photo, tiled=True)

    @functools.cached_property
    def small(self) -> Path:
        """A part of it that is one window."""
        return self.write("small.tif", self.photo[300:700, 200:720], left=200, top=300)

    @functools.cached_property
    def nodata(self) -> Path:
        """A part with an empty corner, told by a nodata value."""
        pixels = self.photo[:420, :500].clip(1)
        pixels[np.add.outer(np.arange(420), np.arange(500)) < 260] = 0
        return self.write("nodata.tif", pixels, nodata=0)

    @functools.cached_property
    def alpha(self) -> Path:
        """A part with an alpha band that hides a disc."""
        y, x = np.ogrid[:360, :400]
        shown = np.where((y - 150) ** 2 + (x - 220) ** 2 < 90**2, 0, 255).astype(np.uint8)
        path = self.write("alpha.tif", np.dstack([self.photo[400:760, 500:900], shown]))
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [
                *(ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
            ]
        return path

    @functools.cached_property
    def deep(self) -> Path:
        """A part of four uint16 bands, blue, green, red and near infrared, that do not say so."""
        part = self.photo[200:620, 300:700].astype(np.uint16)
        near = np.where(self.classes[200:620, 300:700] == 3, 3000, 900).astype(np.uint16)
        pixels = np.dstack([part[..., ::-1] * 9 + 300, near])
        pixels[:60, :80] = 0
        return self.write("deep.tif", pixels, nodata=0)

    @functools.cached_property
    def palette(self) -> Path:
        """A part of palette colours."""
        picture = Image.fromarray(self.photo[:300, :320]).quantize(64, dither=Image.Dither.NONE)
        path = self.write("palette.tif", np.asarray(picture)[..., None], photometric="palette")
        colours = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {i: (*map(int, c), 255) for i, c in enumerate(colours)})
        return path

    @functools.cached_property
    def degrees(self) -> Path:
        """A part in degrees, whose pixels are not square on the ground."""
        place = Affine(1.3e-5, 0, 13.4, 0, -0.9e-5, 52.52)
        pixels = self.photo[:330, :410]
        return self.write("degrees.tif", pixels, place=place, crs=CRS.from_epsg(4326))

    @functools.cached_property
    def fine(self) -> Path:
        """A part of 0.3 m per pixel, finer than the shipped model knows."""
        picture = Image.fromarray(self.photo[500:700, 600:840]).resize((800, 667))
        return self.write("fine.tif", np.asarray(picture), left=600, top=500, metre=0.3)

    @functools.cached_property
    def world(self) -> Path:
        """A PNG with a world file."""
        path = self.folder / "world" / "photo.png"
        path.parent.mkdir()
        Image.fromarray(self.photo[100:400, 100:430]).save(path)
        numbers = (1.0, 0, 0, -1.0, EAST + 100.5, NORTH - 100.5)
        path.with_suffix(".pgw").write_text("".join(f"{number}\n" for number in numbers))
        return path

    @functools.cached_property
    def vrt(self) -> Path:
        """A virtual raster of the small scene."""
        path = self.folder / "virtual.vrt"
        rasterio.shutil.copy(self.small, path, driver="VRT")
        return path

    @functools.cached_property
    def scenes(self) -> Path:
        """A folder of adjoining scenes: overlaps, a gap, an empty strip, one of 2 m."""
        parts = {"a": (0, 0), "b": (0, 380), "c": (350, 0)}
        for name, (top, left) in parts.items():
            pixels = self.photo[top : top + 400, left : left + 400].clip(1)
            pixels = (pixels * (1 + 0.05 * len(name + str(top)))).clip(1, 255).astype(np.uint8)
            pixels[:, -30:] = 0
            self.write(f"scenes/{name}.tif", pixels, left=left, top=top, nodata=0)
        coarse = Image.fromarray(self.photo[420:760, 420:760]).resize(
            (170, 170), Image.Resampling.BOX
        )
        pixels = np.asarray(coarse).clip(1)
        self.write("scenes/d.tif", pixels, left=420, top=420, metre=2, nodata=0)
        return self.folder / "scenes"

    @functools.cached_property
    def tree(self) -> Path:
        """A folder of {z}/{x}/{y}.png of two zooms; a tile is missing, one is half transparent."""
        folder = self.folder / "tree"
        for zoom, x0, y0, factor in ((17, 70414, 42986, 1), (16, 35207, 21493, 2)):
            size = (768 // factor, 512 // factor)
            picture = Image.fromarray(self.photo[:512, :768]).resize(size, Image.Resampling.BOX)
            for x in range(0, size[0], 256):
                for y in range(0, size[1], 256):
                    if (zoom, x, y) == (17, 512, 256):
                        continue
                    tile = Image.new("RGBA" if (zoom, x, y) == (17, 0, 256) else "RGB", (256, 256))
                    tile.paste(picture.crop((x, y, min(x + 256, size[0]), y + 256)))
                    if tile.mode == "RGBA":
                        tile.putalpha(Image.linear_gradient("L").point(lambda v: 255 * (v > 90)))
                    path = folder / f"{zoom}/{x0 + x // 256}/{y0 + y // 256}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    tile.save(path)
        return folder

    @functools.cached_property
    def picture(self) -> Path:
        """A picture without coordinates, of an odd size."""
        path = self.folder / "picture.png"
        Image.fromarray(self.photo[500:801, 300:655]).save(path)
        return path

    @functools.cached_property
    def pictures(self) -> Path:
        """A folder of pictures of all kinds, a scene among them."""
        folder = self.folder / "pictures"
        folder.mkdir()
        part = Image.fromarray(self.photo[:200, :260])
        part.save(folder / "plain.png")
        turned = Image.Exif()
        turned[0x0112] = 6  # orientation: turn it to the right
        part.crop((20, 10, 200, 150)).save(folder / "turned.jpg", quality=92, exif=turned)
        part.convert("L").crop((0, 0, 130, 90)).save(folder / "grey.webp", lossless=True)
        part.quantize(32, dither=Image.Dither.NONE).save(folder / "palette.png")
        clear = part.convert("RGBA").crop((0, 0, 100, 120))
        clear.putalpha(Image.linear_gradient("L").resize(clear.size))
        clear.save(folder / "clear.png")
        self.write("pictures/placed.tif", self.photo[50:230, 40:260], left=40, top=50)
        return folder

    @functools.cached_property
    def broken(self) -> Path:
        """A folder in which one of two pictures is none."""
        folder = self.folder / "broken"
        folder.mkdir()
        (folder / "none.png").write_bytes(b"\x89PNG\r\n\x1a\n that is all")
        Image.fromarray(self.photo[:64, :80]).save(folder / "sound.png")
        return folder

    @functools.cached_property
    def mask(self) -> Path:
        """Two polygons in degrees, one with a hole."""
        first = shapely.Point(400, 400).buffer(280).difference(shapely.box(300, 350, 420, 480))
        return self.geojson("mask.geojson", [(first, {}), (shapely.box(900, 700, 1250, 1000), {})])

    @functools.cached_property
    def colours(self) -> Path:
        """Colours of some classes."""
        path = self.folder / "colours.json"
        path.write_text(json.dumps({"road": "#ff0000", "water": [1, 2, 3]}))
        return path

    @functools.cached_property
    def own_style(self) -> Path:
        """A style over a shipped one: own classes, casings, dashes, expressions."""
        path = self.folder / "own.json"
        bridge: dict[str, Any] = {
            "id": "dashes",
            "type": "line",
            "metadata": {"sat2map:class": "park", "sat2map:below": "road-casing"},
            "filter": ["==", ["get", "class"], "rails"],
            "layout": {"line-cap": "square", "line-join": "bevel"},
            "paint": {
                "line-color": "hsl(120, 60%, 40%)",
                "line-width": ["max", 1, ["metres", 3]],
                "line-dasharray": [2, 1],
                "line-opacity": ["interpolate", ["linear"], ["zoom"], 14, 0.2, 18, 0.9],
            },
        }
        style = {
            "version": 8,
            "name": "own",
            "metadata": {
                "sat2map:base": "streets",
                "sat2map:classes": {"rails": ["==", ["get", "railway"], "rail"]},
            },
            "layers": [{"id": "building", "paint": {"fill-outline-color": "#8f8f8f"}}, bridge],
        }
        path.write_text(json.dumps(style))
        return path

    @functools.cached_property
    def vectors(self) -> Path:
        """The town as a GeoPackage with the tags of OpenStreetMap: areas and lines in degrees."""
        path = self.folder / "town.gpkg"
        keys = sorted({key for found in self.shapes.values() for _, tags in found for key in tags})
        for layer, kind in (("areas", "Polygon"), ("lines", "LineString")):
            chosen = [
                (in_degrees(shape), tags)
                for found in self.shapes.values()
                for shape, tags in found
                if (shape.geom_type == "LineString") == (layer == "lines")
            ]
            pyogrio.raw.write(
                path,
                geometry=shapely.to_wkb(np.array([shape for shape, _ in chosen], object)),
                fields=keys,
                field_data=[np.array([t.get(k) for _, t in chosen], object) for k in keys],
                layer=layer,
                driver="GPKG",
                geometry_type=kind,
                crs="EPSG:4326",
                append=path.exists(),
            )
        return path

    @functools.cached_property
    def houses(self) -> Path:
        """The houses alone, as GeoJSON without tags."""
        return self.geojson("houses.geojson", [(shape, {}) for shape, _ in self.shapes["building"]])

    @functools.cached_property
    def clouds(self) -> Path:
        """A raster that is above 0 where there are clouds, 10 m per pixel."""
        cloud = np.zeros((HEIGHT // 10, WIDTH // 10, 1), np.uint8)
        cloud[20:35, 90:110] = 1
        return self.write("clouds.tif", cloud, metre=10)

    @functools.cached_property
    def pairs(self) -> Path:
        """A data set of six training and two validation pairs, photo left and map right."""
        folder = self.folder / "pairs"
        colours = np.array(list(LEGEND.values()), np.uint8)
        both = np.concatenate([self.photo, colours[self.classes]], 1)
        for number in range(8):
            top, left = 260 * (number // 4), 300 * (number % 4)
            split = folder / ("val" if number in {3, 6} else "train")
            split.mkdir(parents=True, exist_ok=True)
            rows = both[top : top + 192]
            half = (rows[:, left : left + 192], rows[:, WIDTH + left : WIDTH + left + 192])
            Image.fromarray(np.concatenate(half, 1)).save(split / f"{number}.png")
        legend = [{"name": n, "colour": c, "road": n in ROADS} for n, c in LEGEND.items()]
        card = {"resolution_m": 1.0, "legend": legend, "licence": "drawn by benchmarks/outputs.py"}
        (folder / "dataset.json").write_text(json.dumps(card))
        return folder

    @functools.cached_property
    def recipe(self) -> Path:
        """A recipe of its own, since the shipped one of such a generator is bettered at times."""
        path = self.folder / "compact.toml"
        path.write_text(COMPACT)
        return path

    @functools.cached_property
    def unet_checkpoint(self) -> Path:
        """A `unet_128` of pytorch-CycleGAN-and-pix2pix with batch norm, narrow, untrained."""
        return self.checkpoint("unet_net_G.pth", unet_layers(7, 8))

    @functools.cached_property
    def resnet_checkpoint(self) -> Path:
        """A `resnet_6blocks` with instance norm."""
        return self.checkpoint("resnet_net_G.pth", resnet_layers(6, 8))

    @functools.cached_property
    def served(self) -> Path:
        """What `serving` serves: a scene, the tile tree, a published data set, OSM's answer."""
        folder = self.folder / "served"
        (folder / "sets").mkdir(parents=True)
        (folder / "tree").symlink_to(self.tree.absolute())
        (folder / "small.tif").symlink_to(self.small.absolute())
        with tarfile.open(folder / "sets" / "maps.tar.gz", "w:gz") as archive:
            for file in sorted(self.pairs.glob("*/*.png")):
                picture, content = Image.open(file), io.BytesIO()
                picture.save(content, "JPEG", quality=95)
                member = tarfile.TarInfo(f"maps/{file.parent.name}/{file.stem}.jpg")
                member.size = content.tell()
                content.seek(0)
                archive.addfile(member, content)
        (folder / "interpreter").write_text(json.dumps(overpass_answer(self.shapes)))
        return folder

    def geojson(self, name: str, shapes: list[Shape]) -> Path:
        """Write shapes, in metres east and south of the town's corner, as GeoJSON in degrees."""
        path = self.folder / name
        features = [
            {
                "type": "Feature",
                "properties": tags,
                "geometry": json.loads(shapely.to_geojson(in_degrees(shape))),
            }
            for shape, tags in shapes
        ]
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return path

    def checkpoint(self, name: str, layers: dict[str, tuple[int, ...]]) -> Path:
        """Write weights of these names and shapes, such that no layer is idle."""
        import torch

        random = np.random.default_rng(9)
        weights: dict[str, Any] = {}
        for layer, shape in layers.items():
            if layer.endswith("num_batches_tracked"):
                values: Any = np.array(3, np.int64)
            elif layer.endswith("running_var"):
                values = random.uniform(0.5, 1.5, shape).astype(np.float32)
            elif len(shape) == 4:
                spread = (2 / np.prod(shape[1:])) ** 0.5
                values = (random.normal(size=shape) * spread).astype(np.float32)
            else:
                values = (random.normal(size=shape) * 0.3).astype(np.float32)
            weights[layer] = torch.from_numpy(values)
        torch.save(weights, self.folder / name)
        return self.folder / name


def overpass_answer(shapes: dict[str, list[Shape]]) -> dict[str, Any]:
    """Return what an Overpass API server would answer for some of the town."""

    def points(ring: Any) -> list[dict[str, float]]:
        return [{"lat": y, "lon": x} for x, y in shapely.get_coordinates(in_degrees(ring)).tolist()]

    elements: list[dict[str, Any]] = []
    for name in ("building", "road", "park", "highway"):
        for shape, tags in shapes[name][:12]:
            ring = shape if shape.geom_type == "LineString" else shape.exterior
            more: dict[str, Any] = {"id": len(elements) + 1, "geometry": points(ring)}
            elements.append({"type": "way", "tags": {**tags, "note": "drawn"}, **more})
    water, tags = shapes["water"][0]
    rings = [("outer", water.exterior), *(("inner", ring) for ring in water.interiors)]
    members = [
        {"type": "way", "ref": 900 + i, "role": role, "geometry": points(ring)}
        for i, (role, ring) in enumerate(rings)
    ]
    tags = {**tags, "type": "multipolygon"}
    elements.append({"type": "relation", "id": 800, "tags": tags, "members": members})
    stamp = {"timestamp_osm_base": "2026-11-20T10:00:00Z"}
    return {"version": 0.6, "osm3s": stamp, "elements": elements}


def unet_layers(depth: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the weights of a nested U-Net with batch norm: name to shape."""
    found: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{part}"] = (channels,)
        found[f"{name}.num_batches_tracked"] = ()

    found["model.model.0.weight"] = (width, 3, 4, 4)
    found["model.model.3.weight"] = (2 * width, 3, 4, 4)
    found["model.model.3.bias"] = (3,)
    inner, outside = "model.model.1.model", width
    for level in range(1, depth):
        inside = min(2 * outside, 8 * width)
        found[f"{inner}.1.weight"] = (inside, outside, 4, 4)
        if level == depth - 1:
            found[f"{inner}.3.weight"] = (inside, outside, 4, 4)
            norm(f"{inner}.4", outside)
        else:
            norm(f"{inner}.2", inside)
            found[f"{inner}.5.weight"] = (2 * inside, outside, 4, 4)
            norm(f"{inner}.6", outside)
        inner, outside = f"{inner}.3.model", inside
    return found


def resnet_layers(blocks: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the weights of a residual generator with instance norm: name to shape."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, outer: int, inner: int, side: int, bias: int) -> None:
        found[f"{name}.weight"] = (outer, inner, side, side)
        found[f"{name}.bias"] = (bias,)

    layer("model.1", width, 3, 7, width)
    layer("model.4", 2 * width, width, 3, 2 * width)
    layer("model.7", 4 * width, 2 * width, 3, 4 * width)
    for block in range(blocks):
        for place in (1, 5):
            layer(f"model.{10 + block}.conv_block.{place}", 4 * width, 4 * width, 3, 4 * width)
    layer(f"model.{10 + blocks}", 4 * width, 2 * width, 3, 2 * width)
    layer(f"model.{13 + blocks}", 2 * width, width, 3, width)
    layer(f"model.{17 + blocks}", 3, width, 7, 3)
    return found


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder, with ranges, and yield its address; a POST gets the file of its path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            file = folder / self.path.partition("?")[0][1:]
            if not file.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first = int(span[1]) if span else 0
            last = min(int(span[2] or len(content)) if span else len(content), len(content) - 1)
            self.send_response(206 if span else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last + 1 - first))
            if span:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[first : last + 1])

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
