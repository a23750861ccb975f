"""FID, KID and LPIPS, whose networks' weights are fetched on first use.

They come through torchmetrics and stand behind the extra `perceptual`. Published numbers of
the `maps` set are FID; it says how alike two sets of images are, not whether the right
road is in the right place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sat2map.errors import DataError, MissingExtraError, ModelError

Pixels = NDArray[np.uint8]
Images = Iterable[tuple[Pixels, Pixels]]

EXTRA = "perceptual"
KID_SUBSET = 1000


@dataclass(frozen=True)
class Perceptual:
    """The perceptual metrics of a set of images.

    Attributes:
        fid: Fréchet distance of Inception features, at least 0; biased upwards for few
            images, so compare only values over equally many.
        kid: Kernel distance of the same features, unbiased, around 0 for alike sets.
        lpips: Mean distance of VGG features of each pair, at least 0.
        images: How many pairs there were.
    """

    fid: float
    kid: float
    lpips: float
    images: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types; the number of images is called "pictures"."""
        entries = asdict(self)
        return entries | {"pictures": entries.pop("images")}


def measure(
    images: Images,
    *,
    features: nn.Module | None = None,
    distance: nn.Module | None = None,
    device: torch.device | str = "cpu",
) -> Perceptual:
    """Return FID, KID and LPIPS in one pass over the images.

    Args:
        images: Pairs of a generated and a true image, uint8 [H,W,3] each.
        features: Maps uint8 [N,3,H,W] to features [N,F]; None is the Inception network of
            the published FID with its 2048 features.
        distance: Maps two images, float [N,3,H,W] in [-1,1] each, to distances [N]; None
            is the VGG network of LPIPS.
        device: Where the networks run.

    Raises:
        MissingExtraError: A package of the extra `perceptual` is not installed.
        ModelError: The weights cannot be fetched.
        DataError: There are fewer than two images, or some that have not three bands.
    """
    shared = _Remembered(_inception() if features is None else features)
    fid_metric, kid_metric = _fid(shared, device), _kid(shared, device)
    compare = (_vgg() if distance is None else distance).to(device)
    distances: list[float] = []
    for generated, true in _tensors(images, device):
        for metric in (fid_metric, kid_metric):
            metric.update(true, real=True)
        for metric in (fid_metric, kid_metric):
            metric.update(generated, real=False)
        distances.append(_distance(compare, generated, true))
    return Perceptual(
        _compute_fid(fid_metric, len(distances)),
        _compute_kid(kid_metric, len(distances)),
        math.fsum(distances) / len(distances),
        len(distances),
    )


def fid(
    images: Images, *, features: nn.Module | None = None, device: torch.device | str = "cpu"
) -> float:
    """Return the Fréchet Inception distance (Heusel et al. 2017, arXiv 1706.08500).

    Arguments and errors are those of `measure`.
    """
    metric = _fid(_inception() if features is None else features, device)
    return _compute_fid(metric, _update(metric, images, device))


def kid(
    images: Images, *, features: nn.Module | None = None, device: torch.device | str = "cpu"
) -> float:
    """Return the kernel Inception distance (Bińkowski et al. 2018, arXiv 1801.01401).

    The mean over 100 subsets of 1000 images, or of all where there are fewer, drawn with
    a fixed seed. Arguments and errors are those of `measure`.
    """
    metric = _kid(_inception() if features is None else features, device)
    return _compute_kid(metric, _update(metric, images, device))


def lpips(
    images: Images, *, distance: nn.Module | None = None, device: torch.device | str = "cpu"
) -> float:
    """Return the mean LPIPS distance, VGG (Zhang et al. 2018, arXiv 1801.03924).

    Arguments and errors are those of `measure`; one image is enough.
    """
    compare = (_vgg() if distance is None else distance).to(device)
    distances = [_distance(compare, *pair) for pair in _tensors(images, device)]
    _need(len(distances), 1)
    return math.fsum(distances) / len(distances)


class _Remembered(nn.Module):
    """A network that is run once where the same tensor is given several times in a row."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._last: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self._last is None or self._last[0] is not images:
            self._last = (images, self.network(images))
        return self._last[1]


def _inception() -> nn.Module:
    require_extra()
    with _loading("Inception", "torch-fidelity"):
        from torchmetrics.image.fid import NoTrainInceptionV3

        # Without antialiasing it resizes to 299 as the network of the published numbers does.
        network: nn.Module = NoTrainInceptionV3("inception-v3-compat", ["2048"], antialias=False)
    return network


def _vgg() -> nn.Module:
    _require("torchmetrics", "torchvision")
    with _loading("LPIPS", "torchvision"):
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network: nn.Module = LearnedPerceptualImagePatchSimilarity("vgg").net
    return network


def _fid(features: nn.Module, device: torch.device | str) -> Any:
    _require("torchmetrics")
    from torchmetrics.image.fid import FrechetInceptionDistance

    # It tries the features on random images to count them.
    with _seeded():
        return FrechetInceptionDistance(features.eval()).to(device)


def _kid(features: nn.Module, device: torch.device | str) -> Any:
    _require("torchmetrics")
    from torchmetrics.image.kid import KernelInceptionDistance

    # It warns that it keeps the features, which are 8 kB an image.
    return KernelInceptionDistance(features.eval(), subset_size=KID_SUBSET).to(device)


def _update(metric: Any, images: Images, device: torch.device | str) -> int:
    count = 0
    for generated, true in _tensors(images, device):
        metric.update(true, real=True)
        metric.update(generated, real=False)
        count += 1
    return count


def _compute_fid(metric: Any, count: int) -> float:
    _need(count, 2)
    return max(0.0, float(metric.compute()))  # rounding can leave equal sets just below 0


def _compute_kid(metric: Any, count: int) -> float:
    _need(count, 2)
    metric.subset_size = min(KID_SUBSET, count)
    with _seeded():
        return float(metric.compute()[0])


def _distance(network: nn.Module, generated: Tensor, true: Tensor) -> float:
    with torch.inference_mode():
        return float(network(generated / 127.5 - 1, true / 127.5 - 1).mean())


def _tensors(images: Images, device: torch.device | str) -> Iterator[tuple[Tensor, Tensor]]:
    for pair in images:
        if any(image.shape[2] != 3 for image in pair):
            raise DataError(
                f"perceptual metrics need three bands, not {pair[1].shape[2]}",
                remedy="Evaluate without them.",
            )
        generated, true = (
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device)
            for image in pair
        )
        yield generated, true


def _need(count: int, least: int) -> None:
    if count < least:
        raise DataError(
            f"this metric needs at least {least} images, not {count}",
            remedy="Evaluate more images.",
        )


def require_extra() -> None:
    """Say what is not installed, before any work is done.

    Raises:
        MissingExtraError: A package of the extra `perceptual` is not installed.
    """
    _require("torchmetrics", "torch_fidelity", "torchvision")


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), EXTRA)


@contextmanager
def _loading(network: str, package: str) -> Iterator[None]:
    """Say what is missing where a package cannot be imported or weights cannot be fetched."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(error.name or package, EXTRA) from error
    except OSError as error:
        raise ModelError(
            f"the weights of the {network} network cannot be fetched ({error})",
            remedy="Connect to the internet, or evaluate without perceptual metrics.",
        ) from error


@contextmanager
def _seeded() -> Iterator[None]:
    """Let random numbers be the same each time, and the caller's as if none were drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
