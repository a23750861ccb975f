"""Translating whatever the command line is given: a scene, a picture, or a folder of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from sat2map.data.pictures import MAX_PIXELS, PICTURE_SUFFIXES, TIFF_SUFFIXES
from sat2map.errors import BatchError, DataError, Sat2mapError, UsageError
from sat2map.raster.gdal import is_address, open_dataset
from sat2map.raster.opening import scenes_in
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.sink import KINDS
from sat2map.raster.source import grid_of
from sat2map.raster.tile_tree import find_trees
from sat2map.raster.tiles import translate_tiles
from sat2map.raster.translate import key_of, translate_raster
from sat2map.translation.picture import (
    PictureOptions,
    compare_name,
    legend_of,
    translate_picture,
)
from sat2map.translation.translator import Translator

Kind = Literal["scene", "tiles", "picture", "folder"]


def kind_of(source: str | Path, target: Path) -> Kind:
    """Return what a call means: one scene, tiles into tiles, a picture, or a folder's files.

    A folder is one scene where the output's name is a raster's, as a mosaic of the files in
    it, and so is a tree of tiles.

    Raises:
        DataError: A pattern of tiles finds none.
    """
    if is_address(source):
        return "scene"
    raster = "{z}" not in str(target) and target.suffix.lower() in KINDS
    if find_trees(source):
        return "scene" if raster else "tiles"
    path = Path(source)
    if path.is_dir():
        return "scene" if target.suffix.lower() in KINDS else "folder"
    return "scene" if is_scene(path) else "picture"


def is_scene(path: Path) -> bool:
    """Return whether a file is translated in windows: all but pictures without coordinates."""
    if path.suffix.lower() not in PICTURE_SUFFIXES - TIFF_SUFFIXES:
        return True
    try:
        return _georeferenced(path)
    except DataError:
        return False  # what is wrong with a picture, its reader says better


def translate_path(
    translator: Translator,
    source: str | Path,
    target: Path,
    options: SceneOptions | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Translate a scene, a picture, or a folder.

    Of a folder, georeferenced rasters become OUT/STEM.tif and pictures OUT/STEM.png; where the
    target is a raster's name, they are one mosaic.

    Args:
        translator: The model.
        source: What `translate_raster` takes, a picture (PNG, JPEG, WebP) or a folder.
        target: The map's name, or a folder's.
        options: How.
        max_pixels: Refuse larger pictures; scenes may be of any size.
        progress: Called with (done, all): pixels of a scene, windows of a picture, or files of
            a folder.

    Returns:
        What was written, without the comparisons.

    Raises:
        DataError: The file cannot be used.
        BatchError: Some files of the folder cannot be used; the others are done.
        UsageError: The names or the options do not fit together.
        OutputError: The place is not writable or the disk is full.
    """
    options = options or SceneOptions()
    kind = kind_of(source, target)
    if kind == "scene":
        return [translate_raster(source, target, translator, options, progress)]
    if kind == "tiles":
        return [translate_tiles(find_trees(source), target, translator, options, progress)]
    source = Path(source)
    if kind == "folder":
        return _translate_folder(translator, source, target, options, max_pixels, progress)
    if options.reading != Reading() or options.resolution != "native" or options.mask is not None:
        raise UsageError(
            "is a picture, to which no option of scenes applies",
            where=source,
            remedy="Leave out --bands, --stretch, --range, --resolution, --bbox and --mask.",
        )
    pictures = _for_pictures(options, max_pixels)
    return [translate_picture(translator, source, target, pictures, progress)]


def _translate_folder(
    translator: Translator,
    source: Path,
    target: Path,
    options: SceneOptions,
    max_pixels: int,
    progress: Callable[[int, int], None] | None,
) -> list[Path]:
    files = scenes_in(source)
    if target.resolve() == source.resolve() or (target.exists() and not target.is_dir()):
        raise UsageError(
            "must be another folder than the input", where=target, remedy="Choose another name."
        )
    if options.legend_colours:
        legend_of(translator)  # what no file can mend is said once
    pictures = _for_pictures(options, max_pixels)
    finished = Finished(target, resume=options.resume)
    written: dict[Path, Path] = {}
    stems: dict[str, Path] = {}
    failures: list[Sat2mapError] = []
    for done, file in enumerate(files, 1):
        try:
            scene = is_scene(file)
            output = target / f"{file.stem}{_suffix(file) if scene else '.png'}"
            _check_free(file, output, options.compare, written, stems)
            key = key_of(translator, [file], options)
            if not finished.has(output, key):
                if scene:
                    translate_raster(file, output, translator, options)
                else:
                    translate_picture(translator, file, output, pictures)
                finished.note(output, key)
            stems[file.stem] = output
            written[output] = file
            if options.compare:
                written[compare_name(output)] = file
        except (DataError, UsageError) as error:
            failures.append(error)
        if progress is not None:
            progress(done, len(files))
    if failures:
        raise BatchError(failures, len(stems))
    finished.forget()
    return list(stems.values())


class Finished:
    """Which files of a folder are finished, for the same command with `resume`.

    It is a hidden file in the folder of the maps, a line of JSON for each, until all of them are
    there.

    Args:
        folder: Where the maps are written.
        resume: Whether what an earlier run finished counts.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        self._file = folder / ".finished.jsonl"
        self._keys: dict[str, dict[str, str]] = {}
        if not resume:
            self.forget()
        elif self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # empty, or half a line of one that was killed
                    self._keys |= json.loads(line)

    def has(self, output: Path, key: dict[str, str]) -> bool:
        """Return whether a map is there and was made of the same in the same way."""
        return output.exists() and self._keys.get(output.name) == key

    def note(self, output: Path, key: dict[str, str]) -> None:
        """Note that a map is finished."""
        self._keys[output.name] = key
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps({output.name: key})}\n")

    def forget(self) -> None:
        """Note that nothing is left to resume."""
        self._file.unlink(missing_ok=True)


def _check_free(
    file: Path, output: Path, compare: bool, written: dict[Path, Path], stems: dict[str, Path]
) -> None:
    """Refuse a file whose result would have the name of another's."""
    if file.stem in stems:
        raise DataError(
            f"has the same stem as another file, whose result is {stems[file.stem]}",
            where=file,
            remedy="Rename one of them.",
        )
    for name in [output, compare_name(output)] if compare else [output]:
        if name in written:
            raise DataError(
                f"would overwrite {name}, which was made of {written[name].name}",
                where=file,
                remedy="Rename one of them.",
            )


def _suffix(file: Path) -> str:
    """Return what the map of a raster is written as: a GeoTIFF where there are coordinates."""
    return ".tif" if _georeferenced(file) else ".png"


def _georeferenced(file: Path) -> bool:
    if not file.is_file():
        raise DataError("there is no such file", where=file, remedy="Check the name.")
    with open_dataset(str(file), file) as dataset:
        return grid_of(dataset).georeferenced


def _for_pictures(options: SceneOptions, max_pixels: int) -> PictureOptions:
    return PictureOptions(
        published=options.published,
        seed=options.seed,
        compare=options.compare,
        max_pixels=max_pixels,
        legend_colours=options.legend_colours,
    )
