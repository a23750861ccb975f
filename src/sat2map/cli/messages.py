"""What the library says, with the options of the command line in place of its parameters.

The library names a parameter or a key of a recipe in backticks; the option of a parameter is the
one whose function in `cli/` has a parameter of that name.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from typing import Any, get_args

_NAMED = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)?)(=[^`]*)?`")


def option_of(name: str) -> str | None:
    """Return the option of a parameter, or of a recipe's key; None where there is none."""
    section, dot, key = name.partition(".")
    if not dot:
        return _options().get(name)
    from sat2map.recipe import Recipe

    field = Recipe.model_fields.get(section)
    annotation = None if field is None else field.annotation
    kinds = (annotation, *get_args(annotation))  # a section may be one of several specs
    known = {known for kind in kinds for known in getattr(kind, "model_fields", {})}
    return f"--set {name}" if key in known else None


def with_options(text: str) -> str:
    """Return a message with `shift_m=2,-1` as --shift=2,-1 and `data.size` as --set data.size.

    A switch loses its value: `resume=True` is --resume. Names that are not parameters stay.
    """
    return _NAMED.sub(_option, text)


def say(text: str) -> None:
    """Print a line of the library's on stderr."""
    print(with_options(text), file=sys.stderr)


class OptionFormatter(logging.Formatter):
    """Notices of the library as the command line shows them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message with options in place of parameters."""
        return with_options(super().format(record))


def _option(found: re.Match[str]) -> str:
    option, value = option_of(found[1]), found[2] or ""
    if option is None:
        return found[0]
    return option if value == "=True" else option + value


@functools.cache
def _options() -> dict[str, str]:
    """Return the option of each parameter of all verbs."""
    import typer

    from sat2map.cli.app import app

    found: dict[str, str] = {}

    def walk(command: Any) -> None:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                found[parameter.name] = max(parameter.opts, key=len)
        for inner in getattr(command, "commands", {}).values():
            walk(inner)

    walk(typer.main.get_command(app))
    return found
