"""What is found of a scene, on the disk until all of it is: a database with a row per polygon.

    piece    the polygons of the coverage, in the order in which they are written
    house    pieces of buildings that are cut by a sheet's edge, until all of them are there
    side     where a polygon lies against a cut, segment by segment: what lies against the same
             segment from the other side, and is of the same class, is part of the same area
    sheet    the sheets that are finished
    road     the lines of the road network, in the order in which they are written
    node     where they meet or end

Each sheet is one transaction: what was killed half-way is not there at all.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sat2map.errors import OutputError
from sat2map.legend import Legend
from sat2map.vectors.blocks import House
from sat2map.vectors.coverage import Face, Sheet
from sat2map.vectors.network import RoadLine, RoadNetwork, RoadNode

BATCH = 2000
"""Polygons that are in memory at once while they are written, at most."""

BATCH_BYTES = 1 << 19
"""Bytes of their shapes that are: measuring and projecting them takes many times as much."""


@dataclass(frozen=True)
class Pieces:
    """Some polygons of the coverage.

    Attributes:
        fids: Their numbers in the coverage, from 1, int64 [N].
        numbers: Their classes, int64 [N].
        shapes: Polygons in pixels of the scene, object [N].
        confidence: Mean over their pixels, float64 [N]; nan where unknown.
        methods: How the outlines of buildings were made; None of what is not a building.
        bearings: Where the long side of a building points, in degrees, float64 [N].
        parts: The number of the first piece of the area that each is part of, int64 [N].
    """

    fids: NDArray[np.int64]
    numbers: NDArray[np.int64]
    shapes: NDArray[np.object_]
    confidence: NDArray[np.float64]
    methods: list[str | None]
    bearings: NDArray[np.float64]
    parts: NDArray[np.int64]


_TABLES = """
create table if not exists piece (fid integer primary key, number integer, shape blob,
    sure real, pixels real, method text, bearing real, part integer);
create table if not exists house (row integer, column integer, place integer, number integer,
    shape blob, sure real, pixels real, method text, bearing real, last integer);
create index if not exists houses on house (row, column, place);
create table if not exists side (axis integer, line integer, low real, high real,
    number integer, fid integer, beyond integer);
create table if not exists sheet (number integer primary key);
create table if not exists road (points blob, number integer, u integer, v integer, sure real,
    width real);
create table if not exists node (node integer primary key, x real, y real, degree integer);
"""
_COLUMNS = "fid, number, shape, sure, pixels, method, bearing, part"


class Store:
    """The polygons of a scene on the disk; `open_store` opens it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.executescript(_TABLES)

    def finished(self) -> set[int]:
        """Return the numbers of the sheets that are finished."""
        return {number for (number,) in self._database.execute("select number from sheet")}

    def add(
        self,
        sheet: Sheet,
        faces: list[Face],
        sure: NDArray[np.float64],
        pixels: NDArray[np.float64],
        extent: tuple[int, int],
        side: int,
    ) -> None:
        """Add the faces of a sheet, and note it as finished.

        Args:
            sheet: The sheet.
            faces: Its polygons.
            sure: The sum of the confidence of the pixels of each, float64 [N].
            pixels: How many pixels of it have one, float64 [N].
            extent: Height and width of the scene.
            side: Of a whole sheet, in pixels.
        """
        shapes = np.array([face.shape for face in faces], object)
        blobs = shapely.to_wkb(shapes)
        with self._database as database:
            cut: list[tuple[int, int]] = []
            for place, (face, blob) in enumerate(zip(faces, blobs, strict=True)):
                values = (face.number, blob, float(sure[place]), float(pixels[place]))
                house = face.house
                if house is None:
                    fid = database.execute(
                        "insert into piece (number, shape, sure, pixels) values (?,?,?,?)", values
                    ).lastrowid
                    assert fid is not None
                    cut.append((place, fid))
                    continue
                made = (house.method, house.orientation_deg, _last_sheet(house, extent, side))
                database.execute(
                    "insert into house values (?,?,?,?,?,?,?,?,?,?)", (*house.first, *values, *made)
                )
            for first in database.execute(
                "select distinct row, column, place from house where last <= ? "
                "order by row, column, place",
                (sheet.number,),
            ).fetchall():
                self._join_house(first)
            self._note_sides(sheet, shapes, cut, faces)
            database.execute("insert into sheet values (?)", (sheet.number,))

    def _join_house(self, first: tuple[int, int, int]) -> None:
        """Make one polygon of the pieces of a house that are all there now."""
        database = self._database
        found = database.execute(
            "select number, shape, sure, pixels, method, bearing from house "
            "where row = ? and column = ? and place = ?",
            first,
        ).fetchall()
        shapes = shapely.from_wkb([shape for _, shape, *_ in found])
        whole = shapes[:1] if len(shapes) == 1 else shapely.get_parts(shapely.union_all(shapes))
        number, _, _, _, method, bearing = found[0]
        sure, pixels = sum(row[2] for row in found), sum(row[3] for row in found)
        database.executemany(
            "insert into piece (number, shape, sure, pixels, method, bearing) values (?,?,?,?,?,?)",
            [(number, shapely.to_wkb(w), sure, pixels, method, bearing) for w in whole],
        )
        database.execute("delete from house where row = ? and column = ? and place = ?", first)

    def _note_sides(
        self,
        sheet: Sheet,
        shapes: NDArray[np.object_],
        pieces: list[tuple[int, int]],
        faces: list[Face],
    ) -> None:
        """Note the segments of the pieces' outlines that lie on the sheet's edges."""
        if not pieces:
            return
        places, fids = np.array(pieces).T
        box = shapely.bounds(shapes[places])
        edges = (
            (0, sheet.column, 1, box[:, 0]),
            (0, sheet.column + sheet.width, 0, box[:, 2]),
            (1, sheet.row, 1, box[:, 1]),
            (1, sheet.row + sheet.height, 0, box[:, 3]),
        )
        for axis, line, beyond, reach in edges:
            rows = []
            for at in np.flatnonzero(reach == line):
                for ring in shapely.get_rings(shapes[places[at]]):
                    points = shapely.get_coordinates(ring)
                    on = points[:, axis] == line
                    for start in np.flatnonzero(on[1:] & on[:-1]):
                        low, high = sorted(points[start : start + 2, 1 - axis].tolist())
                        number = faces[places[at]].number
                        rows.append((axis, line, low, high, number, int(fids[at]), beyond))
            self._database.executemany("insert into side values (?,?,?,?,?,?,?)", rows)

    def join(self) -> None:
        """Find out which pieces are parts of the same area."""
        above: dict[int, int] = {}

        def root(fid: int) -> int:
            while fid in above:
                fid = above[fid]
            return fid

        with self._database as database:
            database.execute("create index if not exists sides on side (axis, line, low, beyond)")
            for one, other in database.execute(
                "select a.fid, b.fid from side a join side b on a.axis = b.axis "
                "and a.line = b.line and a.low = b.low and a.high = b.high "
                "and a.number = b.number where a.beyond = 0 and b.beyond = 1"
            ):
                low, high = sorted((root(one), root(other)))
                if low != high:
                    above[high] = low
            database.execute("update piece set part = fid")
            database.executemany(
                "update piece set part = ? where fid = ?", [(root(fid), fid) for fid in above]
            )
            database.execute("create index if not exists parts on piece (number, part)")

    def count(self) -> int:
        """Return how many polygons there are."""
        (number,) = self._database.execute("select count(*) from piece").fetchone()
        return int(number)

    def pieces(self, *, buildings: bool = False) -> Iterator[Pieces]:
        """Yield all polygons of the coverage in order, or the buildings alone."""
        wanted = " where method is not null" if buildings else ""
        rows = self._database.execute(f"select {_COLUMNS} from piece{wanted} order by fid")
        yield from _in_batches(rows)

    def keep_roads(self, network: RoadNetwork) -> None:
        """Store a network in place of the one that is there, so that it need not be in memory."""
        with self._database as database:
            database.execute("delete from road")
            database.execute("delete from node")
            database.executemany(
                "insert into road values (?,?,?,?,?,?)",
                (
                    (one.points.tobytes(), one.number, one.u, one.v, one.confidence, one.width_m)
                    for one in network.lines
                ),
            )
            database.executemany(
                "insert into node values (?,?,?,?)",
                ((node.node, node.column, node.row, node.degree) for node in network.nodes),
            )

    def roads(self, *, width_is_true: bool = False) -> RoadNetwork:
        """Return the network that was stored, which is read while it is asked for."""
        lines = self._database.execute("select * from road order by rowid")
        nodes = self._database.execute("select * from node order by node")
        return RoadNetwork(
            (RoadLine(np.frombuffer(points).reshape(-1, 2), *rest) for points, *rest in lines),
            (RoadNode(*row) for row in nodes),
            width_is_true,
        )

    def areas(self, legend: Legend, role: str) -> Iterator[Pieces]:
        """Yield the areas of a role, each in one piece, in the order of their first pieces."""
        numbers = [n for n, entry in enumerate(legend.classes) if entry.role == role]
        listed = ",".join(map(str, numbers)) or "-1"
        rows = self._database.execute(
            f"select {_COLUMNS} from piece where number in ({listed}) and method is null "
            "order by part, fid"
        )
        yield from _in_batches(_joined(list(group)) for _, group in groupby(rows, itemgetter(7)))


def _in_batches(rows: Iterable[tuple[Any, ...]]) -> Iterator[Pieces]:
    """Yield rows of pieces, so many of them together as memory is meant to hold."""
    batch: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row[2])
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield _pieces(batch)
            batch, size = [], 0
    if batch:
        yield _pieces(batch)


def _last_sheet(house: House, extent: tuple[int, int], side: int) -> int:
    """Return the number of the last sheet that a house may reach into."""
    _, _, right, bottom = shapely.bounds(house.outline)
    last_row = min(math.ceil(bottom / side), math.ceil(extent[0] / side)) - 1
    last_column = min(math.ceil(right / side), math.ceil(extent[1] / side)) - 1
    return int(last_row * math.ceil(extent[1] / side) + last_column)


def _joined(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    if len(rows) == 1:
        return rows[0]
    whole = shapely.union_all(shapely.from_wkb([row[2] for row in rows]))
    fid, number, _, _, _, *rest = rows[0]
    sure, pixels = sum(row[3] for row in rows), sum(row[4] for row in rows)
    return (fid, number, shapely.to_wkb(whole), sure, pixels, *rest)


def _pieces(rows: list[tuple[Any, ...]]) -> Pieces:
    fids, numbers, shapes, sure, pixels, methods, bearings, parts = zip(*rows, strict=True)
    seen = np.array(pixels, float)
    mean = np.divide(np.array(sure, float), seen, out=np.full(len(seen), np.nan), where=seen > 0)
    return Pieces(
        np.array(fids, np.int64),
        np.array(numbers, np.int64),
        shapely.from_wkb(np.array(shapes, object)),
        mean,
        list(methods),
        np.array(bearings, float),
        np.array(parts, np.int64),
    )


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Open the database of a scene, or begin it.

    Raises:
        OutputError: The disk is full, or the file is not ours.
    """
    try:
        database = sqlite3.connect(path)
        try:
            yield Store(database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise OutputError(
            f"cannot be written ({error})", where=path, remedy="Free some space and try again."
        ) from error
