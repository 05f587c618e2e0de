"""The table at the end of a run: one line a task, or of many tasks one a family."""

from __future__ import annotations

from evalkit.records import Metric
from evalkit.reports.terminal import MOST_LINES, _all_cells, _families
from evalkit.reports.view import MetricRow


def line(task: str, value: float, metric: str = "acc", *, limited: bool = False) -> MetricRow:
    return MetricRow(task, "", "", metric, "percent", (Metric(task, metric, value, 10, chance=0.25, limited=limited),))


def test_parts_of_a_family_fold_into_one_line() -> None:
    """Four or more of one form, regime and metric: the lowest and the highest, and all of their documents."""
    lines = [
        *(line(f"mmlu/p{i}:mc::olmes", value, limited=i == 2) for i, value in enumerate((0.5, 0.25, 0.75, 0.3))),
        line("arc_easy:mc::olmes", 0.4),
        line("mmlu/p0:rc::olmes", 0.1),
        line("mmlu/p0:mc::olmes", 0.1, "acc_norm"),
    ]
    families = _families(lines)
    assert list(families) == [("mmlu/…:mc::olmes", "acc")]
    shown = list(_all_cells(lines, families, 1))
    assert [cells[0] for cells in shown] == [
        "mmlu/…:mc::olmes (4 tasks)", "arc_easy:mc::olmes", "mmlu/p0:rc::olmes", "mmlu/p0:mc::olmes",
    ]  # fmt: skip
    assert shown[0][2:] == ["25.0 … 75.0", "", "25.0", "40", "limited"]
    assert len({len(cells) for cells in shown}) == 1
    assert [cells[0] for cells in _all_cells(lines, {}, 1)] == [one.task for one in lines]
    assert len(lines) < MOST_LINES


def test_families_of_several_runs() -> None:
    """A range a run; a run without any of them has none."""
    cells = [(0.5, None), (0.25, None), (0.75, 0.125), (0.3, 0.5)]
    lines = [
        MetricRow(
            f"b/p{i}",
            "",
            "",
            "acc",
            "percent",
            tuple(v if v is None else Metric(f"b/p{i}", "acc", v, 10) for v in pair),
        )
        for i, pair in enumerate(cells)
    ]
    (shown,) = _all_cells(lines, _families(lines), 2)
    assert shown[2:4] == ["25.0 … 75.0", "12.5 … 50.0"]
