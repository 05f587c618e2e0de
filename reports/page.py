"""The report of runs: one HTML file with all that `evalkit.reports.view` found, made of ``templates/report.html``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.reports import facts
from evalkit.reports.changes import changes_table, compare
from evalkit.reports.charts.curves import curves
from evalkit.reports.compute import paretos
from evalkit.reports.details import domains_table, metrics_table
from evalkit.reports.heat import heat
from evalkit.reports.html import assemble, data_block
from evalkit.reports.method import definitions
from evalkit.reports.samples import collect_samples, static_cards
from evalkit.reports.scores import column_title, score_tables
from evalkit.reports.story import kind_of
from evalkit.reports.tuning import tunings
from evalkit.reports.turning import best_sets, task_trends, trends_table
from evalkit.reports.verdict import headline
from evalkit.reports.view import Report, load_report
from evalkit.results.suites import NO_SUITE
from evalkit.system.files import write_bytes
from evalkit.system.pdf import printed

WARNING_SIGNS = {"failed": "✕", "partial": "◐", "limited": "◔", "truncated": "✂", "compare": "≠", "note": "i"}
"""A sign beside the word, so that a kind is never told by colour alone."""


def write_report(
    run_paths: Path | str | Sequence[Path | str], out: Path | str | None = None, *, samples: str | int | None = None
) -> Path:
    """Write one self-contained HTML file from one or more run folders, and return its path.

    `out` is a file (a name that ends in ``.pdf`` gets the page as it prints), or a folder to put ``report.html`` in. Without it one run's report lies in its folder, and that of
    several runs in the folder that holds them all. `samples` is how many documents a task to show (``N``, ``all``,
    ``none``); without it some twenty, and none of a gated data set.

    Written atomically. Raises `EvalkitError` (or `UsageError`) for a folder without a readable run, or an `out` that
    cannot be written.
    """
    paths = [Path(run_paths)] if isinstance(run_paths, (str, Path)) else [Path(path) for path in run_paths]
    report = load_report(paths)
    target = Path(out) if out is not None else _common(run.path for run in report.runs)
    if out is None or target.is_dir():
        target = target / "report.html"
    page = render(report, samples=samples)
    write_bytes(target, printed(page) if target.suffix.lower() == ".pdf" else page.encode("utf-8"))
    return target


def render(report: Report, *, samples: str | int | None = None) -> str:
    """The page as text. The same runs give the same text. `samples` as in `write_report`."""
    story = kind_of(report.runs)
    shown = collect_samples(report, story.main or (0,), samples)
    drawn = curves(report)
    changes = compare(report, story)
    trends = task_trends(report, changes)
    tables = score_tables(report, story, changes, best_sets(report))
    placed = paretos(report) if story.kind == "models" else []
    tuned = tunings(report, story)
    values: dict[str, Any] = {
        "report": report,
        "story": story,
        "title": title(report),
        "headline": headline(report, story, changes, trends, tables),
        "facts": facts.summary(report.runs),
        "single": len(report.runs) == 1,
        "signs": WARNING_SIGNS,
        "commands": facts.commands(report.runs),
        "tables": tables,
        "curves": drawn,
        "trends": trends,
        "trends_table": trends_table,
        "changes": changes,
        "heat": heat(report, story, changes, trends.domains, (task["name"] for task in shown.tasks)),
        "paretos": placed,
        "samples": shown,
        "static_cards": static_cards(shown),
        "samples_data": data_block("samples-data", shown.packed()) if shown.tasks else "",
        "tunings": tuned,
        "definitions": definitions(report),
        "about": facts.table(report.runs, facts.header),
        "identity": facts.table(report.runs, facts.identity),
        "environment": facts.table(report.runs, facts.environment),
        "protocol_groups": facts.grouped(report.runs, lambda run: run.tasks),
        "guideline_groups": facts.grouped(report.runs, lambda run: run.part("guidelines")),
        "protocols": facts.protocols,
        "guidelines": facts.guidelines(report.runs),
        "domains": domains_table(report) if len(report.runs) == 1 else None,
        "every_metric": metrics_table(report),
        "changes_table": changes_table,
        "column_title": column_title,
    }
    values["sections"] = sections(report, values)
    scripts = [
        name for name, wanted in (("charts.js", drawn or placed or tuned), ("samples.js", shown.tasks)) if wanted
    ]
    return assemble("report.html", styles=("report.css",), scripts=scripts, **values)


ORDER: Mapping[str, Sequence[str]] = {
    "one": ("scores", "domains"),
    "pair": ("changes", "scores", "curves", "domains"),
    "tuned": ("changes", "tuning", "curves", "scores", "domains"),
    "sweep": ("curves", "scores", "trends", "changes", "domains"),
    "models": ("pareto", "scores", "changes", "curves", "domains"),
}
"""The first section of each kind of page is the picture that shows its headline."""
LAST = ("samples", "tuning", "metrics", "method")


def sections(report: Report, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The page's sections that have something to show, in order: anchor and name."""
    names: dict[str, tuple[str, Any]] = {
        "scores": ("Scores", True),
        "curves": ("Curves", values["curves"]),
        "trends": ("Trends", values["trends"].lines or values["trends"].failure),
        "changes": ("What changed", values["changes"]),
        "domains": ("Text domains", report.sources),
        "pareto": ("Compute", values["paretos"]),
        "samples": ("Samples", values["samples"].tasks or values["samples"].withheld or values["samples"].not_stored),
        "tuning": ("Fine-tuning", values["tunings"]),
        "metrics": ("All metrics", report.others),
        "method": ("Method", True),
    }
    ordered = dict.fromkeys((*ORDER[values["story"].kind], *LAST))
    return [(anchor, names[anchor][0]) for anchor in ordered if names[anchor][1]]


def title(report: Report) -> str:
    """``olmo-tiny@step500 on quickstart``."""
    suites = _suites(report)
    if len(report.runs) == 1:
        return f"{report.runs[0].label} on {suites}"
    models = list(dict.fromkeys(str(run.part("checkpoint").get("model") or run.label) for run in report.runs))
    kind = kind_of(report.runs).kind
    names = [run.label for run in report.runs]
    if kind == "tuned" and len(names) == 2:
        return f"{names[0]} and {names[1]} on {suites}"
    if len(models) == len(names):
        return f"{' and '.join(models) if len(models) < 3 else f'{len(models)} models'} on {suites}"
    return (
        f"{len(names)} checkpoints of {', '.join(models) if len(models) < 4 else f'{len(models)} models'} on {suites}"
    )


def _suites(report: Report) -> str:
    """The suites' names; of tasks that were named one by one their own names, or how many they are."""
    named = dict.fromkeys(one.suite for run in report.runs for one in run.folders)
    alone = dict.fromkeys(
        name for run in report.runs for one in run.folders if one.suite in ("", NO_SUITE) for name in one.tasks
    )
    suites = [name for name in named if name not in ("", NO_SUITE)]
    if alone:
        suites.append(", ".join(alone) if len(alone) < 3 else f"{len(alone)} tasks")
    return ", ".join(suites)


def _common(paths: Iterable[Path]) -> Path:
    """The one run's folder, or the folder that holds all of them."""
    folders = [path.absolute() for path in paths]
    return folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.parent for folder in folders]))
