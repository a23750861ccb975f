"""Scenes of a few pixels, and models that answer at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from torch import Tensor, nn

from sat2map.legend import Legend
from sat2map.model import GeneratorSpec, Model, ModelCard
from sat2map.raster import gdal
from sat2map.translation.translator import Translator

UTM = {"crs": "EPSG:32633", "transform": Affine(1, 0, 500_000, 0, -1, 5_000_000)}
"""Metres, north up: the ground resolution is 1 m within 0.1 %."""

MakeScene = Callable[..., Path]
MakeModel = Callable[..., Translator]


class Identity(nn.Module):
    """Answers what it is given, and counts."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple
        self.seen: list[tuple[int, ...]] = []

    def forward(self, source: Tensor) -> Tensor:
        self.seen.append(tuple(source.shape[2:]))
        return source


def noise(height: int, width: int, bands: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)


def smooth(height: int, width: int, bands: int = 3) -> NDArray[np.uint8]:
    """Return a picture that resampling hardly changes."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 9 + b) * 60 + np.cos(columns / 11 - b) * 60 + 128 for b in range(bands)]
    return np.stack(waves, -1).round().astype(np.uint8)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what cannot be read be tried again at once."""
    monkeypatch.setattr(gdal, "PAUSES", (0.0, 0.0))


@pytest.fixture
def make_scene(tmp_path: Path) -> MakeScene:
    """Return a writer of GeoTIFFs: pixels [H,W,C] of any type, and rasterio's options."""

    def make(
        pixels: NDArray[Any],
        name: str = "scene.tif",
        *,
        mask: NDArray[np.bool_] | None = None,
        colours: list[Any] | None = None,
        georeference: dict[str, Any] | None = None,
        **options: Any,
    ) -> Path:
        path = tmp_path / name
        height, width, count = pixels.shape
        facts: dict[str, Any] = {"photometric": "rgb"} if count >= 3 and colours is None else {}
        facts |= UTM if georeference is None else georeference
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr("warnings.warn", _only_other_warnings)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=count,
                dtype=pixels.dtype,
                **(facts | options),
            ) as file:
                if colours is not None:
                    file.colorinterp = colours
                file.write(pixels.transpose(2, 0, 1))
                if mask is not None:
                    file.write_mask(mask)
        return path

    return make


def _only_other_warnings(message: Any, category: Any = None, *arguments: Any, **more: Any) -> None:
    assert category is NotGeoreferencedWarning, message


@pytest.fixture
def make_model() -> MakeModel:
    """Return a maker of models that answer what they are given."""

    def make(
        resolution_m: tuple[float, float] | None = (1.0, 1.0),
        bands: int = 3,
        multiple: int = 4,
        legend: Legend | None = None,
        network: nn.Module | None = None,
    ) -> Translator:
        card = ModelCard(
            generator=GeneratorSpec(name="unet", arguments={}),
            normalisation="none",
            resolution_m=resolution_m,
            bands=tuple(f"band_{i + 1}" for i in range(bands)),
            legend=legend,
        )
        return Translator(Model(network or Identity(multiple), card, Path("identity")), "cpu")

    return make
