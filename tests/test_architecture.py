"""The house keeps its shape: imports point in one direction."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = sorted((SOURCE / "sat2map").rglob("*.py"))

LAYERS = (
    {"errors"},
    {"whole"},
    {"journal", "legend", "recipe", "objectives", "progress", "signals"},
    {"networks", "translation.tiling", "card"},
    {"model", "data"},
    {"translation", "calibration"},
    {"foreign"},
    {"evaluation", "raster"},
    {"training", "cartography", "export"},
    {"demo"},
    {"cli_options", "cli_noise"},
    {"cli_data", "cli_model"},
    {"cli"},
    {"__main__"},
)
"""The rooms from the ground up. A room imports rooms below it, or itself."""

ALONE = {"networks", "translation.tiling", "errors"}
"""Rooms that import nothing of the others."""


def module(path: Path) -> str:
    """Return a module's dotted name below sat2map, "" for the package itself."""
    parts = path.relative_to(SOURCE / "sat2map").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in FILES}


def imported(path: Path) -> set[str]:
    """Return the modules of ours that a file imports anywhere, even within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            # What is imported from a package may be a module of it.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first != "sat2map":
                continue
            while rest not in MODULES:
                rest = rest.rpartition(".")[0]
            found.add(rest)
    return found


def room(name: str) -> str:
    """Return the room of a module: the longest name of the layers that fits."""
    rooms = {r for layer in LAYERS for r in layer if name == r or name.startswith(f"{r}.")}
    assert rooms, f"{name} stands in no room: give it a place in LAYERS"
    return max(rooms, key=len)


def height(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if room(name) in layer)


INNER = [path for path in FILES if module(path) != ""]


@pytest.mark.parametrize("path", INNER, ids=module)
def test_imports_point_downwards(path: Path) -> None:
    name = module(path)
    for other in imported(path) - {""}:  # the package itself: its version, and nothing heavy
        if room(other) == room(name):
            continue
        assert room(name) not in ALONE, f"{name} stands alone, but imports {other}"
        assert height(other) < height(name), f"{name} imports {other}, which is not below it"


def test_the_public_face_imports_nothing_when_it_is_imported() -> None:
    tree = ast.parse((SOURCE / "sat2map" / "__init__.py").read_text(encoding="utf-8"))
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names == {"__future__", "importlib", "typing"}


def test_there_are_no_circles() -> None:
    edges = {module(path): imported(path) - {""} for path in INNER}
    above: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        assert name not in above, " imports ".join([*above[above.index(name) :], name])
        if name not in done:
            above.append(name)
            for other in sorted(edges[name]):
                visit(other)
            done.add(above.pop())

    for name in edges:
        visit(name)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import sat2map; sat2map.__version__; dir(sat2map)", {"torch", "numpy", "pydantic"}),
        ("import sat2map.cli", {"torch", "numpy", "pydantic", "PIL", "rasterio"}),
        (
            "import sys; sys.argv = ['sat2map', '--help']\n"
            "from sat2map.cli import main\n"
            "try: main()\n"
            "except SystemExit: pass",
            {"torch", "numpy", "pydantic", "PIL", "rasterio"},
        ),
        ("from sat2map.recipe import load_recipe; load_recipe('pix2pix')", {"torch", "numpy"}),
        ("import sat2map.translation.tiling", {"torch"}),
        ("import sat2map.raster.batch, sat2map.evaluation.evaluate", {"torch"}),
    ],
    ids=["package", "command line", "help", "recipe", "tiling", "translation"],
)
def test_what_is_not_needed_is_not_imported(code: str, forbidden: set[str]) -> None:
    code += "\nimport sys; print('MODULES', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.rpartition("MODULES ")[2].split())
    assert "sat2map" in loaded
    assert loaded & forbidden == set()
