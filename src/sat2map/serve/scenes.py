"""What is served: scenes named at start, each with an id for addresses and the layers it has.

photo      what a model translates: layers photo, map, classes, confidence, numbers; photo alone
           where there is no model
drawn map  what `sat2map translate` wrote: layer map
class map  numbers with a legend: layers classes, numbers
archive    tiles in one file (.pmtiles): layer map, or vectors where they are of vectors

A `ServedScene` stays as long as the server; an `OpenScene` is what its files held when they were
opened. Where these change, there is a new one, with another key, so that nothing of the old one is
shown as the new one's.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
import time
import unicodedata
import uuid
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import numpy as np
import rasterio
from numpy.typing import NDArray

import sat2map
from sat2map.data.images import three_bands
from sat2map.errors import DataError, Sat2mapError, UsageError
from sat2map.geo.gdal import is_address
from sat2map.geo.grid import Bounds, Grid, Part
from sat2map.journal import as_json
from sat2map.legend import COVER, LEGEND_TAG, Legend
from sat2map.provenance import KEY
from sat2map.raster.georeference import stored
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.pyramid import HIGHEST, Pyramid, pyramid_of
from sat2map.raster.scene import Scene
from sat2map.raster.sources import Source, open_source
from sat2map.serve.archives import SUFFIX as ARCHIVE
from sat2map.serve.archives import TileArchive
from sat2map.serve.files import ClassFile, SceneImages
from sat2map.serve.memory import RecentMemory
from sat2map.serve.origin import Origin
from sat2map.serve.pool import WindowPool
from sat2map.serve.results import IN_MEMORY, Results, Window
from sat2map.serve.styles import MapStyle, styles_of
from sat2map.serve.trust import refuse_foreign
from sat2map.serve.window_store import WindowStore
from sat2map.translation.class_files import ClassLegend
from sat2map.translation.maps import Layer
from sat2map.translation.scene_windows import SceneWindows
from sat2map.translation.translator import Translator
from sat2map.vectors.class_map import open_class_map
from sat2map.vectors.formats import style_beside

LayerName = Literal["photo", "map", "classes", "confidence", "numbers", "vectors"]
LAYERS: tuple[LayerName, ...] = get_args(LayerName)

_KEPT: dict[LayerName, str] = {
    "map": "image",
    "classes": "numbers",
    "numbers": "numbers",
    "confidence": "confidence",
}
"""The kept layer of results that a layer of tiles is made of; maps may be of shares instead."""

ARCHIVES = (ARCHIVE, ".mbtiles")
"""What is an archive of tiles in a folder; GDAL reads MBTiles as one raster."""

LOOK_S = 1.0
"""Seconds after which files are looked at again, whether they are as they were."""

GEOMETRY = 3
"""Another number makes all kept windows unknown: what is in them has changed."""


@dataclass(frozen=True)
class ServeOptions:
    """How scenes are served.

    Attributes:
        reading: How values become pixels; its `bbox` is left aside.
        styles: Names of shipped styles, and JSON files of colours; maps are shown in the first
            unless another is asked for. See `styles_of`.
        class_legend: "cover" for what is on the ground, "map" for the classes that are drawn.
        window: Side of what a window of the model yields; None chooses as `translate` does.
        trust_vrt: Whether virtual rasters may name files outside of their folder.
        cache_bytes: Bytes that results may take on the disk; None takes half of the cache.
    """

    reading: Reading = field(default_factory=Reading)
    styles: tuple[str, ...] = ()
    class_legend: ClassLegend = "cover"
    window: int | None = None
    trust_vrt: bool = False
    cache_bytes: int | None = None


class Workshop:
    """What all scenes of a server share: the model, and where results are made and kept.

    Args:
        load: Loads the model; called once, when a photo needs it. None shows photos as they are.
        options: How scenes are served.
        say: Called with notices of scenes.

    Attributes:
        styles: What maps of the model are shown in, the usual one first; known with the model.
    """

    def __init__(
        self,
        load: Callable[[], Translator] | None,
        options: ServeOptions,
        say: Callable[[str], object],
    ) -> None:
        self.options, self.say = options, say
        self.has_model = load is not None
        self.store = WindowStore(options.cache_bytes)
        self.memory: RecentMemory[NDArray[np.uint8]] = RecentMemory(IN_MEMORY, lambda a: a.nbytes)
        self.pool = WindowPool()
        self.styles: dict[str, MapStyle] = {}
        self._load = load
        self._translator: Translator | None = None

    @property
    def translator(self) -> Translator:
        """The model, loaded when it is needed first.

        Raises:
            UsageError: Its network sees the whole image, so no tile stands alone.
            ModelError: The folder is missing or damaged.
        """
        if self._translator is None:
            assert self._load is not None
            translator = self._load()
            if translator.frame() is None:
                raise UsageError(
                    "its network sees the whole image, so no tile of a map stands alone",
                    where=translator.name,
                    remedy="Write the map first, with `sat2map translate`, and serve it in place "
                    "of the photo; or choose a model whose network is `compact` or `lite`, such as "
                    "streets.",
                )
            self.styles = styles_of(translator, self.options.styles)
            self._translator = translator
        return self._translator

    @property
    def model_name(self) -> str | None:
        """What the model is called, where one was needed."""
        return None if self._translator is None else self._translator.name

    @property
    def instructions(self) -> str | None:
        """Which of the processor's instructions the model's convolutions use, where it is known."""
        return None if self._translator is None else self._translator.instructions


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


class ServedScene:
    """A scene under an id, opened anew where its files change.

    Args:
        id: What stands for it in addresses.
        name: What people call it.
        text: What was named at start.
        workshop: What all scenes share.
        is_map: Whether it is a map, also where it does not say so.

    Raises:
        DataError: It cannot be read, or says not where it lies.
        UsageError: The model or the options do not fit it.
    """

    def __init__(
        self, id: str, name: str, text: str | Path, workshop: Workshop, *, is_map: bool = False
    ) -> None:
        self.id, self.name = id, name
        self._text, self._workshop, self._is_map = text, workshop, is_map
        self._lock = threading.Lock()
        self._error: Sat2mapError | None = None
        self._signature: tuple[Any, ...] = ()
        self._looked = time.monotonic()
        self._files: tuple[Path, ...] = ()
        self._open: OpenScene | None = self._opened()

    def fresh(self) -> OpenScene | None:
        """Return what it holds, if that was looked at a moment ago; it never waits."""
        return self._open if time.monotonic() - self._looked < LOOK_S else None

    def current(self) -> OpenScene:
        """Return what its files hold now.

        Raises:
            DataError: They are gone, or cannot be read as they are now.
        """
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_S:
                before = self._open
                if (
                    before is None
                    or before.has_changed
                    or _signature(self._files) != self._signature
                ):
                    self._renew()
                self._looked = time.monotonic()
            if self._open is None:
                assert self._error is not None
                raise self._error
            return self._open

    def close(self) -> None:
        """Close its files."""
        if self._open is not None:
            self._open.close()

    def _renew(self) -> None:
        before = self._open
        try:
            self._open, self._error = self._opened(), None
        except Sat2mapError as error:
            self._open, self._error = None, error
        if before is not None:
            before.close()

    def _opened(self) -> OpenScene:
        if is_archive(self._text):
            if not is_address(self._text):
                path = Path(self._text)
                self._files = (path, style_beside(path))
            self._signature = _signature(self._files)
            return _open_archive(self._text)
        source = open_source(self._text)
        with source:
            # Before anything is read: what changes while it is read is noticed later.
            self._files = source.files
            self._signature = signature = _signature(source.files)
            refuse_foreign(source, trusted=self._workshop.options.trust_vrt)
            with source.open() as dataset:
                tags = dataset.tags()
            if LEGEND_TAG in tags:
                return _open_class_map(source)
            if self._is_map or "SAT2MAP_MODEL" in tags or KEY in tags:
                reading = Reading(warp=True, crs=self._workshop.options.reading.crs)
                return _open_as_it_is(source, reading, "map", _not_said)
            if not self._workshop.has_model:
                reading = replace(self._workshop.options.reading, bbox=None, warp=True)
                return _open_as_it_is(source, reading, "photo", self._workshop.say)
            return _open_photo(
                source, self._workshop, lambda: _signature(source.files) == signature
            )


def _open_class_map(source: Source) -> OpenScene:
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


def is_archive(text: str | Path) -> bool:
    """Return whether a name or an address is that of an archive of tiles."""
    if not is_address(text):
        return Path(text).suffix.lower() == ARCHIVE
    parts = urlsplit(str(text))
    return parts.scheme in ("http", "https") and parts.path.lower().endswith(ARCHIVE)


def _open_archive(text: str | Path) -> OpenScene:
    archive = TileArchive(text)
    layer: LayerName = "vectors" if archive.is_vector else "map"
    return OpenScene(archive.key, (layer,), archive.pyramid, archive=archive)


def _open_as_it_is(
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


def _open_photo(source: Source, workshop: Workshop, is_same: Callable[[], bool]) -> OpenScene:
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
        photo = Scene(source, len(translator.card.bands), reading, say=_not_said)
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
        known["version"] = _version_of(source.opened_as)
    text = json.dumps([known, made_of], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _version_of(opened_as: str) -> str:
    """Return what a server says of the version of a file; something new where it says nothing."""
    address = opened_as.removeprefix("/vsicurl/")
    if address.startswith(("http://", "https://")):
        import urllib3

        with suppress(urllib3.exceptions.HTTPError):
            answer = urllib3.request("HEAD", address, timeout=10, retries=1)
            told = [answer.headers.get(name) for name in ("etag", "last-modified")]
            if answer.status == 200 and any(told):
                return json.dumps([*told, answer.headers.get("content-length")])
    return uuid.uuid4().hex


def _signature(files: Iterable[Path]) -> tuple[Hashable, ...]:
    """Return what changes with the files of a scene."""
    found = []
    for file in files:
        try:
            facts = file.stat()
            found.append((facts.st_size, facts.st_mtime_ns, facts.st_ino))
        except OSError:
            found.append((-1, -1, -1))
    return tuple(found)


def _not_said(_: str) -> None:
    """Leave out what another reader of the same scene has said."""


def scene_id(name: str, taken: Iterable[str]) -> str:
    """Return an id for addresses, of letters, digits, - and _, that nobody has yet.

    Args:
        name: A file's name without its ending.
        taken: The ids of others.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-")[:64] or "scene"
    found, number, others = stem, 1, set(taken)
    while found in others:
        number += 1
        found = f"{stem}-{number}"
    return found


def open_scenes(names: list[str], workshop: Workshop) -> list[ServedScene]:
    """Open all that was named at start; of a folder each of its scenes.

    What a folder holds and cannot be shown is left out, with a notice.

    Raises:
        DataError: What was named by itself cannot be shown, or a folder holds nothing that can.
        UsageError: The model or the options do not fit a scene.
    """
    scenes: list[ServedScene] = []
    for name in names:
        files = _held_by(name)
        if files is None:
            scenes.append(_served(name, workshop, scenes))
            continue
        before = len(scenes)
        for file in files:
            try:
                scenes.append(_served(file, workshop, scenes))
            except DataError as error:
                workshop.say(f"{error.headline}; it is left out.")
        if len(scenes) == before:
            raise DataError(
                "holds nothing that can be shown on a map",
                where=name,
                remedy="Give scenes that say where on the ground they lie.",
            )
    return scenes


def _held_by(name: str) -> list[Path] | None:
    """Return the scenes and archives of a folder, or None of anything else."""
    if is_address(name) or not Path(name).is_dir():
        return None
    archives = [
        file
        for file in Path(name).iterdir()
        if file.suffix.lower() in ARCHIVES and not file.name.startswith(".") and file.is_file()
    ]
    try:
        source = open_source(name)
    except DataError:
        if archives:
            return sorted(archives)
        raise
    source.close()
    return sorted([*source.files, *archives]) if source.kind == "folder" else None


def _served(text: str | Path, workshop: Workshop, others: list[ServedScene]) -> ServedScene:
    if is_archive(text):
        name = Path(urlsplit(str(text)).path if is_address(text) else text).name
    else:
        with open_source(text) as source:
            name = Path(source.name).name or str(source.where)
    id = scene_id(Path(name).stem, (scene.id for scene in others))
    return ServedScene(id, name, text, workshop)
