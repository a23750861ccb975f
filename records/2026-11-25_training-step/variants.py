"""What else was tried for the training step on a CPU, each beside the step as it is.

    OMP_NUM_THREADS=1 python records/2026-11-25_training-step/variants.py

Processor's time, minimum / median / maximum of the ratios of five interleaved repeats; above 1
the variant would be faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.unet import UNet

torch.manual_seed(0)
source, real, generated = torch.rand(3, 1, 3, 256, 256)


def seconds(work: Callable[[], object]) -> float:
    """Return how long the processor worked."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def beside(name: str, plain: Callable[[], object], variant: Callable[[], object]) -> None:
    """Print the ratios of two pieces of work, done in turn."""
    plain(), variant()
    ratios = [seconds(plain) / seconds(variant) for _ in range(5)]
    low, high = min(ratios), max(ratios)
    print(f"{name}: {low:.2f} / {statistics.median(ratios):.2f} / {high:.2f}", flush=True)


# Real and generated pairs in one pass. Without norms, whose statistics would have to stay
# apart: that makes this the most that could be gained.
judge = PatchGAN(norm="none")


def learn(*decisions: Tensor) -> None:
    """Pass gradients back."""
    torch.autograd.backward(sum((d.square().mean() for d in decisions), torch.zeros(())))


beside(
    "real and generated in one pass of the discriminator",
    lambda: learn(judge(source, real), judge(source, generated)),
    lambda: learn(judge(source.expand(2, -1, -1, -1), torch.cat([real, generated]))),
)

# Denormal numbers flushed to zero.
network = UNet()


def translate(flush: bool) -> None:
    """Learn from one picture."""
    torch.set_flush_denormal(flush)
    learn(network(source))


beside("denormals flushed to zero", lambda: translate(False), lambda: translate(True))

# Adam: what fusing gives, for the generator's parameters.
parameters = [torch.nn.Parameter(torch.randn_like(p)) for p in network.parameters()]
for parameter in parameters:
    parameter.grad = torch.randn_like(parameter)
default = torch.optim.Adam(parameters, 2e-4, (0.5, 0.999))
fused = torch.optim.Adam(parameters, 2e-4, (0.5, 0.999), fused=True)
beside("fused Adam", default.step, fused.step)
