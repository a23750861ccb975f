"""Proving where a map came from: some of its windows are made again, from the same source.

First come the fingerprints: is the source the one that the file says it was made of, is the model,
are the settings? Then windows that are spread over the file are made by the same code as the first
time, and their pixels compared.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import rasterio

import sat2map
from sat2map.arguments import checks_arguments
from sat2map.batch.manifest import sources_of_maps
from sat2map.batch.verify_rasters import LEAD, SHARE, Sampled, compare, layers_of, lies_on
from sat2map.batch.verify_vectors import OwnLegendError, Remaking, unknown_settings
from sat2map.errors import DataError, Sat2mapError, StoppedError, UsageError
from sat2map.geo.gdal import is_address, reading_from, settings
from sat2map.geo.grid import Part
from sat2map.journal import HIDDEN
from sat2map.model.card import is_model
from sat2map.provenance import Provenance
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.provenance_reader import read_provenance
from sat2map.raster.resampled import ResampledScene
from sat2map.raster.sources import Source, open_source
from sat2map.runtimes.interface import Precision, RuntimeName
from sat2map.translation.maps import LAYERS
from sat2map.translation.pipeline import ScenePipeline
from sat2map.translation.provenance import provenance_of, runtime_of
from sat2map.translation.scene_view import SceneView
from sat2map.translation.translator import Translator, load
from sat2map.vectors.geopackage import contents_of
from sat2map.vectors.join import JOINED

Answer = Literal["equal", "equal within the runtime", "unchanged", "differs", "unverified"]

_VERIFIED = (".tif", ".tiff", ".gpkg", ".pmtiles", ".geojson", ".fgb", ".parquet")
_OF_VECTORS_ALONE = _VERIFIED[3:]


@dataclass(frozen=True)
class Verification:
    """What came out for one file.

    Attributes:
        file: The file.
        answer: "equal": the windows that were made again have the same pixels. "equal within the
            runtime": at most `SHARE` of the pixels have another class, and none where the most
            probable one led by more than `LEAD`; of vectors the same of the ground, but for the few
            pixels beside a border. "unchanged": vectors that cannot be made again, such as joined
            ones, hold what was written. "unverified": one of a folder could not be compared, as
            `note` says. "differs": all else.
        changed: What is not as it was: of "source", "model", "settings", "runtime".
        windows: How many windows were made again, of vectors how many sheets.
        of: How many there are.
        pixels: How many pixels were compared; none of vectors.
        differing: How many of them have another class, or values that are off; of vectors how many
            shapes or tiles are others.
        largest: The largest lead of a class at a pixel that has another one, or how far values are
            off, 0 to 1.
        note: What else is to be said, or None.
        shapes: Of vectors how many shapes were compared, of vector tiles how many tiles.
        compared: What was compared, for people.
    """

    file: Path
    answer: Answer
    changed: tuple[str, ...] = ()
    windows: int = 0
    of: int = 0
    pixels: int = 0
    differing: int = 0
    largest: float = 0.0
    note: str | None = None
    shapes: int = 0
    compared: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self) | {"file": str(self.file), "changed": list(self.changed)}

    def to_line(self) -> str:
        """Return it as a line of text."""
        parts: list[str] = [self.answer]
        if self.changed:
            parts.append(f"changed: {', '.join(self.changed)}")
        if self.windows:
            kind = "sheets" if self.shapes else "windows"
            parts.append(f"{self.windows} of {self.of} {kind}, {self.compared}")
        if self.differing and self.shapes:
            parts.append(f"{self.differing:,} differ")
        elif self.differing:
            parts.append(f"{self.differing:,} differ, at most by {self.largest:.2f}")
        return f"{self.file}: {'; '.join([*parts, *filter(None, [self.note])])}"


@checks_arguments
def verify(
    path: str | Path,
    source: str | Path | None = None,
    model: str | Path | None = None,
    *,
    sample: int = 20,
    seed: int = 0,
    runtime: RuntimeName | None = None,
    precision: Precision | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> list[Verification]:
    """Make some windows of outputs again, and say whether they are what their files hold.

    Args:
        path: A map, class map or confidence (.tif), vectors of any kind, or a folder of them.
        source: What it was made of, a file or an address; or a folder in which it is found by its
            name. None takes what the manifest of a batch says, and otherwise looks beside the
            output and in the working folder.
        model: The model or its folder; None takes the shipped one of the same name.
        sample: How many windows of each raster, and sheets of vectors, are made again, at most.
        seed: Chooses the windows, which are spread over the file.
        runtime: What runs the model; None takes what ran it.
        precision: What it computes in; None takes what it computed in.
        progress: Called with (done, all) files and windows.
        stop: Another thread or a signal's handler sets it to have the work stop soon.

    Returns:
        One for each file, in the order of their names.

    Raises:
        DataError: A file does not say what it was made of, or cannot be read; the source is not
            there. Of a folder this and what follows is raised where it is so of each of its files;
            otherwise those are "unverified" of which it is so.
        ModelError: The model's folder is missing or damaged.
        UsageError: The model is not known by its name, or does not run here as it ran.
        StoppedError: `stop` is set.
    """
    if sample < 1:
        raise UsageError(f"is {sample}", parameter="sample", remedy="Give 1 or more.")
    files = outputs_of(Path(path))
    work = _Work(_Asked(source, model, sample, seed, runtime, precision), stop)
    found: list[Verification] = []
    errors: list[Sat2mapError] = []
    for done, (file, made) in enumerate(files):

        def show(part: float, done: int = done) -> None:
            if progress is not None:
                progress(round(1000 * (done + part)), 1000 * len(files))

        try:
            found.append(work.verify(file, made, show))
        except StoppedError:
            raise
        except Sat2mapError as error:
            errors.append(error)
            found.append(Verification(file, "unverified", note=str(error)))
    if len(errors) == len(files):
        raise errors[0]
    return found


def outputs_of(path: Path) -> list[tuple[Path, Provenance]]:
    """Return a file, or the files of a folder, with what they say of their making.

    Of a folder those are left out that say nothing, comparisons, and what is hidden.

    Raises:
        DataError: There is no such file, or it says nothing.
    """
    if path.is_dir():
        named = sorted(file for file in path.rglob("*") if file.suffix.lower() in _VERIFIED)
        shown = [
            file
            for file in named
            if not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        told = [(file, read_provenance(file)) for file in shown]
        found = [
            (file, made)
            for file, made in told
            if made is not None and made.layer != "compare" and _can_be(file, made)
        ]
        if not found:
            raise DataError(
                "holds no map or vectors that say what they were made of",
                where=path,
                remedy="Give a folder of outputs of this version of sat2map.",
            )
        return found
    if not path.is_file():
        raise DataError("there is no such file", where=path, remedy="Check the name.")
    if path.suffix.lower() not in _VERIFIED:
        raise UsageError(
            "is not of a kind that can be verified",
            where=path,
            remedy="Give a .tif, vectors or a folder of them; `sat2map info` tells of others.",
        )
    made = read_provenance(path)
    if made is None:
        raise DataError(
            "does not say what it was made of",
            where=path,
            remedy="Give an output of this version of sat2map.",
        )
    if not _can_be(path, made):
        raise UsageError(
            "is an archive of images, which is not made again",
            where=path,
            remedy="Verify the map as a .tif; `sat2map info` tells what it was made of.",
        )
    return [(path, made)]


def _can_be(file: Path, made: Provenance) -> bool:
    """Return whether an output of its kind can be verified."""
    return made.layer == "vectors" or file.suffix.lower() not in _OF_VECTORS_ALONE


@dataclass(frozen=True)
class _Asked:
    """What files are compared with, and how much of them; see `verify`."""

    source: str | Path | None
    model: str | Path | None
    sample: int
    seed: int
    runtime: RuntimeName | None
    precision: Precision | None


class _Work:
    """Verifies file after file; models are loaded once.

    Args:
        asked: What is compared.
        stop: Asks to stop once it is set.
    """

    def __init__(self, asked: _Asked, stop: threading.Event | None) -> None:
        self._asked, self._stop = asked, stop or threading.Event()
        self._loaded: dict[tuple[str, str | None, str | None], Translator] = {}
        self._batches: dict[Path, dict[str, str]] = {}

    def verify(self, file: Path, made: Provenance, show: Callable[[float], None]) -> Verification:
        """Return what comes out for one file."""

        def heed(part: float) -> None:
            show(part)
            if self._stop.is_set():
                raise StoppedError("stopped as asked", where=file, remedy="Begin anew.")

        if made.layer == JOINED:
            same = contents_of(file) == made.contents
            note = (
                "joined vectors are not made again, but hold what was written"
                if same
                else "its shapes are not those that were written"
            )
            return Verification(file, "unchanged" if same else "differs", note=note)
        source = self._asked.source or self._source_in_batch(file)
        source = find_source(file, made, source)
        if made.layer == "vectors":
            return self._verify_vectors(file, made, source, show)
        if made.layer not in LAYERS:
            raise UsageError(
                "shows its source beside the map, which is not verified",
                where=file,
                remedy="Give the map itself.",
            )
        translator = self._translator(file, made)
        with ExitStack() as stack:
            stack.enter_context(settings(remote=is_address(source)))
            view = SceneView(source, translator, _options(made, file), say=lambda _: None)
            stack.enter_context(view)
            changed = self._changed(made, view, translator)
            if changed and changed != ["runtime"]:
                return Verification(file, "differs", tuple(changed))
            again = stack.enter_context(view.scene.opened_again())
            shown = ResampledScene(again, *view.scale.written)
            with reading_from(file):
                held = stack.enter_context(rasterio.open(file))
            part = view.part.on(view.scene.grid, shown.grid)
            if "part" in made.settings:  # what a server gave out
                part = Part(*made.settings["part"])
            grid = shown.grid.part(part.top, part.left, part.height, part.width)
            if not lies_on(held, grid):
                note = "it has other pixels than the map of that source"
                return Verification(file, "differs", tuple(changed), note=note)
            layers = layers_of(made)
            pipeline = ScenePipeline(
                translator, view.seen, shown, _options(made, file), layers, part, align=1
            )
            sampled = compare(file, made, held, pipeline, translator, self._choose, heed)
        return _judged(file, changed, sampled)

    def _choose(self, count: int) -> list[int]:
        """Return some of so many numbers, one by chance of each of as many parts of equal size."""
        random = np.random.default_rng(self._asked.seed)
        edges = np.linspace(0, count, min(self._asked.sample, count) + 1).astype(int)
        return [int(random.integers(start, stop)) for start, stop in pairwise(edges)]

    def _source_in_batch(self, file: Path) -> str | None:
        """Return what a file of a batch was made of, if that is still there; otherwise None."""
        for folder in file.absolute().parents:
            if not (folder / HIDDEN).is_dir():
                continue
            if folder not in self._batches:
                self._batches[folder] = sources_of_maps(folder)
            source = self._batches[folder].get(file.absolute().relative_to(folder).as_posix())
            if source is not None and (is_address(source) or Path(source).exists()):
                return source
        return None

    def _translator(self, file: Path, made: Provenance) -> Translator:
        """Return the model that made a file, as it ran."""
        assert made.model is not None and made.runtime is not None
        name = str(made.model.name if self._asked.model is None else self._asked.model)
        if self._asked.model is None and not is_model(name):
            raise UsageError(
                f"{file} was made by {name}, which does not come with the package",
                parameter="model",
                remedy="Give the model's folder.",
            )
        ran = made.runtime.partition(" ")[0]
        runtime = self._asked.runtime or ran
        precision = self._asked.precision or (made.precision if runtime == ran else None)
        key = (name, runtime, precision)
        if key not in self._loaded:
            self._loaded[key] = load(
                name,
                runtime=cast(RuntimeName, runtime),
                precision=cast(Precision, precision or "auto"),
            )
        translator = self._loaded[key]
        colours, votes = made.settings.get("colours"), made.settings.get("samples")
        if votes is not None:
            translator = translator.sampled(votes["count"], votes["seed"])
        return translator if colours is None else translator.in_colours(colours)

    def _changed(self, made: Provenance, view: SceneView, translator: Translator) -> list[str]:
        """Return what is not as it was when a file was made."""
        assert made.model is not None
        source = view.scene.source
        now = provenance_of(
            translator,
            source,
            _options(made, source.where),
            is_warped=bool(made.settings["reading"]["warp"]),
        )
        aside = dict.fromkeys(("mask", "min_confidence", "part", "painted", "compare"))
        ours = {**made.settings, **aside}
        runtime = (made.runtime, made.precision, made.version)
        changed = {
            "source": made.source.fingerprint != now.source.fingerprint,
            "model": made.model.fingerprint != translator.identity,
            "settings": ours != {**now.settings, **aside},
            "runtime": runtime
            != (runtime_of(translator), translator.precision, sat2map.__version__),
        }
        return [name for name, is_so in changed.items() if is_so]

    def _verify_vectors(
        self, file: Path, made: Provenance, source: str | Path, show: Callable[[float], None]
    ) -> Verification:
        """Make some sheets of vectors again, or all, and compare them with a file's."""
        is_intact = file.suffix.lower() != ".gpkg" or contents_of(file) == made.contents
        note = None if is_intact else "its shapes are not those that were written"
        with open_source(source).as_scene() as opened:
            translator = None
            if made.model is None:
                is_same = opened.content_fingerprint() == made.source.fingerprint
                changed = [] if is_same else ["source"]
                changed += [] if made.version == sat2map.__version__ else ["runtime"]
            else:
                of_classes = replace(made, settings=made.settings["classes"])
                translator = self._translator(file, of_classes)
                changed = self._changed_land_cover(of_classes, opened, translator)
            if changed and changed != ["runtime"]:
                return Verification(file, "differs", tuple(changed), note=note)

            remaking = Remaking(file, made, opened, translator, self._choose, show, self._stop)
            try:
                found = remaking.run()
            except OwnLegendError as error:
                same = f"{error.what}, so that nothing is made again"
                return Verification(
                    file, "unchanged" if is_intact else "differs", note=note or same
                )
        answer: Answer = "differs"
        if is_intact and not found.differing:
            answer = "equal"
        elif is_intact and found.is_near:
            answer = "equal within the runtime"
        return Verification(
            file,
            answer,
            tuple(changed),
            found.sheets,
            found.of,
            differing=found.differing,
            note=note,
            shapes=found.shapes,
            compared=found.told,
        )

    def _changed_land_cover(
        self, made: Provenance, source: Source, translator: Translator
    ) -> list[str]:
        """Return what is not as it was when the land cover of a photo was made."""
        options = _options(made, source.where)
        options = replace(options, reading=replace(options.reading, warp=True))
        with SceneView(source, translator, options, straight=True, say=lambda _: None) as view:
            return self._changed(made, view, translator)


def _judged(file: Path, changed: list[str], sampled: Sampled) -> Verification:
    answer: Answer = "differs"
    if sampled.is_equal:
        answer = "equal"
    elif sampled.differing <= SHARE * sampled.pixels and sampled.largest <= LEAD:
        answer = "equal within the runtime"
    return Verification(
        file,
        answer,
        tuple(changed),
        sampled.windows,
        sampled.of,
        sampled.pixels,
        sampled.differing,
        sampled.largest,
        compared=f"{sampled.pixels:,} pixels",
    )


def find_source(file: Path, made: Provenance, given: str | Path | None) -> str | Path:
    """Return what an output was made of.

    Args:
        file: The output.
        made: What it says of its making.
        given: The source, or a folder in which it is; None looks beside the output.

    Raises:
        DataError: It is not there.
    """
    name = made.source.name
    if given is not None:
        if is_address(given) or not Path(given).is_dir():
            return given
        found = sorted(path for path in Path(given).rglob(name) if not _is_of(path, name))
        if len(found) > 1:  # the same name in several folders: the contents tell
            alike = [
                path
                for path in found
                if open_source(path).content_fingerprint() == made.source.fingerprint
            ]
            found = alike or found
        if found:
            return found[0]
        if open_source(given).name == name:  # the folder itself, as a mosaic or tiles
            return given
        raise DataError(
            f"was made of {name}, which is not in {given}",
            where=file,
            remedy="Say where that is by `source`.",
        )
    for place in (file.parent, Path()):
        if (place / name).exists() and not _is_of(place / name, name):
            return place / name
    raise DataError(
        f"was made of {name}, which is not beside it",
        where=file,
        remedy="Say where that is by `source`.",
    )


def _is_of(path: Path, name: str) -> bool:
    """Return whether a file was made of one of that name, as maps are called like their scenes."""
    made = read_provenance(path) if path.is_file() else None
    return made is not None and made.source.name == name


def _options(made: Provenance, where: str | Path) -> SceneOptions:
    """Return the options by which a file was made; the mask is left aside.

    Raises:
        DataError: They are not ones that this version knows.
    """
    try:
        told = dict(made.settings)
        reading = Reading(**told["reading"])
        known = ("resolution", "legend_colours", "mode", "seed", "window", "overlap")
        return SceneOptions(reading, **{name: told[name] for name in known})
    except (KeyError, TypeError, Sat2mapError) as error:
        raise unknown_settings(made, where) from error


def to_json(found: list[Verification]) -> str:
    """Return what came out as JSON."""
    return json.dumps([one.to_json() for one in found], indent=2)


def lines_of(found: list[Verification]) -> Iterator[str]:
    """Yield what came out as lines of text."""
    for one in found:
        yield one.to_line()
