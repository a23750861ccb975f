"""A batch of real scenes with processes of its own, of which some lie at an address."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

from fixtures.remote import Server
from fixtures.scenes import MakeScene, smooth, with_classes
from sat2map.batch.options import BatchOptions
from sat2map.batch.run import batch_status, run_batch
from sat2map.model.folder import Model, save_model

MINUTE = 60.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model of random weights with a legend head."""
    inner = with_classes((1.0, 1.0))._model
    assert isinstance(inner, Model)
    save_model(tmp_path / "model", inner.network, inner.card)
    return tmp_path / "model"


@pytest.mark.slow
def test_an_address_that_answers_503_for_a_minute_holds_up_no_other_scene(
    make_scene: MakeScene, tmp_path: Path, model: Path, server: Server
) -> None:
    copy_raster(make_scene(smooth(90, 80)), server.folder / "cog.tif", driver="COG")
    local = [make_scene(smooth(60 + number, 80), f"{number}.tif") for number in range(5)]
    scenes = [f"{server.address}/cog.tif", *map(str, local)]
    (tmp_path / "scenes.txt").write_text("\n".join(scenes) + "\n")
    out, well = tmp_path / "out", threading.Event()
    seen: list[dict[str, int]] = []

    def mend() -> None:
        well.wait(MINUTE)
        seen.append(batch_status(out)["states"])
        server.fail()

    server.fail(then=503)
    watch = threading.Thread(target=mend)
    watch.start()
    try:
        counts = run_batch(
            tmp_path / "scenes.txt", out, model, BatchOptions(runtime="torch"), workers=2
        )
    finally:
        well.set()
        watch.join()
    assert counts["done"] == 6
    assert seen[0]["done"] == 5, "the others were done while it failed"
    assert seen[0]["failed"] == 0
    with rasterio.open(out / "cog.tif") as file:
        assert file.shape == (90, 80)
