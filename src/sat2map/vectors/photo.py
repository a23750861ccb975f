"""From a photo to a file of vectors: its classes are made first, in a folder that goes again.

    .NAME.classes.partial/    the photo's land cover (`translation/land_cover.py`)
    .NAME.partial/            the vectors that are made of it (`vectorise.py`)

Each has a journal, by which an interrupted run goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sat2map.arguments import checks_arguments
from sat2map.errors import DataError, StoppedError
from sat2map.legend import LEGEND_TAG
from sat2map.raster.options import Reading
from sat2map.raster.provenance_reader import read_provenance
from sat2map.raster.sources import Source, open_source
from sat2map.translation.blocks import Blocks
from sat2map.translation.land_cover import land_cover_of
from sat2map.translation.translator import Translator, translator_of
from sat2map.vectors.formats import check_target
from sat2map.vectors.vectorise import (
    ROOM,
    VectorOptions,
    check_not_input,
    make_vectors,
    partial_folder,
)

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
    classes lie in a hidden folder beside `out` while they are needed. What is finished when the
    work breaks off is kept there, and with `options.resume` it goes on: classes row by row of the
    network's windows, vectors sheet by sheet.

    Args:
        photo: A scene that says where it lies.
        out: As for `vectorise`.
        model: A translator, or what `load` takes: a shipped model's name or a folder; None takes
            "streets". It has classes.
        reading: How the photo's values become pixels.
        options: How.
        progress: Called with (done, all) steps.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        say: Called with notices of the photo, and of what is unfinished.

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
    check_target(target, options.layer, options.out_crs)
    source = open_source(photo)
    check_not_input(target, source)
    _refuse_map(source)
    translator = translator_of(model)
    make_photo_vectors(source, target, translator, reading, options, progress, stop, say=say)
    return target


def _refuse_map(source: Source) -> None:
    """Refuse a map that `translate` drew: it has colours and no classes, and looks like a photo.

    Raises:
        DataError: It says of itself that it is one.
    """
    made = None
    if source.kind == "scene":
        with suppress(DataError):  # of a photo it does not matter what is written there
            made = read_provenance(Path(source.where))
    if made is not None and made.layer == "image":
        raise DataError(
            f"is a map that was drawn of {made.source.name}, and holds no classes",
            where=source.where,
            remedy="Give that photo, or the class map that `sat2map translate` writes for "
            "`classes`.",
        )


def make_photo_vectors(
    source: Source,
    target: Path,
    translator: Translator,
    reading: Reading | None,
    options: VectorOptions,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event | None,
    *,
    blocks: Blocks | None = None,
    say: Callable[[str], object] = logger.warning,
) -> None:
    """Make vectors of a photo as `vectorise_photo` does, of blocks of its land cover, too.

    Args:
        source: The photo.
        target: The file of vectors.
        translator: The model.
        reading: As for `vectorise_photo`, like what follows.
        options: How.
        progress: Called with (done, all) steps.
        stop: Asks to stop once it is set.
        blocks: Where the land cover lies in blocks, to be joined; None makes it.
        say: Called with notices.
    """
    stop = stop or threading.Event()

    def show(first: int) -> Callable[[int, int], None] | None:
        if progress is None:
            return None
        return lambda done, total: progress(first + done * _HALF // total, 2 * _HALF)

    done = False  # the classes, of which nothing need be said any more
    try:
        with land_cover_of(
            source,
            target.absolute().with_name(f"{target.name}.classes"),
            translator,
            reading,
            room=ROOM,
            resume=options.resume,
            progress=show(0),
            stop=stop,
            blocks=blocks,
            say=lambda text: None if done else say(text),
        ) as (classes, probabilities):
            done = True
            begun = partial_folder(target).is_dir()
            make_vectors(
                open_source(classes),
                target,
                None,
                None,
                replace(options, resume=options.resume and begun),
                show(_HALF),
                stop,
                probabilities=probabilities,
                is_kept=False,
            )
    except StoppedError as error:
        raise StoppedError(error.what, where=target, remedy=error.remedy) from error
