"""The verb that looks at an installation: versions, data of GDAL and PROJ, runtimes, a test."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sat2map.errors import OutputError, Sat2mapError

ENVIRONMENT = ("GDAL_DATA", "PROJ_DATA", "PROJ_LIB", "OMP_NUM_THREADS", "SAT2MAP_CACHE")
"""Variables that change how maps are made; each can be the cause of a fault."""

SIDE = 512
"""Side of the town of the self-test, pixels of 1 m."""

LEAST_ROADS = 0.7
"""The clDice that the self-test asks of the roads of a drawn town; `streets` has .97 there."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: What.
        fault: What is wrong, with the remedy; None where nothing is.
        told: What was found, a line; may be empty.
    """

    name: str
    fault: str | None
    told: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What an installation is and what was tried with it.

    Attributes:
        system: Python, system and processor.
        packages: The version of each package that sat2map can use, None where it is absent.
        environment: Variables of the environment that change how maps are made, as far as set.
        checks: What was tried.
    """

    system: dict[str, str]
    packages: dict[str, str | None]
    environment: dict[str, str]
    checks: list[Check]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it as people read it, to be pasted into an issue."""
        absent = [name for name, version in self.packages.items() if version is None]
        there = [f"{name} {version}" for name, version in self.packages.items() if version]
        shown = [f"{name:16}{value}" for name, value in self.system.items()]
        shown += [f"{name:16}{value}" for name, value in self.environment.items()]
        lacking = f"{', '.join(absent)} (extras alone need them)" if absent else "-"
        shown += [f"{'packages':16}{', '.join(there)}", f"{'not installed':16}{lacking}"]
        for check in self.checks:
            state = "ok" if check.fault is None else "FAULT"
            shown.append(f"{check.name:16}{state}  {check.fault or check.told}".rstrip())
        return shown


def diagnose() -> Diagnosis:
    """Look at this installation; nothing is raised for what is wrong with it."""
    checks = [
        _tried("GDAL", _gdal),
        _tried("PROJ", _proj),
        _tried("runtimes", _runtimes),
        _tried("cache", _cache),
        _tried("self-test", _self_test),
    ]
    system = {
        "sat2map": importlib.metadata.version("sat2map"),
        "Python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
    }
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return Diagnosis(system, _packages(), environment, checks)


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, None, check())
    except Sat2mapError as error:
        return Check(name, str(error))
    except Exception as error:  # whatever a broken installation does, the rest is told, too
        return Check(name, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _packages() -> dict[str, str | None]:
    """Return the version of all that sat2map names, but for what its developers need."""
    found: dict[str, str | None] = {}
    for line in importlib.metadata.requires("sat2map") or ():
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        if re.search(r"extra == .(dev|docs).", line) or name == "sat2map":
            continue
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return dict(sorted(found.items()))


def _processor() -> str:
    """Return the name of the processor and what makes networks fast, as far as it is told."""
    try:
        told = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    named = re.search(r"^model name\s*:\s*(.+)$", told, re.M)
    flags = set(re.findall(r"\b(?:avx2|avx512f|avx512_vnni|avx512_bf16|amx_\w+)\b", told))
    return " ".join([named[1] if named else platform.machine(), *sorted(flags)])


def _gdal() -> str:
    """Return GDAL's version, once a COG and a JPEG can be written with it."""
    import rasterio
    from rasterio.env import GDALDataFinder

    with rasterio.Env() as env:
        drivers = env.drivers()
    missing = [name for name in ("GTiff", "COG", "VRT", "PNG", "JPEG") if name not in drivers]
    if missing:
        raise RuntimeError(
            f"rasterio's GDAL lacks {', '.join(missing)}. Install rasterio's wheel of PyPI"
        )
    data = os.environ.get("GDAL_DATA") or GDALDataFinder().search()
    return f"{rasterio.__gdal_version__}, {len(drivers)} drivers, data {data}"


def _proj() -> str:
    """Return PROJ's version, once a place in feet of New York is one in degrees."""
    import pyproj
    from pyproj.datadir import get_data_dir
    from rasterio.warp import transform

    lon, lat = pyproj.Transformer.from_crs(2263, 4326, always_xy=True).transform(984250, 196850)
    xs, ys = transform("EPSG:2263", "EPSG:4326", [984250], [196850])  # it has a PROJ of its own
    if max(abs(lon - xs[0]), abs(lat - ys[0]), abs(lat - 40.707)) > 1e-3:
        raise RuntimeError(
            f"EPSG:2263 is projected to {xs[0]:g}, {ys[0]:g} and {lon:g}, {lat:g}. Unset PROJ_LIB "
            "and PROJ_DATA, or install rasterio and pyproj anew"
        )
    return f"{pyproj.proj_version_str}, data {get_data_dir()}"


def _runtimes() -> str:
    """Return which runtimes are there, and in what the shipped model is run."""
    from sat2map.model.card import model_folder
    from sat2map.runtimes.open import told_precision
    from sat2map.runtimes.openvino import has_bf16

    names = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "torch": "torch"}
    there = [shown for name, shown in names.items() if importlib.util.find_spec(name) is not None]
    precision, why = told_precision(model_folder("streets"))
    bf16 = "bf16 in hardware" if has_bf16() else "no bf16 in hardware"
    return f"{', '.join(there)}; {bf16}; streets in {precision}: {why}"


def _cache() -> str:
    """Return where the cache is, once something can be written there."""
    from sat2map.user_cache import cache_entries, cache_folder, writable_folder

    folder = cache_folder()
    if writable_folder("compiled") is None:
        raise OutputError(
            "cannot be written, so models are compiled at every start",
            where=folder,
            remedy="Name another folder in the variable SAT2MAP_CACHE.",
        )
    return f"{folder}, {sum(entry.size for entry in cache_entries()) / 2**20:.0f} MiB"


def _self_test() -> str:
    """Return how well the roads of a drawn town are found, from file to file."""
    import numpy as np
    import rasterio

    from sat2map.evaluation.masks import TOLERANCE_M, road_metrics
    from sat2map.legend import COVER
    from sat2map.towns.write import write_scene
    from sat2map.translation.classes import translate_classes

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sat2map-") as folder:
        scene = write_scene(Path(folder, "town"), SIDE, seed=7)
        translate_classes(scene.photo, Path(folder, "classes.tif"), "streets")
        with rasterio.open(Path(folder, "classes.tif")) as map_, rasterio.open(scene.cover) as true:
            found, right = COVER.roads[map_.read(1)], COVER.roads[true.read(1)]
            metres = map_.transform.a
            same = (map_.crs, map_.transform) == (true.crs, true.transform)
    if not same:
        raise RuntimeError("the map of a town does not lie where its photo lies")
    known = np.ones_like(right)
    cldice = road_metrics(found, right, known, TOLERANCE_M / metres)["road_cldice"]
    if not cldice >= LEAST_ROADS:
        raise RuntimeError(f"the roads of a drawn town are not found (clDice {cldice:.2f})")
    return f"roads of a drawn town: clDice {cldice:.2f}, {time.perf_counter() - begun:.1f} s"
