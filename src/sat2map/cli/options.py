"""Options that several verbs of the command line share.

An option whose value goes to the library is called there as the parameter of the verb's function is
called here: messages name parameters, and `messages.py` finds their options by these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from sat2map.errors import UsageError

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key; repeatable."),
]
ModelChoice = Annotated[str, typer.Option("--model", help="Shipped model or model folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsPublished = Annotated[
    bool,
    typer.Option("--as-published", help="Predict with dropout and the image's own statistics."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random numbers.")]
Samples = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Classes: let N passes with dropout vote for them, with this --seed."
    ),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="DIR",
        help="Write every source, result and target, and a page of all of them.",
    ),
]
ImageSide = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="PIXELS|native", help="Pairs: resize both images to this side; 256."
    ),
]
ShownResolution = Annotated[
    str | None,
    typer.Option(
        "--resolution",
        metavar="METRES|native",
        help="Class masks: show photos at this; their own, no finer than 0.75.",
    ),
]
ToleranceM = Annotated[
    float | None,
    typer.Option(
        "--tolerance", metavar="METRES", help="Class masks: how far a road may be off; 3."
    ),
]
RuntimeChoice = Annotated[
    Literal["auto", "torch", "openvino", "onnx"],
    typer.Option("--runtime", help="What runs the network; auto picks the fastest that is there."),
]
PrecisionChoice = Annotated[
    Literal["auto", "f32", "bf16", "int8"],
    typer.Option(
        "--precision", help="What the network computes in; auto is int8 where there are files."
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="How many threads the network runs on.")
]
Bands = Annotated[
    str | None,
    typer.Option("--bands", metavar="N,N,N", help="Scene: its red, green and blue band, from 1."),
]
Stretch = Annotated[
    str | None,
    typer.Option("--stretch", metavar="LOW,HIGH", help="Scene: percentiles that become 0 and 255."),
]
ValueRange = Annotated[
    str | None,
    typer.Option("--range", metavar="LOW,HIGH", help="Scene: values that become 0 and 255."),
]
Nodata = Annotated[
    str | None,
    typer.Option(
        "--nodata",
        metavar="V[,V,V]",
        help="Scene: what stands where nothing is, for all bands or for each; nan for no value.",
    ),
]
Crs = Annotated[
    str | None,
    typer.Option(
        "--crs",
        metavar="EPSG:CODE",
        help="Scene: its own coordinate reference system, where it says none or a wrong one.",
    ),
]
PixelSize = Annotated[
    float | None,
    typer.Option(
        "--pixel-size",
        metavar="METRES",
        help="Side of its pixels on the ground, where it says none or a wrong one.",
    ),
]
Warp = Annotated[
    bool,
    typer.Option(
        "--warp", help="Scene: lay it on a straight grid, where its ground control points do not."
    ),
]
Style = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="NAME|FILE",
        help="Paint the map like a shipped style or JSON of class: colour.",
    ),
]
MapResolution = Annotated[
    str,
    typer.Option(
        "--resolution", metavar="native|model|METRES", help="Scene: resolution of the map."
    ),
]
Bbox = Annotated[
    str | None,
    typer.Option("--bbox", metavar="W,S,E,N", help="Scene: translate this part, degrees (WGS 84)."),
]
Mask = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="Scene: translate what lies in these polygons."),
]
MinClassConfidence = Annotated[
    float,
    typer.Option(
        "--min-confidence", min=0, max=1, help="With --classes: less sure ground has no class."
    ),
]
OfClasses = Annotated[
    Literal["cover", "map"],
    typer.Option("--class-legend", help="Of --classes: land cover, or what the map draws."),
]
Qml = Annotated[
    bool, typer.Option("--qml", help="With --classes: QGIS's style beside it, NAME.qml.")
]
LegendColours = Annotated[
    bool, typer.Option("--legend-colours", help="Use the legend's colours and no others.")
]
Attribution = Annotated[
    str | None,
    typer.Option("--attribution", metavar="TEXT", help="Scene: whom showing the map must name."),
]
Licence = Annotated[
    str | None,
    typer.Option(
        "--licence", metavar="TEXT", help="Scene: under which its map may be used, CC-BY-4.0."
    ),
]
MinimumArea = Annotated[
    list[str] | None,
    typer.Option(
        "--minimum-area",
        metavar="ROLE=M2",
        help="Square metres below which areas of a role are dissolved; repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def asks_for_masks(
    data: Path, split: str, *, for_masks: Mapping[str, bool], for_pairs: Mapping[str, bool]
) -> bool:
    """Return whether a data set is scored by its class masks, and not by its maps.

    Where a split has both it is by the maps, unless an option for masks is given.

    Args:
        data: The data set.
        split: Which split.
        for_masks: Whether each parameter that masks alone have is given.
        for_pairs: The same of those that pairs alone have.

    Raises:
        UsageError: A parameter is given that the data have not.
    """
    from sat2map.data.masks import is_mask_set

    has_masks = is_mask_set(data, split)
    both = has_masks and (data / split / "target").is_dir()
    masks = any(for_masks.values()) if both else has_masks
    for parameter, given in (for_pairs if masks else for_masks).items():
        if given:
            kind = "class masks" if masks else "pairs"
            raise UsageError(
                f"{data / split} has {kind}, for which there is no such option",
                parameter=parameter,
                remedy="Leave it out.",
            )
    return masks
