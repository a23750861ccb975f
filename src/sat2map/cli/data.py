"""The verbs of `sat2map data`: get or make what a model is trained on.

As in `cli.py`, what a verb needs is imported when it is called.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from sat2map.cli import parse
from sat2map.cli.messages import say, with_options
from sat2map.cli.options import Bands, Bbox, Crs, Nodata, Quiet, Seed, Stretch, ValueRange
from sat2map.cli.signals import stop_on_signals
from sat2map.errors import DataError, UsageError

data_app = typer.Typer(no_args_is_help=True, help="Get or make training pairs.")

Box = Annotated[
    str,
    typer.Option(metavar="W,S,E,N", help="West,south,east,north in degrees (WGS 84)."),
]
Refresh = Annotated[
    bool, typer.Option("--refresh", help="Fetch anew what an earlier command fetched.")
]


@data_app.command("synthetic")
def data_synthetic(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Write so many training pairs, and a fifth as many to validate."),
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Side of the pairs in pixels.")] = 256,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Kind of town: temperate, desert, tropics, informal, snow, red_soil; several, "
            "with commas or repeated; mixed for all. With colourise the pairs are grey photos "
            "and the same in colour.  [default: temperate]",
        ),
    ] = None,
    resolution: Annotated[
        float, typer.Option(metavar="M", help="Metres per pixel: 0.25, 0.5, 1 or 2.")
    ] = 1.0,
    side: Annotated[
        int | None,
        typer.Option(
            "--scene", metavar="SIDE", help="Write one georeferenced scene of this side in pixels."
        ),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Draw procedural towns: photos and their maps.

    Beside them lies the land cover that the photos show. The same seed gives the same towns.
    """
    if pairs is None and side is None:
        raise UsageError(
            "nothing to draw", where="data synthetic", remedy="Give --pairs N or --scene SIDE."
        )
    from sat2map.progress import Progress
    from sat2map.towns import write_pairs, write_scene

    kinds, task = parse.town_kinds(kind or [])
    if side is not None and task != "map":
        raise UsageError(
            f"{task} makes pairs, but a scene is one photo with its map",
            parameter="kind",
            remedy="Leave out --scene, or this kind.",
        )
    if side is not None and len(kinds) > 1:
        raise UsageError(
            f"names {len(kinds)} kinds, but a scene is one town",
            parameter="kind",
            remedy="Name one of them.",
        )
    if pairs is not None:
        with Progress("drawing pairs", quiet=quiet, unit="pairs") as progress:
            write_pairs(
                directory, pairs, size=size, seed=seed, kinds=kinds, resolution=resolution,
                task=task, progress=progress.show,
            )  # fmt: skip
    if side is not None:
        with Progress("drawing the scene", quiet=quiet, unit="tiles") as progress:
            write_scene(
                directory, side, seed=seed, kind="".join(kinds), resolution=resolution,
                progress=progress.show,
            )  # fmt: skip
    print(directory)


@data_app.command("download")
def data_download(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="maps, facades, cityscapes, night2day, edges2shoes or edges2handbags.",
        ),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.")],
    base_url: Annotated[
        str | None, typer.Option(help="A mirror's folder in place of the official address.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a published data set.

    An interrupted download goes on where it was.
    """
    from sat2map.fetch.published import download
    from sat2map.progress import Progress

    with Progress(f"downloading {name}", quiet=quiet, unit="bytes") as progress:
        download(name, directory, base_url=base_url, progress=progress.show)
    print(directory)


@data_app.command("osm")
def data_osm(
    target: Annotated[Path, typer.Argument(metavar="OUT.gpkg", help="File to write.")],
    bbox: Box,
    url: Annotated[
        str, typer.Option(metavar="URL", help="The `interpreter` of another Overpass API server.")
    ] = "https://overpass-api.de/api/interpreter",
    refresh: Refresh = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the vectors of OpenStreetMap in a box.

    An interrupted command goes on when it is given again.
    """
    from sat2map.fetch.openstreetmap import CREDITS, fetch_osm
    from sat2map.progress import Progress

    with Progress("asking OpenStreetMap", quiet=quiet, unit="parts") as progress:
        counts = fetch_osm(
            parse.bounding_box(bbox), target, url=url, refresh=refresh, progress=progress.show
        )
    found = ", ".join(f"{count} {layer}" for layer, count in counts.items())
    print(f"{found}; {CREDITS['ATTRIBUTION']}, {CREDITS['LICENCE']}", file=sys.stderr)
    print(target)


@data_app.command("imagery")
def data_imagery(
    target: Annotated[Path, typer.Argument(metavar="OUT.tif", help="File to write.")],
    url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="Address with {z}, {x} and {y}, {-y} from the south, or {q}."
        ),
    ],
    bbox: Box,
    zoom: Annotated[
        int, typer.Option(min=0, max=24, help="Zoom level; a pixel of 18 is 0.6 m at the equator.")
    ],
    attribution: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Whose the imagery is; kept in the file.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Tiles per second at most.")] = 4.0,
    refresh: Refresh = False,
    quiet: Quiet = False,
) -> None:
    """Fetch imagery of a tile service that you may use.

    An interrupted command goes on when it is given again.
    """
    from sat2map.fetch.http import Client
    from sat2map.fetch.imagery import TERMS, fetch_imagery
    from sat2map.progress import Progress

    print(TERMS, file=sys.stderr)
    if attribution is None:
        print(
            "Say whose the imagery is with --attribution: the file does not know.", file=sys.stderr
        )
    with Progress("fetching tiles", quiet=quiet, unit="tiles") as progress:
        fetch_imagery(
            url,
            parse.bounding_box(bbox),
            zoom,
            target,
            attribution=attribution,
            refresh=refresh,
            client=Client(rate=rate),
            progress=progress.show,
        )
    print(target)


@data_app.command("chips")
def data_chips(
    directory: Annotated[Path, typer.Argument(metavar="OUT", help="The data set's folder.")],
    imagery: Annotated[
        list[str],
        typer.Option(metavar="FILE", help="Georeferenced photo, or tree of tiles; repeatable."),
    ],
    vectors: Annotated[
        list[str],
        typer.Option(
            metavar="FILE[=CLASS]",
            help="What the map shows, all of one class with =CLASS; repeatable.",
        ),
    ],
    style: Annotated[str, typer.Option(help="A shipped style's name, or a file.")] = "streets",
    resolution_m: Annotated[
        float,
        typer.Option("--resolution", metavar="METRES", help="Metres on the ground per pixel."),
    ] = 1.0,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Side of a chip.")] = 256,
    validation: Annotated[
        float, typer.Option("--val", metavar="SHARE", help="Share of the chips that validates.")
    ] = 0.1,
    buffer_m: Annotated[
        float | None,
        typer.Option(
            "--buffer",
            metavar="METRES",
            help="Ground between training and validation.  [default: an eighth of a chip]",
        ),
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(metavar="N", help="Cut N training chips at random places, not side by side."),
    ] = None,
    min_mapped: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Leave out chips of which the map shows a smaller share."
        ),
    ] = 0.01,
    clouds: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Raster that is above 0 where clouds are; repeatable."),
    ] = None,
    shift_m: Annotated[
        str,
        typer.Option("--shift", metavar="DX,DY", help="Move the vectors east and north, metres."),
    ] = "0,0",
    bbox: Bbox = None,
    bands: Bands = None,
    stretch: Stretch = None,
    value_range: ValueRange = None,
    nodata: Nodata = None,
    crs: Crs = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of the data; kept in dataset.json.")
    ] = None,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Also write OUT/preview/index.html and a contact sheet."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes at once.  [default: one for each core]"),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Cut pairs out of imagery and vectors.

    Each chip is a photo and the map that the vectors make in a style.

    Validation is split off by blocks of ground. An interrupted command goes on.
    """
    from sat2map.chips.chips import ChipOptions, make_chips
    from sat2map.chips.preview import estimate_offsets, write_preview
    from sat2map.progress import Progress

    options = ChipOptions(
        style=style,
        resolution_m=resolution_m,
        size=size,
        validation=validation,
        buffer_m=buffer_m,
        random=random,
        min_mapped=min_mapped,
        clouds=tuple(clouds or ()),
        shift_m=parse.shift(shift_m),
        reading=parse.scene_reading(bands, stretch, value_range, bbox, nodata, crs),
        seed=seed,
        licence=licence,
        workers=workers or os.cpu_count() or 1,
    )
    files = [parse.vector_file(text) for text in vectors]
    with (
        stop_on_signals() as stop,
        Progress("cutting chips", quiet=quiet, unit="chips") as progress,
    ):
        chips = make_chips(imagery, files, directory, options, progress=progress.show, stop=stop)
    say(chips.describe())
    told = [with_options(offset.describe()) for offset in estimate_offsets(chips)]
    for line in told:
        say(line)
    print(directory)
    if preview:
        print(write_preview(chips, told))


@data_app.command("masks")
def data_masks(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of photos.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The data set's folder.")],
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of masks.  [default: NAME.png lies beside NAME.jpg]"
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSON file of value and class; without it the values are listed."
        ),
    ] = None,
    resolution_m: Annotated[
        float | None,
        typer.Option(
            "--resolution",
            metavar="METRES",
            help="Metres on the ground per pixel.  [default: as GeoTIFFs say]",
        ),
    ] = None,
    validation: Annotated[
        str,
        typer.Option(
            "--val",
            metavar="SHARE|NAME,NAME",
            help="What validates: a share, or names in which * and ? stand for others.",
        ),
    ] = "0.1",
    legend: Annotated[
        Literal["cover", "map"],
        typer.Option(help="Legend whose classes the mapping names: land cover, or those of a map."),
    ] = "cover",
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of the data; kept in dataset.json.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a data set of photos and class masks.

    They are checked, and some are set aside for validation.
    """
    from sat2map.data.mask_mapping import read_mapping
    from sat2map.data.mask_set import count_values, find_labelled, write_mask_set
    from sat2map.legend import LEGENDS
    from sat2map.progress import Progress

    chosen = LEGENDS[legend]
    meant = None if mapping is None else read_mapping(mapping, chosen)
    files = find_labelled(images, classes)
    if meant is not None and resolution_m is None:
        resolution_m = _own_resolution([file.source for file in files])
    with Progress("checking masks", quiet=quiet, unit="masks") as progress:
        if meant is None:
            found = count_values(files, progress.show)
        else:
            made = write_mask_set(
                files,
                out,
                chosen,
                meant,
                resolution_m=resolution_m,
                licence=licence,
                validation=parse.validation(validation),
                progress=progress.show,
            )
    if meant is None:
        print("value  pixels  masks")
        for one in found:
            print(f"{one.value:5}  {one.share:6.1%}  {one.masks:5}")
        raise UsageError(
            "what these values mean is not known",
            parameter="mapping",
            remedy='Name a JSON file such as {"0": "unknown", "1": "building", "2": "not road", '
            f'"3": ["land", "vegetation"]}}; the classes are {", ".join(chosen.names)}.',
        )
    for line in made.describe():
        say(line)
    if resolution_m is None:
        print(
            "A model must know how large a pixel is. Write `resolution_m`, in metres, into "
            f"{out / 'dataset.json'}, or make the set again with --resolution.",
            file=sys.stderr,
        )
    else:
        print(f"{resolution_m:.3g} m per pixel", file=sys.stderr)
    for line in made.notices():
        say(line)
    print(out)


def _own_resolution(photos: list[Path]) -> float | None:
    """Return the ground resolution that georeferenced photos have; None where none is one.

    Raises:
        UsageError: They have several.
    """
    from sat2map.data.images import TIFF_SUFFIXES
    from sat2map.raster.scale import NEAR, file_resolution

    told: dict[Path, float] = {}
    for path in photos:
        if path.suffix.lower() in TIFF_SUFFIXES:
            with suppress(DataError):  # which is named when the photo itself is read
                metres = file_resolution(path)
                if metres is not None:
                    told[path] = metres
    if not told:
        return None
    finest, coarsest = min(told, key=told.__getitem__), max(told, key=told.__getitem__)
    if told[coarsest] > NEAR * told[finest]:
        raise UsageError(
            f"{finest.name} has {told[finest]:.3g} m per pixel, but {coarsest.name} "
            f"{told[coarsest]:.3g}",
            where=finest.parent,
            remedy="Make a data set of the photos of each ground resolution.",
        )
    return float(f"{(told[finest] * told[coarsest]) ** 0.5:.4g}")
