"""The command line is silent about what packages underneath say, in a process of its own only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SAYS = """
import logging, subprocess, sys, warnings
from sat2map.cli import app as cli
cli.run = lambda: None
cli.main()
warnings.warn("a package's", UserWarning)
logging.getLogger("rasterio._env").error("GDAL's line")
logging.getLogger("sat2map.raster").warning("our notice")
subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('a worker')"], check=True)
"""


def said(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stderr


def test_openvino_reports_to_nobody_that_it_is_used() -> None:
    code = (
        "import sys; from sat2map.cli import app; app.run = lambda: None; app.main(); "
        "import openvino; assert sys.modules['openvino_telemetry'] is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_only_our_notices_are_seen() -> None:
    assert said() == "our notice\n"


def test_who_asks_python_for_warnings_sees_them() -> None:
    told = said(PYTHONWARNINGS="default")
    assert "a package's" in told
    assert "a worker" in told
    assert "our notice" in told


def test_a_scene_without_a_place_gives_one_line(model_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "photo.tif")
    command = [sys.executable, "-m", "sat2map", "translate", "photo.tif", "map.png"]
    done = subprocess.run(
        [*command, "--model", str(model_folder), "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    (line,) = done.stderr.splitlines()
    assert "no coordinate reference system" in line


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_name_that_stdout_cannot_show_loses_no_work(
    model_folder: Path, tmp_path: Path, encoding: str
) -> None:
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "photo.png")
    command = [sys.executable, "-m", "sat2map", "translate", "photo.png", "\u5730\u56f3.png"]
    done = subprocess.run(
        [*command, "--model", str(model_folder), "--quiet"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert (tmp_path / "\u5730\u56f3.png").is_file()
    shown = "\u5730\u56f3.png" if encoding == "utf-8" else r"\u5730\u56f3.png"
    assert done.stdout.decode(encoding).strip() == shown
    assert not done.stderr
