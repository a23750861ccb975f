"""What every format says of its making, whatever verb has written it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import sat2map
from fixtures.scenes import MakeScene, smooth, with_classes
from sat2map.provenance import Provenance, fingerprint_files
from sat2map.raster.named import named
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.provenance_reader import read_provenance
from sat2map.translation.class_files import ClassFiles
from sat2map.translation.folder import translate_path
from sat2map.translation.provenance import runtime_of
from sat2map.translation.scene import translate_raster
from sat2map.vectors.join import join_vectors
from sat2map.vectors.photo import vectorise_photo
from sat2map.vectors.vectorise import VectorOptions, vectorise

WHOM, LICENCE = "© Survey of 東京", "CC-BY-4.0"
TOLD = SceneOptions(attribution=WHOM, licence=LICENCE)
MODEL = with_classes((0.5, 2.0))


def check(path: Path, layer: str, source: Path) -> Provenance:
    """Check that a file says all that there is to be said, and return it."""
    made = read_provenance(path)
    assert made is not None, path
    assert made.layer == layer
    assert made.version == sat2map.__version__
    assert (made.attribution, made.licence) == (WHOM, LICENCE)
    of_photo = made
    while of_photo.made_from is not None:
        of_photo = of_photo.made_from
    assert of_photo.source.name == source.name
    assert of_photo.source.fingerprint
    assert of_photo.model is not None
    assert (of_photo.model.name, of_photo.model.fingerprint) == (MODEL.name, MODEL.identity)
    assert of_photo.runtime is not None
    assert of_photo.runtime in runtime_of(MODEL)
    assert of_photo.precision == MODEL.precision
    assert made.settings
    return made


@pytest.mark.parametrize(
    "name",
    ["map.tif", "map.png", "map.jpg", "map.pmtiles", "map.mbtiles", "tiles/{z}/{x}/{y}.png"],
)
def test_every_format_of_a_scene(make_scene: MakeScene, tmp_path: Path, name: str) -> None:
    source = make_scene(smooth(120, 150))
    files = ClassFiles(tmp_path / "c.tif", tmp_path / "sure.tif")
    translate_raster(source, tmp_path / name, MODEL, TOLD, classes=files)
    check(named(tmp_path / name).path, "image", source)
    check(tmp_path / "c.tif", "cover", source)
    check(tmp_path / "sure.tif", "cover_confidence", source)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_every_format_of_an_image(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "photo.png"
    Image.fromarray(smooth(40, 50)).save(source)
    target = tmp_path / f"map{suffix}"
    options = SceneOptions(compare=True, attribution=WHOM, licence=LICENCE)
    translate_path(MODEL, source, target, options)
    made = check(target, "image", source)
    assert made.source.fingerprint == fingerprint_files([source])
    check(tmp_path / f"map.compare{suffix}", "compare", source)
    with Image.open(target) as image:
        assert image.size == (50, 40)


def test_the_map_of_an_image_says_what_decides_about_it(tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    Image.fromarray(smooth(40, 50)).save(source)
    options = SceneOptions(Reading(pixel_size=0.8), legend_colours=True)
    translate_path(MODEL, source, tmp_path / "map.png", options)
    made = read_provenance(tmp_path / "map.png")
    assert made is not None
    assert made.layer == "classes"
    assert made.settings["pixel_size"] == 0.8


def of_classes(source: Path, target: Path, options: VectorOptions) -> None:
    classes = target.with_name("classes.tif")
    translate_raster(source, target.with_name("map.tif"), MODEL, TOLD, classes=ClassFiles(classes))
    vectorise(classes, target, options=options)


def of_photo(source: Path, target: Path, options: VectorOptions) -> None:
    told = VectorOptions(layer=options.layer, attribution=WHOM, licence=LICENCE)
    vectorise_photo(source, target, MODEL, options=told)


@pytest.mark.parametrize("write", [of_classes, of_photo])
@pytest.mark.parametrize("suffix", ["gpkg", "pmtiles", "geojson", "fgb", "parquet"])
def test_every_format_of_vectors(
    make_scene: MakeScene,
    tmp_path: Path,
    suffix: str,
    write: Callable[[Path, Path, VectorOptions], None],
) -> None:
    pytest.importorskip("pyogrio")
    pytest.importorskip("pyarrow")
    source, target = make_scene(smooth(60, 70)), tmp_path / f"v.{suffix}"
    layer = None if suffix in ("gpkg", "pmtiles") else "coverage"
    write(source, target, VectorOptions(layer=layer))
    check(target, "vectors", source)


def test_joined_vectors_say_what_all_of_them_say(make_scene: MakeScene, tmp_path: Path) -> None:
    pytest.importorskip("pyogrio")
    pytest.importorskip("pyarrow")
    source = make_scene(smooth(60, 70))
    files = [tmp_path / "a.gpkg", tmp_path / "b.gpkg"]
    for file, whom in zip(files, ("one", "another"), strict=True):
        told = VectorOptions(attribution=whom, licence=LICENCE)
        vectorise_photo(source, file, MODEL, options=told)
    made = read_provenance(join_vectors(files, tmp_path / "both.gpkg"))
    assert made is not None
    assert made.model is not None
    assert made.model.fingerprint == MODEL.identity
    assert (made.runtime, made.precision) == (runtime_of(MODEL), MODEL.precision)
    assert (made.attribution, made.licence) == ("one; another", LICENCE)
