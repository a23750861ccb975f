"""A batch from its list of scenes to its last map: what is to be done, and with what."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import rasterio

import sat2map
from sat2map.arguments import checks_arguments
from sat2map.batch.driver import PAUSES_S, Driver, remove_blocks
from sat2map.batch.engine import Engine
from sat2map.batch.item import (
    Item,
    Making,
    open_model,
    open_worker,
    remove_asides,
    scratch_of,
    versions_of,
)
from sat2map.batch.lease import Lease, is_alive, read_holder, take_lease
from sat2map.batch.local import LocalWorkers, available_memory
from sat2map.batch.manifest import (
    BLOCKS,
    ENDED,
    MADE,
    WRITER,
    Manifest,
    Row,
    State,
    has_changed,
    read_manifest,
    rows_of,
    source_of,
)
from sat2map.batch.names import Listed, Names
from sat2map.batch.options import BatchOptions
from sat2map.batch.ray_process import Plan
from sat2map.batch.ray_workers import RayWorkers, share_out
from sat2map.batch.scenes import list_scenes
from sat2map.batch.whole import write_whole
from sat2map.errors import DataError, UsageError
from sat2map.journal import Files, Journal, MadeOf, claim
from sat2map.model.card import shipped_models
from sat2map.raster.mask import vector_files
from sat2map.runtimes.open import has_gpu
from sat2map.translation.image import legend_of
from sat2map.vectors.formats import check_target

logger = logging.getLogger(__name__)

WORKER_MEMORY = 1.5e9
"""Bytes of memory that a worker is taken to need where their number is chosen."""


@checks_arguments
def run_batch(
    scenes: str | Path,
    out: str | Path,
    model: str | Path = "streets",
    options: BatchOptions | None = None,
    *,
    column: str | None = None,
    asset: str | None = None,
    workers: int | None = None,
    worker_memory: float | None = None,
    ray: str | None = None,
    scratch: str | Path | None = None,
    retry_failed: bool = False,
    pauses_s: tuple[float, ...] = PAUSES_S,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], object] | None = None,
) -> dict[State, int]:
    """Translate many scenes, each into OUT/relative/path/STEM.tif, with workers that may die.

    What is done stands in the manifest of `out`, so the same call goes on after anything: it takes
    up scenes that were added to the list, makes those anew that have changed, and leaves alone what
    is finished or cannot be used. The bytes of the maps do not depend on the number of workers.
    At the end the maps are a STAC catalogue and one raster, and their vectors one file:
    OUT/catalog.json, OUT/index.gti.gpkg and OUT/map.gpkg.

    Args:
        scenes: As for `list_scenes`.
        out: The folder of the maps, new or of an earlier call with the same options.
        model: A shipped model's name or a model folder.
        options: What is made of each scene, and how.
        column: Which column of a table the scenes stand in.
        asset: Which asset of a STAC item is meant.
        workers: Processes that work at once; None is as many as there are processors and memory.
        worker_memory: Bytes of memory that a worker may take; None shares out what is free.
        ray: The address of a Ray cluster whose machines work, HOST:PORT, or "auto" for the one that
            this machine belongs to; None takes this machine alone. All of them find the scenes, the
            model and `out` under the same names.
        scratch: Where workers make files; None takes the system's folder for temporary ones.
        retry_failed: Also try scenes again that could not be used.
        pauses_s: Seconds before each further try of a scene that cannot be read for a while.
        progress: Called with (done, all) scenes.
        stop: Another thread or a signal's handler sets it to have the work stop soon.
        say: Called with a line for each scene that is not done; None logs it.

    Returns:
        How many scenes are in which state.

    Raises:
        DataError: The list cannot be used.
        ModelError: The model's folder is missing or damaged.
        UsageError: The options do not fit, the folder was begun with others, or another driver
            works in it.
        OutputError: The place is not writable or the disk is full.
        StoppedError: `stop` is set.
    """
    target, options = Path(out), options or BatchOptions()
    if workers is not None and workers < 1:
        raise UsageError(
            "is not a number of workers", parameter="workers", remedy="Give 1 or more."
        )
    found = list_scenes(scenes, column=column, asset=asset)
    _check_apart(Path(scenes), target)
    room = None if scratch is None else Path(scratch).absolute()
    with ExitStack() as left:
        start: Start = functools.partial(_start_local, workers=workers, memory=worker_memory)
        if ray is not None:
            cluster = left.enter_context(RayWorkers(ray))
            if options.runtime == "auto" and not any(one.gpus for one in cluster.machines):
                options = replace(options, runtime="openvino")  # whatever this machine has
            start = functools.partial(
                _start_on_ray, cluster=cluster, workers=workers, memory=worker_memory
            )
        making, made_of = _decided(str(model), target, options, Path(scenes).absolute().name, room)
        return drive_batch(
            found,
            making,
            made_of,
            start,
            retry_failed=retry_failed,
            pauses_s=pauses_s,
            progress=progress,
            stop=stop or threading.Event(),
            say=say or logger.warning,
            finish=functools.partial(write_whole, target, found, model),
        )


Start = Callable[[Making, int], Engine]
"""Starts the workers for so many scenes."""


def drive_batch(
    found: list[Listed],
    making: Making,
    made_of: MadeOf,
    start: Start,
    *,
    retry_failed: bool = False,
    pauses_s: tuple[float, ...] = PAUSES_S,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], object] = logger.warning,
    finish: Callable[[], object] | None = None,
) -> dict[State, int]:
    """Claim the folder of a batch, and have what is left to be done made by an engine's workers.

    Args:
        found: The scenes.
        making: How they are made; the number of the lease is set here.
        made_of: What is written down of that.
        start: Starts the engine.
        retry_failed: As for `run_batch`, like what follows.
        pauses_s: Seconds before each further try.
        progress: Called with (done, all) scenes.
        stop: Asks to stop once it is set.
        say: Called with a line for each scene that is not done.
        finish: Called when all that can be made is made, while the folder is still claimed.
    """
    out = making.out
    remedy = "Choose a new or empty folder, or one of an earlier batch."
    with claim(out, WRITER, made_of, remedy=remedy) as journal:
        _check_same(journal, out)
        with take_lease(out) as lease:
            journal.start()
            before = None if lease.before is None else lease.before.number
            making = replace(making, number=lease.number, before=before)
            blocks = _sweep(journal, lease, making)
            tasks, already = _plan(journal, found, retry_failed=retry_failed)
            driver = Driver(
                journal,
                lease,
                making.options.files,
                say=say,
                progress=progress,
                already=already,
                pauses=pauses_s,
                blocks=blocks,
            )
            if tasks:
                engine = start(making, _most_items(tasks, making.options.split_above))
                try:
                    driver.run(engine, tasks, stop or threading.Event())
                finally:
                    engine.close()
            if finish is not None:
                finish()
    return read_manifest(out).counts()


def _check_apart(scenes: Path, out: Path) -> None:
    """Refuse a folder of maps that lies in the folder of scenes, as if they were scenes."""
    if scenes.is_dir() and out.resolve().is_relative_to(scenes.resolve()):
        raise UsageError(
            f"lies in the folder of scenes {scenes}, as if its maps were scenes",
            where=out,
            remedy="Choose a place outside.",
        )


def _decided(
    model: str, out: Path, options: BatchOptions, listed: str, scratch: Path | None
) -> tuple[Making, dict[str, Any]]:
    """Decide what all scenes are made with, and return what is written down of it."""
    translator = open_model(model, options)
    if model not in shipped_models():
        model = str(Path(model).absolute())  # workers may be in other folders
    mask = options.scene.mask
    if mask is not None:
        options = replace(options, scene=replace(options.scene, mask=mask.absolute()))
    options = replace(options, runtime=translator.runtime, precision=translator.precision)
    making = Making(
        out.absolute(),
        "",
        model,
        translator.fingerprint(),
        options,
        scratch,
        versions_of(translator),
    )
    classes = options.class_files(Path("scene.tif"))
    if classes is not None:
        classes.check(translator)
    if options.scene.legend_colours:
        legend_of(translator)
    if options.vectors is not None:
        check_target(Path("scene.gpkg"))
    parameters = asdict(options.scene) | {"mask": None if mask is None else mask.name}
    del parameters["resume"]
    made_of = {
        "list of scenes": listed,
        "model": {"name": translator.name, "fingerprint": making.fingerprint},
        "runtime": f"{translator.runtime} {translator.runtime_version}",
        "precision": translator.precision,
        "number of threads": options.threads,
        "set of parameters": parameters,
        "set of outputs": {
            "classes": options.classes,
            "confidence": options.confidence,
            "class_legend": options.class_legend,
            "qgis_style": options.qgis_style,
            "legend_image": options.legend_image,
            "samples": options.samples,
            "min_confidence": options.min_confidence,
            "vectors": None if options.vectors is None else asdict(options.vectors),
        },
        "mask": Files(() if mask is None else vector_files(mask)),
        "version of sat2map or rasterio": f"{sat2map.__version__} {rasterio.__version__}",
    }
    return making, made_of


def _check_same(journal: Journal, out: Path) -> None:
    """Refuse to go on with other settings: maps of one folder are made alike."""
    if journal.changed and not journal.is_new:
        raise UsageError(
            f"was begun with another {' and another '.join(journal.changed)}",
            where=out,
            remedy="Give the same as before, or choose another folder.",
        )


def _plan(
    journal: Journal, found: list[Listed], *, retry_failed: bool
) -> tuple[list[tuple[Item, Row]], int]:
    """Note all scenes of the list, and return those that are to be made, and how many are not."""
    rows = rows_of(journal.finished(), journal.folder)
    known = {row.scene: row for row in rows.values()}
    names = Names(rows)
    there = _names_in(journal.folder, rows.values())
    tasks: list[tuple[Item, Row]] = []
    new: dict[str, Any] = {}
    for each in found:
        before = known.get(each.scene)
        if before is None:
            row = Row(names.give(each.place), each.scene, item=each.item)
        elif _is_left_alone(before, each, there, retry_failed=retry_failed):
            continue
        else:
            row = before.begun_anew(deaths=() if retry_failed else before.deaths, item=each.item)
        row = replace(row, source=source_of(each.source, journal.folder))
        if each.problem is not None:
            row = replace(row, state="failed", error=each.problem)
        else:
            tasks.append((Item(row.name, each.source, each.told), row))
        if before != row:
            new[row.name] = row.to_json()
    journal.note(new)
    return tasks, len(found) - len(tasks)


def _names_in(out: Path, rows: Any) -> set[str]:
    """Return the names of all files in the folders in which there are maps."""
    folders = {Path(name).parent for row in rows for name in row.files}
    found: set[str] = set()
    for folder in folders:
        try:
            with os.scandir(out / folder) as entries:
                found.update((folder / entry.name).as_posix() for entry in entries)
        except FileNotFoundError:
            continue
    return found


def _is_left_alone(row: Row, each: Listed, there: set[str], *, retry_failed: bool) -> bool:
    """Return whether a scene is as it was, and there is nothing more to be done of it."""
    if row.state not in ENDED:
        return False
    if row.state == "done":
        whole = all(name in there for name in row.files)
        return whole and not has_changed(row.fingerprint, Path(each.source), each.told)
    if retry_failed and row.state != "empty":
        return False
    known = row.fingerprint
    return known is None or not has_changed(known, Path(each.source), each.told)


def _most_items(tasks: list[tuple[Item, Row]], split_above: int | None) -> int:
    """Return how many workers may have something to do at once.

    They are more than there are scenes where one may be made in blocks.
    """
    if split_above is not None and any(
        not Path(item.source).is_file()  # an address or a folder
        or Path(item.source).suffix.lower() in _BY_NAME
        or Path(item.source).stat().st_size * _MOST_PIXELS_A_BYTE > split_above
        for item, _ in tasks
    ):
        return MANY
    return len(tasks)


_BY_NAME = (".vrt", ".gti", ".json", ".xml")
"""Suffixes of scenes that are small files with the names of others."""

_MOST_PIXELS_A_BYTE = 100
"""More pixels a byte of a photo no compression leaves."""

MANY = 1 << 20


def _sweep(journal: Journal, lease: Lease, making: Making) -> dict[str, Row]:
    """Remove what a driver that died had begun, after its lease is taken: see `lease.py`.

    Returns:
        What is known of blocks of scenes that are not made yet.
    """
    rows = rows_of(journal.finished(), journal.folder)
    blocks = rows_of(journal.finished(), journal.folder, blocks=True)
    unneeded = {name: row for name, row in blocks.items() if _is_made(rows.get(row.of or ""))}
    remove_blocks(journal, unneeded.values())
    before = lease.before
    if before is not None:
        _sweep_asides(journal, before.number, making, rows)
    return {name: row for name, row in blocks.items() if name not in unneeded}


def _is_made(scene: Row | None) -> bool:
    return scene is None or scene.state in MADE


def _sweep_asides(journal: Journal, number: str, making: Making, rows: dict[str, Row]) -> None:
    shutil.rmtree(scratch_of(making.scratch, number), ignore_errors=True)
    for aside in (journal.folder / BLOCKS).rglob(f".*.sat2map-{number}-*"):
        aside.unlink(missing_ok=True)
    for row in rows.values():
        if row.state not in ENDED:
            remove_asides(journal.folder, row, number)


def _start_local(
    making: Making, scenes: int, *, workers: int | None, memory: float | None
) -> LocalWorkers:
    """Start the workers of this machine."""
    free = available_memory()
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        workers = workers or os.cpu_count() or 1
        if free is not None:
            workers = min(workers, max(int(free / WORKER_MEMORY), 1))
    count = min(workers, scenes)
    if memory is None and free is not None:
        memory = 0.9 * free / count
    return LocalWorkers(
        functools.partial(open_worker, making),
        count,
        memory=None if memory is None else int(memory),
        scratch=scratch_of(making.scratch, making.number),
    )


def _start_on_ray(
    making: Making, scenes: int, *, cluster: RayWorkers, workers: int | None, memory: float | None
) -> RayWorkers:
    """Start the workers of a Ray cluster."""
    each = WORKER_MEMORY if memory is None else memory
    on_gpu = making.options.runtime == "torch" and has_gpu()
    threads = making.options.threads
    count, share = share_out(cluster.machines, workers, threads=threads, memory=each, on_gpu=on_gpu)
    before = making.before
    plan = Plan(
        threads,
        int(each),
        share,
        scratch_of(making.scratch, making.number),
        None if before is None else scratch_of(making.scratch, before),
    )
    cluster.start(functools.partial(open_worker, making), min(count, scenes), plan)
    return cluster


def batch_status(out: str | Path) -> dict[str, Any]:
    """Return how far a batch is, as JSON's own types; it may be running meanwhile.

    Args:
        out: The folder of the batch.

    Raises:
        DataError: No batch was begun there.
    """
    manifest = read_manifest(Path(out))
    holder = read_holder(Path(out))
    rows = manifest.rows.values()
    unusable = [row for row in rows if row.state in ("failed", "set aside")]
    return {
        "scenes": len(manifest.rows),
        "states": manifest.counts(),
        "pixels": sum(row.pixels for row in rows if row.state == "done"),
        "seconds": round(sum(row.seconds for row in rows), 3),
        "driver": None
        if holder is None
        else {"host": holder.host, "pid": holder.pid, "alive": is_alive(holder)},
        "running": [row.scene for row in rows if row.state == "running"],
        "blocks": _blocks_by_scene(manifest),
        "unusable": [
            {"scene": row.scene, "state": row.state, "tries": row.tries, "error": row.error}
            for row in unusable
        ],
        "noticed": [
            {"scene": row.scene, "notices": list(row.notices)} for row in rows if row.notices
        ],
        "settings": dict(manifest.settings),
    }


def _blocks_by_scene(manifest: Manifest) -> list[dict[str, Any]]:
    """Return how far the scenes are that are being made in blocks of rows."""
    found: dict[str, list[Row]] = {}
    for row in manifest.blocks.values():
        found.setdefault(row.scene, []).append(row)
    return [
        {
            "scene": scene,
            "blocks": len(rows),
            "made": sum(row.state in MADE for row in rows),
            "running": sum(row.state == "running" for row in rows),
            "tries": sum(row.tries for row in rows),
            "seconds": round(sum(row.seconds for row in rows), 3),
        }
        for scene, rows in found.items()
    ]


def raise_unusable(counts: Mapping[State, int], out: Path) -> None:
    """Raise where some scenes could not be used.

    Raises:
        DataError: There are some; the others are done.
    """
    unusable = counts["failed"] + counts["set aside"]
    if unusable:
        raise DataError(
            f"{unusable:,} scene{'s' * (unusable > 1)} could not be used, {counts['done']:,} done",
            where=out,
            remedy="See why with `status`; run the command again once they are mended, or with "
            "`retry_failed=True` to try all of them again.",
        )
