"""Corrections for many tests: which lines are one family, what is resolved in it, and what its tests can find.

Everything that one comparison (or one page of several) claims is corrected together, over all of its runs:

- tasks' primary metrics, macro averages of texts and pooled figures: Holm, so that the chance of any false claim among them
  is at most 1 − level, whatever the number of checkpoints;
- domains: Benjamini-Hochberg over all runs' domains, so that at most that share of what is named is expected to be false;
- sources, means over tasks and each metric that is not primary: Holm, a family each.

Intervals are corrected as well, so that none contradicts the p-value beside it. Those of what is resolved, and of all domains,
have the level 1 − R (1 − level) / m for R resolved of m tests, so that on average at most 1 − level of those that are shown
miss (false coverage rate: Benjamini and Yekutieli 2005, Journal of the American Statistical Association 100). Those of what
Holm does not resolve have 1 − (1 − level) / m (Bonferroni), since a family holds them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evalkit.comparison.lines import POOLED
from evalkit.statistics.paired import Difference, benjamini_hochberg, holm

CLAIMS = "claims"
"""The family of tasks, macro averages and pooled figures."""


def correct(lines: Sequence[dict[str, Any]], level: float) -> None:
    """Fill in the columns that depend on the other lines: ``p_adjusted``, ``correction``, ``tests``, ``resolved``, the
    interval of what is resolved, and ``mde``."""
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        families.setdefault(family_of(line), []).append(line)
    for (name, _), family in families.items():
        p = np.array([line["p"] for line in family], dtype=np.float64)
        adjusted = benjamini_hochberg(p) if name == "domain" else holm(p)
        tests = int((~np.isnan(p)).sum())
        resolved = adjusted < 1 - level
        selected_level = 1 - max(1, int(resolved.sum())) * (1 - level) / max(1, tests)
        for line, p_adjusted, is_resolved in zip(family, adjusted.tolist(), resolved.tolist(), strict=True):
            found: Difference = line["tested"]
            line["p_adjusted"], line["resolved"], line["tests"] = p_adjusted, is_resolved, tests
            line["correction"] = "benjamini-hochberg" if name == "domain" else "holm"
            line["ci_level"] = selected_level if is_resolved or name == "domain" else 1 - (1 - level) / max(1, tests)
            line["ci_low"], line["ci_high"] = found.interval(line["ci_level"])
            if line["primary"] and line["comparable"] and not math.isnan(line["p"]):
                line["mde"] = found.detectable((1 - level) / max(1, tests))


def family_of(line: dict[str, Any]) -> tuple[str, str]:
    """The name of a line's family, and its metric where that is a family by itself."""
    level, metric = str(line["level"]), str(line["metric"])
    if level == "domain" or level == "source":
        return level, ""
    if line["primary"] or metric == POOLED:
        return CLAIMS, ""
    return level, metric
