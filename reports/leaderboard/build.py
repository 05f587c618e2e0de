"""Builds a leaderboard from folders: read, align, place baselines, average, rank."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.options import LeaderboardOptions
from evalkit.reports.leaderboard import published
from evalkit.reports.leaderboard.board import Board, Cell, Column, Row, Score, with_best
from evalkit.reports.leaderboard.columns import task_columns
from evalkit.reports.leaderboard.document_ranks import DocumentRanks
from evalkit.reports.leaderboard.entries import Entry, entries_of, read_runs
from evalkit.reports.leaderboard.guidelines import controls_of
from evalkit.reports.leaderboard.recipes import columns_behind, shapes_of
from evalkit.reports.leaderboard.scores import suite_scores

SIZES = (
    (500e6, "under 0.5 B"),
    (2e9, "0.5–2 B"),
    (5e9, "2–5 B"),
    (10e9, "5–10 B"),
    (20e9, "10–20 B"),
    (50e9, "20–50 B"),
)


def build(folders: Sequence[Path | str], options: LeaderboardOptions | None = None) -> Board:
    """The leaderboard of every run at or below the folders.

    Raises `UsageError` if there is no run with scores.
    """
    chosen = options or LeaderboardOptions()
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"There is no folder {path}. 'evalkit leaderboard DIR' takes a folder of results.")
    baselines = published.read_baselines(chosen.baselines)
    runs, warnings = read_runs(paths, suites=chosen.suites, models=chosen.models)
    if not runs:
        where = ", ".join(str(path) for path in paths)
        fitting = " that fit --suite and --model" if chosen.suites or chosen.models else ""
        raise UsageError(
            f"There are no runs with scores{fitting} in {where}. 'evalkit list runs --output DIR' shows what there is."
        )
    entries = entries_of(runs)
    names = {id(run): _seen_from(run.path, paths) for run in runs}
    columns = task_columns(entries, tasks=chosen.tasks, metrics=chosen.metrics, names=names)
    if not columns:
        raise UsageError("No task of the runs fits --task and --metric. Without them all tasks are shown.")
    if chosen.tasks or chosen.metrics:  # rows without a number in what was chosen say nothing
        entries, columns = _without_empty(entries, columns)
    controls = controls_of(entries)
    rows = [_row(entry, chosen.group_by, controls.rows[i], names) for i, entry in enumerate(entries)]
    shapes = shapes_of(entries, chosen.metrics)
    behind = columns_behind(shapes, entries, columns, names)
    columns, behind, published_rows, unplaced = _with_baselines(columns, behind, baselines, chosen.group_by)
    rows += published_rows
    own = [not row.published for row in rows]
    ranker = DocumentRanks(entries, names, warnings, strict=chosen.ranks == "documents")
    by_documents = chosen.ranks in ("auto", "documents")
    scores = suite_scores(
        entries,
        rows,
        [*columns, *behind],
        shapes,
        metrics=chosen.metrics,
        names=names,
        ranker=ranker.of_suite if by_documents else None,
        ranked=chosen.ranks != "none",
        filtered=bool(chosen.tasks),
    )
    columns = [_with_best(column, own, ranker if by_documents else None) for column in columns]
    board = Board(
        title=chosen.title or _title(columns, scores),
        rows=tuple(rows),
        columns=tuple(columns),
        scores=tuple(scores),
        group_by=chosen.group_by,
        warnings=tuple(warnings),
        controls=controls.letters,
        unplaced=tuple(unplaced),
        folder=paths[0] if len(paths) == 1 else None,
    )
    return _ordered(board)


def _without_empty(entries: list[Entry], columns: Sequence[Column]) -> tuple[list[Entry], list[Column]]:
    kept = [i for i in range(len(entries)) if any(column.cells[i] is not None for column in columns)]
    return [entries[i] for i in kept], [
        replace(column, cells=tuple(column.cells[i] for i in kept)) for column in columns
    ]


# ----------------------------------------------------------------------------------------------------------------- rows


def _row(entry: Entry, group_by: str, guidelines: Mapping[str, str], names: Mapping[int, str]) -> Row:
    run = entry.runs[0]
    checkpoint, identity = entry.checkpoint, run.part("identity")
    row = Row(
        id=_id(*run.who),
        label=entry.label,
        model=str(checkpoint.get("model") or entry.label),
        revision=str(checkpoint.get("revision") or ""),
        parameters=entry.count("parameters"),
        tokens=entry.count("tokens"),
        tokens_derived=bool(checkpoint.get("tokens_derived")),
        step=entry.count("step"),
        stage=entry.count("stage"),
        engine=str(identity.get("engine") or ""),
        dtype=str(identity.get("dtype") or ""),
        tokenizer=str(run.part("tokenizer").get("hash") or ""),
        fingerprint=str(checkpoint.get("fingerprint") or ""),
        date=max(one.started for one in entry.runs)[:10],
        runs=tuple(names[id(one)] for one in entry.runs),
        guidelines=guidelines,
    )
    return replace(row, group=_group(row, group_by))


def _group(row: Row, group_by: str) -> str:
    if group_by == "size":
        if not row.parameters:
            return "size unknown"
        return next((name for most, name in SIZES if row.parameters < most), "50 B and more")
    if group_by == "stage":
        return f"stage {row.stage}" if row.stage is not None else "no stage"
    if group_by == "none":
        return ""
    return str(getattr(row, group_by)) or f"{group_by} unknown"


def _with_baselines(
    columns: Sequence[Column], behind: Sequence[Column], baselines: Iterable[published.Baseline], group_by: str
) -> tuple[list[Column], list[Column], list[Row], list[str]]:
    """The columns, and those behind the table, with one cell per baseline appended; baselines without any cell in a shown
    column are left out."""
    placed = [published.place_baseline(baseline, columns) for baseline in baselines]
    unplaced = [sentence for one in placed for sentence in one.unplaced]
    shown = [one for one in placed if one.cells]
    rows = []
    for one in shown:
        baseline = one.baseline
        source = baseline.source + (f". {baseline.note.strip()}" if baseline.note else "")
        row = Row(
            id=_id("published", baseline.name, baseline.source),
            label=baseline.name,
            model=baseline.model,
            parameters=baseline.parameters,
            tokens=baseline.tokens,
            published=source,
        )
        rows.append(replace(row, group="" if group_by == "none" else "published"))

    def longer(every: Sequence[Column], cells: Sequence[Mapping[str, Cell]]) -> list[Column]:
        return [replace(one, cells=(*one.cells, *(found.get(one.id) for found in cells))) for one in every]

    own = [published.place_baseline(one.baseline, behind).cells for one in shown]
    return longer(columns, [one.cells for one in shown]), longer(behind, own), rows, unplaced


def _with_best(column: Column, candidates: Sequence[bool], ranker: DocumentRanks | None) -> Column:
    """Best and ties marked, by the paired test where rows share documents."""
    standings = ranker.of_task(column) if ranker is not None else None
    if standings is None:
        return with_best(column, candidates)
    return with_best(replace(column, tied_by="documents"), candidates, standings)


def _id(*parts: str) -> str:
    """A row's name in links: the same for the same checkpoint, wherever the board is made."""
    return "r" + hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:10]


def _seen_from(path: Path, folders: Sequence[Path]) -> str:
    """A run's folder as the leaderboard shows it: never an absolute path."""
    for folder in folders:
        if path == folder:
            return path.name
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.name


# ---------------------------------------------------------------------------------------------------------------- order


def _title(columns: Sequence[Column], scores: Sequence[Score]) -> str:
    suites = [score.suite for score in scores] or list(
        dict.fromkeys(name for column in columns for name in column.suites)
    )
    return f"Leaderboard: {', '.join(suites)}" if 0 < len(suites) <= 4 else "Leaderboard"


def _ordered(board: Board) -> Board:
    """Rows by group, then by their first available score (or column), best first."""
    sorting = [score.column for score in board.scores] or list(board.columns)

    def place(i: int) -> tuple[Any, ...]:
        for number, column in enumerate(sorting):
            cell = column.cells[i]
            if cell is not None and cell.value == cell.value:
                value = -cell.value if column.higher_is_better else cell.value
                return (_group_place(board.rows[i]), number, bool(cell.reasons), value, board.rows[i].label)
        return (_group_place(board.rows[i]), len(sorting), False, 0.0, board.rows[i].label)

    order = sorted(range(len(board.rows)), key=place)

    def turned(column: Column) -> Column:
        return replace(column, cells=tuple(column.cells[i] for i in order))

    return replace(
        board,
        rows=tuple(board.rows[i] for i in order),
        columns=tuple(turned(column) for column in board.columns),
        scores=tuple(
            replace(
                score,
                column=turned(score.column),
                centred=None if score.centred is None else turned(score.centred),
                standings=tuple(score.standings[i] for i in order),
                front=tuple(score.front[i] for i in order),
                incomplete=tuple(score.incomplete[i] for i in order),
            )
            for score in board.scores
        ),
    )


def _group_place(row: Row) -> tuple[bool, int, str]:
    names = [name for _, name in SIZES]
    return (bool(row.published and row.group), names.index(row.group) if row.group in names else len(names), row.group)
