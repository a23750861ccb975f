"""Vectors of many scenes as one file: each house once, roads that go on from scene to scene.

Files come in an order, the lowest first. Where scenes overlap the one on top says what is there:
of each scene counts what lies on its own ground, its coverage without that of the scenes above.

- Coverage, water and vegetation are cut where one's own ground ends.
- A house that lies on one scene's own ground is taken as it is. Where a border cuts a house, or two
  scenes show the same one there, the pieces become one house; a lower scene's house that lies
  mostly on the ground of a higher one, which shows none there, is left out.
- Roads are cut there, too, and ends of two scenes that lie within `REACH_M` of each other become
  one node. Two roads that meet in such a node alone become one.

Inner parts are streamed scene by scene; in memory are the borders, and of nodes their places.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

import sat2map
from sat2map.arguments import checks_arguments
from sat2map.atomic import atomic_file
from sat2map.errors import OutputError, UsageError
from sat2map.geo.vector_layer import metres_per_unit, require, unreadable
from sat2map.provenance import Ingredient, Provenance
from sat2map.raster.provenance_reader import read_provenance
from sat2map.vectors.formats import LayerName, write_layer
from sat2map.vectors.geopackage import Columns, Layer, contents_of, write_provenance

AREAS: tuple[LayerName, ...] = ("coverage", "water", "vegetation")

NEAR_M = 20.0
"""Metres from the border of a scene's own ground within which houses are compared."""

CLOSE_M = 0.5
"""Metres that two pieces of a house may lie apart at a border."""

SAME = 0.3
"""Share of the smaller of two houses that the other covers, where both are the same."""

REACH_M = 5.0
"""Metres that the ends of two roads may lie apart at a border."""

LEAST_M = 1.0
"""Metres of a road that a border cuts off, at least."""

JOINED = "joined vectors"
"""What `Provenance.layer` calls them."""

_TYPES = {"float64": "real", "int64": "whole", "int32": "whole"}


@dataclass(frozen=True)
class _Scene:
    """The vectors of one scene, in the coordinates of the joined file.

    Attributes:
        path: Its file.
        ground: Where it says what is there.
        own: Where no scene above it does.
        way: Brings its coordinates into those of the joined file; None where they are the same.
    """

    path: Path
    ground: Any
    own: Any
    way: Any

    def rows(self, layer: str) -> tuple[NDArray[np.object_], Columns]:
        """Return the shapes and the columns of a layer."""
        shapes, columns, _ = _read(self.path, layer)
        return _moved(shapes, self.way), columns


def _read(path: Path, layer: str) -> tuple[NDArray[np.object_], Columns, dict[str, Any]]:
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import read

    try:
        meta, _, shapes, values = read(path, layer=layer)
    except (DataLayerError, DataSourceError) as error:
        raise unreadable(path, error) from error
    columns = {str(name): value for name, value in zip(meta["fields"], values, strict=True)}
    return shapely.from_wkb(shapes), columns, meta


def _columns_of(path: Path, layer: str) -> dict[str, str]:
    """Return the columns of a layer, each with its numpy type."""
    from pyogrio import read_info
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        info = read_info(path, layer=layer)
    except (DataLayerError, DataSourceError) as error:
        raise unreadable(path, error) from error
    return dict(zip(map(str, info["fields"]), map(str, info["dtypes"]), strict=True))


def _moved(shapes: NDArray[np.object_], way: Any) -> NDArray[np.object_]:
    if way is None:
        return shapes
    moved: NDArray[np.object_] = shapely.transform(
        shapes, lambda points: np.column_stack(way.transform(*points.T))
    )
    return moved


@checks_arguments
def join_vectors(
    files: Sequence[Path],
    target: str | Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Join the vectors of scenes into one GeoPackage; see above for what is where they meet.

    Args:
        files: GeoPackages of `vectorise`, the lowest first; where they overlap, the last says what
            is there.
        target: NAME.gpkg, in the coordinates of most of them. Where it was joined of the same
            before, it is left alone.
        progress: Called with (done, all) files.

    Returns:
        `target`.

    Raises:
        DataError: A file cannot be read, or has no such layers.
        UsageError: There are no files, or the target is one of them.
        OutputError: There is a file of that name that is somebody else's, the place is not writable
            or the disk is full.
        MissingExtraError: pyogrio or pyarrow is not installed.
    """
    for package in ("pyogrio", "pyarrow"):
        require(package, "vectors")
    target = Path(target)
    if not files or target.suffix.lower() != ".gpkg":
        raise UsageError(
            "nothing is to be joined" if not files else f"{target} is not a name for them",
            parameter="files" if not files else "target",
            remedy="Give GeoPackages." if not files else "End it in .gpkg.",
        )
    if any(target.exists() and target.samefile(file) for file in files if file.exists()):
        raise UsageError("is one of the inputs", where=target, remedy="Choose another name.")
    made = _provenance(files)
    if _is_made_of(target, made):
        return target
    joining = _Joining(files, progress)
    with atomic_file(target) as aside:
        for layer in joining.layers():
            write_layer(aside, layer, lambda shapes: shapes, joining.crs, "GPKG")
        _copy_styles(files[-1], aside)
        write_provenance(aside, made)
    return target


def _is_made_of(target: Path, made: Provenance) -> bool:
    """Return whether a file is there that was joined of the same, and holds what was written.

    Raises:
        OutputError: A file of that name is somebody else's.
    """
    if not target.exists():
        return False
    before = read_provenance(target)
    if before is None or before.layer not in (JOINED, "vectors"):
        raise OutputError(
            "is there already and was not written by sat2map",
            where=target,
            remedy="Move it away, or choose another name.",
        )
    contents = before.contents
    return before == replace(made, contents=contents) and contents_of(target) == contents


def _provenance(files: Sequence[Path]) -> Provenance:
    """Return what joined vectors are made of: of model and runtime what all files say."""
    found = [read_provenance(file) for file in files]
    whole = hashlib.blake2b(digest_size=16)
    for each in found:
        whole.update(str(None if each is None else each.contents).encode())
    told = [each for each in found if each is not None]

    def common(name: str) -> Any:
        values = {getattr(each, name) for each in told}
        return values.pop() if len(values) == 1 and len(told) == len(found) else None

    def listed(name: str) -> str | None:
        values = [getattr(each, name) for each in told]
        return "; ".join(dict.fromkeys(value for value in values if value is not None)) or None

    return Provenance(
        JOINED,
        Ingredient(f"{len(files)} files of vectors", whole.hexdigest()),
        common("model"),
        {"near_m": NEAR_M, "close_m": CLOSE_M, "same": SAME, "reach_m": REACH_M},
        common("runtime"),
        common("precision"),
        sat2map.__version__,
        listed("licence"),
        listed("attribution"),
    )


def _copy_styles(source: Path, target: Path) -> None:
    """Copy the table from which QGIS takes how layers are drawn."""
    with closing(sqlite3.connect(target)) as database, database:
        database.execute("attach ? as other", (str(source),))
        made = database.execute(
            "select sql from other.sqlite_master where name = 'layer_styles' and type = 'table'"
        ).fetchone()
        if made is not None:
            database.execute(made[0])
            database.execute("insert into layer_styles select * from other.layer_styles")
            database.execute(
                "insert into gpkg_contents (table_name, data_type, identifier, description) "
                "values ('layer_styles', 'attributes', 'layer_styles', '')"
            )


class _Joining:
    """The layers of all scenes, joined.

    Args:
        files: The files, the lowest first.
        progress: Called with (done, all) files.

    Attributes:
        crs: The coordinates of the joined file, WKT.
        unit: Metres of a unit of these.
    """

    def __init__(self, files: Sequence[Path], progress: Callable[[int, int], None] | None) -> None:
        from pyproj import CRS, Transformer

        self._progress = progress
        systems: dict[str, list[Path]] = defaultdict(list)
        grounds: dict[Path, Any] = {}
        of_file: dict[Path, str] = {}
        for file in files:
            shapes, columns, meta = _read(file, "coverage")
            self._columns = columns
            of_file[file] = CRS.from_user_input(meta["crs"]).to_wkt("WKT2_2019")
            systems[of_file[file]].append(file)
            grounds[file] = shapely.coverage_union_all(shapes)
        self.crs = max(systems, key=lambda crs: len(systems[crs]))
        ways = {
            crs: None if crs == self.crs else Transformer.from_crs(crs, self.crs, always_xy=True)
            for crs in systems
        }
        placed = [
            _moved(np.array([grounds[file]], object), ways[of_file[file]])[0] for file in files
        ]
        tree = shapely.STRtree(placed)
        bounds = shapely.total_bounds(np.array(placed, object))
        self.unit = metres_per_unit(self.crs, tuple(bounds.tolist()))
        self._scenes = []
        for number, (file, ground) in enumerate(zip(files, placed, strict=True)):
            above = [placed[other] for other in tree.query(ground, "intersects") if other > number]
            own = ground if not above else shapely.difference(ground, shapely.union_all(above))
            self._scenes.append(_Scene(file, ground, own, ways[of_file[file]]))

    def layers(self) -> Iterator[Layer]:
        """Yield the layers; each is read to its end before the next."""
        yield self._layer("coverage", "Polygon", self._areas("coverage"))
        yield self._layer("buildings", "Polygon", self._houses())
        yield self._layer("roads", "LineString", self._roads())
        nodes = {"node": "whole", "degree": "whole"}
        yield Layer("road_nodes", "Point", nodes, self._network.nodes())
        for name in AREAS[1:]:
            yield self._layer(name, "Polygon", self._areas(name))

    def _layer(
        self, name: str, kind: str, batches: Iterator[tuple[NDArray[np.object_], Columns]]
    ) -> Layer:
        """Return a layer with the columns of all files, in the order of the last."""
        types: dict[str, str] = {}
        for scene in reversed(self._scenes):
            for key, value in _columns_of(scene.path, name).items():
                types.setdefault(key, _TYPES.get(value, "text"))

        def complete() -> Iterator[tuple[NDArray[np.object_], Columns]]:
            for shapes, found in batches:
                if len(shapes):
                    lacking = {
                        key: [np.nan if kind == "real" else None] * len(shapes)
                        for key, kind in types.items()
                        if key not in found
                    }
                    yield shapes, {**found, **lacking}

        return Layer(name, kind, types, complete())

    def _areas(self, name: str) -> Iterator[tuple[NDArray[np.object_], Columns]]:
        """Yield polygons, cut where a scene's own ground ends."""
        first = 0
        for done, scene in enumerate(self._scenes, 1):
            shapes, columns = scene.rows(name)
            at, cut = _cut(shapes, scene.own, 2)
            found = {key: values[at] for key, values in columns.items()}
            if "area_m2" in found:
                found["area_m2"] = found["area_m2"] * shapely.area(cut) / shapely.area(shapes[at])
            if "part_of" in found and len(at):
                found["part_of"] = found["part_of"] + first
                first = int(found["part_of"].max()) + 1
            yield cut, found
            if name == "coverage" and self._progress is not None:
                self._progress(done, len(self._scenes))

    def _houses(self) -> Iterator[tuple[NDArray[np.object_], Columns]]:
        """Yield the houses within scenes, and then those at borders, each once."""
        near, border = NEAR_M / self.unit, _Border()
        for number, scene in reversed(list(enumerate(self._scenes))):
            shapes, columns = scene.rows("buildings")
            inner = shapely.buffer(scene.own, -near, quad_segs=2)
            shapely.prepare([inner, scene.own])
            inside = shapely.contains(inner, shapes)
            yield shapes[inside], {key: values[inside] for key, values in columns.items()}
            some = np.flatnonzero(~inside & shapely.intersects(scene.own, shapes))
            on = shapely.intersects(scene.own, shapely.point_on_surface(shapes[some]))
            edge = shapely.boundary(scene.ground)
            cut = shapely.distance(shapes[some], edge) <= CLOSE_M / self.unit
            border.add(number, shapes[some], {k: v[some] for k, v in columns.items()}, on, cut)
        yield border.joined(CLOSE_M / self.unit)

    @cached_property
    def _network(self) -> _Network:
        return _Network(self.unit)

    def _roads(self) -> Iterator[tuple[NDArray[np.object_], Columns]]:
        """Yield the roads that end within scenes, and then those that end at borders."""
        network = self._network
        for number, scene in enumerate(self._scenes):
            shapes, columns = scene.rows("roads")
            at, cut = _cut(shapes, scene.own, 1)
            long = shapely.length(cut) * self.unit >= LEAST_M
            whole = shapely.equals(shapes[at], cut)
            at, cut = at[long | whole], cut[long | whole]
            found = {key: values[at] for key, values in columns.items()}
            found["length_m"] = found["length_m"] * shapely.length(cut) / shapely.length(shapes[at])
            yield network.add(number, cut, found, shapely.boundary(scene.own))
        yield network.joined()


def _cut(
    shapes: NDArray[np.object_], ground: Any, dimension: int
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Return which shapes lie on a ground, and what of them does, one for each part."""
    shapely.prepare(ground)
    whole = shapely.covers(ground, shapes)
    crossing = np.flatnonzero(~whole & shapely.intersects(ground, shapes))
    parts, of = shapely.get_parts(shapely.intersection(shapes[crossing], ground), return_index=True)
    kept = shapely.get_dimensions(parts) == dimension
    inner, of_inner = shapely.get_parts(parts[kept], return_index=True)
    at = np.concatenate([np.flatnonzero(whole), crossing[of[kept][of_inner]]])
    found = np.concatenate([shapes[whole], inner])
    order = np.argsort(at, kind="stable")
    return at[order], found[order]


@dataclass
class _Border:
    """Houses near the borders of scenes' own ground, those of the higher scenes first."""

    shapes: list[Any] = field(default_factory=list)
    scenes: list[int] = field(default_factory=list)
    is_on: list[bool] = field(default_factory=list)
    is_cut: list[bool] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self,
        scene: int,
        shapes: NDArray[np.object_],
        columns: Columns,
        on: NDArray[np.bool_],
        cut: NDArray[np.bool_],
    ) -> None:
        """Take up the houses of a scene.

        Args:
            scene: Its number.
            shapes: The houses.
            columns: Their columns.
            on: Whether they lie mostly on the scene's own ground.
            cut: Whether the scene ends at them.
        """
        self.shapes += list(shapes)
        self.scenes += [scene] * len(shapes)
        self.is_on += on.tolist()
        self.is_cut += cut.tolist()
        for key, values in columns.items():
            self.columns[key] += list(values)

    def joined(self, close: float) -> tuple[NDArray[np.object_], Columns]:
        """Return each house once."""
        shapes = np.array(self.shapes, object)
        above = list(range(len(shapes)))

        def root(house: int) -> int:
            while above[house] != house:
                above[house] = above[above[house]]
                house = above[house]
            return house

        if len(shapes):
            pairs = shapely.STRtree(shapes).query(shapes, "dwithin", close)
            for one, other in pairs.T.tolist():
                if one < other and self._is_same(one, other, close):
                    low, high = sorted((root(one), root(other)))
                    above[high] = low
        groups: dict[int, list[int]] = defaultdict(list)
        for house in range(len(shapes)):
            groups[root(house)].append(house)
        kept = [group for group in groups.values() if any(self.is_on[one] for one in group)]
        found = [_united(shapes[group], close) for group in kept]
        largest = [max(group, key=lambda one: shapely.area(shapes[one])) for group in kept]
        columns: Columns = {
            key: [values[one] for one in largest] for key, values in self.columns.items()
        }
        if "area_m2" in columns:
            columns["area_m2"] = [
                area * shapely.area(house) / shapely.area(shapes[one])
                for area, house, one in zip(columns["area_m2"], found, largest, strict=True)
            ]
        return np.array(found, object), columns

    def _is_same(self, one: int, other: int, close: float) -> bool:
        """Return whether houses of two scenes are the same, or pieces of one that a border cuts."""
        if self.scenes[one] == self.scenes[other]:
            return False
        first, second = self.shapes[one], self.shapes[other]
        smaller = min(shapely.area(first), shapely.area(second))
        if shapely.area(shapely.intersection(first, second)) >= SAME * smaller:
            return True
        if not (self.is_cut[one] and self.is_cut[other]):
            return False
        along = shapely.intersection(shapely.buffer(first, close), shapely.boundary(second))
        return bool(shapely.length(along) > 4 * close)


def _united(shapes: NDArray[np.object_], close: float) -> Any:
    """Return pieces of a house as one polygon."""
    if len(shapes) == 1:
        return shapes[0]
    whole = shapely.union_all(shapes)
    if whole.geom_type != "Polygon":
        wide = shapely.buffer(whole, close, join_style="mitre")
        whole = shapely.buffer(wide, -close, join_style="mitre")
    if whole.geom_type != "Polygon":
        parts = shapely.get_parts(whole)
        whole = parts[np.argmax(shapely.area(parts))]
    return whole


class _Network:
    """The roads of all scenes with nodes of their own numbers.

    Args:
        unit: Metres of a unit of the coordinates.
    """

    def __init__(self, unit: float) -> None:
        self._reach = REACH_M / unit
        self._numbers: dict[tuple[int, float, float], int] = {}
        self._places: list[tuple[float, float]] = []
        self._degrees: list[int] = []
        self._waiting: list[tuple[int, Any, dict[str, Any]]] = []
        self._open: dict[int, int] = {}  # nodes at a border, with their scenes

    def add(
        self, scene: int, lines: NDArray[np.object_], columns: Columns, border: Any
    ) -> tuple[NDArray[np.object_], Columns]:
        """Take up the roads of a scene, and return those that do not end at its border."""
        self._numbers = {}  # nodes are of one scene
        ends = [(shapely.get_point(lines, 0), "u"), (shapely.get_point(lines, -1), "v")]
        numbers: dict[str, NDArray[np.int64]] = {}
        at_border = np.zeros(len(lines), np.bool_)
        shapely.prepare(border)
        for points, key in ends:
            numbers[key] = np.array(
                [self._node(scene, x, y) for x, y in shapely.get_coordinates(points)], np.int64
            )
            near = shapely.dwithin(border, points, self._reach / 10)
            at_border |= near
            self._open |= dict.fromkeys(numbers[key][near].tolist(), scene)
        found: Columns = {**columns, **numbers}
        for line in np.flatnonzero(at_border):
            self._waiting.append(
                (scene, lines[line], {key: values[line] for key, values in found.items()})
            )
        return lines[~at_border], {key: values[~at_border] for key, values in found.items()}

    def _node(self, scene: int, x: float, y: float) -> int:
        place = (scene, x, y)
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = len(self._places)
            self._places.append((x, y))
            self._degrees.append(0)
        self._degrees[number] += 1
        return number

    def joined(self) -> tuple[NDArray[np.object_], Columns]:
        """Return the roads that end at borders, joined where those of two scenes meet."""
        same = self._pairs()
        lines = [self._moved(line, row, same) for _, line, row in self._waiting]
        lines = _merged(lines, self._degrees, set(same.values()))
        if not lines:
            return np.empty(0, object), {}
        shapes = np.array([line for line, _ in lines], object)
        keys = dict.fromkeys(key for _, row in lines for key in row)
        return shapes, {key: [row.get(key) for _, row in lines] for key in keys}

    def _pairs(self) -> dict[int, int]:
        """Return open nodes that are nearest to each other across a border, as one of both."""
        numbers = np.array(sorted(self._open), np.int64)
        if len(numbers) < 2:
            return {}
        points = shapely.points([self._places[number] for number in numbers])
        pairs = shapely.STRtree(points).query(points, "dwithin", self._reach).T
        far = shapely.distance(points[pairs[:, 0]], points[pairs[:, 1]])
        same: dict[int, int] = {}
        for one, other in pairs[np.argsort(far, kind="stable")].tolist():
            first, second = int(numbers[one]), int(numbers[other])
            taken = first in same or second in same
            if first >= second or taken or self._open[first] == self._open[second]:
                continue
            same[second] = same[first] = first
            self._degrees[first] += self._degrees[second]
            self._degrees[second] = 0
            (x, y), (far_x, far_y) = self._places[first], self._places[second]
            self._places[first] = ((x + far_x) / 2, (y + far_y) / 2)
        return same

    def _moved(
        self, line: Any, row: dict[str, Any], same: dict[int, int]
    ) -> tuple[Any, dict[str, Any]]:
        """Return a road whose ends lie in the nodes that theirs became."""
        points = shapely.get_coordinates(line)
        row = dict(row)
        for key, place in (("u", 0), ("v", -1)):
            row[key] = same.get(row[key], row[key])
            points[place] = self._places[row[key]]
        return shapely.linestrings(points), row

    def nodes(self) -> Iterator[tuple[NDArray[np.object_], Columns]]:
        """Yield the nodes in which a road ends."""
        numbers = np.flatnonzero(np.array(self._degrees))
        if len(numbers):
            places = np.array(self._places)[numbers]
            degrees = np.array(self._degrees)[numbers]
            yield shapely.points(places), {"node": numbers, "degree": degrees}


def _merged(
    lines: list[tuple[Any, dict[str, Any]]], degrees: list[int], joints: set[int]
) -> list[tuple[Any, dict[str, Any]]]:
    """Return roads of which two of a class that meet in a joint alone are one."""
    kept: dict[int, tuple[Any, dict[str, Any]]] = dict(enumerate(lines))
    ends: dict[int, list[int]] = defaultdict(list)
    for number, (_, row) in kept.items():
        for key in ("u", "v"):
            if row[key] in joints:
                ends[row[key]].append(number)
    for joint in sorted(joints):
        meeting = [number for number in ends[joint] if number in kept]
        if degrees[joint] != 2 or len(meeting) != 2 or meeting[0] == meeting[1]:
            continue
        one, other = (kept[number] for number in meeting)
        if one[1].get("class") != other[1].get("class"):
            continue
        kept[meeting[0]] = _as_one(one, other, joint)
        del kept[meeting[1]]
        degrees[joint] = 0
        for key in ("u", "v"):  # its far end, which may be a joint, too
            far = other[1][key]
            if far != joint and far in joints:
                ends[far] = [meeting[0] if n == meeting[1] else n for n in ends[far]]
    return list(kept.values())


def _as_one(
    one: tuple[Any, dict[str, Any]], other: tuple[Any, dict[str, Any]], joint: int
) -> tuple[Any, dict[str, Any]]:
    """Return two roads that meet in a node as one."""
    (first, row), (second, more) = one, other
    points, follow = shapely.get_coordinates(first), shapely.get_coordinates(second)
    if row["u"] == joint:
        points = points[::-1]
    if more["v"] == joint:
        follow = follow[::-1]
    start = row["v"] if row["u"] == joint else row["u"]
    end = more["u"] if more["v"] == joint else more["v"]
    lengths = float(row["length_m"]), float(more["length_m"])
    told = dict(row) | {"u": start, "v": end, "length_m": sum(lengths)}
    if row.keys() != more.keys():  # one is as wide as it was found, one as it was drawn
        row, more = (
            {**road, "drawn_width_m": road.get("drawn_width_m", road.get("width_m"))}
            for road in (row, more)
        )
        told["width_m"] = None
    for key in ("confidence", "width_m", "drawn_width_m"):
        pair = row.get(key), more.get(key)
        if None not in pair:
            told[key] = float(np.average(np.array(pair, float), weights=lengths))
    return shapely.linestrings(np.vstack([points, follow[1:]])), told
