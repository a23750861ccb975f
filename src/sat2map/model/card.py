"""The card of a model: what `model.json` says of it, for programs, and `README.md` for people.

It stands apart from the network, so that a model can be described, and run by a runtime that
needs no torch, without importing torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    field_serializer,
    field_validator,
)

from sat2map.atomic import write_text
from sat2map.errors import DataError, ModelError
from sat2map.legend import Legend
from sat2map.networks.specs import GeneratorSpec, place_of_error, spec_class

FORMAT = 1
LARGEST = 2**24
"""Bytes of the largest `model.json` that is read."""

CHECKSUMS = "checksums"
"""In `model.json`: the SHA-256 of the files beside it that hold weights."""

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

_MODELS = Path(__file__).parents[1] / "models"


class DataFacts(BaseModel):
    """The data that a model was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "unknown"
    licence: str | None = None
    pairs: int | None = None


class ModelCard(BaseModel):
    """The contents of `model.json`.

    Attributes:
        format: Version of the folder's format.
        generator: The network.
        direction: Which way of the data set the model goes.
        bands: Names of the source's bands, in order.
        value_range: What the network's inputs and outputs are scaled to.
        resolution_m: Finest and coarsest ground resolution that the model has seen, in metres
            per pixel after resizing; None where nobody said.
        normalisation: How the statistics of the normalisation layers were obtained.
        legend: The classes of the maps it draws, or None.
        cover: The classes of land cover that a second head tells, or None.
        data: What it was trained on.
        temperatures: For the classes of the "map" and of the "cover": what the odds of the most
            probable class are taken to the power of 1 / temperature, so that confidence is how
            often it is right, as fitted on training ground; None where nobody did.
        road_width_error_m: By how many metres the widths of roads in its `cover` are off in the
            mean, as measured where they are known; None where nobody did, or where its roads are
            as wide as a map draws them.
        metrics: Metrics of an evaluation, with what they were measured on.
        halo: How many pixels around a window must be seen, so that at most one pixel in 100,000
            of it gets another class than in the whole image, as `benchmarks/halo.py` measures;
            None leaves it to the network.
        multiple: What the height and width of the source must be multiples of; None leaves it
            to the network. Exported models say it, since they come without one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    format: int = FORMAT
    generator: GeneratorSpec
    direction: Literal["forward", "reverse"] = "forward"
    bands: tuple[str, ...] = ("red", "green", "blue")
    value_range: tuple[float, float] = (-1.0, 1.0)
    resolution_m: tuple[float, float] | None = None
    normalisation: str
    legend: Legend | None = None
    cover: Legend | None = None
    data: DataFacts = DataFacts()
    temperatures: dict[Literal["map", "cover"], PositiveFloat] | None = None
    road_width_error_m: PositiveFloat | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
    halo: int | None = Field(None, ge=0)
    multiple: int | None = None

    @field_validator("resolution_m")
    @classmethod
    def _check_resolution(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] < math.inf:
            raise ValueError("is not a finest and a coarsest resolution above 0, in metres")
        return value

    @field_validator("generator", mode="before")
    @classmethod
    def _read_generator(cls, value: object) -> object:
        """Read {"name", "arguments"}, the arguments that the network is built with."""
        if not isinstance(value, dict):
            return value
        if value.keys() != {"name", "arguments"} or not isinstance(value["arguments"], dict):
            raise ValueError("has a name and arguments")
        spec_class(value["name"])
        return value["arguments"] | {"name": value["name"]}

    @field_serializer("generator")
    def _write_generator(self, spec: GeneratorSpec) -> dict[str, Any]:
        return {"name": spec.name, "arguments": spec.arguments()}

    @field_validator("legend", "cover", mode="before")
    @classmethod
    def _read_legend(cls, value: object) -> object:
        return Legend.from_json(value) if isinstance(value, list) else value

    @field_serializer("legend", "cover")
    def _write_legend(self, legend: Legend | None) -> list[dict[str, Any]] | None:
        return None if legend is None else legend.to_json()


def read_model_card(folder: Path) -> ModelCard:
    """Read `folder/model.json` alone.

    Raises:
        ModelError: It is missing or not valid.
    """
    path = folder / "model.json"
    try:
        entries = _entries(path)
        if isinstance(entries, dict):
            entries.pop(CHECKSUMS, None)
        version = entries.get("format") if isinstance(entries, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise ModelError(
                f"has format {version}; this version of sat2map reads up to {FORMAT}",
                where=path,
                remedy="Upgrade with: pip install --upgrade sat2map.",
            )
        return ModelCard.model_validate(entries)
    except OSError as error:
        raise ModelError(
            f"cannot be read ({error.strerror})", where=path, remedy="A model folder has this file."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(place_of_error(first["loc"])) or "the file"
        raise ModelError(
            f"{key}: {first['msg'].removeprefix('Value error, ')}",
            where=path,
            remedy="Restore the file.",
        ) from error
    except DataError as error:  # what the legend says
        raise ModelError(error.what, where=path, remedy="Restore the file.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"is not JSON ({error})", where=path, remedy="Restore the file."
        ) from error


def _entries(path: Path) -> Any:
    if path.exists() and not path.is_file():  # a pipe or a device never ends
        raise ModelError("is not a file", where=path, remedy="A model folder has this file.")
    with path.open("rb") as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ModelError(f"has more than {LARGEST:,} bytes", where=path, remedy="Restore the file.")
    return json.loads(text.decode("utf-8"))


def write_card(folder: Path, card: ModelCard, names: Sequence[str]) -> None:
    """Write `folder/model.json`.

    Args:
        folder: An existing folder.
        card: What is known of the model.
        names: The files with weights in that folder, whose checksums it holds.
    """
    told = card.model_dump(mode="json") | {CHECKSUMS: {n: _checksum(folder / n) for n in names}}
    (folder / "model.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def replace_card(folder: Path, card: ModelCard) -> None:
    """Write `folder/model.json` anew beside the same weights, whose checksums it keeps.

    Raises:
        ModelError: The one that is there cannot be read.
    """
    path = folder / "model.json"
    try:
        entries = _entries(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read ({error})", where=path, remedy="Restore it.") from error
    checksums = entries.get(CHECKSUMS) if isinstance(entries, dict) else None
    told = card.model_dump(mode="json")
    if isinstance(checksums, dict):
        told |= {CHECKSUMS: checksums}
    write_text(path, json.dumps(told, indent=2) + "\n")


def check_files(folder: Path, only: str | None = None) -> None:
    """Compare files of a model with their checksums in `folder/model.json`.

    What has none there, as of earlier versions, is not checked, and what is missing is left to
    who reads it.

    Args:
        folder: The model folder.
        only: The one file to compare; None compares all.

    Raises:
        ModelError: A file is another one than was written, or `model.json` cannot be read.
    """
    path = folder / "model.json"
    try:
        entries = _entries(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read ({error})", where=path, remedy="Restore it.") from error
    checksums = entries.get(CHECKSUMS) if isinstance(entries, dict) else None
    if not isinstance(checksums, dict):
        return
    for name, told in checksums.items():
        file = folder / Path(name).name
        if only not in (None, name):
            continue
        if file.is_file() and _checksum(file) != told:
            raise ModelError(
                "is damaged: its checksum is not the one in model.json",
                where=file,
                remedy="Restore both files from the same model, or make it anew.",
            )


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def count_parameters(folder: Path) -> int:
    """Return how many parameters a model folder has, by the head of its weights' file.

    Statistics that normalisation layers keep are no parameters.

    Raises:
        ModelError: `model.safetensors` is missing or damaged.
    """
    path = folder / "model.safetensors"
    remedy = "Restore it, or train or import the model again."
    try:
        with path.open("rb") as file:  # the length of a head in JSON, the head, the values
            tensors = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), LARGEST)))
        return sum(
            math.prod(entry["shape"])
            for name, entry in tensors.items()
            if name != "__metadata__" and name.rpartition(".")[2] not in _STATISTICS
        )
    except FileNotFoundError as error:
        raise ModelError("is missing", where=path, remedy=remedy) from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError("is damaged", where=path, remedy=remedy) from error


def check_card(card: ModelCard, path: Path) -> None:
    """Refuse a card that would let the network be fed something else than it takes.

    Raises:
        ModelError: Its bands or value range are not what the network has; `path` is named.
    """
    taken = card.generator.in_channels
    if taken != len(card.bands):
        raise ModelError(
            f"names {len(card.bands)} bands, but its network takes {taken}",
            where=path,
            remedy="Restore the file.",
        )
    if card.value_range != (-1.0, 1.0):
        raise ModelError(
            f"has the value range {list(card.value_range)}, but only [-1, 1] is supported",
            where=path,
            remedy="Scale the network's inputs and outputs to [-1, 1].",
        )


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(card.parent.name for card in _MODELS.glob("*/model.json"))


def is_model(name_or_folder: str | Path) -> bool:
    """Return whether a name stands for a model: a shipped one, or a folder that holds one."""
    folder = model_folder(name_or_folder)
    return any((folder / name).is_file() for name in ("model.json", "model.safetensors"))


def model_folder(name_or_folder: str | Path) -> Path:
    """Return the folder of a model: a shipped name first, otherwise a path."""
    if str(name_or_folder) in shipped_models():
        return _MODELS / str(name_or_folder)
    return Path(name_or_folder)


def check_model_folder(folder: Path) -> None:
    """Refuse what is not a model folder, before its files are read.

    Raises:
        ModelError: There is no such folder, or it is that of a run, which holds one.
    """
    if (folder / "model" / "model.json").is_file() and not (folder / "model.json").exists():
        raise ModelError(
            "is the folder of a run, not of a model",
            where=folder,
            remedy=f"Give {folder / 'model'}.",
        )
    if not folder.is_dir():
        raise ModelError(
            "there is no such model folder",
            where=folder,
            remedy="Give the folder that training or import wrote, such as RUN/model, or the name "
            f"of a shipped model: {', '.join(shipped_models())}.",
        )


def model_name(folder: Path) -> str:
    """Return what people call a model: its folder's name, or its run's for RUN/model, RUN/best."""
    folder = folder.resolve()
    return folder.parent.name if folder.name in {"model", "best"} else folder.name


def describe(name: str, card: ModelCard) -> str:
    """Return the model card for people, as Markdown."""
    arguments = ", ".join(f"{k}={v!r}" for k, v in card.generator.arguments().items())
    if card.resolution_m is None:
        scale = "not recorded"
    else:
        ends = dict.fromkeys(f"{metres:g}" for metres in card.resolution_m)  # one if they agree
        scale = f"{' to '.join(ends)} m per pixel"
    lines = [
        f"# {name}",
        "",
        "A sat2map model: the `model` of `sat2map translate`, and of `sat2map.load` in Python.",
        "",
        "| | |",
        "|---|---|",
        f"| network | {card.generator.name}({arguments}) |",
        f"| direction | {card.direction} |",
        f"| bands | {', '.join(card.bands)} |",
        f"| ground resolution | {scale} |",
        f"| normalisation statistics | {card.normalisation} |",
        f"| trained on | {card.data.name}{_pairs(card.data.pairs)} |",
        f"| licence of that data | {card.data.licence or 'not recorded'} |",
    ]
    if card.legend is not None:
        lines += ["", "## Legend", "", "| class | colour | road |", "|---|---|---|"]
        lines += [
            f"| {c.name} | rgb{c.colour} | {'yes' if c.road else ''} |" for c in card.legend.classes
        ]
    if card.metrics:
        lines += ["", "## Metrics", *(_metrics(name, of) for name, of in card.metrics.items())]
    return "\n".join([*lines, ""])


def _pairs(count: int | None) -> str:
    return "" if count is None else f", {count} pairs"


def _metrics(name: str, of: Any) -> str:
    """Return an evaluation as a table, as `Summary.to_json` gives it, or else as JSON."""
    try:
        rows = [
            f"| {name} | {found['mean']:.4g} | {found['low']:.4g} to {found['high']:.4g} |"
            for name, found in of["metrics"].items()
            if not name.startswith("iou_")  # class by class in model.json
        ]
        protocol = "".join(
            f"; {key}: {', '.join(value) if isinstance(value, list) else value}"
            for key, value in of["protocol"].items()
            if key != "legend" and value is not None
        )
        head = f"\n{name}: {of['pictures']} images{protocol}\n"
    except (TypeError, KeyError, ValueError, AttributeError):
        return f"\n{name}\n\n```json\n{json.dumps(of, indent=2)}\n```"
    return "\n".join([head, "| metric | mean | 95 % interval |", "|---|---|---|", *rows])
