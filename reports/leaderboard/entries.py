"""Run folders as a leaderboard reads them: ``run.json`` and the lines of ``metrics.json`` that are not of single domains.

No document is read here, so hundreds of folders take seconds. Runs of the same weights, made the same way, are one entry
(a row), whatever suites they were scored on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError
from evalkit.records import Metric
from evalkit.reports.runs import metric_of
from evalkit.results.alignment import (
    is_imported,
    names_beside,
    origin,
    primaries,
    renamed_info,
    renamed_metrics,
)
from evalkit.results.layout import PARTIAL_PREFIX
from evalkit.results.reading import find_runs, load_run, read_metrics, status_of


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """One run folder."""

    path: Path
    info: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    """Without the lines of single domains."""

    def part(self, name: str) -> Mapping[str, Any]:
        """A section of ``run.json``; empty if missing."""
        value = self.info.get(name)
        return value if isinstance(value, Mapping) else {}

    @property
    def suite(self) -> str:
        """The suite's name, also where only a part of it was asked."""
        return str(self.info.get("suite") or "").removeprefix(PARTIAL_PREFIX)

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """``run.json``'s tasks by full name."""
        return self.part("tasks")

    @property
    def status(self) -> str:
        """Its status; ``interrupted`` where the process that ran it is gone."""
        return str(status_of(self.info))

    @property
    def done(self) -> bool:
        return self.info.get("status") == "done"

    @property
    def started(self) -> str:
        """When the run began, as ISO text; empty where it is not known."""
        return str(self.part("timings").get("started") or "")

    @property
    def who(self) -> tuple[str, ...]:
        """What makes two runs one entry: equal weights, tokenizer, engine and number format."""
        checkpoint, identity = self.part("checkpoint"), self.part("identity")
        parts = [checkpoint.get(key) for key in ("model", "name", "revision", "fingerprint", "adapter")]
        parts += [identity.get(key) for key in ("engine", "dtype", "quantisation")]
        return tuple(str(part or "") for part in [*parts, self.part("tokenizer").get("hash"), origin(self.info)])


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a leaderboard that was made by runs."""

    label: str
    """The checkpoint's name; with what tells it apart where two entries would be called the same."""
    runs: tuple[ScoredRun, ...]
    """Newest first."""

    @property
    def checkpoint(self) -> Mapping[str, Any]:
        return self.runs[0].part("checkpoint")

    def count(self, key: str) -> int | None:
        """A whole number of the checkpoint: ``parameters``, ``tokens``, ``step``, ``stage``."""
        values = (run.part("checkpoint").get(key) for run in self.runs)
        return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def read_runs(
    folders: Sequence[Path], *, suites: Sequence[str] = (), models: Sequence[str] = ()
) -> tuple[list[ScoredRun], list[str]]:
    """Every run at or below the folders whose suite and model fit the globs, and a sentence a run that is left out.

    A run that cannot be read, or that has no scores yet, is left out and said; it does not stop the others.
    """
    found: list[ScoredRun] = []
    left: list[str] = []
    empty: list[str] = []
    seen: set[Path] = set()
    for folder in folders:
        for path in find_runs(folder):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            shown = _shown(path, folder)
            try:
                run = load_run(path)
                one = ScoredRun(path, run.info, ())
                if not (_fits(one.suite, suites) and _fits_model(one, models)):
                    continue
                records = read_metrics(path)
                metrics = tuple(metric_of(record) for record in records if not record.get("domain"))
            except EvalkitError as error:
                if (path / "run.json").is_file() and not (path / "metrics.json").is_file():
                    empty.append(shown)
                else:
                    left.append(f"Left out: {str(error).replace(str(path), shown)}")
                continue
            if metrics:
                found.append(ScoredRun(path, run.info, metrics))
            else:
                empty.append(shown)
    infos = [run.info for run in found]
    primary = primaries(infos)
    found = [
        ScoredRun(run.path, renamed_info(run.info, names), renamed_metrics(run.metrics, run.info, names, primary))
        if names
        else run
        for run, names in zip(found, names_beside(infos), strict=True)
    ]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        left.append(f"Without scores, and left out: {', '.join(empty[:5])}{more}.")
    return found, left


def entries_of(runs: Iterable[ScoredRun]) -> list[Entry]:
    """Runs put together by who was scored, in the order in which they first appear, with labels that differ."""
    groups: dict[tuple[str, ...], list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(run.who, []).append(run)
    made = [tuple(sorted(group, key=lambda run: run.started, reverse=True)) for group in groups.values()]
    return [Entry(label, group) for label, group in zip(_labels(made), made, strict=True)]


def _labels(groups: Sequence[tuple[ScoredRun, ...]]) -> list[str]:
    """Checkpoint names; where several entries have one, with engine and dtype, then the fingerprint, then a number."""
    names = [str(_name(group[0])) for group in groups]
    for add in (_how, _what):
        twice = {name for name, count in Counter(names).items() if count > 1}
        if not twice:
            break
        names = [
            f"{name} · {more}" if name in twice and (more := add(group[0])) else name
            for name, group in zip(names, groups, strict=True)
        ]
    counts = Counter(names)
    given: dict[str, int] = {}
    labels = []
    for name in names:
        given[name] = given.get(name, 0) + 1
        labels.append(f"{name} ({given[name]})" if counts[name] > 1 else name)
    return labels


def _name(run: ScoredRun) -> str:
    checkpoint = run.part("checkpoint")
    name = str(checkpoint.get("name") or checkpoint.get("model") or run.path.name)
    return f"{name} (imported)" if is_imported(run.info) else name


def _how(run: ScoredRun) -> str:
    identity = run.part("identity")
    words = [str(identity.get(key) or "") for key in ("engine", "dtype")]
    if identity.get("quantisation") not in (None, "", "none"):
        words.append(str(identity["quantisation"]))
    return " ".join(word for word in words if word)


def _what(run: ScoredRun) -> str:
    return str(run.part("checkpoint").get("fingerprint") or "").removeprefix("sha256:")[:8]


def _fits(name: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


def _fits_model(run: ScoredRun, globs: Sequence[str]) -> bool:
    checkpoint = run.part("checkpoint")
    return not globs or any(_fits(str(checkpoint.get(key) or ""), globs) for key in ("model", "name"))


def _shown(path: Path, folder: Path) -> str:
    """A run's folder as it is named on the page: seen from the folder that was given."""
    try:
        relative = path.relative_to(folder)
    except ValueError:
        return path.name
    return str(relative) if relative.parts else path.name
