"""Every figure of a report as files for papers: ``evalkit report RUN --figures png,svg,pdf``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.reports import changes as changed
from evalkit.reports.charts import forest, theme
from evalkit.reports.charts.curves import MOST_PANELS, curve_charts
from evalkit.reports.charts.loss import loss_chart, loss_points
from evalkit.reports.charts.pareto import pareto_chart, placed_scores
from evalkit.reports.scores import column_title
from evalkit.reports.story import kind_of, training_info
from evalkit.reports.view import Report, load_report
from evalkit.system.files import write_bytes

FORMATS = ("png", "svg", "pdf")


def parse_formats(text: str) -> list[str]:
    """``png,svg`` as a list. Raises `UsageError` for anything else.

    >>> parse_formats("SVG, png")
    ['svg', 'png']
    """
    formats = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    wrong = [part for part in formats if part not in FORMATS]
    if wrong or not formats:
        raise UsageError(f"--figures takes {', '.join(FORMATS)}, or several with commas, not '{text}'.")
    return formats


def write_figures(run_paths: Sequence[Path | str], folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write every figure of the runs' report into `folder`, and return the files' paths.

    PNG at 300 dots an inch, SVG and PDF with text as text. Raises `EvalkitError` for a folder that cannot be written.
    """
    report = load_report([Path(path) for path in run_paths])
    written = []
    for name, chart in figures(report):
        for form in formats:
            path = folder / f"{name}.{form}"
            write_bytes(path, theme.export(chart, form))
            written.append(path)
    return written


def figures(report: Report) -> Iterator[tuple[str, Any]]:
    """Name and Altair chart of each figure that the report has something for."""
    story = kind_of(report.runs)
    for unit, lines in report.primary.items():
        if unit in ("percent", "bits"):
            yield f"scores-{'questions' if unit == 'percent' else 'texts'}", forest.scores_chart(report, lines, "")
    yield from ((f"curves-{name}", chart) for name, chart in curve_charts(report))
    for number, pair in enumerate(changed.compare(report, story)):
        a, b = column_title(report, pair.a), column_title(report, pair.b)
        for group in pair.groups():
            name = f"changes-{group.key}" + (f"-{number + 1}" if number else "")
            yield name, forest.forest_chart(group.changes, f"{b} against {a}: {group.title}")
    domains = [line for source in report.sources for line in source.domains]
    if len(report.runs) > 1 and domains:
        yield "domains", forest.domains_chart(report, domains, story.reference)
    if story.kind == "models":
        for number, (title, _, points, _) in enumerate(placed_scores(report), start=1):
            yield f"pareto-{number}", pareto_chart(points, title)
    for number, run in enumerate((run for run in report.runs if training_info(run)), start=1):
        steps = loss_points(training_info(run))
        if len(steps) > 1:
            yield f"training-loss-{number}", loss_chart(steps)


__all__ = ["FORMATS", "MOST_PANELS", "figures", "parse_formats", "write_figures"]
