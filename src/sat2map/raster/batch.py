"""Translating whatever the command line is given: a scene, a picture, or a folder of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sat2map.data.pictures import MAX_PIXELS, PICTURE_SUFFIXES, TIFF_SUFFIXES, list_pictures
from sat2map.errors import BatchError, DataError, Sat2mapError, UsageError
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.source import grid_of, open_raster
from sat2map.raster.translate import translate_raster
from sat2map.translation.picture import PictureOptions, legend_of, translate_picture
from sat2map.translation.translator import Translator

SCENE_SUFFIXES = TIFF_SUFFIXES | {".vrt", ".jp2", ".j2k"}
"""What always goes through windows, however large or small."""


def translate_path(
    translator: Translator,
    source: Path,
    target: Path,
    options: SceneOptions | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Translate a scene, a picture, or a folder.

    Of a folder, georeferenced rasters become OUT/STEM.tif and pictures OUT/STEM.png.

    Args:
        translator: The model.
        source: A scene (TIFF, VRT, JPEG 2000), a picture (PNG, JPEG, WebP) or a folder.
        target: The map's name, or a folder's where the source is one.
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
    if source.is_dir():
        return _translate_folder(translator, source, target, options, max_pixels, progress)
    if is_scene(source):
        return [translate_raster(source, target, translator, options, progress)]
    if options.reading != Reading() or options.resolution != "native":
        raise UsageError(
            "is a picture, to which no option of scenes applies",
            where=source,
            remedy="Leave out --bands, --stretch, --range, --resolution and --bbox.",
        )
    pictures = _for_pictures(options, max_pixels)
    return [translate_picture(translator, source, target, pictures, progress)]


def is_scene(path: Path) -> bool:
    """Return whether a file is translated in windows, by its name."""
    return path.suffix.lower() in SCENE_SUFFIXES


def _translate_folder(
    translator: Translator,
    source: Path,
    target: Path,
    options: SceneOptions,
    max_pixels: int,
    progress: Callable[[int, int], None] | None,
) -> list[Path]:
    files = list_pictures(source, SCENE_SUFFIXES | PICTURE_SUFFIXES)
    if not files:
        raise DataError(
            "has no pictures", where=source, remedy="Put PNG, JPEG, WebP or TIFF files there."
        )
    if target.resolve() == source.resolve() or (target.exists() and not target.is_dir()):
        raise UsageError(
            "must be another folder than the input", where=target, remedy="Choose another name."
        )
    if options.legend_colours:
        legend_of(translator)  # what no file can mend is said once
    pictures = _for_pictures(options, max_pixels)
    written: dict[str, Path] = {}
    failures: list[Sat2mapError] = []
    for done, file in enumerate(files, 1):
        try:
            if file.stem in written:
                raise DataError(
                    f"has the same stem as another file, whose result is {written[file.stem]}",
                    where=file,
                    remedy="Rename one of them.",
                )
            if is_scene(file):
                output = target / f"{file.stem}{_suffix(file)}"
                translate_raster(file, output, translator, options)
            else:
                output = target / f"{file.stem}.png"
                translate_picture(translator, file, output, pictures)
            written[file.stem] = output
        except (DataError, UsageError) as error:
            failures.append(error)
        if progress is not None:
            progress(done, len(files))
    if failures:
        raise BatchError(failures, len(written))
    return list(written.values())


def _suffix(file: Path) -> str:
    """Return what the map of a raster is written as: a GeoTIFF where there are coordinates."""
    with open_raster(file) as dataset:
        return ".tif" if grid_of(dataset).georeferenced else ".png"


def _for_pictures(options: SceneOptions, max_pixels: int) -> PictureOptions:
    return PictureOptions(
        published=options.published,
        seed=options.seed,
        compare=options.compare,
        max_pixels=max_pixels,
        legend_colours=options.legend_colours,
    )
