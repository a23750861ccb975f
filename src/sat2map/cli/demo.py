"""The demo: a town with georeference, its map by the shipped model, and a page to look at."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sat2map.atomic import sweep, write_text
from sat2map.data.images import read_image, write_image
from sat2map.evaluation.score import score_image, summarise
from sat2map.journal import claim
from sat2map.legend import STREETS
from sat2map.progress import Progress
from sat2map.raster.options import SceneOptions
from sat2map.towns import Scene, write_scene
from sat2map.translation.scene import translate_raster
from sat2map.translation.translator import Translator, load

MARK = ".sat2map-demo"
"""By what versions without journals knew their own folder."""

IMAGES = ("scene_photo", "scene_generated", "scene_true_map")
SCENE_SEED = 2027
SCENE_SIDE = 1024
"""Side of the town in pixels of 1 m."""
SHOWN = (
    ("road_cldice", "centre lines of the roads that agree, 1 is all"),
    ("mean_iou", "overlap of the classes, 1 is all"),
    ("edge_f1", "edges that agree within 2 pixels, 1 is all"),
    ("edge_density", "as many edges as the true map: 1; fog: 0"),
    ("ssim", "likeness of the structure, 1 is the same"),
    ("psnr", "likeness of the pixels, in dB"),
)


@dataclass(frozen=True)
class DemoPage:
    """The page of the demo, and the files it shows.

    Attributes:
        index: The page.
        map: The map, a GeoTIFF.
        images: The images of the scene: photo, generated and true map.
    """

    index: Path
    map: Path
    images: tuple[Path, ...]


def run_demo(
    directory: Path,
    *,
    model: str | Path = "streets",
    quiet: bool = False,
) -> DemoPage:
    """Draw a town, translate it with a model, and compare the map with the true one.

    It can be run again without harm.

    Args:
        directory: A new or empty folder, or that of an earlier demo.
        model: A shipped model's name or a model folder.
        quiet: Show no progress.

    Raises:
        UsageError: Another process works in the folder.
        OutputError: The folder holds something else, or something cannot be written.
    """
    with claim(directory, "sat2map demo", {}, earlier=_of_older_versions) as journal:
        translator = load(model)
        sweep(directory)
        journal.start()
        journal.begin("map.tif", "index.html", *(f"{name}.png" for name in IMAGES))
        with Progress("1/2 drawing a town", quiet=quiet, unit="tiles") as progress:
            scene = write_scene(
                directory / "scene", SCENE_SIDE, seed=SCENE_SEED, progress=progress.show
            )
        with Progress("2/2 translating it", quiet=quiet, unit="pixels") as progress:
            generated = directory / "map.tif"
            translate_raster(scene.photo, generated, translator, SceneOptions(), progress.show)
        page = _write_page(directory, translator, scene, generated)
    print(f"Open {page.index}")
    print(f"The map is {page.map}, with the georeference of {scene.photo}.")
    print(f"To try next, live in the browser or in QGIS: sat2map serve {scene.photo}")
    print("Next: sat2map translate YOUR.tif map.tif, and a model of your own: docs/tutorial.md")
    return page


def _of_older_versions(directory: Path) -> dict[str, Any] | None:
    """Return what a version without journals wrote."""
    if not (directory / MARK).is_file():
        return None
    return dict.fromkeys([MARK, "map.tif", "index.html", *(f"{name}.png" for name in IMAGES)])


def _write_page(directory: Path, translator: Translator, scene: Scene, generated: Path) -> DemoPage:
    from jinja2 import Environment, StrictUndefined

    names = dict(zip(IMAGES, (scene.photo, generated, scene.map), strict=True))
    pixels = {name: read_image(tiff).pixels for name, tiff in names.items()}
    images = tuple(directory / f"{name}.png" for name in names)
    for path, image in zip(images, pixels.values(), strict=True):
        write_image(path, image)
    answer, true = pixels["scene_generated"], pixels["scene_true_map"]
    metrics = summarise([score_image("scene", answer, true, true, STREETS)], STREETS).metrics
    template = files("sat2map.cli").joinpath("demo.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(template).render(
        side=answer.shape[0],
        model=translator.name,
        runtime=translator.runtime,
        metrics=[(name, metrics[name].mean, said) for name, said in SHOWN if name in metrics],
        legend=STREETS.classes,
    )
    write_text(directory / "index.html", page)
    return DemoPage(directory / "index.html", generated, images)
