"""The command line as a whole: all verbs, and how a process of its own begins and ends.

What a verb needs is imported when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from sat2map.cli import model as cli_model
from sat2map.cli import vectors as cli_vectors
from sat2map.cli.batch import batch
from sat2map.cli.cache import cache_app
from sat2map.cli.compare import compare
from sat2map.cli.data import data_app
from sat2map.cli.evaluate import evaluate
from sat2map.cli.evaluate_vectors import evaluate_vectors
from sat2map.cli.messages import OptionFormatter, say
from sat2map.cli.noise import allow_any_characters, silence_dependencies
from sat2map.cli.options import AsJson, ModelChoice, Quiet
from sat2map.cli.serve import serve
from sat2map.cli.start import leave_out_converter, with_one_verb
from sat2map.cli.train import train
from sat2map.cli.translate import translate
from sat2map.cli.verify import verify
from sat2map.errors import Sat2mapError, missing_extra

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn satellite and aerial images into maps and into vectors.\n\n"
    "Begin with: sat2map demo, or sat2map translate ortho.tif map.tif",
)


def main() -> None:
    """Run the command line as a process of its own."""
    notices = logging.StreamHandler()
    notices.setFormatter(OptionFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[notices])
    silence_dependencies()
    allow_any_characters()
    leave_out_converter()
    run()


def command() -> None:
    """Run the command line, and end the process.

    What libraries take down at a process's end is left to the system: taking it down is a sixth of
    what translating a small image takes.
    """
    try:
        main()
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
            with suppress(OSError):  # of which Python tells in its own way
                sys.stdout.flush()
                sys.stderr.flush()
                atexit._run_exitfuncs()
                os._exit(ended.code or 0)
        raise


def run() -> None:
    """Run the command line; an error of the user's is one line on stderr."""
    try:
        try:
            with_one_verb(app, sys.argv[1:])()
        except ModuleNotFoundError as error:
            raise missing_extra(error) or error from error
    except Sat2mapError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:  # the disk or a file under our hands; what a user did is caught
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}.", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print("error: there is not enough memory for this. Use smaller images.", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from sat2map import __version__

        print(__version__)
        raise typer.Exit


def doctor(as_json: AsJson = False) -> None:
    """Check the installation, and say what is wrong.

    It translates a drawn town; paste what it prints into an issue.
    """
    from sat2map.cli.doctor import diagnose

    found = diagnose()
    print(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
    if any(check.fault is not None for check in found.checks):
        raise typer.Exit(1)


def demo(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to write.")] = Path(
        "demo"
    ),
    model: ModelChoice = "streets",
    quiet: Quiet = False,
) -> None:
    """Draw a town, map it, and make a page to look at.

    All of it is in DIR; the page compares the map with the true one.
    """
    from sat2map.cli.demo import run_demo

    run_demo(directory, model=model, quiet=quiet)


# In this order `--help` lists them: maps first, then models, then the machine.
app.command()(demo)
app.command()(translate)
app.command()(cli_vectors.vectors)
app.command()(cli_vectors.report)
app.command()(cli_model.info)
# Settings may stand in the environment as well, such as SAT2MAP_SERVE_TOKEN.
app.command(context_settings={"auto_envvar_prefix": "SAT2MAP_SERVE"})(serve)
app.command()(batch)
app.command()(verify)
app.command()(train)
app.command()(evaluate)
app.command()(compare)
app.command("evaluate-vectors")(evaluate_vectors)
app.command()(cli_model.export)
app.command("import")(cli_model.import_)
app.command()(doctor)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
