"""Translating whatever the command line is given: a scene, an image, or a folder of both."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sat2map.data.images import (
    MAX_PIXELS,
    OTHER_SUFFIXES,
    READ_SUFFIXES,
    describe_left_out,
    other_files,
)
from sat2map.errors import (
    BatchError,
    DataError,
    OutputError,
    Sat2mapError,
    StoppedError,
    UsageError,
)
from sat2map.journal import Journal, MadeOf, as_json, claim, differing
from sat2map.raster.named import KINDS, named
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.sources import SCENE_SUFFIXES, Source, open_file, open_source
from sat2map.raster.tile_tree import is_tile_pattern
from sat2map.translation.image import (
    ImageOptions,
    compare_name,
    legend_of,
    translate_image,
)
from sat2map.translation.translator import Translator

if TYPE_CHECKING:
    from sat2map.translation.class_files import ClassFiles

OLDER = ".finished.jsonl"
"""What versions without journals noted."""

logger = logging.getLogger(__name__)

Task = Literal["scene", "tiles", "image", "folder"]


def task_of(source: Source, target: Path) -> Task:
    """Return what is to be done: one scene, tiles into tiles, an image, or a folder's files.

    A folder is one scene where the output's name is a raster's, as a mosaic of the files in
    it, and so is a tree of tiles.
    """
    match source.kind:
        case "image":
            return "image"
        case "folder":
            return "scene" if target.suffix.lower() in KINDS else "folder"
        case "tile tree":
            raster = "{z}" not in str(target) and target.suffix.lower() in KINDS
            return "scene" if raster else "tiles"
        case _:
            return "scene"


def translate_path(
    translator: Translator,
    source: str | Path | Source,
    target: Path,
    options: SceneOptions | None = None,
    *,
    classes: ClassFiles | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> list[Path]:
    """Translate a scene, an image, or a folder.

    Of a folder, georeferenced rasters become OUT/STEM.tif and images OUT/STEM.png; where the
    target is a raster's name, they are one mosaic.

    Args:
        translator: The model.
        source: What `translate_raster` takes, an image (PNG, JPEG, WebP) or a folder.
        target: The map's name, or a folder's.
        options: Settings of the translation.
        classes: Where the class map of a scene is written, too.
        max_pixels: Refuse larger images; scenes may be of any size.
        progress: Called with (done, all): pixels of a scene, windows of an image, or files of
            a folder.
        stop: Another thread or a signal's handler sets it to have the work stop soon.

    Returns:
        What was written, without the comparisons.

    Raises:
        DataError: The file cannot be used.
        BatchError: Some files of the folder cannot be used; the others are done.
        UsageError: The names or the options do not fit together.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
    """
    options = options or SceneOptions()
    stop = stop or threading.Event()
    if is_tile_pattern(target):
        named(target)  # of which there is one pattern only
    with open_source(source) as opened:
        task = task_of(opened, target)
        if classes is not None and task != "scene":
            raise UsageError(
                "class maps are made of one scene, with coordinates",
                parameter="classes",
                remedy="Leave it out.",
            )
        if task == "scene":
            from sat2map.translation.scene import translate_raster  # which images do not need

            written = translate_raster(
                opened, target, translator, options, progress, stop, classes=classes
            )
            return [written, *(() if classes is None else classes.rasters)]
        if task == "tiles":
            from sat2map.translation.tile_tree import translate_tiles

            return [translate_tiles(opened, target, translator, options, progress, stop)]
        if task == "folder":
            return _translate_folder(
                translator, opened, target, options, max_pixels, progress, stop
            )
    image = Path(opened.where)
    check_for_image(image, options)
    images = _for_images(options, max_pixels)
    return [translate_image(translator, image, target, images, progress, stop)]


def check_for_image(image: Path, options: SceneOptions) -> None:
    """Refuse what is asked of an image, which has no place and only colours.

    Raises:
        UsageError: An option of scenes is asked for.
    """
    of_scenes = replace(options.reading, pixel_size=None) != Reading()
    if of_scenes or options.resolution != "native" or options.mask is not None:
        raise UsageError(
            "is an image, to which no option of scenes applies",
            where=image,
            remedy="Leave out `bands`, `stretch`, `value_range`, `nodata`, `crs`, `warp`, "
            "`resolution`, `bbox` and `mask`.",
        )


def _translate_folder(
    translator: Translator,
    source: Source,
    target: Path,
    options: SceneOptions,
    max_pixels: int,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event,
) -> list[Path]:
    from sat2map.translation.provenance import made_of
    from sat2map.translation.scene import translate_raster

    files = source.files
    if target.resolve() == Path(source.where).resolve() or (
        target.exists() and not target.is_dir()
    ):
        raise UsageError(
            "must be another folder than the input", where=target, remedy="Choose another name."
        )
    if options.legend_colours:
        legend_of(translator)  # what no file can mend is said once
    images = _for_images(options, max_pixels)
    with claim(
        target, "sat2map translate", {"folder of maps": True}, earlier=_of_older_versions
    ) as journal:
        journal.start(keep=options.resume)
        if journal.is_older:
            journal.remove([OLDER])
        written: dict[Path, Path] = {}
        stems: dict[str, Path] = {}
        failures, notices = left_out(Path(source.where))
        for notice in notices:
            logger.warning(notice)
        for done, file in enumerate(files, 1):
            if stop.is_set():
                raise StoppedError(
                    f"stopped as asked; {len(stems):,} of {len(files):,} files are done",
                    where=target,
                )
            try:
                with open_file(file) as opened:
                    output = target / f"{file.stem}{_suffix(opened)}"
                    names = [output, compare_name(output)] if options.compare else [output]
                    _check_free(file, names, written, stems)
                    made = made_of(translator, opened.fingerprint(), options)
                    if not _is_finished(journal, output, made):
                        _begin(journal, names)
                        if opened.kind == "scene":
                            translate_raster(opened, output, translator, options, stop=stop)
                        else:
                            translate_image(translator, file, output, images, stop=stop)
                        journal.finish(output.name, facts=as_json(made))
                stems[file.stem] = output
                written |= dict.fromkeys(names, file)
            except (DataError, UsageError) as error:
                failures.append(error)
            if progress is not None:
                progress(done, len(files))
    if failures:
        raise BatchError(failures, len(stems))
    return list(stems.values())


def left_out(folder: Path) -> tuple[list[Sat2mapError], list[str]]:
    """Return an error for each image of a folder that is not read, and a notice of other files."""
    others = other_files(folder, SCENE_SUFFIXES | READ_SUFFIXES)
    images = [path for path in others if path.suffix.lower() in OTHER_SUFFIXES]
    others = [path for path in others if path not in images]
    failures: list[Sat2mapError] = [
        DataError(
            f"{path.suffix[1:].upper()} is not read",
            where=path,
            remedy="Save it as PNG or TIFF.",
        )
        for path in images
    ]
    return failures, [describe_left_out(folder, others)] if others else []


def _is_finished(journal: Journal, output: Path, made_of: MadeOf) -> bool:
    """Return whether a map is there and was made of the same in the same way."""
    before = journal.finished().get(output.name)
    return before is not None and output.exists() and not differing(before, made_of)


def _begin(journal: Journal, names: list[Path]) -> None:
    try:
        journal.begin(*(name.name for name in names))
    except OutputError as error:  # one of somebody else's does not stop the others
        raise DataError(error.what, where=error.where, remedy=error.remedy) from error


def _of_older_versions(folder: Path) -> dict[str, Any] | None:
    """Return the maps that a version without journals made, where it was interrupted."""
    try:
        lines = (folder / OLDER).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    names: dict[str, Any] = {OLDER: None}
    for line in lines:
        with suppress(ValueError, TypeError):  # empty, or half a line of one that was killed
            names |= dict.fromkeys(json.loads(line))
    return names


def _check_free(
    file: Path, names: list[Path], written: dict[Path, Path], stems: dict[str, Path]
) -> None:
    """Refuse a file whose result would have the name of another's."""
    if file.stem in stems:
        raise DataError(
            f"has the same stem as another file, whose result is {stems[file.stem]}",
            where=file,
            remedy="Rename one of them.",
        )
    for name in names:
        if name in written:
            raise DataError(
                f"would overwrite {name}, which was made of {written[name].name}",
                where=file,
                remedy="Rename one of them.",
            )


def _suffix(source: Source) -> str:
    """Return what the map of a file is written as: a GeoTIFF where there are coordinates."""
    return ".tif" if source.is_georeferenced else ".png"


def _for_images(options: SceneOptions, max_pixels: int) -> ImageOptions:
    return ImageOptions(
        mode=options.mode,
        seed=options.seed,
        compare=options.compare,
        max_pixels=max_pixels,
        legend_colours=options.legend_colours,
        pixel_size=options.reading.pixel_size,
        attribution=options.attribution,
        licence=options.licence,
    )
