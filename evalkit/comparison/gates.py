"""``--fail-if``: rules that stop a pipeline when a comparison shows what must not be.

    any primary worse resolved          any task, domain, source, or primary line that is worse, and surely so
    any domain worse by 0.05            … by more than 0.05 in the metric's unit, in the direction that is worse
    macro(bits_per_byte) > +0.01        the mean over domains (or over tasks, for accuracies) changed by more than
    arc_easy.acc_norm < -0.02 resolved  one task, and a metric of it; accuracies are fractions: 0.02 is two points
    "wikihow/Home & Garden" worse       one source, or source/domain; quotes where a name holds spaces

``rule = ("any" kind | "macro(" metric ")" | name ["." metric]) (("worse" | "better") ["by" number] | sign number)
["resolved"]``, with kind one of primary, task, source, domain, and sign one of ``< <= > >=``. Numbers are compared with the
difference of the run from the baseline. ``resolved``: only where the corrected test is sure.
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
from evalkit.comparison.verdict import change, moved, place
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.statistics.metrics import CHOICE_METRICS
from evalkit.statistics.paired import student

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("primary", "task", "source", "domain")
SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TOKEN = re.compile(r'\s*(?:"([^"]*)"|(<=|>=|<|>)|([^\s"<>]+))')
_NUMBER = re.compile(r"^[+\-]?(\d+(\.\d*)?|\.\d+)(e[+\-]?\d+)?$", re.IGNORECASE)
_MACRO = re.compile(r"^macro\(([\w]+)\)$")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, read."""

    text: str
    any: str = ""
    """Which lines, where the rule is about any of them."""
    macro: str = ""
    """The metric of a mean."""
    name: str = ""
    metric: str = ""
    sign: str = ""
    """``<``, ``<=``, ``>``, ``>=``, ``worse`` or ``better``."""
    number: float = 0.0
    resolved: bool = False

    def holds(self, line: Any) -> bool:
        """Whether a line of a comparison's table is what the rule forbids."""
        difference = float(line["difference"])
        if math.isnan(difference) or (self.resolved and not bool(line["resolved"])):
            return False
        if self.sign in SIGNS:
            return SIGNS[self.sign](difference, self.number)
        wanted = 1 if self.sign == "better" else -1
        return int(line["better"]) == wanted and abs(difference) > self.number


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that fired, for one run, and the lines that made it."""

    rule: str
    run: str
    because: tuple[str, ...]

    def __str__(self) -> str:
        more = f"; and {len(self.because) - 3:,} more" if len(self.because) > 3 else ""
        return f"'{self.rule}' fired for {self.run}: {'; '.join(self.because[:3])}{more}"


def parse(text: str) -> Rule:
    """Read one rule. Raises `UsageError` that shows what was not understood and what may stand there."""
    tokens = _tokens(text)

    def wrong(expected: str) -> UsageError:
        found = f"at '{tokens[0][0]}'" if tokens else "at its end"
        return UsageError(f"The rule '{text}' is not understood {found}: {expected}. docs/comparing.md explains rules.")

    def word() -> str:
        return tokens[0][0] if tokens and not tokens[0][1] else ""

    parts: dict[str, Any] = {}
    if not tokens:
        raise wrong("it is empty")
    if word() == "any":
        tokens.pop(0)
        if word() not in KINDS:
            raise wrong(f"after 'any' comes one of {', '.join(KINDS)}")
        parts["any"] = tokens.pop(0)[0]
    elif word().startswith("macro("):
        found = _MACRO.match(word())
        if found is None:
            raise wrong("a mean is written macro(METRIC), as macro(bits_per_byte)")
        tokens.pop(0)
        parts["macro"] = found[1]
    elif word() in SIGNS or word() in ("worse", "better"):
        raise wrong("a rule begins with 'any KIND', 'macro(METRIC)' or the name of a task, source or domain")
    else:
        parts["name"], parts["metric"] = _name(tokens.pop(0)[0])
        if tokens and not parts["metric"] and word().startswith(".") and len(word()) > 1:
            parts["metric"] = tokens.pop(0)[0][1:]
    if word() in SIGNS:
        parts["sign"] = tokens.pop(0)[0]
        parts["number"] = _number(word())
        if parts["number"] is None:
            raise wrong(f"after '{parts['sign']}' comes a number, as -0.02")
        tokens.pop(0)
    elif word() in ("worse", "better"):
        parts["sign"] = tokens.pop(0)[0]
        if word() == "by":
            tokens.pop(0)
            parts["number"] = _number(word())
            if parts["number"] is None or parts["number"] < 0:
                raise wrong("after 'by' comes a size, as 0.02")
            tokens.pop(0)
    else:
        raise wrong("here comes worse, better, or < <= > >= and a number")
    if word() == "resolved":
        tokens.pop(0)
        parts["resolved"] = True
    if tokens:
        raise wrong("only 'resolved' may follow")
    return Rule(text, **parts)


def _tokens(text: str) -> list[tuple[str, bool]]:
    """Words, signs and quoted names (marked), in order."""
    plain, at, found = text.replace("−", "-").strip(), 0, []
    while at < len(plain):
        match = _TOKEN.match(plain, at)
        if match is None:
            raise UsageError(f"The rule '{text}' has a quote that is not closed.")
        quoted, sign, word = match.groups()
        found.append((quoted if quoted is not None else sign or word, quoted is not None))
        at = match.end()
    return found


def _name(text: str) -> tuple[str, str]:
    """``arc_easy.acc_norm`` to its two parts; a name may hold dots where no metric follows."""
    name, dot, metric = text.rpartition(".")
    return (name, metric) if dot and name and metric in CHOICE_METRICS else (text, "")


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.match(text) else None


def check(comparison: Comparison, rules: list[Rule]) -> list[Fired]:
    """The rules that fire, for every run against the baseline.

    Raises `UnknownName` for names that the comparison does not have and `EvalkitError` for rules about what could not be
    compared: a gate that cannot close must not look open.
    """
    fired = []
    for i, label in enumerate(comparison.labels):
        if i == comparison.baseline:
            continue
        lines = comparison.table[comparison.table["run"] == label]
        for rule in rules:
            because = _because(rule, lines, label, comparison.level)
            if because:
                fired.append(Fired(rule.text, label, tuple(because)))
    return fired


def _because(rule: Rule, lines: pd.DataFrame, label: str, level: float) -> list[str]:
    if rule.macro:
        found = _mean(lines, rule.macro, level)
        if found is None:
            known = sorted(set(lines[lines["comparable"]]["metric"]))
            raise UnknownName("mean", rule.macro, known, f"The rule '{rule.text}' may ask for {', '.join(known)}.")
        return [f"macro {rule.macro} {moved(found)}"] if rule.holds(found) else []
    chosen = _lines(rule, lines)
    compared = chosen[chosen["comparable"]]
    if len(compared) == 0:
        reasons = "; ".join(f"{place(row)}: {row['reason']}" for _, row in chosen.head(3).iterrows())
        raise EvalkitError(
            f"The rule '{rule.text}' cannot be judged for {label}: nothing to compare. {reasons}".strip()
        )
    holding = [row for _, row in compared.iterrows() if rule.holds(row)]
    holding.sort(key=lambda row: -abs(float(row["difference"])))
    return [change(row) + ("" if rule.any or row["metric"] == BITS else f" ({row['metric']})") for row in holding]


def _lines(rule: Rule, lines: pd.DataFrame) -> pd.DataFrame:
    """The lines that a rule is about."""
    if rule.any == "primary":
        return lines[lines["primary"]]
    if rule.any:
        return lines[(lines["level"] == rule.any) & (lines["primary"] | (lines["level"] == "source"))]
    base = lines["task"].str.partition(":")[0]
    own = ((lines["task"] == rule.name) | (base == rule.name)) & lines["level"].isin(("task", "suite", "source"))
    source = (lines["source"] == rule.name) & (lines["level"] == "source")
    domain = (lines["source"] + "/" + lines["domain"] == rule.name) & (lines["level"] == "domain")
    found = lines[own | source | domain]
    if len(found) == 0:
        domains = lines[lines["level"] == "domain"]
        known = {*lines["task"], *base, *lines["source"], *(domains["source"] + "/" + domains["domain"])} - {""}
        raise UnknownName("task, source or domain", rule.name, known, f"The rule '{rule.text}' asks for it.")
    refused = ~found["comparable"]
    metric = found["metric"] == rule.metric if rule.metric else found["primary"] | (found["level"] != "task")
    chosen = found[refused | metric]
    if len(chosen) == 0:
        has = sorted(set(found["metric"]))
        raise UnknownName("metric", rule.metric, has, f"{rule.name} has {', '.join(has)}.")
    return chosen


def _mean(lines: pd.DataFrame, metric: str, level: float) -> dict[str, Any] | None:
    """The line of a mean: the suite's of texts, else made over the tasks that have the metric."""
    own = lines[lines["comparable"] & (lines["metric"] == metric)]
    suite = own[own["level"] == "suite"]
    if len(suite):
        return {str(name): value for name, value in suite.iloc[0].items()}
    tasks = own[own["level"] == "task"]
    if len(tasks) == 0:
        return None
    count = len(tasks)
    stderr = math.sqrt(float((tasks["stderr"] ** 2).sum(skipna=False))) / count
    units = int(tasks["clusters"].min())
    still = bool((tasks["difference"] == 0).all() and (tasks["stderr"] == 0).all())
    found = student(float(tasks["difference"].mean()), stderr, int(tasks["n"].sum()), units, level, still=still)
    moves = tasks["difference"] * tasks["better"]  # positive where more is better
    better = 0 if found.value == 0 else (1 if (found.value > 0) == (moves.sum() >= 0) else -1)
    line = {"difference": found.value, "ci_low": found.low, "ci_high": found.high, "metric": metric, "better": better}
    return line | {"level": "suite", "task": "macro", "source": "", "domain": "", "resolved": found.p < 1 - level}
