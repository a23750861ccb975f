"""The application: which address is answered by what."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.background import BackgroundTask

import sat2map
from sat2map.errors import DataError
from sat2map.geo.grid import Bounds
from sat2map.serve.basemap import Basemap
from sat2map.serve.documents import (
    capabilities,
    endpoints_page,
    legend_json,
    scenes_page,
    tile_address,
    tile_json,
)
from sat2map.serve.guard import Access, Guard
from sat2map.serve.open_scene import LAYERS, LayerName, OpenScene
from sat2map.serve.page import PageFile
from sat2map.serve.parts import to_geojson, write_part, write_vectors
from sat2map.serve.scenes import ServedScene
from sat2map.serve.service import GONE, MOST_EXPORTED, MOST_VECTORISED, GoneError, Service
from sat2map.serve.styles import MapStyle
from sat2map.serve.tiles import Format, Tile

KINDS = {
    "png": "image/png",
    "webp": "image/webp",
    "mvt": "application/vnd.mapbox-vector-tile",
}
_TILE = re.compile(r"([0-9]{1,9})(@2x)?\.(png|webp|mvt)")
_NUMBER = re.compile(r"[0-9]{1,9}")
Box = Annotated[str, Query(max_length=200, description="west,south,east,north in degrees.")]
StyleName = Annotated[
    str | None,
    Query(max_length=200, description="Colours: one of the scene's styles; without it the usual."),
]
Longitude = Annotated[
    float, Query(ge=-180, le=180, allow_inf_nan=False, description="Degrees east (WGS 84).")
]
Latitude = Annotated[
    float, Query(ge=-90, le=90, allow_inf_nan=False, description="Degrees north (WGS 84).")
]


@dataclass(frozen=True)
class AppOptions:
    """How the server answers.

    Attributes:
        access: Who may ask.
        public_url: The server's address for those who ask, where it is not the one they call it
            by, as behind a proxy; without a slash at its end.
        attribution: Whom those who show a scene are to name.
        basemap: What the page shows below everything, if anything.
        page: The files of the page by their names, as `read_page` gives them; none without it.
    """

    access: Access = field(default_factory=Access)
    public_url: str | None = None
    attribution: str | None = None
    basemap: Basemap | None = None
    page: Mapping[str, PageFile] = field(default_factory=dict)


def make_app(service: Service, options: AppOptions | None = None) -> Guard:
    """Return the application, for uvicorn or any other server of ASGI.

    Args:
        service: The scenes.
        options: How it answers.
    """
    options = options or AppOptions()
    app = FastAPI(
        title="sat2map",
        version=sat2map.__version__,
        description="Tiles of photos and of the maps that a model makes of them.",
        docs_url=None,  # pages that load scripts from elsewhere
        redoc_url=None,
    )

    @app.exception_handler(GoneError)
    async def gone(request: Request, error: GoneError) -> Response:
        return Response(status_code=GONE)

    _add_pages(app, service, options)
    _add_scene(app, service, options)
    _add_parts(app, service, options.attribution)
    _add_tiles(app, service)
    return Guard(app, options.access, options.basemap)


def _add_pages(app: FastAPI, service: Service, options: AppOptions) -> None:
    """Add what is not of one scene."""

    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> Response:
        """The page, or what to do where there is none."""
        if "index.html" in options.page:
            page = options.page["index.html"]
            return Response(page.body, media_type=page.kind, headers=_NOT_KEPT)
        found = await _listed(service)
        base = _base(request, options)
        return HTMLResponse(scenes_page(found, base, has_page=False), headers=_NOT_KEPT)

    @app.get("/assets/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        found = options.page.get(f"assets/{name}")
        if found is None:
            raise HTTPException(404, "There is no such file.")
        headers = {"Cache-Control": "max-age=31536000, immutable"}  # names tell what is in them
        return Response(found.body, media_type=found.kind, headers=headers)

    @app.get("/scenes")
    async def scenes(request: Request) -> Response:
        """All scenes, their bounds in degrees and their layers; a page for browsers."""
        found = await _listed(service)
        if _wants_html(request):
            text = scenes_page(found, _base(request, options), has_page=bool(options.page))
            return HTMLResponse(text, headers=_NOT_KEPT)
        told: dict[str, Any] = {"scenes": found}
        if options.basemap is not None:
            told["basemap"] = options.basemap.to_json()
        return JSONResponse(told, headers=_NOT_KEPT)

    @app.get("/healthz")
    async def health() -> dict[str, Any]:
        """Whether the server is well."""
        return {
            "status": "ok",
            "version": sat2map.__version__,
            "windows_waiting": service.workshop.pool.waiting,
            "instructions": service.workshop.instructions,
        }

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(endpoints_page(app.openapi()))


def _add_scene(app: FastAPI, service: Service, options: AppOptions) -> None:
    """Add what tells of a scene."""

    @app.get("/scenes/{id}/{layer}/tilejson.json")
    async def tilejson(request: Request, id: str, layer: str, style: StyleName = None) -> Response:
        """A layer as TileJSON."""
        served, current = await _found(service, id)
        name = _layer(current, layer)
        _style(current, name, style)
        place = f"{{z}}/{{x}}/{{y}}.{'mvt' if name == 'vectors' else 'png'}"
        address = tile_address(_base(request, options), id, name, place, _token(request), style)
        told = tile_json(current, served.name, name, address, options.attribution)
        return JSONResponse(told, headers=_NOT_KEPT)

    @app.get("/scenes/{id}/WMTSCapabilities.xml")
    async def wmts(request: Request, id: str) -> Response:
        """The scene's layers for QGIS and others that read WMTS."""
        served, current = await _found(service, id)
        base = _base(request, options)
        text = capabilities(current, id, served.name, base, _token(request), options.attribution)
        return Response(text, media_type="application/xml", headers=_NOT_KEPT)

    @app.get("/scenes/{id}/style.json")
    async def vector_style(request: Request, id: str) -> Response:
        """How an archive of vector tiles is drawn: a MapLibre style."""
        served, current = await _found(service, id)
        _layer(current, "vectors")
        assert current.archive is not None
        place = "{z}/{x}/{y}.mvt"
        address = tile_address(_base(request, options), id, "vectors", place, _token(request))
        try:
            told = await service.in_reader(served, current.archive.style, address)
        except DataError as error:
            raise HTTPException(500, f"{served.name}: {error.what}.") from error
        return JSONResponse(told, headers=_NOT_KEPT)

    @app.get("/scenes/{id}/styles")
    async def styles(id: str) -> Response:
        """The colours that the layer `map` can be had in, the usual ones first."""
        _, current = await _found(service, id)
        return JSONResponse({"styles": list(current.styles)}, headers=_NOT_KEPT)

    @app.get("/scenes/{id}/legend")
    async def legend(
        id: str,
        layer: Annotated[str, Query(description="classes, or map for what it draws.")] = "classes",
        style: StyleName = None,
    ) -> Response:
        """What the numbers of the classes mean, and their colours; of `map` what it draws."""
        _, current = await _found(service, id)
        if layer not in ("classes", "map"):
            raise HTTPException(404, "There are legends of the layers classes and map.")
        name = cast(LayerName, layer)
        told = current.legend_of(name, _style(current, name, style))
        return JSONResponse(legend_json(told), headers=_NOT_KEPT)

    @app.get("/scenes/{id}/point")
    async def point(request: Request, id: str, lon: Longitude, lat: Latitude) -> Response:
        """The class at a place, how sure it is (0 to 1), and the side of a pixel in metres."""
        served, current = await _found(service, id)
        answer = await service.point(request, served, current, lon, lat)
        return JSONResponse(answer, headers=_NOT_KEPT)

    @app.get("/scenes/{id}/warm")
    async def warmth(id: str) -> Response:
        """How many of the scene's windows are there, of how many."""
        served, current = await _found(service, id)
        return JSONResponse(_warmth(service, served, current), headers=_NOT_KEPT)


def _warmth(service: Service, served: ServedScene, current: OpenScene) -> dict[str, Any]:
    results = current.results
    done, count = (0, 0) if results is None else (results.known_count(), results.count)
    return {"done": done, "all": count, "running": service.is_warming(served)}


def _add_parts(app: FastAPI, service: Service, attribution: str | None) -> None:
    """Add what costs much: files of a part, and windows made ahead."""

    @app.post("/scenes/{id}/warm", status_code=202)
    async def warm(request: Request, id: str) -> Response:
        """Translate all of the scene ahead, beside everything else."""
        served, current = await _found(service, id)
        if current.results is not None and not service.is_warming(served):
            grid = current.results.grid
            service.spend(request, grid.height * grid.width)
            service.warm(served, current)
        return JSONResponse(_warmth(service, served, current), 202, _NOT_KEPT)

    @app.get("/scenes/{id}/vectors.geojson")
    async def vectors(request: Request, id: str, bbox: Box) -> Response:
        """Land cover, buildings and roads within west,south,east,north in degrees."""
        served, current = await _found(service, id)
        layer = _layer(current, "classes")
        part = service.part_in(served, current, layer, _bounds(bbox), MOST_VECTORISED)
        service.spend(request, part.height * part.width)

        def write(stop: threading.Event) -> bytes:
            with tempfile.TemporaryDirectory(prefix="sat2map-") as folder:
                target = Path(folder) / "part.gpkg"
                write_vectors(current, part, target, attribution, stop)
                return to_geojson(target)

        body = await service.write(request, served, current, layer, part, write)
        return Response(body, media_type="application/geo+json", headers=_NOT_KEPT)

    @app.get("/scenes/{id}/export")
    async def export(
        request: Request,
        id: str,
        bbox: Box,
        format: Annotated[Literal["tif", "gpkg"], Query(description="tif or gpkg.")] = "tif",
        layer: Annotated[str, Query(description="Of tif: the layer.")] = "classes",
        style: StyleName = None,
    ) -> Response:
        """A part of a layer as a GeoTIFF, or its vectors as a GeoPackage."""
        served, current = await _found(service, id)
        name = _layer(current, "classes" if format == "gpkg" else layer)
        if name == "numbers":
            name = "classes"  # the same in a file
        painted = _style(current, name, style)
        most = MOST_VECTORISED if format == "gpkg" else MOST_EXPORTED
        part = service.part_in(served, current, name, _bounds(bbox), most)
        service.spend(request, part.height * part.width)
        folder = Path(tempfile.mkdtemp(prefix="sat2map-"))
        target = folder / f"part.{format}"

        def write(stop: threading.Event) -> None:
            if format == "gpkg":
                write_vectors(current, part, target, attribution, stop)
            else:
                write_part(current, name, part, target, attribution, stop, painted)

        try:
            await service.write(request, served, current, name, part, write)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return FileResponse(
            target,
            media_type="application/geopackage+sqlite3" if format == "gpkg" else "image/tiff",
            filename=f"{id}-{name}.{format}",
            headers={"Cache-Control": "no-store"},
            background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
        )


def _bounds(text: str) -> Bounds:
    """Return west, south, east and north, or answer 422."""
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError as error:
        raise HTTPException(422, "bbox: give west,south,east,north in degrees.") from error
    return west, south, east, north


def _add_tiles(app: FastAPI, service: Service) -> None:
    @app.get("/scenes/{id}/{layer}/{z}/{x}/{tile}")
    async def tile(
        request: Request,
        id: str,
        layer: str,
        z: str,
        x: str,
        tile: str,
        style: StyleName = None,
    ) -> Response:
        """A tile: {y}.png, {y}.webp, {y}.mvt of vectors; {y}@2x.png has twice as many pixels."""
        found = _TILE.fullmatch(tile)
        if found is None or not (_NUMBER.fullmatch(z) and _NUMBER.fullmatch(x)):
            raise HTTPException(404, "A tile is called Z/X/Y.png, or Z/X/Y@2x.webp.")
        wanted = Tile(int(z), int(x), int(found[1]), 2 if found[2] else 1)
        if not wanted.exists:
            raise HTTPException(404, "There is no such tile.")
        served, current = await _found(service, id)
        name = _layer(current, layer)
        if (name == "vectors") != (found[3] == "mvt"):
            raise HTTPException(404, "Tiles of vectors are called Z/X/Y.mvt, others not.")
        if not wanted.touches(current.bounds):
            raise HTTPException(404, "The scene does not reach there.")
        painted = _style(current, name, style)
        colours = "" if painted is None else f"-{painted.fingerprint}"
        etag = f'"{current.key}-{name}{colours}-{wanted.scale}-{found[3]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if name == "vectors":
            body = await service.vector_tile(served, current, wanted)
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
            else:
                body = gzip.decompress(body)
            return Response(body, media_type=KINDS["mvt"], headers=headers)
        format = cast(Format, found[3])
        answer = await service.tile(request, served, current, name, wanted, format, painted)
        if not answer.complete:
            headers = {"X-Sat2map-Complete": "0", "Cache-Control": "no-store"}
        return Response(answer.body, media_type=KINDS[format], headers=headers)


_NOT_KEPT = {"Cache-Control": "no-cache"}


async def _found(service: Service, id: str) -> tuple[ServedScene, OpenScene]:
    served = service.scene(id)
    return served, await service.current(served)


def _layer(current: OpenScene, layer: str) -> LayerName:
    for name in LAYERS:
        if name == layer and name in current.layers:
            return name
    raise HTTPException(404, "The scene has no such layer.")


def _style(current: OpenScene, layer: LayerName, style: str | None) -> MapStyle | None:
    """Return the style that is asked for, or the usual one, or answer 404."""
    known = current.styles_of(layer)
    if style is None:
        return next(iter(known.values()), None)
    if style not in known:
        told = f"Its styles are {', '.join(known)}." if known else "It has no styles."
        raise HTTPException(404, f"The layer has no such style. {told}")
    return known[style]


async def _listed(service: Service) -> list[dict[str, Any]]:
    """Return all scenes as they are now; those that cannot be shown with the reason."""
    found: list[dict[str, Any]] = []
    for served in service.scenes.values():
        facts: dict[str, Any] = {"id": served.id, "name": served.name}
        try:
            current = await service.current(served)
            facts |= {"bounds": list(current.bounds), "layers": list(current.layers)}
        except HTTPException as error:
            facts |= {"bounds": None, "layers": [], "error": error.detail}
        found.append(facts)
    return found


def _wants_html(request: Request) -> bool:
    """Return whether who asks would rather have a page than JSON."""
    for kind in request.headers.get("accept", "").split(","):
        name = kind.partition(";")[0].strip()
        if name in ("text/html", "application/xhtml+xml"):
            return True
        if name == "application/json":
            return False
    return False


def _base(request: Request, options: AppOptions) -> str:
    """Return the server's address, without a slash at its end."""
    if options.public_url is not None:
        return options.public_url.rstrip("/")
    root = request.scope.get("root_path", "")  # with the path that it is mounted under
    return str(request.base_url.replace(path=root)).rstrip("/")


def _token(request: Request) -> str | None:
    """Return the token that stands in the address, which others made of it need as well."""
    return request.query_params.get("token")
