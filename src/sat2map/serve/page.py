"""The page as it was built of `web/`: its files, read once, under the names that they have.

It is built by `make web`, or with the package; an installation may be without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "page"

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What the page consists of."""


@dataclass(frozen=True)
class PageFile:
    """One file of the page."""

    body: bytes
    kind: str


def read_page(folder: Path = FOLDER) -> dict[str, PageFile]:
    """Return the files of the page by their names, `index.html` and `assets/...`; none without it.

    What is asked for is looked up among these, so that no address leads to another file.
    """
    if not (folder / "index.html").is_file():
        return {}
    files = [folder / "index.html", *sorted((folder / "assets").iterdir())]
    return {
        file.relative_to(folder).as_posix(): PageFile(file.read_bytes(), KINDS[file.suffix])
        for file in files
        if file.suffix in KINDS
    }
