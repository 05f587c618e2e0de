"""A comparison in words: the sentences at the top of terminal output and pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.comparison.columns import BITS
from evalkit.comparison.lines import MEAN, POOLED
from evalkit.statistics.metric_names import CAPPED, is_rate

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.comparison.compare import Comparison

MAX_NAMED = 3
"""Maximum number of domains or tasks that a sentence names."""


def format_signed(value: float, metric: str, *, unit: bool = True, places: int | None = None) -> str:
    """A difference with its sign: accuracies in percentage points, bits per byte with `places` decimals (3 or more).

    >>> signed(-0.0234, "acc"), signed(-0.0123, "bits_per_byte", unit=False), signed(0.00004, "bits_per_byte")
    ('−2.3 points', '−0.012', '+0.00004 bits per byte')
    """
    if math.isnan(value):
        return "unknown"
    word = ""
    if metric.endswith(BITS):
        text, word = f"{value:+.{decimals(value) if places is None else places}f}", " bits per byte"
    elif is_rate(metric) or metric == MEAN:
        text, word = f"{100 * value:+.1f}", " points"
    else:
        text = f"{value:+.4g}"
    if not text.strip("+-0."):
        text = text[1:]
    return text.replace("-", "−") + (word if unit else "")


def decimals(size: float) -> int:
    """Number of decimals that show the first significant digit of `size`, at least three.

    >>> decimals(0.012), decimals(0.0004), decimals(0.0)
    (3, 4, 3)
    """
    return 3 if size == 0 or math.isnan(size) else min(9, max(3, -math.floor(math.log10(abs(size)))))


def format_difference(line: Any, *, unit: bool = True) -> str:
    """A row's difference with its interval, in the same precision: ``−0.012 bits per byte [−0.015, −0.009]``."""
    value, low, high, metric = line["difference"], line["ci_low"], line["ci_high"], line["metric"]
    if math.isnan(low) or math.isnan(high):
        return format_signed(value, metric, unit=unit)
    places = decimals((high - low) / 2 or value)
    ends = (format_signed(end, metric, unit=False, places=places) for end in (low, high))
    return f"{format_signed(value, metric, unit=unit, places=places)} [{', '.join(ends)}]"


def line_name(line: Any) -> str:
    """The name of the task, source or domain of a row."""
    if line["level"] == "domain":
        return str(line["domain"] if line["domain"] == line["source"] else f"{line['source']}/{line['domain']}")
    return str(line["source"] or line["task"]) if line["level"] == "source" else str(line["task"])


def describe_change(line: Any) -> str:
    """``coqa/cnn +0.083 bits per byte [+0.071, +0.095]``."""
    return f"{line_name(line)} {format_difference(line)}"


def sentences(comparison: Comparison) -> list[str]:
    """What changed in each run against the baseline."""
    base = comparison.labels[comparison.baseline]
    result: list[str] = []
    for number, label in enumerate(comparison.labels):
        if number != comparison.baseline:
            lines = comparison.table[comparison.table["run"] == label]
            result += _run_sentences(lines, f"{label} vs {base}", 1 - comparison.level)
    return result


def _run_sentences(lines: pd.DataFrame, subject: str, alpha: float) -> Iterator[str]:
    compared = lines[lines["comparable"]]
    primary = compared[compared["primary"]]
    level = f"{alpha:.3g}"
    if len(primary) == 0:
        yield f"{subject}: no results in common that can be compared."
    elif ((compared["difference"] == 0) & (compared["stderr"].fillna(0) == 0)).all():
        tested = primary[primary["level"].isin(("task", "domain"))]
        yield f"{subject}: identical scores on all {int(tested['n'].sum()):,} shared documents."
    else:
        tasks, domains = primary[primary["level"] == "task"], primary[primary["level"] == "domain"]
        suite = primary[(primary["level"] == "suite") & (primary["kind"] == "text")]
        tests = primary[primary["level"] != "domain"]["tests"]
        corrected = _correction("Holm", level, int(tests.max()) if len(tests) else 1)
        parts = []
        if len(tasks):
            up, down, rest = _counts(tasks)
            word = "task" if up == 1 else "tasks"
            parts.append(f"{up} {word} better, {down} worse, {rest} not significant ({corrected}{_untestable(tasks)})")
        for _, line in suite.iterrows():
            parts.append(_macro_phrase(line) + ("" if len(tasks) or line["tests"] == 1 else f" ({corrected})"))
        yield f"{subject}: {'; '.join(parts)}."
        yield from _disagreement(suite, compared[compared["metric"] == POOLED])
        yield from _task_sentences(tasks)
        yield from never_stopped(compared)
        yield from _detectable_sentences(primary[primary["level"] != "domain"])
        yield from _domain_sentences(domains, level)
    refused = lines[~lines["comparable"]]
    if len(refused):
        reasons = [f"{row['task']} ({row['reason']})" for _, row in refused.iterrows()]
        yield f"Not compared: {_listed(reasons)}."


def _correction(name: str, level: str, tests: int, *, always: bool = False) -> str:
    """``paired tests, p < 0.05 after Holm correction for 12 tests``; a single test is not corrected."""
    if tests > 1:
        return f"paired tests, p < {level} after {name} correction for {tests:,} tests"
    return f"paired tests, p < {level}" + (f" after {name} correction" if always else "")


def _untestable(lines: pd.DataFrame) -> str:
    count = int(lines["p"].isna().sum())
    return f"; {count:,} of them {'has' if count == 1 else 'have'} too few documents to test" if count else ""


def _macro_phrase(line: Any) -> str:
    """``paloma 0.087 bits per byte better [0.080, 0.094]``; with signs where the direction is not significant."""
    if line["resolved"]:
        return f"{line['task']} {format_size(line)}"
    reason = "too few documents to test" if math.isnan(line["p"]) else "not significant"
    return f"{line['task']} {format_difference(line)} ({reason})"


def format_size(line: Any) -> str:
    """A significant difference without its sign: ``0.087 bits per byte better [0.080, 0.094]``.

    The interval is that of the improvement (or of the deterioration), so that its ends have the sentence's direction.
    """
    value, low, high, metric = line["difference"], line["ci_low"], line["ci_high"], line["metric"]
    word = "better" if line["better"] > 0 else "worse"
    places = decimals((high - low) / 2 or value)
    low, high = (low, high) if value > 0 else (-high, -low)
    size = format_signed(abs(value), metric, places=places).lstrip("+")
    ends = [format_signed(end, metric, unit=False, places=places).lstrip("+") for end in (low, high)]
    return f"{size} {word} [{', '.join(ends)}]"


def _disagreement(macro: pd.DataFrame, pooled: pd.DataFrame) -> Iterator[str]:
    """A warning where the mean over domains and the figure over all documents point in opposite directions."""
    for (_, mean), (_, whole) in zip(macro.iterrows(), pooled.iterrows(), strict=False):
        if mean["better"] * whole["better"] < 0:
            state = "both" if mean["resolved"] and whole["resolved"] else "not both"
            yield (
                f"Macro and pooled averages disagree in sign ({state} significant): mean over domains "
                f"{format_difference(mean, unit=False)}, all documents pooled {format_difference(whole)}."
            )


def _counts(lines: pd.DataFrame) -> tuple[int, int, int]:
    """Number of rows that are significantly better, significantly worse, and neither."""
    up = int((lines["resolved"] & (lines["better"] > 0)).sum())
    down = int((lines["resolved"] & (lines["better"] < 0)).sum())
    return up, down, len(lines) - up - down


def _task_sentences(tasks: pd.DataFrame) -> Iterator[str]:
    for word, sign in (("Worse", -1), ("Better", 1)):
        changes = _largest_changes(tasks[tasks["resolved"] & (tasks["better"] == sign)])
        if changes:
            yield f"{word}: {_listed(changes)}."


def never_stopped(lines: pd.DataFrame) -> Iterator[str]:
    """A sentence with the shares of generated answers that only the cap on their length ended, where there are any."""
    lines = lines[lines["comparable"] & (lines["metric"] == CAPPED)]
    lines = lines[(lines["value_a"] > 0) | (lines["value_b"] > 0)]
    shares = [
        f"{line_name(line)} {100 * line['value_a']:.1f} % to {100 * line['value_b']:.1f} % ({format_difference(line)})"
        for _, line in lines.iterrows()
    ]
    if shares:
        yield f"Answers that never stopped (cut off at the length limit): {_listed(shares)}."


def _detectable_sentences(lines: pd.DataFrame) -> Iterator[str]:
    """The changes that tests without a significant result had 80 % power to detect, per unit; and tests without any power."""
    unresolved = lines[~lines["resolved"]]
    parts = []
    for unit in dict.fromkeys(_unit(metric) for metric in unresolved["metric"]):
        own = unresolved[[_unit(metric) == unit for metric in unresolved["metric"]]]
        effects = own["mde"][own["mde"].map(math.isfinite)]
        if len(effects):
            metric = own["metric"].iloc[0]
            low, high = (format_signed(end, metric, unit=False).lstrip("+") for end in (effects.min(), effects.max()))
            parts.append(f"{low if low == high else f'{low}–{high}'} {unit}".rstrip())
    if parts:
        yield (
            f"Not significant does not mean equal: this comparison had 80 % power to detect changes of {' or '.join(parts)}."
        )
    hopeless = unresolved[unresolved["mde"] == math.inf]
    if len(hopeless):
        names = [f"{line_name(row)} ({row['n']:,} documents)" for _, row in hopeless.iterrows()]
        yield f"Too few documents to detect a change of any size: {_listed(names)}."


def _unit(metric: str) -> str:
    if metric.endswith(BITS):
        return "bits per byte"
    return "points" if is_rate(metric) else f"of {metric}"


def _domain_sentences(domains: pd.DataFrame, level: str) -> Iterator[str]:
    if len(domains) == 0:
        return
    up, down, rest = _counts(domains)
    summary = f"{len(domains):,} domains: {up:,} better, {down:,} worse, {rest:,} not significant"
    tests = int(domains["tests"].max())
    many = tests if tests > len(domains) else 1  # for a single run, the number of domains is the number of tests
    yield f"{summary} ({_correction('Benjamini-Hochberg', level, many, always=True)}{_untestable(domains)})."
    for word, sign in (("Largest losses", -1), ("Largest gains", 1)):
        changes = _largest_changes(domains[domains["resolved"] & (domains["better"] == sign)])
        if changes:
            yield f"{word}: {_listed(changes)}."


def _largest_changes(lines: pd.DataFrame) -> list[str]:
    order = lines["difference"].abs().sort_values(ascending=False, kind="stable").index
    return [describe_change(lines.loc[i]) for i in order]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return "; ".join(names[:MAX_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
