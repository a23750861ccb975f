"""Translating one image file into another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

import sat2map
from sat2map.atomic import check_file_name
from sat2map.data.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    DecodedImage,
    in_bands,
    read_image,
    three_bands,
    write_image,
)
from sat2map.errors import DataError, MissingExtraError, StoppedError, UsageError
from sat2map.geo.grid import Grid
from sat2map.legend import Legend
from sat2map.provenance import Ingredient, Provenance, fingerprint_files
from sat2map.raster.georeference import world_files
from sat2map.raster.options import Mode
from sat2map.raster.resampling import resample, resampling
from sat2map.raster.scale import choose_scale
from sat2map.translation.translator import Translator
from sat2map.translation.unfamiliar import strange_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageOptions:
    """Settings of the translation of an image.

    Attributes:
        mode: How the model predicts; "published" is with dropout and the image's own statistics.
        seed: Seed of that dropout.
        compare: Also write source and result side by side, as NAME.compare.SUFFIX.
        max_pixels: Refuse larger images.
        legend_colours: Give every pixel the nearest colour of the model's legend.
        pixel_size: Side of a pixel on the ground in metres, where it is known: then the network
            sees the image at a resolution that it knows.
        attribution: Whom those who show the result are to name, if anybody.
        licence: Under which it may be used, if that is known.
    """

    mode: Mode = "deterministic"
    seed: int = 0
    compare: bool = False
    max_pixels: int = MAX_PIXELS
    legend_colours: bool = False
    pixel_size: float | None = None
    attribution: str | None = None
    licence: str | None = None


def translate_image(
    translator: Translator,
    source: Path,
    target: Path,
    options: ImageOptions,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Path:
    """Translate an image into an image.

    Args:
        translator: The model.
        source: An image (PNG, JPEG, WebP, 8-bit TIFF).
        target: An image's name.
        options: Settings of the translation.
        progress: Called with (done, all) windows.
        stop: Another thread or a signal's handler sets it to have the work stop after a window.

    Returns:
        `target`.

    Raises:
        DataError: The image cannot be used.
        UsageError: The names do not fit together, or the model has no legend to snap to.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
    """
    if not source.exists():
        raise DataError("there is no such file", where=source, remedy="Check the name.")
    if target.suffix.lower() not in IMAGE_SUFFIXES:
        raise UsageError(
            "is not a name for an image", where=target, remedy="End it in .png, .jpg or .webp."
        )
    if target.resolve() == source.resolve():
        raise UsageError("is the input itself", where=target, remedy="Choose another name.")
    for name in (target, compare_name(target)) if options.compare else (target,):
        check_file_name(name)
    legend = legend_of(translator) if options.legend_colours else None
    image, pixels, seen = look_at_image(
        source, translator, options.pixel_size, max_pixels=options.max_pixels
    )

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total)
        if stop is not None and stop.is_set() and done < total:
            raise StoppedError(
                "stopped as asked; there is nothing of it yet",
                where=target,
                remedy="Translate it anew.",
            )

    # The network's first pass waits for OpenVINO alone, so there is time for the rest beside it.
    with ThreadPoolExecutor(1, "sat2map-look") as thread:
        told = thread.submit(tell_strange, translator, source, seen)
        making = thread.submit(image_provenance, translator, source, options)
        result = _predicted(translator, source, seen, options, legend, show)
        told.result()
        made = making.result()
    if legend is not None:
        result = legend.paint(_nearest(result, pixels.shape[0], pixels.shape[1]))
    else:
        result = resized(result, pixels.shape[0], pixels.shape[1])
    write_image(target, result, image.alpha, made)
    if options.compare:
        beside = np.hstack([three_bands(pixels), three_bands(result)])
        write_image(compare_name(target), beside, made=replace(made, layer="compare"))
    return target


def _predicted(
    translator: Translator,
    source: Path,
    seen: NDArray[np.uint8],
    options: ImageOptions,
    legend: Legend | None,
    show: Callable[[int, int], None],
) -> NDArray[np.uint8]:
    """Return what the model makes of an image: colours, or classes where there is a legend."""
    try:
        return translator.translate(
            seen,
            mode=options.mode,
            seed=options.seed,
            output="image" if legend is None else "classes",
            progress=show,
        )
    except MissingExtraError:
        raise
    except UsageError as error:
        if error.where is not None or error.parameter is not None:  # not the image
            raise
        # It is too large to be predicted as published.
        raise DataError(error.what, where=source, remedy=error.remedy) from error


def image_provenance(translator: Translator, source: Path, options: ImageOptions) -> Provenance:
    """Return what the result of an image is made of and how."""
    settings = asdict(options)
    for name in ("compare", "max_pixels", "attribution", "licence"):
        del settings[name]
    if translator.other_colours is not None:
        settings["colours"] = translator.other_colours
    return Provenance(
        "classes" if options.legend_colours else "image",
        Ingredient(source.name, fingerprint_files([source])),
        Ingredient(translator.name, translator.identity, translator.card.data.licence),
        settings,
        translator.runs_on,
        translator.precision,
        sat2map.__version__,
        options.licence,
        options.attribution,
    )


def look_at_image(
    source: Path,
    translator: Translator,
    pixel_size: float | None,
    *,
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], object] = logger.warning,
) -> tuple[DecodedImage, NDArray[np.uint8], NDArray[np.uint8]]:
    """Read an image for a model, and say what is to be noticed.

    Args:
        source: The image.
        translator: The model.
        pixel_size: Metres that a pixel measures, if that is told.
        max_pixels: Refuse larger images.
        say: Called with each notice.

    Returns:
        The image; its pixels with the model's bands, uint8 [H,W,C]; and these as the network sees
        them.

    Raises:
        DataError: The image cannot be used.
    """
    image = read_image(source, max_pixels=max_pixels)
    pixels = image.pixels
    if image.alpha is not None:  # what lies under transparency is often black
        pixels = fill_nearest(pixels, image.alpha > 0)
    bands = translator.card.bands
    pixels = in_bands(pixels, len(bands))
    if pixels.shape[2] != len(bands):
        raise DataError(
            f"has {pixels.shape[2]} bands, but the model takes {len(bands)}: {', '.join(bands)}",
            where=source,
            remedy="Choose the bands first, for example with: gdal_translate -b 1 -b 2 -b 3.",
        )
    seen = pixels
    if pixel_size is not None:
        grid = Grid(pixels.shape[0], pixels.shape[1], Affine.identity(), None)
        known = translator.card.resolution_m
        size = choose_scale(grid, known, "native", source, say, pixel_size=pixel_size).seen
        seen = resized(pixels, *size)
    for file in world_files([source]):
        say(
            f"{source}: {file.name} beside it does not place it: a world file has six numbers, "
            "with points and not commas, and none is read of AVIF and HEIC. Mend it, or save the "
            "image as PNG or TIFF, for a map that lies there."
        )
    return image, pixels, seen


def tell_strange(
    translator: Translator,
    source: Path,
    seen: NDArray[np.uint8],
    say: Callable[[str], object] = logger.warning,
) -> None:
    """Say so where an image is unlike what the model has learned from.

    Args:
        translator: The model.
        source: The image.
        seen: It as the network sees it, uint8 [H,W,C].
        say: Called with the notice.
    """
    strange = strange_image(translator, seen)
    if strange is not None:
        say(f"{source}: {strange}")


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return uint8 [H,W,C] as uint8 [height,width,C], without aliasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    down, across = resampling(pixels.shape[0], height), resampling(pixels.shape[1], width)
    values = resample(down, pixels.astype(np.float32), across)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _nearest(classes: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return numbers, uint8 [H,W], as uint8 [height,width]."""
    rows = (np.arange(height) * 2 + 1) * classes.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * classes.shape[1] // (2 * width)
    nearest: NDArray[np.uint8] = classes[rows[:, None], columns]
    return nearest


def legend_of(translator: Translator) -> Legend:
    """Return the legend whose colours a map may be snapped to.

    Raises:
        UsageError: The model has none.
    """
    if translator.legend is None:
        raise UsageError(
            f"the model {translator.name} has no legend",
            parameter="legend_colours",
            remedy="Leave it out, or choose a model with a legend.",
        )
    return translator.legend


def compare_name(target: Path) -> Path:
    """Return the name of what shows source and result side by side."""
    return target.with_suffix(f".compare{target.suffix}")


def fill_nearest(pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return pixels whose invalid ones hold what the nearest valid one does.

    The network would see the edge of whatever else is there.

    Args:
        pixels: uint8 [H,W,C].
        valid: bool [H,W]; where none is, the pixels come back as they are.
    """
    if valid.all() or not valid.any():
        return pixels
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled: NDArray[np.uint8] = pixels[rows, columns]
    return filled
