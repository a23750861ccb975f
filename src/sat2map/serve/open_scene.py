"""What the files of a scene hold: the layers that are shown of it, and what lies behind each.

    photo      -> `Results` of the model, and `SceneImages` of its own pixels
    drawn map  -> `SceneImages`
    class map  -> `ClassFile`
    archive    -> `TileArchive`

An `OpenScene` is what its files held when they were opened. Where these change, there is a new one,
with another key, so that nothing of the old one is shown as the new one's.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import rasterio
from numpy.typing import NDArray

import sat2map
from sat2map.data.images import three_bands
from sat2map.errors import DataError, UsageError
from sat2map.fetch.version import version_at
from sat2map.geo.grid import Bounds, Grid, Part
from sat2map.journal import as_json
from sat2map.legend import COVER, Legend
from sat2map.raster.georeference import stored
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.pyramid import HIGHEST, Pyramid, pyramid_of
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source
from sat2map.serve.archives import TileArchive
from sat2map.serve.files import ClassFile, SceneImages
from sat2map.serve.origin import Origin
from sat2map.serve.results import Results, Window
from sat2map.serve.styles import MapStyle
from sat2map.serve.workshop import Workshop
from sat2map.translation.class_files import ClassLegend
from sat2map.translation.maps import Layer
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator
from sat2map.vectors.class_map import open_class_map

LayerName = Literal["photo", "map", "classes", "confidence", "numbers", "vectors"]
LAYERS: tuple[LayerName, ...] = get_args(LayerName)

_KEPT: dict[LayerName, str] = {
    "map": "image",
    "classes": "numbers",
    "numbers": "numbers",
    "confidence": "confidence",
}
"""The kept layer of results that a layer of tiles is made of; maps may be of shares instead."""

GEOMETRY = 3
"""Another number makes all kept windows unknown: what is in them has changed."""


@dataclass(frozen=True)
class OpenScene:
    """What the files of a scene held when they were opened.

    Attributes:
        key: What tells it from what they held before or later, 32 hexadecimal digits.
        layers: The layers it has.
        pyramid: Which web tiles it touches, up to the zoom of its own resolution.
        origin: Where its pixels come from, for what is exported of it.
        legend: The classes of `classes` and `numbers`, where it has these.
        styles: What the layer `map` is shown in by name, the usual one first, where it can be had
            in several colours.
        class_styles: The same of `classes`, where they are those of the map.
        photo: The photo's pixels.
        results: What the model makes of it.
        drawn: The pixels of a map that was written earlier.
        class_file: The numbers of a class map that was written earlier.
        archive: Tiles that were written earlier; it has no pixels of its own.
    """

    key: str
    layers: tuple[LayerName, ...]
    pyramid: Pyramid
    origin: Origin | None = None
    legend: Legend | None = None
    styles: Mapping[str, MapStyle] = field(default_factory=dict)
    class_styles: Mapping[str, MapStyle] = field(default_factory=dict)
    photo: SceneImages | None = None
    results: Results | None = None
    drawn: SceneImages | None = None
    class_file: ClassFile | None = None
    archive: TileArchive | None = None

    def highest(self, layer: LayerName) -> int:
        """Return the zoom whose pixels are nearest in size to a layer's own."""
        if layer == "photo" and self.photo is not None and self.results is not None:
            own, seen = self.photo.grid.width, self.results.grid.width
            return min(max(self.pyramid.highest + round(math.log2(own / seen)), 0), HIGHEST)
        return self.pyramid.highest

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in degrees; west above east crosses the antimeridian."""
        return self.pyramid.bounds

    def level_grid(self, layer: LayerName, level: int) -> Grid:
        """Return the grid of a level of a layer."""
        return self._behind(layer).level_grid(level)

    def windows(self, layer: LayerName, level: int, part: Part) -> list[Window]:
        """Return the windows of the model that a part of a level needs."""
        if self.results is None or layer not in _KEPT:
            return []
        return self.results.touching(level, part)

    def styles_of(self, layer: LayerName) -> Mapping[str, MapStyle]:
        """Return the styles that a layer can be had in, the usual one first."""
        return {"map": self.styles, "classes": self.class_styles}.get(layer, {})

    def legend_of(self, layer: LayerName, style: MapStyle | None = None) -> Legend | None:
        """Return what the colours of a layer mean, where that is known.

        Args:
            layer: The layer.
            style: One of `styles_of` this layer; None takes the usual one.
        """
        style = style or next(iter(self.styles_of(layer).values()), None)
        if style is not None:
            return style.legend
        return self.legend if layer in ("classes", "numbers") else None

    def read(
        self, layer: LayerName, level: int, part: Part, style: MapStyle | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bool]:
        """Return a part of a level of a layer.

        Args:
            layer: The layer.
            level: 0 for the finest.
            part: Of the level's pixels.
            style: One of `styles`, for the layer `map`; None takes the usual one.

        Returns:
            uint8 [h,w,3] of photo and map, [h,w] of the others; where there is something, uint8
            [h,w] of 0 and 1; and whether all windows were there.

        Raises:
            DataError: A block of the file is damaged.
        """
        behind = self._behind(layer)
        if isinstance(behind, Results):
            if layer == "map" and behind.shares:
                found, complete = behind.read(level, part, behind.shares)
                style = style or next(iter(self.styles.values()))
                return style.paint([found[n] for n in behind.shares]), found["shown"], complete
            name = _KEPT[layer]
            found, complete = behind.read(level, part, [name])
            values = found[name]
            return three_bands(values) if name == "image" else values, found["shown"], complete
        values, shown = behind.read(level, part)
        if values.ndim == 3:
            values = three_bands(values[..., :3] if values.shape[2] >= 3 else values[..., :1])
        return values, shown, True

    def _behind(self, layer: LayerName) -> Results | SceneImages | ClassFile:
        found = self.photo if layer == "photo" else self.results or self.drawn or self.class_file
        if found is None or layer not in self.layers:
            raise KeyError(layer)
        return found

    @property
    def has_changed(self) -> bool:
        """Whether another file was seen where one is read by address."""
        return self.archive is not None and self.archive.has_changed

    def close(self) -> None:
        """Close its files."""
        for each in (self.photo, self.results, self.drawn, self.class_file, self.archive):
            if each is not None:
                each.close()


def open_classes(source: Source) -> OpenScene:
    """Open a class map that was written earlier.

    Raises:
        DataError: It cannot be read, or says not where it lies.
    """
    with open_class_map(source) as found:
        legend, grid = found.legend, found.grid
    return OpenScene(
        _key(source, {}),
        ("classes", "numbers"),
        _placed(grid, source),
        Origin(source),
        legend=legend,
        class_file=ClassFile(source, grid, len(legend)),
    )


def open_archive(text: str | Path) -> OpenScene:
    """Open an archive of tiles, a file or at an address.

    Raises:
        DataError: It cannot be read.
    """
    archive = TileArchive(text)
    layer: LayerName = "vectors" if archive.is_vector else "map"
    return OpenScene(archive.key, (layer,), archive.pyramid, archive=archive)


def open_as_it_is(
    source: Source, reading: Reading, layer: Literal["photo", "map"], say: Callable[[str], object]
) -> OpenScene:
    """Open a map that was written earlier, or a photo that no model translates."""
    images = SceneImages(Scene(source, 3, reading, say=say))
    try:
        pyramid = _placed(images.grid, source)
        key = _key(source, {} if layer == "map" else {"reading": asdict(reading)})
    except BaseException:
        images.close()
        raise
    if layer == "photo":
        return OpenScene(key, ("photo",), pyramid, Origin(source), photo=images)
    return OpenScene(key, ("map",), pyramid, Origin(source), drawn=images)


def open_photo(source: Source, workshop: Workshop, is_same: Callable[[], bool]) -> OpenScene:
    """Open a photo that the workshop's model translates.

    Args:
        source: The photo.
        workshop: What makes and keeps results.
        is_same: Returns whether its files are as they were when it was opened.

    Raises:
        DataError: It cannot be read, or says not where it lies.
        UsageError: The model or the options do not fit it.
    """
    translator, options = workshop.translator, workshop.options
    reading = replace(options.reading, bbox=None, warp=True)
    windows = SceneWindows(source, translator, reading, options.window, say=workshop.say)
    try:
        pyramid = _placed(windows.grid, source)
        layers = _asked(translator, options.class_legend)
        made_of = {
            "reading": asdict(reading),
            "model": translator.fingerprint(),
            "runtime": f"{translator.runtime} {translator.runtime_version} {translator.device}",
            "layers": layers,
            "windows": [windows.core, windows.halo, translator.multiple, GEOMETRY],
            "versions": f"{sat2map.__version__} {rasterio.__version__}",
        }
        key = _key(source, made_of)
        photo = Scene(source, len(translator.card.bands), reading, say=unsaid)
    except BaseException:
        windows.close()
        raise
    shown: list[LayerName] = ["photo", "map"]
    if "numbers" in layers:
        shown += ["classes", "numbers"]
    if "confidence" in layers:
        shown.append("confidence")
    origin = Origin(
        source,
        {"map": "image"}
        | {name: layers[kept] for name, kept in _KEPT.items() if kept in layers and name != "map"},
        translator,
        SceneOptions(reading, resolution="model", window=options.window),
        is_warped=stored(photo.dataset) is not photo.dataset,
    )
    styles, of_map = workshop.styles, options.class_legend == "map"
    usual = next(iter(styles.values())).legend if styles else translator.legend
    known = usual if of_map else COVER
    results = Results(
        windows,
        key,
        layers,
        workshop.store,
        workshop.memory,
        workshop.pool,
        where=source.where,
        depth=translator.depth((layers.get("shares", "image"),)),
        is_same=is_same,
    )
    return OpenScene(
        key,
        tuple(name for name in LAYERS if name in shown),
        pyramid,
        origin,
        legend=known if "numbers" in layers else None,
        styles=styles,
        class_styles=styles if of_map else {},
        photo=SceneImages(photo),
        results=results,
    )


def _asked(translator: Translator, legend: ClassLegend) -> dict[str, Layer]:
    """Return what is asked of a model, by the names of the layers that are kept."""
    asked: dict[str, Layer] = (
        {"shares": "colour_shares"} if translator.answers_in_classes else {"image": "image"}
    )
    cover = legend == "cover"
    if translator.legend is not None:
        asked["numbers"] = "cover" if cover else "classes"
    if translator.answers_in_classes:
        asked["confidence"] = "cover_confidence" if cover else "confidence"
    return asked


def _placed(grid: Grid, source: Source) -> Pyramid:
    """Return which web tiles a scene touches, or refuse one that lies nowhere.

    Raises:
        DataError: It does not say where on the ground it lies, or lies beyond the web's map.
    """
    try:
        return pyramid_of(grid, Path(source.name))
    except UsageError as error:
        raise DataError(
            "does not say where on the web's map it lies, so it cannot be shown there",
            where=source.where,
            remedy="Give it coordinates first, for example with: gdal_translate -a_srs EPSG:CODE "
            "-a_ullr WEST NORTH EAST SOUTH OLD.tif NEW.tif. If only its coordinate reference "
            "system is missing, give `crs=EPSG:CODE`.",
        ) from error


def _key(source: Source, made_of: dict[str, Any]) -> str:
    """Return what tells results, or tiles, from those that are made of anything else."""
    known = as_json(source.fingerprint())
    files = known["input"]
    if files.get("contents") is not None:
        del files["times"]  # a copy is the same
    if source.kind == "address":
        known["version"] = version_at(source.opened_as) or uuid.uuid4().hex  # new, if not said
    text = json.dumps([known, made_of], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def unsaid(_: str) -> None:
    """Leave out what another reader of the same scene has said."""
