"""Where a raster lies: by an affine transform, by ground control points, by a file beside it."""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine, from_gcps
from rasterio.vrt import WarpedVRT

from sat2map.errors import DataError, UsageError
from sat2map.geo.grid import Grid, Point

STRAIGHT = 1.0
"""Pixels by which ground control points may miss an affine transform."""

SIDECAR_BYTES = 10 * 2**20
"""What is larger beside a raster holds something else than a coordinate reference system."""

PATIENCE = 10
"""Seconds that a server may take for a file beside a raster."""

LEAST_POINTS = 3
"""So many ground control points place a raster."""

_SPELLINGS = ({".jpg", ".jpeg"}, {".tif", ".tiff"})

_WKT = re.compile(r"(?:PROJCS|GEOGCS|PROJCRS|GEOGCRS|GEODCRS|COMPD_CS|COMPOUNDCRS)\[")


def named_crs(text: str) -> CRS:
    """Return the coordinate reference system that is called so.

    Args:
        text: Such as EPSG:32633, or WKT.

    Raises:
        UsageError: PROJ knows none.
    """
    crs = _crs(text)
    if crs is None:
        raise UsageError(
            f"{text!r} is not a coordinate reference system",
            parameter="crs",
            remedy="Give its code, such as EPSG:32633.",
        )
    return crs


def grid_of(dataset: Any, crs: CRS | None = None) -> Grid:
    """Return the grid of all of a raster.

    Its place comes from its transform or, where it has none, from ground control points, which the
    grid keeps where they lie on no straight one, or from a world file that GDAL does not look for;
    its coordinate reference system from it, from the points, or from a file beside it (.prj,
    ESRI's .xml).

    Args:
        dataset: What rasterio opened.
        crs: What is taken in place of what the raster says.
    """
    transform, own = dataset.transform, dataset.crs or None
    kept: tuple[Point, ...] = ()
    if transform == Affine.identity():
        points, of_points = _points(dataset)
        found = _straight(points)
        if found is None:
            transform = _world_file_transform(dataset) or transform
        else:
            transform, own = found[0], own or of_points
            if found[1] > STRAIGHT:
                kept = tuple((point.col, point.row, point.x, point.y) for point in points)
    crs = crs or own
    if crs is None and transform != Affine.identity():
        crs = _sidecar_crs(dataset)
    return Grid(dataset.height, dataset.width, transform, crs, kept)


def stored(dataset: Any) -> Any:
    """Return what tells how values are stored: of a warped raster the one that it is made of."""
    return getattr(dataset, "src_dataset", dataset)


def placed(
    dataset: Any, crs: CRS | None, where: object, say: Callable[[str], object], *, warp: bool = True
) -> Any:
    """Return a raster, warped to a straight grid where its ground control points lie on none.

    Args:
        dataset: What rasterio opened.
        crs: What is taken in place of the points' coordinate reference system.
        where: What messages call it.
        say: Called with a notice where its points lie on no straight grid, or it cannot be placed.
        warp: Whether it is warped at all.
    """
    if getattr(dataset, "transform", None) != Affine.identity():
        return dataset
    points, of_points = _points(dataset)
    crs = crs or of_points
    found = _straight(points)
    if found is None:
        if getattr(dataset, "rpcs", None) is not None:
            say(
                f"{where}: says where it lies by rational polynomial coefficients (RPC) alone, "
                "which need heights. Orthorectify it first, for example with: gdalwarp -rpc "
                "-to RPC_DEM=heights.tif -t_srs EPSG:CODE."
            )
        return dataset
    if found[1] <= STRAIGHT or crs is None:
        return dataset
    beside = (
        f"{where}: its {len(points)} ground control points lie up to {found[1]:.1f} pixels beside "
        "a straight grid"
    )
    if not warp:
        say(f"{beside}; the map keeps them. For a map on a straight grid, give `warp=True`.")
        return dataset
    say(f"{beside}; it is warped to one, and so is the map.")
    palette = dataset.colorinterp[0] == ColorInterp.palette
    if not dataset.gcps[0]:
        if dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") or "?" in dataset.files[0]:
            raise DataError(
                "cannot be warped by the points beside it as it is stored",
                where=str(where),
                remedy="Warp it first, with QGIS's georeferencer or gdalwarp.",
            )
        dataset = _holding(dataset, points, crs)
    return WarpedVRT(
        dataset,
        crs=crs,
        src_crs=crs,
        add_alpha=ColorInterp.alpha not in dataset.colorinterp,
        resampling=Resampling.nearest if palette else Resampling.bilinear,
        SRC_METHOD="GCP_TPS",
    )


def points_file(dataset: Any) -> Path | None:
    """Return the file of ground control points beside a local raster that lies nowhere by itself.

    It is what QGIS's georeferencer writes, NAME.tif.points: a line with the coordinate reference
    system, one that names the columns, and then mapX, mapY, pixelX and pixelY, which is negative.

    Args:
        dataset: What rasterio opened.
    """
    files = [Path(name) for name in getattr(dataset, "files", None) or []]
    own: Any = getattr(dataset, "gcps", ([], None))[0]
    if dataset.transform != Affine.identity() or own or not files or not files[0].is_file():
        return None
    if world_files(files):
        return None
    for name in (f"{files[0].name}.points", f"{files[0].stem}.points"):
        beside = files[0].with_name(name)
        if _is_small(beside) and len(_read_points(_text(beside))) >= LEAST_POINTS:
            return beside
    return None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _holding(dataset: Any, points: list[Any], crs: CRS) -> Any:
    """Return a local raster that holds ground control points which stand in a file beside it."""
    told = "&".join(f"gcp={p.col:.17g},{p.row:.17g},{p.x:.17g},{p.y:.17g}" for p in points)
    return rasterio.open(f"vrt://{dataset.files[0]}?{told}&a_srs={crs.to_string()}")


def _read_points(text: str) -> list[tuple[float, float, float, float]]:
    """Return column, row, x and y of the points of QGIS's georeferencer that are not disabled."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for row in csv.DictReader(lines):
        values = {(name or "").strip(): value for name, value in row.items()}
        column, line = (values.get(f"source{axis}") or values.get(f"pixel{axis}") for axis in "XY")
        try:
            x, y = float(values["mapX"]), float(values["mapY"])
            place = float(column or ""), -float(line or "")
        except (KeyError, ValueError, TypeError):
            continue
        if str(values.get("enable") or "1").strip() != "0" and np.isfinite([*place, x, y]).all():
            found.append((*place, x, y))
    return found


def _crs_of_points(text: str) -> CRS | None:
    told = re.search(r"^#\s*CRS:\s*(\S.*)$", text, re.MULTILINE)
    if told is None:
        return None
    return _crs(told[1].strip())


def world_files(files: Sequence[Path]) -> list[Path]:
    """Return what is called as the world file of the first of some files; it may be broken."""
    if not files or not files[0].is_file():
        return []
    path = files[0]
    suffix = path.suffix.lower()
    endings = {".wld"}
    for known in next((kind for kind in _SPELLINGS if suffix in kind), {suffix}):
        endings |= {f"{known}w", f"{known[:2]}{known[-1:]}w"}
    beside = path.parent.glob(f"{glob.escape(path.stem)}.*")
    return sorted(p for p in beside if p.suffix.lower() in endings and p.is_file())


def _world_file_transform(dataset: Any) -> Affine | None:
    """Return where a world file says that a local raster lies, if there is a whole one."""
    files = [Path(name) for name in getattr(dataset, "files", None) or []]
    for file in world_files(files):
        try:
            told = file.read_text(encoding="utf-8", errors="replace") if _is_small(file) else ""
            a, d, b, e, c, f = map(float, told.split())
        except (OSError, ValueError):
            continue
        # The last two are the centre of the first pixel.
        place = Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
        if np.isfinite(place.determinant) and place.determinant != 0 and np.isfinite([c, f]).all():
            return place
    return None


def _is_small(file: Path) -> bool:
    return file.is_file() and file.stat().st_size <= SIDECAR_BYTES


def _points(dataset: Any) -> tuple[list[Any], CRS | None]:
    """Return ground control points, none where there are none, and what their coordinates mean."""
    points, crs = getattr(dataset, "gcps", ([], None))
    beside = None if points else points_file(dataset)
    if beside is not None:
        told = _text(beside)
        points = [GroundControlPoint(row, column, x, y) for column, row, x, y in _read_points(told)]
        crs = _crs_of_points(told)
    return list(points), crs or None


def _straight(points: list[Any]) -> tuple[Affine, float] | None:
    """Return the affine transform nearest to points, and by how many pixels they miss it.

    None where they are too few.
    """
    if len(points) < LEAST_POINTS:
        return None
    pixels = np.array([(point.col, point.row) for point in points], float)
    if np.linalg.matrix_rank(pixels - pixels.mean(0)) < 2:
        return None
    transform = from_gcps(points)
    if not np.isfinite(transform.determinant) or transform.determinant == 0:
        return None  # on the ground they lie in one line
    ground = np.array([point.x for point in points]), np.array([point.y for point in points])
    columns, rows = ~transform @ ground
    return transform, float(np.hypot(columns - pixels[:, 0], rows - pixels[:, 1]).max())


def _sidecar_crs(dataset: Any) -> CRS | None:
    """Return the coordinate reference system that a local file beside a raster names, if any."""
    files = getattr(dataset, "files", None) or []
    if not files or not Path(files[0]).is_file():
        return None
    path = Path(files[0])
    beside = {file.name.lower(): file for file in path.parent.iterdir()}
    stem, whole = path.stem.lower(), path.name.lower()
    for wanted in (f"{stem}.prj", f"{whole}.prj", f"{stem}.qpj", f"{whole}.xml", f"{stem}.xml"):
        name = beside.get(wanted)
        if name is None or not _is_small(name):
            continue
        found = _crs_in(name.read_text(encoding="utf-8", errors="replace"))
        if found is not None:
            return found
    return None


def crs_beside(address: str) -> CRS | None:
    """Return the coordinate reference system that stands beside a raster at an address, if any.

    Args:
        address: Of the raster, https:// or http://, without a query.
    """
    import urllib.request  # which takes a tenth of what a small image takes, and few need

    stem = address.rpartition(".")[0]
    for name in (f"{stem}.prj", f"{address}.prj", f"{stem}.qpj", f"{address}.xml", f"{stem}.xml"):
        with suppress(OSError, ValueError), urllib.request.urlopen(name, timeout=PATIENCE) as file:
            found = _crs_in(file.read(SIDECAR_BYTES).decode("utf-8", errors="replace"))
            if found is not None:
                return found
    return None


def _crs_in(text: str) -> CRS | None:
    """Return the coordinate reference system that stands in a text as WKT, if one does."""
    import html  # which few scenes need

    text = html.unescape(text)
    begin = _WKT.search(text)
    wkt = None if begin is None else _balanced(text[begin.start() :])
    return None if wkt is None else _crs(wkt)


def _crs(text: str) -> CRS | None:
    """Return a CRS by its code or WKT, of any dialect; None where PROJ knows none.

    GDAL keeps in mind what it could not read, and lets the next call fail for it; pyproj does not.
    """
    import pyproj  # which most files need not wait for
    from pyproj.exceptions import ProjError

    try:
        return CRS.from_wkt(pyproj.CRS.from_user_input(text).to_wkt())
    except ProjError:
        return None


def _balanced(text: str) -> str | None:
    """Return a text up to the bracket that closes its first one."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "]" and depth == 0:
            return text[: place + 1]
    return None
