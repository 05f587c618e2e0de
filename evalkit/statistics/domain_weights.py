"""Domain weights, for the perplexity of another mixture: ``exp(Σ α_d NLL_d)`` (Paloma, arXiv 2312.10523).

A file in YAML or JSON::

    c4_en: 0.6                     a source: its weight is divided evenly among its domains
    dolma_100_subreddits:          or each domain by itself
      00_AskReddit: 0.3
      01_politics: 0.1

Weights are divided by their sum. Domains that are not listed have weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UnknownName, UsageError
from evalkit.system.documents import read_yaml

Weights = Mapping[str, float | Mapping[str, float]]
"""Source to its weight, or to the weights of its domains; as in the file and in ``run.json``."""
Group = tuple[str, str]
"""Source and domain."""


def read_weights(source: Path | str | Mapping[str, Any]) -> dict[str, Any]:
    """Read weights from a file, or validate those given as a mapping. Raises `UsageError`."""
    if isinstance(source, Mapping):
        return _validated(source, "The weights of domains")
    return _validated(read_yaml(Path(source), what="The --domain-weights file"), str(source))


def _validated(parsed: Any, where: str) -> dict[str, Any]:
    if not isinstance(parsed, Mapping) or not parsed:
        raise UsageError(f"{where}: weights are 'source: weight', or 'source:' with 'domain: weight' below it.")
    weights: dict[str, Any] = {}
    for source, value in parsed.items():
        if isinstance(value, Mapping) and value:
            weights[str(source)] = {
                str(domain): _validated_weight(weight, f"{source}/{domain}", where) for domain, weight in value.items()
            }
        else:
            weights[str(source)] = _validated_weight(value, str(source), where)
    if not sum(_total(value) for value in weights.values()) > 0:
        raise UsageError(f"{where}: at least one weight must be above 0.")
    return weights


def _validated_weight(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise UsageError(f"{where}: the weight of '{name}' must be a number of at least 0, not {value!r}.")
    return float(value)


def _total(value: float | Mapping[str, float]) -> float:
    return sum(value.values()) if isinstance(value, Mapping) else value


def normalized_weights(weights: Weights, groups: Iterable[Group]) -> dict[Group, float]:
    """The normalized weight of each domain among `groups` (source, domain) whose weight is above 0; they sum to 1.

    Raises `UnknownName` for a source or domain that is not among them.
    """
    known: dict[str, list[str]] = {}
    for source, domain in groups:
        known.setdefault(source, []).append(domain)
    total = sum(_total(value) for value in weights.values())
    result: dict[Group, float] = {}
    for source, value in weights.items():
        if source not in known:
            raise UnknownName("source", source, known, "--domain-weights names sources of what is scored.")
        if not isinstance(value, Mapping):
            value = dict.fromkeys(known[source], value / len(known[source]))
        for domain, weight in value.items():
            if domain not in known[source]:
                raise UnknownName("domain", domain, known[source], f"'evalkit list domains' shows those of {source}.")
            result[source, domain] = weight / total
    return {group: share for group, share in result.items() if share > 0}
