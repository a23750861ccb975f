"""The verb `serve`: live maps over HTTP."""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from sat2map.cli import parse
from sat2map.cli.messages import say
from sat2map.cli.options import (
    Attribution,
    Bands,
    ClassLegend,
    Crs,
    ModelChoice,
    Nodata,
    PixelSize,
    PrecisionChoice,
    Quiet,
    RuntimeChoice,
    Stretch,
    Threads,
    ValueRange,
)
from sat2map.cli.signals import stop_on_signals
from sat2map.errors import MissingExtraError, Sat2mapError, UsageError
from sat2map.user_cache import parse_bytes

if TYPE_CHECKING:
    from sat2map.serve.guard import Access
    from sat2map.serve.service import Service
    from sat2map.translation.translator import Translator


def serve(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
            help="Photos, maps, class maps and archives of tiles, or folders of them.",
        ),
    ],
    model: ModelChoice = "streets",
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            metavar="NAME|FILE",
            help="Colours of the map: a shipped style, or a JSON file of class and colour;"
            " repeatable.",
        ),
    ] = None,
    bands: Bands = None,
    stretch: Stretch = None,
    value_range: ValueRange = None,
    nodata: Nodata = None,
    crs: Crs = None,
    pixel_size: PixelSize = None,
    class_legend: ClassLegend = "cover",
    runtime: RuntimeChoice = "auto",
    precision: PrecisionChoice = "auto",
    threads: Threads = None,
    attribution: Attribution = None,
    basemap: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Tiles of another server to lie below everything, with {z}/{x}/{y}."
        ),
    ] = None,
    basemap_attribution: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Who is to be named for --basemap.")
    ] = None,
    cache_size: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="How much results may take on the disk, such as 20G."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free.")] = 8000,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    warm: Annotated[
        bool, typer.Option("--warm", help="Translate all of it ahead, beside serving.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name that the server is called by; repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="A site whose pages may read tiles in a browser (CORS); repeatable."
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The server's address for others, behind a proxy."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="T", help="Answer only who brings this token.")
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let other machines ask without a token.")
    ] = False,
    trust_vrt: Annotated[
        bool,
        typer.Option("--trust-vrt", help="Let virtual rasters (VRT) name files of any folder."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Show photos and maps in the browser and in QGIS.

    Tiles are made where somebody looks, and kept: XYZ, WMTS and TileJSON.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    from sat2map.serve.app import AppOptions, make_app
    from sat2map.serve.basemap import Basemap
    from sat2map.serve.page import read_page
    from sat2map.serve.run import bind, run_server
    from sat2map.serve.scenes import open_scenes
    from sat2map.serve.service import Service
    from sat2map.serve.workshop import ServeOptions, Workshop

    options = ServeOptions(
        reading=parse.scene_reading(
            bands, stretch, value_range, None, nodata, crs, pixel_size, warp=True
        ),
        styles=tuple(style or ()),
        class_legend=class_legend,
        trust_vrt=trust_vrt,
        cache_bytes=None if cache_size is None else parse_bytes(cache_size, parameter="cache_size"),
    )
    access = _access(host, allow_host or [], allow_origin or [], public_url, token, no_auth)

    def load_model() -> Translator:
        from sat2map.translation.translator import load

        return load(model, runtime=runtime, threads=threads, precision=precision)

    below = None if basemap is None else Basemap(basemap, basemap_attribution)
    listening = bind(host, port)
    try:
        workshop = Workshop(load_model, options, say)
        service = Service(workshop, open_scenes(sources, workshop))
    except BaseException:
        listening.close()
        raise
    named = f"[{host}]" if ":" in host else host
    address = public_url or f"http://{named}:{listening.getsockname()[1]}/"

    def ready() -> None:
        print(address, flush=True)
        if not quiet:
            say("Open it in a browser; a button there copies the address for QGIS. Ctrl-C ends it.")
        if open_browser:
            import webbrowser

            webbrowser.open(address if token is None else f"{address}?token={token}")

    app = make_app(service, AppOptions(access, public_url, attribution, below, read_page()))
    with stop_on_signals() as stop:
        if warm:
            threading.Thread(target=_warm, args=(service, stop, quiet), daemon=True).start()
        run_server(app, listening, stop, ready)
    if not service.close():
        _leave_threads()


def _leave_threads() -> None:
    """End the process although a thread waits for a file or a server, maybe for minutes."""
    sys.stdout.flush()
    os._exit(0)


def _access(
    host: str,
    allow_host: list[str],
    allow_origin: list[str],
    public_url: str | None,
    token: str | None,
    no_auth: bool,
) -> Access:
    """Return who may ask.

    Raises:
        UsageError: Other machines could ask, and nobody said that they may; or a value is wrong.
    """
    from sat2map.serve.guard import LOOPBACK, Access, host_of, is_loopback

    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{1,200}", token):
        raise UsageError(
            "is not a token",
            parameter="token",
            remedy="Give letters, digits and ._~- , as many as nobody guesses.",
        )
    if not is_loopback(host) and token is None and not no_auth:
        raise UsageError(
            f"{host} is reached by other machines",
            parameter="host",
            remedy="Give `token=T`, which all have to bring, or `no_auth=True` if anybody may ask.",
        )
    for parameter, urls in (
        ("public_url", [public_url] if public_url is not None else []),
        ("allow_origin", allow_origin),
    ):
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
                raise UsageError(
                    f"{url!r} is not an address",
                    parameter=parameter,
                    remedy="Give one such as https://maps.example.org.",
                )
    hosts = {*LOOPBACK, host.strip("[]").lower(), *map(host_of, allow_host)}
    if public_url is not None:
        hosts.add(host_of(urlsplit(public_url).netloc.rpartition("@")[2]))
    return Access(frozenset(hosts), token, frozenset(origin.rstrip("/") for origin in allow_origin))


def _warm(service: Service, stop: threading.Event, quiet: bool) -> None:
    """Make the results of all scenes ahead, with progress."""
    from sat2map.progress import Progress
    from sat2map.serve.warming import warm_up

    for served in service.scenes.values():
        try:
            results = served.current().results
        except Sat2mapError as error:  # gone meanwhile
            say(str(error))
            continue
        if results is None or stop.is_set():
            continue
        with Progress(f"translating {served.name} ahead", quiet=quiet, unit="windows") as progress:
            failures = warm_up(results, stop, progress.show)
        for failure in failures:
            say(f"{failure.headline}; the rest is shown.")
