"""Comparing runs document by document: what changed, where, and whether it is significant.

Every run is compared with one baseline, on the documents that both scored, from the run folders alone. The statistics are
in `evalkit.statistics.paired` and `evalkit.statistics.macro`; `evalkit.comparison.comparable` decides what is comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.comparison import families, verdict
from evalkit.comparison.columns import read_columns, select
from evalkit.comparison.comparable import compare_protocols, pair_documents, run_marks
from evalkit.comparison.lines import COLUMNS, Lines, primary_metric
from evalkit.errors import UsageError
from evalkit.results.alignment import aligned, is_imported
from evalkit.results.reading import Run, load_run
from evalkit.results.tables import jsonable
from evalkit.statistics.estimates import LEVEL

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Comparison:
    """Two or more runs, compared with the first (or another baseline)."""

    runs: list[Run]
    labels: list[str]
    """Short and distinct, one per run."""
    baseline: int
    level: float
    table: pd.DataFrame
    """One row per (other run, task, metric, source, domain); see `COLUMNS`."""
    marks: list[str]
    """Differences between the runs, as sentences."""
    notes: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """(run's label, task) to remarks on that comparison alone, as sentences."""
    lines: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """What the table is made of, with the `Difference` behind each line (``tested``)."""

    def _repr_html_(self) -> str:
        """The comparison as a notebook shows it."""
        from evalkit.results.notebook import comparison_html

        return comparison_html(self)

    def verdict(self) -> list[str]:
        """The comparison in plain sentences."""
        return verdict.sentences(self)

    def changes(self, run: str | None = None, most: int | None = None) -> pd.DataFrame:
        """The rows of domains, resolved ones first, then by size of the change."""
        lines = self.table[(self.table["level"] == "domain") & self.table["comparable"]]
        if run is not None:
            lines = lines[lines["run"] == run]
        size = lines["difference"].abs()
        order = lines.assign(_size=size).sort_values(["resolved", "_size"], ascending=False, kind="stable")
        order = order.drop(columns="_size")
        return order if most is None else order.head(most)

    def documents(self, task: str, run: str | None = None) -> pd.DataFrame:
        """One row per shared document of a task, read from the run folders.

        Columns: ``index, native_id, domain``; for choice tasks ``correct_a, correct_b`` (by the primary metric; NaN
        unscored); for text tasks ``bits_a, bits_b`` and ``bytes``; ``flipped``: right in one run and wrong in the other.
        `run`: the label of the run to compare with the baseline, by default the first of the others.

        Raises `UsageError` for a run or a task that is not compared.
        """
        import pandas as pd

        others = [i for i in range(len(self.runs)) if i != self.baseline]
        if run is not None and run not in [self.labels[i] for i in others]:
            raise UsageError(f"'{run}' is not among the compared runs: {', '.join(self.labels[i] for i in others)}.")
        other = self.runs[self.labels.index(run) if run is not None else others[0]]
        base = self.runs[self.baseline]
        name = next((full for full in base.tasks if task in (full, full.partition(":")[0])), task)
        task = name if name in other.tasks else task
        if task not in base.tasks or task not in other.tasks:
            raise UsageError(f"'{task}' is not a task of both {base.path} and {other.path}.")
        kind = str(base.info["tasks"][task].get("kind"))
        metric = primary_metric(base, task)
        a, b = (read_columns(each, task, [metric]) for each in (base, other))
        pairing = pair_documents(a, b, compare_protocols(base.info["tasks"][task], other.info["tasks"][task]))
        if pairing.reason:
            raise UsageError(f"{task} is not compared: {pairing.reason}.")
        rows_a, rows_b = pairing.rows_a, pairing.rows_b
        frame = pd.DataFrame({"index": a.index[rows_a], "native_id": select(a.native_id, rows_a)})
        if kind == "text":
            groups = select(a.groups, rows_a) or []
            frame["source"], frame["domain"] = [source for source, _ in groups], [domain for _, domain in groups]
            frame["bits_a"], frame["bits_b"], frame["bytes"] = a.bits[rows_a], b.bits[rows_b], a.bytes[rows_a]
            frame["flipped"] = False
            return frame
        frame["domain"] = ""
        frame["correct_a"], frame["correct_b"] = a.values[metric][rows_a], b.values[metric][rows_b]
        known = frame["correct_a"].notna() & frame["correct_b"].notna()
        frame["flipped"] = known & (frame["correct_a"] != frame["correct_b"])
        return frame

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values; NaN as None."""
        others = [label for i, label in enumerate(self.labels) if i != self.baseline]
        value = {
            "runs": [
                {"label": label, "run": str(run.path), "model": run.model, "suite": run.suite, "status": run.status}
                for label, run in zip(self.labels, self.runs, strict=True)
            ],
            "baseline": self.labels[self.baseline],
            "others": others,
            "level": self.level,
            "verdict": self.verdict(),
            "marks": self.marks,
            "notes": [{"run": run, "task": task, "notes": notes} for (run, task), notes in self.notes.items()],
            "table": self.table.to_dict("records"),
        }
        return dict(jsonable(value))


def compare_runs(runs: Sequence[Run | Path | str], *, baseline: int = 0, level: float = LEVEL) -> Comparison:
    """Compare runs with the one at position `baseline`, document by document.

    `runs`: two or more run folders or `Run` objects. `level`: of intervals and tests. Raises `UsageError` for fewer than
    two runs and `EvalkitError` for damaged ones; tasks that are not comparable are in the table, with a reason.
    """
    loaded = aligned([run if isinstance(run, Run) else load_run(run) for run in runs])
    if len(loaded) < 2:
        raise UsageError("A comparison needs at least two runs.")
    if not -len(loaded) <= baseline < len(loaded):
        raise UsageError(f"There is no run number {baseline} to use as the baseline: {len(loaded)} were given.")
    if not 0 < level < 1:
        raise UsageError(f"The confidence level must be between 0 and 1, for example 0.95, not {level}.")
    labels = short_labels(loaded)
    builder = Lines(loaded, labels, baseline % len(loaded), level)
    lines = builder.all()
    marks = [
        mark
        for i in builder.others
        for mark in run_marks(loaded[builder.baseline], loaded[i], labels[builder.baseline], labels[i])
    ]
    families.correct(lines, level)
    return Comparison(
        loaded, labels, builder.baseline, level, frame_of(lines), list(dict.fromkeys(marks)), builder.notes, lines
    )


def correct_together(comparisons: Sequence[Comparison]) -> None:
    """Correct comparisons that stand on one page as one family, each with the level of the first."""
    if len(comparisons) > 1:
        families.correct([line for one in comparisons for line in one.lines], comparisons[0].level)
        for one in comparisons:
            one.table = frame_of(one.lines)


def frame_of(lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The table of a comparison from its lines."""
    import pandas as pd

    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    for name in ("primary", "resolved", "comparable"):
        frame[name] = frame[name].astype(bool)
    for name in ("better", "n", "clusters", "tests"):
        frame[name] = frame[name].astype("int64")
    return frame


def short_labels(runs: Sequence[Run]) -> list[str]:
    """Short and distinct names: revisions if all runs have the same model, else checkpoints; if those are not distinct,
    with engine and dtype, folder, path, or finally a number."""

    def candidates(run: Run) -> list[str]:
        checkpoint, identity = run.info["checkpoint"], run.info.get("identity", {})
        name = str(checkpoint.get("name") or run.path.name)
        return [
            str(checkpoint.get("revision") or name),
            name,
            f"{name} (imported)"
            if is_imported(run.info)
            else f"{name} ({identity.get('engine')} {identity.get('dtype')})",
            f"{name} ({run.path.absolute().parent.name})",
            f"{name} ({run.path})",
        ]

    all_candidates = [candidates(run) for run in runs]
    one_model = len({str(run.info["checkpoint"].get("model")) for run in runs}) == 1
    for rank in range(0 if one_model else 1, 5):
        names = [run_candidates[rank] for run_candidates in all_candidates]
        if len(set(names)) == len(names):
            return names
    return [f"{run_candidates[1]} ({i})" for i, run_candidates in enumerate(all_candidates, start=1)]
