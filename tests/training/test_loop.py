from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sat2map.data.pairs import DataSetCard, write_card
from sat2map.errors import BatchError, DataError, OutputError, TrainingError, UsageError
from sat2map.legend import STREETS, Legend, LegendClass
from sat2map.model.folder import load_model
from sat2map.networks.resnet import ResNet
from sat2map.networks.specs import ResNetSpec
from sat2map.networks.unet import UNet
from sat2map.recipe import Recipe
from sat2map.training import checkpoint as state
from sat2map.training import updates
from sat2map.training.checkpoint import checkpoints
from sat2map.training.loop import InterruptedRunError, train
from sat2map.training.monitor import Monitor
from sat2map.training.validation import improves

PutForeign = Callable[..., Callable[..., None]]
Small = Callable[..., Recipe]
EVERYTHING = ("training.ema_decay=0.9", "schedule.name=linear", "schedule.decay_epochs=2")


def same(a: Any, b: Any) -> bool:
    """Whether two nests of containers hold bit-identical tensors."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def assert_same_end(run: Path, other: Path) -> None:
    """The models and the last checkpoints of two runs are bit-identical."""
    for folder in ("model", "best"):
        name = f"{folder}/model.safetensors"
        assert same(load_file(run / name), load_file(other / name)), folder
    ends = [
        torch.load(checkpoints(folder / "checkpoints")[-1], weights_only=True)
        for folder in (run, other)
    ]
    assert same(*ends)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> threading.Event:
    """Return an event that is set when a step is done."""
    shown, stop = Monitor.step, threading.Event()

    def step_and_stop(self: Monitor, done: int) -> None:
        shown(self, done)
        if done == step:
            stop.set()

    monkeypatch.setattr(Monitor, "step", step_and_stop)
    return stop


def interrupt(
    monkeypatch: pytest.MonkeyPatch, step: int, recipe: Recipe, data: Path, run: Path
) -> None:
    """Begin a run that is asked to stop when a step is done."""
    with monkeypatch.context() as patch:
        stop = stop_at(patch, step)
        with pytest.raises(InterruptedRunError):
            train(recipe, data, run, quiet=True, stop=stop)


def test_a_run_leaves_what_it_promises(data: Path, tmp_path: Path, small: Small) -> None:
    run = tmp_path / "run"
    assert train(small(), data, run, quiet=True) == run / "model"
    kept = {path.name for path in run.iterdir()}
    assert kept == {
        "recipe.toml",
        "losses.csv",
        "validation.csv",
        "tensorboard",
        "grids",
        "checkpoints",
        "best",
        "model",
        ".sat2map",
    }
    losses = table(run / "losses.csv")
    assert [int(line["step"]) for line in losses] == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert all(float(line["steps_per_second"]) > 0 for line in losses)
    assert float(losses[-1]["l1"]) < float(losses[0]["l1"])
    assert [line["epoch"] for line in table(run / "validation.csv")] == ["1", "2", "3"]
    assert [p.name for p in checkpoints(run / "checkpoints")] == [
        "step-00000012.pt",
        "step-00000018.pt",
    ]
    assert [p.name for p in sorted((run / "grids").iterdir())] == [
        "epoch-0002.png",
        "epoch-0003.png",
    ]
    with Image.open(run / "grids" / "epoch-0003.png") as grid:
        assert grid.size == (3 * 16, 3 * 16)
    assert list((run / "tensorboard").glob("events*"))
    card = json.loads((run / "model" / "model.json").read_text())
    assert card["data"]["pairs"] == 6
    assert card["metrics"]["validation"]["pictures"] == 3
    assert card["metrics"]["validation"]["protocol"]["split"] == "val"
    assert card["metrics"]["validation"]["protocol"]["size"] == 16


def test_a_metric_that_no_image_defines_is_said_once(
    small: Small, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    legend = Legend(
        (
            LegendClass("land", (200, 200, 200)),
            LegendClass("building", (30, 60, 90)),
            LegendClass("road", (255, 255, 255), role="road"),
        )
    )
    write_card(data, DataSetCard(legend=legend))  # there is no road in any of the maps
    run = tmp_path / "run"
    with caplog.at_level("WARNING"):
        train(small("validation.metric=road_cldice"), data, run, quiet=True)
    told = [record for record in caplog.records if "road_cldice" in record.getMessage()]
    assert len(told) == 1 and "there is no best/ yet" in told[0].getMessage()
    assert not (run / "best").exists()
    assert (run / "model").is_dir()


@pytest.mark.parametrize(
    ("metric", "score", "best", "better"),
    [
        ("l1", 0.1, None, True),
        ("l1", 0.1, 0.2, True),
        ("l1", 0.2, 0.1, False),
        ("ssim", 0.2, 0.1, True),
        ("ssim", 0.1, 0.1, False),
        ("ssim", float("nan"), None, False),
        ("ssim", 0.1, float("nan"), True),
        ("psnr", float("inf"), 30.0, True),
    ],
)
def test_what_is_better_and_what_is_not(
    metric: str, score: float, best: float | None, better: bool
) -> None:
    assert improves(metric, {metric: score}, best) is better
    assert not improves("road_cldice", {metric: score}, best)


def test_the_best_model_is_the_one_with_the_best_validation(
    data: Path, tmp_path: Path, small: Small
) -> None:
    run = tmp_path / "run"
    train(small(), data, run, quiet=True)
    best = load_model(run / "best").card.metrics["validation"]["metrics"]["l1"]["mean"]
    lines = [float(line["l1"]) for line in table(run / "validation.csv")]
    assert best == pytest.approx(min(lines), rel=1e-4)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    data: Path, tmp_path: Path, small: Small
) -> None:
    train(small(), data, tmp_path / "a", quiet=True)
    torch.rand(3)  # whatever happened before in the process does not matter
    train(small(), data, tmp_path / "b", quiet=True)
    train(small("training.seed=1"), data, tmp_path / "c", quiet=True)
    assert_same_end(tmp_path / "a", tmp_path / "b")
    name = "model/model.safetensors"
    assert not same(load_file(tmp_path / "a" / name), load_file(tmp_path / "c" / name))


@pytest.mark.parametrize("step", [1, 8])
def test_interrupted_and_resumed_ends_in_the_same_bits(
    data: Path,
    tmp_path: Path,
    small: Small,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    recipe = small(*EVERYTHING, "training.batch=2", "training.epochs=4")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, data, whole, quiet=True)
    with monkeypatch.context() as patch:
        stop = stop_at(patch, step)
        with pytest.raises(InterruptedRunError, match=f"stopped at step {step} of 12"):
            train(recipe, data, broken, quiet=True, stop=stop)
    assert not (broken / "model").exists()
    train(recipe, data, broken, resume=True, quiet=True)
    assert_same_end(whole, broken)
    losses = [
        {k: v for k, v in line.items() if k == "step"} for line in table(broken / "losses.csv")
    ]
    assert len(losses) == len({line["step"] for line in losses})


def test_asked_to_stop_while_it_decodes_a_run_has_not_begun(
    data: Path, tmp_path: Path, small: Small
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError, match="before its first step"):
        train(small(), data, tmp_path / "run", quiet=True, stop=stop)
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    train(small("training.epochs=1"), data, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("settings", [(), ("training.channels_last=true", *EVERYTHING)])
def test_killed_and_resumed_ends_in_the_same_bits(
    data: Path, tmp_path: Path, small: Small, settings: tuple[str, ...]
) -> None:
    recipe = small(*settings, "training.checkpoint_steps=4")
    train(recipe, data, tmp_path / "whole", quiet=True)
    broken = tmp_path / "broken"
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    code = f"""
import os, signal, torch
from pathlib import Path
from sat2map.recipe import load_recipe
from sat2map.training.loop import train
from sat2map.training.monitor import Monitor
torch.set_num_threads({torch.get_num_threads()})
shown = Monitor.step
def step(self, done):
    shown(self, done)
    if done == 11:
        os.kill(os.getpid(), signal.SIGKILL)
Monitor.step = step
train(load_recipe({str(tmp_path / "recipe.toml")!r}), Path({str(data)!r}), Path({str(broken)!r}))
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert checkpoints(broken / "checkpoints")[-1].name == "step-00000008.pt"
    with (broken / "losses.csv").open("a") as stream:
        stream.write("10,2,0.1")  # a line that the kill cut short
    mark = f"sat2map-{'0123abcd' * 2}"
    (broken / "checkpoints" / f".step-00000012.{mark}.pt").write_bytes(b"half")
    (broken / f".best.{mark}").mkdir()
    train(recipe, data, broken, resume=True, quiet=True)
    assert_same_end(tmp_path / "whole", broken)
    hidden = [path.name for path in broken.rglob("*") if path.name.startswith(".")]
    assert hidden == [".sat2map"]
    steps = [int(line["step"]) for line in table(broken / "losses.csv")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 18


def test_a_damaged_checkpoint_is_passed_over(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    train(small(), data, tmp_path / "whole", quiet=True)
    run = tmp_path / "run"
    interrupt(monkeypatch, 14, small(), data, run)
    newest = checkpoints(run / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    train(small(), data, run, resume=True, quiet=True)
    assert str(newest) in caplog.text
    assert_same_end(tmp_path / "whole", run)


def test_a_checkpoint_of_the_first_versions_is_resumed(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold one random state, since there was one process."""
    train(small(), data, tmp_path / "whole", quiet=True)
    run = tmp_path / "run"
    interrupt(monkeypatch, 8, small(), data, run)
    newest = checkpoints(run / "checkpoints")[-1]
    content = torch.load(newest, weights_only=True)
    content["random"] = content["random"][0]
    torch.save(content, newest)
    train(small(), data, run, resume=True, quiet=True)
    assert_same_end(tmp_path / "whole", run)


def test_resume_without_a_checkpoint_begins_and_of_a_finished_run_says_so(
    data: Path, tmp_path: Path, small: Small, caplog: Any
) -> None:
    run = tmp_path / "run"
    train(small(), data, run, resume=True, quiet=True)
    assert "begins afresh" in caplog.text
    before = (run / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(small(), data, run, resume=True, quiet=True) == run / "model"
    assert "is finished" in caplog.text
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_folder_with_something_in_it_is_refused(
    data: Path, tmp_path: Path, small: Small
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(OutputError, match="not empty and was not written by"):
            train(small(), data, run, resume=resume, quiet=True)
    assert (run / "thesis.txt").read_text() == "mine"
    with pytest.raises(OutputError, match="is a file"):
        train(small(), data, run / "thesis.txt", quiet=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_holds_no_run_is_left_as_it_is(
    data: Path, tmp_path: Path, small: Small, put_foreign: PutForeign, resume: bool
) -> None:
    check = put_foreign(tmp_path / "mine")
    with pytest.raises(
        OutputError, match=r"mine: is not empty and was not written by sat2map train"
    ):
        train(small(), data, tmp_path / "mine", resume=resume, quiet=True)
    check(alone=True)


def test_a_run_keeps_the_files_of_others(
    data: Path,
    tmp_path: Path,
    small: Small,
    put_foreign: PutForeign,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    interrupt(monkeypatch, 2, small(), data, run)
    check = put_foreign(
        run, ".best.0123abcd/notes.txt", "checkpoints/step-mine.pt", "checkpoints/.step-1.old.pt"
    )
    train(small(), data, run, resume=True, quiet=True)
    check()
    assert load_model(run / "model")


def test_resume_with_another_recipe_names_the_key(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, 2, small(), data, tmp_path / "run")
    with pytest.raises(UsageError, match=r"optimiser\.learning_rate = 0\.0002, not 0\.1"):
        train(small("optimiser.learning_rate=0.1"), data, tmp_path / "run", resume=True)


def other_pixels(data: Path) -> None:
    path = data / "train" / "0.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def other_legend(data: Path) -> None:
    write_card(data, DataSetCard(legend=STREETS))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_pixels, "training data"),
        (lambda data: (data / "train" / "0.png").unlink(), "training data"),
        (lambda data: (data / "val" / "0.png").unlink(), "validation data"),
        (other_legend, "legend or resolution"),
    ],
)
def test_resume_with_another_data_set_is_refused(
    data: Path,
    tmp_path: Path,
    small: Small,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    what: str,
) -> None:
    interrupt(monkeypatch, 2, small(), data, tmp_path / "run")
    change(data)
    with pytest.raises(TrainingError, match=f"run: was begun with other {what}"):
        train(small(), data, tmp_path / "run", resume=True, quiet=True)


def test_a_copy_of_the_data_set_is_the_same_data(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, 2, small(), data, tmp_path / "run")
    copied = shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    write_card(copied, DataSetCard(licence="told meanwhile"))
    train(small(), copied, tmp_path / "run", resume=True, quiet=True)
    assert load_model(tmp_path / "run" / "model")


def test_a_second_process_is_not_let_in(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, refused = Monitor.step, []

    def another(self: Monitor, done: int) -> None:
        shown(self, done)
        if done in (2, 9):
            with pytest.raises(UsageError, match="run: is being written by another process"):
                train(small(), data, tmp_path / "run", resume=True, quiet=True)
            refused.append(done)

    monkeypatch.setattr(Monitor, "step", another)
    train(small(), data, tmp_path / "run", quiet=True)
    assert refused == [2, 9]
    steps = [int(line["step"]) for line in table(tmp_path / "run" / "losses.csv")]
    assert steps == sorted(set(steps))


def test_a_run_of_an_older_version_is_gone_on_with(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    train(small(), data, tmp_path / "whole", quiet=True)
    run = tmp_path / "run"
    interrupt(monkeypatch, 8, small(), data, run)
    shutil.rmtree(run / ".sat2map")
    with pytest.raises(UsageError, match="run: is not empty"):
        train(small(), data, run, quiet=True)
    train(small(), data, run, resume=True, quiet=True)
    assert "did not note what it learns from" in caplog.text
    assert_same_end(tmp_path / "whole", run)


def test_a_recipe_among_the_files_of_others_is_no_run(
    data: Path, tmp_path: Path, small: Small, put_foreign: PutForeign
) -> None:
    check = put_foreign(tmp_path / "mine", "losses.csv")
    (tmp_path / "mine" / "recipe.toml").write_text(small().to_toml())
    with pytest.raises(OutputError, match="mine: is not empty and was not written by"):
        train(small(), data, tmp_path / "mine", resume=True, quiet=True)
    check()


@pytest.mark.parametrize("name", ["model", "best"])
def test_a_name_of_the_run_that_others_took_is_told_before_the_work(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    interrupt(monkeypatch, 2, small(), data, run)
    (elsewhere / "notes").mkdir(parents=True)
    (run / name).symlink_to(elsewhere)
    with pytest.raises(OutputError, match=f"run/{name}: "):
        train(small(), data, run, resume=True, quiet=True)
    assert [path.name for path in elsewhere.rglob("*")] == ["notes"]


def test_nan_stops_with_the_step_the_last_checkpoint_and_advice(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = updates.objectives.l1_loss, iter(range(1, 100))

    def breaks(generated: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = real(generated, target)
        return loss * float("nan") if next(calls) == 9 else loss

    monkeypatch.setattr(updates.objectives, "l1_loss", breaks)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"l1 loss .* at step 9; .*step-00000006\.pt.*learning"):
        train(small("training.log_steps=50"), data, run, quiet=True)
    kept = torch.load(checkpoints(run / "checkpoints")[-1], weights_only=True)
    weights = kept["modules"]["generator"].values()
    assert all(bool(w.float().isfinite().all()) for w in weights)


def test_a_full_disk_while_saving_is_one_line_and_the_old_checkpoint_stays(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save, calls = tmp_path / "run", torch.save, iter(range(1, 100))

    def full(content: object, path: Path) -> None:
        if next(calls) == 2:
            path.write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file: No space left\nmore")
        save(content, path)

    monkeypatch.setattr(state.torch, "save", full)
    with pytest.raises(OutputError, match=r"step-00000012\.pt.*No space left.*Free some space"):
        train(small(), data, run, quiet=True)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000006.pt"]


def test_broken_images_are_all_named_before_the_first_step(
    data: Path, tmp_path: Path, small: Small
) -> None:
    (data / "train" / "1.png").write_text("no image")
    (data / "train" / "4.png").write_bytes((data / "train" / "4.png").read_bytes()[:60])
    with pytest.raises(BatchError, match=r"1\.png.*4\.png"):
        train(small(), data, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_broken_validation_image_is_left_out(
    data: Path, tmp_path: Path, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "val" / "1.png").write_text("no image")
    train(small(), data, tmp_path / "run")
    assert "left out of the validation" in capsys.readouterr().err
    card = load_model(tmp_path / "run" / "model").card
    assert card.metrics["validation"]["pictures"] == 2


def test_training_needs_no_validation_split(data: Path, tmp_path: Path, small: Small) -> None:
    for path in (data / "val").iterdir():
        path.unlink()
    (data / "val").rmdir()
    train(small(), data, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "best").exists()
    assert (tmp_path / "run" / "grids" / "epoch-0002.png").is_file()


@pytest.mark.parametrize(
    "recipe", ["l1", "gan", "cgan", "l1_gan", "encoder_decoder", "pixelgan", "hinge", "native"]
)
def test_every_kind_of_recipe_trains(data: Path, tmp_path: Path, small: Small, recipe: str) -> None:
    settings = ["data.resize=none"] if recipe == "native" else []
    chosen = small("training.max_steps=2", *settings, recipe=recipe)
    if recipe == "pixelgan":
        chosen = small("training.max_steps=2", "discriminator.strided_layers=0", recipe=recipe)
    train(chosen, data, tmp_path / "run", quiet=True)
    line = table(tmp_path / "run" / "losses.csv")[-1]
    assert int(line["step"]) == 2
    assert ("discriminator" in line) == (recipe != "l1")
    assert "classes" not in line and float(line["l1"]) > 0


@pytest.mark.parametrize(
    ("norm", "statistics"),
    [
        ("instance", "each window's own (instance norm): windows of one scene will differ"),
        ("instance_calibrated", "mean over 4 training images after training"),
        ("none", "none"),
    ],
)
def test_the_card_says_how_the_statistics_were_obtained(
    data: Path, tmp_path: Path, small: Small, norm: str, statistics: str
) -> None:
    settings = ("generator.name=resnet", "generator.blocks=1", f"generator.norm={norm}")
    train(small(*settings, "training.max_steps=1"), data, tmp_path / "run", quiet=True)
    model = load_model(tmp_path / "run" / "model")
    assert model.card.normalisation == statistics
    assert isinstance(model.network, ResNet)
    assert isinstance(model.card.generator, ResNetSpec)
    assert (model.card.generator.blocks, model.card.generator.norm) == (1, norm)


def test_bf16_and_reverse_train(data: Path, tmp_path: Path, small: Small) -> None:
    recipe = small("training.precision=bf16-mixed", "data.direction=reverse")
    train(recipe, data, tmp_path / "run", quiet=True)
    model = load_model(tmp_path / "run" / "model")
    assert model.card.direction == "reverse"
    assert next(model.network.parameters()).dtype == torch.float32


def test_fine_tuning_starts_from_the_model_and_can_freeze_its_encoder(
    data: Path, tmp_path: Path, small: Small
) -> None:
    train(small("training.max_steps=2"), data, tmp_path / "first", quiet=True)
    first = load_model(tmp_path / "first" / "model").network
    init = f"training.init={tmp_path / 'first' / 'model'}"
    recipe = small(init, "training.freeze_encoder=true", "training.max_steps=2")
    train(recipe, data, tmp_path / "second", quiet=True)
    second = load_model(tmp_path / "second" / "model").network
    assert isinstance(first, UNet)
    assert isinstance(second, UNet)
    for a, b in zip(first.encoder.parameters(), second.encoder.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(
        next(first.decoder.parameters()).detach(), next(second.decoder.parameters()).detach()
    )
    with pytest.raises(UsageError, match="is not the recipe's"):
        train(small(init, "generator.base_channels=8"), data, tmp_path / "third", quiet=True)


def test_a_share_of_the_weights_begun_with_is_kept(
    data: Path, tmp_path: Path, small: Small
) -> None:
    def weights(folder: Path) -> torch.Tensor:
        return next(load_model(folder).network.parameters()).detach()

    train(small("training.max_steps=2"), data, tmp_path / "first", quiet=True)
    init = f"training.init={tmp_path / 'first' / 'model'}"
    for share in (0.0, 0.75):
        recipe = small(init, f"training.init_share={share}", "training.max_steps=3")
        train(recipe, data, tmp_path / f"{share}", quiet=True)
    begun, learned = weights(tmp_path / "first" / "model"), weights(tmp_path / "0.0" / "model")
    assert not torch.equal(begun, learned)
    kept = weights(tmp_path / "0.75" / "model")
    torch.testing.assert_close(kept, 0.75 * begun + 0.25 * learned)


def test_statistics_begun_with_are_kept(data: Path, tmp_path: Path, small: Small) -> None:
    train(small("training.max_steps=2"), data, tmp_path / "first", quiet=True)
    first = tmp_path / "first" / "model"
    settings = (f"training.init={first}", "training.keep_statistics=true", "training.max_steps=2")
    train(small(*settings), data, tmp_path / "second", quiet=True)
    begun, learned = (load_model(tmp_path / run / "model") for run in ("first", "second"))
    pairs = zip(begun.network.named_buffers(), learned.network.named_buffers(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)
    assert not torch.equal(
        next(begun.network.parameters()).detach(), next(learned.network.parameters()).detach()
    )
    assert learned.card.normalisation == "as in the model that training began with"


def test_the_ground_resolution_is_that_after_resizing(
    data: Path, tmp_path: Path, small: Small
) -> None:
    recipe = small("training.max_steps=1", "data.resolution_m=1.0")
    train(recipe, data, tmp_path / "run", quiet=True)
    assert load_model(tmp_path / "run" / "model").card.resolution_m == (24 / 20, 24 / 20)


def test_images_too_small_for_the_crop_and_a_missing_split_are_told(
    data: Path, tmp_path: Path, small: Small
) -> None:
    with pytest.raises(DataError, match="too small to crop 32"):
        train(small("data.resize=none", "data.size=32"), data, tmp_path / "run", quiet=True)
    with pytest.raises(DataError, match="has no folder 'train'"):
        train(small(), data / "val", tmp_path / "run", quiet=True)


def test_statistics_of_the_finished_model_are_re_estimated(
    data: Path, tmp_path: Path, small: Small
) -> None:
    """Deterministic prediction is near the image's-own-statistics one, dropout off."""
    from sat2map.networks.normalisation import in_published_mode

    train(small("training.epochs=8"), data, tmp_path / "run", quiet=True)
    fixed = load_model(tmp_path / "run" / "model").network
    raw = torch.load(checkpoints(tmp_path / "run" / "checkpoints")[-1], weights_only=True)
    averaged = load_model(tmp_path / "run" / "model").network
    averaged.load_state_dict(raw["modules"]["generator"])
    random = np.random.default_rng(0)
    source = torch.from_numpy(random.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32))
    names = [name for name, _ in fixed.named_buffers() if name.endswith("running_mean")]
    assert any(not torch.equal(fixed.get_buffer(name), averaged.get_buffer(name)) for name in names)
    with torch.inference_mode():
        own = in_published_mode(fixed)(source)
    assert own.isfinite().all()


def test_compile_gives_the_same_losses(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    train(small("training.compile=true", "training.max_steps=2"), data, tmp_path / "a", quiet=True)
    assert [type(module).__name__ for module in compiled] == ["ImageAndLogits", "PatchGAN"]
    train(small("training.max_steps=2"), data, tmp_path / "b", quiet=True)
    assert same(
        load_file(tmp_path / "a" / "model" / "model.safetensors"),
        load_file(tmp_path / "b" / "model" / "model.safetensors"),
    )
