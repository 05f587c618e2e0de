"""Paloma's manifest: its sources and domains as spelled in the release, from ``paloma.json``.

Version 1 (arXiv 2312.10523) has 18 sources and 585 domains; the release has the 16 sources and 546 domains that may be
redistributed. Misspellings in the release (``programing``, ``General_referece``) are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evalkit.system.documents import read_json


@dataclass(frozen=True, slots=True)
class PalomaSource:
    """A source and its domains."""

    name: str
    domains: tuple[str, ...]
    unit: str = ""
    """What a domain is, such as ``subreddit``; empty if the source is one domain."""
    redistributable: bool = True
    """False for The Pile and ICE, which are not part of the release."""
    fringe: bool = False
    """Whether it is 4chan, Gab or Manosphere: texts that a model should perhaps not fit well."""
    code: frozenset[str] = frozenset()
    """Domains that are source code."""

    def ordinary(self, domain: str) -> bool:
        """Whether a domain counts in ordinary perplexity: all except fringe sources and code (arXiv 2312.10523)."""
        return not self.fringe and domain not in self.code


@cache
def sources() -> dict[str, PalomaSource]:
    """All sources of version 1 by name, in the order of the manifest."""
    by_name = {}
    for entry in _raw()["sources"]:
        domains = tuple(entry["domains"])
        code = entry.get("code", ())
        by_name[entry["name"]] = PalomaSource(
            entry["name"],
            domains,
            entry.get("unit", ""),
            entry.get("redistributable", True),
            entry.get("fringe", False),
            frozenset(domains if code == "all" else code),
        )
    return by_name


def repository() -> str:
    """The data set's name on the hub."""
    return str(_raw()["repository"])


def max_length() -> int:
    """Maximum tokens per window, even for models with a longer context (Paloma's guideline G5)."""
    return int(_raw()["max_length"])


@cache
def _raw() -> dict[str, Any]:
    raw: dict[str, Any] = read_json(Path(__file__).parent / "paloma.json")
    return raw
