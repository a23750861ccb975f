"""The folder of a run: claimed by one process, of one recipe, and of the same data throughout."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sat2map.atomic import check_folder_name, sweep, write_text
from sat2map.data.pairs import data_set_files, read_dataset_card
from sat2map.errors import DataError, TrainingError, UsageError
from sat2map.journal import HIDDEN, Journal, claim
from sat2map.recipe import Recipe, load_recipe

log = logging.getLogger(__name__)

RECIPE = "recipe.toml"


@contextmanager
def claim_run(
    run: Path, recipe: Recipe, data: Sequence[Path], *, resume: bool
) -> Iterator[Journal]:
    """Claim the folder of a run for this process.

    Args:
        run: A new or empty folder, or with `resume` that of the run.
        recipe: The recipe as it was given.
        data: The data sets.
        resume: Whether a run goes on.

    Raises:
        OutputError: The folder is somebody else's or not writable.
        UsageError: Another process trains in it, it is not empty and `resume` is not asked for,
            or the recipe is another one than the run began with.
        TrainingError: The data is other data than the run began with.
    """
    with claim(
        run,
        "sat2map train",
        _made_of(data),
        earlier=_of_older_versions,
        remedy="Choose a new or empty folder as `out`.",
    ) as journal:
        if not journal.is_new:
            if not resume:
                raise UsageError(
                    "is not empty",
                    where=run,
                    remedy="Go on with its run by `resume=True`, or choose another `out`.",
                )
            _check_recipe(run / RECIPE, recipe)
        if journal.changed:
            raise TrainingError(
                f"was begun with other {' and other '.join(journal.changed)}",
                where=run,
                remedy="Restore the data set, or start another run.",
            )
        if journal.is_older:
            log.warning(
                f"{run}: an earlier version began this run and did not note what it learns from; "
                "the data is taken to be the same."
            )
        check_folder_name(run / "best", replace=True)
        check_folder_name(run / "model")
        yield journal


def begin_run(run: Path, recipe: Recipe, journal: Journal) -> None:
    """Sweep away what a kill left half-written, and write down what the run is made of.

    Raises:
        OutputError: The place is not writable or the disk is full.
    """
    for folder in (run, run / "checkpoints", run / "grids"):
        sweep(folder)
    journal.start()
    write_text(run / RECIPE, recipe.to_toml())


def _made_of(data: Sequence[Path]) -> dict[str, Any]:
    """Return fingerprints of the data sets. What licence they have changes no weight."""
    made_of: dict[str, Any] = {}
    for number, folder in enumerate(data, 1):
        which = "" if len(data) == 1 else f" (data set {number})"
        made_of[f"training data{which}"] = data_set_files(folder, "train")
        made_of[f"legend or resolution{which}"] = _facts(folder)
    made_of["validation data"] = data_set_files(data[0], "val")
    return made_of


def _facts(folder: Path) -> object:
    try:
        card = read_dataset_card(folder)
    except DataError:  # which is told once the data is read
        return None
    classes = None if card.classes is None else card.classes.to_json()
    legends = [None if one is None else one.to_json() for one in (card.legend, card.mask_legend)]
    return [card.resolution_m, *legends, classes, card.told]


def _check_recipe(path: Path, recipe: Recipe) -> None:
    """Check that a run goes on with the recipe that it began with."""
    if not path.is_file():
        raise UsageError(
            "is missing, so it is not known how the run began",
            where=path,
            remedy="Restore it, or start another run.",
        )
    before, now = load_recipe(path).model_dump(), recipe.model_dump()
    for section, values in now.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            if before[section][key] != value:
                raise UsageError(
                    f"this run began with {section}.{key} = {before[section][key]!r}, "
                    f"not {value!r}",
                    where=path,
                    remedy="Resume with the same recipe and settings, or start another run.",
                )


def _of_older_versions(run: Path) -> dict[str, Any] | None:
    """Return that a run of a version without journals is ours.

    A recipe alone says nothing: people keep them among their own files.
    """
    names = {path.name for path in run.iterdir()} - {HIDDEN}
    ours = RECIPE in names and (names == {RECIPE} or names & {"checkpoints", "tensorboard"})
    return {} if ours else None
