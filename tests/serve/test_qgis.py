"""QGIS itself loads the layers by their addresses and draws the map's pixels.

It runs in a process of its own, on the system's Python, of whose packages PyQGIS is one
(Debian's `python3-qgis`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.scenes import MakeScene, with_classes
from sat2map.geo.web_mercator import position, tile_grid

from .conftest import Served, Start
from .test_tiles import blocks

PYTHON = "/usr/bin/python3"
SIDE = 64

_DRAW = """
import sys
from qgis.core import (QgsApplication, QgsCoordinateReferenceSystem, QgsMapRendererSequentialJob,
    QgsMapSettings, QgsRasterLayer, QgsRectangle)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

kind, address, target, zoom, left, bottom, right, top = sys.argv[1:]
application = QgsApplication([], False)
application.initQgis()
if kind == "wmts":
    source = ("contextualWMSLegend=0&crs=EPSG:3857&dpiMode=7&format=image/png&layers=classes"
        f"&styles=default&tileMatrixSet=WebMercatorQuad&url={address}/WMTSCapabilities.xml")
else:
    source = f"type=xyz&zmin=0&zmax={zoom}&url={address}/classes/{{z}}/{{x}}/{{y}}.png"
layer = QgsRasterLayer(source, "classes", "wms")
assert layer.isValid(), layer.error().message()
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
settings.setOutputSize(QSize(64, 64))
settings.setBackgroundColor(QColor(0, 0, 0, 0))
settings.setExtent(QgsRectangle(float(left), float(bottom), float(right), float(top)))
job = QgsMapRendererSequentialJob(settings)
job.start()
job.waitForFinished()
assert job.renderedImage().save(target)
print("drawn", flush=True)
import os
os._exit(0)  # Qt may hang at its end without a screen
"""


def has_qgis() -> bool:
    """Return whether the system's Python has PyQGIS."""
    if not Path(PYTHON).is_file():
        return False
    asked = [PYTHON, "-c", "import qgis.core"]
    return subprocess.run(asked, capture_output=True, check=False, env={}).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wmts", "xyz"])
def test_qgis_draws_the_classes(
    make_scene: MakeScene,
    start: Start,
    listen: Callable[[Served], str],
    tmp_path: Path,
    kind: str,
) -> None:
    if not has_qgis():
        pytest.skip("there is no PyQGIS: apt-get install python3-qgis")
    served = start(make_scene(blocks(300, 300)), model=with_classes((0.5, 2.0)), window=256)
    address = f"{listen(served)}/scenes/scene"
    zoom = served.scene().highest("classes")
    # A part of the tile that lies in the scene, since QGIS cuts off what does not and lays the rest
    # anew on its pixels.
    west, south, east, north = served.scene().bounds
    across, down = position((west + east) / 2, (south + north) / 2, zoom)
    x, y = int(across), int(down)
    column, row = (min(max(int(256 * (v % 1)) - SIDE // 2, 0), 256 - SIDE) for v in (across, down))
    grid = tile_grid(zoom, range(x, x + 1), range(y, y + 1), 256)
    left, top = grid.transform @ (column, row)
    right, bottom = grid.transform @ (column + SIDE, row + SIDE)
    target = tmp_path / "drawn.png"
    given = [kind, address, target, zoom, left, bottom, right, top]
    home = {"HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [PYTHON, "-c", _DRAW, *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=home | {"PATH": os.environ["PATH"], "no_proxy": "127.0.0.1"},
    )
    assert done.stdout.strip().endswith("drawn"), done.stdout + done.stderr
    drawn = np.asarray(Image.open(target).convert("RGBA"))
    tile = served.pixels(f"/scenes/scene/classes/{zoom}/{x}/{y}.png")
    expected = tile[row : row + SIDE, column : column + SIDE]
    assert len(np.unique(expected.reshape(-1, 4), axis=0)) > 2
    assert (drawn == expected).all(-1).mean() > 0.98
