"""Whether vectors are those that their class map, or their photo, gives.

What can be compared honestly depends on how much of the scene is made again:

    all sheets     every layer, roads among them, shape by shape and column by column; of an
                   archive of vector tiles every tile
    some sheets    the coverage and the buildings of these, shape by shape; not roads, which are
                   a network over all sheets, nor buildings that reach into other sheets

Both go through a file of the same kind, so that coordinates are rounded in the same way.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.batch.verify_rasters import LEAD, SHARE
from sat2map.errors import DataError, StoppedError, UsageError
from sat2map.geo.grid import Grid
from sat2map.geo.vector_layer import require, unreadable
from sat2map.legend import LEGENDS, Legend
from sat2map.provenance import Provenance, fingerprint_files, fingerprint_json
from sat2map.raster.options import Reading
from sat2map.raster.sources import Source, open_source
from sat2map.raster.tile_archives import pmtiles_order
from sat2map.translation.land_cover import land_cover_within
from sat2map.translation.translator import Translator
from sat2map.vectors.class_map import ClassMap, open_class_map
from sat2map.vectors.coverage import Sheet
from sat2map.vectors.formats import DRIVERS
from sat2map.vectors.formats import LAYERS as ALL_LAYERS
from sat2map.vectors.sheets import LAYERS, Sheets, write_sheets
from sat2map.vectors.vectorise import VectorOptions, make_vectors

REACH = 3
"""Pixels by which a border or a road may lie beside, where a runtime rounds in another way."""

_NUMBERS = ("part_of", "u", "v", "node")
"""Columns that number the shapes of the whole scene."""


@dataclass(frozen=True)
class Compared:
    """What came out for the vectors of one file.

    Attributes:
        sheets: How many sheets were made again.
        of: How many there are.
        shapes: How many shapes or tiles were compared, those that are missing among them.
        differing: How many of them are not the same in both.
        layers: Which layers; none of an archive of tiles.
        aside: How many buildings were left aside, since they reach into other sheets.
        is_near: Whether what differs is no more than a runtime that rounds otherwise may cause.
    """

    sheets: int
    of: int
    shapes: int
    differing: int
    layers: tuple[str, ...] = ()
    aside: int = 0
    is_near: bool = False

    @property
    def told(self) -> str:
        """What was compared, for people."""
        if not self.layers:
            return f"{self.shapes:,} tiles"
        aside = f"; {self.aside:,} buildings that reach further left aside" if self.aside else ""
        return f"{self.shapes:,} shapes of {', '.join(self.layers)}{aside}"


def options_of(made: Provenance, where: Path) -> VectorOptions:
    """Return how vectors were made.

    Raises:
        DataError: With settings that this version does not know.
    """
    names = ("minimum_m2", "tolerance", "min_confidence", "sheet", "layer", "out_crs")
    try:
        return VectorOptions(**{name: made.settings[name] for name in names})
    except (KeyError, TypeError, UsageError) as error:
        raise unknown_settings(made, where) from error


def unknown_settings(made: Provenance, where: str | Path) -> DataError:
    """Return the error that an output was made in a way that this version does not know."""
    return DataError(
        "was made with settings that this version does not know",
        where=where,
        remedy=f"Verify it with sat2map {made.version}.",
    )


@dataclass(frozen=True)
class Remaking:
    """How the vectors of a file are made again.

    Attributes:
        file: The file.
        made: What it says of its making.
        source: What it was made of.
        translator: The model, where that is a photo.
        choose: Returns which of so many sheets are made again, in their order.
        show: Called with the share that is done, 0 to 1.
        stop: Asks to stop once it is set.
    """

    file: Path
    made: Provenance
    source: Source
    translator: Translator | None
    choose: Callable[[int], Sequence[int]]
    show: Callable[[float], None]
    stop: threading.Event

    def run(self) -> Compared:
        """Make them again and compare them.

        Raises:
            DataError: The file or its source cannot be read.
            UsageError: Too few sheets are chosen to say anything of such a file.
            OutputError: The disk is full.
            StoppedError: `stop` is set.
        """
        options = options_of(self.made, self.file)
        with TemporaryDirectory(prefix="sat2map-verify-") as name:
            folder = Path(name)
            with self._rasters(folder, options) as (scene, sheets, rasters):
                again = folder / f"again{self.file.suffix.lower()}"
                if not sheets.is_whole:
                    write_sheets(scene, sheets, again, options, self.made, self._heed)
                else:
                    classes, confidence, probabilities = rasters
                    make_vectors(
                        classes,
                        again,
                        scene.legend,
                        confidence,
                        options,
                        lambda done, of: self.show(0.5 + done / of / 2),
                        self.stop,
                        probabilities=probabilities,
                    )
                return compare(self.file, again, sheets, scene, options.layer)

    @contextmanager
    def _rasters(
        self, folder: Path, options: VectorOptions
    ) -> Iterator[tuple[ClassMap, Sheets, tuple[Source, Path | None, Path | None]]]:
        """Open the class map, and say which sheets are made again and what rasters it is."""
        sheets: list[Sheets] = []

        def choose(grid: Grid) -> Sheets:
            every = Sheets.of(grid, options.sheet)
            chosen = [every.every[number] for number in self.choose(len(every.every))]
            sheets.append(replace(every, chosen=chosen))
            check_sample(self.file, options, sheets[-1])
            return sheets[-1]

        with ExitStack() as stack:
            opened = partial(open_class_map, min_confidence=options.min_confidence)
            if self.translator is None:
                legend = _legend_of(self.source, self.made, self.file)
                sure = _confidence_of(self.source, self.made, self.file)
                scene = stack.enter_context(opened(self.source, legend=legend, confidence=sure))
                yield scene, choose(scene.grid), (self.source, sure, None)
                return
            reading = Reading(**self.made.settings["classes"]["reading"])
            classes, shares = stack.enter_context(
                land_cover_within(
                    self.source,
                    folder,
                    self.translator,
                    reading,
                    lambda grid: choose(grid).parts(),
                    progress=lambda done, of: self.show(done / of / 2),
                    stop=self.stop,
                )
            )
            scene = stack.enter_context(opened(classes, probabilities=shares))
            yield scene, sheets[-1], (open_source(classes), None, shares)

    def _heed(self, done: int, of: int) -> None:
        self.show(0.5 + done / of / 2)
        if self.stop.is_set():
            raise StoppedError("stopped as asked", where=self.file, remedy="Begin anew.")


def _legend_of(source: Source, made: Provenance, file: Path) -> str | None:
    """Return the legend that a class map was read by, as `open_class_map` takes it.

    Raises:
        OwnLegendError: It was somebody's own.
    """
    for legend in (None, *LEGENDS):
        try:
            with open_class_map(source, legend=legend) as scene:
                if fingerprint_json(scene.legend.to_json()) == made.settings["legend"]:
                    return legend
        except DataError:
            continue
    raise OwnLegendError(
        f"was made of {source.name} with a legend of somebody's own",
        where=file,
        remedy="Give the class map that legend as its tag SAT2MAP_LEGEND, and make it anew.",
    )


class OwnLegendError(UsageError):
    """Nobody but who made the vectors knows what the class map's values mean."""


def _confidence_of(source: Source, made: Provenance, file: Path) -> Path | None:
    """Return the raster of confidence beside a class map that vectors were made with.

    Raises:
        DataError: It is not there.
    """
    wanted = made.settings["confidence"]
    if wanted is None:
        return None
    folder = Path(source.where).parent
    beside = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".tif", ".tiff")]
    for path in sorted(beside, key=lambda path: "confidence" not in path.name):
        if fingerprint_files([path]) == wanted:
            return path
    raise DataError(
        f"was made with a raster of confidence that is not beside {source.name}",
        where=file,
        remedy="Put it there.",
    )


def check_sample(file: Path, options: VectorOptions, sheets: Sheets) -> None:
    """Refuse a sample of sheets that says nothing of a file.

    Raises:
        UsageError: It has roads or tiles alone, which follow from all sheets.
    """
    is_tiled = file.suffix.lower() == ".pmtiles"
    if sheets.is_whole or not (is_tiled or options.layer not in (None, *LAYERS)):
        return
    raise UsageError(
        f"holds {'tiles' if is_tiled else options.layer}, which follow from all "
        f"{len(sheets.every)} sheets of the scene",
        where=file,
        remedy=f"Give `sample={len(sheets.every)}` to have all of them made again.",
    )


def compare(file: Path, again: Path, sheets: Sheets, scene: ClassMap, only: str | None) -> Compared:
    """Compare the vectors of a file with what was made again.

    Args:
        file: The file.
        again: What was made again: all of it, or `LAYERS` of some sheets.
        sheets: Which sheets were made again.
        scene: The class map.
        only: The one layer that such a file has; None where it has all.

    Raises:
        DataError: The file cannot be read.
    """
    count = len(sheets.chosen), len(sheets.every)
    if file.suffix.lower() == ".pmtiles":
        one, other = _tiles(file), _tiles(again)
        wrong = sum(one.get(at) != other.get(at) for at in one.keys() | other.keys())
        return Compared(*count, len(one.keys() | other.keys()), wrong)
    layers = _layers_of(file, again, sheets) if only is None else [only]
    shapes = differing = aside = 0
    is_near = scene.knows_roads  # of a photo; where a class map is given nothing is rounded
    for layer in layers:
        was, more = _rows_within(file, layer, sheets, scene.legend)
        now, _ = _rows_within(again, layer, sheets, scene.legend)
        columns = [name for name in now.columns if sheets.is_whole or name not in _NUMBERS]
        held, made = was.counted(columns), now.counted(columns)
        shapes += (held | made).total()
        wrong = max((held - made).total(), (made - held).total())  # one that changed is one
        differing, aside = differing + wrong, max(aside, more)
        if wrong:
            is_near = is_near and _is_near(layer, was, now, sheets, scene)
    return Compared(*count, shapes, differing, tuple(layers), aside, is_near and differing > 0)


def _layers_of(file: Path, again: Path, sheets: Sheets) -> list[str]:
    """Return the layers of GeoPackages that are compared."""
    import pyogrio
    from pyogrio.errors import DataSourceError

    try:
        there = {str(name) for one in (file, again) for name, _ in pyogrio.list_layers(one)}
    except DataSourceError as error:
        raise unreadable(file, error) from error
    wanted = ALL_LAYERS if sheets.is_whole else LAYERS
    return [name for name in wanted if name in there]


@dataclass(frozen=True)
class _Rows:
    """Some rows of a layer.

    Attributes:
        shapes: WKB, object [N].
        columns: Values by column, each [N].
        crs: The file's coordinates.
    """

    shapes: NDArray[np.object_]
    columns: Mapping[str, NDArray[Any]]
    crs: str
    fids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def only(self, chosen: NDArray[Any]) -> _Rows:
        """Return some of the rows."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return _Rows(self.shapes[chosen], columns, self.crs, self.fids[chosen])

    def counted(self, names: list[str]) -> Counter[tuple[Any, ...]]:
        """Return how often each row is there, by its shape and some columns."""
        none = [None] * len(self.shapes)
        values = [self.columns[name].tolist() if name in self.columns else none for name in names]
        # nan is not equal to itself
        return Counter(
            zip(self.shapes.tolist(), *(map(repr, each) for each in values), strict=True)
        )


def _read(file: Path, layer: str, bounds: tuple[float, float, float, float] | None) -> _Rows:
    """Return the rows of a layer that touch bounds in the file's coordinates, or all."""
    if DRIVERS[file.suffix.lower()] == "Parquet":
        return _read_parquet(file)
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import read

    named = layer if DRIVERS[file.suffix.lower()] == "GPKG" else None
    try:
        meta, fids, shapes, values = read(file, layer=named, bbox=bounds, return_fids=True)
    except (DataLayerError, DataSourceError) as error:
        raise unreadable(file, error) from error
    columns = dict(zip(map(str, meta["fields"]), values, strict=True))
    return _Rows(shapes, columns, str(meta["crs"]), fids)


def _read_parquet(file: Path) -> _Rows:
    require("pyarrow", "vectors")
    from pyarrow import ArrowException, parquet
    from pyproj import CRS

    try:
        table = parquet.read_table(file)
        told = json.loads(parquet.read_metadata(file).metadata[b"geo"])
        crs = CRS.from_json_dict(told["columns"]["geometry"]["crs"]).to_wkt()
    except (ArrowException, OSError, KeyError, ValueError) as error:
        raise unreadable(file, error) from error
    columns = {
        name: np.array(table[name].to_pylist(), object)
        for name in table.column_names
        if name != "geometry"
    }
    shapes = np.array(table["geometry"].to_pylist(), object)
    return _Rows(shapes, columns, crs, np.arange(len(shapes)))


def _rows_within(file: Path, layer: str, sheets: Sheets, legend: Legend) -> tuple[_Rows, int]:
    """Return the rows of the chosen sheets, and how many buildings reach beyond these."""
    if sheets.is_whole:
        return _read(file, layer, None), 0
    buildings = [entry.name for entry in legend.classes if entry.role == "building"]
    found = _read(file, layer, (0, 0, 0, 0))  # for its coordinates
    parts = [_read(file, layer, sheets.bounds(one, found.crs)) for one in sheets.chosen]
    whole = _Rows(
        np.concatenate([one.shapes for one in parts]),
        {name: np.concatenate([one.columns[name] for one in parts]) for name in found.columns},
        found.crs,
        np.concatenate([one.fids for one in parts]),
    )
    whole = whole.only(np.unique(whole.fids, return_index=True)[1])
    if not len(whole.shapes):
        return whole, 0
    is_building = np.isin(whole.columns["class"].astype(str), buildings)
    own, across = sheets.holds(shapely.from_wkb(whole.shapes), is_building, found.crs)
    return whole.only(own), int(across.sum())


def _tiles(file: Path) -> dict[tuple[int, int, int], bytes]:
    """Return the tiles of an archive by their places."""
    pmtiles_order()  # says what is not installed
    from pmtiles import reader

    untyped: Any = reader
    try:
        with file.open("rb") as opened:
            return dict(untyped.all_tiles(untyped.MmapSource(opened)))
    except Exception as error:  # the package has no error of its own for what is no archive
        raise DataError(
            f"cannot be read ({error})", where=file, remedy="Restore it, or make it anew."
        ) from error


def _is_near(layer: str, was: _Rows, now: _Rows, sheets: Sheets, scene: ClassMap) -> bool:
    """Return whether two layers differ no more than by what a runtime rounds."""
    if not _agree(was, now):
        return False
    if layer in LAYERS:
        return _is_near_on_ground(was, now, sheets, scene)
    if layer == "roads":
        return _are_beside(was, now, sheets)
    return True  # nodes are those of roads, water and vegetation are parts of the coverage


def _is_near_on_ground(was: _Rows, now: _Rows, sheets: Sheets, scene: ClassMap) -> bool:
    """Return whether polygons give nearly all pixels of the sheets the same class."""
    pixels = other = 0
    shapes = [sheets.pixels(shapely.from_wkb(rows.shapes), rows.crs) for rows in (was, now)]
    for sheet in sheets.chosen:
        before, after = (
            _painted(found, rows.columns["class"], sheet, scene.legend)
            for found, rows in zip(shapes, (was, now), strict=True)
        )
        wrong = before != after
        pixels += wrong.size
        other += int(wrong.sum())
        if wrong.any() and _lead_inside(wrong, sheet, scene) > LEAD:
            return False
    return other <= SHARE * pixels


def _painted(
    shapes: NDArray[np.object_], names: NDArray[Any], sheet: Sheet, legend: Legend
) -> NDArray[np.uint8]:
    """Return which class polygons give the pixels of a sheet, uint8 [h,w], from 1; 0 is none."""
    from rasterio.features import rasterize

    numbers = {entry.name: number for number, entry in enumerate(legend.classes, 1)}
    moved = shapely.transform(shapes, lambda points: points - (sheet.column, sheet.row))
    near = shapely.intersects(moved, shapely.box(0, 0, sheet.width, sheet.height))
    pairs = [
        (shape, numbers.get(str(name), 0))
        for shape, name in zip(moved[near], names[near], strict=True)
    ]
    size = (sheet.height, sheet.width)
    if not pairs:
        return np.zeros(size, np.uint8)
    painted: NDArray[np.uint8] = rasterize(pairs, size, dtype="uint8")
    return painted


def _lead_inside(wrong: NDArray[np.bool_], sheet: Sheet, scene: ClassMap) -> float:
    """Return the largest lead at wrong pixels that do not lie beside a border of classes."""
    from scipy import ndimage

    window = (sheet.row - 1, sheet.column - 1, sheet.height + 2, sheet.width + 2)
    numbers = scene.read(*window)
    lowest, highest = ndimage.minimum_filter(numbers, 3), ndimage.maximum_filter(numbers, 3)
    away = ndimage.distance_transform_edt(lowest == highest)[1:-1, 1:-1]
    sure = scene.read_confidence(sheet.row, sheet.column, sheet.height, sheet.width)
    assert sure is not None  # of a photo it is known
    lead = np.nan_to_num(2 * sure - 1)  # at least
    far = wrong & (away > REACH)
    return float(lead[far].max()) if far.any() else 0.0


def _agree(was: _Rows, now: _Rows) -> bool:
    """Return whether rows of the same shape tell the same, but for what is rounded."""
    place = {shape: at for at, shape in enumerate(now.shapes.tolist())}
    pairs = [(at, place[shape]) for at, shape in enumerate(was.shapes.tolist()) if shape in place]
    if not pairs:
        return True
    ours, theirs = np.array(pairs).T
    for name in now.columns.keys() - set(_NUMBERS):
        if name not in was.columns:
            return False
        held, made = was.columns[name][ours], now.columns[name][theirs]
        if held.dtype.kind == made.dtype.kind == "f":
            both = np.isnan(held) & np.isnan(made)
            if not (both | (np.abs(held - made) <= np.maximum(LEAD, SHARE * np.abs(made)))).all():
                return False
        elif held.tolist() != made.tolist():
            return False
    return True


def _are_beside(was: _Rows, now: _Rows, sheets: Sheets) -> bool:
    """Return whether nearly all of two networks lies within `REACH` of the other."""
    one, other = (
        shapely.union_all(sheets.pixels(shapely.from_wkb(rows.shapes), rows.crs))
        for rows in (was, now)
    )
    alone = [
        shapely.length(shapely.difference(lines, shapely.buffer(others, REACH)))
        for lines, others in ((one, other), (other, one))
    ]
    return bool(max(alone) <= SHARE * shapely.length(other))
