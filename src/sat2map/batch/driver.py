"""The driver of a batch: what is to be done, who does it, and what is written down of it.

    list of scenes --+
                     +--> rows --> [waiting] --> free worker --> outcome --> row
    manifest --------+                ^                             |
                                      +------ again, after a pause -+

A giant scene comes back to be made in blocks of rows. Each of them takes the same way as a scene,
and when all are made, the scene does so again, to be joined of them:

    scene --> "split" --> blocks --> ... --> all made --> scene --> "done"

In each turn of its loop everything that is new is written to the manifest at once, and flushed to
the disk, before a scene is handed to a worker.
"""

from __future__ import annotations

import heapq
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sat2map.batch.engine import Engine, Lost, Returned
from sat2map.batch.item import Item, remove_asides
from sat2map.batch.lease import Lease
from sat2map.batch.manifest import ENDED, MADE, Row, block_name
from sat2map.errors import OutputError, Sat2mapError, StoppedError
from sat2map.journal import HIDDEN, Journal

PAUSES_S = (5.0, 15.0, 45.0, 120.0)
"""Seconds before a scene is tried again that may be read a while later; then it is given up."""

DEADLY = 3
"""Workers that die of a scene before it is set aside."""

MOST_LOSSES = 20
"""How often a scene is sent again whose workers were lost by no fault of its own."""

REST_S = 30.0
"""Seconds that a worker gets nothing after it had no room or no memory."""

STOP_S = 10.0
"""Seconds that workers have to stop before they are ended."""

TURN_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Task:
    """A scene that is to be made.

    Attributes:
        item: What a worker gets.
        row: What is known of it.
        worker: The last one that had it.
        failures: How often it failed in a way that may pass, in this run.
        losses: How often its worker was lost, in this run.
        scene: Of a block the scene.
        blocks: Of a scene that is being made in blocks: all of them.
    """

    item: Item
    row: Row
    worker: str | None = None
    failures: int = 0
    losses: int = 0
    scene: _Task | None = None
    blocks: list[_Task] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        """Whether it is a scene, or a block of one that is being made of it."""
        return self.scene is None or self in self.scene.blocks


class Driver:
    """Has the scenes of a batch made.

    Args:
        journal: Of the batch's folder, which is claimed.
        lease: Of the same folder.
        files: Returns the names of all files that are made of a scene, by the name of its map.
        say: Called with a line for each scene that is not done.
        progress: Called with (done, all) scenes.
        already: How many scenes there are that are not to be made.
        pauses: As `PAUSES_S`.
        blocks: What is known of blocks of scenes, by their names.
    """

    def __init__(
        self,
        journal: Journal,
        lease: Lease,
        files: Callable[[str], list[str]],
        *,
        say: Callable[[str], object] = logger.warning,
        progress: Callable[[int, int], None] | None = None,
        already: int = 0,
        pauses: tuple[float, ...] = PAUSES_S,
        blocks: Mapping[str, Row] | None = None,
    ) -> None:
        self._journal, self._lease, self._files = journal, lease, files
        self._say, self._progress, self._already = say, progress, already
        self._pauses = pauses
        self._waiting: deque[_Task] = deque()
        self._again: list[_Task] = []
        self._later: list[tuple[float, int, _Task]] = []
        self._running: dict[str, _Task] = {}
        self._resting: dict[str, float] = {}
        self._rows: dict[str, Any] = {}  # what is to be written
        self._ended = self._all = 0
        self._blocks = dict(blocks or {})
        self._split: list[_Task] = []
        self._joined: list[str] = []  # scenes whose blocks are to be removed

    def run(self, engine: Engine, tasks: Iterable[tuple[Item, Row]], stop: threading.Event) -> None:
        """Make scenes until each is done or given up.

        Args:
            engine: Its workers.
            tasks: The scenes, each with what is known of it.
            stop: Asks to stop once it is set.

        Raises:
            StoppedError: `stop` is set; what is done is done.
            UsageError: Another driver took over.
            OutputError: The folder of the batch cannot be written to.
        """
        self._waiting = deque(_Task(item, row) for item, row in tasks)
        self._all = len(self._waiting)
        self._show()
        while self._waiting or self._again or self._later or self._running:
            if stop.is_set():
                self._stop(engine)
            self._take_up()
            free = self._free(engine)
            chosen = self._assign(engine, free)
            self._write()
            for worker, task in chosen:
                engine.send(worker, task.item)
            for event in engine.wait(TURN_S):
                self._heed(event)
            self._show()
        self._write()

    def _free(self, engine: Engine) -> Sequence[str]:
        """Return the free workers; where there can be none, what is known is written down first."""
        try:
            return engine.free()
        except Sat2mapError:
            self._write()
            raise

    def _take_up(self) -> None:
        """Have those scenes wait for a worker whose pause is over."""
        while self._later and self._later[0][0] <= time.monotonic():
            self._again.append(heapq.heappop(self._later)[2])

    def _assign(self, engine: Engine, free: Sequence[str]) -> list[tuple[str, _Task]]:
        """Choose a scene for each free worker."""
        now, chosen = time.monotonic(), []
        for worker in free:
            resting = self._resting.get(worker, 0) > now
            if resting and engine.alive() > 1:
                continue
            task = self._next(worker, alone=engine.alive() == 1)
            if task is None:
                continue
            task.worker = worker
            row = replace(task.row, state="running", tries=task.row.tries + 1)
            self._note(task, row)
            task.item = replace(task.item, tries=row.tries)
            self._running[worker] = task
            chosen.append((worker, task))
        return chosen

    def _next(self, worker: str, *, alone: bool) -> _Task | None:
        """Return a scene for a worker: one that another had before, or a fresh one."""
        self._again = [task for task in self._again if task.is_wanted]
        for task in self._again:
            if alone or task.worker != worker:
                self._again.remove(task)
                return task
        while self._waiting:
            task = self._waiting.popleft()
            if task.is_wanted and (task.scene is not None or self._is_free(task)):
                return task
        return None

    def _is_free(self, task: _Task) -> bool:
        """Return whether none of the files of a scene is somebody else's; they are ours then."""
        files, ours = self._files(task.row.name), task.row.files
        place = self._journal.folder
        others = (name for name in files if name not in ours and os.path.lexists(place / name))
        foreign = next(others, None)
        if foreign is None:
            task.row = replace(task.row, files={**dict.fromkeys(files, ""), **ours})
            return True
        error = OutputError(
            "is there already and was not written by sat2map batch",
            where=place / foreign,
            remedy="Move it away, or choose another folder.",
        )
        self._give_up(task, "failed", str(error))
        return False

    def _heed(self, event: Returned | Lost) -> None:
        """Note what has happened to a worker and its scene."""
        task = self._running.pop(event.worker, None)
        if isinstance(event, Lost):
            self._resting.pop(event.worker, None)
            if task is not None:
                self._bury(task, event)
            return
        if task is None or task.item != event.item:
            return
        outcome = event.outcome
        facts = _row_facts(outcome.facts)
        count, lost = facts.pop("blocks", 0), facts.pop("lost", None)
        spent = task.row.seconds + facts.pop("seconds", 0.0)
        task.row = replace(task.row, seconds=round(spent, 3), **facts)
        match outcome.kind:
            case "done" | "empty" if task.scene is not None:
                self._note(task, replace(task.row, state=outcome.kind, error=None))
                self._blocks[task.row.name] = task.row
                if task.is_wanted:
                    self._join(task.scene)
            case "done":
                self._note(task, replace(task.row, state="done", error=None))
                self._ended += 1
                self._joined += [task.row.name] if task.item.strips else []
            case "split":
                self._divide(task, count)
            case "other":
                self._divide_anew(task, lost)
            case "failed" | "empty":
                self._give_up(task, outcome.kind, task.row.error)
            case "stopped":
                self._note(task, replace(task.row, state="waiting", error=None))
            case _:
                if outcome.kind == "unfit":
                    self._resting[event.worker] = time.monotonic() + REST_S
                self._try_again(task, outcome.kind)

    def _divide(self, task: _Task, count: int) -> None:
        """Have a scene made block by block; what is made of the same contents is kept."""
        fingerprint = task.row.fingerprint
        task.item = replace(task.item, fingerprint=fingerprint)
        self._note(task, replace(task.row, error=None))  # it is running until it is joined
        self._split.append(task)
        waiting = []
        for number in range(count):
            name = block_name(task.row.name, number, count)
            row = Row(name, task.row.scene, block=(number, count), of=task.row.name)
            item = replace(task.item, name=name, block=row.block)
            before = self._blocks.get(name, row)
            block = _Task(item, before, scene=task)
            task.blocks.append(block)
            is_whole = before.state in MADE and before.fingerprint == fingerprint
            if not is_whole or not all(map(Path.exists, before.outputs(self._journal.folder))):
                self._note(block, row)
                waiting.append(block)
        self._waiting.extendleft(reversed(waiting))
        self._join(task)

    def _join(self, task: _Task) -> None:
        """Have a scene joined, if all of its blocks are made."""
        rows = [block.row for block in task.blocks]
        if not all(row.state in MADE for row in rows):
            return
        task.blocks = []
        self._split.remove(task)
        if any(row.state == "done" for row in rows):
            strips = tuple(pair for row in rows for pair in row.files.items())
            task.item, task.worker = replace(task.item, strips=strips), None
            self._again.insert(0, task)
            return
        self._joined.append(task.row.name)
        self._give_up(task, "empty", "has no valid pixel, only nodata")

    def _divide_anew(self, task: _Task, lost: str | None) -> None:
        """Try a scene again whose blocks are lost, or are of other contents than it has now."""
        scene = task if task.scene is None else task.scene
        if not task.is_wanted:
            return
        if scene in self._split:
            self._split.remove(scene)
        if lost is not None:
            self._blocks.pop(PurePosixPath(lost).parent.as_posix(), None)
        scene.blocks = []
        scene.item = replace(scene.item, strips=(), fingerprint=None)
        scene.row = replace(scene.row, error=task.row.error)
        self._try_again(scene, "again")

    def _try_again(self, task: _Task, kind: str) -> None:
        """Have a scene wait for another try, or give it up."""
        task.failures += 1
        if task.failures <= len(self._pauses):
            self._note(task, replace(task.row, state="waiting"))
            due = time.monotonic() + self._pauses[task.failures - 1]
            heapq.heappush(self._later, (due, id(task), task))
            return
        if kind != "output":
            self._give_up(task, "failed", f"{task.row.error} ({task.failures} tries)")
            return
        self._note(task, replace(task.row, state="waiting"))
        self._write()
        raise OutputError(  # which would be the end of all the others, too
            task.row.error or "cannot be written",
            remedy="What is done is kept; run the same command again to go on.",
        )

    def _bury(self, task: _Task, event: Lost) -> None:
        """Send the scene of a lost worker to another one, or set it aside."""
        task.losses += 1
        deaths = task.row.deaths
        name = f"{self._lease.number}/{event.worker}"
        if event.blames and name not in deaths:
            deaths = (*deaths, name)
        task.row = replace(task.row, deaths=deaths, error=event.why)
        if len(deaths) >= DEADLY:
            self._give_up(task, "set aside", f"{event.why}; {len(deaths)} workers died of it")
        elif task.losses >= MOST_LOSSES:
            self._give_up(task, "set aside", f"{event.why}; lost {task.losses} times")
        else:
            self._note(task, replace(task.row, state="waiting"))
            self._again.append(task)

    def _give_up(self, task: _Task, state: Any, error: str | None) -> None:
        self._note(task, replace(task.row, state=state, error=error))
        if task.scene is not None:
            if task.is_wanted:
                self._split.remove(task.scene)
                task.scene.blocks = []
                self._give_up(task.scene, state, error)
            return
        self._ended += 1
        if state != "empty":
            self._say(f"{task.row.scene}: {state}: {error}")

    def _note(self, task: _Task, row: Row) -> None:
        if task.losses and row.state in ENDED:
            remove_asides(self._journal.folder, row, self._lease.number)
        task.row = row
        self._rows[row.name] = row.to_json()

    def _write(self) -> None:
        """Write down what is new."""
        if self._rows:
            self._lease.check()
            self._journal.note(self._rows)
            self._rows = {}
        for scene in self._joined:
            rows = [row for row in self._blocks.values() if row.of == scene]
            remove_blocks(self._journal, rows)
            for row in rows:
                del self._blocks[row.name]
        self._joined = []

    def _show(self) -> None:
        if self._progress is not None:
            self._progress(self._already + self._ended, self._already + self._all)

    def _stop(self, engine: Engine) -> None:
        """Have the workers stop, and write down what is done.

        Raises:
            StoppedError: Always.
        """
        engine.stop()
        until = time.monotonic() + STOP_S
        while self._running and time.monotonic() < until:
            for event in engine.wait(TURN_S):
                self._heed(event)
        for task in (*self._running.values(), *self._split):
            self._note(task, replace(task.row, state="waiting"))
        self._write()
        raise StoppedError(
            f"stopped as asked; {self._already + self._ended:,} of "
            f"{self._already + self._all:,} scenes are done",
            where=self._journal.folder,
            remedy="Run the same command again to go on.",
        )


def remove_blocks(journal: Journal, rows: Iterable[Row]) -> None:
    """Remove what is known of blocks that nobody needs any more, and their strips."""
    names = [row.name for row in rows]
    for name in names:
        shutil.rmtree(journal.folder / name, ignore_errors=True)
    for place in {(journal.folder / name).parent for name in names}:
        while place != journal.folder / HIDDEN:
            try:
                place.rmdir()
            except OSError:  # other blocks lie there
                break
            place = place.parent
    journal.remove(names)


def _row_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an outcome tells for a row, without what it does not tell."""
    return {key: value for key, value in facts.items() if value is not None}
