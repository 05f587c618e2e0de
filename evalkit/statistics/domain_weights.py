"""Weights of domains, for a perplexity of another mixture: ``exp(Σ α_d NLL_d)`` (Paloma, arXiv 2312.10523).

A file in YAML or JSON::

    c4_en: 0.6                     a source: its weight is shared evenly by its domains
    dolma_100_subreddits:          or its domains one by one
      00_AskReddit: 0.3
      01_politics: 0.1

Weights are shares: they are divided by their sum. Domains that are not named have none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UnknownName, UsageError

Weights = Mapping[str, float | Mapping[str, float]]
"""Source to its weight, or to the weights of its domains; as it stands in the file and in ``run.json``."""
Group = tuple[str, str]
"""Source and domain."""


def read_weights(source: Path | str | Mapping[str, Any]) -> dict[str, Any]:
    """Weights from a file, or checked where they are a mapping already. Raises `UsageError` naming what is wrong."""
    if isinstance(source, Mapping):
        return _checked(source, "The weights of domains")
    import yaml

    path = Path(source)
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} of --domain-weights cannot be read: {error.strerror or error}.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{path} of --domain-weights is neither YAML nor JSON: {' '.join(str(error).split())[:150]}."
        ) from None
    return _checked(read, str(path))


def _checked(read: Any, where: str) -> dict[str, Any]:
    if not isinstance(read, Mapping) or not read:
        raise UsageError(f"{where}: weights are 'source: weight', or 'source:' with 'domain: weight' below it.")
    checked: dict[str, Any] = {}
    for source, value in read.items():
        if isinstance(value, Mapping) and value:
            checked[str(source)] = {
                str(domain): _weight(one, f"{source}/{domain}", where) for domain, one in value.items()
            }
        else:
            checked[str(source)] = _weight(value, str(source), where)
    if not sum(_sum(value) for value in checked.values()) > 0:
        raise UsageError(f"{where}: at least one weight must be above 0.")
    return checked


def _weight(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise UsageError(f"{where}: the weight of '{name}' is a number of 0 or more, not {value!r}.")
    return float(value)


def _sum(value: float | Mapping[str, float]) -> float:
    return sum(value.values()) if isinstance(value, Mapping) else value


def shares(weights: Weights, groups: Iterable[Group]) -> dict[Group, float]:
    """The share of every domain that has one, of `groups` (source, domain); they sum to 1.

    Raises `UnknownName` for a source or domain that is not among them.
    """
    known: dict[str, list[str]] = {}
    for source, domain in groups:
        known.setdefault(source, []).append(domain)
    total = sum(_sum(value) for value in weights.values())
    found: dict[Group, float] = {}
    for source, value in weights.items():
        if source not in known:
            raise UnknownName("source", source, known, "--domain-weights names sources of what is scored.")
        if not isinstance(value, Mapping):
            value = dict.fromkeys(known[source], value / len(known[source]))
        for domain, weight in value.items():
            if domain not in known[source]:
                raise UnknownName("domain", domain, known[source], f"'evalkit list domains' shows those of {source}.")
            found[source, domain] = weight / total
    return {group: share for group, share in found.items() if share > 0}
