"""Every figure of a report as files for papers: ``evalkit report RUN --figures png,svg,pdf``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from evalkit.errors import UsageError
from evalkit.reports.changes import compare
from evalkit.reports.charts import listings
from evalkit.reports.charts.curves import curve_figures
from evalkit.reports.charts.drawing import Drawing
from evalkit.reports.charts.paper import FORMATS, export
from evalkit.reports.compute import paretos
from evalkit.reports.scores import column_title
from evalkit.reports.story import kind_of
from evalkit.reports.tuning import tunings
from evalkit.reports.view import Report, load_report
from evalkit.system.files import write_bytes


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
    for name, drawing in figures(report):
        for form in formats:
            path = folder / f"{name}.{form}"
            write_bytes(path, export(drawing, form))
            written.append(path)
    return written


def figures(report: Report) -> Iterator[tuple[str, Drawing]]:
    """Name and drawing of each figure that the report has something for: the pictures of its page."""
    story = kind_of(report.runs)
    for unit, lines in report.primary.items():
        if unit in ("percent", "bits"):
            yield f"scores-{'questions' if unit == 'percent' else 'texts'}", listings.scores_figure(report, lines)
    yield from ((f"curves-{name}", drawing) for name, drawing in curve_figures(report))
    draw = listings.tuning_figure if story.kind == "tuned" else listings.changes_figure
    for number, pair in enumerate(compare(report, story)):
        a, b = column_title(report, pair.a), column_title(report, pair.b)
        for group in pair.groups():
            name = f"changes-{group.key}" + (f"-{number + 1}" if number else "")
            yield name, draw(group, f"{b} against {a}: {group.title}")
    domains = [line for source in report.sources for line in source.domains]
    if len(report.runs) > 1 and domains:
        yield "domains", listings.domains_figure(report, domains, story.reference)
    for number, one in enumerate(paretos(report) if story.kind == "models" else (), start=1):
        yield f"pareto-{number}", one.drawing
    for number, tuned in enumerate(tunings(report, story), start=1):
        if tuned.loss is not None:
            yield f"training-loss-{number}", tuned.loss
