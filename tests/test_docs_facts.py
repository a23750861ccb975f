"""What the documentation says is so: links, tables and names agree with the code."""

from __future__ import annotations

import ast
import csv
import importlib.util
import inspect
import json
import pydoc
import re
import sys
import textwrap
import tomllib
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import typer
from PIL import Image

import sat2map
from sat2map.cli.app import app
from sat2map.data.mask_mapping import MaskMapping
from sat2map.data.pairs import read_dataset_card
from sat2map.evaluation.perceptual import Perceptual
from sat2map.evaluation.score import score_image, summarise
from sat2map.evaluation.vectors import METRICS
from sat2map.fetch.published import DATA_SETS
from sat2map.legend import COVER, STREETS
from sat2map.model.folder import DataFacts, ModelCard
from sat2map.networks.specs import SPECS
from sat2map.recipe import load_recipe, shipped_recipes
from sat2map.style.operators import SUPPORTED
from sat2map.style.spec import PROPERTIES, read_style, shipped_styles
from sat2map.training.loop import train

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
API = DOCS / "reference" / "api.md"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "records").rglob("*.md")),
]


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return what a link may name in a page: its headings as a forge makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(page: Path, heading: str) -> str:
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text(page), re.MULTILINE | re.DOTALL
    )
    assert found, f"{page} has no section {heading}"
    return found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{target} does not exist"
        assert place.is_relative_to(ROOT), f"{target} lies outside"
        if anchor:
            assert anchor in anchors(place), f"{target} names no heading"


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#]+\.md)", text(DOCS / "README.md")))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert linked == pages - {"README.md", "index.md"}  # that of a code host, and the site's


def test_no_page_names_a_place_of_one_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(home|work|tmp|root|Users)/", text(page)), page


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_the_table_of_what_scales_is_what_its_program_prints() -> None:
    scale = program("scale_table")
    page = text(DOCS / "explanation" / "scale.md")
    assert page == scale.page(), "run: python docs/scale_table.py"
    known, some = scale.Measured(), scale.Assumed(scene=1e6, cores=2, store=1e6, line=1e6)
    took = scale.steps(8e6, 2, known, some)  # eight scenes on four cores
    alone = 1e6 / known.pixels_a_second + known.scene_s
    assert took["network"] == pytest.approx(2 * alone)
    assert took["storage"] == pytest.approx(8 * (known.bytes_in + known.bytes_out))
    assert took["line"] == pytest.approx(took["storage"] / 2)
    assert took["last scene"] == pytest.approx(known.start_s + alone)
    for value, unit in (
        (known.scene_s * 1e3, "ms"), (known.driver_s * 1e3, "ms"), (known.item_s * 1e3, "ms"),
        (known.pixels_a_second / 1e6, "Mpx/s"),
    ):  # fmt: skip
        assert f"| {value:.3g} {unit} |" in page
    for value in (known.bytes_in, known.bytes_out):
        assert f"| {value:.3g} |" in page


def test_the_tables_of_the_recipe_are_those_of_its_schema() -> None:
    tables = program("recipe_tables")
    page = text(DOCS / "reference" / "recipe.md")
    assert page == tables.page(), "run: python docs/recipe_tables.py"
    assert "| None |" not in page, "a key of the recipe has no description"
    assert "| `resize` | whole number or none, at least 16 | `286` |" in page


def test_the_defaults_are_those_of_pix2pix() -> None:
    empty = load_recipe("pix2pix").model_dump()
    assert empty == type(load_recipe("pix2pix"))(name="pix2pix").model_dump()


def test_the_readme_names_every_recipe() -> None:
    table = section(ROOT / "README.md", "Recipes")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == shipped_recipes()


def test_every_recipe_is_trained_in_the_guide() -> None:
    guide = text(DOCS / "how-to" / "train.md")
    for recipe in set(shipped_recipes()) - {"demo"}:
        assert f"--recipe {recipe} " in guide


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/explanation/design.md"])
def test_the_ways_through_the_code_lead_somewhere(page: str) -> None:
    """Files and folders that a contributor is sent to exist, and hold what they are named for."""
    source = ROOT / "src" / "sat2map"

    def place(name: str) -> Path | None:
        bare = name.strip("/")
        places = [ROOT / bare, source / bare, *source.rglob(bare)]
        return next((found for found in places if found.exists()), None)

    told = text(ROOT / page)
    tree = [
        line
        for block in re.findall(r"```text\n(.*?)```", told, re.DOTALL)
        for line in block.splitlines()
    ]
    names = set(re.findall(r"`([\w/]+(?:\.py|/))`", told))
    names |= {name for line in tree for name in re.findall(r"[\w/]+(?:\.py|/)(?=[\s,])", line)}
    example = {name for name in names if "resattention" in name}
    assert len(names) > 10
    assert {name for name in names - example if place(name) is None} == set()
    pairs = re.findall(r"`([\w.]+)`\s+(?:of|in)\s+`([\w/]+\.py)`", told)
    for what, file in pairs:
        found = place(file)
        assert found is not None
        for part in what.split("."):
            defined = rf"^\s*(?:class |def )?{part}\b(?:\(|:| =)"
            assert re.search(defined, text(found), re.MULTILINE), f"no {what} in {file}"


def verbs() -> dict[str, set[str]]:
    """Return the long options of each verb."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        for part, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {part}".strip())
        if not hasattr(command, "commands"):
            options = [p.opts for p in command.params if p.param_type_name == "option"]
            found[name] = {max(names, key=len) for names in options} - {"--help"}

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize(("verb", "options"), verbs().items(), ids=verbs())
def test_the_command_line_page_has_every_option_and_no_other(verb: str, options: set[str]) -> None:
    part = section(DOCS / "reference" / "command-line.md", verb)
    assert set(re.findall(r"--[a-z][a-z0-9-]*", part)) == options
    rows = set(re.findall(r"^\| `(--[a-z0-9-]+)`", part, re.MULTILINE))
    assert rows in (set(), options - {"--quiet"})


def test_the_python_page_has_the_signatures() -> None:
    page = text(DOCS / "reference" / "python.md")
    for name in set(sat2map.__all__) - {"__version__"}:
        one = getattr(sat2map, name)
        error = isinstance(one, type) and issubclass(one, Exception)  # in a table of their own
        assert (f"`{name}`" if error else f"## `{name}") in page
    for name in (
        "load",
        "live_maps",
        "load_recipe",
        "train",
        "evaluate",
        "evaluate_masks",
        "translate_classes",
        "translate_raster",
        "read_vectors",
        "report_classes",
        "road_graph",
        "run_batch",
        "vectorise",
    ):
        assert f"## `{name}{plain(getattr(sat2map, name))}`" in page
    assert f"### `translate{plain(sat2map.Translator.translate)}`" in page


def plain(function: object) -> str:
    """Return a signature without types, as the page has it.

    It leaves out what is deprecated: `published`, which is `mode` now, and `translator` where it is
    `model`.
    """
    assert callable(function)
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if name not in ("self", "published") and (name, parameter.default) != ("translator", None)
    ]
    bare = inspect.Signature(parameters)
    return str(bare).replace("'", '"')


def test_no_first_line_of_an_attribute_is_read_as_a_type() -> None:
    shown = re.findall(r"^\.\. auto(?:class|exception):: (\S+)", text(API), re.MULTILINE)
    assert len(shown) > 20
    wrong = {
        f"{name}.{attribute}": line
        for name in shown
        for attribute, line in first_lines(pydoc.locate(name)).items()
        if is_read_as_a_type(line)
    }
    assert {"runs_on", "kind"} <= first_lines(sat2map.Translator).keys()
    assert not wrong, "Sphinx takes what stands before the colon for a type"
    assert is_read_as_a_type("What runs it: the runtime.")
    assert is_read_as_a_type("One of `a:b`, or none.")
    assert not is_read_as_a_type("One of ``a: b``, as :class:`Grid` has it.")


def test_the_api_page_shows_the_classes_that_its_attributes_have() -> None:
    """Napoleon links the annotation of each attribute that a docstring lists; `-n` needs a page."""
    shown = [
        pydoc.locate(name)
        for name in re.findall(r"^\.\. auto(?:class|exception):: (\S+)", text(API), re.MULTILINE)
    ]
    checked = 0
    for one in shown:
        assert isinstance(one, type)
        listed = re.search(
            r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", inspect.getdoc(one) or "", re.MULTILINE
        )
        names = re.findall(r"^ {4}(\w+):", listed[1], re.MULTILINE) if listed else []
        try:
            hints = get_type_hints(one)
        except NameError:  # a type of another extra, which conf.py names
            continue
        for name in set(names) & inspect.get_annotations(one).keys():
            for part in classes_in(hints[name]):
                checked += 1
                assert part in shown, f"{one.__name__}.{name} is {part}, which the page lacks"
    assert checked > 5


def classes_in(hint: object) -> set[type]:
    """Return the classes of ours that a type hint names."""
    found = set().union(*map(classes_in, get_args(hint)))
    if isinstance(hint, type) and hint.__module__.partition(".")[0] == "sat2map":
        found.add(hint)
    return found


def is_read_as_a_type(line: str) -> bool:
    """Whether napoleon takes a line as `type: text`, as it does in attributes and properties."""
    bare = re.sub(r"``.+?``|:[\w.+-]+:`.+?`", "", line)
    return bool(re.search(r"(?<!:):(?!:)\s*\S", bare))


def first_lines(shown: object) -> dict[str, str]:
    """Return the first lines of the docstrings of a class's own properties and attributes."""
    assert isinstance(shown, type), shown
    [body] = ast.parse(textwrap.dedent(inspect.getsource(shown))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for one, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(one, ast.FunctionDef) and isinstance(
            vars(shown).get(one.name), property | cached_property
        ):
            found[one.name] = ast.get_docstring(one) or ""
        elif isinstance(one, ast.AnnAssign | ast.Assign) and isinstance(after, ast.Expr):
            attribute = ast.unparse(
                one.target if isinstance(one, ast.AnnAssign) else one.targets[0]
            )
            if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                found[attribute] = inspect.cleandoc(after.value.value)
    return {name: docstring.partition("\n")[0] for name, docstring in found.items()}


def test_the_model_folder_page_has_every_field() -> None:
    part = section(DOCS / "reference" / "model-folder.md", "model.json")
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", part, re.MULTILINE)
    assert [name for name, _ in rows] == list(ModelCard.model_fields)
    told = dict(rows)
    networks = {"name", "arguments", *SPECS}
    for key, names in (("generator", networks), ("data", DataFacts.model_fields)):
        assert all(f"`{name}`" in told[key] for name in names)


def test_the_metrics_page_has_every_metric() -> None:
    page = text(DOCS / "reference" / "metrics.md")
    labels = np.zeros((32, 32), np.uint8)
    labels[:, 10:14], labels[20:24] = STREETS.names.index("road"), STREETS.names.index("highway")
    image = STREETS.paint(labels)
    image[labels == STREETS.names.index("highway")] = (240, 160, 30)
    score = score_image("town", image, image, image, STREETS)
    names = set(summarise([score], STREETS).metrics)
    assert {"road_cldice", "highway_ratio", "iou_road", "iou_2px_road"} <= names
    plain = {re.sub(r"_(road|land|highway)$", "_CLASS", n) if "iou_" in n else n for n in names}
    plain |= set(Perceptual.__dataclass_fields__) - {"images"}
    images, _, vectors = page.partition("## Vectors")
    for part, expected in ((images, plain), (vectors, {n for m in METRICS.values() for n in m})):
        rows = re.findall(r"^\| (`.*?`) \|", part, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", " ".join(rows))) == expected


def test_the_run_folder_page_has_what_a_run_leaves(data_set: Path, tmp_path: Path) -> None:
    page = text(DOCS / "reference" / "run-folder.md")
    settings = ["data.size=16", "data.resize=20", "discriminator.strided_layers=1"]
    settings += [f"{network}.base_channels=2" for network in ("generator", "discriminator")]
    settings += ["training.epochs=1", "training.log_steps=2", "statistics.pictures=1"]
    train(load_recipe("pix2pix", settings), data_set, tmp_path / "run", quiet=True)
    named = set(re.findall(r"^\| `([\w.]+)/?", page, re.MULTILINE))
    assert named == {path.name for path in (tmp_path / "run").iterdir()}
    with (tmp_path / "run" / "losses.csv").open(newline="") as stream:
        columns = next(csv.reader(stream))
    assert all(f"`{column}`" in page for column in columns)


def test_the_data_set_page_has_the_legends_and_a_card_that_is_valid(tmp_path: Path) -> None:
    page = text(DOCS / "reference" / "data-set.md")
    rows = re.findall(
        r"^\| (\w+) \| (\d+), (\d+), (\d+) \| (yes)? ?\| (\w+) \|$", page, re.MULTILINE
    )
    told = [
        (name, tuple(map(int, colour)), road == "yes", role) for name, *colour, road, role in rows
    ]
    assert told == [
        (entry.name, entry.colour, entry.road, entry.role)
        for entry in (*STREETS.classes, *COVER.classes)
    ]
    masks, pairs = (
        json.loads(re.search(r"```json\n(.*?)```", of, re.DOTALL)[1])  # type: ignore[index]
        for of in (page, text(DOCS / "how-to" / "own-pairs.md"))
    )
    (tmp_path / "dataset.json").write_text(json.dumps(pairs), encoding="utf-8")
    card = read_dataset_card(tmp_path)
    assert card.legend is not None and card.legend.roads.tolist() == [False, True, False]
    (tmp_path / "dataset.json").write_text(json.dumps(masks), encoding="utf-8")
    card = read_dataset_card(tmp_path)
    assert card.legend == COVER and card.classes is not None
    assert set(masks) == {*pairs, "classes"}
    assert set(card.__dataclass_fields__) == {*masks, "mask_legend", "told"}


def test_the_mappings_of_the_class_mask_page_are_valid() -> None:
    page = text(DOCS / "how-to" / "class-masks.md")
    examples = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        assert MaskMapping.from_json(json.loads(example), COVER).may_be(COVER).any()
    assert "land, building, road, vegetation, water" in page
    assert ", ".join(STREETS.names) in " ".join(page.split())


def test_the_style_pages_have_every_property_and_styles_that_are_valid(tmp_path: Path) -> None:
    page = text(DOCS / "reference" / "style.md")
    rows = re.findall(r"^\| `(\w+)` \| (`\w+-.*?) \| (.*?) \|$", page, re.MULTILINE)
    told = {kind: set(re.findall(r"`([\w-]+)`", " ".join(rest))) for kind, *rest in rows}
    assert told == {
        kind: {key for section in sections.values() for key in section}
        for kind, sections in PROPERTIES.items()
    }
    operators = set(
        re.findall(r"`([^\s`]+)`", section(DOCS / "reference" / "style.md", "Expressions"))
    )
    assert SUPPORTED - {"metres"} <= operators
    names = re.findall(
        r"^\| `(\w+)` \|", section(DOCS / "reference" / "style.md", "Shipped styles"), re.M
    )
    assert sorted(names) == shipped_styles()
    guide = text(DOCS / "how-to" / "own-style.md")
    for number, block in enumerate(re.findall(r"```json\n(.*?)```", guide, re.DOTALL)):
        path = tmp_path / f"{number}.json"
        path.write_text(block, encoding="utf-8")
        assert read_style(path).name == json.loads(block)["name"]


def test_the_guide_names_every_published_set() -> None:
    page = text(DOCS / "how-to" / "published-data.md")
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (\d+ [MG]B) \|$", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(DATA_SETS)
    for name, size in rows:
        assert DATA_SETS[name].about.endswith(size)
        assert f"sat2map data download {name} {name}" in page


def test_the_images_of_the_readme_are_small() -> None:
    names = re.findall(r"^!\[.*\]\((.*)\)$", text(ROOT / "README.md"), re.MULTILINE)
    assert names
    for name in names:
        assert (ROOT / name).stat().st_size < 600_000
        with Image.open(ROOT / name) as image:
            assert image.width <= 1600


def test_the_changelog_and_the_citation_have_this_version() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    assert project["version"] == sat2map.__version__
    assert f"## {sat2map.__version__}" in text(ROOT / "CHANGELOG.md")
    citation = text(ROOT / "CITATION.cff").splitlines()
    assert f"version: {sat2map.__version__}" in citation
    assert f"license: {project['license']}" in citation


def test_every_python_that_is_named_is_tested_by_the_workflow() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    named = [c.split(" :: ")[-1] for c in project["classifiers"] if ":: Python :: " in c]
    workflow = text(ROOT / ".github" / "workflows" / "test.yml")
    tested = re.search(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    assert tested is not None
    assert json.loads(f"[{tested[1]}]") == named
    assert re.match(rf">={re.escape(named[0])}(\.|$)", project["requires-python"])


def test_make_fast_names_tests_that_exist() -> None:
    told = re.search(r"^FAST = ((?:.*\\\n)*.*)$", text(ROOT / "Makefile"), re.MULTILINE)
    assert told is not None
    names = told[1].replace("\\\n", " ").split()
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []
