"""One training step of Pix2Pix 256: sat2map's loop body beside a plain eager loop.

Both train the same published networks. The plain loop is what the common implementations do:
torch's own layers, contiguous tensors in f32, batch 1, Adam as torch has it by default, and the
gradients of the discriminator's weights computed in the generator's update too. The two run in
turn, in one process; the ratio is taken pair by pair. Beside the ratio of the time that passed
stands that of the processor's time, which other work on the machine disturbs less.

    python benchmarks/training_step.py [--batches 1 4] [--repeats 5] [--set KEY=VALUE] [--json]

On CUDA, `--goals` times the recipe `fast` as it trains, crops and all, and prints beside the
plain loop what the project aims at on one H200: the published schedule of 219,200 steps in at
most 10 minutes, ten times the plain loop, 1,500 images per second at batch 16.

    python benchmarks/training_step.py --goals [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sat2map.data.cache import DecodedPairs
from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.unet import UNet
from sat2map.recipe import Recipe, load_recipe
from sat2map.training import setup
from sat2map.training.batches import Batch, Batches
from sat2map.training.cuda_graph import RecordedStep
from sat2map.training.distributed import launch
from sat2map.training.schedule import Plan
from sat2map.training.updates import update

PUBLISHED_STEPS = 219_200
Take = Callable[[], object]


def with_torch_layers(network: nn.Module) -> nn.Module:
    """Return a network whose convolutions are torch's own, as those of other implementations."""
    for layer in network.modules():
        for kind in (nn.Conv2d, nn.ConvTranspose2d):
            if isinstance(layer, kind):
                layer.__class__ = kind
    return network


def plain_loop(device: torch.device) -> Take:
    """Return a step of the plain eager loop at batch 1, on random images."""
    generator, discriminator = with_torch_layers(UNet()).to(device), PatchGAN().to(device)
    g_optimiser = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    d_optimiser = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    source, target = torch.rand(2, 1, 3, 256, 256, device=device) * 2 - 1

    def step() -> None:
        generated = generator(source)
        real = discriminator(source, target)
        false = discriminator(source, generated.detach())
        d_loss = (
            F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            + F.binary_cross_entropy_with_logits(false, torch.zeros_like(false))
        ) * 0.5
        d_optimiser.zero_grad()
        torch.autograd.backward(d_loss)
        d_optimiser.step()
        judged = discriminator(source, generated)
        adversarial = F.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))
        g_optimiser.zero_grad()
        torch.autograd.backward(adversarial + 100 * F.l1_loss(generated, target))
        g_optimiser.step()

    return step


def our_loop(recipe: Recipe) -> Take:
    """Return a step of sat2map's loop for a recipe, on random images."""
    fabric = launch(recipe)
    players = setup.set_up(fabric, recipe, UNet(), PatchGAN())
    images = torch.rand(2, recipe.training.batch, 3, 256, 256) * 2 - 1
    memory = torch.channels_last if recipe.training.channels_last else torch.contiguous_format
    source, target = (side.to(fabric.device, memory_format=memory) for side in images)
    return lambda: update(fabric, players, recipe.objective, Batch(source, target))


def fast_loop(recipe: Recipe) -> Take:
    """Return a step of sat2map's loop on CUDA: windows of pairs on the device, recorded."""
    recipe = setup.accelerated(recipe)
    fabric = launch(recipe)
    pixels = np.random.default_rng(0).integers(0, 255, (256, 286, 286, 6), np.uint8)
    pairs = DecodedPairs(pixels, 3, (286, 286), tuple(map(str, range(len(pixels)))), "")
    plan = Plan(recipe, len(pairs))
    batches = Batches(recipe, plan, [pairs], None, 0, fabric.device)
    players = setup.set_up(fabric, recipe, UNet(), PatchGAN())
    optimisers = [players.generator_optimiser, players.discriminator_optimiser]
    recorded = RecordedStep(
        lambda windows: update(fabric, players, recipe.objective, batches.from_windows(windows)),
        [optimiser for optimiser in optimisers if optimiser is not None],
        fabric.device,
        batches.windows(0),
    )
    numbers = iter(range(sys.maxsize))

    def step() -> None:
        number = next(numbers)
        recorded(batches.windows(number), plan.learning_rate(number))

    return step


def timed(take: Take, steps: int) -> tuple[float, float]:
    """Return the seconds that steps took each, by the clock and of the processor."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun, worked = time.perf_counter(), time.process_time()
    for _ in range(steps):
        take()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps, (time.process_time() - worked) / steps


def compare(batch: int, repeats: int, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return what `race` does for the recipe `pix2pix`, on random images."""
    recipe = load_recipe("pix2pix", [f"training.batch={batch}", *settings])
    return race(our_loop(recipe), batch, repeats)


def compare_fast(batch: int, repeats: int, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return what `race` does for the recipe `fast` on CUDA, with its crops."""
    recipe = load_recipe("fast", [f"training.batch={batch}", *settings])
    return race(fast_loop(recipe), batch, repeats)


def race(ours: Take, batch: int, repeats: int) -> dict[str, Any]:
    """Time a loop and the plain one in turn.

    Returns:
        Minimum, median and maximum of steps per second, and of the ratios of images per
        second by the clock and of the processor's time.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps, warm_up = (100, 20) if device.type == "cuda" else (1, 1)
    plain = plain_loop(device)
    for take in (plain, ours):
        timed(take, warm_up)
    pairs = [(timed(plain, steps), timed(ours, steps)) for _ in range(repeats)]
    return {
        "batch": batch,
        "plain_steps_per_second": spread([1 / a[0] for a, _ in pairs]),
        "steps_per_second": spread([1 / b[0] for _, b in pairs]),
        "speedup": spread([a[0] / b[0] * batch for a, b in pairs]),
        "processor_speedup": spread([a[1] / b[1] * batch for a, b in pairs]),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def in_words(values: dict[str, float], digits: int = 2) -> str:
    """Return minimum / median / maximum."""
    return " / ".join(f"{values[name]:.{digits}f}" for name in ("min", "median", "max"))


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--goals", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.goals and not torch.cuda.is_available():
        parser.error("--goals needs CUDA, and there is none")
    batches = [1, 16] if arguments.goals else arguments.batches
    take = compare_fast if arguments.goals else compare
    rows = [take(batch, arguments.repeats, arguments.settings) for batch in batches]
    report(rows, arguments.goals, arguments.json)


def report(rows: list[dict[str, Any]], goals: bool, as_json: bool) -> None:
    """Print what was measured."""
    machine = f"{processor()}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine = f"{torch.cuda.get_device_name()}; {machine}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if as_json:
        facts = {"machine": machine, "torch": torch.__version__, "peak_mib": peak, "rows": rows}
        print(json.dumps(facts, indent=2))
        return
    print(f"{machine}, torch {torch.__version__}; minimum / median / maximum")
    print("images per second, times those of the plain loop at batch 1:")
    print("batch   by the clock          of the processor's time")
    for row in rows:
        by_clock, worked = in_words(row["speedup"]), in_words(row["processor_speedup"])
        print(f"{row['batch']:5}   {by_clock:22}{worked}")
    if goals:
        one, sixteen = rows
        minutes = PUBLISHED_STEPS / one["steps_per_second"]["median"] / 60
        images = 16 * sixteen["steps_per_second"]["median"]
        print(f"steps per second at batch 1: {in_words(one['steps_per_second'], 1)}")
        print(f"published schedule, goal 10 minutes: {minutes:.1f} minutes")
        print(f"times the plain loop, goal 10: {one['speedup']['median']:.1f}")
        print(f"images per second at batch 16, goal 1500: {images:.0f}")
    print(f"peak memory of this process, both loops: {peak:.0f} MiB")


def processor() -> str:
    """Return what the processor is called."""
    names = Path("/proc/cpuinfo")
    for line in names.read_text(encoding="utf-8").splitlines() if names.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
