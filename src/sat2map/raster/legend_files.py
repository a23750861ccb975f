"""What lies beside a class map, so that other programs know its legend.

A GeoTIFF itself holds the colours, opaque ones for all 256 values, and the legend in a tag. The
file NAME.tif.aux.xml beside it is what GDAL, and through it QGIS, reads names from.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from sat2map.atomic import atomic_file, write_text
from sat2map.legend import Legend

_INTEGER, _TEXT = "0", "2"
_COLUMNS = (  # name, type and usage, as GDAL numbers them
    ("Value", _INTEGER, "5"),
    ("Class", _TEXT, "2"),
    ("Role", _TEXT, "0"),
    ("Red", _INTEGER, "6"),
    ("Green", _INTEGER, "7"),
    ("Blue", _INTEGER, "8"),
    ("Alpha", _INTEGER, "9"),
)


def attribute_file(path: Path) -> Path:
    """Return the name of the file beside a raster from which GDAL reads names of classes."""
    return path.with_name(f"{path.name}.aux.xml")


def style_file(path: Path) -> Path:
    """Return the name of QGIS's style of a raster."""
    return path.with_suffix(".qml")


def write_attributes(path: Path, legend: Legend) -> None:
    """Write the file beside a class map with its colours, category names and attribute table.

    Of the numbers that the legend has not, all colours are transparent.

    Args:
        path: The class map.
        legend: What its numbers mean.
    """
    root = Element("PAMDataset")
    band = SubElement(root, "PAMRasterBand", {"band": "1"})
    SubElement(band, "ColorInterp").text = "Palette"
    colours = SubElement(band, "ColorTable")
    names = SubElement(band, "CategoryNames")
    table = SubElement(band, "GDALRasterAttributeTable", {"tableType": "thematic"})
    for number, (name, kind, usage) in enumerate(_COLUMNS):
        column = SubElement(table, "FieldDefn", {"index": str(number)})
        SubElement(column, "Name").text = name
        SubElement(column, "Type").text = kind
        SubElement(column, "Usage").text = usage
    for number in range(256):
        known = number < len(legend)
        colour = legend.classes[number].colour if known else (0, 0, 0)
        entry = {f"c{place}": str(value) for place, value in enumerate(colour, 1)}
        SubElement(colours, "Entry", entry | {"c4": "255" if known else "0"})
    for number, known_class in enumerate(legend.classes):
        SubElement(names, "Category").text = known_class.name
        row = SubElement(table, "Row", {"index": str(number)})
        for value in (number, known_class.name, known_class.role, *known_class.colour, 255):
            SubElement(row, "F").text = str(value)
    indent(root)
    write_text(attribute_file(path), tostring(root, encoding="unicode") + "\n")


def write_style(path: Path, legend: Legend) -> None:
    """Write QGIS's style of a class map beside it.

    Args:
        path: The class map.
        legend: What its numbers mean.
    """
    root = Element("qgis", {"version": "3.28.0", "styleCategories": "Symbology"})
    facts = {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"}
    renderer = SubElement(SubElement(root, "pipe"), "rasterrenderer", facts)
    palette = SubElement(renderer, "colorPalette")
    for number, entry in enumerate(legend.classes):
        red, green, blue = entry.colour
        shown = {"color": f"#{red:02x}{green:02x}{blue:02x}", "alpha": "255", "label": entry.name}
        SubElement(palette, "paletteEntry", {"value": str(number)} | shown)
    indent(root)
    header = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    write_text(style_file(path), header + tostring(root, encoding="unicode") + "\n")


def write_legend_image(path: Path, legend: Legend) -> None:
    """Write a picture of a legend: a patch of each colour and the name of its class.

    Args:
        path: A name that ends in .png.
        legend: The legend.
    """
    from PIL import Image, ImageDraw, ImageFont

    side, gap, text = 28, 14, 20
    font = ImageFont.load_default(text)
    names = [entry.name.replace("_", " ") for entry in legend.classes]
    width = 3 * gap + side + max(int(font.getlength(name)) for name in names) + gap
    image = Image.new("RGB", (width, gap + len(legend) * (side + gap)), "white")
    draw = ImageDraw.Draw(image)
    for number, (entry, name) in enumerate(zip(legend.classes, names, strict=True)):
        top = gap + number * (side + gap)
        box = (gap, top, gap + side, top + side)
        draw.rectangle(box, entry.colour, (120, 120, 120))
        draw.text((2 * gap + side, top + side / 2), name, (30, 30, 30), font, anchor="lm")
    with atomic_file(path) as aside:
        image.save(aside)
