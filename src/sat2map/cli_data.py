"""The verbs of `sat2map data`: get or make what a model is trained on.

As in `cli.py`, what a verb needs is imported when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sat2map.cli_options import Quiet, Seed
from sat2map.errors import UsageError

data_app = typer.Typer(no_args_is_help=True, help="Get or make training pairs.")

Box = Annotated[
    str, typer.Option(metavar="W,S,E,N", help="West, south, east, north in degrees (WGS 84).")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask anew for what is in the cache.")]


@data_app.command("synthetic")
def data_synthetic(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    pairs: Annotated[
        int | None, typer.Option(min=1, help="Write this many training pairs.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Side of the pairs in pixels.")] = 256,
    scene: Annotated[
        int | None, typer.Option(metavar="SIDE", help="Write one georeferenced scene.")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Draw procedural towns, as photo and as map, 1 m per pixel."""
    if pairs is None and scene is None:
        raise UsageError(
            "nothing to draw", where="data synthetic", remedy="Give --pairs N or --scene SIDE."
        )
    from sat2map.data.synthetic import write_pairs, write_scene
    from sat2map.progress import Progress

    if pairs is not None:
        with Progress("drawing pairs", quiet=quiet) as progress:
            write_pairs(directory, pairs, size=size, seed=seed, progress=progress.show)
    if scene is not None:
        with Progress("drawing the scene", quiet=quiet) as progress:
            write_scene(directory, scene, seed=seed, progress=progress.show)
    print(directory)


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="A published data set, such as maps.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    base_url: Annotated[
        str | None, typer.Option(help="A mirror's folder in place of the official address.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a published data set; an interrupted download goes on where it was."""
    from sat2map.data.download import download
    from sat2map.progress import Progress

    with Progress(f"downloading {name}", quiet=quiet) as progress:
        download(name, directory, base_url=base_url, progress=progress.show)
    print(directory)


@data_app.command("osm")
def data_osm(
    target: Annotated[Path, typer.Argument(metavar="OUT.gpkg")],
    bbox: Box,
    url: Annotated[
        str, typer.Option(metavar="URL", help="Another Overpass API server's interpreter.")
    ] = "https://overpass-api.de/api/interpreter",
    refresh: Refresh = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the vectors of OpenStreetMap in a box; an interrupted command goes on."""
    from sat2map.cartography.overpass import CREDITS, fetch_osm
    from sat2map.progress import Progress

    with Progress("asking OpenStreetMap", quiet=quiet) as progress:
        counts = fetch_osm(_box(bbox), target, url=url, refresh=refresh, progress=progress.show)
    found = ", ".join(f"{count} {layer}" for layer, count in counts.items())
    print(f"{found}; {CREDITS['ATTRIBUTION']}, {CREDITS['LICENCE']}", file=sys.stderr)
    print(target)


@data_app.command("imagery")
def data_imagery(
    target: Annotated[Path, typer.Argument(metavar="OUT.tif")],
    url: Annotated[
        str,
        typer.Option(metavar="URL", help="Address with {z}, {x} and {y}, or {-y} from the south."),
    ],
    bbox: Box,
    zoom: Annotated[int, typer.Option(min=0, max=24, help="Zoom level; 18 is about 0.6 m.")],
    attribution: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Whose it is; kept in the file.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Tiles per second at most.")] = 4.0,
    refresh: Refresh = False,
    quiet: Quiet = False,
) -> None:
    """Fetch imagery of a tile service that you may use; an interrupted command goes on."""
    from sat2map.cartography.imagery import TERMS, fetch_imagery
    from sat2map.data.ask import Client
    from sat2map.progress import Progress

    print(TERMS, file=sys.stderr)
    if attribution is None:
        print(
            "Say whose the imagery is with --attribution: the file does not know.", file=sys.stderr
        )
    with Progress("fetching tiles", quiet=quiet) as progress:
        fetch_imagery(
            url,
            _box(bbox),
            zoom,
            target,
            attribution=attribution,
            refresh=refresh,
            client=Client(rate=rate),
            progress=progress.show,
        )
    print(target)


def _box(text: str) -> tuple[float, float, float, float]:
    from sat2map.raster.options import scene_reading

    box = scene_reading(None, None, None, text).bbox
    assert box is not None
    return box
