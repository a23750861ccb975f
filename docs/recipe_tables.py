"""Write the tables of docs/reference/recipe.md from the schema of the recipe.

python docs/recipe_tables.py
"""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sat2map.recipe import Recipe

PAGE = Path(__file__).parent / "reference" / "recipe.md"
MARK = "<!-- tables: written by docs/recipe_tables.py -->\n"
NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def tables() -> str:
    """Return a section with a table for each section of the recipe, as Markdown."""
    lines: list[str] = []
    for name, section in Recipe.model_fields.items():
        if not (isinstance(section.annotation, type) and issubclass(section.annotation, BaseModel)):
            continue
        about = inspect.getdoc(section.annotation) or ""
        lines += ["", f"## {name}", "", about, "", "| key | value | default | meaning |"]
        lines += ["|---|---|---|---|"]
        lines += [row(key, field) for key, field in section.annotation.model_fields.items()]
    return "\n".join([*lines, ""])


def row(key: str, field: FieldInfo) -> str:
    """Return the line of one key."""
    limits = [
        f"{word} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, word in BOUNDS.items()
        if hasattr(limit, name)
    ]
    value = ", ".join([kind(field.annotation), *limits])
    return f"| `{key}` | {value} | `{toml(field.default)}` | {field.description} |"


def kind(annotation: Any) -> str:
    """Return what values a key takes, in words."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else kind(a) for a in get_args(annotation))
    if get_origin(annotation) is list:
        (of,) = get_args(annotation)
        return f"list of {NAMES[of]}s"
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
