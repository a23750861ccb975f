"""The last step of a batch: its maps as a catalogue, as one raster, and their vectors as one file.

It begins anew whenever it is called, and leaves alone what is as it would be written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from sat2map.batch.catalogue import Entry, write_catalogue
from sat2map.batch.index import tiles_in_order, write_index
from sat2map.batch.manifest import read_manifest
from sat2map.batch.names import Listed
from sat2map.geo.gdal import is_address
from sat2map.journal import address_without_query
from sat2map.vectors.join import join_vectors

logger = logging.getLogger(__name__)

JOINED = "map.gpkg"


def entries_of(out: Path, found: Iterable[Listed]) -> list[Entry]:
    """Return the maps of a batch that are done, by their names.

    Args:
        out: The folder of the batch.
        found: The scenes of its list, which says where they lie.

    Raises:
        DataError: No batch was begun there.
    """
    sources = {
        each.scene: address_without_query(each.source) if is_address(each.source) else each.source
        for each in found
    }
    rows = sorted(read_manifest(out).finished(), key=lambda row: row.name)
    return [Entry(row.name, row.files, sources.get(row.scene), row.item) for row in rows]


def write_whole(out: Path, found: Iterable[Listed], model: str | Path) -> list[Path]:
    """Write the catalogue of a batch, its indexes, and its vectors joined.

    Args:
        out: The folder of the batch.
        found: The scenes of its list.
        model: A shipped model's name or a model folder.

    Returns:
        Those of catalog.json, index.gti.gpkg, classes.gti.gpkg and map.gpkg in OUT that there are.

    Raises:
        DataError: A map cannot be read.
        OutputError: There is a file of that name that is somebody else's, the place is not writable
            or the disk is full.
    """
    entries = entries_of(out, found)
    if not entries:
        return []
    written = [write_catalogue(out, entries, model)]
    if find_spec("pyogrio") is None or find_spec("pyarrow") is None:
        logger.warning(
            f"{out}: the maps are not indexed as one; that needs: pip install 'sat2map[batch]'."
        )
        return written
    written += write_index(out, entries)
    beside = {entry.name: _vectors(entry) for entry in entries}
    tiles = tiles_in_order(out, entries)
    vectors = [out / name for tile in tiles if (name := beside[tile.name]) is not None]
    if vectors:
        written.append(join_vectors(vectors, out / JOINED))
    return written


def _vectors(entry: Entry) -> str | None:
    """Return the file of a map's vectors, or None."""
    return next((name for name in entry.files if name.endswith(".gpkg")), None)
