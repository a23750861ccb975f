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
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Override one key of the recipe; repeatable."
    ),
]
ModelChoice = Annotated[
    str, typer.Option("--model", help="Name of a shipped model, or a model folder.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsPublished = Annotated[
    bool,
    typer.Option(
        "--as-published", help="Predict as the paper does: dropout on, the image's own statistics."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random numbers.")]
Samples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Classes by the vote of N passes with dropout, begun from --seed.",
    ),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="DIR",
        help="Write every source, result and target, and a page that shows all.",
    ),
]
ImageSide = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="PIXELS|native",
        help="Of pairs: resize both images to this side.  [default: 256]",
    ),
]
ShownResolution = Annotated[
    str | None,
    typer.Option(
        "--resolution",
        metavar="METRES|native",
        help="Of class masks: metres per pixel that photos are shown at.  [default: their own, "
        "but no finer than 0.75]",
    ),
]
ToleranceM = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        metavar="METRES",
        help="Of class masks: how far a road may lie beside the true one.  [default: 3]",
    ),
]
RuntimeChoice = Annotated[
    Literal["auto", "torch", "openvino", "onnx"],
    typer.Option("--runtime", help="What runs the network; auto is the fastest that is installed."),
]
PrecisionChoice = Annotated[
    Literal["auto", "f32", "bf16", "int8"],
    typer.Option(
        "--precision",
        help="Numbers it computes in; auto is int8 where the model has such files, else f32.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads that the network runs on.")
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands", metavar="N,N,N", help="Which bands are red, green and blue, counted from 1."
    ),
]
Stretch = Annotated[
    str | None,
    typer.Option(
        "--stretch",
        metavar="LOW,HIGH",
        help="Percentiles of the scene's values that become 0 and 255.",
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option("--range", metavar="LOW,HIGH", help="Values of the scene that become 0 and 255."),
]
Nodata = Annotated[
    str | None,
    typer.Option(
        "--nodata",
        metavar="V[,V,V]",
        help="Value of empty pixels, for all bands or for each; nan: no value is empty.",
    ),
]
Crs = Annotated[
    str | None,
    typer.Option(
        "--crs",
        metavar="EPSG:CODE",
        help="The input's own coordinate reference system, where the file has none or a wrong one.",
    ),
]
PixelSize = Annotated[
    float | None,
    typer.Option(
        "--pixel-size",
        metavar="METRES",
        help="Side of the input's pixels on the ground, where the file has none or a wrong one.",
    ),
]
Warp = Annotated[
    bool,
    typer.Option(
        "--warp",
        help="Warp a scene to a straight grid, where its ground control points lie on none.",
    ),
]
Style = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="NAME|FILE",
        help="Colours of the map: a shipped style, or a JSON file of class and colour.",
    ),
]
MapResolution = Annotated[
    str,
    typer.Option(
        "--resolution",
        metavar="native|model|METRES",
        help="Pixels of the map: the scene's, those that the model sees, or this size.",
    ),
]
Bbox = Annotated[
    str | None,
    typer.Option(
        "--bbox",
        metavar="W,S,E,N",
        help="Only this part of the scene: west,south,east,north in degrees (WGS 84).",
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="Only what lies in the polygons of this file."),
]
MinClassConfidence = Annotated[
    float,
    typer.Option(
        "--min-confidence",
        min=0,
        max=1,
        help="With --classes: what is less sure, 0 to 1, gets no class.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted run left.")]
ClassLegend = Annotated[
    Literal["cover", "map"],
    typer.Option("--class-legend", help="Which classes: land cover, or what the map draws."),
]
Qml = Annotated[
    bool, typer.Option("--qml", help="With --classes: also a style for QGIS beside them, NAME.qml.")
]
LegendColours = Annotated[
    bool,
    typer.Option(
        "--legend-colours", help="Give each pixel the colour of one class, not a mixture."
    ),
]
Attribution = Annotated[
    str | None,
    typer.Option(
        "--attribution",
        metavar="TEXT",
        help="Who is to be named where the result is shown; kept in the file.",
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(
        "--licence",
        metavar="TEXT",
        help="Licence of the result, such as CC-BY-4.0; kept in the file.",
    ),
]
MinimumArea = Annotated[
    list[str] | None,
    typer.Option(
        "--minimum-area",
        metavar="ROLE=M2",
        help="Smaller areas of this role go to their neighbour, such as water=500; repeatable.",
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
