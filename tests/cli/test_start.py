"""What the command line leaves out at its start is missed by nobody."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import weakref
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import sat2map
from sat2map.cli.app import app
from sat2map.cli.start import keep_until_the_end, with_one_verb


def built(arguments: list[str]) -> set[str]:
    called = get_command(with_one_verb(app, arguments))
    assert isinstance(called, typer.core.TyperGroup)
    return set(called.commands)


@pytest.mark.parametrize("verb", ["translate", "evaluate-vectors", "data", "cache"])
def test_the_verb_that_is_called_is_built_alone(verb: str) -> None:
    everything = built([])
    assert verb in everything
    assert built([verb, "--help"]) == {verb}
    assert built([]) == everything


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["transalte"], [""]])
def test_whoever_calls_no_verb_gets_all_of_them(arguments: list[str]) -> None:
    assert {"translate", "train", "data", "vectors"} <= built(arguments)


RUN = """
import sys
from sat2map.cli import app as cli
cli.run = lambda: None
cli.main()
import openvino
print("openvino.tools.ovc" in sys.modules)
from openvino.tools.ovc import convert_model
print(callable(convert_model), callable(openvino.Core))
"""


def test_openvino_is_imported_without_its_converter_which_is_there_for_who_asks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines() == ["False", "True True"]


def test_what_a_verb_holds_at_last_lives_on_and_what_was_before_does_not() -> None:
    class Model:
        pass

    first = weakref.ref(keep_until_the_end(Model()))
    assert first() is not None
    second = weakref.ref(keep_until_the_end(Model()))
    assert first() is None
    assert second() is not None


def test_the_installed_command_is_the_module() -> None:
    settings = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    module, _, name = settings["project"]["scripts"]["sat2map"].partition(":")
    code = f"import {module} as entry; entry.{name}()"
    for arguments in (["-c", code], ["-m", "sat2map"]):
        done = subprocess.run(
            [sys.executable, *arguments, "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.strip() == sat2map.__version__
