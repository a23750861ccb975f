"""Every error that a user can cause: what happened, where, and what to do.

A message names what the caller gave by the name of the parameter, in backticks: `overlap`, with a
value `overlap=64`, and a recipe's key `data.size`. The command line turns these into its options.
It prints the message as one line and ends with `exit_code`: 2 where the call was wrong (a
parameter, a recipe), 1 where the data, a model or the machine was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KEYS = re.compile(r"(https?:/{1,2}|/vsi\w+/)(?:[^/@?#\s'\"]*@)?([^?#\s'\"]*)[?#][^\s'\"]*", re.I)


def _without_keys(text: str) -> str:
    """Return a text whose web addresses have no query, whoever named one, as a file or otherwise.

    A path has one slash where the address had two.
    """
    return _KEYS.sub(r"\1\2", text)


class Sat2mapError(Exception):
    """An error with a clear line instead of a traceback.

    Args:
        what: What is wrong, without a full stop at the end.
        remedy: What the user can do about it, a sentence.
        where: The file, folder or address concerned.
        parameter: The parameter of the call, or the recipe's key, whose value is wrong.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        remedy: str,
        where: str | Path | None = None,
        parameter: str | None = None,
    ) -> None:
        self.what = _without_keys(what)
        self.remedy = _without_keys(remedy)
        self.where = None if where is None else _without_keys(str(where))
        self.parameter = parameter
        super().__init__(" ".join(f"{self.headline}. {self.remedy}".split()))

    @property
    def headline(self) -> str:
        """What is wrong, after the parameter and the place concerned; without the remedy."""
        named = None if self.parameter is None else f"`{self.parameter}`"
        return ": ".join(part for part in (named, self.where, self.what) if part is not None)

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the line, and not the way to it (IPython asks for this)."""
        return [str(self)]

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it come whole from another process, whatever its constructor takes."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[Sat2mapError], args: tuple[Any, ...], facts: dict[str, Any]) -> Sat2mapError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class UsageError(Sat2mapError):
    """The call itself is wrong: a parameter, a recipe."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A feature needs a package that stands behind an extra."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            remedy=f"Install it with: pip install 'sat2map[{extra}]'.",
        )


TRAIN_PACKAGES = frozenset({"torch", "lightning_fabric", "tensorboard"})
"""What the extra `train` brings, by the names of their modules."""


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return what to say where a package of the extra `train` was not found, else None."""
    package = (error.name or "").partition(".")[0]
    if package not in TRAIN_PACKAGES:
        return None
    return MissingExtraError(package.replace("_", "-"), "train")


class DataError(Sat2mapError):
    """An image, a pair or a data set that cannot be used."""


class EmptySceneError(DataError):
    """A scene in which nothing shows."""


class BatchError(DataError):
    """Some items of a batch failed; the others are done.

    Args:
        failures: One error for each item that failed.
        done: How many items succeeded.
    """

    def __init__(self, failures: list[Sat2mapError], done: int) -> None:
        self.failures = failures
        items = "item" if len(failures) == 1 else "items"
        super().__init__(
            f"{len(failures)} {items} could not be used, {done} done: "
            + "; ".join(failure.headline for failure in failures),
            remedy="Mend or remove what is named and run the command again.",
        )


class ModelError(Sat2mapError):
    """A model folder or a foreign checkpoint that cannot be used."""


class TrainingError(Sat2mapError):
    """A training run that cannot go on."""


class OutputError(Sat2mapError):
    """An output that cannot be written."""


class StoppedError(Sat2mapError):
    """Long work stopped because it was asked to; what is finished is kept.

    Args:
        what: What was stopped, without a full stop at the end.
        where: The output concerned.
        remedy: How it goes on, a sentence.
    """

    exit_code = 130  # as after Ctrl-C; the command line, which knows of signals, may know better

    def __init__(
        self,
        what: str,
        *,
        where: Path,
        remedy: str = "Do the same again with `resume=True`.",
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)


def expect(
    value: object,
    kinds: type | tuple[type, ...],
    parameter: str,
    remedy: str,
    *,
    none: bool = False,
) -> None:
    """Refuse an argument of a kind that cannot be meant, before it fails somewhere within.

    Args:
        value: What was given.
        kinds: What it may be an instance of. True and False are not numbers here.
        parameter: Its name.
        remedy: What to give, a sentence.
        none: Whether None will do.

    Raises:
        UsageError: It is something else.
    """
    if none and value is None:
        return
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        kind = type(value).__name__
        raise UsageError(
            "is None" if value is None else f"is of the type {kind}, which is not taken",
            parameter=parameter,
            remedy=remedy,
        )


def parsed_json(text: str | bytes) -> Any:
    """Return what a text holds as JSON.

    Raises:
        ValueError: It is not JSON, or is nested deeper than Python follows.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn what the operating system says while writing to `path` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            where=path,
            remedy="Free some space, or choose a folder that you may write to.",
        ) from error
