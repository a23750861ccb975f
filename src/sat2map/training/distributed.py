"""One process, or several that train together, each on a device and pairs of its own.

`torchrun` starts several. They hold the same networks: gradients are averaged over them before
each update (Fabric's `DDPStrategy`), and on CUDA batch norm sees the images of all of them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from sat2map.errors import Sat2mapError, UsageError
from sat2map.recipe import Recipe

PATIENCE = timedelta(hours=6)
"""How long the other processes wait while the main one decodes, validates or saves."""


def launch(recipe: Recipe) -> Fabric:
    """Return Fabric on the device, or the processes of `torchrun`, that there are.

    Raises:
        UsageError: There are fewer GPUs than processes on a machine.
    """
    precision: Any = "bf16-mixed" if recipe.training.precision == "bf16-mixed" else "32-true"
    if not TorchElasticEnvironment.detect():
        return Fabric(accelerator="auto", devices=1, precision=precision)
    here, everywhere = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    gpus = torch.cuda.device_count()
    if 0 < gpus < here:
        raise UsageError(
            f"{here} processes, but {gpus} GPU{'s' if gpus > 1 else ''}",
            where="torchrun",
            remedy=f"Ask for --nproc-per-node {gpus}, or hide the GPUs: CUDA_VISIBLE_DEVICES=''.",
        )
    fabric = Fabric(
        accelerator="cuda" if gpus else "cpu",
        devices=here,
        num_nodes=everywhere // here,
        # Running statistics are the main process's; sent at each pass, they would be changed
        # between the two passes of the discriminator that one gradient needs.
        strategy=DDPStrategy(broadcast_buffers=False, timeout=PATIENCE),
        precision=precision,
    )
    fabric.launch()
    return fabric


@contextmanager
def one_voice(fabric: Fabric) -> Iterator[None]:
    """Within, only the main process tells of an error; others end quietly, with its code."""
    try:
        yield
    except Sat2mapError as error:
        if fabric.is_global_zero:
            raise
        raise SystemExit(error.exit_code) from None


@contextmanager
def main_first(fabric: Fabric) -> Iterator[None]:
    """Within, the main process goes first; where it fails, the others end without trying."""
    if fabric.world_size == 1:
        yield
    elif fabric.is_global_zero:
        code = 1
        try:
            yield
            code = 0
        except Sat2mapError as error:
            code = error.exit_code
            raise
        finally:
            fabric.broadcast(code)
    else:
        failed = fabric.broadcast(0)
        if failed:
            raise SystemExit(failed)
        yield


def agreed(fabric: Fabric, asked: bool, done: int, every: int) -> bool:
    """Return whether any process was asked to stop.

    Args:
        fabric: Knows the processes.
        asked: Whether this process was.
        done: How many steps are done.
        every: On CUDA, where asking waits for the device, steps between two questions.
    """
    if fabric.world_size == 1:
        return asked
    if fabric.device.type == "cuda" and done % every:
        return False
    number = torch.tensor(int(asked), device=fabric.device)
    return bool(fabric.all_reduce(number, reduce_op="max"))


def random_states(fabric: Fabric) -> list[dict[str, Any]]:
    """Return the random state of each process, which dropout draws from."""
    cuda = fabric.device.type == "cuda"
    mine = {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(fabric.device)] if cuda else [],
    }
    if fabric.world_size == 1:
        return [mine]
    states: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(states, mine)
    return states


def with_common_statistics(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Return the network with batch norm over the images of all processes.

    The one returned has the same parameters and buffers, not copies of them. Without CUDA, or
    with one process, it is the network itself.
    """
    if fabric.world_size == 1 or fabric.device.type != "cuda":
        return network
    kept: dict[int, Any] = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    shared = copy.deepcopy(network, kept)
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(shared)  # type: ignore[no-untyped-call]
    return converted
