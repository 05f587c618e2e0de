"""What changed, curves, heat, Pareto fronts, tuning and figures: what is drawn is what the numbers say."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from evalkit.comparison.compare import compare_runs
from evalkit.errors import UsageError
from evalkit.records import Metric
from evalkit.reports import changes as changed
from evalkit.reports import write_report
from evalkit.reports.changes import compare, difference_bar
from evalkit.reports.charts import paper, rows
from evalkit.reports.charts.curves import best_scale, curves, points_of
from evalkit.reports.charts.loss import loss_points
from evalkit.reports.charts.pareto import front
from evalkit.reports.figures import figures, parse_formats, write_figures
from evalkit.reports.scores import score_tables
from evalkit.reports.story import kind_of
from evalkit.reports.view import load_report
from evalkit.statistics.metrics import choice_metrics
from tests.made import report_runs as runs
from tests.made import simulated_sweeps as simulated
from tests.made.document_runs import choice_rows, write_run
from tests.made.pages import Page


def test_the_planted_regression_is_named_first(sweep: list[Path], tmp_path: Path) -> None:
    """Verdict, forest table and heat table agree with `evalkit.comparison.compare` about the one domain that fell."""
    comparison = compare_runs(sweep[-2:])
    page = Page(write_report(sweep[-2:], tmp_path / "pair.html"))
    for sentence in comparison.verdict():
        assert sentence in page.text
    assert "Largest losses: forums/chess +0.3" in page.text
    (worse,) = [row for row in page.rows() if row.startswith("forums/chess") and "●" in row]
    assert "● worse" in worse
    (heat,) = [row for row in page.rows() if row.startswith("chess ")]
    assert "▲ +0.3" in heat


def test_a_pair_without_documents_says_that_it_is_not_compared(tmp_path: Path) -> None:
    """Runs whose rows were removed: the page stands, and says why there are no differences."""
    pair = [runs.quickstart(tmp_path / str(i), shift=0.01 * i, checkpoint={"name": f"m@step{i}"}) for i in range(2)]
    page = Page(write_report(pair, tmp_path / "report.html"))
    assert "These are not compared. m@step0, m@step1: there are no stored documents to compare." in page.text


def line(**more: Any) -> changed.Change:
    """A change of accuracy by two points, resolved."""
    values: dict[str, Any] = {
        "name": "t", "level": "task", "task": "t", "source": "", "domain": "", "metric": "acc", "unit": "percent", "higher": True,
        "value_a": 0.5, "value_b": 0.52, "difference": 0.02, "low": 0.01, "high": 0.03, "better": 1, "resolved": True,
        "p": 0.01, "n": 100, "mde": 0.01,
    }  # fmt: skip
    return changed.Change(**{**values, **more})


def test_better_is_to_the_right_for_both_units() -> None:
    """Accuracy +2 of at most 4 points stands a half right of the middle; bits per byte −2 of 4 as well."""
    centre, half = rows.WIDTH / 2, (rows.WIDTH / 2 - rows.MARGIN) / 2
    accuracy = str(changed.difference_bar(line(), 0.04))
    bits = str(changed.difference_bar(line(unit="bits", higher=False, difference=-0.02, low=-0.03, high=-0.01), 0.04))
    for drawing in (accuracy, bits):
        assert f'cx="{centre + half}"' in drawing
        assert "forest better" in drawing
    assert changed.difference_text(line()) == "+2.0 [+1.0, +3.0]"
    assert (
        changed.difference_text(line(unit="bits", higher=False, difference=-0.0204, low=-0.03, high=0.001))
        == "−0.020 [−0.030, +0.001]"
    )
    assert "hollow" not in accuracy
    assert line(resolved=False).verdict == "unresolved"


def test_largest_changes_stand_for_many_domains() -> None:
    """Of fifty domains the six largest each way, gains first; unresolved ones only after resolved ones."""
    domains = tuple(
        line(name=f"d{i}", level="domain", unit="bits", difference=(i - 25) / 100, better=-1 if i > 25 else 1 if i < 25 else 0)
        for i in range(50)
    )  # fmt: skip
    made = changed.Changes(0, 1, ("m@a", "m@b"), domains=domains)
    names = [change.name for change in made.largest()]
    assert made.abridged
    assert names == [f"d{i}" for i in range(6)] + [f"d{i}" for i in range(44, 50)]


def test_stories_are_told_by_what_the_runs_are(stories: dict[str, list[Path]]) -> None:
    """Two are a pair in the order given, three of a model a sweep in the order of training, others models, one tuned."""
    sweep = stories["sweep"]
    pair = load_report([sweep[3], sweep[1]])
    assert kind_of(pair.runs).kind == "pair"
    assert [run.path for run in pair.runs] == [sweep[3], sweep[1]]
    shuffled = load_report([sweep[4], sweep[0], sweep[2]])
    assert [run.path for run in shuffled.runs] == [sweep[0], sweep[2], sweep[4]]
    assert kind_of(shuffled.runs).pairs == ((1, 2), (0, 2))
    base, tuned = stories["tuned"]
    story = kind_of(load_report([tuned, base]).runs)
    assert (story.kind, story.pairs) == ("tuned", ((1, 0),))
    assert kind_of(load_report([base, *stories["models"][:2]]).runs).kind == "models"


def test_a_tuned_checkpoint_stands_after_a_break(sweep: list[Path], tmp_path: Path) -> None:
    """It has no place among tokens seen, and is joined to its base by a dashed line alone."""
    about = {**simulated.TRAINING, "base": {"name": load_report([sweep[-1]]).runs[0].label}}
    tuned = simulated.write(
        tmp_path,
        simulated.Simulated("tuned", training=about),
        questions=simulated.SMALL,
        domains=simulated.few_domains(),
    )
    points, axis = points_of(load_report([*sweep, tuned]))
    assert axis == "tokens seen"
    assert best_scale(points) == "log"
    assert [point.tuned_from for point in points] == [None] * 6 + [5]
    source = write_report([*sweep, tuned], tmp_path / "report.html").read_text(encoding="utf-8")
    (drawing,) = re.findall(r'<svg class="chart"[^>]*aria-label="arc_easy[^>]*>.*?</svg>', source)[:1]
    assert drawing.count('class="line link"') == 1
    assert "tuned" in drawing or "fine-tuned" in drawing
    assert drawing.count("data-said=") == 7


def test_very_many_checkpoints_are_thinned(sweep: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables with a line a domain keep a bounded number of columns, ends and reference among them, and say so."""
    from evalkit.reports import scores

    assert scores.evenly(351, 48)[0] == 0
    assert scores.evenly(351, 48)[-1] == 350
    assert len(set(scores.evenly(351, 48))) == 48
    monkeypatch.setattr(scores, "WIDEST", 3)
    page = Page(write_report(sweep, tmp_path / "report.html"))
    (head,) = [row for row in page.rows() if row.startswith("Domain Difference")]
    assert re.findall(r"[0-9.]+[BT]\b", head) == ["8B", "73B", "2T"]
    assert "Of 6 checkpoints some are columns, evenly chosen" in page.text


def test_the_front_of_pareto() -> None:
    """Nobody on it is beaten for the same or less compute; equal points share it."""
    points = [(1.0, 0.3), (2.0, 0.5), (3.0, 0.4), (3.0, 0.6), (2.0, 0.5), (4.0, 0.6)]
    assert front(points, higher=True) == [True, True, False, True, True, False]
    assert front([(1.0, 2.0), (2.0, 1.5), (3.0, 1.6)], higher=False) == [True, True, False]


def test_losses_are_read_as_lists_and_mappings() -> None:
    """What is no number is left out; more steps than a drawing holds are averaged in groups."""
    assert loss_points({"loss": [[1, 2.0, 1e-4, 100], {"step": 2, "loss": 1.0}, [3, float("nan")], [4]]}) == [
        (1, 2.0, 1),
        (2, 1.0, 1),
    ]
    many = loss_points({"loss": [[step, float(step % 2)] for step in range(1, 1201)]})
    assert len(many) == 600
    assert many[0] == (2.0, 0.5, 2)


def test_every_figure_can_be_exported(sweep: list[Path], tmp_path: Path) -> None:
    """Each is well-formed SVG without a variable left in it; PNG, SVG and PDF begin as such files do."""
    made = dict(figures(load_report(sweep)))
    for drawing in made.values():
        text = paper.svg(drawing)
        ElementTree.fromstring(text)  # noqa: S314 - made by our own renderer
        assert "var(" not in text
        assert "light-dark" not in text
    assert {
        "scores-questions",
        "scores-texts",
        "curves-questions",
        "curves-texts",
        "changes-questions",
        "domains",
    } <= set(made)
    files = write_figures(sweep[-2:], tmp_path / "figures", parse_formats("png,svg,pdf"))
    begins = {".png": b"\x89PNG", ".svg": b"<svg", ".pdf": b"%PDF"}
    assert {file.suffix for file in files} == set(begins)
    assert all(file.read_bytes().startswith(begins[file.suffix]) for file in files)
    with pytest.raises(UsageError, match="not 'gif'"):
        parse_formats("gif")


def test_pages_and_papers_show_the_same_marks(sweep: list[Path], tmp_path: Path) -> None:
    """Every panel and every difference of the page is in the files, mark for mark."""
    page = write_report(sweep, tmp_path / "report.html").read_text(encoding="utf-8")
    report = load_report(sweep)
    drawn = curves(report)
    assert drawn is not None
    papers = "".join(str(drawing.marks) for name, drawing in figures(report) if name.startswith("curves"))
    panels = [panel.drawings[drawn.scale] for group in drawn.groups.values() for panel in group]
    assert len(panels) > 3
    for panel in panels:
        assert str(panel.marks) in page
        assert str(panel.marks) in papers
    (group, *_) = compare(report, kind_of(report.runs))[0].groups()
    (changes,) = [str(drawing.marks) for name, drawing in figures(report) if name == f"changes-{group.key}"]
    for change in group.changes:
        assert str(difference_bar(change, group.limit).marks) in page
        assert str(difference_bar(change, group.limit).marks) in changes


def test_the_tuning_section_shows_what_is_written(tmp_path: Path) -> None:
    """Data, template to the letter, settings, contamination, loss, before and after; a damaged file is said."""
    base = simulated.write(tmp_path, simulated.Simulated(tokens=10**12), questions=simulated.SMALL)
    about = {**simulated.TRAINING, "template": "<|user|>{{ message }}<script>"}
    tuned = simulated.write(tmp_path, simulated.Simulated("sft", skill=1.4, training=about), questions=simulated.SMALL)
    page = Page(write_report([base, tuned], tmp_path / "report.html"))
    assert "<|user|>{{ message }}<script>" in page.pieces["pre"]
    assert "invented_chat 12,000 11,620 380 4,210,000" in page.rows()
    for part in ("learning rate", "2e-05", "documents found", "900 steps, 5.94 M tokens, 24 min 20 s", "Training loss"):
        assert part in page.text
    before = json.loads((base / "metrics.json").read_text())[1]
    assert any(row.startswith(f"arc_easy {100 * before['value']:.1f}") for row in page.rows())
    (tuned / "training.json").write_text("{")
    page = Page(write_report([base, tuned], tmp_path / "report.html"))
    assert "training.json is not JSON" in page.text
    assert "Training loss" not in page.text


def test_a_checkpoint_on_two_suites_is_one_checkpoint(tmp_path: Path) -> None:
    """A title counts checkpoints, not runs: three of one model, each scored on two suites, are three."""
    from evalkit.reports.page import title

    folders = [
        simulated.write(tmp_path / suite, one, questions=simulated.SMALL[2:], suite=suite)
        for one in simulated.sweep(3)
        for suite in ("first", "second")
    ]
    assert title(load_report(folders)) == "3 checkpoints of olmo-sim on first, second"


def test_no_tie_with_the_best_where_the_paired_test_tells_them_apart(tmp_path: Path) -> None:
    """50 and 60 of the same 100 questions, ten gains and no loss (p = 0.002): within noise unpaired, and still no tie."""
    made = []
    for i, right in enumerate((50, 60)):
        rows = choice_rows([float(k < right) for k in range(100)])
        base = Metric("q", "", math.nan, 0)
        records = choice_metrics(rows, base=base, names=["acc"], primary="acc")
        folder = write_run(tmp_path / str(i), {"q": ("choice", rows)}, revision=f"step{i}")
        (folder / "metrics.json").write_text(json.dumps([dataclasses.asdict(record) for record in records]))
        made.append(folder)
    report = load_report(made)
    (table,) = score_tables(report, kind_of(report.runs))
    assert table.rows[0].marks == ("tie", "best")
    story = kind_of(report.runs)
    (table,) = score_tables(report, story, changed.compare(report, story))
    assert table.rows[0].marks == ("", "best")
