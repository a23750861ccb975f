"""Several processes: the same gradients, other pairs, one that writes, resume, interrupts.

They are started as a user would, by torchrun, on two CPU processes.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sat2map.networks.unet import UNet
from sat2map.recipe import Recipe
from sat2map.training.checkpoint import checkpoints
from sat2map.training.distributed import with_common_statistics
from sat2map.training.loop import train
from sat2map.training.schedule import Plan

Small = Callable[..., Recipe]
NOTHING_RANDOM = (
    "data.resize=none",
    "data.flip=false",
    "generator.norm=none",
    "generator.dropout=0.0",
    "discriminator.norm=none",
)
"""With images of the size of the crops, a step is then a function of its pairs."""

STOPS = """
import os, signal, sys
from sat2map.training.monitor import Monitor
shown = Monitor.step
def step(self, done):
    shown(self, done)
    if done == 2:
        os.kill(os.getpid(), signal.SIGTERM)
Monitor.step = step
from sat2map.cli.app import main
sys.argv[0] = "sat2map"
main()
"""


def torchrun(*command: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
            *command,
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def last(run: Path) -> dict[str, object]:
    content: dict[str, object] = torch.load(checkpoints(run / "checkpoints")[-1], weights_only=True)
    return content


def weights(run: Path) -> dict[str, torch.Tensor]:
    modules = last(run)["modules"]
    assert isinstance(modules, dict)
    return {f"{a}.{b}": value for a, state in modules.items() for b, value in state.items()}


@pytest.fixture
def exact(tmp_path: Path) -> Path:
    """Six training and two validation pairs of 16 x 16 pixels."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        (tmp_path / "exact" / split).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 255, (16, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "exact" / split / f"{number}.png")
    return tmp_path / "exact"


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_with_the_double_batch(
    exact: Path, tmp_path: Path, small: Small
) -> None:
    recipe = small(*NOTHING_RANDOM, "training.epochs=2")
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    one, two = tmp_path / "one", tmp_path / "two"
    train(small(*NOTHING_RANDOM, "training.epochs=2", "training.batch=2"), exact, one, quiet=True)
    done = torchrun(
        *("-m", "sat2map", "train", "--recipe", str(tmp_path / "recipe.toml")),
        *("--data", str(exact), "--out", str(two)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(two / "model")] * 2
    for (name, value), other in zip(weights(two).items(), weights(one).values(), strict=True):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=1e-4, msg=name)
    with (two / "losses.csv").open() as file, (one / "losses.csv").open() as other_file:
        for line, expected in zip(csv.DictReader(file), csv.DictReader(other_file), strict=True):
            assert line["step"] == expected["step"]
            for loss in ("discriminator", "generator_adversarial", "l1"):
                assert float(line[loss]) == pytest.approx(float(expected[loss]), rel=1e-3)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert len(list((two / "tensorboard").iterdir())) == 1
    assert done.stderr.count("epoch 2, step 6: ") == 1


@pytest.mark.slow
def test_an_interrupt_of_one_process_stops_both_and_resuming_ends_in_the_same_bits(
    data: Path, tmp_path: Path, small: Small
) -> None:
    """With dropout and batch norm: each process goes on with random numbers of its own."""
    (tmp_path / "recipe.toml").write_text(small("training.epochs=2").to_toml())
    (tmp_path / "stops.py").write_text(STOPS)
    given = ["train", "--quiet", "--recipe", str(tmp_path / "recipe.toml"), "--data", str(data)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert torchrun("-m", "sat2map", *given, "--out", str(whole)).returncode == 0

    stopped = torchrun(str(tmp_path / "stops.py"), *given, "--out", str(broken))
    assert stopped.returncode != 0
    assert stopped.stderr.count("error: ") == 1
    assert "stopped at step 2 of 6 as asked; the state is saved" in stopped.stderr
    # The process that got the signal ends with its number, the other as after Ctrl-C.
    ended = set(re.findall(r"exitcode  : (-?\d+)", stopped.stderr))
    assert ended & {str(128 + signal.SIGTERM), str(128 + signal.SIGINT)}
    assert last(broken)["step"] == 2

    alone = tmp_path / "alone"
    alone.mkdir()
    single = subprocess.run(
        [sys.executable, "-m", "sat2map", *given, "--out", str(broken), "--resume"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "was trained by 2 processes, but now there are 1" in single.stderr

    again = torchrun("-m", "sat2map", *given, "--out", str(broken), "--resume")
    assert again.returncode == 0, again.stderr
    random = last(broken)["random"]
    assert isinstance(random, list)
    assert not torch.equal(random[0]["cpu"], random[1]["cpu"])
    for (name, value), other in zip(weights(broken).items(), weights(whole).values(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "told"), [(1, "1.png"), (4, "has 6 pairs, too few for 2 processes with 4 each")]
)
def test_what_is_refused_is_told_once(
    data: Path, tmp_path: Path, small: Small, batch: int, told: str
) -> None:
    (tmp_path / "recipe.toml").write_text(small(f"training.batch={batch}").to_toml())
    if batch == 1:
        (data / "train" / "1.png").write_text("no image")
    done = torchrun(
        *("-m", "sat2map", "train", "--recipe", str(tmp_path / "recipe.toml")),
        *("--data", str(data), "--out", str(tmp_path / "run")),
    )
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert told in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("pairs", "batch", "processes"), [(12, 2, 3), (13, 1, 4), (20, 3, 2)])
def test_processes_share_the_pairs_of_an_epoch(
    small: Small, pairs: int, batch: int, processes: int
) -> None:
    recipe = small(f"training.batch={batch}")
    plans = [Plan(recipe, pairs, processes, rank) for rank in range(processes)]
    together = Plan(small(f"training.batch={batch * processes}"), pairs)
    assert plans[0].steps == together.steps
    for step in range(2 * plans[0].steps_per_epoch):
        parts = [plan.batch(step) for plan in plans]
        assert torch.equal(torch.cat(parts), together.batch(step))
    epoch = [plan.batch(s) for s in range(plans[0].steps_per_epoch) for plan in plans]
    seen = torch.cat(epoch).tolist()
    assert len(seen) == len(set(seen)) == pairs // (batch * processes) * batch * processes


def test_processes_cut_other_crops(small: Small) -> None:
    states = [Plan(small(), 8, 2, rank).crops(3).get_state() for rank in (0, 1)]
    assert not torch.equal(*states)
    assert torch.equal(states[0], Plan(small(), 8).crops(3).get_state())


def test_common_statistics_are_of_the_same_parameters_and_buffers() -> None:
    network = UNet(size=16, base_channels=4)
    fabric = SimpleNamespace(world_size=2, device=torch.device("cuda"))
    common = with_common_statistics(network, fabric)  # type: ignore[arg-type]
    kinds = [type(module) for module in common.modules()]
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert nn.SyncBatchNorm not in [type(module) for module in network.modules()]
    for mine, other in (
        (network.parameters(), common.parameters()),
        (network.buffers(), common.buffers()),
    ):
        assert all(a is b for a, b in zip(mine, other, strict=True))
    fabric = SimpleNamespace(world_size=2, device=torch.device("cpu"))
    assert with_common_statistics(network, fabric) is network  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_batch_norm_sees_the_images_of_all_gpus(exact: Path, tmp_path: Path, small: Small) -> None:
    settings = ("data.resize=none", "data.flip=false", "generator.dropout=0.0", "training.epochs=2")
    (tmp_path / "recipe.toml").write_text(small(*settings).to_toml())
    one, two = tmp_path / "one", tmp_path / "two"
    train(small(*settings, "training.batch=2"), exact, one, quiet=True)
    done = torchrun(
        *("-m", "sat2map", "train", "--recipe", str(tmp_path / "recipe.toml")),
        *("--data", str(exact), "--out", str(two)),
    )
    assert done.returncode == 0, done.stderr
    for (name, value), other in zip(weights(two).items(), weights(one).values(), strict=True):
        torch.testing.assert_close(value, other, atol=1e-3, rtol=1e-2, msg=name)
