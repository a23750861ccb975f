"""An unfinished map: a hidden folder beside it, which a killed run leaves and the next one finds.

    .NAME.partial/
        .sat2map/      its journal: what is made of what, and how many rows of the map are finished
        strips/        the finished strips (`strips.py`)

The same folder takes whatever else is made on the way, so that a run that is killed leaves
nothing anywhere else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sat2map.errors import OutputError, StoppedError, UsageError, writing_to
from sat2map.journal import HIDDEN, Journal, MadeOf, claim, remove_own

logger = logging.getLogger(__name__)

STRIPS = "strips"
ROWS = "rows"
_TREE = r"(/\d+(/\d+(/\d+\.png)?)?|/tiles\.json)?"
_NAME = "map|compare|classes|confidence|probabilities"
_STRIP = rf"({_NAME})((\.\d+)?-\d{{9}}\.tif|\.(alpha|colours|empty)\.vrt)"
_STRIPS = rf"strips(/{_STRIP}|/\d+\.tif|/tiles{_TREE})?"
_WHOLE = rf"whole\.[0-9a-f]{{8}}({_TREE}|\.links/{_STRIP}|\.[^/]*)"
_NESTED = r"strips/\.\d+\.tif\.partial"
_JOURNAL = r"\.sat2map(/(journal\.json|done\.jsonl|lock))?"
_OLDER = r"lock|state\.json"
_OWN = re.compile(rf"{_STRIPS}|{_WHOLE}|{_NESTED}(/({_STRIPS}|{_WHOLE}|{_JOURNAL}))?|{_OLDER}")
"""Names in the folder that are ours: what else lies there is never removed."""


class Partial:
    """An unfinished map: its hidden folder, and how many rows are done.

    Args:
        journal: The journal of its folder.

    Attributes:
        folder: Its folder.
        strips: Where its strips are.
        rows: How many rows of the map are finished.
        some: Whether the scene is known to have a valid pixel.
    """

    def __init__(self, journal: Journal) -> None:
        self.folder = journal.folder
        self.strips = journal.folder / STRIPS
        self.rows = 0
        self.some = False
        self._journal = journal

    def advance(self, rows: int, some: bool) -> None:
        """Note that so many rows are finished and on the disk."""
        self._journal.finish(ROWS, facts=[rows, some])
        self.rows, self.some = rows, some

    def discard(self) -> None:
        """Note that nothing here is worth keeping."""
        self.rows = 0

    def hand_over(self, folder: Path, prefix: str) -> None:
        """Move the strips that are made into a folder, where they wait for the others.

        Args:
            folder: The folder, on the same disk.
            prefix: What their names begin with there.
        """
        for strip in self.strips.iterdir():
            strip.replace(folder / f"{prefix}{strip.name}")

    def take_over(self, folder: Path, prefix: str, rows: int) -> None:
        """Move all strips of a map here out of a folder to which they were handed over.

        Args:
            folder: The folder, on the same disk.
            prefix: What their names begin with there.
            rows: How many rows the map has.
        """
        for strip in folder.glob(f"{prefix}*.tif"):
            strip.replace(self.strips / strip.name.removeprefix(prefix))
        self.rows, self.some = rows, True

    def recall(self, target: Path) -> None:
        """Take up what an earlier run left here.

        Raises:
            UsageError: It was made of something else, or in another way.
        """
        changed = self._journal.changed
        if self._journal.is_older:
            changed = ["version of sat2map"]
        if changed:
            raise UsageError(
                f"was begun with another {' and another '.join(changed)}, so it cannot be resumed",
                where=target,
                remedy="Give the same as before, or leave out `resume` to begin anew.",
            )
        self.rows, self.some = self._journal.finished().get(ROWS, (0, False))


@contextmanager
def partial_work(
    target: Path,
    made_of: MadeOf,
    *,
    resume: bool,
    say: Callable[[str], object] = logger.warning,
) -> Iterator[Partial]:
    """Yield the unfinished map of `target`; at the end of the block its folder is removed.

    Where the block raises, the folder stays if some of the map is finished. Without `resume`,
    what an earlier run left is swept away first. Files that are not ours stay where they are.

    Args:
        target: The map.
        made_of: What it is made of and how.
        resume: Whether the work goes on where an earlier run stopped.
        say: Called with notices of what is kept and what is begun afresh.

    Raises:
        UsageError: Another process works on the same map, or what is to be resumed was begun
            with something else.
        OutputError: The folder is somebody else's, the place is not writable, or the disk is
            full.
    """
    folder = target.absolute().with_name(f".{target.name}.partial")
    remedy = "Remove it, or choose another name for the map."
    if folder.is_symlink():
        raise OutputError("is a link", where=folder, remedy=remedy)
    if folder.parent.exists() and not folder.parent.is_dir():
        raise OutputError(
            "cannot be written (its folder is a file)", where=target, remedy="Choose another name."
        )
    with (
        writing_to(target),
        claim(
            folder,
            "sat2map translate",
            made_of,
            earlier=_of_older_versions,
            where=target,
            remedy=remedy,
        ) as journal,
    ):
        partial = Partial(journal)
        if resume:
            partial.recall(target)
            if partial.rows == 0:
                say(f"{target}: nothing of it is finished, so it is begun afresh.")
        if partial.strips.is_symlink():
            raise OutputError("is a link", where=partial.strips, remedy=remedy)
        journal.start(keep=partial.rows > 0)  # first: what is removed may not count as finished
        if partial.rows == 0:
            remove_own(folder, _OWN)
        partial.strips.mkdir(exist_ok=True)
        try:
            yield partial
        except BaseException as error:
            if partial.rows == 0:
                journal.remove_folder(_OWN)
            elif not isinstance(error, StoppedError):
                say(
                    f"{target}: what is finished is kept in {folder.name}; do the same again "
                    "with `resume=True` to go on."
                )
            raise
        journal.remove_folder(_OWN)


def _of_older_versions(folder: Path) -> dict[str, Any] | None:
    """Return nothing known where a version without journals began a map, else None."""
    if not (folder / "lock").is_file():
        return None
    ours = all(_OWN.fullmatch(path.name) or path.name == HIDDEN for path in folder.iterdir())
    return {} if ours else None
