"""Write the tables of docs/reference/recipe.md from the schema of the recipe.

python docs/recipe_tables.py
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sat2map.networks.specs import FROM_DATA, SPECS, NetworkSpec
from sat2map.recipe import Recipe

PAGE = Path(__file__).parent / "reference" / "recipe.md"
MARK = "<!-- tables: written by docs/recipe_tables.py -->\n"
NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text"}
GENERATOR = """\
The generator. How many bands it takes and gives, and the colours of a legend head, follow from the
data, and the depth of the U-Net from `data.size`. A key of another network than the one that is
named says nothing."""
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def tables() -> str:
    """Return a section with a table for each section of the recipe, as Markdown."""
    lines: list[str] = []
    for name, section in Recipe.model_fields.items():
        if name == "generator":
            lines += generator()
        elif isinstance(section.annotation, type) and issubclass(section.annotation, BaseModel):
            about = inspect.getdoc(section.annotation) or ""
            lines += ["", f"## {name}", "", about, *table(section.annotation.model_fields)]
    return "\n".join([*lines, ""])


def generator() -> list[str]:
    """Return the section of the generator: what all networks have, and what each has alone."""
    choice = " or ".join(f"`{name}`" for name in SPECS)
    head = NetworkSpec.model_fields["head"]
    default = Recipe.model_fields["generator"].default
    lines = ["", "## generator", "", GENERATOR, *table({})]
    lines += [f"| `name` | {choice} | `{default.name}` | which network |", row("head", head)]
    for name, spec in SPECS.items():
        own = spec.model_fields.keys() - NetworkSpec.model_fields.keys() - FROM_DATA
        fields = {key: field for key, field in spec.model_fields.items() if key in own}
        lines += ["", f"### {name}", "", inspect.getdoc(spec) or "", *table(fields)]
    return lines


def table(fields: dict[str, FieldInfo]) -> list[str]:
    """Return the lines of a table, after an empty one."""
    head = ["", "| key | value | default | meaning |", "|---|---|---|---|"]
    return head + [row(key, field) for key, field in fields.items()]


def row(key: str, field: FieldInfo) -> str:
    """Return the line of one key."""
    value = ", ".join([kind(field.annotation), *bounds(field.metadata)])
    return f"| `{key}` | {value} | `{toml(field.default)}` | {field.description} |"


def bounds(limits: Iterable[object]) -> list[str]:
    """Return the limits of a number, in words."""
    return [
        f"{word} {getattr(limit, name):g}"
        for limit in limits
        for name, word in BOUNDS.items()
        if hasattr(limit, name)
    ]


def kind(annotation: Any) -> str:
    """Return what values a key takes, in words."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else kind(a) for a in get_args(annotation))
    if get_origin(annotation) is list:
        (of,) = get_args(annotation)
        limits = [limit for part in get_args(of)[1:] for limit in part.metadata]
        return ", ".join([f"list of {NAMES[get_args(of)[0] if limits else of]}s", *bounds(limits)])
    return NAMES[annotation]


def toml(value: object) -> str:
    """Return a default as it is written in a recipe."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def page() -> str:
    """Return the whole page: what is written by hand, and the tables."""
    before, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return before + mark + tables()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
