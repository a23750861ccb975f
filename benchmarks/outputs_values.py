"""What files hold, decoded, for `outputs.py`: arrays and texts by name, their hashes, differences.

Two files of other bytes that show the same pixels have the same values here, so another
compressor or another order of JSON keys is no difference, and one pixel is one.
"""

from __future__ import annotations

import base64
import csv
import difflib
import hashlib
import io
import json
import re
import sqlite3
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
Values = dict[str, Array | str]

RASTERS = {".tif", ".tiff"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
TEXTS = {".md", ".toml", ".txt", ".pgw", ".jgw", ".wld", ".prj", ".xml"}
TILE = re.compile(r"(.*/)?\d+/\d+/\d+\.\w+")

BOOKKEEPING = {"towns.json", "chips.json", "chips.jsonl", "download.json"}
"""By what a command knows its own folder again; nothing that a user reads. Hidden files too."""

TIMES = {"date", "seconds", "estimated_seconds", "steps_per_second"}
"""Keys and columns that are never twice the same."""


def decode(path: Path) -> Values:
    """Return what a file holds, or each file of a folder and their names."""
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    if suffix in RASTERS:
        return raster(path)
    if suffix in PICTURES:
        return picture(path)
    decoders: dict[str, Callable[[Path], Values]] = {
        ".json": lambda path: {"json": tidy_json(path.read_text("utf-8"))},
        ".geojson": lambda path: {"json": tidy_json(path.read_text("utf-8"))},
        ".csv": lambda path: {"table": _without_times(path)},
        ".html": lambda path: page(path.read_text("utf-8")),
        ".safetensors": weights,
        ".onnx": onnx,
        ".pmtiles": pmtiles,
        ".mbtiles": mbtiles,
        ".gpkg": vectors,
        ".parquet": vectors,
    }
    if suffix in decoders:
        return decoders[suffix](path)
    return {"text": path.read_text("utf-8")} if suffix in TEXTS else {}


def _folder(folder: Path) -> Values:
    files = sorted(
        (file for file in folder.rglob("*") if file.is_file()),
        key=lambda file: file.relative_to(folder).parts,
    )
    names = {file.relative_to(folder).as_posix(): file for file in files}
    shown = {
        name: file
        for name, file in names.items()
        if not any(part.startswith(".") for part in name.split("/"))
        and file.name not in BOOKKEEPING
        and not file.name.startswith("events.out")
    }
    values: Values = {"files": "\n".join(shown)}
    values |= tiles((name, shown[name].read_bytes()) for name in shown if TILE.fullmatch(name))
    for name, file in shown.items():
        if file.suffix == ".xml" and file.with_suffix(".bin").is_file():
            values |= under(name, openvino(file))
        elif not TILE.fullmatch(name):
            values |= under(name, decode(file))
    return values


def under(name: str, values: Values) -> Values:
    """Put a name before those of values."""
    return {f"{name} {part}": value for part, value in values.items()}


def raster(path: Path) -> Values:
    """Return pixels, mask, palette, georeference, tags and overviews."""
    with rasterio.open(path) as file:
        values: Values = {"pixels": file.read()}
        masks = file.read_masks()
        if not (masks == 255).all():
            values["mask"] = masks
        if file.colorinterp[0].name == "palette":
            values["palette"] = np.array([colour for _, colour in sorted(file.colormap(1).items())])
        names = ("crs", "width", "height", "count", "dtypes", "nodata", "block_shapes")
        facts = {name: str(getattr(file, name)) for name in names}
        facts["transform"] = str(tuple(file.transform))
        facts["colours"] = str([colour.name for colour in file.colorinterp])
        facts["structure"] = str(sorted(file.tags(ns="IMAGE_STRUCTURE").items()))
        values["georeference"] = json.dumps(facts, indent=1)
        tags = {key: value for key, value in file.tags().items() if key.lower() not in TIMES}
        values["tags"] = json.dumps(_open_texts(tags), indent=1, sort_keys=True)
        levels = len(file.overviews(1))
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as file:
            values[f"overview {level}"] = file.read()
    return values


def picture(path: Path) -> Values:
    """Return the pixels of a picture and of what it is made, and its side-car files."""
    values: Values = {"pixels": pixels(path.read_bytes())}
    with Image.open(path) as file:
        values["facts"] = f"{file.format} {file.mode} {file.size}"
    for beside in sorted(path.parent.glob(f"{path.stem}.*")):
        if beside.suffix in TEXTS and beside != path:
            values[beside.name] = beside.read_text("utf-8")
    return values


def pixels(content: bytes) -> Array:
    """Return an encoded picture as RGBA where it has alpha, otherwise as RGB."""
    with Image.open(io.BytesIO(content)) as file:
        clear = "A" in file.getbands() or "transparency" in file.info
        return np.asarray(file.convert("RGBA" if clear else "RGB"))


def tiles(named: Iterable[tuple[str, bytes]]) -> Values:
    """Return the names of tiles, Z/X/Y.SUFFIX, and those of each folder and zoom as an array."""
    found: dict[str, list[tuple[str, Array]]] = {}
    for name, content in named:
        with Image.open(io.BytesIO(content)) as file:
            tile = np.asarray(file.convert("RGBA"))
        found.setdefault(name.rsplit("/", 2)[0], []).append((name, tile))
    values: Values = {}
    for zoom, of_zoom in sorted(found.items()):
        of_zoom.sort(key=lambda entry: entry[0])
        values[f"tiles {zoom} names"] = "\n".join(name for name, _ in of_zoom)
        values[f"tiles {zoom}"] = np.stack([tile for _, tile in of_zoom])
    return values


def pmtiles(path: Path) -> Values:
    """Return tiles, header and metadata of an archive."""
    from pmtiles import reader

    library: Any = reader
    with path.open("rb") as file:
        source = library.MmapSource(file)
        archive = library.Reader(source)
        header = {
            key: str(value)
            for key, value in archive.header().items()
            if "offset" not in key and "length" not in key
        }
        values: Values = {
            "header": json.dumps(header, indent=1, sort_keys=True),
            "metadata": json.dumps(_open_texts(archive.metadata()), indent=1, sort_keys=True),
        }
        found = library.all_tiles(source)
        return values | tiles((f"{z}/{x}/{y}.png", tile) for (z, x, y), tile in found)


def mbtiles(path: Path) -> Values:
    """Return tiles, rows counted from the north, and metadata of an archive."""
    with sqlite3.connect(path) as base:
        metadata = dict(base.execute("select name, value from metadata").fetchall())
        rows = base.execute("select zoom_level, tile_column, tile_row, tile_data from tiles")
        values = tiles((f"{z}/{x}/{2**z - 1 - y}.png", tile) for z, x, y, tile in rows.fetchall())
    values["metadata"] = json.dumps(_open_texts(metadata), indent=1, sort_keys=True)
    return values


def vectors(path: Path) -> Values:
    """Return each layer of a file of features as a table, and its metadata."""
    import geopandas
    import pyogrio

    def table(frame: Any) -> str:
        shapes = frame.geometry.to_wkt(rounding_precision=9)
        return str(frame.drop(columns="geometry").assign(geometry=shapes).to_csv(index=False))

    if path.suffix == ".parquet":
        frame = geopandas.read_parquet(path)
        return {"table": table(frame), "crs": str(frame.crs)}
    values: Values = {}
    for layer, kind in pyogrio.list_layers(path):
        frame = geopandas.read_file(path, layer=layer, engine="pyogrio")
        facts = pyogrio.read_info(path, layer=layer).get("layer_metadata")
        values[f"{layer} facts"] = json.dumps({"type": kind, "crs": str(frame.crs), "tags": facts})
        values[layer] = table(frame)
    return values


def weights(path: Path) -> Values:
    """Return the tensors of a safetensors file one after the other, and their names."""
    from safetensors.numpy import load_file

    tensors = sorted(load_file(path).items())
    names = "\n".join(f"{name} {tensor.dtype} {tensor.shape}" for name, tensor in tensors)
    return {"names": names, "weights": _joined(tensor for _, tensor in tensors)}


def onnx(path: Path) -> Values:
    """Return initialisers (in an order of their own), operators, metadata and an answer."""
    import onnx as library
    import onnxruntime

    model = library.load(path)
    values = _constants(
        (library.numpy_helper.to_array(tensor) for tensor in model.graph.initializer),
        (node.op_type for node in model.graph.node),
    )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    values["metadata"] = json.dumps(_open_texts(metadata), indent=1, sort_keys=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    answers = session.run(None, {entry.name: _noise(entry.shape)})
    for output, answer in zip(session.get_outputs(), answers, strict=True):
        values[f"answer {output.name}"] = answer
    return values


def openvino(path: Path) -> Values:
    """Return constants (in an order of their own), operators and an answer in f32."""
    import openvino as library

    core = library.Core()
    model = core.read_model(path)
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    values = _constants(
        (node.data for node in constants), (node.get_type_name() for node in model.get_ops())
    )
    (entry,) = model.inputs
    shape = [side.get_length() if side.is_static else "" for side in entry.partial_shape]
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    answers = core.compile_model(model, "CPU", hints)([_noise(shape)])
    for number, output in enumerate(model.outputs):
        values[f"answer {'/'.join(sorted(output.names))}"] = np.array(answers[number])
    return values


def _constants(arrays: Iterable[Array], operators: Iterable[str]) -> Values:
    ordered = sorted((np.asarray(a) for a in arrays), key=lambda a: (a.shape, a.tobytes()))
    counts = "\n".join(f"{name} {n}" for name, n in sorted(Counter(operators).items()))
    shapes = "\n".join(f"{a.dtype} {a.shape}" for a in ordered)
    return {"operators": counts, "shapes": shapes, "constants": _joined(ordered)}


def _joined(arrays: Iterable[Array]) -> Array:
    return np.concatenate([np.ravel(a).astype(np.float64) for a in arrays] or [np.zeros(0)])


def _noise(shape: Iterable[Any]) -> Array:
    """Return a fixed input of a shape [N,C,H,W], its free sides 1 and 128."""
    free = (1, 3, 128, 128)
    sides = [side if isinstance(side, int) else free[i] for i, side in enumerate(shape)]
    return np.random.default_rng(11).uniform(-1, 1, sides).astype(np.float32)


class _Structure(HTMLParser):
    """Collects the elements and the texts of a page, and the pictures within it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.pictures: list[Array] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shown = []
        for name, value in attrs:
            if value is not None and value.startswith("data:image/"):
                self.pictures.append(pixels(base64.b64decode(value.partition(",")[2])))
                value = f"picture {len(self.pictures)}"
            shown.append(f"{name}={value}")
        self.lines.append(" ".join([f"<{tag}", *shown]))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.lines.append(" ".join(data.split()))


def page(text: str) -> Values:
    """Return elements and texts of an HTML page line by line, and the pictures within it."""
    parser = _Structure()
    parser.feed(text)
    values: Values = {"structure": "\n".join(parser.lines)}
    return values | {f"picture {n}": array for n, array in enumerate(parser.pictures, 1)}


def _open_texts(entries: Any) -> Any:
    """Replace texts that are JSON by what they say."""
    if isinstance(entries, dict):
        return {key: _open_texts(value) for key, value in entries.items()}
    if isinstance(entries, str) and entries[:1] in {"{", "["}:
        try:
            return _open_texts(json.loads(entries))
        except ValueError:
            return entries
    return entries


def tidy_json(text: str) -> str:
    """Return JSON with its keys in order and without times."""

    def timeless(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {key: timeless(value) for key, value in entry.items() if key not in TIMES}
        return [timeless(value) for value in entry] if isinstance(entry, list) else entry

    return json.dumps(timeless(json.loads(text)), indent=1, sort_keys=True, ensure_ascii=False)


def _without_times(path: Path) -> str:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
    return "\n".join(json.dumps(row) for row in kept)


def hash_of(value: Array | str) -> str:
    """Return the SHA-256 of a value: of a text, or of an array with its type and shape."""
    if isinstance(value, str):
        return hashlib.sha256(value.encode()).hexdigest()
    array = np.ascontiguousarray(value)
    said = f"{array.dtype.str} {array.shape}\n".encode()
    return hashlib.sha256(said + array.tobytes()).hexdigest()


def difference(old: Array | str, new: Array | str) -> str:
    """Say in words how far two values are apart."""
    if isinstance(old, str) or isinstance(new, str):
        if not (isinstance(old, str) and isinstance(new, str)):
            return "one is a text, the other an array"
        lines = _entries_apart(old, new) or _lines_apart(old, new)
        more = [f"and {len(lines) - 12} lines more"] if len(lines) > 12 else []
        added = all(line.startswith("+") for line in lines)
        head = "more than before, the rest is the same:" if added else "texts differ:"
        return "\n".join([head, *(line[:160] for line in lines[:12]), *more])
    if old.dtype != new.dtype or old.shape != new.shape:
        return f"{old.dtype} {old.shape} became {new.dtype} {new.shape}"
    apart = np.abs(old.astype(np.float64) - new.astype(np.float64))
    unequal = ~((old == new) | (np.isnan(old) & np.isnan(new)))
    return (
        f"{unequal.sum():,} of {unequal.size:,} values differ ({unequal.mean():.3%}), "
        f"by at most {np.nanmax(apart):.6g}, {np.nanmean(apart):.6g} in mean"
    )


def _lines_apart(old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _entries_apart(old: str, new: str) -> list[str]:
    """Return which entries of two JSON, TOML or tables are apart; none if they are neither."""
    before, after = _entries(old), _entries(new)
    gone = Counter(_general(key) for key in before.keys() - after.keys())
    come = Counter(_general(key) for key in after.keys() - before.keys())
    lines = [f"- {key} x {count}" for key, count in sorted(gone.items())]
    lines += [f"+ {key} x {count}" for key, count in sorted(come.items())]
    for key, value in before.items():
        if key in after and value != after[key]:
            lines.append(f"  {key}: {value} became {after[key]}")
    return lines


def _general(key: str) -> str:
    return re.sub(r"\[\d+\]", "[]", key)


def _entries(text: str) -> dict[str, Any]:
    """Return the leaves of JSON, TOML or lines of JSON by their paths, such as legend[0].name."""
    found: dict[str, Any] = {}

    def walk(path: str, entry: Any) -> None:
        if isinstance(entry, dict):
            for key, value in entry.items():
                walk(f"{path}.{key}", value)
        elif isinstance(entry, list):
            for number, value in enumerate(entry):
                walk(f"{path}[{number}]", value)
        else:
            found[path.removeprefix(".")] = entry

    readers: tuple[Callable[[str], Any], ...] = (
        json.loads,
        tomllib.loads,
        lambda text: [json.loads(line) for line in text.splitlines()],
    )
    for reader in readers:
        try:
            walk("", reader(text))
        except ValueError:
            continue
        break
    return found
