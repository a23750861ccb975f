"""What the command line leaves out at its start is missed by nobody."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.main import get_command

from sat2map.cli.app import app
from sat2map.cli.start import with_one_verb


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
