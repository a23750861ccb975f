"""From a photo to a file of vectors: its classes are made first, in a folder that goes again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from sat2map.arguments import checks_arguments
from sat2map.atomic import temporary_folder
from sat2map.errors import StoppedError, UsageError, writing_to
from sat2map.legend import LEGEND_TAG
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.sources import Source, open_source
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.land_cover import write_land_cover
from sat2map.translation.scene import translate_scene
from sat2map.translation.translator import Translator, load
from sat2map.vectors.formats import check_target
from sat2map.vectors.vectorise import VectorOptions, make_vectors

logger = logging.getLogger(__name__)

_HALF = 1000
"""Steps that progress counts for the classes, and as many for the vectors."""


def is_class_map(source: Source) -> bool:
    """Return whether a raster says that it is a class map.

    Raises:
        DataError: It cannot be opened.
    """
    with source.open() as dataset:
        return LEGEND_TAG in dataset.tags()


def is_photo(source: Source) -> bool:
    """Return whether a raster looks like a photo: three bands or more, and no legend.

    Raises:
        DataError: It cannot be opened.
    """
    with source.open() as dataset:
        return dataset.count >= 3 and LEGEND_TAG not in dataset.tags()


@checks_arguments
def vectorise_photo(
    photo: str | Path | Source,
    out: str | Path,
    model: str | Path | Translator | None = None,
    *,
    reading: Reading | None = None,
    options: VectorOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], object] = logger.warning,
) -> Path:
    """Make vectors of a photo of any size: its land cover first, of that what `vectorise` makes.

    Roads follow from their probability, not only from where they are the most probable class. The
    classes lie in a hidden folder beside `out` while they are needed. Nothing is kept of what
    breaks off.

    Args:
        photo: A scene that says where it lies.
        out: As for `vectorise`.
        model: A translator, or what `load` takes: a shipped model's name or a folder; None takes
            "streets". It has classes.
        reading: How the photo's values become pixels.
        options: How; its `resume` is of no use here.
        progress: Called with (done, all) steps.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        say: Called with notices of the photo.

    Returns:
        `out`.

    Raises:
        DataError: The photo cannot be read, has no valid pixel or lies nowhere on the ground.
        ModelError: The model's folder is missing or damaged.
        UsageError: The model has no classes, or the options do not fit.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
        MissingExtraError: pyogrio or pyarrow is not installed.
    """
    target, options = Path(out), options or VectorOptions()
    stop = stop or threading.Event()
    if options.resume:
        raise UsageError(
            "the classes of a photo are made anew, so there is nothing to go on with",
            parameter="resume",
            remedy="Leave it out.",
        )
    check_target(target, options.layer, options.out_crs)
    source = open_source(photo)
    translator = model if isinstance(model, Translator) else load(model or "streets")

    def show(first: int) -> Callable[[int, int], None] | None:
        if progress is None:
            return None
        return lambda done, total: progress(first + done * _HALF // total, 2 * _HALF)

    try:
        with writing_to(target), temporary_folder(target.absolute()) as folder:
            classes = folder / "classes.tif"
            confidence = probabilities = None
            if translator.frame() is None:  # its windows are blended, which the pass of maps does
                confidence = folder / "confidence.tif"
                translate_scene(
                    source,
                    None,
                    translator,
                    SceneOptions(reading or Reading(), resolution="model"),
                    show(0),
                    stop,
                    classes=ClassFiles(classes, confidence),
                    placed=True,
                    say=say,
                )
            else:
                probabilities = folder / "probabilities.tif"
                write_land_cover(
                    source,
                    classes,
                    probabilities,
                    translator,
                    reading,
                    progress=show(0),
                    stop=stop,
                    say=say,
                )
            make_vectors(
                open_source(classes),
                target,
                None,
                confidence,
                options,
                show(_HALF),
                stop,
                probabilities=probabilities,
                keep=False,
            )
    except StoppedError as error:
        raise StoppedError(
            "stopped as asked; there is nothing of it yet", where=target, remedy="Begin anew."
        ) from error
    return target
