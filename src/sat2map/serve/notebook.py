"""A photo and its map in a notebook, or in anything else that shows what objects say of themselves.

`show` gives a live map, the page of `sat2map serve` in a cell, where the extra `notebook` is
installed, and two images side by side elsewhere.
"""

from __future__ import annotations

import base64
import html
import io
import logging
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from sat2map.arguments import checks_arguments
from sat2map.data.images import read_image, three_bands
from sat2map.errors import UsageError, expect
from sat2map.geo.grid import Grid, Part
from sat2map.raster.options import Reading
from sat2map.raster.sources import open_source
from sat2map.serve.open_scene import LayerName, OpenScene
from sat2map.serve.overviews import halved_size
from sat2map.serve.page import FOLDER
from sat2map.serve.scenes import ServedScene, scene_id
from sat2map.serve.workshop import ServeOptions, Workshop
from sat2map.translation.translator import Translator, load

logger = logging.getLogger(__name__)

STILL_SIDE = 640
"""The longer side of an image that stands still, in pixels."""

HEIGHTS = (100, 4000)

Shown = str | Path | NDArray[np.uint8]


class SideBySide:
    """Photo and map as they are, side by side, for notebooks without widgets.

    Attributes:
        images: Name and pixels of each, uint8 [H,W,3].
        note: Why it is not a live map.
    """

    def __init__(self, images: list[tuple[str, NDArray[np.uint8]]], note: str) -> None:
        self.images, self.note = images, note

    def __repr__(self) -> str:
        return f"{' | '.join(name for name, _ in self.images)}. {self.note}"

    def _repr_html_(self) -> str:
        parts = []
        for name, pixels in self.images:
            written = io.BytesIO()
            Image.fromarray(pixels).save(written, "PNG")
            source = base64.b64encode(written.getvalue()).decode()
            parts.append(
                '<figure style="flex:1;min-width:0;margin:0">'
                f'<img style="width:100%" alt="{html.escape(name)}" '
                f'src="data:image/png;base64,{source}">'
                f"<figcaption>{html.escape(name)}</figcaption></figure>"
            )
        return (
            f'<div style="display:flex;gap:8px">{"".join(parts)}</div>'
            f"<small>{html.escape(self.note)}</small>"
        )


@checks_arguments
def show(
    photo: Shown,
    map: Shown | None = None,
    *,
    model: str | Path | Translator = "streets",
    reading: Reading | None = None,
    height: int = 480,
) -> Any:
    """Show a photo beside its map, in a notebook.

    With the extra `notebook` it is a live map: it can be moved and zoomed, and a divider moves
    between photo and map. Its tiles come through the notebook's own connection, so it works where
    ports are not reached. Without the extra it is two images that stand still.

    Args:
        photo: A scene that says where on the ground it lies; or, with `map`, any image, or an
            array, uint8 [H,W,3].
        map: A map or a class map that was written earlier, or an array, of the ground that the
            photo shows. None translates what is looked at, then and there.
        model: What translates: a shipped model's name, a model folder, or a translator.
        reading: How the photo's values become pixels.
        height: Of the live map, in pixels.

    Returns:
        What a notebook shows: a widget, or a `SideBySide`.

    Raises:
        UsageError: The arguments do not fit.
        DataError: The photo or the map cannot be read.
        ModelError: The model is missing or damaged.
    """
    remedy = "Give a file's name, or an array, uint8 [H,W,3]."
    expect(photo, (str, Path, np.ndarray), "photo", remedy)
    expect(map, (str, Path, np.ndarray), "map", remedy, none=True)
    if not HEIGHTS[0] <= height <= HEIGHTS[1]:
        raise UsageError(
            f"{height} is not a height of a map",
            parameter="height",
            remedy="Give pixels, from {} to {}.".format(*HEIGHTS),
        )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="sat2map-")))
        names, placed = _as_files(photo, map, folder)
        translate: Callable[[], Translator] | None = None
        if map is None:
            translate = lambda: model if isinstance(model, Translator) else load(model)  # noqa: E731
        options = ServeOptions(reading=reading or Reading())
        workshop = Workshop(translate, options, logger.warning)
        stack.callback(workshop.pool.close)
        scenes: list[ServedScene] = []
        for name, title in names:
            id = scene_id(Path(title).stem, (scene.id for scene in scenes))
            scene = ServedScene(id, title, name, workshop, is_map=bool(scenes))
            stack.callback(scene.close)
            scenes.append(scene)
        lacking = _lacking()
        if lacking is not None:
            return SideBySide(_still(scenes), lacking)
        return _live(workshop, scenes, placed, height, stack.pop_all())


def _live(
    workshop: Workshop, scenes: list[ServedScene], placed: bool, height: int, stack: ExitStack
) -> Any:
    """Return the widget."""
    from sat2map.serve.app import AppOptions, make_app
    from sat2map.serve.page import read_page
    from sat2map.serve.service import Service
    from sat2map.serve.widget import LiveMap

    service = Service(workshop, scenes)
    stack.callback(service.close)
    app = make_app(service, AppOptions(page=read_page()))
    return LiveMap(app, stack, placed=placed, view=f"#scene={scenes[-1].id}", height=height)


def _lacking() -> str | None:
    """Return why there cannot be a live map, or None."""
    for package in ("anywidget", "fastapi"):
        if find_spec(package) is None:
            return "For a live map: pip install 'sat2map[notebook]'."
    if not (FOLDER / "notebook.js").is_file():
        return "For a live map, build the page of this checkout: make web."
    return None


def _as_files(
    photo: Shown, map: Shown | None, folder: Path
) -> tuple[list[tuple[str | Path, str]], bool]:
    """Return what is shown as names of files with titles, and whether it lies on the ground.

    Arrays, and images without a place, are laid on pretended ground: one metre for each pixel of
    the photo, where the equator meets the prime meridian. A map without a place is laid where the
    photo lies.

    Raises:
        UsageError: An array is not an image, or a photo without a place has no map.
        DataError: A file cannot be read.
    """
    grid = _grid_of(photo)
    placed = grid is not None
    if map is None:
        if isinstance(photo, np.ndarray):
            raise UsageError(
                "is an array, which does not say where it lies",
                parameter="photo",
                remedy="Give a scene's file; or the map too, as load(MODEL).translate(PHOTO) "
                "returns it.",
            )
        return [(photo, Path(photo).name)], True
    found: list[tuple[str | Path, str]] = []
    for parameter, shown in (("photo", photo), ("map", map)):
        if _grid_of(shown) is not None and placed:
            assert not isinstance(shown, np.ndarray)
            found.append((shown, Path(shown).name))
            continue
        pixels = _pixels_of(shown, parameter)
        if grid is None:
            high, wide = pixels.shape[:2]
            grid = Grid(high, wide, Affine(1, 0, 0, 0, -1, high), rasterio.CRS.from_epsg(3857))
        title = parameter if isinstance(shown, np.ndarray) else Path(shown).name
        found.append((_lay(pixels, grid, folder / f"{parameter}.tif"), title))
    return found, placed


def _grid_of(shown: Shown) -> Grid | None:
    """Return where a file says that its pixels lie, or None where it does not."""
    if isinstance(shown, np.ndarray):
        return None
    with open_source(shown) as source:
        return source.grid if source.is_georeferenced else None


def _pixels_of(shown: Shown, parameter: str) -> NDArray[np.uint8]:
    """Return an image, uint8 [H,W,3]."""
    if not isinstance(shown, np.ndarray):
        return three_bands(read_image(Path(shown)).pixels)
    pixels = shown[..., None] if shown.ndim == 2 else shown
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise UsageError(
            f"is an array of {shown.dtype} {list(shown.shape)}",
            parameter=parameter,
            remedy="Give an image, uint8 [H,W,3] or [H,W].",
        )
    if 0 in pixels.shape:
        raise UsageError("has no pixels", parameter=parameter, remedy="Give an image.")
    return three_bands(pixels)


def _lay(pixels: NDArray[np.uint8], grid: Grid, path: Path) -> Path:
    """Write pixels so that they cover the ground of a grid."""
    height, width = pixels.shape[:2]
    facts: dict[str, Any] = {"driver": "GTiff", "count": 3, "dtype": "uint8"}
    facts |= {"height": height, "width": width, "photometric": "rgb", "tiled": True}
    laid = grid.resized(height, width)
    with rasterio.open(path, "w", crs=laid.crs, transform=laid.transform, **facts) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def _still(scenes: list[ServedScene]) -> list[tuple[str, NDArray[np.uint8]]]:
    """Return name and pixels of what stands side by side.

    Of a map that is made now, it is the middle of the scene, in the model's own pixels.
    """
    opened = [scene.current() for scene in scenes]
    results = opened[0].results
    if results is None:
        return [
            (scene.name, _whole(current)) for scene, current in zip(scenes, opened, strict=True)
        ]
    sides = [min(STILL_SIDE, side) for side in (results.grid.height, results.grid.width)]
    top, left = (results.grid.height - sides[0]) // 2, (results.grid.width - sides[1]) // 2
    part = Part(top, left, *sides)
    for ticket in [results.ask(w, "notebook") for w in results.touching(0, part)]:
        ticket.future.result()
    found = [(scenes[0].name, _photo_of(opened[0], part))]
    return [*found, ("map", opened[0].read("map", 0, part)[0])]


def _whole(current: OpenScene) -> NDArray[np.uint8]:
    """Return all of a scene's first layer, no larger than it is to stand."""
    layer: LayerName = current.layers[0]
    grid, level = current.level_grid(layer, 0), 0
    while max(halved_size(side, level) for side in (grid.height, grid.width)) > STILL_SIDE:
        level += 1
    sides = halved_size(grid.height, level), halved_size(grid.width, level)
    values, shown, _ = current.read(layer, level, Part(0, 0, *sides))
    if layer == "classes" and current.legend is not None:
        colours = np.full((256, 3), 255, np.uint8)
        colours[: len(current.legend)] = current.legend.colours
        return colours[values]
    return np.where(shown[..., None] > 0, values, np.uint8(255))


def _photo_of(current: OpenScene, part: Part) -> NDArray[np.uint8]:
    """Return the photo of a part of the results, in pixels of about the same size."""
    assert current.photo is not None and current.results is not None
    own, seen = current.photo.grid, current.results.grid
    ratio = own.width / seen.width
    level = max(round(np.log2(ratio)), 0)
    times = ratio / 2**level
    whole = halved_size(own.height, level), halved_size(own.width, level)
    top, left = round(part.top * times), round(part.left * times)
    height = min(round(part.height * times), whole[0] - top)
    width = min(round(part.width * times), whole[1] - left)
    return current.read("photo", level, Part(top, left, height, width))[0]
