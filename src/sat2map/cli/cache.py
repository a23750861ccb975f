"""The verb about the user's cache: where it is, how large, and that it goes."""

from __future__ import annotations

import json

import typer

from sat2map.cli.options import AsJson

cache_app = typer.Typer(help="Say where the cache is, and how large.")


@cache_app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Say where the cache is and how large."""
    if context.invoked_subcommand is not None:
        return
    from sat2map.user_cache import KINDS, cache_entries, cache_folder, cache_limit

    entries, limit = cache_entries(), cache_limit()
    sizes = {kind: sum(e.size for e in entries if e.kind == kind) for kind in KINDS}
    if as_json:
        facts = {"folder": str(cache_folder()), "limit": limit, "bytes": sizes}
        print(json.dumps(facts, indent=2))
        return
    print(cache_folder())
    for kind, size in sizes.items():
        count = sum(entry.kind == kind for entry in entries)
        print(f"{kind:12}{count:8} {'entry' if count == 1 else 'entries':8}{_shown(size):>12}")
    print(f"{'in all':12}{len(entries):8} {'':8}{_shown(sum(sizes.values())):>12}", end="")
    print(f" of at most {_shown(limit)}")


@cache_app.command()
def clear(as_json: AsJson = False) -> None:
    """Remove all of it; whatever is needed again is made or fetched again."""
    from sat2map.user_cache import cache_folder, clear_cache

    freed = clear_cache()
    if as_json:
        print(json.dumps({"folder": str(cache_folder()), "freed": freed}))
    else:
        print(f"{_shown(freed)} removed from {cache_folder()}")


def _shown(size: int) -> str:
    """Return bytes as people read them."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"
