"""Where a scene lies, in every form in which files say so."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, WktVersion
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from fixtures.scenes import UTM, MakeModel, MakeScene, noise, smooth
from sat2map.errors import UsageError
from sat2map.geo.grid import ground_resolution
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.scene import Scene
from sat2map.raster.sources import open_source
from sat2map.translation.folder import translate_path
from sat2map.translation.scene import translate_raster

PLACE = Affine(0.5, 0.1, 500_000, 0.1, -0.5, 5_000_000)


def points(place: Affine, side: int, bend: float = 0.0) -> list[GroundControlPoint]:
    found = []
    for row in np.linspace(0, side, 5):
        for column in np.linspace(0, side, 5):
            x, y = place @ (column, row)
            found.append(GroundControlPoint(row, column, x + bend * (row / side) ** 2, y))
    return found


def test_ground_control_points_on_a_straight_grid_are_its_transform(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = noise(100, 100)
    path = make_scene(pixels, georeference={"crs": UTM["crs"], "gcps": points(PLACE, 100)})
    with Scene(path, 3) as scene:
        assert scene.grid.crs == CRS.from_epsg(32633)
        assert scene.grid.transform.almost_equals(PLACE, 1e-6)
        assert np.array_equal(scene.read(0, 0, 100, 100)[0], pixels)
    translate_raster(path, tmp_path / "map.tif", make_model((0.4, 0.6)))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs == CRS.from_epsg(32633)
        assert file.transform.almost_equals(PLACE, 1e-6)
    assert not caplog.messages


def test_ground_control_points_on_no_straight_grid_are_warped(make_scene: MakeScene) -> None:
    """A pixel comes out where its point says that it lies."""
    place = Affine(1, 0, 500_000, 0, -1, 5_000_000)
    pixels = smooth(100, 100)
    bent = points(place, 100, bend=20.0)
    path = make_scene(pixels, georeference={"crs": UTM["crs"], "gcps": bent})
    said: list[str] = []
    with Scene(path, 3, Reading(warp=True), say=said.append) as scene:
        assert "25 ground control points lie up to" in said[0]
        shown, valid = scene.read(0, 0, scene.grid.height, scene.grid.width)
        again = scene.opened_again()
        assert np.array_equal(again.read(0, 0, 9, 9)[0], shown[:9, :9])
        again.dataset.close()
        for row, column in ((10, 10), (50, 30), (80, 60)):
            x = 500_000 + column + 20 * (row / 100) ** 2
            across, down = ~scene.grid.transform @ (x, 5_000_000 - row)
            found = shown[round(down), round(across)]
            assert valid[round(down), round(across)]
            assert np.abs(found.astype(int) - pixels[row, column]).max() < 20
    assert not valid.all()
    assert len(said) == 1


def test_a_map_keeps_ground_control_points_unless_it_is_warped(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bent = points(Affine(1, 0, 500_000, 0, -1, 5_000_000), 100, bend=20.0)
    path = make_scene(noise(100, 100), georeference={"crs": UTM["crs"], "gcps": bent})
    translate_raster(path, tmp_path / "map.tif", make_model())
    assert "the map keeps them" in caplog.text
    assert "`warp=True`" in caplog.text
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(path) as scene:
        assert np.array_equal(file.read(), scene.read())
        kept, crs = file.gcps
        assert crs == CRS.from_epsg(32633)
        told = [[(p.row, p.col, p.x, p.y) for p in found] for found in (kept, scene.gcps[0])]
        assert np.allclose(*told, rtol=0, atol=1e-6)
    coarse = SceneOptions(resolution=2.0)
    translate_raster(path, tmp_path / "coarse.tif", make_model(), coarse)
    with rasterio.open(tmp_path / "coarse.tif") as file:
        last = file.gcps[0][-1]
        assert (last.row, last.col) == pytest.approx((file.height, file.width))
        assert (last.x, last.y) == pytest.approx((500_120, 4_999_900))
    caplog.clear()
    for name in ("map.png", "tiles/{z}/{x}/{y}.png"):
        translate_raster(path, tmp_path / name, make_model())
        assert "it is warped to one" in caplog.text
        caplog.clear()


def test_what_is_warped_is_stored_as_before(make_scene: MakeScene) -> None:
    bent = points(Affine(1, 0, 500_000, 0, -1, 5_000_000), 100, bend=20.0)
    place = {"crs": UTM["crs"], "gcps": bent}
    grey = smooth(100, 100, 1)
    plain = make_scene(grey, "plain.tif", georeference=place, colours=[ColorInterp.gray])
    other = make_scene(
        255 - grey, georeference=place, colours=[ColorInterp.gray], photometric="miniswhite"
    )
    reading = Reading(warp=True)
    with Scene(plain, 3, reading) as right, Scene(other, 3, reading) as scene:
        height, width = right.grid.height, right.grid.width
        (a, valid), (b, _) = (s.read(0, 0, height, width) for s in (right, scene))
        assert np.array_equal(a[valid], b[valid])


@pytest.mark.parametrize("few", [points(PLACE, 100)[:2], points(PLACE, 100)[:5]])
def test_points_that_span_no_plane_are_no_georeference(
    make_scene: MakeScene, few: list[GroundControlPoint]
) -> None:
    path = make_scene(noise(20, 20), georeference={"crs": UTM["crs"], "gcps": few})
    with Scene(path, 3) as scene:
        assert not scene.grid.georeferenced


@pytest.mark.parametrize("name", ["scene.prj", "scene.PRJ", "scene.tif.xml", "scene.xml"])
def test_the_coordinate_reference_system_stands_beside_the_scene(
    make_scene: MakeScene, name: str
) -> None:
    path = make_scene(noise(20, 20), georeference={"transform": UTM["transform"]})
    wkt = CRS.from_epsg(32633).to_wkt(version=WktVersion.WKT1_ESRI)
    told = f"<metadata><peXml>{html.escape(f'<C><WKT>{wkt}</WKT></C>')}</peXml></metadata>"
    (path.parent / name).write_text(wkt if name.lower().endswith("prj") else told)
    with Scene(path, 3) as scene:
        assert scene.grid.crs is not None
        assert scene.grid.crs.to_epsg() == 32633
        assert ground_resolution(scene.grid) == pytest.approx((1, 1), rel=1e-3)


def test_something_else_beside_the_scene_says_nothing(make_scene: MakeScene) -> None:
    path = make_scene(noise(20, 20), georeference={"transform": UTM["transform"]})
    path.with_suffix(".prj").write_bytes(b"PROJCS[\xff not closed")
    Path(f"{path}.xml").write_text("<metadata>PROJCS[nonsense]</metadata>")
    said: list[str] = []
    with Scene(path, 3, say=said.append) as scene:
        assert scene.grid.crs is None


def test_the_coordinate_reference_system_is_told(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = {"transform": UTM["transform"]}
    path = make_scene(noise(60, 60), georeference=place)
    translate_raster(path, tmp_path / "none.tif", make_model())
    assert "give `crs=EPSG:CODE`" in caplog.text
    caplog.clear()
    with Scene(path, 3, Reading(crs="EPSG:32633")) as scene:
        assert scene.grid.crs == CRS.from_epsg(32633)
        corner = transform_geom(scene.grid.crs, "EPSG:4326", {"type": "Point", "coordinates": (
            500_030, 4_999_970)})["coordinates"]  # fmt: skip
    box = (corner[0] - 1e-4, corner[1] - 1e-4, corner[0] + 1e-4, corner[1] + 1e-4)
    with Scene(path, 3, Reading(crs="EPSG:32633", bbox=box)) as part:
        assert part.grid.height < 60
    with pytest.raises(UsageError, match="`crs`: 'EPSG:nothing' is not"):
        Scene(path, 3, Reading(crs="EPSG:nothing"))


def test_a_world_file_that_says_nothing_is_noticed(make_scene: MakeScene) -> None:
    path = make_scene(noise(20, 20), georeference={})
    path.with_suffix(".tfw").write_text("1 metre\nno rotation\n")
    said: list[str] = []
    with Scene(path, 3, say=said.append) as scene:
        assert not scene.grid.georeferenced
    assert any("scene.tfw does not say where it lies" in line for line in said)


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("a.webp", "a.wpw"),
        ("a.webp", "a.webpw"),
        ("a.webp", "a.WLD"),
        ("a.jpeg", "a.jpgw"),
        ("a.jpg", "a.jpegw"),
        ("a.tiff", "a.tifw"),
        ("a.png", "a.pgw"),
        ("a.jpg", "a.wld"),
    ],
)
def test_world_files_of_any_spelling_place_an_image(
    make_model: MakeModel, tmp_path: Path, name: str, world: str
) -> None:
    Image.fromarray(smooth(40, 50)).save(tmp_path / name)
    (tmp_path / world).write_text("0.5\n0\n0\n-0.5\n500000.25\n4999999.75\n")
    (tmp_path / "a.prj").write_text(CRS.from_epsg(32633).to_wkt(version=WktVersion.WKT1_ESRI))
    source = open_source(tmp_path / name)
    assert source.kind == "scene"
    made = translate_raster(source, tmp_path / "map.tif", make_model((0.4, 0.6)))
    with rasterio.open(made) as file:
        assert file.transform.almost_equals(Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000))
        assert file.crs.to_epsg() == 32633


@pytest.mark.parametrize("text", ["", "1,0\n0\n", "1\n0\n0\n0\n5\n5\n", "a\nb\nc\nd\ne\nf\n"])
def test_a_broken_world_file_is_said_and_harmless(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    Image.fromarray(smooth(40, 50)).save(tmp_path / "a.webp", lossless=True)
    (tmp_path / "a.wpw").write_text(text)
    translate_path(make_model(), tmp_path / "a.webp", tmp_path / "map.png")
    assert "a.wpw beside it does not place it" in caplog.text


@pytest.mark.parametrize("columns", ["sourceX,sourceY", "pixelX,pixelY"])
@pytest.mark.parametrize("name", ["scene.tif", "scan 1.png"])
def test_the_points_of_qgis_beside_an_image_place_it(
    make_model: MakeModel, tmp_path: Path, columns: str, name: str
) -> None:
    Image.fromarray(smooth(40, 50)).save(tmp_path / name)
    lines = [
        "500000,5000000,0,0,1,0,0,0",
        "500025,5000000,50,0,1,0,0,0",
        "500000,4999980,0,-40,1,0,0,0",
        "512345,4999980,25,-20,0,0,0,0",  # disabled
    ]
    (tmp_path / f"{name}.points").write_text(
        f"#CRS: EPSG:32633\nmapX,mapY,{columns},enable,dX,dY,residual\n" + "\n".join(lines) + "\n"
    )
    source = open_source(tmp_path / name)
    assert source.kind == "scene"
    assert {file.name for file in source.files} == {name, f"{name}.points"}
    made = translate_raster(source, tmp_path / "map.tif", make_model((0.4, 0.6)))
    with rasterio.open(made) as file:
        assert file.transform.almost_equals(Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), 1e-6)
        assert file.crs.to_epsg() == 32633
        assert np.abs(file.read().transpose(1, 2, 0).astype(int) - smooth(40, 50)).max() <= 1


@pytest.mark.parametrize("text", ["", "mapX,mapY\n1,2\n", "a,b,c\n", "#CRS: x\n\0\n"])
def test_a_file_of_points_that_holds_none_changes_nothing(tmp_path: Path, text: str) -> None:
    Image.fromarray(smooth(40, 50)).save(tmp_path / "a.png")
    (tmp_path / "a.png.points").write_text(text)
    assert open_source(tmp_path / "a.png").kind == "image"


def test_points_of_qgis_on_no_straight_grid_are_warped(tmp_path: Path) -> None:
    Image.fromarray(smooth(100, 100)).save(tmp_path / "a.tif")
    bent = points(Affine(1, 0, 500_000, 0, -1, 5_000_000), 100, bend=20.0)
    lines = [f"{p.x:.9f},{p.y:.9f},{p.col:.9f},{-p.row:.9f},1" for p in bent]
    told = "\n".join(["#CRS: EPSG:32633", "mapX,mapY,sourceX,sourceY,enable", *lines])
    (tmp_path / "a.tif.points").write_text(told)
    said: list[str] = []
    with Scene(tmp_path / "a.tif", 3, Reading(warp=True), say=said.append) as scene:
        shown, valid = scene.read(0, 0, scene.grid.height, scene.grid.width)
        x = 500_000 + 30 + 20 * 0.25
        across, down = ~scene.grid.transform @ (x, 5_000_000 - 50)
        assert valid[round(down), round(across)]
        found = shown[round(down), round(across)].astype(int)
        assert np.abs(found - smooth(100, 100)[50, 30]).max() < 20
    assert "25 ground control points lie up to" in said[0]
