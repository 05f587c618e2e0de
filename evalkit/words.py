"""Formatting of numbers and names, the same on pages and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from evalkit.records import Metric
from evalkit.statistics.metric_names import SUITE_SCORE, is_rate
from evalkit.system import characters

Unit = Literal["percent", "bits", "perplexity", "count", "number"]

MISSING = "—"
visible = characters.visible


def unit_of(metric: Metric) -> Unit:
    """The unit in which a metric is shown: what guessing reaches, and where higher is better, is a share."""
    return "percent" if metric.chance is not None and metric.higher_is_better else unit_of_name(metric.metric)


def unit_of_name(name: str) -> Unit:
    """The unit of a metric whose name is all that is known.

    >>> unit_of_name("greedy_acc"), unit_of_name("mean_bits_per_byte"), unit_of_name("margin")
    ('percent', 'bits', 'number')
    """
    if is_rate(name) or name == "mean_of_primary":
        return "percent"
    if name.endswith("bits_per_byte"):
        return "bits"
    if name.endswith("perplexity"):
        return "perplexity"
    counts = ("tokens", "bytes", "words", "windows", "outliers")
    return "count" if name.removeprefix("total_") in counts else "number"


UNIT_WORDS: Mapping[Unit, str] = {
    "percent": "%",
    "bits": "bits per byte",
    "perplexity": "perplexity",
    "count": "",
    "number": "",
}


def number(value: float | None, unit: Unit, like: float | None = None, *, precision: int | None = None) -> str:
    """A value in its unit: accuracies in percent with one decimal, bits per byte with three.

    Perplexities have as many decimals as `like` (or the value itself) calls for, so that a small error stands in the
    same places as its value. `precision`: decimals in place of the unit's own.

    >>> number(0.5809, "percent"), number(1.04312, "bits"), number(16.1432, "perplexity"), number(391171.2, "perplexity")
    ('58.1', '1.043', '16.14', '391,171')
    """
    if value is None or not math.isfinite(value):
        return "∞" if value == math.inf else MISSING
    if precision is not None and unit != "count":
        return f"{100 * value if unit == 'percent' else value:,.{precision}f}"
    if unit == "percent":
        return f"{100 * value:.1f}"
    if unit == "bits":
        return f"{value:.3f}"
    if unit == "perplexity":
        size = abs(value if like is None else like)
        return f"{value:,.3f}" if size < 10 else f"{value:,.2f}" if size < 1000 else f"{value:,.0f}"
    if unit == "count":
        return f"{value:,.0f}"
    return f"{value:.4g}"


def with_sign(text: str, value: float) -> str:
    """A number with its sign, a minus as long as a plus; none before what rounds to nothing.

    >>> with_sign("1.2", 1.2), with_sign("-1.2", -1.2), with_sign("0.0", 0.01), with_sign("-0.0", -0.01)
    ('+1.2', '−1.2', '0.0', '0.0')
    """
    bare = text.lstrip("-")
    if not any(sign in "123456789∞" for sign in bare):
        return bare
    return f"{'−' if value < 0 else '+'}{bare}"


def score(metric: Metric | None) -> str:
    """``58.1 ± 1.0``; with the error if known."""
    if metric is None:
        return MISSING
    unit = unit_of(metric)
    text = number(metric.value, unit)
    return text if metric.stderr is None else f"{text} ± {number(metric.stderr, unit, metric.value)}"


def interval(metric: Metric | None) -> str:
    """``[56.1, 60.1]``, or an empty string if unknown."""
    if metric is None or metric.ci_low is None or metric.ci_high is None:
        return ""
    unit = unit_of(metric)
    return f"[{number(metric.ci_low, unit, metric.value)}, {number(metric.ci_high, unit, metric.value)}]"


NO_INTERVAL = "no 95 % interval: too few independent documents, or one of them has nearly all of the text, so no interval would be valid"


def metric_title(name: str) -> str:
    """A metric's name in words: ``macro bits per byte``, ``acc_norm`` (the names of accuracies are the field's own).

    >>> metric_title("macro_bits_per_byte"), metric_title("acc_norm")
    ('macro bits per byte', 'acc_norm')
    """
    return name if is_rate(name) and name != SUITE_SCORE else name.replace("_", " ")


def amount(count: Any) -> str:
    """A large count in short: parameters, tokens seen.

    >>> amount(1_600_000), amount(84_000_000_000), amount(950)
    ('1.6 M', '84 B', '950')
    """
    if not isinstance(count, (int, float)) or isinstance(count, bool) or not math.isfinite(count):
        return ""
    for size, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{count / size:.3g} {sign}" if abs(count) / size < 999.5 else f"{count / size:.0f} {sign}"
    return f"{count:g}"


def duration(seconds: Any) -> str:
    """A duration in words.

    >>> duration(4.26), duration(200), duration(7260)
    ('4.3 s', '3 min 20 s', '2 h 1 min')
    """
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return ""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plainly(value: Any) -> str:
    """A small value of ``run.json`` in one line: keys without underscores, yes and no, long hashes cut.

    >>> plainly({"max_length": 2048, "fixed": False, "sha256": "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de0"})
    'max length: 2048; fixed: no; sha256: 61b08ab60ca5…'
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{str(key).replace('_', ' ')}: {plainly(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plainly(item) for item in value)
    text = str(value)
    return f"{text[:12]}…" if len(text) >= 40 and all(sign in "0123456789abcdef" for sign in text) else text


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names with commas; of more than `most` the first few, and how many more there are.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d", "e"], most=4)
    ('a, b, c', 'a, b, c and 2 more')
    """
    shown = len(names) if len(names) <= most else 3
    return ", ".join(names[:shown]) + (f" and {len(names) - shown:,} more" if len(names) > shown else "")
