"""The manifest of a batch: what is known of each of its scenes, in the journal of its folder.

One process writes it, the driver; anybody may read it meanwhile. A row is known by the name of the
scene's map, told from the folder:

    waiting --> running --> done
                  |  ^      failed      it cannot be used; tried again only if it has changed
                  v  |      empty       nothing shows in it, or it lies outside of what is asked for
                waiting     set aside   three workers died of it

A row says `running` before the scene is handed to a worker, so that after the death of the driver
every scene that a worker may still be busy with is known.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sat2map.errors import DataError
from sat2map.geo.gdal import is_address
from sat2map.journal import HIDDEN, Files, address_without_query, read_journal, read_rows

WRITER = "sat2map batch"

BLOCKS = f"{HIDDEN}/blocks"
"""The folder, told from that of the batch, in which strips of blocks wait for each other."""

State = Literal["waiting", "running", "done", "failed", "empty", "set aside"]

ENDED: frozenset[State] = frozenset({"done", "failed", "empty", "set aside"})
"""States of scenes that a further run leaves alone, unless they have changed."""

MADE: frozenset[State] = frozenset({"done", "empty"})
"""States of which nothing more can be made; an empty block has strips that show nothing."""


@dataclass(frozen=True)
class Row:
    """What is known of one scene.

    Attributes:
        name: Its map, told from the folder of the batch, with slashes.
        scene: What the list of scenes calls it, without the keys of an address.
        source: Where it lies, told from the folder of the batch, or its address without keys.
        state: How far it is.
        tries: How often it was handed to a worker.
        deaths: The workers that died while they were busy with it.
        seconds: How long its worker was busy with it.
        pixels: Of its map.
        error: Why it is not done, one line.
        notices: What was to be noted of it.
        files: What was made of it, names told from the folder, with the SHA-256 of their contents.
        fingerprint: Of its contents, as `fingerprint_of` returns it; None is not known.
        features: Of the processor that made it, as far as results depend on them.
        item: What a STAC catalogue says of it: its `href`, `id`, `datetime` and more.
        block: Of a block of rows of a giant scene: which, from 0, and of how many. Its name is that
            of the folder with its strips, see `block_name`.
        of: The name of that scene's map.
    """

    name: str
    scene: str
    state: State = "waiting"
    tries: int = 0
    deaths: tuple[str, ...] = ()
    seconds: float = 0.0
    pixels: int = 0
    error: str | None = None
    notices: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] | None = None
    features: tuple[str, ...] = ()
    item: Mapping[str, Any] | None = None
    block: tuple[int, int] | None = None
    of: str | None = None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all but the name, without what is as it is by itself."""
        return {
            each.name: value
            for each in fields(self)
            if each.name != "name" and (value := getattr(self, each.name)) not in ((), {}, None, 0)
        }

    @classmethod
    def from_json(cls, name: str, facts: Any) -> Row:
        """Return the row that `to_json` told of.

        Raises:
            ValueError: It is not such a row.
        """
        known = {each.name for each in fields(cls)} - {"name"}
        if not isinstance(facts, dict) or not isinstance(facts.get("scene"), str):
            raise ValueError(f"{name} is not a row of a batch")
        if facts.get("state", "waiting") not in get_args(State):
            raise ValueError(f"{name} has a state that is not known")
        lists: dict[str, Any] = {
            key: tuple(facts.get(key, ())) for key in ("deaths", "notices", "features")
        }
        if "block" in facts:
            first, second = facts["block"]
            lists["block"] = int(first), int(second)
        return cls(name, **({k: v for k, v in facts.items() if k in known} | lists))

    def outputs(self, out: Path) -> list[Path]:
        """Return the files that were made of it."""
        return [out / name for name in self.files]

    def begun_anew(self, **facts: Any) -> Row:
        """Return the row of a scene of which nothing is made, which waits to be.

        What was written of it stays known as ours.
        """
        kept = Row(self.name, self.scene, files=self.files, item=self.item, source=self.source)
        return replace(kept, **facts)


@dataclass(frozen=True)
class Manifest:
    """The manifest of a batch as it was read.

    Attributes:
        folder: The folder of the batch.
        settings: What all maps are made with: model, precision, runtime, versions, options.
        rows: What is known of each scene, in the order of the list, by the name of its map.
        blocks: What is known of the blocks of scenes that are being made in blocks, by their names.
    """

    folder: Path
    settings: Mapping[str, Any]
    rows: Mapping[str, Row]
    blocks: Mapping[str, Row]

    def finished(self) -> list[Row]:
        """Return the scenes of which there are maps."""
        return [row for row in self.rows.values() if row.state == "done"]

    def counts(self) -> dict[State, int]:
        """Return how many scenes are in each state."""
        counted = Counter(row.state for row in self.rows.values())
        return {state: counted[state] for state in get_args(State)}


def read_manifest(out: Path) -> Manifest:
    """Read the manifest of a batch, also while it is being written.

    Args:
        out: The folder of the batch.

    Raises:
        DataError: No batch was begun there.
    """
    told = read_journal(out)
    if told is None or told["written_by"] != WRITER:
        raise DataError(
            "is not the folder of a batch",
            where=out,
            remedy="Name the folder that `sat2map batch` writes to.",
        )
    facts = read_rows(out).facts
    return Manifest(out, told["made_of"], rows_of(facts, out), rows_of(facts, out, blocks=True))


def source_of(source: str, out: Path) -> str:
    """Return where a scene lies, as a row tells it.

    Args:
        source: The scene, an address or a file.
        out: The folder of the batch.
    """
    if is_address(source):
        return address_without_query(source)
    try:
        return Path(os.path.relpath(source, out)).as_posix()
    except ValueError:  # on another drive of Windows
        return source


def sources_of_maps(out: Path) -> dict[str, str]:
    """Return what the files of a batch were made of, by their names told from its folder.

    Args:
        out: The folder of the batch; of one where no batch was begun nothing is known.
    """
    try:
        rows = read_manifest(out).rows.values()
    except DataError:
        return {}
    return {
        name: row.source if is_address(row.source) else os.path.normpath(out / row.source)
        for row in rows
        if row.source is not None
        for name in row.files
    }


def block_name(scene: str, number: int, count: int) -> str:
    """Return the name of a block of rows: the folder in which its strips wait for the others.

    Args:
        scene: The name of the scene's map.
        number: Which block, from 0.
        count: How many there are.
    """
    return f"{BLOCKS}/{scene}/{number + 1}-of-{count}"


def rows_of(facts: Mapping[str, Any], out: Path, *, blocks: bool = False) -> dict[str, Row]:
    """Return the rows of scenes, or of blocks of scenes, that the lines of a journal tell of.

    Raises:
        DataError: One is not such a row.
    """
    place = f"{BLOCKS}/"
    try:
        return {
            name: Row.from_json(name, known)
            for name, known in facts.items()
            if name.startswith(place) == blocks
        }
    except (ValueError, TypeError) as error:
        raise DataError(
            f"has a damaged manifest ({error})",
            where=out,
            remedy="Choose another folder, and keep the maps of this one.",
        ) from error


def fingerprint_of(source: Path, files: tuple[Path, ...], told: str | None) -> dict[str, Any]:
    """Return a fingerprint of a scene, as JSON's own types; it reads the contents of its files.

    Args:
        source: The scene; of an address no more than its name.
        files: The files that it consists of; none of an address.
        told: What the list of scenes says of its contents, such as a checksum.
    """
    files = tuple(dict.fromkeys(files))
    return {
        "files": [Path(os.path.relpath(file, source.parent)).as_posix() for file in files],
        "of": Files(files, source.parent).to_json() if files else None,
        "told": told,
    }


def has_changed(before: Mapping[str, Any] | None, source: Path, told: str | None) -> bool:
    """Return whether a scene is not what it was when its map was made.

    Contents are read only where the size or the time of a file is another. An address is asked
    nothing: it counts as another one only if the list of scenes says so.

    Args:
        before: What `fingerprint_of` returned then; None counts as another one.
        source: The scene, wherever it is now.
        told: What the list of scenes says of it now.
    """
    if before is None or before.get("told") != told:
        return True
    files = tuple(source.parent / name for name in before["files"])
    return bool(files) and not Files(files, source.parent).same_as(before["of"])
