"""``evalkit list runs``, and what a results folder has of a model's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands import completion
from evalkit.commands.options import Debug, Format, Json, Output
from evalkit.commands.terminal import clean, print_json, print_table, say
from evalkit.errors import EvalkitError
from evalkit.results.alignment import origin
from evalkit.results.layout import safe_name
from evalkit.words import duration, metric_title, number, unit_of_name

if TYPE_CHECKING:
    from evalkit.results.reading import Run


def scored_suites(model: str, output: Path) -> dict[str, list[str]]:
    """The suites of a model's finished runs in a results folder, by the folder name of the revision."""
    from evalkit.results.reading import find_runs, load_run

    found: dict[str, list[str]] = {}
    folder = output / safe_name(Path(model).name if Path(model).is_dir() else model)
    for path in find_runs(folder) if folder.is_dir() else []:
        try:
            run = load_run(path)
        except EvalkitError:
            continue
        if run.status == "done":
            found.setdefault(path.name, []).append(path.parent.name)
    return {revision: sorted(suites) for revision, suites in found.items()}


def list_runs(
    output: Output = Path("results"),
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="GLOB",
            help="Only runs of this suite. May be repeated.",
            autocompletion=completion.suites,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="GLOB",
            help="Only models whose name matches: 'olmo-1b*'. May be repeated.",
            autocompletion=completion.models,
        ),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status", metavar="NAME", help="Only runs with this status: done, running, partial, failed, interrupted."
        ),
    ] = None,
    as_json: Json = False,
    how: Format = None,
    debug: Debug = False,
) -> None:
    """List the runs in a results folder, newest first, with the score, date and duration of each.

    Examples:

      evalkit list runs

      evalkit list runs --output results --suite 'paloma*' --status failed
    """
    from evalkit.results.reading import find_runs, load_run

    rows = []
    for folder in find_runs(output):
        try:
            run = load_run(folder)
        except EvalkitError as error:
            say(f"Warning: left out: {error}")
            continue
        row = _row(run)
        if (
            _matches(row["suite"], suite)
            and (_matches(row["model"], model) or _matches(run.info["checkpoint"].get("name"), model))
            and status in (None, row["status"])
        ):
            rows.append(row)
    rows.sort(key=lambda row: -row["modified"])
    if as_json:
        print_json(rows)
        return
    if not rows:
        chosen = " that match" if suite or model or status else ""
        say(f"There are no runs{chosen} in {clean(output)}. Use --output for another folder; 'evalkit run' makes runs.")
        return
    print_table(
        ["run", "model", "revision", "suite", "status", "score", "metric", "started", "took"],
        [
            (
                *(row[name] for name in ("run", "model", "revision", "suite")),
                f"imported: {row['imported']}" if row["imported"] else row["status"],
                _score(row),
                "" if row["metric"] is None else metric_title(row["metric"]),
                str(row["started"] or "")[:16].replace("T", " "),
                duration(row["seconds"]),
            )
            for row in rows
        ],
        right=["score", "took"],
        how=how,
    )


def _row(run: Run) -> dict[str, Any]:
    checkpoint, timings = run.info["checkpoint"], run.info.get("timings", {})
    return {
        "run": str(run.path),
        "model": checkpoint.get("model") or checkpoint.get("name"),
        "revision": checkpoint.get("revision"),
        "suite": run.suite,
        "status": run.status,
        "imported": origin(run.info) or None,
        "started": timings.get("started"),
        "seconds": timings.get("seconds"),
        "modified": (run.path / "run.json").stat().st_mtime,
        **_headline(run),
    }


def _headline(run: Run) -> dict[str, Any]:
    """A run's score and its metric: that of the suite, else of its only task; None where there is none."""
    try:
        records = run.metric_records() if run.status == "done" else []
    except EvalkitError:
        records = []
    names = (run.suite, f"part of {run.suite}", f"{run.suite} with other shots")
    primary = [record for record in records if record.get("primary")]
    whole = [record for record in records if record.get("metric") == "suite_score" and record.get("task") in names]
    whole = whole or [record for record in primary if record.get("task") in names]
    chosen = whole or (primary if len(primary) == 1 else [])
    return {"score": chosen[0]["value"], "metric": chosen[0]["metric"]} if chosen else {"score": None, "metric": None}


def _score(row: Mapping[str, Any]) -> str:
    if row["score"] is None:
        return ""
    unit = unit_of_name(row["metric"])
    return number(row["score"], unit) + (" %" if unit == "percent" else "")


def _matches(name: object, globs: Sequence[str] | None) -> bool:
    return not globs or any(fnmatchcase(str(name or ""), glob) for glob in globs)
