"""The headline of a report: at most twelve words, from the same tests as its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evalkit.reports.changes import HELD_OUT, Change, Changes, counted
from evalkit.reports.scores import ScoreTable
from evalkit.reports.story import Story
from evalkit.reports.turning import TaskTrends
from evalkit.reports.view import MetricRow, Report
from evalkit.statistics.metric_names import SUITE_SCORE
from evalkit.words import metric_title, number

MOST_WORDS = 12
TRADE_OFF_WORDS = 14
"""Of what a fine-tuning gained and lost, which is told with a number and its unit."""


def headline(
    report: Report, story: Story, changes: Sequence[Changes], trends: TaskTrends, tables: Sequence[ScoreTable]
) -> str:
    """What the page shows, in one sentence; empty where nothing is scored."""
    if not report.primary:
        return ""
    if story.kind == "one":
        return _one(report)
    if story.kind == "models":
        return _models(report, tables)
    if story.kind == "sweep":
        return _sweep(report, changes, trends)
    return _pair(changes[0], tuned=story.kind == "tuned")


def _pair(pair: Changes, *, tuned: bool) -> str:
    if pair.failure or not (pair.tasks or pair.domains):
        return "Differences could not be tested."
    held_out = next((c for c in pair.tasks if c.task.startswith(HELD_OUT) and c.resolved), None) if tuned else None
    domains = _domains([c for c in pair.domains if not c.task.startswith(HELD_OUT)])
    if held_out is not None:
        size = f"{abs(held_out.difference):.2f} bits per byte" if held_out.unit == "bits" else _points(held_out)
        what = "preferences" if held_out.task.startswith("preferences/") else "instructions"
        first = f"Held-out {what} {'improved' if held_out.better > 0 else 'worsened'} by {size}"
        return _joined(first, domains or [_lowered(_tasks(pair.tasks))], TRADE_OFF_WORDS)
    return _joined(_tasks(pair.tasks), domains)


def _lowered(clause: str) -> str:
    """A clause behind another one."""
    return clause[:1].lower() + clause[1:]


def _points(change: Change) -> str:
    return (
        f"{number(abs(change.difference), change.unit)} points" if change.unit == "percent" else "a significant amount"
    )


def _tasks(changes: Sequence[Change]) -> str:
    """``Better on 3 of 5 tasks, worse on 1``."""
    tasks = [c for c in changes if c.level == "task"]
    better, worse, _ = counted(tasks)
    word = "task" if len(tasks) == 1 else "tasks"
    if not tasks:
        return ""
    if better:
        return f"Better on {better} of {len(tasks)} {word}" + (f", worse on {worse}" if worse else "")
    if worse:
        return f"Worse on {worse} of {len(tasks)} {word}"
    return f"No significant change on {len(tasks)} {word}"


def _domains(domains: Sequence[Change]) -> list[str]:
    """``forums/radio got worse``, ``all 89 text domains got worse``, ``77 of 89 text domains improved, 12 worsened``; the same in
    fewer words after it."""
    better, worse, _ = counted(domains)
    every = len(domains)
    if worse == 1 and every > 1:
        name = next(c.name for c in domains if c.verdict == "worse")
        return [f"{name if ' ' not in name else 'one text domain'} got worse"]
    if better and worse:
        return [f"{better} of {every} text domains improved, {worse} worsened", f"{worse} of {every} domains got worse"]
    for count, word in ((worse, "worse"), (better, "better")):
        if count:
            many = f"{'all' if count == every else f'{count} of'} {every}"
            short = "improved" if word == "better" else "worsened"
            return [f"{many} text domain{'s' * (every > 1)} got {word}", f"{many} domain{'s' * (every > 1)} {short}"]
    return ["no significant change in text domains"] if domains else []


def _joined(first: str, others: Sequence[str], most: int = MOST_WORDS) -> str:
    """A clause, and the first of the others with which the sentence is short enough."""
    if not first:
        first, others = others[0] if others else "", ()
    fits = (f"{first}; {other}" for other in others)
    words = next((both for both in fits if len(both.split()) <= most), first)
    return f"{words[:1].upper()}{words[1:]}"


def _sweep(report: Report, changes: Sequence[Changes], trends: TaskTrends) -> str:
    whole = changes[-1]
    if whole.failure or not (whole.tasks or whole.domains):
        return "Differences could not be tested."
    first = report.heads[whole.a].title
    better, worse, _ = counted(c for c in whole.tasks if c.level == "task")
    every = sum(c.level == "task" for c in whole.tasks)
    turned = ["/".join(dict.fromkeys(key[1:])) for key in trends.domains]
    named = len(turned) == 1 and " " not in turned[0]
    midway = (
        [f"{turned[0] if named else f'{len(turned)} domain' + 's' * (len(turned) > 1)} got worse at times"]
        if turned
        else []
    )
    if not every:
        return _joined("", _domains(whole.domains))
    start = f"{better} of {every} tasks improved" if better else "no task improved"
    start += f", {worse} got worse" if worse else ""
    # one domain that turned has a name; many are told by what became of them
    return _joined(f"{start} since {first}", [*(midway if named else []), *_domains(whole.domains), *midway])


def _one(report: Report) -> str:
    """Of how many tasks the interval lies above chance; of texts the mean."""
    asked = {name for run in report.runs for name in run.tasks}
    lines = [line for lines in report.primary.values() for line in lines]
    guessed = [line for line in lines if line.task in asked and line.chance is not None and line.unit == "percent"]
    texts = next((line for line in lines if line.metric == "macro_bits_per_byte" and line.task not in asked), None)
    texts = texts or next((line for line in lines if line.unit == "bits" and line.beside), None)
    scores = [line for line in lines if line.metric == SUITE_SCORE or line.metric.startswith("mean_")]
    score = next((line for line in scores if line.task not in asked), None)
    parts = []
    if guessed:
        above = sum(_above(line) for line in guessed)
        some = f"Above chance on {above} of {len(guessed)} task{'s' if len(guessed) > 1 else ''}"
        parts.append(
            some
            if above
            else f"Above chance on none of {len(guessed)} tasks"
            if len(guessed) > 1
            else "Not above chance"
        )
    if score is not None and math.isfinite(score.known.value):
        value = number(score.known.value, score.unit)
        parts.append(f"{value} bits per byte on average" if score.unit == "bits" else f"suite score {value}")
    elif texts is not None and math.isfinite(texts.known.value):
        parts.append(f"{number(texts.known.value, 'bits')} bits per byte on texts")
    if not parts and lines:
        known = lines[0].known
        parts.append(
            f"{metric_title(known.metric)} {number(known.value, lines[0].unit)} on {lines[0].task.partition(':')[0]}"
        )
    return _joined(parts[0], parts[1:]) if parts else ""


def _above(line: MetricRow) -> bool:
    low = line.known.ci_low
    return low is not None and line.chance is not None and low > line.chance


def _models(report: Report, tables: Sequence[ScoreTable]) -> str:
    """Who is best most often, and how often nobody is tied with it."""
    asked = {name for run in report.runs for name in run.tasks}
    rows = [row for table in tables for row in table.rows if row.line.task in asked]
    wins = [sum(row.marks[i] == "best" for row in rows) for i in range(len(report.runs))]
    if not rows or not any(wins):
        return f"{len(report.runs)} models, without a common best"
    best = max(range(len(wins)), key=lambda i: wins[i])
    alone = sum(row.marks[best] == "best" and "tie" not in row.marks and row.marks.count("best") == 1 for row in rows)
    name = report.heads[best].title
    many = f"{'all' if wins[best] == len(rows) else wins[best]} {'' if wins[best] == len(rows) else 'of '}{len(rows)}"
    if len(rows) == 1:
        return f"{name} is best{'' if alone else ', tied with others'}"
    return f"{name} is best on {many} tasks, significantly on {alone}"
