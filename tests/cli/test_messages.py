"""The library names parameters, the command line its options, and neither the other's."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import sat2map
from sat2map.cli.app import app
from sat2map.cli.messages import OptionFormatter, option_of, with_options

ELSEWHERE = {"--nproc-per-node", "--strategy", "--upgrade", "--head", "--address"}
"""Options of other programs (torchrun, osmium, pip, ray), which messages may name."""

LIBRARY_ONLY = {
    "halo",
    "window",
    "overlap",
    "source",
    "output",
    "mode",
    "layers",
    "device",
    "height",
    "photo",
    "models",
}
"""Parameters that no verb has an option for."""

NOT_PARAMETERS = {
    "cover",
    "openvino",
    "interpreter",
    "best",
    "decay_epochs",
    "learning_rate",
    "translate",
    "compact",
    "lite",
}
"""What stands in backticks in strings of the library for other reasons."""


def strings() -> Iterator[tuple[str, bool, str]]:
    """Yield the strings of the library outside of cli/: their place, are they docstrings, text."""
    root = Path(sat2map.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.is_relative_to(root / "cli"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                place = f"{path.relative_to(root)}:{node.lineno}"
                yield place, id(node) in documentation, node.value


def test_nothing_but_the_command_line_writes_options() -> None:
    written = [
        (place, option)
        for place, _, text in strings()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)
        if option not in ELSEWHERE
    ]
    assert written == []


def test_every_parameter_that_a_message_names_has_an_option() -> None:
    named = [
        (place, name)
        for place, documentation, text in strings()
        if not documentation
        for name in re.findall(r"`(?!sat2map\.)([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)?)[`=]", text)
    ]
    assert {"bbox", "resume", "data.size"} <= {name for _, name in named}
    known = LIBRARY_ONLY | NOT_PARAMETERS
    assert [one for one in named if one[1] not in known and option_of(one[1]) is None] == []


def test_every_parameter_that_an_error_is_about_has_an_option() -> None:
    root = Path(sat2map.__file__).parent
    named = {
        keyword.value.value
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "parameter" and isinstance(keyword.value, ast.Constant)
    }
    assert len(named) > 10
    assert {name for name in named - LIBRARY_ONLY if option_of(name) is None} == set()


def test_a_parameter_is_the_same_option_in_every_verb() -> None:
    found: dict[str, set[str]] = {}

    def walk(command: Any) -> None:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                found.setdefault(parameter.name, set()).add(max(parameter.opts, key=len))
        for inner in getattr(command, "commands", {}).values():
            walk(inner)

    walk(typer.main.get_command(app))
    assert {name: options for name, options in found.items() if len(options) > 1} == {}
    assert found["value_range"] == {"--range"}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("`bbox`: is wrong. Give another.", "--bbox: is wrong. Give another."),
        ("choose a `value_range` or `bands`", "choose a --range or --bands"),
        ("`shift_m=2.5,-1` corrects it", "--shift=2.5,-1 corrects it"),
        ("do it again with `resume=True`.", "do it again with --resume."),
        ("crop less with `data.size=128`.", "crop less with --set data.size=128."),
        ("Correct it in `settings`.", "Correct it in --set."),
        ("`model.json`, the extra `int9`, `overlap` stay", None),
        ("`sat2map data masks` and `` stay, ` too", None),
    ],
)
def test_parameters_are_shown_as_options(said: str, shown: str | None) -> None:
    assert with_options(said) == (said if shown is None else shown)


def test_notices_are_shown_with_options_too() -> None:
    record = logging.LogRecord(
        "sat2map", logging.WARNING, "", 0, "choose %s by `bands`", ("2",), None
    )
    assert OptionFormatter("%(message)s").format(record) == "choose 2 by --bands"
