"""What an output was made of and how: one definition, which every writer writes into its file.

    GeoTIFF                     the tag `SAT2MAP_PROVENANCE`
    PNG                         a text of that name
    JPEG, WebP                  EXIF's ImageDescription: that name, = and JSON
    GeoPackage, FlatGeobuf      metadata of that name
    PMTiles, MBTiles, a folder  the key `sat2map` of their TileJSON or metadata
    GeoJSON, GeoParquet         the key `sat2map` of the collection, of the file's metadata

It tells no times, no names of machines and no folders, so the same work gives the same bytes
everywhere. `sat2map info` shows it, and `sat2map verify` checks a file by it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sat2map.errors import DataError, parsed_json

TAG = "SAT2MAP_PROVENANCE"
"""The name of the tag, and of metadata as GDAL knows it."""

KEY = "sat2map"
"""The key in documents of JSON."""

FORMAT = 1

WHOLE = 1 << 30
"""Bytes up to which a file's fingerprint is of all that it holds."""

_SAMPLES, _SAMPLE = 256, 1 << 18
_ASIDE = (".aux.xml", ".ovr")
"""What programs put beside a raster that they only look at."""

_TEXTS = (
    "runtime",
    "precision",
    "version",
    "licence",
    "attribution",
    "acquired",
    "contents",
)
"""What is told as it is, where it is known."""

_REMEDY = "Make it anew with this version of sat2map."


@dataclass(frozen=True)
class Ingredient:
    """A source or a model.

    Attributes:
        name: What it is called, without its folder.
        fingerprint: Changes with its contents, not with its name, place or time.
        licence: Of a model, that of the data that it was trained on, as its card says.
    """

    name: str
    fingerprint: str
    licence: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What an output was made of and how.

    Attributes:
        layer: What of the work the file holds: a layer of `Maps`, "compare" or "vectors".
        source: What it was made of.
        model: Made by which model; None where none was needed.
        settings: Everything else that decides about its contents, of JSON's own types.
        runtime: What ran the model, and the version of GDAL that read the source; or None.
        precision: What the model computed in, or None.
        version: Of sat2map.
        licence: Under which it may be used, where somebody said so.
        attribution: Whom those who show it are to name.
        acquired: When the source was taken, as its tags say it: a time, or two with a slash.
        contents: Of vectors the fingerprint of all shapes and their columns.
        made_from: Of what was made of another output, the provenance of that.
    """

    layer: str
    source: Ingredient
    model: Ingredient | None
    settings: Mapping[str, Any]
    runtime: str | None
    precision: str | None
    version: str
    licence: str | None = None
    attribution: str | None = None
    acquired: str | None = None
    contents: str | None = None
    made_from: Provenance | None = None

    @property
    def settings_fingerprint(self) -> str:
        """Changes with the settings."""
        return fingerprint_json(dict(self.settings))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's own types; what is not known is left out."""
        told: dict[str, Any] = {"format": FORMAT, "layer": self.layer}
        for name, one in (("source", self.source), ("model", self.model)):
            if one is not None:
                facts = {**asdict(one), "name": _writable(one.name)}
                told[name] = {key: value for key, value in facts.items() if value is not None}
        told["settings"] = dict(self.settings)
        told["settings_fingerprint"] = self.settings_fingerprint
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None:
                told[name] = value
        if self.made_from is not None:
            told["made_from"] = self.made_from.to_json()
        return told

    def to_text(self) -> str:
        """Return it as one line of JSON, the same for the same provenance."""
        return json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False)

    def to_ascii(self) -> str:
        """Return the same for places that hold no other characters."""
        return json.dumps(self.to_json(), sort_keys=True)

    def to_comment(self) -> str:
        """Return it for a place that does not tell what stands there: `TAG`, = and JSON, ASCII."""
        return f"{TAG}={self.to_ascii()}"

    def describe(self) -> str:
        """Return it for people, a fact in a line."""
        chosen = {key: value for key, value in _leaves(self.settings) if value not in (None, False)}
        told = ", ".join(f"{key} {value}" for key, value in chosen.items())
        facts = [
            ("holds", self.layer),
            ("made of", f"{self.source.name} ({self.source.fingerprint})"),
            ("by sat2map", self.version),
            ("settings", f"{told} ({self.settings_fingerprint})"),
            ("runtime", self.runtime),
            ("precision", self.precision),
            ("licence", self.licence),
            ("attribution", self.attribution),
            ("acquired", self.acquired),
            ("contents", self.contents),
        ]
        if self.model is not None:
            facts.insert(2, ("by model", f"{self.model.name} ({self.model.fingerprint})"))
            facts.append(("model's data", self.model.licence))
        lines = [f"{name:20}{value}" for name, value in facts if value is not None]
        if self.made_from is not None:
            lines += ["", f"{self.source.name} says:", self.made_from.describe()]
        return "\n".join(lines)

    @staticmethod
    def from_json(told: object, where: str | Path) -> Provenance:
        """Return what `to_json` told.

        Args:
            told: What a file says.
            where: The file, for messages.

        Raises:
            DataError: It is damaged, or of a later version.
        """
        try:
            assert isinstance(told, dict)
            if told["format"] > FORMAT:
                raise DataError(
                    "says in a later version's words what it was made of",
                    where=where,
                    remedy="Upgrade with: pip install --upgrade sat2map.",
                )
            of, model = told.get("made_from"), told.get("model")
            found = Provenance(
                told["layer"],
                Ingredient(**told["source"]),
                None if model is None else Ingredient(**model),
                dict(told["settings"]),
                told.get("runtime"),
                told.get("precision"),
                told["version"],
                told.get("licence"),
                told.get("attribution"),
                told.get("acquired"),
                told.get("contents"),
                None if of is None else Provenance.from_json(of, where),
            )
            if found.settings_fingerprint != told["settings_fingerprint"]:
                raise ValueError
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                "is damaged where it says what it was made of", where=where, remedy=_REMEDY
            ) from error
        return found

    @staticmethod
    def from_text(text: str | bytes | None, where: str | Path) -> Provenance | None:
        """Return what `to_text` gave; None of None.

        Raises:
            DataError: It is damaged, or of a later version.
        """
        if text is None:
            return None
        try:
            told = parsed_json(text)
        except ValueError:
            told = None
        return Provenance.from_json(told, where)


def _leaves(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield settings that may stand in groups one by one."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield name, value


def _writable(name: str) -> str:
    """Return a file's name without bytes that are not UTF-8, which no format could hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def fingerprint_json(value: object) -> str:
    """Return the fingerprint of what JSON can hold."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Digests:
    """Digests of the contents of files, each read once while its size and time stay.

    Threads may ask at once: who asks for what another thread reads waits for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[Path, int, int], Future[bytes]] = {}

    def of(self, file: Path) -> bytes:
        """Return the digest of all that a file holds; of one that is missing, that it is."""
        try:
            facts = file.stat()
        except OSError:
            return b"missing"
        key = (file, facts.st_size, facts.st_mtime_ns)
        with self._lock:
            is_new = key not in self._found
            found = self._found.setdefault(key, Future())
        if is_new:
            try:
                with file.open("rb") as opened:
                    found.set_result(hashlib.file_digest(opened, "blake2b").digest())
            except OSError:  # whoever reads it says so
                found.set_result(b"missing")
            except BaseException as error:
                found.set_exception(error)
                raise
        return found.result()

    def __reduce__(self) -> tuple[type[Digests], tuple[()]]:
        return Digests, ()  # another process reads files itself


def fingerprint_files(files: Iterable[Path], digests: Digests | None = None) -> str:
    """Return the fingerprint of the contents of files, in their order.

    It is of all that they hold; of a file of more than `WHOLE` bytes it is of its size and of parts
    spread over it. Names, times, and what other programs put beside a raster do not count.

    Args:
        files: The files.
        digests: Those of files that were read before, to which what is read now is added.
    """
    whole, digests = hashlib.blake2b(digest_size=16), digests or Digests()
    for file in files:
        if not file.name.lower().endswith(_ASIDE):
            whole.update(_sampled(file) or digests.of(file))
    return whole.hexdigest()


def _sampled(file: Path) -> bytes | None:
    """Return the digest of parts of a large file, and None of another."""
    try:
        size = file.stat().st_size
        if size <= WHOLE:
            return None
        with file.open("rb") as opened:
            found = hashlib.blake2b(str(size).encode())
            for number in range(_SAMPLES):
                opened.seek((size - _SAMPLE) * number // (_SAMPLES - 1))
                found.update(opened.read(_SAMPLE))
            return found.digest()
    except OSError:
        return b"missing"
