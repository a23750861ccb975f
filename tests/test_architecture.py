"""What is not needed is not imported; that rooms import downwards only, `lint-imports` checks."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import sat2map; sat2map.__version__; dir(sat2map)", {"torch", "numpy", "pydantic"}),
        ("import sat2map.cli.app", {"torch", "numpy", "pydantic", "PIL", "rasterio"}),
        (
            "import sys; sys.argv = ['sat2map', '--help']\n"
            "from sat2map.cli.app import main\n"
            "try: main()\n"
            "except SystemExit: pass",
            {"torch", "numpy", "pydantic", "PIL", "rasterio"},
        ),
        ("from sat2map.recipe import load_recipe; load_recipe('pix2pix')", {"torch", "numpy"}),
        (
            "from sat2map.model.card import model_folder, read_model_card\n"
            "read_model_card(model_folder('streets'))",
            {"torch"},
        ),
        ("import sat2map.geo.windows", {"torch"}),
        ("import sat2map.translation.folder, sat2map.evaluation.evaluate", {"torch"}),
        (
            "import sat2map.translation.folder",  # of which images need no scene
            {"sat2map.raster.scene", "sat2map.raster.strips", "sat2map.translation.scene"},
        ),
    ],
    ids=["package", "command line", "help", "recipe", "card", "tiling", "translation", "image"],
)
def test_what_is_not_needed_is_not_imported(code: str, forbidden: set[str]) -> None:
    code += "\nimport sys; print('MODULES', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.rpartition("MODULES ")[2].split())
    assert "sat2map" in loaded
    assert loaded & forbidden == set()
