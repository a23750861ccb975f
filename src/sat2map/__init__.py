"""sat2map: satellite and aerial images into maps with Pix2Pix.

The public face, imported only when first used, so that `import sat2map` costs nothing:

- `open_source(text)` finds out what a file, a folder, an address or a tree of tiles is;
- `load(folder)` gives a `Translator`, whose `translate` takes and gives arrays;
- `translate_raster(input, output, model)` translates a georeferenced scene of any size,
  `translate_classes(input, classes, model)` into its class map alone;
- `vectorise(classes, out)` makes polygons, buildings and roads of a class map,
  `vectorise_photo(photo, out, model)` of a photo; `read_vectors` and `road_graph` give them to
  geopandas and networkx, `report_classes(classes)` measures and counts;
- `train(recipe, data, run)` trains a model;
- `show(photo)` and `show(photo, map)` show photo and map in a notebook, `live_maps(scenes)` gives
  the server of live maps to a server of yours;
- `evaluate(translator, data)` scores one on pairs, `evaluate_masks` on class masks, and
  `compare(models, data)` and `compare_masks` several on the same images;
- `run_batch(scenes, out, model)` translates thousands of scenes with workers that may die;
- `verify(path)` makes windows of a map again, to prove where it came from;
- what a caller or the data can cause is raised as a `Sat2mapError`, such as `DataError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sat2map.errors import missing_extra

if TYPE_CHECKING:
    from sat2map.batch.options import BatchOptions as BatchOptions
    from sat2map.batch.run import run_batch as run_batch
    from sat2map.batch.verify import Verification as Verification
    from sat2map.batch.verify import verify as verify
    from sat2map.errors import DataError as DataError
    from sat2map.errors import MissingExtraError as MissingExtraError
    from sat2map.errors import ModelError as ModelError
    from sat2map.errors import OutputError as OutputError
    from sat2map.errors import Sat2mapError as Sat2mapError
    from sat2map.errors import StoppedError as StoppedError
    from sat2map.errors import TrainingError as TrainingError
    from sat2map.errors import UsageError as UsageError
    from sat2map.evaluation.comparison import compare as compare
    from sat2map.evaluation.comparison import compare_masks as compare_masks
    from sat2map.evaluation.evaluate import evaluate as evaluate
    from sat2map.evaluation.evaluate import evaluate_masks as evaluate_masks
    from sat2map.raster.options import Reading as Reading
    from sat2map.raster.options import SceneOptions as SceneOptions
    from sat2map.raster.sources import Source as Source
    from sat2map.raster.sources import open_source as open_source
    from sat2map.recipe import load_recipe as load_recipe
    from sat2map.serve.live_maps import live_maps as live_maps
    from sat2map.serve.notebook import show as show
    from sat2map.training.loop import train as train
    from sat2map.translation.class_files import ClassFiles as ClassFiles
    from sat2map.translation.classes import translate_classes as translate_classes
    from sat2map.translation.scene import translate_raster as translate_raster
    from sat2map.translation.translator import Translator as Translator
    from sat2map.translation.translator import load as load
    from sat2map.vectors.photo import vectorise_photo as vectorise_photo
    from sat2map.vectors.report import report_classes as report_classes
    from sat2map.vectors.routing import read_vectors as read_vectors
    from sat2map.vectors.routing import road_graph as road_graph
    from sat2map.vectors.vectorise import VectorOptions as VectorOptions
    from sat2map.vectors.vectorise import vectorise as vectorise

__version__ = "0.1.0"

_HOMES = {
    "BatchOptions": "sat2map.batch.options",
    "ClassFiles": "sat2map.translation.class_files",
    "DataError": "sat2map.errors",
    "MissingExtraError": "sat2map.errors",
    "ModelError": "sat2map.errors",
    "OutputError": "sat2map.errors",
    "Reading": "sat2map.raster.options",
    "Sat2mapError": "sat2map.errors",
    "SceneOptions": "sat2map.raster.options",
    "Source": "sat2map.raster.sources",
    "StoppedError": "sat2map.errors",
    "TrainingError": "sat2map.errors",
    "Translator": "sat2map.translation.translator",
    "UsageError": "sat2map.errors",
    "VectorOptions": "sat2map.vectors.vectorise",
    "Verification": "sat2map.batch.verify",
    "compare": "sat2map.evaluation.comparison",
    "compare_masks": "sat2map.evaluation.comparison",
    "evaluate": "sat2map.evaluation.evaluate",
    "evaluate_masks": "sat2map.evaluation.evaluate",
    "live_maps": "sat2map.serve.live_maps",
    "load": "sat2map.translation.translator",
    "load_recipe": "sat2map.recipe",
    "open_source": "sat2map.raster.sources",
    "read_vectors": "sat2map.vectors.routing",
    "report_classes": "sat2map.vectors.report",
    "road_graph": "sat2map.vectors.routing",
    "run_batch": "sat2map.batch.run",
    "show": "sat2map.serve.notebook",
    "train": "sat2map.training.loop",
    "translate_classes": "sat2map.translation.classes",
    "translate_raster": "sat2map.translation.scene",
    "vectorise": "sat2map.vectors.vectorise",
    "vectorise_photo": "sat2map.vectors.photo",
    "verify": "sat2map.batch.verify",
}
__all__ = [
    "BatchOptions",
    "ClassFiles",
    "DataError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "Reading",
    "Sat2mapError",
    "SceneOptions",
    "Source",
    "StoppedError",
    "TrainingError",
    "Translator",
    "UsageError",
    "VectorOptions",
    "Verification",
    "__version__",
    "compare",
    "compare_masks",
    "evaluate",
    "evaluate_masks",
    "load",
    "load_recipe",
    "open_source",
    "read_vectors",
    "report_classes",
    "road_graph",
    "run_batch",
    "show",
    "train",
    "translate_classes",
    "translate_raster",
    "vectorise",
    "vectorise_photo",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sat2map' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error


def __dir__() -> list[str]:
    return sorted(__all__)
