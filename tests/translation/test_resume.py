"""A translation that is interrupted, by whatever means, goes on where it was."""

from __future__ import annotations

import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rasterio
from PIL import Image
from torch import Tensor

import sat2map
from fixtures.scenes import Identity, MakeModel, MakeScene, noise
from sat2map.errors import OutputError, StoppedError, UsageError
from sat2map.journal import read_rows
from sat2map.legend import STREETS
from sat2map.raster import output as sink
from sat2map.raster.options import Reading, SceneOptions
from sat2map.raster.partial import partial_work
from sat2map.translation import pipeline as work
from sat2map.translation.scene import translate_raster

PutForeign = Callable[..., Callable[..., None]]
OPTIONS = SceneOptions(window=64, overlap=16)

PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from fixtures.scenes import Identity
from sat2map.cli.app import main
from sat2map.model.folder import Model, ModelCard
from sat2map.networks.specs import UNetSpec
from sat2map.raster.partial import partial_work
from sat2map.raster.options import SceneOptions
from sat2map.translation import scene
from sat2map.translation.scene import translate_raster
from sat2map.translation import translator
from sat2map.translation.translator import Translator

class Slow(Identity):
    def forward(self, source):
        time.sleep(0.004)
        return source.flip(1)

def load(folder, **chosen):
    spec = UNetSpec()
    card = ModelCard(generator=spec, normalisation="none", resolution_m=(0.8, 0.8))
    return Translator(Model(Slow(4), card, Path("slow")), "cpu")

def translate(source, target, model, options, progress=None, stop=None, classes=None):
    import dataclasses
    options = dataclasses.replace(options, window=64, overlap=16)
    return translate_raster(source, target, model, options, progress, stop)

translator.load = load
scene.translate_raster = translate
print("ready", flush=True)
main()
"""


def command(*arguments: str | Path) -> list[str]:
    program = PROGRAM.format(here=str(Path(__file__).parents[1]))
    return [sys.executable, "-c", program, "translate", *map(str, arguments), "--model", "slow"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.close()


def start(alone: list[subprocess.Popen[str]], *arguments: str | Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    alone.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def wait_for(path: Path) -> None:
    ended = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < ended, f"{path} never came"
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tif", "mbtiles"])
def test_killed_again_and_again_the_map_has_the_same_bytes(
    make_scene: MakeScene, tmp_path: Path, alone: list[subprocess.Popen[str]], suffix: str
) -> None:
    source = make_scene(noise(1300, 500))
    assert run(source, tmp_path / f"whole.{suffix}").returncode == 0
    expected = (tmp_path / f"whole.{suffix}").read_bytes()
    target, dice, kept = tmp_path / f"map.{suffix}", random.Random(0), []
    for _ in range(12):
        process = start(alone, source, target, "--resume")
        time.sleep(dice.uniform(0, 1.5))
        process.kill()
        process.wait()
        if target.exists():  # it was whole before the kill
            break
        strips = read_rows(tmp_path / f".map.{suffix}.partial").facts.values()
        kept.append(sum(facts is not None for facts in strips))  # None: it had only been begun
    assert kept == sorted(kept)
    ended = run(source, target, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert target.read_bytes() == expected
    assert left(tmp_path) == [target.name, "scene.tif", f"whole.{suffix}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_signal_leaves_no_map_and_the_work_goes_on(
    make_scene: MakeScene,
    tmp_path: Path,
    alone: list[subprocess.Popen[str]],
    number: signal.Signals,
    code: int,
) -> None:
    source, target = make_scene(noise(1100, 300)), tmp_path / "map.tif"
    process = start(alone, source, target)
    wait_for(tmp_path / ".map.tif.partial" / "strips" / "map-000000512.tif")
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert "map.tif: stopped as asked; " in told
        assert "Do the same again with --resume." in told
        assert "Traceback" not in told
    assert left(tmp_path) == [".map.tif.partial", "scene.tif"]
    assert run(source, target, "--resume").returncode == 0
    assert left(tmp_path) == ["map.tif", "scene.tif"]
    resumed = target.read_bytes()
    assert run(source, target).returncode == 0
    assert target.read_bytes() == resumed


def test_without_resume_what_a_kill_left_is_swept_away(
    make_scene: MakeScene, tmp_path: Path, alone: list[subprocess.Popen[str]]
) -> None:
    source, target = make_scene(noise(1100, 300)), tmp_path / "map.tif"
    process = start(alone, source, target)
    wait_for(tmp_path / ".map.tif.partial" / "strips" / "map-000000512.tif")
    process.kill()
    process.wait()
    other = start(alone, source, target)
    wait_for(tmp_path / ".map.tif.partial" / ".sat2map" / "lock")
    assert other.wait(timeout=60) == 0
    assert left(tmp_path) == ["map.tif", "scene.tif"]


def test_what_somebody_else_works_on_is_left_alone(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source, target = make_scene(noise(100, 90)), tmp_path / "map.tif"
    with partial_work(target, {}, resume=False) as other:
        other.advance(256, True)
        (other.strips / "map-000000000.tif").touch()
        for resume in (False, True):
            with pytest.raises(UsageError, match=r"map\.tif: is being written by another process"):
                translate_raster(source, target, make_model(), replace(OPTIONS, resume=resume))
        assert left(other.folder) == [".sat2map", "strips"]
        assert left(other.strips) == ["map-000000000.tif"]
    translate_raster(source, target, make_model(), OPTIONS)
    assert left(tmp_path) == ["map.tif", "scene.tif"]


class Interrupted(Identity):
    """Answers so many windows and no more."""

    def __init__(self, windows: int) -> None:
        super().__init__(4)
        self.windows = windows

    def forward(self, source: Tensor) -> Tensor:
        if len(self.seen) == self.windows:
            raise KeyboardInterrupt
        return super().forward(source)


def interrupt(
    source: Path, target: Path, make_model: MakeModel, options: SceneOptions, windows: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        translate_raster(source, target, make_model(network=Interrupted(windows)), options)


@pytest.mark.parametrize("known", [1.0, 0.7, 3.0])
@pytest.mark.parametrize("resolution", ["native", "model", 2.2])
def test_no_more_than_two_rows_of_windows_are_translated_again(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, known: float, resolution: float
) -> None:
    source, target = make_scene(noise(900, 90)), tmp_path / "map.tif"
    options = replace(OPTIONS, resolution=resolution)
    counted = Interrupted(10_000)
    whole = make_model((known, known), network=counted)
    translate_raster(source, tmp_path / "whole.tif", whole, options)
    every = len(counted.seen)
    broken = make_model((known, known), network=Interrupted(every - 1))
    with pytest.raises(KeyboardInterrupt):
        translate_raster(source, target, broken, options)
    counted = Interrupted(10_000)
    again = make_model((known, known), network=counted)
    translate_raster(source, target, again, replace(options, resume=True))
    assert target.read_bytes() == (tmp_path / "whole.tif").read_bytes()
    if resolution == "native" and known == 1.0:
        columns = 2
        unfinished = -(-(900 - 512) // 48) * columns
        assert len(counted.seen) <= unfinished + 2 * columns


def test_the_comparison_is_resumed_too(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path
) -> None:
    source, target = make_scene(noise(720, 90)), tmp_path / "map.png"
    options = replace(OPTIONS, compare=True)
    interrupt(source, target, make_model, options, 28)
    translate_raster(
        source, target, make_model(network=Interrupted(99)), replace(options, resume=True)
    )
    names = ["map.compare.png", "map.pgw", "map.png", "scene.tif"]
    assert left(tmp_path) == names
    with Image.open(tmp_path / "map.compare.png") as both, Image.open(target) as one:
        assert both.size == (180, 720)
        assert both.crop((90, 0, 180, 720)).tobytes() == one.tobytes()


def test_what_was_begun_otherwise_is_not_resumed(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = make_scene(noise(720, 90)), tmp_path / "map.tif"
    interrupt(source, target, make_model, OPTIONS, 28)
    resume = replace(OPTIONS, resume=True)

    def refused(what: str, options: SceneOptions, model: object = None) -> None:
        with pytest.raises(UsageError, match=rf"map\.tif: was begun with another {what}"):
            translate_raster(source, target, model or make_model(network=Interrupted(99)), options)

    refused("set of parameters", replace(resume, window=128))
    refused("set of parameters", replace(resume, reading=Reading(bands=(3, 2, 1))))
    refused("model", resume, make_model((1, 2), network=Interrupted(99)))
    refused("model", resume, make_model(network=Interrupted(99), legend=STREETS))
    with monkeypatch.context() as patch:
        patch.setattr(sat2map, "__version__", "9.9")
        refused("version of sat2map", resume)
    content = source.read_bytes()
    changed = bytearray(content)
    changed[-1] ^= 1
    source.write_bytes(changed)
    refused("input", resume)
    assert left(tmp_path) == [".map.tif.partial", "scene.tif"]
    source.write_bytes(content)  # at another time, but the same
    translate_raster(source, target, make_model(network=Interrupted(99)), resume)
    assert left(tmp_path) == ["map.tif", "scene.tif"]


def test_of_a_tree_a_tile_that_changed_is_noticed(make_model: MakeModel, tmp_path: Path) -> None:
    root, target = tmp_path / "tiles", tmp_path / "map.tif"
    for row in range(20):
        path = root / f"18/140800/{86_016 + row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(32, 32, seed=row)).save(path)
    interrupt(root, target, make_model, OPTIONS, 70)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\0")
    again, resume = make_model(network=Interrupted(99)), replace(OPTIONS, resume=True)
    with pytest.raises(UsageError, match=r"map\.tif: was begun with another input"):
        translate_raster(root, target, again, resume)
    path.write_bytes(content)
    moved = root.rename(tmp_path / "moved")
    translate_raster(moved, target, again, resume)
    assert left(tmp_path) == ["map.tif", "moved"]


def test_a_link_in_place_of_the_unfinished_map_is_refused(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, put_foreign: PutForeign
) -> None:
    source, elsewhere = make_scene(noise(90, 90)), tmp_path / "mine"
    check = put_foreign(elsewhere, "strips/map-000000000.tif", "state.json")
    (tmp_path / ".map.tif.partial").symlink_to(elsewhere, target_is_directory=True)
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"\.map\.tif\.partial: is a link"):
            translate_raster(
                source, tmp_path / "map.tif", make_model(), replace(OPTIONS, resume=resume)
            )
    check(alone=True)


def test_a_strange_folder_in_place_of_the_unfinished_map_is_refused(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, put_foreign: PutForeign
) -> None:
    source, folder = make_scene(noise(90, 90)), tmp_path / ".map.tif.partial"
    check = put_foreign(folder, "lock", "strips/map-000000000.tif")
    with pytest.raises(OutputError, match=r"\.map\.tif\.partial: is not empty and was not"):
        translate_raster(source, tmp_path / "map.tif", make_model(), OPTIONS)
    check(alone=True)


@pytest.mark.parametrize("resume", [False, True])
def test_files_of_others_in_an_unfinished_map_are_kept(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    put_foreign: PutForeign,
    resume: bool,
) -> None:
    source, target = make_scene(noise(720, 90)), tmp_path / "map.tif"
    interrupt(source, target, make_model, OPTIONS, 28)
    folder = tmp_path / ".map.tif.partial"
    check = put_foreign(folder, "strips/photo.tif", "whole.txt", "strips/map-1.tif")
    again = make_model(network=Interrupted(99))
    translate_raster(source, target, again, replace(OPTIONS, resume=resume))
    check()
    with rasterio.open(target) as file:
        assert file.shape == (720, 90)
    translate_raster(source, target, again, replace(OPTIONS, resume=True))
    check()
    assert not list(folder.glob("strips/map-0*"))


@pytest.mark.parametrize("rows", [0, 256])
def test_an_unfinished_map_of_an_older_version_is_not_resumed(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, rows: int
) -> None:
    source, target = make_scene(noise(90, 90)), tmp_path / "map.tif"
    strips = tmp_path / ".map.tif.partial" / "strips"
    strips.mkdir(parents=True)
    (strips.parent / "lock").touch()
    (strips / "map-000000000.tif").write_text("a strip")
    if rows:
        (strips.parent / "state.json").write_text('{"key": {}, "rows": 256, "some": true}')
    with pytest.raises(UsageError, match=r"map\.tif: was begun with another version of sat2map"):
        translate_raster(source, target, make_model(), replace(OPTIONS, resume=True))
    translate_raster(source, target, make_model(), OPTIONS)
    assert left(tmp_path) == ["map.tif", "scene.tif"]


@pytest.mark.parametrize("name", ["map.tif", "map.png", "map.pmtiles", "map.mbtiles"])
@pytest.mark.parametrize("full", [False, True])
def test_a_folder_under_the_name_of_a_file_is_refused_before_the_work(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, name: str, full: bool
) -> None:
    source, target = make_scene(noise(90, 90)), tmp_path / name
    target.mkdir()
    if full:
        (target / "thesis.txt").write_text("mine")
    counted = Interrupted(99)
    with pytest.raises(OutputError, match=f"{name}: is a folder, and a file is to be written"):
        translate_raster(source, target, make_model(network=counted), OPTIONS)
    assert counted.seen == []
    assert left(target) == ["thesis.txt"] * full


def test_where_nothing_is_finished_the_work_begins(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, target = make_scene(noise(90, 90)), tmp_path / "map.tif"
    translate_raster(source, target, make_model(), replace(OPTIONS, resume=True))
    assert "nothing of it is finished, so it is begun afresh" in caplog.text
    assert left(tmp_path) == ["map.tif", "scene.tif"]


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_nothing_goes_on_when_the_last_step_is_broken_off(
    make_scene: MakeScene,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    """GDAL makes an image anew and anew, until it cannot: what it reads has been taken away."""
    source, target = make_scene(noise(300, 300)), tmp_path / f"map.{suffix}"
    real = sink.rasterio.shutil.copy
    others = set(threading.enumerate())
    failed: list[str] = []
    stop = threading.Event()

    def endless(*arguments: Any, **options: Any) -> None:
        stop.set()
        while True:
            try:
                real(*arguments, **options)
            except Exception as error:
                failed.append(str(error))
                raise
            if suffix == "tif":  # whose tiles are copied one by one
                return

    monkeypatch.setattr(sink.rasterio.shutil, "copy", endless)
    with pytest.raises(StoppedError, match=r"all of it is translated.*not yet in one piece"):
        translate_raster(source, target, make_model(), OPTIONS, stop=stop)
    assert left(tmp_path) == [f".map.{suffix}.partial", "scene.tif"]
    assert len(failed) == (suffix == "png")
    assert not [t.name for t in set(threading.enumerate()) - others if "sat2map" in t.name]
    assert not list(tmp_path.rglob("*.links"))
    monkeypatch.setattr(sink.rasterio.shutil, "copy", real)
    translate_raster(source, target, make_model(), replace(OPTIONS, resume=True))
    resumed = target.read_bytes()
    translate_raster(source, target, make_model(), OPTIONS)
    assert target.read_bytes() == resumed


def test_a_map_is_made_where_files_cannot_be_linked(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_scene(noise(300, 300))
    translate_raster(source, tmp_path / "map.png", make_model(), OPTIONS)

    def refused(*_: object) -> None:
        raise PermissionError("this drive has no links")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    translate_raster(source, tmp_path / "same.png", make_model(), OPTIONS)
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "map.png").read_bytes()


def test_the_count_of_progress_does_not_depend_on_who_is_faster(
    make_scene: MakeScene, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here what is written is never behind what is answered."""

    @contextmanager
    def in_step(consume: Callable[[Iterator[Any]], None]) -> Iterator[Callable[[Any], None]]:
        waiting: queue.Queue[tuple[Any, ...]] = queue.Queue()
        asked = threading.Semaphore(0)

        def items() -> Iterator[Any]:
            while True:
                asked.release()
                item = waiting.get()
                if not item:
                    return
                yield item[0]

        thread = threading.Thread(target=consume, args=(items(),))
        thread.start()
        asked.acquire()

        def hand_over(item: Any) -> None:
            waiting.put((item,))
            while thread.is_alive() and not asked.acquire(timeout=0.1):
                pass

        yield hand_over
        waiting.put(())
        thread.join()

    monkeypatch.setattr(work, "behind", in_step)
    steps: list[tuple[int, int]] = []
    translate_raster(
        make_scene(noise(700, 300)),
        tmp_path / "map.tif",
        make_model(),
        OPTIONS,
        progress=lambda *step: steps.append(step),
    )
    assert steps[-1] == (700 * 300, 700 * 300)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
