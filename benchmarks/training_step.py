"""One training step of Pix2Pix 256: sat2map's loop body beside a plain eager loop.

Both train the same published networks on the same random batches. The plain loop is what the
common implementations do: contiguous tensors, Adam as torch has it by default, and the
gradients of the discriminator's weights computed in the generator's update too. The two run
in turn, in one process; the ratio is taken pair by pair.

    python benchmarks/training_step.py [--batches 1 4] [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.unet import UNet
from sat2map.recipe import Recipe, load_recipe
from sat2map.training import setup
from sat2map.training.batches import Batch
from sat2map.training.updates import update

Step = Callable[[torch.Tensor, torch.Tensor], None]


def plain_loop() -> Step:
    """Return the step of the plain eager loop."""
    generator, discriminator = UNet(), PatchGAN()
    g_optimiser = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    d_optimiser = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))

    def step(source: torch.Tensor, target: torch.Tensor) -> None:
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


def our_loop(recipe: Recipe) -> Step:
    """Return the step of sat2map's training loop for a recipe."""
    fabric = Fabric(accelerator="auto", devices=1)
    players = setup.set_up(fabric, recipe, UNet(), PatchGAN())

    def step(source: torch.Tensor, target: torch.Tensor) -> None:
        if recipe.training.channels_last:
            source = source.contiguous(memory_format=torch.channels_last)
            target = target.contiguous(memory_format=torch.channels_last)
        update(fabric, players, recipe.objective, Batch(source, target))

    return step


def compare(batch: int, repeats: int) -> dict[str, object]:
    """Time both loops in turn and return seconds per picture and their ratio."""
    memory = "true" if batch > 1 else "false"
    recipe = load_recipe("pix2pix", [f"training.batch={batch}", f"training.channels_last={memory}"])
    loops = {"plain at batch 1": (plain_loop(), 1), "sat2map": (our_loop(recipe), batch)}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(repeats + 1):
        for name, (step, size) in loops.items():
            source, target = torch.rand(2, size, 3, 256, 256) * 2 - 1
            begun = time.perf_counter()
            step(source, target)
            if repeat > 0:  # the first one warms up
                seconds[name].append((time.perf_counter() - begun) / size)
    plain, ours = seconds.values()
    return {
        "batch": batch,
        "seconds_per_picture": {name: spread(values) for name, values in seconds.items()},
        "speedup": spread([a / b for a, b in zip(plain, ours, strict=True)]),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [compare(batch, arguments.repeats) for batch in arguments.batches]
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if arguments.json:
        print(json.dumps({"machine": machine, "torch": torch.__version__, "rows": rows}, indent=2))
        return
    print(f"{machine}, torch {torch.__version__}; times the plain loop's pictures per second")
    print("batch   speed-up: min  median     max")
    for row in rows:
        ratio = row["speedup"]
        assert isinstance(ratio, dict)
        print(f"{row['batch']:5}   {ratio['min']:13.2f} {ratio['median']:7.2f} {ratio['max']:7.2f}")
    print(f"peak memory of this process, both loops: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
