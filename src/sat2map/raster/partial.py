"""An unfinished map: a hidden folder beside it, which a killed run leaves and the next one finds.

    .NAME.partial/
        lock           held by the process that works here; the system frees it with the process
        state.json     what is made of what, and how many rows of the map are finished
        strips/        the finished strips (`strips.py`)

The same folder takes whatever else is made on the way, so that a run that is killed leaves
nothing anywhere else.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sat2map.errors import OutputError, StoppedError, UsageError, writing_to
from sat2map.whole import write_text

logger = logging.getLogger(__name__)

LOCK = "lock"
STATE = "state.json"
STRIPS = "strips"


class Partial:
    """What is known of an unfinished map.

    Args:
        folder: Its folder.
        key: What it is made of and how, a text for each thing that must be the same when the
            work goes on.

    Attributes:
        folder: Its folder.
        strips: Where its strips are.
        rows: How many rows of the map are finished.
        some: Whether the scene is known to have a valid pixel.
    """

    def __init__(self, folder: Path, key: Mapping[str, str]) -> None:
        self.folder = folder
        self.strips = folder / STRIPS
        self.rows = 0
        self.some = False
        self._key = dict(key)

    def advance(self, rows: int, some: bool) -> None:
        """Note that so many rows are finished and on the disk."""
        state = {"key": self._key, "rows": rows, "some": some}
        write_text(self.folder / STATE, json.dumps(state, indent=1) + "\n")
        self.rows, self.some = rows, some

    def discard(self) -> None:
        """Note that nothing here is worth keeping."""
        self.rows = 0

    def recall(self, target: Path) -> None:
        """Take up what an earlier run left here.

        Raises:
            UsageError: It was made of something else, or in another way.
        """
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        other = [name for name, text in self._key.items() if state["key"].get(name) != text]
        if other:
            raise UsageError(
                f"was begun with another {' and another '.join(other)}, so it cannot be resumed",
                where=target,
                remedy="Give the same as before, or leave out --resume to begin anew.",
            )
        self.rows, self.some = state["rows"], state["some"]


@contextmanager
def partial_work(target: Path, key: Mapping[str, str], *, resume: bool) -> Iterator[Partial]:
    """Yield the unfinished map of `target`; at the end of the block its folder is removed.

    Where the block raises, the folder stays if some of the map is finished. Without `resume`,
    what an earlier run left is swept away first.

    Raises:
        UsageError: Another process works on the same map, or what is to be resumed was begun
            with something else.
        OutputError: The place is not writable or the disk is full.
    """
    folder = target.absolute().with_name(f".{target.name}.partial")
    with writing_to(target), _locked(folder, target):
        partial = Partial(folder, key)
        if resume:
            partial.recall(target)
            if partial.rows == 0:
                logger.warning(f"{target}: nothing of it is finished, so it is begun afresh.")
        _sweep(folder, {LOCK, STATE, STRIPS} if partial.rows else {LOCK})
        partial.strips.mkdir(exist_ok=True)
        try:
            yield partial
        except BaseException as error:
            if partial.rows == 0:
                shutil.rmtree(folder, ignore_errors=True)
            elif not isinstance(error, StoppedError):
                logger.warning(
                    f"{target}: what is finished is kept in {folder.name}; go on with the same "
                    "command and --resume."
                )
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, target: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    if folder.parent.exists() and not folder.parent.is_dir():
        raise OutputError(
            "cannot be written (its folder is a file)",
            where=target,
            remedy="Choose another name.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            "is being written by another process",
            where=target,
            remedy="Wait until it has ended, or choose another name.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
