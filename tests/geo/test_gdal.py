"""PROJ and GDAL use their own data, whatever the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rasterio.errors import CRSError

from sat2map.errors import DataError
from sat2map.geo.gdal import check_proj

PROGRAM = """
from rasterio.transform import from_origin
import rasterio
from rasterio.crs import CRS
from sat2map.geo.grid import Grid, ground_resolution
with rasterio.Env():
    pass
print(*ground_resolution(Grid(4, 4, from_origin(500000, 5000000, 1, 1), CRS.from_epsg(32633))))
"""


@pytest.mark.parametrize("names", [("PROJ_LIB",), ("PROJ_DATA", "GDAL_DATA")])
def test_data_of_another_program_in_the_environment(names: tuple[str, ...], tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | dict.fromkeys(names, str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    across, down = map(float, told.stdout.split())
    assert across == pytest.approx(1, abs=1e-3)
    assert down == pytest.approx(1, abs=1e-3)
    assert not told.stderr


def test_proj_without_data_is_no_fault_of_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise CRSError("no database context specified")

    monkeypatch.setattr("rasterio.warp.transform", fail)
    monkeypatch.setenv("PROJ_LIB", "/opt/other/proj")
    with pytest.raises(DataError, match=r"^PROJ_LIB: .* unset it\.$"):
        check_proj()
