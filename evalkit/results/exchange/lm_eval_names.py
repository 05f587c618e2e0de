"""What evalkit calls the tasks and metrics of lm-evaluation-harness: the rule, in one place. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from evalkit.errors import EvalkitError
from evalkit.registry import parse_task_name

FAMILY, REGIME = "lm-eval", "lm-eval"
RENAMED = {"em": "exact_match", "contains": "exact_match"}
"""Metrics of generated texts that evalkit's own tasks call otherwise."""


def metric_name(metric: str, filtered: str) -> str:
    """What evalkit calls ``METRIC,FILTER``: the metric alone where nothing is filtered.

    >>> metric_name("acc", "none"), metric_name("exact_match", "strict-match")
    ('acc', 'exact_match_strict-match')
    """
    return metric if filtered == "none" else f"{metric}_{filtered}"


def own_task(name: str) -> str:
    """The full name of evalkit's own task that asks what the harness's task `name` asks: ``NAME::lm-eval``, where evalkit has a
    task of that name, or one that lists it among its other names; empty if there is none.

    >>> own_task("commonsense_qa"), own_task("wikitext")
    ('csqa:mc::lm-eval', '')
    """
    if any(mark in name for mark in ":/*?[") or not name:
        return ""
    try:
        found = parse_task_name(f"{name}::{REGIME}")
    except EvalkitError:
        return ""
    return str(found) if found.regime == REGIME else ""


def own_metrics(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What evalkit's own task calls the metrics of generated texts, by their name here: those of the first filter have no ending,
    and those of ``flexible-extract`` have ``_flexible``. `named`: (metric, filter) in the order of the file.

    >>> own_metrics([("exact_match", "strict-match"), ("exact_match", "flexible-extract")])
    {'exact_match_strict-match': 'exact_match', 'exact_match_flexible-extract': 'exact_match_flexible'}
    """
    pairs = list(named)
    found: dict[str, str] = {}
    for metric, filtered in pairs:
        ending = "" if filtered == pairs[0][1] else "_flexible" if filtered == "flexible-extract" else None
        if ending is not None:
            found[metric_name(metric, filtered)] = RENAMED.get(metric, metric) + ending
    return found
