"""The library changes nothing that belongs to the whole process, not even for a while."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sat2map
from fixtures.ground import MakeGround
from sat2map.chips.chips import ChipOptions, make_chips
from sat2map.export.deepness import export_for_deepness
from sat2map.export.export import export_model
from sat2map.legend import STREETS
from sat2map.model.folder import load_model, save_model
from sat2map.recipe import load_recipe
from sat2map.style.features import VectorFile
from sat2map.towns.write import write_pairs, write_scene

THREADS = 8
FILTERS = "warnings filters"
SMALL = [
    "data.size=16",
    "data.resize=20",
    "generator.base_channels=4",
    "discriminator.base_channels=4",
    "discriminator.strided_layers=1",
    "training.max_steps=2",
    "statistics.pictures=2",
]
Call = Callable[[Path], object]


def process_state() -> dict[str, object]:
    """Return what a process has once, and every thread and caller shares."""
    known = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    loggers = [each for each in known if isinstance(each, logging.Logger)]
    return {
        FILTERS: list(warnings.filters),
        "what shows warnings": warnings.showwarning,
        "loggers": {
            each.name: (each.level, each.disabled, list(each.handlers), list(each.filters))
            for each in loggers
        },
        "class of loggers": logging.getLoggerClass(),
        "environment": dict(os.environ),
        "Pillow's guard": Image.MAX_IMAGE_PIXELS,
        "signal handlers": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "cuDNN": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "torch's threads": torch.get_num_threads(),
        "numpy's errors": np.geterr(),
        "stdout and stderr": (sys.stdout, sys.stderr),
        "folder": Path.cwd(),
    }


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [name for name, value in before.items() if after[name] != value]


@pytest.fixture
def calls(
    model_folder: Path,
    data_set: Path,
    make_ground: MakeGround,
) -> dict[str, Call]:
    """The public calls, each as a function of a folder that is its own."""
    model = load_model(model_folder)
    with_legend = model.card.model_copy(update={"legend": STREETS})
    named = model_folder.with_name("named")
    save_model(named, model.network, with_legend)
    ground = make_ground(70, 70)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(image).save(model_folder.with_name("placeless.tif"))
    translator = sat2map.load(model_folder, "cpu")
    options = sat2map.SceneOptions(window=32, overlap=8)
    recipe = load_recipe("pix2pix", SMALL)

    def translate_raster(folder: Path) -> None:
        for source in (ground.imagery, model_folder.with_name("placeless.tif")):
            output = folder / f"{source.stem}.tif"
            sat2map.translate_raster(source, output, translator, options)

    def chips(folder: Path) -> None:
        vectors = [VectorFile(ground.vectors)]
        make_chips([str(ground.imagery)], vectors, folder, ChipOptions(size=32, min_mapped=0))

    def load(folder: Path) -> None:
        for runtime in ("torch", "openvino", "onnx"):
            sat2map.load(named, "cpu", runtime=runtime, threads=1).translate(image)

    return {
        "load": load,
        "translate": lambda folder: translator.translate(image),
        "translate as published": lambda folder: translator.translate(image, mode="published"),
        "translate_raster": translate_raster,
        "train": lambda folder: sat2map.train(recipe, data_set, folder / "run", quiet=True),
        "evaluate": lambda folder: sat2map.evaluate(translator, data_set, report=folder / "report"),
        "export to openvino": lambda folder: export_model(named, folder / "out", "openvino"),
        "export to onnx": lambda folder: export_model(named, folder / "out", "onnx"),
        "export to deepness": lambda folder: export_for_deepness(named, folder / "out", 16),
        "chips": chips,
        "synthetic pairs": lambda folder: write_pairs(folder, 1, size=32),
        "synthetic scene": lambda folder: write_scene(folder, 64),
    }


def test_eight_threads_leave_the_process_as_it_was(
    calls: dict[str, Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All calls in all threads, each thread beginning with another one.

    What packages do when they are first imported is none of ours, so each is called once before.
    """

    def make(name: str, thread: int) -> None:
        folder = tmp_path / f"{thread}" / name.replace(" ", "_")
        folder.mkdir(parents=True)
        calls[name](folder)

    for name in calls:
        make(name, THREADS)
    before = process_state()
    meanwhile: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            now = process_state()
            # Some packages change the filters for a while, one after the other: geo/silencing.py.
            meanwhile.extend(changed(before, now | {FILTERS: before[FILTERS]}))
            time.sleep(0.001)

    def work(thread: int) -> None:
        names = list(calls)
        for name in names[thread:] + names[:thread]:
            make(name, thread)

    with ThreadPoolExecutor(THREADS + 1) as pool:
        watching = pool.submit(watch)
        try:
            for done in [pool.submit(work, thread) for thread in range(THREADS)]:
                done.result()
        finally:
            ended.set()
        watching.result()
    assert changed(before, process_state()) == []
    assert not set(meanwhile)


def test_one_thread_leaves_torchs_random_state_as_it_was(
    calls: dict[str, Call], tmp_path: Path
) -> None:
    for name, call in calls.items():
        before: Any = torch.random.get_rng_state()
        (tmp_path / name).mkdir()
        call(tmp_path / name)
        assert torch.equal(torch.random.get_rng_state(), before), name
