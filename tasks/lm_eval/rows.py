"""Rows of lm-eval's tasks: what ``process_results`` made of a document, kept whole, beside what evalkit compares.

The column ``lm_eval`` holds the values by filter and metric as JSON from which `read_values` makes equal Python objects, for the
harness's own aggregations; a value that is a number also has a column of its metric's name, by which runs are compared.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from evalkit.errors import ScoringError
from evalkit.records import Document, Generation, Scores
from evalkit.task import Row
from evalkit.tasks import stored
from evalkit.tasks.lm_eval.index import metric_name

VALUES = "lm_eval"
"""The column with all values."""
TAKEN = frozenset(
    "index native_id truncated cluster gold predicted sums tokens characters bytes is_greedy unconditional_sums logprobs token_ids "  # noqa: SIM905
    "token_strings ended texts answers extracted reasons source domain sum words windows lm_eval passed".split()
)
"""Columns with a meaning of their own, which no metric's column replaces."""

Values = Mapping[str, Mapping[str, Any]]
"""Filter to metric to value."""


def write_values(values: Values) -> str:
    """Values as JSON. Raises `ScoringError` for an object that is none of Python's or numpy's plain ones."""
    return json.dumps(_plain(values), ensure_ascii=True)


def read_values(text: str) -> dict[str, dict[str, Any]]:
    """The inverse of `write_values`: tuples, sets and arrays are such again, and numpy's numbers Python's."""
    made = _made(json.loads(text))
    return dict(made)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, (tuple, set, frozenset)):
        return {"set" if isinstance(value, (set, frozenset)) else "tuple": [_plain(one) for one in value]}
    if isinstance(value, Mapping):
        return {"map": [[_plain(key), _plain(one)] for key, one in value.items()]}
    raise ScoringError(f"a metric value has the type {type(value).__name__}, which cannot be stored")


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "map" in value:
        return {_made(key): _made(one) for key, one in value["map"]}
    if "array" in value:
        return np.array(value["array"], dtype=value["dtype"])
    return set(map(_made, value["set"])) if "set" in value else tuple(map(_made, value["tuple"]))


def number(value: Any) -> float | None:
    """A value as a number; None for any other."""
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        return float(value)
    return None


def metric_columns(values: Values, means: Collection[str]) -> dict[str, float]:
    """The columns of the metrics that are means of numbers."""
    found = {}
    for filtered, metrics in values.items():
        for metric, value in metrics.items():
            name, known = metric_name(metric, filtered), number(value)
            if metric in means and known is not None and name not in TAKEN:
                found[name] = known
    return found


def is_plain_choice(task: Any) -> bool:
    """Whether a task is a choice among options by their log-probability, judged by the harness itself: evalkit then knows what
    each option scored means (`lm_eval.api.task.ConfigurableTask.process_results`)."""
    from lm_eval.api.task import ConfigurableTask

    lengths = {"acc_norm", "acc_bytes"} & set(getattr(task, "_metric_fn_list", {}))
    return (
        task.OUTPUT_TYPE == "multiple_choice"
        and isinstance(task, ConfigurableTask)
        and type(task).process_results is ConfigurableTask.process_results
        and not callable(task.config.process_results)
        and not task.multiple_target
        and not (task.multiple_input and lengths)
    )


def gold_of(task: Any, document: Any, choices: Sequence[str]) -> int:
    """The position of the right option, by the harness's rule; -1 if there is none."""
    gold = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    if isinstance(gold, str):
        return list(choices).index(gold) if gold in choices else -1
    return int(gold) if isinstance(gold, (int, np.integer)) and 0 <= gold < len(choices) else -1


def option_row(
    document: Document, instances: Sequence[Any], scores: Sequence[Scores], primary: str, *, is_schema: bool
) -> Row:
    """The row of a plain choice (`evalkit.task.Row`); of several inputs (`is_schema`) the scored text is their common ending."""
    choices = document.fields["choices"]
    texts = [str(one.args[1]) for one in instances[: len(choices)]] if is_schema else choices
    return stored.choice_row(document, texts, scores, primary)


def other_row(document: Document, scores: Sequence[Scores]) -> Row:
    """The row of any other task of log-probabilities."""
    return {
        "index": document.index,
        "native_id": document.native_id,
        "logprob_sums": [score.sum for score in scores],
        "tokens": [score.tokens for score in scores],
        "is_greedy": [score.is_greedy for score in scores],
        "truncated": sum(score.truncated for score in scores),
    }


def text_row(document: Document, scores: Sequence[Scores], values: Values) -> Row:
    """The row of a text; its lengths are those that the task counts."""
    (metrics,) = values.values()
    row = stored.text_row(document, scores)
    for name, metric in (("bytes", "byte_perplexity"), ("bytes", "bits_per_byte"), ("words", "word_perplexity")):
        if metric in metrics:
            row[name] = int(metrics[metric][1])
    return row


def is_plain_text(values: Values) -> bool:
    """Whether a rolling task counts one text a document: every metric is (nats, length), and there is one filter."""
    found = [value for metrics in values.values() for value in metrics.values()]
    return len(values) == 1 and all(isinstance(value, tuple) and len(value) == 2 for value in found)


def generation_row(document: Document, generations: Sequence[Generation], extracted: Sequence[Any]) -> Row:
    """The row of a document that was answered once or several times. `extracted`: what the primary filter left of each text."""
    return {
        "index": document.index,
        "native_id": document.native_id,
        "ended": [one.ended for one in generations],
        "tokens": [len(one.token_ids) for one in generations],
        "texts": [one.text for one in generations],
        "answers": [one.answer for one in generations],
        "extracted": [None if one is None else str(one) for one in extracted],
        "truncated": sum(one.truncated for one in generations),
    }
