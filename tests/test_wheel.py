"""The wheel as it is built and installed, not as the source tree happens to lie."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path

import morecantile
import pytest
from PIL import Image

LARGEST = 25_000_000
"""Bytes of a wheel: the models that ship are most of it."""

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sat2map"


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    junk = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=junk)
    shutil.copytree(ROOT / "tests", source / "tests", ignore=junk)
    run(
        *(sys.executable, "-m", "build", "--sdist", "--wheel", "--no-isolation"),
        *("--outdir", folder, source),
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with the installed wheel, without its dependencies."""
    target = wheel.parent / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--target", target, wheel, cwd=wheel.parent)
    return target


def test_it_holds_all_that_the_package_has_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    mine = {name for name in names if name.startswith("sat2map/")}
    there = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert mine == there
    assert {
        "sat2map/py.typed",
        "sat2map/recipes/pix2pix.toml",
        "sat2map/cli/demo.html.jinja",
        "sat2map/evaluation/report.html.jinja",
    } <= mine
    others = {name.partition("/")[0] for name in names - mine}
    assert len(others) == 1 and next(iter(others)).endswith(".dist-info")
    assert any(name.endswith("LICENSE") for name in names)


def test_what_is_published_is_small_and_can_be_uploaded(wheel: Path) -> None:
    (source,) = wheel.parent.glob("*.tar.gz")
    for built in (wheel, source):
        assert built.stat().st_size < LARGEST, built.name
    with tarfile.open(source) as archive:
        data = [name for name in archive.getnames() if re.search(r"/tests/.*(?<!\.py)$", name)]
    assert not [name for name in data if Path(name).suffix]
    checked = run(sys.executable, "-m", "twine", "check", "--strict", wheel, source, cwd=ROOT)
    assert checked.count("PASSED") == 2


def test_it_runs_as_installed(installed: Path, tmp_path: Path) -> None:
    first = {"PYTHONPATH": str(installed)}
    helped = run(sys.executable, "-m", "sat2map", "--help", cwd=tmp_path, **first)
    assert "translate" in helped
    code = """
from pathlib import Path
import sat2map
from sat2map.recipe import load_recipe, shipped_recipes
print(Path(sat2map.__file__).resolve())
print(load_recipe("pix2pix").objective.l1_weight, len(shipped_recipes()))
"""
    where, values = run(sys.executable, "-c", code, cwd=tmp_path, **first).splitlines()
    assert Path(where).is_relative_to(installed.resolve())
    assert values == f"100.0 {len(list((PACKAGE / 'recipes').glob('*.toml')))}"


@pytest.fixture(scope="module")
def apart(wheel: Path) -> Path:
    """The folder of programs of a new environment, with the wheel and without torch."""
    folder = wheel.parent / "environment"
    run(sys.executable, "-m", "venv", folder, cwd=wheel.parent)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    done = subprocess.run(
        [
            *(
                programs / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ),
            *("--constraint", ROOT / "constraints.txt", f"{wheel}[vectors,serve,batch]"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "after connection broken by" in done.stdout + done.stderr and done.returncode:
        pytest.skip("pip reaches no index of packages")
    assert done.returncode == 0, done.stdout + done.stderr
    return programs


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


@pytest.mark.slow
def test_a_new_environment_without_torch(
    apart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"PYTHONPATH": "", "SAT2MAP_CACHE": str(tmp_path / "cache")}
    sat2map = apart / "sat2map"
    told = json.loads(run(sat2map, "doctor", "--json", cwd=tmp_path, **first))
    assert told["packages"]["torch"] is None and told["packages"]["geopandas"]
    assert "matplotlib" not in told["packages"]  # the documentation alone draws with it
    assert not [check for check in told["checks"] if check["fault"]]

    run(sat2map, "data", "synthetic", "town", "--scene", 300, "-q", cwd=tmp_path, **first)
    run(sat2map, "translate", "town/scene.tif", "map.tif", "-q", cwd=tmp_path, **first)
    run(sat2map, "vectors", "town/scene.tif", "town.gpkg", "-q", cwd=tmp_path, **first)
    (tmp_path / "scenes").mkdir()
    shutil.copy(tmp_path / "town" / "scene.tif", tmp_path / "scenes")
    run(sat2map, "batch", "scenes", "maps", "--classes", "-q", cwd=tmp_path, **first)
    for made in ("map.tif", "town.gpkg", "maps/scene.tif"):
        assert (tmp_path / made).stat().st_size > 10_000, made

    command = [str(sat2map), "serve", "town/scene.tif", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | first, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            tiles = json.loads(fetched(f"{address}scenes/scene/map/tilejson.json"))
            west, south, east, north = tiles["bounds"]
            here = morecantile.tms.get("WebMercatorQuad").tile(
                (west + east) / 2, (south + north) / 2, 16
            )
            tile = fetched(f"{address}scenes/scene/map/{here.z}/{here.x}/{here.y}.png")
        finally:
            server.kill()
    with Image.open(io.BytesIO(tile)) as image:
        assert len(image.convert("RGB").getcolors(1 << 16) or ()) > 3

    refused = subprocess.run(
        [str(sat2map), "train", "--recipe", "demo", "--data", "town", "--out", "run"],
        cwd=tmp_path,
        env=os.environ | first,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2 and refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert line.endswith("pip install 'sat2map[train]'.")
    with capsys.disabled():
        print(f"\nwithout torch, with vectors, serve and batch: {megabytes(apart.parent):.0f} MB")


def fetched(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=60) as answer:
        content: bytes = answer.read()
    return content


@pytest.mark.slow
def test_it_draws_trains_and_reports_as_installed(installed: Path, tmp_path: Path) -> None:
    first = {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    sat2map = (sys.executable, "-m", "sat2map")
    settings = ["data.size=32", "data.resize=36", "training.max_steps=2", "statistics.pictures=1"]
    settings += ["generator.base_channels=2", "discriminator.base_channels=2"]
    run(*sat2map, "data", "synthetic", "towns", "--pairs", 2, "--size", 40, cwd=tmp_path, **first)
    run(
        *(*sat2map, "train", "--recipe", "pix2pix", "--data", "towns", "--out", "run"),
        *(word for setting in settings for word in ("--set", setting)),
        cwd=tmp_path,
        **first,
    )
    run(
        *(*sat2map, "evaluate", "run/model", "--data", "towns", "--size", "native"),
        *("--report", "report"),
        cwd=tmp_path,
        **first,
    )
    assert "<html" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
