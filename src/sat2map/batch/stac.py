"""The scenes of a STAC item, item collection or catalogue, read with pystac."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from sat2map.batch.names import Listed, safe_place
from sat2map.errors import DataError, MissingExtraError
from sat2map.geo.gdal import is_address
from sat2map.journal import address_without_query, without_secrets

if TYPE_CHECKING:
    import pystac

ROLES = ("visual", "data")
"""Roles of the asset that is meant where nobody says, the better first."""

TOLD = ("file:checksum", "updated")
"""What of an asset or its item says that the contents are others."""

_TIMES = ("datetime", "start_datetime", "end_datetime")


def list_items(href: str, asset: str | None) -> list[Listed]:
    """Return the scenes that a file of STAC, or an address, names.

    An item collection that a service gives in pages is followed to the last.

    Args:
        href: A file or an address.
        asset: Which asset is meant; None takes the one of a role of `ROLES`.

    Raises:
        DataError: It cannot be read, or is not of STAC.
        MissingExtraError: pystac is not installed.
    """
    try:
        import pystac
    except ModuleNotFoundError as error:
        raise MissingExtraError("pystac", "batch") from error
    try:
        return [_listed(item, asset) for item in _items(href, pystac.StacIO.default())]
    except _errors_of(pystac) as error:
        text = without_secrets(str(error)) or type(error).__name__
        raise DataError(
            f"cannot be read as STAC ({text})",
            where=address_without_query(href),
            remedy="Name an item, an item collection or a catalogue, in a file or at an address.",
        ) from error


def _errors_of(pystac: Any) -> tuple[type[Exception], ...]:
    """Return what pystac raises where what it reads is not of STAC, or cannot be read."""
    own = (pystac.STACError, pystac.STACTypeError, pystac.RequiredPropertyMissing)
    return (*own, OSError, ValueError, KeyError, TypeError, AttributeError)


def _items(href: str, io: pystac.StacIO) -> Iterator[pystac.Item]:
    import pystac

    content = io.read_json(href)
    if content.get("type") != "FeatureCollection":
        found = io.stac_object_from_dict(content, href=href)
        if isinstance(found, pystac.Item):
            yield found
        elif isinstance(found, pystac.Catalog):
            yield from found.get_items(recursive=True)
        return
    read = {href}
    while True:
        for feature in content["features"]:
            links = [link for link in feature.get("links", ()) if link.get("rel") == "self"]
            own = links[0]["href"] if links else urljoin(href, f"{feature['id']}.json")
            item = pystac.Item.from_dict({**feature, "links": []})
            item.set_self_href(own if is_address(href) or links else f"{href}#{feature['id']}")
            for each in item.assets.values():
                each.href = each.get_absolute_href() or each.href
            yield item
        pages = [link for link in content.get("links", ()) if link.get("rel") == "next"]
        if not pages:
            return
        if pages[0].get("method", "GET") != "GET" or pages[0]["href"] in read:
            raise ValueError("its next page cannot be asked for by its address")
        href = urljoin(href, pages[0]["href"])
        read.add(href)
        content = io.read_json(href)


def _listed(item: pystac.Item, asset: str | None) -> Listed:
    folder = [] if item.collection_id is None else [item.collection_id]
    place = safe_place(*folder, item.id)
    own = address_without_query(item.get_self_href() or item.id)
    facts: dict[str, Any] = {"href": own, "id": item.id, "collection": item.collection_id}
    facts |= {name: item.properties.get(name) for name in _TIMES}
    try:
        key = _chosen(item, asset)
    except DataError as error:
        return Listed(own, own, place, item=facts, problem=str(error))
    chosen = item.assets[key]
    source = chosen.get_absolute_href() or chosen.href
    told = next(
        (
            str(one[name])
            for name in TOLD
            for one in (chosen.extra_fields, item.properties)
            if one.get(name)
        ),
        None,
    )
    return Listed(address_without_query(source), source, place, told, {**facts, "asset": key})


def _chosen(item: pystac.Item, asset: str | None) -> str:
    """Return the key of the asset that is meant.

    Raises:
        DataError: There is none, or there are several.
    """
    where = address_without_query(item.get_self_href() or item.id)
    names = ", ".join(item.assets) or "none"
    if asset is not None:
        if asset in item.assets:
            return asset
        raise DataError(
            f"has no asset {asset!r}, only {names}", where=where, remedy="Choose another `asset`."
        )
    for role in ROLES:
        found = [key for key, each in item.assets.items() if role in (each.roles or ())]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"has several assets with the role {role!r}: {', '.join(found)}",
                where=where,
                remedy="Say which `asset` is meant.",
            )
    if len(item.assets) == 1:
        return next(iter(item.assets))
    raise DataError(
        f"has no asset with the role 'visual' or 'data'; its assets are {names}",
        where=where,
        remedy="Say which `asset` is meant.",
    )
