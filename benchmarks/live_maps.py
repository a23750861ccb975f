"""Live maps: how many tiles a second `sat2map serve` answers with, on loopback.

- `cold`: ground that nobody has looked at, browsed as a person does: four clients at four places,
  each with six connections as browsers have, look at 5 x 4 tiles of the map and go on by two
  columns of tiles, eight times. The first tile of each client is told by itself.
- `cached`: tiles of classes that were asked for before, by wrk (Debian's package `wrk`) on 16
  connections and on 200.
- `clients`: 200 clients who all ask for ground that nobody has looked at, at once; what they are
  answered, and after how long a tile that is there comes as fast as before.
- `page`: the page in Chromium (with Playwright, drawing in software), opened anew without anything
  kept in the browser, of ground that the server has: until its first tile is there, and until all
  of the view is drawn. What is kept of the server is what a visit before has asked for.
- `soak`: so many `--requests` of tiles of all layers and of points; the memory of the server's
  process after the first 1,000 of them and after all.

Beside what the clock says stands the processor's time of the server for each answer, which other
work on the machine disturbs less. The exit status is 1 where an answer was neither a tile nor 503,
or memory grew by more than a twentieth.

The scene is a procedural town. The server runs the shipped model on as many threads as it likes.

    python benchmarks/live_maps.py [cold] [cached] [clients] [page] [soak] [--side 4096]
        [--seconds 10] [--requests 100000] [--at-most-s 75] [--scene FILE] [--isa avx2]

With `--isa avx2` the server computes as on a processor without AVX-512. After what was measured its
`/healthz` is asked which instructions the convolutions did use, and it is an error if others.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio

from instructions import LIMITS
from sat2map.geo.web_mercator import position
from sat2map.towns.write import write_scene

CLIENTS, CONNECTIONS = 4, 6
WIDE, HIGH, STEPS = 5, 4, 8
CROWD = 200

Tile = tuple[int, int, int]

VISITS = 7
"""How often the page is opened."""

WATCH = """
new MutationObserver(() => {
  const told = document.documentElement?.dataset ?? {};
  const asked = performance.getEntriesByType("resource");
  const tiles = asked
    .filter((entry) => /\\/map\\/\\d/.test(entry.name))
    .map((entry) => entry.responseEnd);
  if (told.ready && told.drawn && tiles.length && !told.shown)
    told.shown = JSON.stringify([Math.min(...tiles), performance.now(), tiles.length]);
}).observe(document, { attributes: true, subtree: true });
"""
"""Notes when the first tile of the map was there and when all was drawn, in ms since the page was
asked for."""

SCRIPT = """
local paths = {%s}
local number = 0
request = function()
  number = number + 1
  return wrk.format("GET", paths[number %% #paths + 1])
end
"""


def make_scene(folder: Path, side: int) -> Path:
    """Write a town of 1,024 pixels, mirrored until it fills the side."""
    town = write_scene(folder / "town", 1024, seed=3).photo
    with rasterio.open(town) as file:
        pixels, facts = file.read(), file.profile
    for axis in (1, 2):
        while pixels.shape[axis] < side:
            pixels = np.concatenate([pixels, np.flip(pixels, axis)], axis)
    pixels = pixels[:, :side, :side]
    facts |= {"height": side, "width": side, "tiled": True, "blockxsize": 256, "blockysize": 256}
    path = folder / "scene.tif"
    with rasterio.open(path, "w", **facts) as file:
        file.write(pixels)
    return path


@contextmanager
def serving(
    scene: Path, cache: Path, isa: str | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server with a cache of its own, and yield its process and its port.

    Args:
        scene: What it serves.
        cache: Where it keeps windows.
        isa: The widest instructions it may use; None for all that there are.
    """
    command = [sys.executable, "-m", "sat2map", "serve", str(scene), "--port", "0"]
    limits = {} if isa is None else LIMITS[isa]
    environment = os.environ | limits | {"SAT2MAP_CACHE": str(cache)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            yield process, int(address.rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, float]:
    """Return the status and the seconds of an answer.

    A connection on which nothing was said for long is closed by the server, and opened again here.
    """
    begun = time.perf_counter()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
    except (http.client.RemoteDisconnected, ConnectionResetError):
        connection.close()
        connection.request("GET", path)
        answer = connection.getresponse()
    answer.read()
    return answer.status, time.perf_counter() - begun


def all_tiles(port: int, layer: str) -> list[Tile]:
    """Return the tiles of the scene's own resolution, row by row."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/scenes/scene/{layer}/tilejson.json")
    told = json.loads(connection.getresponse().read())
    zoom = told["maxzoom"]
    west, south, east, north = told["bounds"]
    left, top = (int(v) + 1 for v in position(west, north, zoom))
    right, bottom = (int(v) for v in position(east, south, zoom))
    return [(zoom, x, y) for y in range(top, bottom) for x in range(left, right)]


def path_of(tile: Tile, layer: str) -> str:
    return "/scenes/scene/{}/{}/{}/{}.png".format(layer, *tile)


def memory_mb(process: subprocess.Popen[str]) -> float:
    """Return the memory of a process, in megabytes."""
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def processor_s(process: subprocess.Popen[str]) -> float:
    """Return the processor's time that a process has taken, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def browse(process: subprocess.Popen[str], port: int, tiles: list[Tile]) -> None:
    """Print how fast cold ground is shown to clients who look around."""
    columns = sorted({x for _, x, _ in tiles})
    rows = sorted({y for _, _, y in tiles})
    zoom = tiles[0][0]
    corners = [
        (columns[number % 2 * (len(columns) // 2)], rows[number // 2 * (len(rows) // 2)])
        for number in range(CLIENTS)
    ]
    firsts: list[float] = []
    statuses: list[int] = []

    def look(client: int) -> None:
        left, top = corners[client]
        connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for step in range(STEPS):
                first = left + 2 * step
                new = range(first if step == 0 else first + WIDE - 2, first + WIDE)
                wanted = [
                    (zoom, x, y)
                    for y in range(top, top + HIGH)
                    for x in new
                    if x in columns and y in rows
                ]
                parts = [wanted[number::CONNECTIONS] for number in range(CONNECTIONS)]

                def get(
                    connection: http.client.HTTPConnection, part: list[Tile]
                ) -> list[tuple[int, float]]:
                    return [ask(connection, path_of(tile, "map")) for tile in part]

                answers = [a for done in pool.map(get, connections, parts) for a in done]
                statuses.extend(status for status, _ in answers)
                if answers:
                    firsts.append(min(seconds for _, seconds in answers))

    begun, before = time.perf_counter(), processor_s(process)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(look, range(CLIENTS)))
    seconds = time.perf_counter() - begun
    firsts.sort()
    print(
        f"cold, browsed by {CLIENTS}: {len(statuses) / seconds:.1f} tiles a second; first tile "
        f"median {1000 * statistics.median(firsts):.0f} ms, "
        f"p95 {1000 * firsts[int(0.95 * (len(firsts) - 1))]:.0f} ms; processor "
        f"{1000 * (processor_s(process) - before) / len(statuses):.1f} ms a tile; "
        f"answers { {s: statuses.count(s) for s in set(statuses)} }"
    )


def wrk(port: int, paths: list[str], connections: int, seconds: float, folder: Path) -> str:
    """Return what wrk prints of some paths, asked for in turn."""
    script = folder / "tiles.lua"
    script.write_text(SCRIPT % ",".join(f'"{path}"' for path in paths))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--latency"]
    command += ["-s", str(script), f"http://127.0.0.1:{port}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def counts(printed: str) -> tuple[int, int]:
    """Return how many answers wrk had, and how many of them were others than 200."""
    count = re.search(r"(\d+) requests in", printed)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    assert count is not None
    return int(count[1]), int(wrong[1]) if wrong else 0


def load(
    process: subprocess.Popen[str], port: int, tiles: list[Tile], folder: Path, seconds: int
) -> bool:
    """Print what wrk says of tiles that are there; return whether all was answered."""
    chosen = [path_of(tile, "classes") for tile in tiles[:: max(len(tiles) // 200, 1)]]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for path in chosen:
        ask(connection, path)
    well = True
    for connections in (16, 200):
        before = processor_s(process)
        printed = wrk(port, chosen, connections, seconds, folder)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
        last = re.search(r"99%\s+([\d.]+\w+)", printed)
        assert rate is not None and last is not None
        count, wrong = counts(printed)
        well = well and not wrong
        print(
            f"cached, {connections} connections: {float(rate[1]):.0f} tiles a second, p99 "
            f"{last[1]}, processor {1000 * (processor_s(process) - before) / count:.2f} ms a tile, "
            f"{count} answers, others than 200: {wrong}; memory {memory_mb(process):.0f} MB"
        )
    return well


def crowd(port: int, tiles: list[Tile]) -> bool:
    """Print what clients get who all come at once; return whether it was tiles or 503."""
    there = path_of(tiles[0], "map")
    connection = http.client.HTTPConnection("127.0.0.1", port)
    ask(connection, there)
    usual = statistics.median(ask(connection, there)[1] for _ in range(20))
    chosen = tiles[:: max(len(tiles) // CROWD, 1)][:CROWD]

    def come(tile: Tile) -> tuple[int, float]:
        return ask(http.client.HTTPConnection("127.0.0.1", port), path_of(tile, "map"))

    with ThreadPoolExecutor(CROWD) as pool:
        answers = list(pool.map(come, chosen))
    begun = time.perf_counter()
    while ask(connection, there)[1] > 3 * usual and time.perf_counter() - begun < 30:
        time.sleep(0.05)
    well_again = time.perf_counter() - begun
    statuses = [status for status, _ in answers]
    print(
        f"{len(chosen)} clients at once: answers "
        f"{ {s: statuses.count(s) for s in set(statuses)} }, the last after "
        f"{max(seconds for _, seconds in answers):.1f} s; a tile that is there comes as before "
        f"after {well_again:.1f} s"
    )
    return set(statuses) <= {200, 503}


def visit(port: int) -> None:
    """Print how soon the page shows something, and all of its view."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    graphics = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
    taken: list[tuple[float, float, int]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*graphics, "--enable-unsafe-swiftshader"]
        )
        for _ in range(VISITS + 1):
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            page = context.new_page()
            page.add_init_script(WATCH)
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector("html[data-shown]", timeout=120_000)
            first, drawn, count = json.loads(page.get_attribute("html", "data-shown") or "[]")
            taken.append((first, drawn, count))
            context.close()
        browser.close()
    firsts, all_drawn = (sorted(one[n] for one in taken[1:]) for n in (0, 1))
    print(
        f"page, {taken[-1][2]} tiles of the map in view: first tile after {firsts[0]:.0f} / "
        f"{statistics.median(firsts):.0f} / {firsts[-1]:.0f} ms, all drawn after "
        f"{all_drawn[0]:.0f} / {statistics.median(all_drawn):.0f} / {all_drawn[-1]:.0f} ms (of "
        f"{VISITS} visits); the visit before, to cold ground: {taken[0][0]:.0f} and "
        f"{taken[0][1]:.0f} ms"
    )


def soak(
    process: subprocess.Popen[str],
    port: int,
    tiles: list[Tile],
    folder: Path,
    requests: int,
    at_most_s: float,
) -> bool:
    """Print the memory after many requests; return whether it stays within a twentieth."""
    chosen = tiles[:: max(len(tiles) // 50, 1)]
    paths = [path_of(tile, layer) for tile in chosen for layer in ("map", "classes", "photo")]
    for zoom, x, y in chosen:
        lon = (x + 0.5) / 2**zoom * 360 - 180
        lat = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (y + 0.5) / 2**zoom))))
        paths.append(f"/scenes/scene/point?lon={lon:.7f}&lat={lat:.7f}")
    connection = http.client.HTTPConnection("127.0.0.1", port)
    wrong = sum(ask(connection, paths[n % len(paths)])[0] != 200 for n in range(1000))
    first, done, begun = memory_mb(process), 1000, time.perf_counter()
    while done < requests and (left := at_most_s - (time.perf_counter() - begun)) > 1:
        count, others = counts(wrk(port, paths, 16, min(10, left), folder))
        done, wrong = done + count, wrong + others
    after = memory_mb(process)
    print(
        f"soak: memory after 1,000 requests {first:.1f} MB, after {done:,} {after:.1f} MB "
        f"({100 * (after / first - 1):+.1f} %); answers others than 200: {wrong}"
    )
    return wrong == 0 and after <= 1.05 * first


def instructions(port: int) -> str:
    """Return which instructions the convolutions of a server have used."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/healthz")
    return str(json.loads(connection.getresponse().read())["instructions"])


PARTS = ("cold", "cached", "clients", "page", "soak")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all unless said")
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--at-most-s", type=float, default=600)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--isa", choices=sorted(LIMITS), help="the widest instructions it may use")
    options = parser.parse_args()
    parts = options.parts or PARTS
    if not set(parts) <= set(PARTS):
        parser.error(f"choose of {', '.join(PARTS)}")
    well = True
    with TemporaryDirectory() as name:
        folder = Path(name)
        scene = options.scene or make_scene(folder, options.side)
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
        with serving(scene, folder / "cache", options.isa) as (process, port):
            tiles = all_tiles(port, "map")
            if "cold" in parts:
                browse(process, port, tiles)
            if "cached" in parts:
                well = load(process, port, tiles, folder, options.seconds) and well
            if "clients" in parts:
                well = crowd(port, tiles) and well
            if "page" in parts:
                visit(port)
            if "soak" in parts:
                given = (tiles, folder, options.requests, options.at_most_s)
                well = soak(process, port, *given) and well
            used = instructions(port)
            print(f"convolutions used {used}")
            if options.isa is not None and used != options.isa:
                sys.exit(f"no more than {options.isa} was allowed: the figures are not of that")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
