"""Fast and plain ways of taking a step agree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sat2map.networks.unet import UNet
from sat2map.recipe import Recipe
from sat2map.training import setup
from sat2map.training.batches import Batches
from sat2map.training.cuda_graph import WARM_UP, RecordedStep, can_record, set_learning_rate
from sat2map.training.data_sets import load_data_sets
from sat2map.training.distributed import launch
from sat2map.training.loop import InterruptedRunError, train
from sat2map.training.monitor import Monitor
from sat2map.training.schedule import Plan
from sat2map.training.updates import LOSSES, Adversaries, follow, update

Small = Callable[..., Recipe]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
LOOKS = pytest.mark.filterwarnings("ignore::UserWarning")
"""Compiled, torch looks for gradients that are not there, and warns of it from wherever it is."""
STILL = ("generator.dropout=0.0", "optimiser.learning_rate=2e-4")
"""Dropout draws other numbers on other paths."""


class Run:
    """Training of tiny networks, without the loop's files."""

    def __init__(self, recipe: Recipe, data: Path) -> None:
        self.recipe = recipe
        self.fabric: Fabric = launch(recipe)
        torch.manual_seed(0)
        material = load_data_sets(recipe, [data], quiet=True)
        self.plan = Plan(recipe, material.count)
        made = material.batches(self.plan, self.fabric.device)
        assert isinstance(made, Batches)
        self.batches = made
        generator, discriminator = (
            setup.generator(recipe, material.card),
            setup.discriminator(recipe, material.card),
        )
        self.players: Adversaries = setup.set_up(self.fabric, recipe, generator, discriminator)
        assert self.players.discriminator_optimiser is not None
        self.optimisers = [self.players.generator_optimiser, self.players.discriminator_optimiser]

    def learn_from(self, windows: Tensor) -> Tensor:
        batch = self.batches.from_windows(windows)
        return update(self.fabric, self.players, self.recipe.objective, batch)

    def losses(self, steps: int) -> Tensor:
        """Return the losses of the first steps, float [steps,losses]."""
        found = []
        for step in range(steps):
            set_learning_rate(self.optimisers, self.plan.learning_rate(step))
            found.append(self.learn_from(self.batches.windows(step).to(self.fabric.device)))
        return torch.stack(found).cpu()

    def recorded_losses(self, steps: int) -> Tensor:
        """Return the same, of steps that are recorded and replayed."""
        assert can_record(self.fabric, self.batches)
        like = self.batches.windows(0)
        take = RecordedStep(self.learn_from, self.optimisers, self.fabric.device, like)
        found = [take(self.batches.windows(s), self.plan.learning_rate(s)) for s in range(steps)]
        return torch.stack(found).cpu()


def assert_alike(fast: Tensor, plain: Tensor, noise: float) -> None:
    """The losses begin alike, and their means over tenths of the run stay within noise."""
    torch.testing.assert_close(fast[:3], plain[:3], atol=noise, rtol=noise)
    tenths = len(fast) // 10
    for begin in range(0, len(fast), tenths):
        a, b = (losses[begin : begin + tenths].mean(0) for losses in (fast, plain))
        torch.testing.assert_close(a, b, atol=2 * noise, rtol=2 * noise)


def test_windows_give_the_batches_of_the_plain_path(data: Path, small: Small) -> None:
    run = Run(small("training.batch=2", "data.flip=true"), data)
    for step in range(6):
        batch, other = (
            run.batches.at(step),
            run.batches.from_windows(run.batches.windows(step).to(run.fabric.device)),
        )
        assert torch.equal(batch.source, other.source)
        assert torch.equal(batch.target, other.target)


def test_weather_and_views_are_no_windows(data: Path, small: Small) -> None:
    assert Run(small(), data).batches.follows_windows
    assert not Run(small("data.weather=0.5"), data).batches.follows_windows
    assert not Run(
        small("data.resize=none", "data.scales=[1.0, 1.0]"), data
    ).batches.follows_windows


def test_a_learning_rate_that_is_a_tensor_updates_alike(data: Path, small: Small) -> None:
    recipe = small(*STILL, "schedule.name=cosine", "training.epochs=3")
    plain, fast = Run(recipe, data), Run(recipe, data)
    for optimiser in fast.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = torch.tensor(group["lr"])
    kept = [group["lr"] for group in fast.optimisers[0].param_groups]
    torch.testing.assert_close(fast.losses(10), plain.losses(10))
    assert all(a is g["lr"] for a, g in zip(kept, fast.optimisers[0].param_groups, strict=True))
    assert float(kept[0]) == pytest.approx(fast.plan.learning_rate(9))


def test_the_moving_average_is_that_of_torch() -> None:
    torch.manual_seed(0)
    generator = UNet(size=16, base_channels=2)
    ours = AveragedModel(generator)
    theirs = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]
    for _ in range(4):
        generator(torch.randn(2, 3, 16, 16))  # moves the running statistics
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.add_(torch.randn_like(parameter))
        follow(ours, generator, 0.9)
        theirs.update_parameters(generator)
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other)


def test_without_cuda_fast_is_pix2pix(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small(recipe="fast")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert setup.accelerated(recipe) == recipe
    for same in ("precision", "channels_last", "compile", "cuda_graphs"):
        assert getattr(recipe.training, same) == getattr(small().training, same)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    turned_on = setup.accelerated(recipe).training
    assert turned_on.precision == "bf16-mixed"
    assert turned_on.channels_last and turned_on.compile and turned_on.cuda_graphs
    views = small("training.accelerate=true", "data.resize=none", "data.scales=[1.0, 1.0]")
    assert not setup.accelerated(views).training.cuda_graphs


@pytest.mark.parametrize(
    ("steps", "fast"),
    [
        (20, ("training.channels_last=true",)),
        pytest.param(500, ("training.channels_last=true",), marks=pytest.mark.slow),
        pytest.param(500, ("training.precision=bf16-mixed",), marks=pytest.mark.slow),
        pytest.param(
            500, ("training.channels_last=true", "training.compile=true"), marks=pytest.mark.slow
        ),
    ],
)
def test_losses_of_fast_and_plain_paths_agree(
    data: Path, small: Small, steps: int, fast: tuple[str, ...]
) -> None:
    plain = Run(small(*STILL, "training.epochs=200"), data).losses(steps)
    quick = Run(small(*STILL, "training.epochs=200", *fast), data).losses(steps)
    assert_alike(quick, plain, 0.05)
    assert not torch.equal(plain[0], plain[-1])


def test_recorded_steps_follow_the_plain_ones_where_cuda_is_played(
    data: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the host does at each step, without CUDA: a graph that takes its step anew."""
    recipe = small(*STILL, "schedule.name=cosine", "training.epochs=4", "training.batch=2")
    plain, fast = Run(recipe, data), Run(recipe, data)
    like = fast.batches.windows(0)
    recording = False
    capturable: list[bool] = []

    def learn(windows: Tensor) -> Tensor:
        if recording:  # recording executes nothing
            return torch.full((len(LOSSES),), float("nan"))
        capturable.append(fast.optimisers[0].param_groups[0]["capturable"])
        return fast.learn_from(windows)

    class Graph:
        def replay(self) -> None:
            take._losses.copy_(learn(take._windows))

    @contextmanager
    def graph(recorded: Graph, stream: object) -> Iterator[None]:
        nonlocal recording
        recording = True
        yield
        recording = False

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda chosen: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    take = RecordedStep(learn, fast.optimisers, torch.device("cpu"), like)
    found = [take(fast.batches.windows(s), fast.plan.learning_rate(s)) for s in range(12)]
    torch.testing.assert_close(torch.stack(found), plain.losses(12))
    # A warning of torch's is due where it is on and nothing is recorded.
    assert capturable == [False] * WARM_UP + [True] * (12 - WARM_UP)


@CUDA
@LOOKS
@pytest.mark.parametrize(
    "fast",
    [
        ("training.cuda_graphs=true",),
        pytest.param(("training.accelerate=true",), marks=pytest.mark.slow),
    ],
)
def test_recorded_steps_agree_with_plain_ones(
    data: Path, small: Small, fast: tuple[str, ...]
) -> None:
    plain = Run(small(*STILL, "training.epochs=200"), data).losses(500)
    recipe = setup.accelerated(small(*STILL, "training.epochs=200", *fast))
    assert_alike(Run(recipe, data).recorded_losses(500), plain, 0.05)


@CUDA
@pytest.mark.parametrize("recorded", [True, False])
def test_a_step_does_not_wait_for_the_device(data: Path, small: Small, recorded: bool) -> None:
    run = Run(small("training.batch=2"), data)
    take = RecordedStep(run.learn_from, run.optimisers, run.fabric.device, run.batches.windows(0))
    for step in range(8):
        take(run.batches.windows(step), 2e-4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(8, 12):
            if recorded:
                take(run.batches.windows(step), 2e-4)
            else:
                update(run.fabric, run.players, run.recipe.objective, run.batches.at(step))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@CUDA
def test_the_data_lie_on_the_device_as_bytes(data: Path, small: Small) -> None:
    pixels = Run(small(), data).batches._pixels
    assert [(part.device.type, part.dtype) for part in pixels] == [("cuda", torch.uint8)]


@CUDA
@LOOKS
def test_fast_trains_and_resumes(
    data: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small("training.epochs=4", "training.ema_decay=0.9", recipe="fast")
    shown, stop = Monitor.step, threading.Event()

    def step_and_stop(self: Monitor, done: int) -> None:
        shown(self, done)
        if done == 11:
            stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", step_and_stop)
        with pytest.raises(InterruptedRunError, match="stopped at step 11 of 24"):
            train(recipe, data, tmp_path / "run", quiet=True, stop=stop)
    train(recipe, data, tmp_path / "run", resume=True, quiet=True)
    assert (tmp_path / "run" / "model" / "model.json").is_file()
