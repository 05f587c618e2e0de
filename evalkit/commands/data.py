"""``evalkit data``: the offline bundle of questions and texts, and the caches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.options import Debug, Json
from evalkit.commands.terminal import clean, print_json, print_table, say, size
from evalkit.errors import UnknownName

app = typer.Typer(help="The offline bundle of questions and texts, and the caches.", no_args_is_help=True)


@app.command("fetch")
def fetch(
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Copy the bundle from this file instead of downloading it."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Download the offline bundle (86 MB) and verify it. Safe to repeat; a damaged file is replaced."""
    from evalkit.data import fetch_bundle

    say(f"Offline bundle: {clean(fetch_bundle(bundle))}")


@app.command("list")
def list_caches(as_json: Json = False, debug: Debug = False) -> None:
    """List the caches with their sizes."""
    from evalkit.data import caches

    rows = caches()
    if as_json:
        print_json([{"name": name, "path": path, "bytes": count} for name, path, count in rows])
        return
    print_table(["cache", "size", "path"], [(n, size(c), p) for n, p, c in rows], right=["size"])


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Cache name from 'evalkit data list'.")],
    debug: Debug = False,
) -> None:
    """Delete a cache. Its contents can be downloaded again."""
    from evalkit.data import caches, remove_cache

    names = [known for known, _, _ in caches()]
    if name not in names:
        raise UnknownName("cache", name, names, "'evalkit data list' lists them.")
    say(f"Removed {clean(name)}: {size(remove_cache(name))} freed.")
