"""However a scene is stored, the model sees the same, at the same place, and draws the same map.

Forms are drawn from the product of types, photometric interpretations, ways to say what is no
value, ways to say where it lies, orientations, and layouts of the file.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, WktVersion
from rasterio.transform import Affine

from fixtures.scenes import MakeModel
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.scene import Scene
from sat2map.translation.info import scene_facts
from sat2map.translation.scene import translate_raster, translate_scene

HEIGHT, WIDTH = 48, 56
HOLE = np.s_[9:17, 20:33]
UTM = CRS.from_epsg(32633)
PLACES = {
    "north up": Affine(1, 0, 500_000, 0, -1, 5_000_000),
    "south up": Affine(1, 0, 500_000, 0, 1, 5_000_000),
    "rotated": Affine(0.8, 0.6, 500_000, 0.6, -0.8, 5_000_000),
    "west to the right": Affine(-1, 0, 500_000, 0, -1, 5_000_000),
}
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def ground() -> NDArray[np.uint8]:
    """Colours that JPEG keeps, as only their brightness varies; none of them is black or white."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wave = np.sin(rows / 20) * 40 + np.cos(columns / 25) * 40 + 128
    return np.stack([wave + 30, wave, wave - 20], -1).round().astype(np.uint8)


@dataclass(frozen=True)
class Form:
    """One way to store the ground."""

    kind: str
    photometric: str
    empty: str
    place: str
    crs: str
    interleave: str
    tiled: bool
    compress: str

    @property
    def is_lossy(self) -> bool:
        return self.photometric == "ycbcr"


@st.composite
def forms(draw: st.DrawFn) -> Form:
    photometric = draw(
        st.sampled_from(("rgb", "rgb", "rgb", "grey", "miniswhite", "palette", "ycbcr", "cmyk"))
    )
    only_bytes = photometric in ("palette", "ycbcr", "cmyk", "miniswhite")
    kind = "uint8" if only_bytes else draw(st.sampled_from(TYPES))
    empty = ["no", "mask"] if photometric != "cmyk" else ["no"]
    if photometric in ("rgb", "grey"):
        empty += ["least", "alpha"] if kind in ("uint8", "uint16") else ["least"]
        empty += ["nan", "inf", "-3.4e38", "1e20"] if kind.startswith("float") else []
    if photometric == "palette":
        empty += ["least"]
    return Form(
        kind=kind,
        photometric=photometric,
        empty=draw(st.sampled_from(empty)),
        place=draw(st.sampled_from(sorted(PLACES))),
        crs=draw(st.sampled_from(("file", "prj", "aux.xml", "points", "qgis", "told"))),
        interleave="pixel" if photometric in ("ycbcr", "cmyk") else draw(
            st.sampled_from(("pixel", "band"))
        ),
        tiled=draw(st.booleans()),
        compress="jpeg" if photometric == "ycbcr" else draw(st.sampled_from(("none", "deflate"))),
    )  # fmt: skip


def encoded(form: Form, colours: NDArray[np.uint8]) -> tuple[NDArray[Any], tuple[float, float]]:
    """Return colours as values of a type, and what 0 and 255 are."""
    kind = np.dtype(form.kind)
    step = 1 if kind.itemsize == 1 else 100
    first = -128 if form.kind == "int8" else 0
    if kind.kind == "f":
        return (colours / 255).astype(kind), (0.0, 1.0)
    return (colours.astype(np.int64) * step + first).astype(kind), (first, 255 * step + first)


def write(folder: Path, form: Form) -> tuple[Path, Reading, NDArray[np.uint8], NDArray[np.bool_]]:
    """Store the ground, and return how it is read, what is to be seen, and where."""
    colours = ground()
    valid = np.ones((HEIGHT, WIDTH), bool)
    if form.empty != "no":
        valid[HOLE] = False
    table: dict[int, tuple[int, ...]] = {}
    if form.photometric in ("grey", "miniswhite"):
        colours = np.repeat(colours[..., :1], 3, 2)
    if form.photometric == "palette":
        numbers = (colours[..., :1] // 16).astype(np.uint8) + 1
        table = {n: (n * 9 % 256, n * 31 % 256, n * 77 % 256) for n in range(18)}
        colours = np.array([table[n] for n in range(18)], np.uint8)[numbers[..., 0]]
    shown = 255 - colours if form.photometric in ("miniswhite", "cmyk") else colours
    values, ends = encoded(form, shown)
    if form.photometric in ("grey", "miniswhite"):
        values = values[..., :1]
    if form.photometric == "palette":
        values = numbers
    if form.photometric == "cmyk":
        values = np.dstack([values, np.zeros((HEIGHT, WIDTH), np.uint8)])
    options: dict[str, Any] = {}
    if form.empty in ("least", "nan", "inf", "-3.4e38", "1e20"):
        least = 0 if form.photometric == "palette" else ends[0]
        hole = {"least": least}.get(form.empty)
        value = float(form.empty) if hole is None else hole
        if form.kind == "float32" and np.isfinite(value):
            value = float(np.float32(value))
        values = values.copy()
        values[HOLE] = value
        if form.empty != "1e20":  # beyond any reflectance, and not called nodata
            options["nodata"] = value
    if form.empty == "alpha":
        top = np.iinfo(values.dtype).max
        alpha = np.where(valid, top, 0).astype(values.dtype)
        values = np.dstack([values, alpha])
        values[~valid] = 0
    transform = PLACES[form.place]
    if form.crs in ("file", "points"):
        options["crs"] = UTM
    if form.crs in ("file", "told"):
        options["transform"] = transform
    if form.crs == "points":
        corners = [(0, 0), (0, WIDTH), (HEIGHT, 0), (HEIGHT, WIDTH)]
        options["gcps"] = [GroundControlPoint(r, c, *(transform @ (c, r))) for r, c in corners]
    names = {"grey": "minisblack"}
    path = folder / "scene.tif"
    with pytest.MonkeyPatch.context() as patch, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        patch.setattr("warnings.warn", lambda *_, **__: None)  # of files without a place
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=HEIGHT,
            width=WIDTH,
            count=values.shape[2],
            dtype=values.dtype,
            photometric=names.get(form.photometric, form.photometric),
            interleave=form.interleave,
            compress=form.compress,
            **({"jpeg_quality": 100} if form.is_lossy else {}),
            **({"tiled": True, "blockxsize": 16, "blockysize": 16} if form.tiled else {}),
            **options,
        ) as file:
            if form.empty == "alpha":
                file.colorinterp = [*file.colorinterp[:-1], ColorInterp.alpha]
            file.write(values.transpose(2, 0, 1))
            if table:
                file.write_colormap(1, table)
            if form.empty == "mask":
                file.write_mask(valid)
    if form.crs == "qgis":
        lines = ["#CRS: EPSG:32633", "mapX,mapY,sourceX,sourceY,enable"]
        for row, column in ((0, 0), (0, WIDTH), (HEIGHT, 0), (HEIGHT, WIDTH)):
            x, y = transform @ (column, row)
            lines.append(f"{x!r},{y!r},{column},{-row},1")
        Path(f"{path}.points").write_text("\n".join(lines))
    if form.crs in ("prj", "aux.xml"):
        a, b, c, d, e, f = tuple(transform)[:6]
        lines = (a, d, b, e, c + (a + b) / 2, f + (d + e) / 2)
        path.with_suffix(".tfw").write_text("".join(f"{value!r}\n" for value in lines))
        wkt = UTM.to_wkt(version=WktVersion.WKT1_ESRI)
        if form.crs == "prj":
            path.with_suffix(".prj").write_text(wkt)
        else:
            text = f"<PAMDataset><SRS>{UTM.to_wkt().replace('<', '')}</SRS></PAMDataset>"
            Path(f"{path}.aux.xml").write_text(text)
    reading = Reading(
        value_range=None if form.kind == "uint8" else ends,
        crs="EPSG:32633" if form.crs == "told" else None,
    )
    return path, reading, colours, valid


def check(form: Form, folder: Path) -> None:
    path, reading, colours, valid = write(folder, form)
    with Scene(path, 3, reading, say=lambda _: None) as scene:
        seen, there = scene.read(0, 0, HEIGHT, WIDTH)
        grid = scene.grid
    assert np.array_equal(there, valid)
    off = np.abs(seen.astype(int) - colours)[valid].max()
    assert off <= (2 if form.is_lossy else 1)
    assert grid.crs is not None
    assert grid.crs.to_epsg() == 32633
    for corner in ((0, 0), (WIDTH, 0), (0, HEIGHT)):
        column, row = ~PLACES[form.place] @ (grid.transform @ corner)
        assert (column, row) == pytest.approx(corner, abs=1e-6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(forms())
def test_what_the_model_sees_does_not_depend_on_the_form(form: Form) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(form, Path(folder))


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(form=forms())
def test_info_says_of_every_form_what_its_translation_says(
    make_model: MakeModel, form: Form
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, reading, _, _ = write(Path(folder), form)
        told, model = [], make_model((0.9, 1.1))
        options = SceneOptions(reading)
        translate_scene(path, Path(folder) / "map.tif", model, options, None, None, say=told.append)
        assert scene_facts(path, model, reading)["notices"] == told


@pytest.mark.slow
@settings(max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
@given(forms())
def test_of_many_forms_more_seldom(form: Form) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(form, Path(folder))


@pytest.mark.parametrize(
    "form",
    [
        Form("uint16", "rgb", "least", "rotated", "points", "band", True, "deflate"),
        Form("float32", "rgb", "nan", "south up", "prj", "pixel", False, "none"),
        Form("int8", "rgb", "mask", "north up", "told", "band", False, "deflate"),
        Form("uint8", "cmyk", "no", "west to the right", "aux.xml", "pixel", True, "none"),
    ],
    ids=lambda form: f"{form.kind}-{form.photometric}",
)
def test_equal_ground_gives_an_equal_map(form: Form, make_model: MakeModel, tmp_path: Path) -> None:
    """At half the scene's resolution, so that what is empty must not leak either."""
    plain = Form("uint8", "rgb", "no", form.place, "file", "pixel", False, "none")
    if form.empty != "no":
        plain = Form("uint8", "rgb", "mask", form.place, "file", "pixel", False, "none")
    maps = []
    for number, stored in enumerate((form, plain)):
        folder = tmp_path / str(number)
        folder.mkdir()
        path, reading, _, _ = write(folder, stored)
        made = translate_raster(
            path, folder / "map.tif", make_model((2.0, 2.0)), SceneOptions(reading)
        )
        with rasterio.open(made) as file:
            maps.append((file.read().astype(int), file.dataset_mask(), file.transform, file.crs))
    (one, mask, transform, crs), (other, wanted, right, right_crs) = maps
    assert np.array_equal(mask, wanted)
    assert np.abs(one - other)[:, wanted > 0].max() <= 1
    assert crs == right_crs
    assert transform.almost_equals(right, 1e-6)
