"""What answers do: tiles and windows, waited for as long as somebody waits for them."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fastapi import HTTPException, Request

from sat2map.errors import DataError, MissingExtraError, OutputError, Sat2mapError, UsageError
from sat2map.geo.grid import Bounds, Part, check_bbox, ground_resolution, project, window_of
from sat2map.serve.budget import Budget
from sat2map.serve.memory import RecentMemory
from sat2map.serve.open_scene import LayerName, OpenScene
from sat2map.serve.pool import QueueFullError, Ticket
from sat2map.serve.results import Results, Window
from sat2map.serve.scenes import ServedScene
from sat2map.serve.styles import MapStyle
from sat2map.serve.tiles import Format, Tile, encode, need_of, read_tile
from sat2map.serve.warming import warm_up
from sat2map.serve.workshop import Workshop

if TYPE_CHECKING:
    from rasterio.crs import CRS

T = TypeVar("T")

MOST_WINDOWS = 16
"""Windows that a tile may wait for; one that needs more shows what there is."""

PATIENCE_S = 30.0
"""Seconds after which a tile is answered, whether it is there or not."""

RETRY_S = 2
"""Seconds after which who is turned away may ask again."""

PAINTERS = 2
"""Threads that make tiles of what is there, and as many for each scene whose file is read."""

TILE_BYTES = 64 * 2**20
"""Bytes of tiles, as they are sent, that are kept in memory."""

MOST_EXPORTED = 64_000_000
"""Pixels of a part that may be had as a raster."""

MOST_VECTORISED = 16_000_000
"""Pixels of a part that may be had as vectors."""

EXPORTS = 2
"""Parts that are written at once."""

END_S = 1.0
"""Seconds that threads which read files get when the server ends."""

GONE = 499
"""The status of an answer that nobody waits for any more."""


class GoneError(Exception):
    """Who asked has gone."""


@dataclass(frozen=True)
class TileAnswer:
    """A tile as it is sent, and whether all of it is there."""

    body: bytes
    complete: bool


class Service:
    """The scenes of a server and the threads that make its tiles.

    Args:
        workshop: What makes results.
        scenes: What is served.
    """

    def __init__(self, workshop: Workshop, scenes: Sequence[ServedScene]) -> None:
        self.workshop = workshop
        self.scenes = {scene.id: scene for scene in scenes}
        self._tiles: RecentMemory[bytes] = RecentMemory(TILE_BYTES, len)
        self._painters = ThreadPoolExecutor(PAINTERS, "sat2map-paint")
        self._readers: dict[str, ThreadPoolExecutor] = {}
        self._warming: set[str] = set()
        self._writers = ThreadPoolExecutor(EXPORTS, "sat2map-write")
        self._writing = 0
        self._at_work: set[Future[Any]] = set()
        self.budget = Budget()

    def scene(self, id: str) -> ServedScene:
        """Return a scene by its id, or answer 404."""
        found = self.scenes.get(id)
        if found is None:
            raise HTTPException(404, "There is no such scene.")
        return found

    async def current(self, served: ServedScene) -> OpenScene:
        """Return what a scene holds now, or answer 404 where it has gone or cannot be read."""
        fresh = served.fresh()
        if fresh is not None:
            return fresh
        try:
            return await self._in(self._reader(served), served.current)
        except Sat2mapError as error:
            raise HTTPException(404, told(served, error)) from error

    async def tile(
        self,
        request: Request,
        served: ServedScene,
        current: OpenScene,
        layer: LayerName,
        tile: Tile,
        format: Format,
        style: MapStyle | None = None,
    ) -> TileAnswer:
        """Return a tile, made as far as it is there within its time."""
        if current.archive is not None:
            read, image = self._reader(served), current.archive.image
            place = (tile.zoom, tile.x, tile.y, tile.scale)
            try:
                body = await self._in(read, image, *place, format)
            except DataError as error:
                raise HTTPException(500, told(served, error)) from error
            return TileAnswer(body, True)
        key = (current.key, layer, tile, format, style)
        kept = self._tiles.get(key)
        if kept is not None:
            return TileAnswer(kept, True)
        painter = self._reader(served) if current.results is None or layer == "photo" else None
        try:
            need = await self._in(painter, need_of, tile, current.level_grid(layer, 0))
            if need.part is not None:
                windows = current.windows(layer, need.level, need.part)
                await self._have(request, current.results, windows, MOST_WINDOWS)
            made = await self._in(painter, self._made, current, layer, tile, need, format, style)
        except DataError as error:
            raise HTTPException(500, told(served, error)) from error
        if made.complete:
            self._tiles.put(key, made.body)
        return made

    @staticmethod
    def _made(
        current: OpenScene,
        layer: LayerName,
        tile: Tile,
        need: Any,
        format: Format,
        style: MapStyle | None,
    ) -> TileAnswer:
        values, inside, complete = read_tile(current, layer, tile, need, style)
        legend = current.legend_of(layer, style)
        return TileAnswer(encode(values, inside, layer, format, legend), complete)

    async def point(
        self, request: Request, served: ServedScene, current: OpenScene, lon: float, lat: float
    ) -> dict[str, Any]:
        """Return the class at a place and how sure it is, or answer 404 outside of the scene."""
        if current.archive is not None:
            raise HTTPException(404, f"{served.name}: tiles of an archive do not tell of points.")
        layer: LayerName = "classes" if "classes" in current.layers else current.layers[0]
        grid = current.level_grid(layer, 0)
        assert grid.crs is not None
        place = project(_wgs84(), grid.crs, np.array([(lon, lat)]))
        part = None
        if np.isfinite(place).all():
            column, row = (int(np.floor(v)) for v in ~grid.transform @ (place[0, 0], place[0, 1]))
            if 0 <= row < grid.height and 0 <= column < grid.width:
                part = Part(row, column, 1, 1)
        if part is None:
            raise HTTPException(404, "The scene does not reach there.")
        ground = ground_resolution(grid)
        found: dict[str, Any] = {"lon": lon, "lat": lat, "class": None, "number": None}
        found |= {"confidence": None, "metres": None if ground is None else max(ground)}
        try:
            await self._have(request, current.results, current.windows(layer, 0, part), 1)
            for name in ("classes", "confidence"):
                if name not in current.layers:
                    continue
                values, shown, complete = await self._in(None, current.read, name, 0, part)
                if not complete:
                    raise HTTPException(503, "Ask again.", {"Retry-After": str(RETRY_S)})
                if not shown.any():
                    break
                if name == "confidence":
                    found[name] = round(int(values[0, 0]) / 255, 3)
                elif current.legend is not None:
                    found["number"] = int(values[0, 0])
                    found["class"] = current.legend.names[found["number"]]
        except DataError as error:
            raise HTTPException(500, told(served, error)) from error
        return found

    def part_in(
        self, served: ServedScene, current: OpenScene, layer: LayerName, bounds: Bounds, most: int
    ) -> Part:
        """Return the pixels of a layer within bounds in degrees; answer 404, 413 or 422 for others.

        Args:
            served: The scene.
            current: What it holds.
            layer: The layer.
            bounds: West, south, east, north.
            most: Pixels that are allowed.
        """
        if current.archive is not None:
            raise HTTPException(404, f"{served.name}: an archive is had as the file that it is.")
        grid = current.level_grid(layer, 0)
        try:
            check_bbox(bounds)
        except UsageError as error:
            raise HTTPException(422, f"bbox: {error.what}.") from error
        try:
            part = Part(*window_of(grid, bounds, served.name))
        except UsageError as error:
            raise HTTPException(404, "The scene does not reach there.") from error
        if part.height * part.width > most:
            raise HTTPException(
                413,
                f"That is {part.height * part.width:,} pixels, and {most:,} may be had at once.",
            )
        return part

    def spend(self, request: Request, pixels: int) -> None:
        """Take pixels from the budget of who asks, or answer 429."""
        client = "" if request.client is None else request.client.host
        wait = self.budget.spend(client, pixels)
        if wait is not None:
            text = "So much may not be had in so short a time. Ask again later."
            raise HTTPException(429, text, {"Retry-After": str(math.ceil(wait))})

    async def write(
        self,
        request: Request,
        served: ServedScene,
        current: OpenScene,
        layer: LayerName,
        part: Part,
        work: Callable[[threading.Event], T],
    ) -> T:
        """Have a part's windows made, then something written of it, while who asked waits.

        Args:
            request: Who asks.
            served: The scene.
            current: What it holds.
            layer: Of which something is written.
            part: Its pixels.
            work: Writes it, until the event that it is given asks to stop.
        """
        if self._writing >= EXPORTS:
            text = "Other parts are being written. Ask again."
            raise HTTPException(503, text, {"Retry-After": str(RETRY_S)})
        self._writing += 1
        stop, gone = threading.Event(), asyncio.ensure_future(_until_gone(request))
        try:
            windows = current.windows(layer, 0, part)
            for start in range(0, len(windows), MOST_WINDOWS):
                some = windows[start : start + MOST_WINDOWS]
                await self._have(request, current.results, some, MOST_WINDOWS, gone, idle=True)
            loop = asyncio.get_running_loop()
            writing = loop.run_in_executor(self._writers, work, stop)
            either: set[asyncio.Future[Any]] = {writing, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                stop.set()
                await asyncio.wait({writing})
                writing.exception()
                raise GoneError
            return writing.result()
        except MissingExtraError as error:
            raise HTTPException(
                501, f"The server lacks what makes vectors: {error.what}"
            ) from error
        except OutputError as error:
            raise HTTPException(507, "The server's disk is full.") from error
        except DataError as error:
            raise HTTPException(500, told(served, error)) from error
        finally:
            gone.cancel()
            self._writing -= 1

    async def _have(
        self,
        request: Request,
        results: Results | None,
        windows: Sequence[Window],
        most: int,
        gone: asyncio.Future[None] | None = None,
        *,
        idle: bool = False,
    ) -> None:
        """Have windows made, unless they are too many; give them up where the client goes.

        Args:
            request: Who asks.
            results: Whose windows.
            windows: Which.
            most: How many are waited for; if more are missing, none is.
            gone: Is done when the client goes; None waits for that here.
            idle: Whether they wait until nobody else waits for anything, however long.
        """
        if results is None:
            return
        missing = results.missing(windows)
        if not missing or len(missing) > most:
            return
        client = None if request.client is None else tuple(request.client)
        tickets: list[Ticket] = []
        leaves = asyncio.ensure_future(_until_gone(request)) if gone is None else gone
        try:
            for window in missing:  # one by one, so that those of a full queue are given up
                ticket = results.ask(window, client, idle=idle)
                tickets.append(ticket)
            waited = [asyncio.wrap_future(ticket.future) for ticket in tickets]
            whole: asyncio.Future[Any] = asyncio.gather(*waited)
            whole.add_done_callback(_look_at)
            either: set[asyncio.Future[Any]] = {whole, leaves}
            done, _ = await asyncio.wait(
                either,
                timeout=None if idle else PATIENCE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if whole in done:
                whole.result()
                return
            whole.cancel()
            await asyncio.gather(whole, *waited, return_exceptions=True)
            if leaves in done:
                raise GoneError
            raise HTTPException(
                504, "The scene takes long to be read. Ask again.", {"Retry-After": str(RETRY_S)}
            )
        except QueueFullError as error:
            text = "Too many tiles are asked for at once. Ask again."
            raise HTTPException(503, text, {"Retry-After": str(RETRY_S)}) from error
        finally:
            if gone is None:
                leaves.cancel()
            for ticket in tickets:
                ticket.give_up()

    def warm(self, served: ServedScene, current: OpenScene) -> None:
        """Have all windows of a scene made, where nobody waits for others."""
        results = current.results
        if results is None or served.id in self._warming:
            return
        self._warming.add(served.id)

        def work() -> None:
            try:
                warm_up(results, threading.Event())
            finally:
                self._warming.discard(served.id)

        threading.Thread(target=work, name="sat2map-warm", daemon=True).start()

    def is_warming(self, served: ServedScene) -> bool:
        """Return whether a scene's windows are made ahead."""
        return served.id in self._warming

    async def vector_tile(self, served: ServedScene, current: OpenScene, tile: Tile) -> bytes:
        """Return a vector tile of an archive, gzipped."""
        assert current.archive is not None
        try:
            read = current.archive.vector_tile
            return await self._in(self._reader(served), read, tile.zoom, tile.x, tile.y)
        except DataError as error:
            raise HTTPException(500, told(served, error)) from error

    async def in_reader(self, served: ServedScene, work: Callable[..., T], *given: Any) -> T:
        """Call something that reads a scene, in one of its own threads."""
        return await self._in(self._reader(served), work, *given)

    def close(self) -> bool:
        """Make nothing more; return whether all threads have ended, or do so at once."""
        for executor in (self._painters, self._writers, *self._readers.values()):
            executor.shutdown(wait=False, cancel_futures=True)
        ended = self.workshop.pool.close()
        ended = not wait(list(self._at_work), timeout=END_S).not_done and ended
        for scene in self.scenes.values():
            scene.close()
        return ended

    def _reader(self, served: ServedScene) -> ThreadPoolExecutor:
        """Return the threads of a scene, whose file may be slow to read."""
        if served.id not in self._readers:
            self._readers[served.id] = ThreadPoolExecutor(PAINTERS, "sat2map-read")
        return self._readers[served.id]

    async def _in(
        self, executor: ThreadPoolExecutor | None, work: Callable[..., T], *given: Any
    ) -> T:
        """Call something in another thread; answer 504 where that takes too long."""
        running = (executor or self._painters).submit(work, *given)
        self._at_work.add(running)
        running.add_done_callback(self._at_work.discard)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), PATIENCE_S)
        except TimeoutError as error:
            raise HTTPException(
                504, "The scene takes long to be read. Ask again.", {"Retry-After": str(RETRY_S)}
            ) from error


def told(served: ServedScene, error: Sat2mapError) -> str:
    """Return an error for those who ask: the scene's name in place of where its file lies."""
    return f"{served.name}: {error.what}."


def _look_at(done: asyncio.Future[Any]) -> None:
    """Look at what went wrong, which asyncio writes into the log where nobody does."""
    if not done.cancelled():
        done.exception()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@functools.cache
def _wgs84() -> CRS:
    from rasterio.crs import CRS

    return CRS.from_epsg(4326)
