"""``--fail-if``: rules that make a pipeline fail when a comparison shows a regression.

    any primary worse resolved          any primary row that is significantly worse (or: any task, source, domain)
    any domain worse by 0.05            … worse by more than 0.05 in the metric's unit
    macro(bits_per_byte) > +0.01        the mean over domains (for accuracies: over tasks) rose by more than 0.01
    arc_easy.acc_norm < -0.02 resolved  a metric of one task; accuracies are fractions: 0.02 is two points
    "wikihow/Home & Garden" worse       one source, or source/domain; quoted because the name has spaces

``rule = ("any" kind | "macro(" metric ")" | name ["." metric]) (("worse" | "better") ["by" number] | sign number)
["resolved"]``, with kind one of primary, task, source, domain, and sign one of ``< <= > >=``. Numbers are compared with the
difference between the run and the baseline. ``resolved``: only if the test is significant, with Holm's correction over
every line that the rules of a gate with ``resolved`` look at, in all runs: the chance that equal runs let a gate fire is at most
1 − level, whatever the number of rules, runs, tasks and domains.

What cannot be judged (a task that one run lacks or that was asked otherwise, a domain of one document, an unscored value)
never passes: `check_rules` raises unless the gate fires anyway.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.comparison.columns import BITS
from evalkit.comparison.compare import Comparison
from evalkit.comparison.lines import higher_is_better
from evalkit.comparison.verdict import describe_change, format_difference, line_name
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.statistics.jackknife import Spread
from evalkit.statistics.macro import combined_difference
from evalkit.statistics.metric_names import CHOICE_METRICS, DERIVED
from evalkit.statistics.paired import holm

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
        """Whether the size and sign of a line's difference are what the rule forbids (its test aside)."""
        difference = float(line["difference"])
        if math.isnan(difference):
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
            f"Syntax error in the rule '{text}' {position}: {expected}. docs/comparing.md explains rules."
        )

    def current() -> str:
        return tokens[0][0] if tokens and not tokens[0][1] else ""

    parts: dict[str, Any] = {}
    if not tokens:
        raise syntax_error("it is empty")
    if current() == "any":
        tokens.pop(0)
        if current() not in KINDS:
            raise syntax_error(f"'any' must be followed by one of {', '.join(KINDS)}")
        parts["any"] = tokens.pop(0)[0]
    elif current().startswith("macro("):
        macro = _MACRO.match(current())
        if macro is None:
            raise syntax_error("a mean is written macro(METRIC), for example macro(bits_per_byte)")
        tokens.pop(0)
        parts["macro"] = macro[1]
    elif current() in OPERATORS or current() in ("worse", "better"):
        raise syntax_error("a rule starts with 'any KIND', 'macro(METRIC)' or the name of a task, source or domain")
    else:
        parts["name"], parts["metric"] = _split_name(tokens.pop(0)[0])
        if tokens and not parts["metric"] and current().startswith(".") and len(current()) > 1:
            parts["metric"] = tokens.pop(0)[0][1:]
    if current() in OPERATORS:
        parts["sign"] = tokens.pop(0)[0]
        parts["number"] = _parse_number(current())
        if parts["number"] is None:
            raise syntax_error(f"'{parts['sign']}' must be followed by a number, for example -0.02")
        tokens.pop(0)
    elif current() in ("worse", "better"):
        parts["sign"] = tokens.pop(0)[0]
        if current() == "by":
            tokens.pop(0)
            parts["number"] = _parse_number(current())
            if parts["number"] is None or parts["number"] < 0:
                raise syntax_error("'by' must be followed by a size, for example 0.02")
            tokens.pop(0)
    else:
        raise syntax_error("expected 'worse', 'better', or one of < <= > >= and a number")
    if current() == "resolved":
        tokens.pop(0)
        parts["resolved"] = True
    if tokens:
        raise syntax_error("only 'resolved' may follow here")
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
    return (name, metric) if dot and name and metric in (*CHOICE_METRICS, *DERIVED) else (text, "")


def _parse_number(text: str) -> float | None:
    return float(text) if _NUMBER.match(text) else None


def check_rules(comparison: Comparison, rules: list[Rule]) -> list[FiredRule]:
    """The rules that fire, for every run against the baseline.

    Raises `UnknownName` for names that are not in the comparison, and, unless a rule fires, `EvalkitError` for what cannot
    be judged: a gate that cannot be evaluated must not pass.
    """
    looked: list[tuple[Rule, str, list[dict[str, Any]]]] = []
    problems: list[str] = []
    for i, label in enumerate(comparison.labels):
        if i != comparison.baseline:
            lines = comparison.table[comparison.table["run"] == label]
            for rule in rules:
                found, unjudged = _lines_of(rule, lines, comparison)
                looked.append((rule, label, found))
                if unjudged:
                    more = f"; and {len(unjudged) - 3:,} more" if len(unjudged) > 3 else ""
                    named = "; ".join(unjudged[:3])
                    problems.append(f"The rule '{rule.text}' cannot be evaluated for {label}: {named}{more}.")
    alpha = 1 - comparison.level
    tested = {_key(label, line): float(line["p"]) for rule, label, found in looked if rule.resolved for line in found}
    adjusted = dict(zip(tested, holm(list(tested.values())).tolist(), strict=True))
    fired = []
    for rule, label, found in looked:
        matching = [
            line
            for line in found
            if rule.matches(line) and not (rule.resolved and not adjusted[_key(label, line)] < alpha)
        ]
        matching.sort(key=lambda line: -abs(float(line["difference"])))
        if matching:
            fired.append(FiredRule(rule.text, label, tuple(_describe(rule, line) for line in matching)))
    if problems and not fired:
        raise EvalkitError(" ".join(problems))
    return fired


def _key(label: str, line: Mapping[str, Any]) -> tuple[str, ...]:
    """What a line is a test of."""
    return (label, *(str(line[name]) for name in ("level", "task", "source", "domain", "metric")))


def _describe(rule: Rule, line: Mapping[str, Any]) -> str:
    if rule.macro:
        return f"macro {rule.macro} {format_difference(line)}"
    return describe_change(line) + ("" if rule.any or line["metric"] == BITS else f" ({line['metric']})")


def _lines_of(rule: Rule, lines: pd.DataFrame, comparison: Comparison) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of one run that a rule looks at, and what of them cannot be judged, with the reasons."""
    unjudged = []
    if rule.macro:
        found, refused = _mean_lines(rule, lines, comparison)
    else:
        applicable = [
            {str(key): value for key, value in row.items()} for _, row in _applicable_lines(rule, lines).iterrows()
        ]
        found = [line for line in applicable if line["comparable"]]
        refused = [line for line in applicable if not line["comparable"]]
        if not applicable:
            unjudged.append(f"there is no {rule.any} to compare")
    unjudged += [f"{line_name(line)}: {line['reason']}" for line in refused]
    for line in found:
        if math.isnan(float(line["difference"])):
            unjudged.append(f"{line_name(line)}: no document has a score in both runs")
        elif rule.resolved and math.isnan(float(line["p"])):
            unjudged.append(f"{line_name(line)}: too few documents to test ({int(line['n']):,})")
    return found, unjudged


def _applicable_lines(rule: Rule, lines: pd.DataFrame) -> pd.DataFrame:
    """The rows that a rule applies to, and those of its kind that are not comparable."""
    if rule.any:
        of_texts = (lines["kind"] == "text") != (rule.any == "task")
        refused = ~lines["comparable"] & (of_texts | (rule.any == "primary"))
        if rule.any == "primary":
            return lines[refused | lines["primary"]]
        return lines[refused | ((lines["level"] == rule.any) & (lines["primary"] | (lines["level"] == "source")))]
    base = lines["task"].str.partition(":")[0]
    is_task = ((lines["task"] == rule.name) | (base == rule.name)) & lines["level"].isin(("task", "suite", "source"))
    is_source = (lines["source"] == rule.name) & (lines["level"] == "source")
    is_domain = (lines["source"] + "/" + lines["domain"] == rule.name) & (lines["level"] == "domain")
    found = lines[is_task | is_source | is_domain]
    if len(found) == 0:
        domains = lines[lines["level"] == "domain"]
        known = {*lines["task"], *base, *lines["source"], *(domains["source"] + "/" + domains["domain"])} - {""}
        raise UnknownName("task, source or domain", rule.name, known, f"The rule '{rule.text}' names it.")
    incomparable = ~found["comparable"]
    has_metric = found["metric"] == rule.metric if rule.metric else found["primary"] | (found["level"] != "task")
    selected = found[incomparable | has_metric]
    if len(selected) == 0:
        available = sorted(set(found["metric"]))
        raise UnknownName("metric", rule.metric, available, f"{rule.name} has {', '.join(available)}.")
    return selected


def _mean_lines(
    rule: Rule, lines: pd.DataFrame, comparison: Comparison
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The line of a mean (the suite's for texts, else over all tasks that have the metric), and what refuses comparison."""
    metric_lines = lines[lines["comparable"] & (lines["metric"] == rule.macro)]
    suite = metric_lines[(metric_lines["level"] == "suite") & (metric_lines["kind"] == "text")]
    same_kind = (lines["kind"] == "text") == bool(len(suite))
    refused = lines[~lines["comparable"] & (same_kind | (lines["metric"] == rule.macro))]
    refused_lines = [{str(key): value for key, value in row.items()} for _, row in refused.iterrows()]
    if len(suite):
        return [{str(key): value for key, value in suite.iloc[0].items()}], refused_lines
    tasks = metric_lines[metric_lines["level"] == "task"]
    if len(tasks) == 0:
        if any(line["metric"] == rule.macro for line in refused_lines):
            return [], refused_lines
        known = sorted(set(lines[lines["comparable"]]["metric"]))
        raise UnknownName("mean", rule.macro, known, f"The rule '{rule.text}' can use {', '.join(known)}.")
    directions = {higher_is_better(comparison.runs[comparison.baseline], task, rule.macro) for task in tasks["task"]}
    if len(directions) > 1:
        raise EvalkitError(
            f"The rule '{rule.text}' averages metrics of which some are better when higher and some when lower."
        )
    spreads = [
        Spread(np.array(stderr**2), np.zeros(()), np.array(max(units - 1.0, 0.0)))
        for stderr, units in zip(tasks["stderr"], tasks["clusters"], strict=True)
    ]
    unchanged = bool((tasks["difference"] == 0).all() and (tasks["stderr"] == 0).all())
    value, n = float(tasks["difference"].mean()), int(tasks["n"].sum())
    found = combined_difference(value, spreads, len(tasks), n, len(tasks), comparison.level, unchanged=unchanged)
    better = 0 if value == 0 else 1 if (value > 0) == directions.pop() else -1
    line: dict[str, Any] = {
        "difference": value,
        "ci_low": found.low,
        "ci_high": found.high,
        "p": found.p,
        "better": better,
        "n": n,
    }
    line |= {"metric": rule.macro, "level": "suite", "task": "macro", "source": "", "domain": "", "comparable": True}
    return [line], refused_lines
