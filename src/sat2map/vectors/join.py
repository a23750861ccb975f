"""Vectors of many scenes as one file: each house once, roads that go on from scene to scene.

Files come in an order, the lowest first. Where scenes overlap the one on top says what is there:
of each scene counts what lies on its own ground, its coverage without that of the scenes above.

- Coverage, water and vegetation are cut where one's own ground ends.
- A house that lies on one scene's own ground is taken as it is, and of those near a border each
  once (`joined_houses.py`).
- Roads are cut there, too, and go on from scene to scene (`joined_roads.py`).

Inner parts are streamed scene by scene; in memory are the borders, and of nodes their places.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
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
from sat2map.vectors.joined_houses import CLOSE_M, SAME, JoinedHouses
from sat2map.vectors.joined_roads import REACH_M, JoinedRoads

AREAS: tuple[LayerName, ...] = ("coverage", "water", "vegetation")

NEAR_M = 20.0
"""Metres from the border of a scene's own ground within which houses are compared."""

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
        near, border = NEAR_M / self.unit, JoinedHouses()
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
    def _network(self) -> JoinedRoads:
        return JoinedRoads(self.unit)

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
