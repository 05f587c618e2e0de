"""``evalkit compare`` and ``evalkit trend``: what changed between runs, and along a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands.options import Debug, Format, Json, LookupSuite, Output
from evalkit.commands.terminal import clean, print_as, print_json, print_table, say, stdout
from evalkit.table import Cell, Column, Row, Table
from evalkit.words import metric_title, number, unit_of_name

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.comparison.compare import Comparison
    from evalkit.comparison.trends import Trends
    from evalkit.results.reading import Run

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Run folders, or MODEL[@REVISION] together with --suite. Checkpoints of one model are compared with the earliest "
        "one, other runs with the first one given.",
        show_default=False,
    ),
]

Level = Annotated[
    float,
    typer.Option(
        "--level",
        metavar="P",
        min=0.5,
        max=0.9999,
        help="Confidence level of intervals and tests.",
        show_default="0.95",
    ),
]
Most = Annotated[
    int, typer.Option("--most", metavar="N", min=0, help="Maximum number of domains in a table.", show_default="10")
]


def compare(
    runs: Runs,
    suite: LookupSuite = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="RUN",
            help="Run to compare the others with. Default: the earliest checkpoint of one model, else the first run.",
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="RULE",
            help="Exit with code 3 if RULE holds: 'any primary worse resolved' (significantly worse), 'macro(bits_per_byte) > "
            "0.01', 'arc_easy.acc_norm < -0.02'. May be repeated.",
        ),
    ] = None,
    level: Level = 0.95,
    most: Most = 10,
    output: Output = Path("results"),
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """Compare runs document by document: what changed, where, and whether the change is significant.

    Tasks are compared only if both runs used the same prompts and settings; the others are listed with the reason. Tests are
    paired and corrected for the number of tasks and domains. docs/comparing.md explains the statistics.

    Examples:

        evalkit compare olmo-tiny@step780-tokens7M olmo-tiny@step1860-tokens16M --suite paloma-mini

        evalkit compare results/base/olmes/main results/tuned/olmes/main --json

        evalkit compare base tuned --suite olmes --fail-if 'any primary worse resolved'
    """
    from evalkit.comparison import gates
    from evalkit.comparison.compare import compare_runs
    from evalkit.errors import EvalkitError, GateFailed

    rules = [gates.parse_rule(rule) for rule in fail_if or []]
    found, first = _runs_and_baseline(runs, baseline, output, suite)
    comparison = compare_runs(found, baseline=first, level=level)
    fired, unjudged = [], None
    try:
        fired = gates.check_rules(comparison, rules)
    except EvalkitError as error:  # raised after the comparison is printed
        unjudged = error
    if as_json:
        fired_rules = [{"rule": gate.rule, "run": gate.run, "because": list(gate.reasons)} for gate in fired]
        print_json({**comparison.to_json(), "rules": fail_if or [], "fired": fired_rules})
    else:
        _print(comparison, most, how)
    if unjudged is not None:
        raise unjudged
    if not comparison.table["comparable"].any():
        raise EvalkitError("The runs have no results in common that can be compared.")
    if fired:
        raise GateFailed(" ".join(f"{gate}." for gate in fired))


def _runs_and_baseline(
    names: Sequence[str], baseline: str | None, output: Path, suite: str | None
) -> tuple[list[Run], int]:
    """The runs to compare and the position of the baseline.

    Unless a baseline is named, checkpoints of one model are put in the order of training, since a glob gives them by name
    (``step10`` before ``step9``), and the earliest is the baseline.
    """
    from evalkit.commands.lookup import find_run, reject_repeated
    from evalkit.comparison.trends import training_order
    from evalkit.errors import UsageError

    found = [find_run(name, output, suite) for name in names]
    reject_repeated(names, found)
    ordered = sorted(found, key=training_order)
    if ordered != found and baseline is None and len({str(run.info["checkpoint"].get("model")) for run in found}) == 1:
        say(f"Baseline: {ordered[0].model}, the earliest checkpoint. Use --baseline to choose another one.")
        found = ordered
    first = 0
    if baseline is not None:
        base = find_run(baseline, output, suite)
        paths = [run.path.resolve() for run in found]
        first = paths.index(base.path.resolve()) if base.path.resolve() in paths else 0
        if base.path.resolve() not in paths:
            found.insert(0, base)
    if len(found) < 2:
        raise UsageError("A comparison needs at least two runs: evalkit compare A B.")
    return found, first


def _print(comparison: Comparison, most: int, how: str | None) -> None:
    """Sentences and tables for a terminal; in any other format one table of all comparable lines."""
    if how not in (None, "table"):
        lines = comparison.table[comparison.table["comparable"]]
        print_as(changes_table(lines, comparison.labels[comparison.baseline], "compared", comparison.verdict()), how)
        return
    console = stdout()
    for sentence in comparison.verdict():
        console.print(clean(sentence), soft_wrap=True)
    notes = [f"{task} ({run}): {note}" for (run, task), task_notes in comparison.notes.items() for note in task_notes]
    for mark in [*comparison.marks, *notes]:
        console.print(clean(f"Note: {mark}"), soft_wrap=True)
    for label in dict.fromkeys(comparison.table["run"]):
        lines = comparison.table[(comparison.table["run"] == label) & comparison.table["comparable"]]
        base = comparison.labels[comparison.baseline]
        shown_rows = lines[(lines["primary"] & (lines["level"] != "domain")) | (lines["level"] == "suite")]
        if len(shown_rows):
            console.print()
            print_as(changes_table(shown_rows, base, label))
        changed = comparison.changes(label, most)
        if len(changed):
            total = int((lines["level"] == "domain").sum())
            title = f"\nDomains in bits per byte, significant and largest changes first ({len(changed)} of {total:,}):"
            console.print(title, soft_wrap=True)
            print_as(changes_table(changed, base, label))


def changes_table(lines: pd.DataFrame, base: str, other: str, legend: Sequence[str] = ()) -> Table:
    """A table with a row per difference: both values, their difference with its interval, p, n and the outcome."""
    from evalkit.comparison.verdict import line_name

    several = lines["run"].nunique() > 1
    rows = []
    for _, line in lines.iterrows():
        metric = str(line["metric"])
        unit = unit_of_name(metric)
        outcome = {1: "better", -1: "worse"}.get(int(line["better"]), "") if line["resolved"] else "not significant"
        p = float(line["p_adjusted"])
        difference = Cell(value=line["difference"], unit=unit, low=line["ci_low"], high=line["ci_high"], signed=True)
        rows.append(
            Row(
                (
                    *([Cell(str(line["run"]))] if several else []),
                    Cell(line_name(line)),
                    Cell(metric_title(metric) + (" %" if unit == "percent" else "")),
                    Cell(value=line["value_a"], unit=unit),
                    Cell(value=line["value_b"], unit=unit),
                    difference,
                    Cell(difference.interval),
                    Cell("", value=p) if math.isnan(p) else Cell(f"{p:.2g}", value=p),
                    Cell(f"{line['n']:,}", value=float(line["n"])),
                    Cell(outcome),
                )
            )
        )
    corrected = "Benjamini-Hochberg" if len(lines) and (lines["level"] == "domain").all() else "Holm"
    columns = (
        *([Column("run")] if several else []),
        Column("what"),
        Column("metric"),
        Column(base, "a", "number"),
        Column(other, "b", "number"),
        Column("difference", kind="number"),
        Column("95 % interval", "interval", "number"),
        Column(f"p ({corrected})", "p", "number"),
        Column("n", kind="number"),
        Column("outcome"),
    )
    return Table(columns, tuple(rows), legend=tuple(legend))


def _value(value: float, metric: str) -> str:
    return number(value, unit_of_name(metric))


def trend(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs of one model's checkpoints in any order; or the model (all its runs on --suite); or the folder that "
            "contains them.",
            show_default=False,
        ),
    ],
    suite: LookupSuite = None,
    level: Level = 0.95,
    most: Most = 10,
    output: Output = Path("results"),
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """Analyse the checkpoints of one model over training: which is best, which tasks regressed, and how certain that is.

    Every checkpoint is compared with every other, paired by document and corrected for the number of pairs; each training
    stage is a separate curve. docs/comparing.md explains the statistics.

    Examples:

        evalkit trend olmo-tiny --suite paloma-mini

        evalkit trend results/olmo-tiny/quickstart
    """
    from evalkit.commands.lookup import find_sweep
    from evalkit.comparison.trends import trends

    found = trends(find_sweep(runs, output, suite), level=level)
    if as_json:
        print_json(
            {
                "runs": [
                    {"label": label, "run": str(run.path), "model": run.model}
                    for label, run in zip(found.labels, found.runs, strict=True)
                ],
                "level": level,
                "verdict": found.sentences(),
                "table": found.records(),
            }
        )
        return
    _print_trends(found, most, how)


BEST_COLUMNS = ("what", "metric", "first", "last", "best", "at", "tied with the best", "monotonic")


def _print_trends(found: Trends, most: int, how: str | None) -> None:
    from evalkit.comparison.verdict import format_signed, line_name

    console = stdout()
    table = found.table
    if how not in (None, "table"):
        lines = table[(table["level"].isin(("task", "suite"))) & table["primary"]]
        rows = [
            (f"stage {line['stage']}" if line["stage"] else "", *_best(line, line_name(line)))
            for _, line in lines.iterrows()
        ]
        print_table(["stage", *BEST_COLUMNS], rows, right=["first", "last", "best"], how=how)
        return
    for sentence in found.sentences():
        console.print(clean(sentence), soft_wrap=True)
    for stage in dict.fromkeys(table["stage"]):
        lines = table[table["stage"] == stage]
        best = lines[(lines["level"].isin(("task", "suite"))) & lines["primary"]]
        if len(best):
            console.print(f"\nBest checkpoint{f', stage {stage}' if stage else ''}:", soft_wrap=True)
            rows = [_best(line, line_name(line)) for _, line in best.iterrows()]
            print_table(BEST_COLUMNS, rows, right=["first", "last", "best"], wraps=["tied with the best"])
        reversed_domains = lines[(lines["level"] == "domain") & lines["monotone"].eq(False).fillna(False)]
        reversed_domains = reversed_domains.loc[reversed_domains["fall"].abs().sort_values(ascending=False).index].head(
            most
        )
        if len(reversed_domains):
            console.print("\nDomains that got worse at some point, largest drop first:", soft_wrap=True)
            rows = [
                (
                    line_name(line),
                    format_signed(line["fall"], line["metric"], unit=False),
                    line["fall_from"],
                    line["fall_to"],
                    ", ".join(line["turns"]),
                )
                for _, line in reversed_domains.iterrows()
            ]
            print_table(["what", "drop", "from", "to", "reversed at"], rows, right=["drop"], wraps=["reversed at"])


def _best(line: Any, name: str) -> tuple[str, ...]:
    metric = str(line["metric"])
    others = [label for label in line["best_set"] if label != line["best"]]
    tied = (
        "none"
        if not others
        else f"all {len(others)} others"
        if len(others) + 1 == line["points"] and len(others) > 1
        else ", ".join(others)
    )
    values = (_value(line[column], metric) for column in ("first", "last", "best_value"))
    answer = {True: "yes", False: f"no: {', '.join(line['turns'])}"}.get(line["monotone"], "unclear")
    return (name, metric, *values, line["best"], tied, answer)
