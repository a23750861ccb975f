"""The site of docs/: built without a warning, with every public name, and without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import sat2map
from sat2map import errors

pytest.importorskip("sphinx", reason="needs the extra docs")

DOCS = Path(__file__).parents[1] / "docs"

REDUCED = {
    "train": {"--pairs 60": "--pairs 6", "log_steps=20": "log_steps=2 --set training.max_steps=6"},
    "ablations": {
        "--pairs 60": "--pairs 10",
        "max_steps=400": "max_steps=2",
        "statistics.pictures=60": "statistics.pictures=2",
    },
    "own-region": {
        "--scene 1024": "--scene 512",
        "--size 256 --val": "--size 128 --val",
        "max_steps=100": "max_steps=2",
        "batch=4": "batch=1 --set data.size=128",
    },
}
"""What the notebooks that train do less of here: they are run whole, but they learn nothing."""


class Page(HTMLParser):
    """The addresses and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.anchors.add(named.get("id", ""))
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag == "link" and named.get("rel") == "stylesheet":
            self.loaded.append(named["href"])
        elif tag in ("img", "script", "iframe") and "src" in named:
            self.loaded.append(named["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, of a copy of the pages, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    sources = folder / "docs"
    shutil.copytree(DOCS, sources, ignore=shutil.ignore_patterns("_build"))
    for name, changes in REDUCED.items():
        notebook = sources / "notebooks" / f"{name}.md"
        text = notebook.read_text(encoding="utf-8")
        for long, short in changes.items():
            assert long in text, (name, long)
            text = text.replace(long, short)
        notebook.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(sources), str(folder / "html")],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }


def test_every_page_is_in_the_site(pages: dict[str, Page]) -> None:
    expected = {
        path.relative_to(DOCS).with_suffix(".html").as_posix()
        for path in DOCS.rglob("*.md")
        if "_build" not in path.parts and path.name != "README.md"
    }
    assert expected <= set(pages)
    front = {urldefrag(link)[0] for link in pages["index.html"].links}
    assert expected - {"index.html"} <= front  # by the contents at its side


def test_every_public_name_has_its_docstring_in_the_site(pages: dict[str, Page]) -> None:
    anchors = pages["reference/api.html"].anchors
    names = {f"sat2map.{name}" for name in sat2map.__all__ if not hasattr(errors, name)}
    names.remove("sat2map.__version__")
    raised = {
        f"sat2map.errors.{name}"
        for name, one in vars(errors).items()
        if isinstance(one, type)
        and issubclass(one, errors.Sat2mapError)
        and one.__module__ == errors.__name__
    }
    assert names | raised <= anchors


def test_no_page_needs_a_network(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for address in page.loaded:
            assert not re.match(r"(\w+:)?//", address), (name, address)
    assert (site / "searchindex.js").is_file()


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(unquote(link))
            if re.match(r"\w+:", address):
                continue
            place = (site / name).parent / address if address else site / name
            assert place.resolve().exists(), (name, link)
            within = place.resolve().relative_to(site.resolve()).as_posix()
            if anchor and within in pages:
                assert anchor in pages[within].anchors, (name, link)
