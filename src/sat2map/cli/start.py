"""What the command line leaves out at its start and its end, so that it answers sooner.

It is for a process of its own; the library does none of it.
"""

from __future__ import annotations

import copy
import sys
from typing import TypeVar

import typer
from typer.main import get_command_name

CONVERTER = "openvino.tools.ovc"

T = TypeVar("T")

_kept: list[object] = []


class _WithoutConverter:
    """Has `import openvino` leave out what converts models of other frameworks.

    That loads an HTTP client and more: up to a sixth of what translating a small image takes, and
    nothing here calls it. OpenVINO does without it where it is not there. Whoever asks for it
    later, by its own name, gets it.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Refuse the converter while OpenVINO itself is imported; others find everything else."""
        if name == CONVERTER:
            asking = getattr(sys.modules.get("openvino"), "__spec__", None)
            if getattr(asking, "_initializing", False):
                raise ModuleNotFoundError(f"{name} is left out", name=name)


def leave_out_converter() -> None:
    """Have OpenVINO imported without its converter in this process, from now on."""
    if _WithoutConverter not in sys.meta_path:
        sys.meta_path.insert(0, _WithoutConverter)


def with_one_verb(app: typer.Typer, arguments: list[str]) -> typer.Typer:
    """Return an app with the verb that is called alone, or all of it where none is.

    Typer builds the options of all verbs before it looks at the first argument.

    Args:
        app: The whole, which stays as it is.
        arguments: What follows the program's name.
    """
    verb = next(iter(arguments), None)
    called = copy.copy(app)
    called.registered_commands = [
        info
        for info in app.registered_commands
        if verb == (info.name or get_command_name(getattr(info.callback, "__name__", "")))
    ]
    called.registered_groups = [info for info in app.registered_groups if verb == info.name]
    return called if called.registered_commands or called.registered_groups else app


def keep_until_the_end(held: T) -> T:
    """Return what is given, and have it live as long as the process, or until the next one.

    To take a model down, before the process ends anyway, takes as long as to run it on a small
    image.
    """
    _kept[:] = [held]
    return held
