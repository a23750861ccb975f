"""What `sat2map doctor` says of an installation that is sound and of one that is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image

from fixtures.scenes import noise
from sat2map.cli.doctor import Diagnosis


def sat2map(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sat2map", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


def faults(told: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["fault"] for check in told["checks"] if check["fault"]}


def test_a_sound_installation() -> None:
    done = sat2map("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert faults(told) == {}
    assert told["packages"]["rasterio"] == rasterio.__version__
    assert told["packages"]["numpy"] == np.__version__
    assert {"GDAL", "PROJ", "runtimes", "cache", "self-test"} == {c["name"] for c in told["checks"]}


def test_data_of_proj_that_is_not_there() -> None:
    done = sat2map("doctor", PROJ_DATA="/nonexistent")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("PROJ  ")]
    assert "FAULT" in line and "proj.db" in line
    assert any(
        line.split()[:2] == ["PROJ_DATA", "/nonexistent"] for line in done.stdout.splitlines()
    )
    assert "self-test" in done.stdout and done.stderr == ""


def test_a_cache_that_cannot_be_written_costs_speed_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "cache")
    done = sat2map("doctor", "--json", SAT2MAP_CACHE=nowhere)
    assert done.returncode == 1
    (name, fault) = faults(json.loads(done.stdout)).popitem()
    assert name == "cache" and nowhere in fault and "SAT2MAP_CACHE" in fault
    Image.fromarray(noise(40, 40)).save(tmp_path / "photo.png")
    done = sat2map("translate", tmp_path / "photo.png", tmp_path / "map.png", SAT2MAP_CACHE=nowhere)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.png").is_file()


def test_what_is_not_installed_is_no_fault() -> None:
    found = Diagnosis({"sat2map": "1.0"}, {"numpy": "2.0", "torch": None}, {}, [])
    assert "not installed   torch (extras alone need them)" in found.lines()
    assert "not installed   -" in Diagnosis({}, {"numpy": "2.0"}, {}, []).lines()
