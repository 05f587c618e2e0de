"""One truth a page: no mark, headline, interval or sentence contradicts another on the same page."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

from evalkit.records import Metric
from evalkit.reports import changes as changed
from evalkit.reports.charts import rows
from evalkit.reports.page import render
from evalkit.reports.scores import pairs_tested, score_tables
from evalkit.reports.story import kind_of
from evalkit.reports.turning import best_sets, task_trends
from evalkit.reports.verdict import MOST_WORDS, TRADE_OFF_WORDS, headline
from evalkit.reports.view import Report, load_report
from tests.made import report_runs as runs
from tests.made import simulated_sweeps as simulated
from tests.made.pages import Page

KINDS = ("one", "pair", "sweep", "tuned", "models")


def check(report: Report) -> None:
    """Marks, trends, intervals, p-values and the headline of a report against each other."""
    story = kind_of(report.runs)
    changes = changed.compare(report, story)
    trends = task_trends(report, changes)
    sets = best_sets(report)
    tables = score_tables(report, story, changes, sets)
    tested = pairs_tested(changes)
    rows = [row for table in tables for row in table.rows]
    ties = {}
    for row in rows:
        best = [i for i, mark in enumerate(row.marks) if mark == "best"]
        for i, mark in enumerate(row.marks):
            pair = tested.get((row.line.task, row.line.metric.removeprefix("macro_"), frozenset((i, *best[:1]))))
            if best and i not in best and pair is not None:
                assert (mark == "tie") == (not pair), (row.line.task, i)
        if len(best) == 1:
            titles = {report.heads[i].title for i, mark in enumerate(row.marks) if mark == "tie"}
            ties[row.label.title, report.heads[best[0]].title] = titles
    staged = len({head.group for head in report.heads if head.group}) > 1
    for line in trends.lines:
        named = ties.get((line.name, line.best))
        if named is not None and not staged and " and " not in line.others:
            assert named == {title for title in line.others.split(", ") if title != "none"}, line
    for pair in changes:
        for change in (*pair.tasks, *pair.domains):
            if math.isfinite(change.low):
                apart = change.low > 0 or change.high < 0
                assert apart or not change.resolved, change
                # an exact test and its interval are two methods: near the limit they may differ
                assert change.resolved or not apart or change.p < 0.1, change
            assert change.resolved == (change.p < 0.05)
    said = headline(report, story, changes, trends, tables)
    assert len(said.split()) <= (TRADE_OFF_WORDS if said.startswith("Held-out") else MOST_WORDS), said
    found = re.match(r"(?:Better on )?(\d+) of (\d+) tasks", said)
    if found and story.kind in ("pair", "tuned", "sweep"):
        tasks = [c for c in changes[-1 if story.kind == "sweep" else 0].tasks if c.level == "task"]
        assert (int(found[1]), int(found[2])) == (sum(c.verdict == "better" for c in tasks), len(tasks))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_on_a_page_contradicts_another(stories: dict[str, list[Path]], kind: str) -> None:
    """Every kind of page of simulated runs."""
    check(load_report(stories[kind]))


def test_the_headline_names_the_one_domain_that_got_worse(tmp_path: Path) -> None:
    """Planted: one domain of eight."""
    made = [
        simulated.write(
            tmp_path,
            one,
            questions=simulated.SMALL,
            domains=simulated.few_domains(),
            shift={("forums", "radio"): 0.9 * i},
        )
        for i, one in enumerate(simulated.sweep(4)[::3])
    ]
    report = load_report(made)
    story = kind_of(report.runs)
    changes = changed.compare(report, story)
    said = headline(report, story, changes, task_trends(report), score_tables(report, story, changes))
    assert said.endswith("; forums/radio got worse")
    check(report)


def test_one_column_a_checkpoint(tmp_path: Path) -> None:
    """Before and after on two suites: two columns, one comparison, the training told once, and every cell filled."""
    tuned = simulated.Simulated("sft", skill=1.2, training={**simulated.TRAINING, "base": {"name": "base"}})
    folders = [
        simulated.write(tmp_path, one, suite=suite, questions=questions, domains=domains)
        for one in (simulated.Simulated("base"), tuned)
        for suite, questions, domains in (("q", simulated.SMALL, None), ("t", (), simulated.few_domains()))
    ]
    report = load_report(folders)
    assert [run.label for run in report.runs] == ["base", "sft"]
    assert [head.title for head in report.heads] == ["Before", "After"]
    assert all(None not in line.cells for line in report.lines)
    page = Page(tmp_path / "x.html") if (tmp_path / "x.html").write_text(render(report), encoding="utf-8") else None
    assert page is not None
    assert page.text.count("Trained for") == 1
    assert "base and sft on q, t" in page.pieces["h1"][0]
    (one,) = changed.compare(report, kind_of(report.runs))
    assert {change.task.partition(":")[0] for change in one.tasks} >= {"arc_easy", "sim/forums"}
    check(report)


def test_an_unfinished_checkpoint_is_left_out_by_name(stories: dict[str, list[Path]], tmp_path: Path) -> None:
    """A run without scores: the others keep their page, and it is named."""
    waiting = runs.write(
        tmp_path / "running",
        None,
        runs.info([], status="running", checkpoint={"name": "olmo-sim@late", "model": "olmo-sim"}),
    )
    report = load_report([*stories["sweep"], waiting])
    assert len(report.runs) == 6
    assert any("olmo-sim@late has no scores yet" in sentence for _, sentence in report.warnings)
    assert len(task_trends(report).lines) == len(task_trends(load_report(stories["sweep"])).lines)


def test_a_lower_value_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    """A Brier score with a chance level is not a percentage, and the lower of two is the best."""
    made = []
    for i, value in enumerate((0.76, 0.70)):
        known = Metric("q", "brier", value, 100, stderr=0.001, primary=True, higher_is_better=False, chance=0.5)
        info = runs.info(
            [], tasks={"q": {"kind": "choice"}}, checkpoint={"name": f"m@step{i}", "model": "m", "step": i + 1}
        )
        made.append(runs.write(tmp_path / str(i), [dataclasses.asdict(known)], info))
    report = load_report(made)
    (table,) = score_tables(report, kind_of(report.runs))
    assert table.unit == "number"
    assert table.rows[0].marks == ("", "best")
    assert "brier (lower is better)" in Page(_written(report, tmp_path)).text
    change = changed.Change("q", "task", "q", "", "", "brier", "number", False, 0.76, 0.70, -0.06, -0.08, -0.04, 1, True, 0.001, 100, 0.01)  # fmt: skip
    drawn = str(changed.difference_bar(change, 0.08))
    assert float(re.findall(r'cx="([\d.]+)"', drawn)[0]) > rows.WIDTH / 2


def _written(report: Report, folder: Path) -> Path:
    path = folder / "page.html"
    path.write_text(render(report), encoding="utf-8")
    return path


def test_families_fold_under_their_suite(tmp_path: Path) -> None:
    """A hundred tasks of a family are one row until it is opened; a suite's own score stands first."""
    metrics = [line for i in range(100) for line in runs.question(f"mmlu/part{i}", 0.3 + i / 500, 100)]
    metrics += runs.question("arc_easy", 0.5, 100)
    metrics += [runs.metric("mmlu:rc::olmes", "suite_score", 0.4, higher_is_better=True, primary=True)]
    metrics += [runs.metric("everything", "suite_score", 0.45, higher_is_better=True, primary=True)]
    tasks = {k: v for k, v in runs.info(metrics)["tasks"].items() if k not in ("mmlu:rc::olmes", "everything")}
    report = load_report([runs.write(tmp_path / "run", metrics, runs.info(metrics, tasks=tasks))])
    (table,) = score_tables(report, kind_of(report.runs))
    loose = [row.cells[0].full for row in table.table.rows if not row.group]
    assert loose == ["everything", "arc_easy:rc::olmes"]
    ((name, family),) = table.groups.items()
    assert family.row is not None
    assert family.folds
    assert (name, family.row.cells[0].full) == ("mmlu:rc::olmes", "mmlu:rc::olmes")
    assert sum(row.group == name for row in table.table.rows) == 100


@pytest.mark.slow
def test_the_sweep_of_olmo_tiny_has_one_truth(tmp_path: Path) -> None:
    """Its six checkpoints on some questions, scored here."""
    import evalkit

    found = evalkit.run(
        "olmo-tiny",
        revisions=["*"],
        task=["arc_easy", "hellaswag"],
        limit=25,
        output=tmp_path,
        report=False,
        data_source="bundle",
    )
    report = load_report([run.path for run in found])
    assert [head.title for head in report.heads] == ["1M", "3M", "5M", "7M", "11M", "16M"]
    check(report)
