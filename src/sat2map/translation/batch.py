"""Translating files: one picture, or a folder of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sat2map.data.pictures import (
    MAX_PIXELS,
    PICTURE_SUFFIXES,
    Picture,
    list_pictures,
    read_picture,
    write_picture,
)
from sat2map.errors import BatchError, DataError, Sat2mapError, UsageError
from sat2map.translation.translator import Translator


@dataclass(frozen=True)
class Options:
    """How files are translated.

    Attributes:
        published: Predict as published, with dropout and the picture's own statistics.
        seed: Seed of that dropout.
        compare: Also write source and result side by side, as NAME.compare.SUFFIX.
        max_pixels: Refuse larger pictures.
    """

    published: bool = False
    seed: int = 0
    compare: bool = False
    max_pixels: int = MAX_PIXELS


def translate_path(
    translator: Translator,
    source: Path,
    target: Path,
    options: Options,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Translate a picture into a picture, or a folder into a folder of OUT/STEM.png.

    Args:
        translator: The model.
        source: A picture (PNG, JPEG, WebP, TIFF) or a folder of pictures.
        target: A picture's name, or a folder's where the source is one.
        options: How.
        progress: Called with (done, all): windows of a picture, or pictures of a folder.

    Returns:
        What was written, without the comparisons.

    Raises:
        DataError: The picture cannot be used.
        BatchError: Some pictures of the folder cannot be used; the others are done.
        UsageError: The names do not fit together.
        OutputError: The place is not writable or the disk is full.
    """
    if source.is_dir():
        return _translate_folder(translator, source, target, options, progress)
    if not source.exists():
        raise DataError("there is no such file", where=source, remedy="Check the name.")
    if target.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(
            "is not a name for a picture", where=target, remedy="End it in .png, .jpg or .webp."
        )
    if target.resolve() == source.resolve():
        raise UsageError("is the input itself", where=target, remedy="Choose another name.")
    _translate_file(translator, source, target, options, progress)
    return [target]


def _translate_folder(
    translator: Translator,
    source: Path,
    target: Path,
    options: Options,
    progress: Callable[[int, int], None] | None,
) -> list[Path]:
    pictures = list_pictures(source)
    if not pictures:
        raise DataError(
            "has no pictures", where=source, remedy="Put PNG, JPEG, WebP or TIFF files there."
        )
    if target.resolve() == source.resolve() or (target.exists() and not target.is_dir()):
        raise UsageError(
            "must be another folder than the input", where=target, remedy="Choose another name."
        )
    written: dict[Path, None] = {}  # in order, and found at once
    failures: list[Sat2mapError] = []
    for done, picture in enumerate(pictures, 1):
        output = target / f"{picture.stem}.png"
        try:
            if output in written:
                raise DataError(
                    f"has the same stem as another picture, whose result is {output}",
                    where=picture,
                    remedy="Rename one of them.",
                )
            _translate_file(translator, picture, output, options, None)
            written[output] = None
        except DataError as error:
            failures.append(error)
        if progress is not None:
            progress(done, len(pictures))
    if failures:
        raise BatchError(failures, len(written))
    return list(written)


def _translate_file(
    translator: Translator,
    source: Path,
    target: Path,
    options: Options,
    progress: Callable[[int, int], None] | None,
) -> None:
    picture = read_picture(source, max_pixels=options.max_pixels)
    pixels = _opaque(picture)
    bands = translator.card.bands
    if pixels.shape[2] != len(bands):
        raise DataError(
            f"has {pixels.shape[2]} bands, but the model takes {len(bands)}: {', '.join(bands)}",
            where=source,
            remedy="Choose the bands first, for example with: gdal_translate -b 1 -b 2 -b 3.",
        )
    try:
        result = translator.translate(
            pixels, published=options.published, seed=options.seed, progress=progress
        )
    except UsageError as error:  # too large to be predicted as published
        raise DataError(error.what, where=source, remedy=error.remedy) from error
    write_picture(target, result, picture.alpha)
    if options.compare:
        seen = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, 2)
        beside = np.hstack([seen, result])
        write_picture(target.with_suffix(f".compare{target.suffix}"), beside)


def _opaque(picture: Picture) -> NDArray[np.uint8]:
    """Return the pixels with what is transparent filled from the nearest that is not.

    What lies under transparency is often black, and the network would see its edge.
    """
    if picture.alpha is None or picture.alpha.all() or not picture.alpha.any():
        return picture.pixels
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(
        picture.alpha == 0, return_distances=False, return_indices=True
    )
    filled: NDArray[np.uint8] = picture.pixels[rows, columns]
    return filled
