"""A map from elsewhere below what is served: none, unless its address is given."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sat2map.errors import UsageError


@dataclass(frozen=True)
class Basemap:
    """Web tiles from elsewhere.

    Attributes:
        address: Of its tiles, with {z}, {x} and {y}.
        attribution: Whom it asks to be named, plain text.

    Raises:
        UsageError: It is not such an address.
    """

    address: str
    attribution: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        fields = sorted(re.findall(r"\{([^}]*)\}", parts.path + "?" + parts.query))
        fits = (
            parts.scheme in ("http", "https")
            and re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?", parts.netloc)
            and fields == ["x", "y", "z"]
            and re.fullmatch(r"[!-~]+", self.address)
        )
        if not fits:
            raise UsageError(
                f"{self.address!r} is not the address of web tiles",
                parameter="basemap",
                remedy="Give one of a single host, such as "
                "https://tiles.example.org/{z}/{x}/{y}.png.",
            )

    @property
    def origin(self) -> str:
        """Its scheme and host, which the page lets in."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    def to_json(self) -> dict[str, str]:
        """Return what the page is told; the attribution is made harmless as HTML."""
        told = {"tiles": self.address}
        if self.attribution is not None:
            told["attribution"] = html.escape(self.attribution)
        return told
