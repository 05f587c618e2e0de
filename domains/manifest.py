"""Paloma's manifest: its sources and domains in the release's spelling, kept beside this module in ``paloma.json``.

Version 1 (arXiv 2312.10523) has 18 sources and 585 domains; the release has the 16 sources and 546 domains that may be
given on. Misspellings of the release (``programing``, ``General_referece``) are names and stay.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class PalomaSource:
    """A source and its domains."""

    name: str
    domains: tuple[str, ...]
    unit: str = ""
    """What a domain is: ``subreddit``; empty where the source is one domain."""
    redistributable: bool = True
    """False for The Pile and ICE, which the release no longer holds."""
    fringe: bool = False
    """4chan, Gab, Manosphere: texts that a model should perhaps not fit well."""
    code: frozenset[str] = frozenset()
    """Domains that are program text."""

    def ordinary(self, domain: str) -> bool:
        """Whether a domain counts in ordinary perplexity: all but the fringe sources and code (arXiv 2312.10523)."""
        return not self.fringe and domain not in self.code


@cache
def sources() -> dict[str, PalomaSource]:
    """Every source of version 1 by name, in the manifest's order."""
    made = {}
    for entry in _raw()["sources"]:
        domains = tuple(entry["domains"])
        code = entry.get("code", ())
        made[entry["name"]] = PalomaSource(
            entry["name"],
            domains,
            entry.get("unit", ""),
            entry.get("redistributable", True),
            entry.get("fringe", False),
            frozenset(domains if code == "all" else code),
        )
    return made


def repository() -> str:
    """The data set's name on the hub."""
    return str(_raw()["repository"])


def max_length() -> int:
    """Most tokens a window, also for models that could take more (Paloma's guideline G5)."""
    return int(_raw()["max_length"])


@cache
def _raw() -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((Path(__file__).parent / "paloma.json").read_text(encoding="utf-8"))
    return raw
