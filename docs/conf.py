"""How the site is built: `make docs` makes docs/_build/html of the pages and the docstrings."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

from sat2map import __version__

DOCS = Path(__file__).parent
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\.?/[^)#\s]+)(#[^)\s]*)?\)")

project = "sat2map"
author = "the authors of sat2map"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The page that a code host shows of this folder has its counterpart in index.md.
exclude_patterns = ["README.md", "_build"]
# Notebooks are run while the site is built, in folders of their own; a cell that fails is an error.
nb_execution_mode = "force"
nb_execution_in_temp = nb_execution_raise_on_error = True
nb_execution_timeout = 3600  # a cell may train, and a machine be slow
nb_output_stderr = "remove"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "sat2map"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#b4540a", "color-brand-content": "#b4540a"},
    "dark_css_variables": {"color-brand-primary": "#f0a35e", "color-brand-content": "#f0a35e"},
}

autodoc_typehints = "none"  # docstrings say types in words: shapes, dtypes, ranges
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
napoleon_use_rtype = False  # what is returned is told in sentences, not by a type alone
# Types of other projects have no page here; a name of ours that has none is a mistake.
nitpick_ignore_regex = [("py:.*", r"(?!sat2map\b)\w+(\.\w+)+"), ("py:class", "Path|Perceptual")]
default_role = "code"


def without_links_out(page: Path, text: str) -> str:
    """Return a page whose links to files of the source, which the site has not, name the files."""

    def named(found: re.Match[str]) -> str:
        place = Path(os.path.normpath(page.parent / found[2]))
        if place.is_relative_to(DOCS):
            return found[0]
        path = place.relative_to(DOCS.parent).as_posix()
        if found[1].strip("`/") == path:
            return f"`{path}`"
        return f"{found[1]} (`{path}` of the source)"

    return LINK.sub(named, text)


def setup(app: Sphinx) -> None:
    """Have Sphinx read pages so."""

    def read(app: Sphinx, name: str, source: list[str]) -> None:
        source[0] = without_links_out(Path(app.env.doc2path(name)), source[0])

    app.connect("source-read", read)
