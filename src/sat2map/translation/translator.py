"""The translator: a model that answers arrays of any size with arrays."""

from __future__ import annotations

import copy
import hashlib
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from sat2map.arguments import checks_arguments
from sat2map.errors import UsageError, expect
from sat2map.legend import COVER
from sat2map.model.card import ModelCard, model_folder
from sat2map.model.familiar import Familiar, read_familiar
from sat2map.provenance import fingerprint_json
from sat2map.raster.options import Mode, mode_of
from sat2map.runtimes.interface import Asked, Precision, Runtime, RuntimeName
from sat2map.runtimes.open import OpenModel, open_model, weights_fingerprint
from sat2map.translation.arrays import check_image, check_window
from sat2map.translation.image_windows import ImageWindows, whole_window
from sat2map.translation.maps import Kind, Layer, Maps, check_layers, pack
from sat2map.translation.samples import Samples, check_can_vote, check_seed
from sat2map.translation.windows import Frame, choose_frame

if TYPE_CHECKING:
    import torch

    from sat2map.model.folder import Model
    from sat2map.runtimes.torch import TorchRuntime

MAX_PUBLISHED_PIXELS = 16_000_000


class Translator:
    """Translates images with one model.

    Threads may call it at once, in either mode: each gets what it would get alone.

    Args:
        model: A network in hand, which torch runs, or what `open_model` returns.
        device: Where a network in hand runs; None picks CUDA, then MPS, then the CPU.

    Attributes:
        card: The model's card.
        name: What people call the model.
        device: Where it runs, as torch calls it.
        runtime: What runs it: torch, openvino or onnx.
        precision: What it computes in: f32, bf16 or int8.
        runtime_version: Which version of it.
        multiple: What the sides of a window must be multiples of.
        at_once: How many canonical windows are best predicted at once, in a thread each.
        legend: The classes of the map, in the colours that they are painted in, or None.
        answers_in_classes: Whether it has a legend head.
        answers_in_cover: Whether it has a head for land cover.
        samples: The passes with dropout that vote for the classes; None where one pass without
            tells them.
        identity: Changes with the network, the legend and the weights, whatever runs them.
    """

    def __repr__(self) -> str:
        """Return its name, and what runs it: <Translator streets, int8 by openvino on cpu>."""
        where = f"{self.precision} by {self.runtime} on {self.device}"
        return f"<Translator {self.name}, {where}>"

    def __init__(self, model: Model | OpenModel, device: torch.device | str | None = None) -> None:
        self.card: ModelCard = model.card
        self.name = model.name
        self._model = model
        self._torch: TorchRuntime | None = None
        self._torch_lock = threading.Lock()  # another runtime's model is loaded once for it
        self._runtime: Runtime
        if isinstance(model, OpenModel):
            self._runtime = model.runtime
        else:
            from sat2map.runtimes.torch import TorchRuntime

            self._runtime = self._torch = TorchRuntime(model.network, device)
        self.device = self._runtime.device
        self.precision = self._runtime.precision
        self.runtime: RuntimeName = self._runtime.name
        self.runtime_version = self._runtime.version
        self.multiple = self._runtime.multiple
        self.at_once = self._runtime.at_once
        self.legend = self.card.legend
        has_classes = "probabilities" in self._runtime.outputs and self.legend is not None
        self.answers_in_classes = has_classes
        self.answers_in_cover = has_classes and "cover" in self._runtime.outputs
        self.samples: Samples | None = None

    @property
    def kind(self) -> Kind:
        """The outputs of the model; see `Kind`."""
        told = self.card.temperatures or {}
        if self.samples:
            return Kind(self.answers_in_classes, False, self.legend, votes=self.samples.count)
        return Kind(
            self.answers_in_classes,
            self.answers_in_cover,
            self.legend,
            told.get("map", 1.0),
            told.get("cover", 1.0),
        )

    @property
    def runs_on(self) -> str:
        """What runs it, its version and where, as in "openvino 2026.4 on cpu"."""
        return f"{self.runtime} {self.runtime_version} on {self.device.partition(':')[0]}"

    @property
    def other_colours(self) -> dict[str, list[int]] | None:
        """Its colours by class, where they are not those of its card."""
        drawn = self.legend
        return None if drawn is None or drawn == self.card.legend else drawn.named_colours

    @property
    def road_width_error_m(self) -> float | None:
        """Mean error in metres of the widths of roads in its land cover, None where unknown."""
        return self.card.road_width_error_m if self.kind.has_cover else None

    @property
    def sureness(self) -> str:
        """What its confidence is, in words; it is called so only where it is calibrated."""
        if self.samples is not None:
            passes = self.samples.count
            return f"agreement: the share of {passes} passes with dropout that say the class"
        if self.card.temperatures is None:
            return "probability: of the class, as the network says it"
        return "confidence: how likely the class is right"

    def depth(self, asked: Sequence[Asked]) -> int:
        """Return how many channels `predict` gives for what is asked."""
        deep: dict[Asked, int] = {
            "colours": self.card.generator.out_channels,
            "image": 3 if self.answers_in_classes else self.card.generator.out_channels,
            "probabilities": 0 if self.legend is None else len(self.legend),
            "votes": 0 if self.legend is None else len(self.legend),
            "cover_probabilities": len(COVER),
            "cover_shares": len(COVER),
            "colour_shares": 0 if self.legend is None else len(self.legend),
        }
        return sum(deep.get(name, 1) for name in asked)

    def fingerprint(self) -> str:
        """Return a short text that another card, runtime or device, or other weights, change."""
        colours = None if self.legend is None else self.legend.to_json()
        how = f"{self.runtime} {self.precision}"
        text = f"{self.card.model_dump_json()} {colours} {how} {self._weights}"
        if self.samples:
            text += f" {self.samples}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def instructions(self) -> str | None:
        """Which of the processor's instructions convolutions use, such as `avx512`.

        None where the runtime does not tell, or has run nothing yet.
        """
        return self._runtime.instructions()

    @cached_property
    def identity(self) -> str:
        """A short text that another network, legend or other weights change, whatever runs them."""
        leave_out = {"metrics", "data", "normalisation"}
        told = self.card.model_dump(mode="json", exclude=leave_out)
        known = isinstance(self._model, OpenModel)  # of a network in hand nothing is written
        weights = weights_fingerprint(self._model.folder) if known else self._weights
        return fingerprint_json([told, weights])

    @cached_property
    def familiar(self) -> Familiar | None:
        """What the photos look like that it has learned from, where its folder tells.

        Raises:
            ModelError: What it tells is damaged.
        """
        return read_familiar(self._model.folder)

    @cached_property
    def _weights(self) -> str:
        """Their fingerprint, which takes a while and is asked for by every file of a folder."""
        return self._runtime.fingerprint()

    @overload
    def translate(
        self,
        source: NDArray[np.uint8],
        *,
        mode: Mode = ...,
        seed: int = ...,
        output: Literal["image", "classes", "cover", "picture"] = ...,
        progress: Callable[[int, int], None] | None = ...,
        published: bool | None = ...,
    ) -> NDArray[np.uint8]: ...

    @overload
    def translate(
        self,
        source: NDArray[np.uint8],
        *,
        mode: Mode = ...,
        seed: int = ...,
        output: Literal["probabilities"],
        progress: Callable[[int, int], None] | None = ...,
        published: bool | None = ...,
    ) -> NDArray[np.float32]: ...

    @checks_arguments
    def translate(
        self,
        source: NDArray[np.uint8],
        *,
        mode: Mode = "deterministic",
        seed: int = 0,
        output: Literal["image", "classes", "cover", "probabilities", "picture"] = "image",
        progress: Callable[[int, int], None] | None = None,
        published: bool | None = None,
    ) -> NDArray[Any]:
        """Translate one image.

        By default prediction is deterministic: dropout is off, and normalisation uses the
        statistics that were stored with the model, so that every window is treated alike and
        images of any size come out without seams. What is larger than a canonical window passes
        in canonical windows (`windows.py`), from the upper left corner on, as scenes do; what is
        not, as one window of its own size. As published, dropout is on and
        normalisation uses the statistics of the image itself (Isola et al. 2017, section
        3.3), which therefore passes as a whole.

        Args:
            source: uint8 [H,W,C] with the bands of `card.bands`, any H and W from 1 up.
            mode: "deterministic" or "published".
            seed: Seed of the dropout as published.
            output: "image"; of a model with a legend "classes", the numbers of those that
                the pixels belong to, or "cover", those of the legend `COVER`: what is on the
                ground; or with a legend head the "probabilities" of all classes, which of a
                translator that is `sampled` are the shares of passes that say each.
            progress: Called with (done, all) windows.
            published: In the version before, what `mode="published"` is.

        Returns:
            The image, uint8 [H,W,out_channels], which of a model with a legend head has the
            colours of the classes, mixed along their edges; the classes or the cover, uint8
            [H,W]; or the probabilities, float32 [H,W,K], 0 to 1.

        Raises:
            UsageError: The array is not uint8 with the model's bands, or too large to be
                predicted as published, or the model has no legend or no legend head.
        """
        mode = mode_of(mode, published)
        if output == "picture":
            warnings.warn(
                'output="picture" is now called "image"', DeprecationWarning, stacklevel=3
            )
            output = "image"
        if output not in ("image", "classes", "cover", "probabilities"):
            raise UsageError(
                f"{output!r} is not an output",
                parameter="output",
                remedy="Choose image, classes, cover or probabilities.",
            )
        if output == "probabilities":
            check_image(source, self.card.bands)
            self.check_mode(mode)
            if self.samples:
                return self._whole(source, ("votes",), (), mode, seed, progress)
            if not self.answers_in_classes:
                raise UsageError(
                    "the model answers in colours, not in probabilities",
                    where=self.name,
                    remedy="Ask for the image, or train with generator.head = legend.",
                )
            return self._whole(source, ("probabilities",), (), mode, seed, progress)
        found: NDArray[np.uint8] = getattr(
            self._maps(source, (output,), mode, seed, progress), output
        )
        return found

    @checks_arguments
    def maps(
        self,
        source: NDArray[np.uint8],
        layers: Sequence[Layer],
        *,
        mode: Mode = "deterministic",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Maps:
        """Translate one image to several layers in one pass of the network.

        For example, what is on the ground and how sure that is:

            found = translator.maps(source, ("cover", "cover_confidence"))
            found.cover, found.cover_confidence  # uint8 [H,W]

        Args:
            source: As for `translate`.
            layers: What is wanted, each once: "image", "classes", "cover", and with a legend
                head "confidence" and "cover_confidence"; see `Maps`.
            mode: As for `translate`.
            seed: As for `translate`.
            progress: As for `translate`.

        Returns:
            The layers that were asked for.

        Raises:
            UsageError: As for `translate`, or the model has no such layer.
        """
        return self._maps(source, tuple(layers), mode_of(mode), seed, progress)

    def _maps(
        self,
        source: NDArray[np.uint8],
        layers: tuple[Layer, ...],
        mode: Mode,
        seed: int,
        progress: Callable[[int, int], None] | None,
    ) -> Maps:
        check_image(source, self.card.bands)
        self.check_mode(mode)
        kind = self.kind
        check_layers(layers, kind, self.name)
        alone = mode == "deterministic" and not self.samples
        alone = alone and not ImageWindows(self.multiple, self._frame()).are_blended(source)
        asked = kind.bytes(layers) if alone else kind.values(layers)
        return kind.unpack(self._whole(source, asked, layers, mode, seed, progress), layers)

    @checks_arguments
    def frame(self, core: int | None = None) -> Frame | None:
        """Return what the canonical windows of this model look like.

        Args:
            core: The side of what a window yields; None chooses.

        Returns:
            None for a network that sees the whole image, whose windows are blended, as are those
            of one that is `sampled`.
        """
        return self._frame(core)

    def _frame(self, core: int | None = None) -> Frame | None:
        if self.samples:
            return None
        return choose_frame(self.card, self.multiple, core)

    def _whole(
        self,
        source: NDArray[np.uint8],
        asked: tuple[Asked, ...],
        layers: tuple[Layer, ...],
        mode: Mode,
        seed: int,
        progress: Callable[[int, int], None] | None,
    ) -> NDArray[Any]:
        """Return what is asked of the network for a source of any size, [H,W,channels].

        Where layers are wanted, values become bytes.
        """

        def finish(answer: NDArray[Any]) -> NDArray[Any]:
            is_done = not layers or answer.dtype == np.uint8
            return answer if is_done else self.kind.to_bytes(answer, layers)

        if mode == "published":
            return finish(self.predict_published(source, seed, asked))
        windows = ImageWindows(self.multiple, self._frame())

        def predict(window: NDArray[np.uint8], halo: int, at: tuple[int, int]) -> NDArray[Any]:
            return self._predict(window, asked, halo, at)

        return windows.answer(source, predict, finish, self.at_once, progress)

    @checks_arguments
    def predict(
        self,
        window: NDArray[np.uint8],
        asked: Sequence[Asked] | None = None,
        halo: int = 0,
        at: tuple[int, int] = (0, 0),
    ) -> NDArray[Any]:
        """Return what the network makes of one window, deterministically.

        This is for those who lay and blend windows themselves; `maps` does it for arrays. Of
        what is blended, `kind` makes the layers: classes are blended by their probabilities,
        so that one is chosen once, where all windows have had their say.

        Args:
            window: uint8 [h,w,C], both sides multiples of `multiple`.
            asked: What to ask the network for; None asks for the probabilities of a legend head,
                or for colours.
            halo: How many pixels along each edge are no part of the answer, a multiple of
                `multiple`: what `frame` says for canonical windows.
            at: Row and column of the window's first pixel in the whole, on which the dropout of a
                translator that is `sampled` depends, and nothing else does.

        Returns:
            [h - 2 halo,w - 2 halo,channels], what is asked side by side: float32 for values,
            uint8 for layers.
        """
        check_window(window, halo, len(self.card.bands), self.multiple)
        if asked is None:
            asked = self.kind.values(("image",))
        return self._predict(window, asked, halo, at)

    def _predict(
        self, window: NDArray[np.uint8], asked: Sequence[Asked], halo: int, at: tuple[int, int]
    ) -> NDArray[Any]:
        if "votes" not in asked:
            return pack(self._runtime.run(window[None], asked, self.legend, halo))
        others = [name for name in asked if name != "votes"]
        answers = self._runtime.run(window[None], others, self.legend) if others else {}
        assert self.legend is not None
        assert self.samples is not None
        count, seed = self.samples.count, self.samples.seed
        votes = self._on_torch().run_samples(window[None], count, seed, at, self.legend)
        return pack(answers | {"votes": votes})

    @checks_arguments
    def sampled(self, samples: int, seed: int = 0) -> Translator:
        """Return a translator that lets passes with dropout vote for the classes.

        For networks that answer in colours, such as the published U-Net, which tell nothing of
        how sure they are by themselves. In each pass the statistics of normalisation are the
        fixed ones, and other values are dropped; a pixel has the class of most passes, and its
        confidence is the share of them that agree. That is an agreement of the network with itself
        and not how often it is right: records/2026-11-29_confidence has a command for both.
        The image is as without, and costs a pass of its own.

        Args:
            samples: How many passes, 2 to 1000.
            seed: Of the dropout, which also depends on the place in the image or the scene alone,
                so that windows that overlap get the same.

        Raises:
            UsageError: The network has no dropout, the model no legend, or a number does not fit.
            MissingExtraError: Torch, which alone has dropout, is not installed.
        """
        passes = Samples(samples, seed)
        check_can_vote(self.card, self.legend, self.name)
        self._on_torch()  # what it lacks is said before the work
        other = copy.copy(self)
        other.samples = passes
        return other

    def check_mode(self, mode: Mode) -> None:
        """Refuse to predict as published where passes are counted.

        Raises:
            UsageError: It is so.
        """
        if self.samples and mode == "published":
            raise UsageError(
                "are passes with fixed statistics, which is not as published",
                parameter="samples",
                remedy="Leave out one of both.",
            )

    @checks_arguments
    def in_colours(self, colours: Mapping[str, object]) -> Translator:
        """Return a translator that paints the same classes in other colours.

        Args:
            colours: As for `Legend.in_colours`.

        Raises:
            UsageError: The model has no legend head.
            DataError: A class or a colour does not fit.
        """
        if not self.answers_in_classes or self.legend is None:
            raise UsageError(
                "the model answers in colours, which are those that it was trained on",
                where=self.name,
                remedy="Leave out the style, or use a model with a legend head.",
            )
        other = copy.copy(self)
        other.legend = self.legend.in_colours(colours)
        return other

    def predict_published(
        self, source: NDArray[np.uint8], seed: int, asked: Sequence[Asked]
    ) -> NDArray[Any]:
        """Return what the network makes of a whole image as published; see `translate`.

        Args:
            source: uint8 [H,W,C], any H and W from 1 up.
            seed: Seed of the dropout.
            asked: As for `predict`.

        Returns:
            [H,W,channels], as `predict` gives it.

        Raises:
            UsageError: The image is too large, or the model cannot be run like this.
        """
        self.check_mode("published")
        check_seed(seed)
        height, width, _ = source.shape
        if height * width > MAX_PUBLISHED_PIXELS:
            raise UsageError(
                f"{width} x {height} pixels are too many to be predicted as published, which "
                "takes the whole image at once",
                remedy="Predict deterministically, or cut the image into parts.",
            )
        pixels = whole_window(source, self.multiple)
        answers = self._on_torch().run_published(pixels[None], seed, asked, self.legend)
        return pack(answers)[:height, :width]

    def _on_torch(self) -> TorchRuntime:
        """Return the model on torch, which alone has dropout, loaded once."""
        with self._torch_lock:
            if self._torch is None:
                assert isinstance(self._model, OpenModel)
                self._torch = self._model.with_torch()
            return self._torch


@checks_arguments
def load(
    name_or_folder: str | Path,
    device: torch.device | str | None = None,
    *,
    runtime: Literal["auto"] | RuntimeName = "auto",
    threads: int | None = None,
    precision: Literal["auto"] | Precision = "auto",
) -> Translator:
    """Load a model for translation.

    Args:
        name_or_folder: A shipped model's name first, otherwise a model folder, or what
            `sat2map export` wrote.
        device: Where it runs; None picks CUDA, then MPS, then the CPU.
        runtime: "torch", "openvino", "onnx", or "auto" for the fastest one: torch on a GPU and
            OpenVINO on a CPU, with the int8 files that a folder carries.
        threads: How many threads it uses on a CPU; None leaves it to the runtime.
        precision: "f32"; "bf16", with OpenVINO on processors that have it; "int8", of a folder that
            carries files for it; or "auto" for int8 where there is, and otherwise f32.

    Raises:
        ModelError: The folder is missing or damaged.
        UsageError: The runtime does not run on that device, cannot run this model, or does not
            compute in this precision.
        MissingExtraError: The runtime is not installed.
    """
    expect(name_or_folder, (str, Path), "model", "Give a shipped model's name, or a model folder.")
    if runtime not in ("auto", "torch", "openvino", "onnx"):
        raise UsageError(
            f"{runtime!r} is not a runtime",
            parameter="runtime",
            remedy="Choose auto, torch, openvino or onnx.",
        )
    if precision not in ("auto", "f32", "bf16", "int8"):
        raise UsageError(
            f"{precision!r} is not a precision",
            parameter="precision",
            remedy="Choose auto, f32, bf16 or int8.",
        )
    chosen = None if runtime == "auto" else runtime
    exact = None if precision == "auto" else precision
    return Translator(open_model(model_folder(name_or_folder), device, chosen, threads, exact))


def translator_of(model: str | Path | Translator | None, parameter: str = "model") -> Translator:
    """Return a translator that is given itself, or as what `load` takes; None is "streets".

    Args:
        model: The one or the other.
        parameter: What it is called where it is given, for messages.

    Raises:
        ModelError: The model's folder is missing or damaged.
        UsageError: It is something else.
    """
    if isinstance(model, Translator):
        return model
    remedy = "Give a shipped model's name, a model folder, or what `sat2map.load` returns."
    expect(model, (str, Path), parameter, remedy, none=True)
    return load("streets" if model is None else model)
