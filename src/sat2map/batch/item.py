"""One scene of a batch: read, made into files on the worker's own disk, and given their names.

The same code for every engine. What is made lies in a folder of the worker's own, is copied under
hidden names beside the final ones, and renamed when all of it is whole:

    SCRATCH/NUMBER/WORKER/STEM.tif  -->  OUT/a/.STEM.sat2map-NUMBER-TRY.tif  -->  OUT/a/STEM.tif

The hidden name is of one try: a worker that was given up for lost, since its machine was out of
reach, may still be writing while another one makes the same scene.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import re
import shutil
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import rasterio

import sat2map
from sat2map.atomic import check_disk, flush
from sat2map.batch.lease import is_held
from sat2map.batch.manifest import Row, fingerprint_of
from sat2map.batch.options import BatchOptions
from sat2map.errors import (
    DataError,
    EmptySceneError,
    ModelError,
    OutputError,
    Sat2mapError,
    StoppedError,
    UsageError,
    writing_to,
)
from sat2map.fetch.version import version_at
from sat2map.geo.gdal import is_address
from sat2map.journal import without_secrets
from sat2map.raster.sources import Source, open_source
from sat2map.translation.blocks import Blocks, count_blocks
from sat2map.translation.class_files import ROOM
from sat2map.translation.land_cover import make_land_cover_block
from sat2map.translation.scene import translate_scene
from sat2map.translation.translator import Translator, load
from sat2map.vectors.photo import make_photo_vectors

logger = logging.getLogger(__name__)

CHUNK = 1 << 20

FEATURES = frozenset(
    {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8"}
    | {"amx_bf16", "asimddp", "i8mm"}
)
"""What of a processor the last bits of results depend on."""

_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EINTR", "ENXIO", "ECONNRESET", "EHOSTDOWN"),
        *("EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENODEV", "EMFILE", "ENFILE", "ENOLCK"),
        "EREMOTEIO",
    )
    if hasattr(errno, name)
)
"""What may be over a moment later: of drives, shares and networks."""


_REFUSED = re.compile(r"HTTP response code\D*: 4(?!08|25|29)\d\d|does not exist", re.IGNORECASE)
"""How GDAL tells of an answer that will be the same another time."""


@dataclass(frozen=True)
class Making:
    """How all scenes of a batch are made, decided once by the driver.

    Attributes:
        out: The folder of the batch.
        number: Of the driver's lease.
        model: The model's folder or name.
        fingerprint: Of the model as it is run.
        options: What is made of each scene, and how; runtime and precision are decided.
        scratch: Where workers make files; None takes the system's folder for temporary ones.
        versions: As `versions_of` returns them; workers on other machines have the same.
        before: The number of the driver before this one, if it was killed.
    """

    out: Path
    number: str
    model: str
    fingerprint: str
    options: BatchOptions
    scratch: Path | None = None
    versions: str = ""
    before: str | None = None


@dataclass(frozen=True)
class Item:
    """One scene on its way to a worker, or a block of rows of one.

    Attributes:
        name: Its map, told from the folder; of a block the folder of its strips.
        source: What is opened; it may hold keys.
        told: What the list of scenes says of its contents.
        tries: How often it was handed to a worker, this time included.
        block: Of a block: which, from 0, and of how many.
        strips: Of a scene whose blocks are made: all of their strips, told from the folder, with
            the SHA-256 of their contents.
        fingerprint: Of the scene when it was divided into blocks.
    """

    name: str
    source: str
    told: str | None = None
    tries: int = 0
    block: tuple[int, int] | None = None
    strips: tuple[tuple[str, str], ...] = ()
    fingerprint: Mapping[str, Any] | None = None

    @property
    def folder(self) -> PurePosixPath:
        """Where its files go, told from the folder of the batch."""
        place = PurePosixPath(self.name)
        return place.parent if self.block is None else place


@dataclass(frozen=True)
class Outcome:
    """What came of one scene.

    Attributes:
        kind: What it is now, of `Row.state`, or why it is to be tried again: "again" because of
            the scene or what it lies on, "unfit" because of the worker, "output" because of the
            folder of the batch, "stopped" because that was asked for. "split": it is to be made in
            blocks; "other": those that are made are of another scene, or are lost.
        facts: For its row: files, pixels, seconds, fingerprint, features, error, notices. Of a
            scene that is to be split: `blocks`, how many. Where a strip is lost: `lost`, its name.
    """

    kind: Literal[
        "done", "failed", "empty", "again", "unfit", "output", "stopped", "split", "other"
    ]
    facts: Mapping[str, Any] = field(default_factory=dict)


Work = Callable[[Item, threading.Event], Outcome]
"""What a worker does with a scene."""


def open_worker(making: Making, worker: str) -> Work:
    """Return what a worker does with scenes: it holds the model for all of them.

    Args:
        making: How they are made.
        worker: Which worker it is.

    Raises:
        ModelError: The model is not the one that the driver has opened.
        UsageError: This machine cannot run it as the driver has decided.
    """
    translator = open_model(making.model, making.options)
    if versions_of(translator) != making.versions:
        raise UsageError(
            f"has {versions_of(translator)}, and the batch was begun with {making.versions}",
            where=socket.gethostname(),
            remedy="Install the same versions on all machines.",
        )
    if translator.fingerprint() != making.fingerprint:
        raise ModelError(
            "is not the model that the batch was begun with",
            where=making.model,
            remedy="Leave the model's folder as it is until the batch has ended.",
        )
    features = processor_features()

    def work(item: Item, stop: threading.Event) -> Outcome:
        return make_scene(making, translator, item, worker, stop, features)

    return work


def versions_of(translator: Translator) -> str:
    """Return the versions that the bytes of maps depend on."""
    runtime = f"{translator.runtime} {translator.runtime_version}"
    return f"sat2map {sat2map.__version__}, rasterio {rasterio.__version__} and {runtime}"


def open_model(model: str, options: BatchOptions) -> Translator:
    """Return the model of a batch, in its colours, and with votes where these are asked for."""
    translator = load(
        model,
        runtime=options.runtime,
        precision=options.precision,
        threads=options.threads,
    )
    if options.colours is not None:
        translator = translator.in_colours(options.colours)
    if options.samples is not None:
        translator = translator.sampled(options.samples, options.scene.seed)
    return translator


def make_scene(
    making: Making,
    translator: Translator,
    item: Item,
    worker: str,
    stop: threading.Event,
    features: tuple[str, ...] = (),
) -> Outcome:
    """Make all files of one scene, and return what came of it; it raises nothing."""
    began = time.monotonic()
    facts: dict[str, Any] = {"features": features, "notices": []}
    try:
        with _scratch(making, worker) as folder:
            say = facts["notices"].append
            facts |= _Attempt(making, translator, item, folder, stop, say).make()
            kind: Any = facts.pop("kind")
            if kind != "split":
                facts["files"] = publish_files(making, item, folder, stop)
    except _LostStripError as error:
        kind, facts["error"], facts["lost"] = "other", str(error), error.name
    except _UnpublishedError as error:
        kind, facts["error"] = "output", str(error.__cause__)
    except Exception as error:
        kind = _kind_of(error, item)
        facts["error"] = _line_of(error)
        if kind in ("failed", "empty"):
            facts["fingerprint"] = _of_source_alone(item)
    facts["notices"] = tuple(dict.fromkeys(facts["notices"]))
    return Outcome(kind, facts | {"seconds": round(time.monotonic() - began, 3)})


class _LostStripError(DataError):
    """A strip of a block is not what it was when the block was made."""

    name = ""


class _UnpublishedError(Exception):
    """What was made could not be written into the folder of the batch."""


@contextmanager
def _scratch(making: Making, worker: str) -> Iterator[Path]:
    """Yield an empty folder of this worker's own, which goes again."""
    folder = scratch_of(making.scratch, making.number) / worker
    shutil.rmtree(folder, ignore_errors=True)
    with writing_to(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scratch_of(scratch: Path | None, number: str) -> Path:
    """Return the folder in which all workers of a driver on one machine make files."""
    return (scratch or Path(tempfile.gettempdir())) / f"sat2map-batch-{number}"


@dataclass(frozen=True)
class _Attempt:
    """A worker's try to make a scene, or a block of one.

    Attributes:
        making: How scenes are made.
        translator: The model.
        item: The scene.
        folder: The worker's own, empty before.
        stop: Asks to stop once it is set.
        say: Called with notices of the scene.
    """

    making: Making
    translator: Translator
    item: Item
    folder: Path
    stop: threading.Event
    say: Callable[[str], object]

    def make(self) -> dict[str, Any]:
        """Make the files, and return what is to be known of the scene, and its kind."""
        item, options = self.item, self.making.options
        with open_source(item.source) as source:
            if source.kind == "image":
                raise DataError(
                    "is an image without coordinates",
                    where=source.where,
                    remedy="Give it a world file, or translate it with `sat2map translate`.",
                )
            local = source.kind != "address"
            before = _version(source)
            place = Path(item.source) if local else Path(source.name)
            fingerprint = fingerprint_of(place, source.files if local else (), item.told)
            if item.fingerprint is not None and fingerprint != item.fingerprint:
                raise _replaced(source)
            most = options.split_above
            if item.fingerprint is None and most is not None:
                count = count_blocks(source, self.translator, options.scene, most)
                if count > 1:
                    return {"kind": "split", "fingerprint": fingerprint, "blocks": count}
            if item.block is not None:
                shows, pixels = self._make_block(source, *item.block), 0
            else:
                shows, pixels = True, self._make_files(source)
            if before is not None and _version(source) not in (before, None):
                raise _replaced(source)
        kind = "done" if shows else "empty"
        return {"kind": kind, "fingerprint": fingerprint, "pixels": pixels}

    def _make_files(self, source: Source) -> int:
        """Make the files, of blocks if these are made; return the map's pixels."""
        options, map_file = self.making.options, self.folder / Path(self.item.name).name
        if source.grid is not None:
            check_disk(map_file, source.grid.height * source.grid.width * ROOM)
        of_map = of_ground = None
        if self.item.strips:
            strips = self._fetch(self.folder / "strips")
            of_map, of_ground = (Blocks(strips, 0, None, kind) for kind in (_OF_MAP, _OF_GROUND))
        translate_scene(
            source,
            map_file,
            self.translator,
            options.scene,
            None,
            self.stop,
            classes=options.class_files(map_file),
            blocks=of_map,
            say=self.say,
        )
        vectors, how = options.vector_file(map_file), options.vectors_told
        if vectors is not None and how is not None:
            make_photo_vectors(
                source,
                vectors,
                self.translator,
                options.scene.reading,
                how,
                None,
                self.stop,
                blocks=of_ground,
                say=self.say,
            )
        with rasterio.open(map_file) as made:
            return int(made.width * made.height)

    def _make_block(self, source: Source, number: int, count: int) -> bool:
        """Make the strips of a block of rows, and return whether anything shows in it."""
        options, map_file = self.making.options, self.folder / "block.tif"
        shows = translate_scene(
            source,
            map_file,
            self.translator,
            options.scene,
            None,
            self.stop,
            classes=options.class_files(map_file),
            blocks=Blocks(self.folder, count, number, _OF_MAP),
            say=logger.debug,  # what is to be said of the scene is said when its blocks are joined
            say_unfinished=logger.debug,
        )
        if options.vectors is not None:
            blocks = Blocks(self.folder, count, number, _OF_GROUND)
            place, reading = self.folder / "block.gpkg", options.scene.reading
            make_land_cover_block(source, place, self.translator, reading, blocks, self.stop)
        return shows

    def _fetch(self, folder: Path) -> Path:
        """Copy the strips of all blocks to the worker's own disk, and return their folder there.

        Raises:
            _LostStripError: One is not there, or not as it was made.
        """
        folder.mkdir()
        for name, known in self.item.strips:
            strip = self.making.out / name
            try:
                whole = _copied(strip, folder / PurePosixPath(name).name, self.stop)
            except FileNotFoundError:
                whole = ""
            if whole != known:
                error = _LostStripError(
                    "is not what was made", where=strip, remedy="It is made anew."
                )
                error.name = name
                raise error
        return folder


_OF_MAP, _OF_GROUND = "map.", "ground."
"""What the names of strips of blocks begin with: of the map and its classes, and of the land cover
that vectors are made of."""


def _replaced(source: Source) -> _ReplacedError:
    return _ReplacedError(
        "has changed while it was read",
        where=source.where,
        remedy="Leave it as it is until its map is made.",
    )


class _ReplacedError(DataError):
    """A scene that was replaced while it was read."""


def _version(source: Source) -> Any:
    """Return what is another one when a scene has been replaced; None is not known."""
    if source.kind == "address":
        return version_at(source.opened_as)
    facts = [file.stat() for file in source.files]
    return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in facts]


def publish_files(
    making: Making, item: Item, folder: Path, stop: threading.Event
) -> dict[str, str]:
    """Give what was made its final names, and return the SHA-256 of each file."""
    final = making.out / item.name
    place = making.out / item.folder
    made = sorted(path for path in folder.iterdir() if path.is_file())
    made.sort(key=lambda path: path.name == final.name)  # the map comes last
    asides = {path: aside_of(place / path.name, making.number, item.tries) for path in made}
    try:
        place.mkdir(parents=True, exist_ok=True)
        _check_room(place, sum(path.stat().st_size for path in made))
        hashes = {path: _copied(path, aside, stop) for path, aside in asides.items()}
        if not is_held(making.out, making.number):
            raise StoppedError("another driver has taken over", where=making.out)
        for path, aside in asides.items():
            aside.replace(place / path.name)
        flush(place)
    except OSError as error:
        where = OutputError(
            f"cannot be written ({error.strerror or error})",
            where=final,
            remedy="Free some space, or check the disk or the share.",
        )
        raise _UnpublishedError from where
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)
    return {(item.folder / path.name).as_posix(): hashes[path] for path in made}


def aside_of(final: Path, number: str, tries: int) -> Path:
    """Return the hidden name that a file has until it is whole.

    Args:
        final: Its name when it is whole.
        number: Of the driver's lease.
        tries: Which try it is of.
    """
    return final.with_name(f".{final.stem}.sat2map-{number}-{tries}{final.suffix}")


def remove_asides(out: Path, row: Row, number: str) -> None:
    """Remove what tries of a driver to make a scene have left under hidden names.

    Args:
        out: The folder of the batch.
        row: Of the scene.
        number: Of the driver's lease.
    """
    for name in row.files:
        for tries in range(1, row.tries + 1):
            aside_of(out / name, number, tries).unlink(missing_ok=True)


def _check_room(place: Path, needed: int) -> None:
    if shutil.disk_usage(place).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copied(source: Path, target: Path, stop: threading.Event) -> str:
    """Copy a file, have it on the disk, and return the SHA-256 of its contents."""
    whole = hashlib.sha256()
    with source.open("rb") as file, target.open("wb") as copy:
        while block := file.read(CHUNK):
            whole.update(block)
            copy.write(block)
            if stop.is_set():
                raise StoppedError("stopped as asked", where=target)
        copy.flush()
        os.fsync(copy.fileno())
    return whole.hexdigest()


def _kind_of(error: Exception, item: Item) -> Any:
    """Return what to do with a scene of which nothing was made."""
    if isinstance(error, StoppedError):
        return "stopped"
    outside = isinstance(error, UsageError) and error.parameter == "bbox"
    if isinstance(error, EmptySceneError) or outside:
        return "empty"
    if isinstance(error, _ReplacedError):
        return "again" if item.fingerprint is None else "other"
    codes = {one.errno for one in _causes(error) if isinstance(one, OSError)}
    if isinstance(error, (OutputError, MemoryError)) or codes & {errno.ENOSPC, errno.EDQUOT}:
        return "unfit"
    if codes & _PASSING:
        return "again"
    if not isinstance(error, DataError):
        return "failed"
    if is_address(item.source):
        return "failed" if _REFUSED.search(str(error)) else "again"
    return "again" if _is_gone(Path(item.source)) else "failed"


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _is_gone(path: Path) -> bool:
    """Return whether a file is not there, or its drive fails: the share may be back before long."""
    try:
        if path.is_dir():
            return False
        with path.open("rb") as file:
            file.read(1)
            file.seek(-1, os.SEEK_END)
            file.read(1)
    except OSError as error:
        return error.errno != errno.EINVAL  # an empty file is there
    return False


def _of_source_alone(item: Item) -> dict[str, Any] | None:
    """Return the fingerprint of a scene that cannot be used; a changed one is tried again."""
    path = Path(item.source)
    if is_address(item.source) or not path.is_file():
        return None
    return fingerprint_of(path, (path,), item.told)


def _line_of(error: Exception) -> str:
    if isinstance(error, Sat2mapError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    return " ".join(without_secrets(text).split())


def processor_features() -> tuple[str, ...]:
    """Return what of this processor the last bits of results depend on."""
    flags: set[str] = set()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, values = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    flags = set(values.split())
                    break
    except OSError:  # not Linux
        pass
    return (platform.machine(), *sorted(FEATURES & flags))
