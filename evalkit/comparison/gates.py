"""``--fail-if``: rules that make a pipeline fail when a comparison shows a regression.

    any primary worse resolved          any primary row that is significantly worse (or: any task, source, domain)
    any domain worse by 0.05            … worse by more than 0.05 in the metric's unit
    macro(bits_per_byte) > +0.01        the mean over domains (for accuracies: over tasks) rose by more than 0.01
    arc_easy.acc_norm < -0.02 resolved  a metric of one task; accuracies are fractions: 0.02 is two points
    "wikihow/Home & Garden" worse       one source, or source/domain; quoted because the name has spaces

``rule = ("any" kind | "macro(" metric ")" | name ["." metric]) (("worse" | "better") ["by" number] | sign number)
["resolved"]``, with kind one of primary, task, source, domain, and sign one of ``< <= > >=``. Numbers are compared with the
difference between the run and the baseline. ``resolved``: only if the corrected test is significant.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.comparison.columns import BITS
from evalkit.comparison.compare import Comparison
from evalkit.comparison.verdict import describe_change, format_difference, line_name
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.statistics.metrics import CHOICE_METRICS
from evalkit.statistics.paired import t_difference

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("primary", "task", "source", "domain")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TOKEN = re.compile(r'\s*(?:"([^"]*)"|(<=|>=|<|>)|([^\s"<>]+))')
_NUMBER = re.compile(r"^[+\-]?(\d+(\.\d*)?|\.\d+)(e[+\-]?\d+)?$", re.IGNORECASE)
_MACRO = re.compile(r"^macro\(([\w]+)\)$")


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule."""

    text: str
    any: str = ""
    """The kind of rows that the rule applies to, if it is about any of them."""
    macro: str = ""
    """The metric of a mean."""
    name: str = ""
    metric: str = ""
    sign: str = ""
    """``<``, ``<=``, ``>``, ``>=``, ``worse`` or ``better``."""
    number: float = 0.0
    resolved: bool = False

    def matches(self, line: Any) -> bool:
        """Whether a row of a comparison's table is what the rule forbids."""
        difference = float(line["difference"])
        if math.isnan(difference) or (self.resolved and not bool(line["resolved"])):
            return False
        if self.sign in OPERATORS:
            return OPERATORS[self.sign](difference, self.number)
        direction = 1 if self.sign == "better" else -1
        return int(line["better"]) == direction and abs(difference) > self.number


@dataclass(frozen=True, slots=True)
class FiredRule:
    """A rule that fired for a run, with descriptions of the rows that made it fire."""

    rule: str
    run: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        more = f"; and {len(self.reasons) - 3:,} more" if len(self.reasons) > 3 else ""
        return f"'{self.rule}' fired for {self.run}: {'; '.join(self.reasons[:3])}{more}"


def parse_rule(text: str) -> Rule:
    """Parse a rule. Raises `UsageError` that says where the syntax is wrong and what is expected there."""
    tokens = _tokens(text)

    def syntax_error(expected: str) -> UsageError:
        position = f"at '{tokens[0][0]}'" if tokens else "at its end"
        return UsageError(
            f"The rule '{text}' is not understood {position}: {expected}. docs/comparing.md explains rules."
        )

    def current() -> str:
        return tokens[0][0] if tokens and not tokens[0][1] else ""

    parts: dict[str, Any] = {}
    if not tokens:
        raise syntax_error("it is empty")
    if current() == "any":
        tokens.pop(0)
        if current() not in KINDS:
            raise syntax_error(f"after 'any' comes one of {', '.join(KINDS)}")
        parts["any"] = tokens.pop(0)[0]
    elif current().startswith("macro("):
        macro = _MACRO.match(current())
        if macro is None:
            raise syntax_error("a mean is written macro(METRIC), as macro(bits_per_byte)")
        tokens.pop(0)
        parts["macro"] = macro[1]
    elif current() in OPERATORS or current() in ("worse", "better"):
        raise syntax_error("a rule begins with 'any KIND', 'macro(METRIC)' or the name of a task, source or domain")
    else:
        parts["name"], parts["metric"] = _split_name(tokens.pop(0)[0])
        if tokens and not parts["metric"] and current().startswith(".") and len(current()) > 1:
            parts["metric"] = tokens.pop(0)[0][1:]
    if current() in OPERATORS:
        parts["sign"] = tokens.pop(0)[0]
        parts["number"] = _parse_number(current())
        if parts["number"] is None:
            raise syntax_error(f"after '{parts['sign']}' comes a number, as -0.02")
        tokens.pop(0)
    elif current() in ("worse", "better"):
        parts["sign"] = tokens.pop(0)[0]
        if current() == "by":
            tokens.pop(0)
            parts["number"] = _parse_number(current())
            if parts["number"] is None or parts["number"] < 0:
                raise syntax_error("after 'by' comes a size, as 0.02")
            tokens.pop(0)
    else:
        raise syntax_error("here comes worse, better, or < <= > >= and a number")
    if current() == "resolved":
        tokens.pop(0)
        parts["resolved"] = True
    if tokens:
        raise syntax_error("only 'resolved' may follow")
    return Rule(text, **parts)


def _tokens(text: str) -> list[tuple[str, bool]]:
    """Words, signs and names, each with whether it was quoted."""
    normalized, start, tokens = text.replace("−", "-").strip(), 0, []
    while start < len(normalized):
        match = _TOKEN.match(normalized, start)
        if match is None:
            raise UsageError(f"The rule '{text}' has a quote that is not closed.")
        quoted, sign, word = match.groups()
        tokens.append((quoted if quoted is not None else sign or word, quoted is not None))
        start = match.end()
    return tokens


def _split_name(text: str) -> tuple[str, str]:
    """Split ``arc_easy.acc_norm`` into task and metric; a name may contain dots if no metric follows."""
    name, dot, metric = text.rpartition(".")
    return (name, metric) if dot and name and metric in CHOICE_METRICS else (text, "")


def _parse_number(text: str) -> float | None:
    return float(text) if _NUMBER.match(text) else None


def check_rules(comparison: Comparison, rules: list[Rule]) -> list[FiredRule]:
    """The rules that fire, for every run against the baseline.

    Raises `UnknownName` for names that are not in the comparison, and `EvalkitError` for rules on rows that are not
    comparable: a gate that cannot be evaluated must not pass.
    """
    fired = []
    for i, label in enumerate(comparison.labels):
        if i == comparison.baseline:
            continue
        lines = comparison.table[comparison.table["run"] == label]
        for rule in rules:
            reasons = _reasons(rule, lines, label, comparison.level)
            if reasons:
                fired.append(FiredRule(rule.text, label, tuple(reasons)))
    return fired


def _reasons(rule: Rule, lines: pd.DataFrame, label: str, level: float) -> list[str]:
    if rule.macro:
        mean_line = _mean_line(lines, rule.macro, level)
        if mean_line is None:
            known = sorted(set(lines[lines["comparable"]]["metric"]))
            raise UnknownName("mean", rule.macro, known, f"The rule '{rule.text}' may ask for {', '.join(known)}.")
        return [f"macro {rule.macro} {format_difference(mean_line)}"] if rule.matches(mean_line) else []
    applicable = _applicable_lines(rule, lines)
    compared = applicable[applicable["comparable"]]
    if len(compared) == 0:
        reasons = "; ".join(f"{line_name(row)}: {row['reason']}" for _, row in applicable.head(3).iterrows())
        raise EvalkitError(
            f"The rule '{rule.text}' cannot be judged for {label}: nothing to compare. {reasons}".strip()
        )
    matching = [row for _, row in compared.iterrows() if rule.matches(row)]
    matching.sort(key=lambda row: -abs(float(row["difference"])))
    return [
        describe_change(row) + ("" if rule.any or row["metric"] == BITS else f" ({row['metric']})") for row in matching
    ]


def _applicable_lines(rule: Rule, lines: pd.DataFrame) -> pd.DataFrame:
    """The rows that a rule applies to."""
    if rule.any == "primary":
        return lines[lines["primary"]]
    if rule.any:
        return lines[(lines["level"] == rule.any) & (lines["primary"] | (lines["level"] == "source"))]
    base = lines["task"].str.partition(":")[0]
    is_task = ((lines["task"] == rule.name) | (base == rule.name)) & lines["level"].isin(("task", "suite", "source"))
    is_source = (lines["source"] == rule.name) & (lines["level"] == "source")
    is_domain = (lines["source"] + "/" + lines["domain"] == rule.name) & (lines["level"] == "domain")
    found = lines[is_task | is_source | is_domain]
    if len(found) == 0:
        domains = lines[lines["level"] == "domain"]
        known = {*lines["task"], *base, *lines["source"], *(domains["source"] + "/" + domains["domain"])} - {""}
        raise UnknownName("task, source or domain", rule.name, known, f"The rule '{rule.text}' asks for it.")
    incomparable = ~found["comparable"]
    has_metric = found["metric"] == rule.metric if rule.metric else found["primary"] | (found["level"] != "task")
    selected = found[incomparable | has_metric]
    if len(selected) == 0:
        available = sorted(set(found["metric"]))
        raise UnknownName("metric", rule.metric, available, f"{rule.name} has {', '.join(available)}.")
    return selected


def _mean_line(lines: pd.DataFrame, metric: str, level: float) -> dict[str, Any] | None:
    """The row of a mean: the suite's for texts, else computed over the tasks that have the metric."""
    metric_lines = lines[lines["comparable"] & (lines["metric"] == metric)]
    suite = metric_lines[metric_lines["level"] == "suite"]
    if len(suite):
        return {str(name): value for name, value in suite.iloc[0].items()}
    tasks = metric_lines[metric_lines["level"] == "task"]
    if len(tasks) == 0:
        return None
    count = len(tasks)
    stderr = math.sqrt(float((tasks["stderr"] ** 2).sum(skipna=False))) / count
    units = int(tasks["clusters"].min())
    unchanged = bool((tasks["difference"] == 0).all() and (tasks["stderr"] == 0).all())
    difference = t_difference(
        float(tasks["difference"].mean()), stderr, int(tasks["n"].sum()), units, level, unchanged=unchanged
    )
    improvements = tasks["difference"] * tasks["better"]  # positive where higher is better
    better = 0 if difference.value == 0 else (1 if (difference.value > 0) == (improvements.sum() >= 0) else -1)
    line = {
        "difference": difference.value,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "metric": metric,
        "better": better,
    }
    return line | {"level": "suite", "task": "macro", "source": "", "domain": "", "resolved": difference.p < 1 - level}
