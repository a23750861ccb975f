"""From a class map to a file of vectors, sheet by sheet.

    .NAME.partial/
        .sat2map/       its journal: what the vectors are made of
        sieved/         the class map without small islands, a file per sheet
        scene.sqlite    the polygons that are found (`store.py`)
        made/           the file on its way

Each sheet is finished as a whole, so that what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

import sat2map
from sat2map.arguments import check_fields, checks_arguments
from sat2map.atomic import atomic_file, check_disk
from sat2map.errors import DataError, StoppedError, UsageError, writing_to
from sat2map.geo.grid import pixel_steps
from sat2map.journal import Files, Journal, claim, remove_own
from sat2map.legend import Legend, Role
from sat2map.memory import give_back_memory
from sat2map.provenance import (
    Ingredient,
    Provenance,
    fingerprint_files,
    fingerprint_json,
)
from sat2map.raster.output import give_name
from sat2map.raster.pyramid import pyramid_of
from sat2map.raster.sources import Source, open_source
from sat2map.vectors.class_map import NOTHING, ClassMap, open_class_map
from sat2map.vectors.coverage import (
    SHEET,
    TOLERANCE,
    Face,
    Sheet,
    cover_sheet,
    lay_sheets,
)
from sat2map.vectors.formats import (
    LayerName,
    Placing,
    check_target,
    driver_of,
    write_layer,
    write_parquet,
)
from sat2map.vectors.geopackage import Layer, layers_of, write_provenance, write_styles
from sat2map.vectors.measures import Measures
from sat2map.vectors.roads import trace_roads
from sat2map.vectors.sieve import MINIMUM_M2, sieve
from sat2map.vectors.store import Store, open_store
from sat2map.vectors.vector_tiles import TileSet, tiles_of, write_map_style, write_vector_tiles
from sat2map.vectors.walls import Matrix

logger = logging.getLogger(__name__)

WRITER = "sat2map vectors"
SIEVE_MARGIN = 256
"""Pixels around a sheet that are looked at, so that islands on its edge are known whole."""

ROOM = 3
"""Bytes of the disk that a pixel may take, all in all."""

_OWN = re.compile(
    r"sieved(/\d+\.npy|/\.\d+\.sat2map-[0-9a-f]{16}\.npy)?|scene\.sqlite(-journal)?|made(/[^/]+)?"
)


@dataclass(frozen=True)
class VectorOptions:
    """How vectors are made.

    Attributes:
        minimum_m2: Square metres that an area of a role has at least; roles that are not named
            have the usual ones.
        tolerance: Bends in borders whose triangle is smaller than the square of this, in pixels,
            are left out; 0 keeps the pixels' outline.
        min_confidence: Ground whose class is less sure than this, 0 to 1, is left out.
        sheet: Side of the sheets that a scene is cut into, in pixels.
        layer: The one layer of a .geojson, .fgb or .parquet; other files have all.
        out_crs: The file's coordinate reference system, such as EPSG:25833, in place of the
            scene's own.
        attribution: Whom those who show them are to name; None takes what the class map says.
        licence: Under which they may be used; None takes what the class map says.
        resume: Whether the work goes on where an interrupted run stopped.
    """

    minimum_m2: Mapping[Role, float] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    min_confidence: float = 0.0
    sheet: int = SHEET
    layer: LayerName | None = None
    out_crs: str | None = None
    attribution: str | None = None
    licence: str | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        check_fields(self, *(one.name for one in fields(self)))
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(
                f"is {self.min_confidence:g}",
                parameter="min_confidence",
                remedy="Choose 0 to 1, such as 0.7.",
            )
        for parameter, value, lowest in (
            ("tolerance", self.tolerance, 0.0),
            ("sheet", self.sheet, 16),
            *(("minimum_m2", value, 0.0) for value in self.minimum_m2.values()),
        ):
            if not (math.isfinite(value) and value >= lowest):
                raise UsageError(
                    f"is {value:g}", parameter=parameter, remedy=f"Give {lowest:g} or more."
                )


@checks_arguments
def vectorise(
    classes: str | Path | Source,
    out: str | Path,
    *,
    legend: str | Path | Legend | None = None,
    confidence: str | Path | None = None,
    options: VectorOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Path:
    """Make vectors of a class map: one valid coverage, buildings and a network of roads.

    Args:
        classes: The class map, of any size, as `translate` writes it for its `classes`, or
            anybody's with a legend.
        out: NAME.gpkg with all layers, NAME.pmtiles with vector tiles, or NAME.geojson, .fgb or
            .parquet with `options.layer`.
        legend: What the map's numbers mean: a legend, "cover", "map" or a JSON file. None takes
            what the map itself says.
        confidence: A raster on the same grid of how sure each pixel is, for the columns of that
            name.
        options: How.
        progress: Called with (done, all) steps.
        stop: Another thread or a signal's handler sets it to have the work stop soon.

    Returns:
        `out`.

    Raises:
        DataError: The class map cannot be read, has no legend or lies nowhere on the ground.
        UsageError: The options do not fit, or what is to be resumed was made of something else.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
        MissingExtraError: pyogrio or pyarrow is not installed.
    """
    target, options = Path(out), options or VectorOptions()
    check_target(target, options.layer, options.out_crs)
    source = open_source(classes)
    stop = stop or threading.Event()
    make_vectors(source, target, legend, confidence, options, progress, stop)
    return target


def make_vectors(
    source: Source,
    target: Path,
    legend: str | Path | Legend | None,
    confidence: str | Path | None,
    options: VectorOptions,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event,
    *,
    probabilities: Path | None = None,
    is_kept: bool = True,
) -> None:
    """Make vectors as `vectorise` does, of names that were checked.

    Args:
        source: The class map.
        target: The file.
        legend: As for `vectorise`, like what follows.
        confidence: How sure each pixel is.
        options: How.
        progress: Called with (done, all) steps.
        stop: Asks to stop once it is set.
        probabilities: A raster with a band for each class, how likely it is.
        is_kept: Whether the class map is there afterwards.
    """
    check_not_input(target, source)
    folder = partial_folder(target)
    beside = tuple(Path(file) for file in (confidence, probabilities) if file is not None)
    with (
        open_class_map(
            source,
            legend=legend,
            confidence=confidence,
            probabilities=probabilities,
            min_confidence=options.min_confidence,
        ) as scene,
        writing_to(target),
    ):
        measures = Measures(scene.grid, scene.where)
        if target.suffix.lower() == ".pmtiles":
            pyramid_of(scene.grid, target)  # what cannot be tiled is said before the work
        made_of = {
            **source.fingerprint(),
            "legend": scene.legend.to_json(),
            "confidence": Files(beside),
            "set of parameters": asdict(options) | {"resume": None},
            "version of sat2map": sat2map.__version__,
        }
        check_disk(target, scene.grid.height * scene.grid.width * ROOM)
        remedy = "Remove it, or choose another name for the vectors."
        with claim(folder, WRITER, made_of, where=target, remedy=remedy) as journal:
            _begin(journal, target, options.resume)
            try:
                made = _provenance(scene, source, beside, options, is_kept=is_kept)
                _make(scene, folder, target, measures, options, made, progress, stop)
            except BaseException as error:
                if not any((folder / "sieved").glob("*.npy")):
                    journal.remove_folder(_OWN)
                elif not isinstance(error, StoppedError):
                    logger.warning(
                        f"{target}: what is finished is kept in {folder.name}; do the same again "
                        "with `resume=True` to go on."
                    )
                raise
            journal.remove_folder(_OWN)


def _provenance(
    scene: ClassMap,
    source: Source,
    beside: tuple[Path, ...],
    options: VectorOptions,
    *,
    is_kept: bool,
) -> Provenance:
    """Return what the vectors are made of and how.

    Args:
        scene: The class map.
        source: The same.
        beside: The rasters that say how sure it is.
        options: How the vectors are made.
        is_kept: Whether the class map is there afterwards; otherwise they count as made of what
            it was made of.
    """
    settings = asdict(options)
    for name in ("resume", "attribution", "licence"):
        del settings[name]
    settings["minimum_m2"] = dict(options.minimum_m2)
    attribution = options.attribution or scene.attribution
    licence = options.licence
    if licence is None and scene.provenance is not None:
        licence = scene.provenance.licence
    if not is_kept and scene.provenance is not None:
        return replace(
            scene.provenance,
            layer="vectors",
            settings={**settings, "classes": dict(scene.provenance.settings)},
            licence=licence,
            attribution=attribution,
        )
    settings["legend"] = fingerprint_json(scene.legend.to_json())
    settings["confidence"] = fingerprint_files(beside) if beside else None
    return Provenance(
        "vectors",
        Ingredient(source.name, source.content_fingerprint()),
        None,
        settings,
        None,
        None,
        sat2map.__version__,
        licence,
        attribution,
        None if scene.provenance is None else scene.provenance.acquired,
        made_from=scene.provenance,
    )


def check_not_input(target: Path, source: Source) -> None:
    """Refuse to write over what is read.

    Raises:
        UsageError: It is the same file.
    """
    if any(file.exists() and target.exists() and target.samefile(file) for file in source.files):
        raise UsageError("is the input itself", where=target, remedy="Choose another name.")


def partial_folder(target: Path) -> Path:
    """Return where what is unfinished of a file lies."""
    return target.absolute().with_name(f".{target.name}.partial")


def _begin(journal: Journal, target: Path, resume: bool) -> None:
    """Begin the folder of what is unfinished, or take up what is there."""
    if resume and not journal.is_new:
        if journal.changed:
            raise UsageError(
                f"was begun with another {' and another '.join(journal.changed)}, so it cannot "
                "be resumed",
                where=target,
                remedy="Give the same as before, or leave out `resume` to begin anew.",
            )
        journal.start()
        return
    if resume:
        logger.warning(f"{target}: nothing of it is finished, so it is begun afresh.")
    journal.start(keep=False)
    remove_own(journal.folder, _OWN)


def _make(
    scene: ClassMap,
    folder: Path,
    target: Path,
    measures: Measures,
    options: VectorOptions,
    made_of: Provenance,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event,
) -> None:
    height, width = scene.grid.height, scene.grid.width
    sheets = list(lay_sheets(height, width, options.sheet))
    sieved = folder / "sieved"
    sieved.mkdir(exist_ok=True)
    minimum = {**MINIMUM_M2, **options.minimum_m2}
    steps = 3 * len(sheets)

    def show(done: int) -> None:
        if progress is not None:
            progress(min(done, steps), steps)
        if stop.is_set():
            raise StoppedError("stopped as asked", where=target)

    some = False
    for done, sheet in enumerate(sheets, 1):
        path = sieved / f"{sheet.number}.npy"
        if not path.exists():
            numbers = sieved_sheet(scene, sheet, minimum)
            with atomic_file(path) as aside:
                np.save(aside, numbers)
        some = some or bool((np.load(path, mmap_mode="r") != NOTHING).any())
        show(done)
    give_back_memory()
    if not some:
        shutil.rmtree(sieved)
        raise DataError(
            "has no valid pixel, only nodata", where=scene.where, remedy="Give another class map."
        )
    with open_store(folder / "scene.sqlite") as store:
        finished = store.finished()
        for done, sheet in enumerate(sheets, 1):
            if sheet.number not in finished:
                store_sheet(scene, store, sieved, sheet, options)
                give_back_memory()
            show(len(sheets) + done)
        store.join()

        def tracing(done: int, total: int) -> None:
            give_back_memory()
            show(2 * len(sheets) + done * len(sheets) // total)

        with trace_roads(scene, folder=folder, progress=tracing) as network:
            store.keep_roads(network)
        del network
        give_back_memory()
        made = folder / "made"
        remove_own(made, re.compile(r"[^/]+"))
        made.mkdir(exist_ok=True)
        assert scene.grid.crs is not None  # or nothing could have been measured
        place = Placing(measures, scene.grid.crs, options.out_crs)
        roads = store.roads(width_is_true=scene.width_is_true)
        layers = layers_of(store, scene.legend, roads, measures)
        aside = made / f"whole{target.suffix.lower()}"
        if driver_of(target) == "PMTiles":
            tiles = _tile_set(scene, target, made_of)
            write_vector_tiles(aside, layers, place, tiles, lambda: show(steps))
            wide = "width_m" if scene.width_is_true else "drawn_width_m"
            write_map_style(target, scene.legend, tiles, width=wide)
        else:
            write_layers(aside, layers, place, scene.legend, options.layer, made_of)
    give_name(aside, target)


def write_layers(
    aside: Path,
    layers: Iterator[Layer],
    place: Placing,
    legend: Legend,
    wanted: LayerName | None,
    made: Provenance,
) -> None:
    """Write all layers, or the one that is wanted, into a file that is not made of tiles."""
    driver = driver_of(aside)
    for layer in layers:
        if driver == "GPKG":
            write_layer(aside, layer, place, place.crs, driver)
        elif layer.name == wanted:
            if driver == "Parquet":
                write_parquet(aside, layer, place, made)
            else:
                of_driver = {
                    "GeoJSON": {"RFC7946": "YES"},
                    "FlatGeobuf": {"TEMPORARY_DIR": str(aside.parent)},
                }[driver]
                write_layer(aside, layer, place, place.crs, driver, of_driver, made)
            break
    if driver == "GPKG":
        write_styles(aside, legend)
        write_provenance(aside, made)


def _tile_set(scene: ClassMap, target: Path, made: Provenance) -> TileSet:
    name = Path(str(scene.where)).name
    return TileSet(
        target.stem,
        f"{name} made into vectors by sat2map {sat2map.__version__}",
        made.attribution,
        tiles_of(pyramid_of(scene.grid, target)),
        made,
    )


def sieved_sheet(scene: ClassMap, sheet: Sheet, minimum: Mapping[Role, float]) -> NDArray[np.uint8]:
    """Return the class numbers of a sheet, uint8 [h,w], without islands that are too small."""
    margin = SIEVE_MARGIN
    window = (
        sheet.row - margin,
        sheet.column - margin,
        sheet.height + 2 * margin,
        sheet.width + 2 * margin,
    )
    numbers = sieve(
        scene.read(*window),
        scene.legend,
        scene.metres,
        minimum,
        scene.read_confidence(*window),
    )
    inside = numbers[margin : margin + sheet.height, margin : margin + sheet.width]
    return np.ascontiguousarray(inside)


def store_sheet(
    scene: ClassMap, store: Store, sieved: Path, sheet: Sheet, options: VectorOptions
) -> None:
    """Find the polygons of a sheet and store them.

    Args:
        scene: The class map.
        store: Where they go.
        sieved: The folder of the files of `sieved_sheet`, of this sheet and those within `MARGINS`.
        sheet: The sheet.
        options: How.
    """
    extent = (scene.grid.height, scene.grid.width)
    side = options.sheet

    @lru_cache(maxsize=64)
    def matrix_of(row: int, column: int) -> Matrix:
        height, width = min(side, extent[0] - row), min(side, extent[1] - column)
        return pixel_steps(scene.grid.part(row, column, height, width))

    def matrix_at(row: int, column: int) -> Matrix:
        return matrix_of(row // side * side, column // side * side)

    def around(margin: int) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        top, left = sheet.row - margin, sheet.column - margin
        part = (top, left, sheet.height + 2 * margin, sheet.width + 2 * margin)
        return _window(sieved, part, extent, side), scene.read_confidence(*part)

    faces = cover_sheet(around, sheet, scene.legend, matrix_at, extent, options.tolerance)
    sums, pixels = _sureness(scene, sheet, faces, options.min_confidence)
    store.add(sheet, faces, sums, pixels, extent, side)


def _window(
    sieved: Path, part: tuple[int, int, int, int], extent: tuple[int, int], side: int
) -> NDArray[np.uint8]:
    """Return a part of a scene, (row, column, height, width), out of the files of all sheets."""
    top, left, height, width = part
    window = np.full((height, width), NOTHING, np.uint8)
    across = math.ceil(extent[1] / side)
    bottom, right = min(top + height, extent[0]), min(left + width, extent[1])
    for row in range(max(top, 0) // side, math.ceil(bottom / side)):
        for column in range(max(left, 0) // side, math.ceil(right / side)):
            numbers = np.load(sieved / f"{row * across + column}.npy", mmap_mode="r")
            first, start = row * side, column * side
            one = slice(max(top, first), min(bottom, first + numbers.shape[0]))
            other = slice(max(left, start), min(right, start + numbers.shape[1]))
            window[one.start - top : one.stop - top, other.start - left : other.stop - left] = (
                numbers[
                    one.start - first : one.stop - first, other.start - start : other.stop - start
                ]
            )
    return window


def _sureness(
    scene: ClassMap, sheet: Sheet, faces: list[Face], least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of the confidence of the pixels of each face, and how many they are.

    What is less sure than `least` has no class, though a simpler outline may run over it.
    """
    from rasterio.features import rasterize

    confidence = scene.read_confidence(sheet.row, sheet.column, sheet.height, sheet.width)
    if confidence is None or not faces:
        return np.zeros(len(faces)), np.zeros(len(faces))
    shapes = shapely.transform(
        np.array([face.shape for face in faces], object), lambda p: p - (sheet.column, sheet.row)
    )
    face = rasterize(
        zip(shapes, range(1, len(faces) + 1), strict=True), confidence.shape, dtype="int32"
    )
    known = (confidence >= least) & (face > 0)
    values = confidence[known].astype(float)
    sums = np.bincount(face[known], values, minlength=len(faces) + 1).astype(float)
    counts = np.bincount(face[known], minlength=len(faces) + 1).astype(float)
    # A sliver has no middle of a pixel in it; it is as sure as the pixel that it lies in.
    slivers = np.flatnonzero(counts[1:] == 0)
    places = shapely.get_coordinates(shapely.point_on_surface(shapes[slivers])).astype(int)
    beneath = confidence[tuple(np.minimum(places[:, ::-1], np.subtract(confidence.shape, 1)).T)]
    told = np.isfinite(beneath)
    sums[1 + slivers[told]], counts[1 + slivers[told]] = beneath[told], 1
    return sums[1:], counts[1:]
