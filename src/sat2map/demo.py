"""The demo: towns, training, evaluation and translation in one go, and a page to look at."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sat2map.data.pictures import read_picture, write_picture
from sat2map.data.synthetic import Scene, write_pairs, write_scene
from sat2map.errors import UsageError
from sat2map.evaluation.evaluate import Evaluation, evaluate
from sat2map.evaluation.score import score_picture, summarise
from sat2map.legend import STREETS
from sat2map.progress import Progress
from sat2map.recipe import Recipe, load_recipe
from sat2map.training.loop import train
from sat2map.translation.picture import PictureOptions, translate_picture
from sat2map.translation.translator import Translator, load
from sat2map.whole import write_text

MARK = ".sat2map-demo"
SCENE_SEED = 2027
SHOWN = ("road_cldice", "mean_iou", "edge_f1", "edge_density", "ssim", "psnr")


@dataclass(frozen=True)
class DemoPage:
    """What the demo leaves to look at.

    Attributes:
        index: The page.
        pictures: The pictures of the scene.
        model: The model folder.
    """

    index: Path
    pictures: tuple[Path, ...]
    model: Path


def run_demo(
    directory: Path,
    *,
    pairs: int = 64,
    scene_side: int = 768,
    settings: list[str] | None = None,
    quiet: bool = False,
) -> DemoPage:
    """Make towns, train a small Pix2Pix on them, evaluate it and translate a large scene.

    What an earlier call finished is kept, so that it can be run again without harm.

    Args:
        directory: A new or empty folder, or that of an earlier demo.
        pairs: How many training pairs.
        scene_side: Side of the scene in pixels, larger than what the model is trained on.
        settings: Overrides of the recipe `demo`, "section.key=value" each.
        quiet: Show no progress.

    Raises:
        UsageError: The folder holds something else, or a setting is not valid.
        OutputError: Something cannot be written.
    """
    recipe = load_recipe("demo", settings)
    if directory.is_dir() and any(directory.iterdir()) and not (directory / MARK).is_file():
        raise UsageError(
            "is not empty and no earlier demo",
            where=directory,
            remedy="Choose another folder.",
        )
    write_text(directory / MARK, "sat2map demo\n")

    towns, run = directory / "towns", directory / "run"
    with Progress("1/4 drawing towns", quiet=quiet) as progress:
        write_pairs(towns, pairs, size=256, seed=1, progress=progress.show)
    _forget_other_run(run, recipe)
    _say("2/4 training a small Pix2Pix", quiet)
    model = train(recipe, towns, run, resume=run.is_dir(), quiet=quiet)
    translator = load(model)
    with Progress("3/4 evaluating", quiet=quiet) as progress:
        evaluation = evaluate(
            translator, towns, size=None, report=directory / "report", progress=progress.show
        )
    with Progress("4/4 translating a scene", quiet=quiet) as progress:
        scene = write_scene(directory / "scene", scene_side, seed=SCENE_SEED)
        generated = directory / "scene_generated.png"
        translate_picture(translator, scene.photo, generated, PictureOptions(), progress.show)
    page = _write_page(directory, translator, evaluation, scene, generated, recipe)

    _say("", quiet)
    print(f"Open {page.index}")
    for picture in page.pictures:
        print(f"     {picture}")
    print(f"The model is {page.model}. Next: sat2map translate YOUR.png map.png --model {model}")
    return page


def _forget_other_run(run: Path, recipe: Recipe) -> None:
    """Remove the run of an earlier demo that had other settings."""
    kept = run / "recipe.toml"
    if run.is_dir() and not (kept.is_file() and load_recipe(kept) == recipe):
        shutil.rmtree(run)


def _write_page(
    directory: Path,
    translator: Translator,
    evaluation: Evaluation,
    scene: Scene,
    generated: Path,
    recipe: Recipe,
) -> DemoPage:
    from jinja2 import Environment, StrictUndefined

    photo, true = directory / "scene_photo.png", directory / "scene_true_map.png"
    pixels = {
        path: read_picture(tiff).pixels for path, tiff in ((photo, scene.photo), (true, scene.map))
    }
    for path, picture in pixels.items():
        write_picture(path, picture)
    answer = read_picture(generated).pixels
    score = score_picture("scene", answer, pixels[true], pixels[true], STREETS)
    of_scene = summarise([score], STREETS).metrics
    grids = sorted((directory / "run" / "grids").glob("*.png"))
    template = files("sat2map").joinpath("demo.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(template).render(
        side=answer.shape[0],
        size=recipe.data.size,
        pairs=translator.card.data.pairs,
        figures=[
            (name, evaluation.summary.metrics[name], of_scene.get(name))
            for name in SHOWN
            if name in evaluation.summary.metrics
        ],
        pictures=evaluation.summary.pictures,
        grids=[(grid.stem, grid.relative_to(directory).as_posix()) for grid in grids],
    )
    write_text(directory / "index.html", page)
    return DemoPage(directory / "index.html", (photo, generated, true), directory / "run" / "model")


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, file=sys.stderr, flush=True)
