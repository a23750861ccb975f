"""What the convolutions of one Pix2Pix 256 step cost on a CPU, beside a matrix product.

For each layer: how fast its forward pass, the gradient of its input and that of its weights
are, and what they take in one step of the generator and the discriminator; at batch 1 and 4,
contiguous and channels-last. The innermost transposed convolutions are also timed as the
matrix products that training takes them as. Times are the processor's, the best of some.

    OMP_NUM_THREADS=1 python benchmarks/convolutions.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sat2map.networks.convolutions import FEW_PIXELS, DownConvolution, UpConvolution
from sat2map.networks.patchgan import PatchGAN
from sat2map.networks.unet import UNet


@dataclass(frozen=True)
class Layer:
    """A convolution as a step meets it.

    Attributes:
        name: In which network, and where.
        module: The layer.
        side: Of the square that comes in.
        passes: How often a step takes its forward pass, the gradient of its input and that of
            its weights.
    """

    name: str
    module: nn.Conv2d | nn.ConvTranspose2d
    side: int
    passes: tuple[int, int, int]


def layers() -> list[Layer]:
    """Return the convolutions of both networks."""
    found: list[Layer] = []
    for network, source in ((UNet(), (3,)), (PatchGAN(), (3, 3))):
        judges = isinstance(network, PatchGAN)

        def note(
            module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, judges: bool = judges
        ) -> None:
            assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
            first = not any(layer.name.startswith("D" if judges else "G") for layer in found)
            # The discriminator judges real, generated, and generated again for the generator.
            passes = (3, 1 if first else 3, 2) if judges else (1, 0 if first else 1, 1)
            name = f"{'D' if judges else 'G'}{len(found) + 1 - 16 * judges}"
            found.append(Layer(name, module, inputs[0].shape[2], passes))

        hooks = [
            module.register_forward_hook(note)
            for module in network.modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        ]
        network(*(torch.zeros(1, bands, 256, 256) for bands in source))
        for hook in hooks:
            hook.remove()
    return found


def best(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest of the processor's times, in seconds."""
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def product(repeats: int) -> float:
    """Return how fast a matrix product of a layer's size is, in GFLOP/s."""
    a, b = torch.rand(1024, 4096), torch.rand(4096, 512)
    return 2 * 1024 * 4096 * 512 / best(lambda: a @ b, 3 * repeats) / 1e9


def measure(layer: Layer, batch: int, memory: torch.memory_format, repeats: int) -> list[float]:
    """Return the seconds of the forward pass and of the gradients of input and weights."""
    up = isinstance(layer.module, nn.ConvTranspose2d)
    stride = list(layer.module.stride)
    weight = layer.module.weight.detach().contiguous(memory_format=memory)
    x = torch.rand(batch, layer.module.in_channels, layer.side, layer.side)
    x = x.contiguous(memory_format=memory)
    rest = (stride, [1, 1], [1, 1], up, [0, 0], 1)
    y = torch.ops.aten.convolution(x, weight, None, *rest)
    g = torch.rand_like(y)

    def gradient(of_input: bool) -> object:
        wanted = [of_input, not of_input, False]
        return torch.ops.aten.convolution_backward(g, x, weight, None, *rest, wanted)

    return [
        best(lambda: torch.ops.aten.convolution(x, weight, None, *rest), repeats),
        best(lambda: gradient(True), repeats),
        best(lambda: gradient(False), repeats),
    ]


def as_product(layer: Layer, batch: int, repeats: int) -> float | None:
    """Return the seconds of all three as a matrix product, where training takes it."""
    module = layer.module
    known = isinstance(module, DownConvolution | UpConvolution)
    if not known or layer.side**2 > FEW_PIXELS:
        return None
    x = torch.rand(batch, module.in_channels, layer.side, layer.side, requires_grad=True)
    return best(lambda: module.train()(x).sum().backward(), repeats)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for batch, memory in (
        (1, torch.contiguous_format),
        (4, torch.contiguous_format),
        (4, torch.channels_last),
    ):
        fastest = product(repeats)
        print(f"\nbatch {batch}, {memory}; a matrix product: {fastest:.0f} GFLOP/s")
        print("layer   GFLOP/s forward, input, weights    ms per image and step")
        total = bound = 0.0
        for layer in layers():
            module, side = layer.module, layer.side
            up = isinstance(module, nn.ConvTranspose2d)
            pixels = side**2 if up else ((side - 2) // module.stride[0] + 1) ** 2
            work = 2 * batch * module.weight.numel() * pixels / 1e9
            seconds = measure(layer, batch, memory, repeats)
            spent = sum(a * b for a, b in zip(layer.passes, seconds, strict=True)) / batch
            total += spent
            bound += sum(layer.passes) * work / batch / fastest
            rates = " ".join(f"{work / s:8.1f}" for s in seconds)
            other = as_product(layer, batch, repeats)
            note = "" if other is None else f"   as a matrix product {1000 * other / batch:.1f}"
            print(f"{layer.name:6} {rates}        {1000 * spent:8.1f}{note}")
        print(f"all: {total:.2f} s; at the speed of the matrix product: {bound:.2f} s")


if __name__ == "__main__":
    main()
