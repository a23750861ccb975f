"""Which scenes a batch has: of a folder, a text file, a table, a STAC catalogue or a tile index.

Each becomes a `Listed` scene: what it is called, what is opened, and which place of its own its map
would like to have. Nothing is opened here but the list.
"""

from __future__ import annotations

import csv
import logging
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from sat2map.batch.names import Listed, safe_place
from sat2map.data.images import READ_SUFFIXES
from sat2map.errors import DataError, MissingExtraError, UsageError, parsed_json
from sat2map.geo.gdal import is_address
from sat2map.journal import address_without_query
from sat2map.raster.sources import SCENE_SUFFIXES

RASTERS = SCENE_SUFFIXES | READ_SUFFIXES
TABLES = frozenset({".csv", ".tsv"})
PARQUET = frozenset({".parquet", ".geoparquet"})
INDEXES = frozenset({".shp", ".gpkg", ".fgb", ".gti"})
JSON = frozenset({".json", ".geojson"})

COLUMNS = ("location", "scene", "path", "file", "url", "href")
"""Names of the column with the scenes, where nobody says; GDAL's tile indexes have the first."""

logger = logging.getLogger(__name__)


def list_scenes(
    scenes: str | Path, *, column: str | None = None, asset: str | None = None
) -> list[Listed]:
    """Return the scenes that a list names, each once, in its order.

    Args:
        scenes: A folder, which is searched with all folders in it; a text file with a name or an
            address in each line; a .csv, .tsv or .parquet with a column of them; a STAC item, item
            collection or catalogue, in a file or at an address; an index of tiles as GDAL makes it;
            or one scene.
        column: The column of a table or an index; None takes one of `COLUMNS`, or the only one.
        asset: Which asset of a STAC item is meant; None takes the one with the role "visual", or
            "data".

    Raises:
        DataError: The list cannot be read, is empty, or names two scenes that only the query of
            their addresses tells apart.
        UsageError: The options do not go with this kind of list.
        MissingExtraError: A package for this kind of list is not installed.
    """
    kind = _kind_of(scenes)
    for parameter, value, kinds in (
        ("column", column, ("table", "parquet", "index")),
        ("asset", asset, ("stac",)),
    ):
        if value is not None and kind not in kinds:
            raise UsageError(f"{scenes} has none", parameter=parameter, remedy="Leave it out.")
    where = Path(scenes) if kind != "stac" else scenes
    base = where.absolute().parent if isinstance(where, Path) else Path()
    match kind:
        case "folder":
            base = Path(where).absolute()
            found = [_listed(str(path), base) for path in _rasters_in(base)]
        case "stac":
            from sat2map.batch.stac import list_items  # and pystac, which others do not need

            found = list_items(str(scenes), asset)
        case "one":
            found = [_listed(str(scenes), base)]
        case "text":
            found = [_listed(name, base) for name in _lines(Path(where))]
        case "table":
            found = [_listed(name, base) for name in _column(Path(where), column)]
        case "parquet":
            found = [_listed(name, base) for name in _parquet(Path(where), column)]
        case _:
            found = [_listed(name, base) for name in _tile_index(Path(where), column)]
    if not found:
        raise DataError("names no scene", where=str(scenes), remedy="Name a list with scenes.")
    return _each_once(found, str(scenes))


def _kind_of(scenes: str | Path) -> str:
    """Return what kind of list it is.

    Raises:
        DataError: There is no such file, or it is none of them.
    """
    address = is_address(scenes)
    path = PurePosixPath(urlsplit(str(scenes)).path) if address else Path(scenes)
    suffix = path.suffix.lower()
    if address:
        return "one" if suffix in RASTERS | {".zip"} else "stac"
    local = Path(scenes)
    if local.is_dir():
        return "folder"
    if not local.is_file():
        raise DataError("there is no such file or folder", where=local, remedy="Check the name.")
    if suffix in JSON:
        return "stac" if _is_stac(local) else "index"
    for kind, suffixes in (
        ("one", RASTERS | {".zip"}),
        ("table", TABLES),
        ("parquet", PARQUET),
        ("index", INDEXES),
    ):
        if suffix in suffixes:
            return kind
    return "text"


def _is_stac(path: Path) -> bool:
    """Return whether a JSON file is of STAC, and not an index of tiles."""
    try:
        content = parsed_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read ({error})", where=path, remedy="Restore the file."
        ) from error
    if not isinstance(content, dict):
        return False
    features = content.get("features") or [{}]
    first = features[0] if isinstance(features, list) else {}
    return "stac_version" in content or (isinstance(first, dict) and "assets" in first)


def _rasters_in(folder: Path) -> Iterator[Path]:
    """Yield the scenes of a folder and of those in it, but of hidden ones, in a stable order.

    Images without coordinates, such as previews, are none.
    """

    def refuse(error: OSError) -> None:
        raise DataError(
            f"cannot be read ({error.strerror})",
            where=error.filename,
            remedy="Allow it to be read, or name another folder.",
        ) from error

    left_out = 0
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        beside = frozenset(files)
        for name in sorted(files):
            suffix = PurePosixPath(name).suffix.lower()
            if name.startswith(".") or suffix not in RASTERS:
                continue
            if suffix in SCENE_SUFFIXES or _is_placed(name, beside):
                yield Path(place, name)
            else:
                left_out += 1
    if left_out:
        logger.warning(f"{folder}: {left_out:,} images without coordinates are left out.")


def _is_placed(name: str, beside: frozenset[str]) -> bool:
    """Return whether a file beside an image may say where it lies."""
    stem, _, kind = name.rpartition(".")
    worlds = (f"{stem}.{kind[0]}{kind[-1]}w", f"{name}w", f"{stem}.wld", f"{name}.aux.xml")
    return not beside.isdisjoint(worlds)


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"is neither a raster nor a list of scenes in text ({error})",
            where=path,
            remedy="Name a folder, a text file in UTF-8, a table, an index or a catalogue.",
        ) from error
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _chosen(names: Sequence[str], column: str | None, path: Path) -> str:
    """Return the name of the column with the scenes."""
    if column is not None:
        if column in names:
            return column
    elif len(names) == 1:
        return names[0]
    else:
        known = {name.strip().lower(): name for name in reversed(names)}
        found = next((known[name] for name in COLUMNS if name in known), None)
        if found is not None:
            return found
    raise UsageError(
        f"{path} has the columns {', '.join(names)}",
        parameter="column",
        remedy="Name the one that the scenes stand in.",
    )


def _column(path: Path, column: str | None) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            marks = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
            rows = csv.DictReader(file, delimiter=max(marks, key=head.count))
            chosen = _chosen(rows.fieldnames or [], column, path)
            yield from ((row[chosen] or "").strip() for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot be read as a table ({error})", where=path, remedy="Save it as CSV in UTF-8."
        ) from error


def _parquet(path: Path, column: str | None) -> list[str]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "vectors") from error
    try:
        chosen = _chosen(parquet.read_schema(path).names, column, path)
        return _texts(parquet.read_table(path, columns=[chosen])[chosen].to_pylist())
    except (OSError, ArrowException) as error:
        raise DataError(
            f"cannot be read as Parquet ({error})", where=path, remedy="Restore the file."
        ) from error


def _tile_index(path: Path, column: str | None) -> list[str]:
    try:
        import pyogrio
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyogrio", "vectors") from error
    try:
        if path.suffix.lower() == ".gti":  # XML that names the index
            root = ElementTree.parse(path).getroot()
            named = path.parent / (root.findtext("IndexDataset") or "")
            return _tile_index(named, column or root.findtext("LocationField"))
        fields = [str(name) for name in pyogrio.read_info(path)["fields"]]
        chosen = _chosen(fields, column, path)
        _, _, _, values = pyogrio.raw.read(path, columns=[chosen], read_geometry=False)
    except (OSError, ValueError, ElementTree.ParseError, pyogrio.errors.DataSourceError) as error:
        raise DataError(
            f"cannot be read as an index of tiles ({error})",
            where=path,
            remedy="Make it with gdaltindex, or name another list.",
        ) from error
    return _texts(values[0])


def _texts(values: Iterable[object]) -> list[str]:
    return ["" if value is None else str(value).strip() for value in values]


def _listed(name: str, base: Path) -> Listed:
    """Return a scene that a list in the folder `base` names."""
    if not name:
        return Listed("", "", "", problem="a row of the list has no name")
    if is_address(name):
        last = PurePosixPath(unquote(urlsplit(name).path)).stem
        return Listed(address_without_query(name), name, safe_place(last))
    path = Path(os.path.normpath(base / name))
    if not path.is_relative_to(base):
        return Listed(str(path), str(path), safe_place(path.stem))
    inside = path.relative_to(base)
    return Listed(inside.as_posix(), str(path), safe_place(*inside.parts[:-1], inside.stem))


def _each_once(found: list[Listed], where: str) -> list[Listed]:
    """Return each scene once.

    Raises:
        DataError: Two are told apart by the query of their addresses alone, or one has no name.
    """
    known: dict[str, Listed] = {}
    for number, each in enumerate(found, 1):
        if not each.scene:
            raise DataError(
                f"names no scene in entry {number}", where=where, remedy="Remove it, or name one."
            )
        other = known.setdefault(each.scene, each)
        if other.source != each.source:
            raise DataError(
                f"names {each.scene} twice, with two queries, which are not written down, since "
                "keys stand there",
                where=where,
                remedy="Name scenes whose addresses differ before the question mark.",
            )
    return list(known.values())
