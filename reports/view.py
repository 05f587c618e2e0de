"""Run folders turned into what a report shows: columns (runs) and rows (tasks, metrics, domains). No HTML here."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evalkit.records import Metric
from evalkit.reports.names import Head, heads
from evalkit.reports.runs import RunView, full_name, one_a_checkpoint, read_all
from evalkit.reports.story import in_training_order, kind_of
from evalkit.statistics.metric_names import CAPPED, DERIVED
from evalkit.words import Unit, listed, metric_title, number, unit_of


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of one task (and domain) across the runs."""

    task: str
    source: str
    domain: str
    metric: str
    unit: Unit
    cells: tuple[Metric | None, ...]
    """One per run, in column order."""
    beside: tuple[Metric | None, ...] = ()
    """The token perplexity that accompanies bits per byte."""
    capped: tuple[Metric | None, ...] = ()
    """Of a metric of generated texts: the share of them that only the cap on their length ended."""
    truncated: bool = False
    lossy: bool = False
    """Whether the value counts bytes of text that a run's tokenizer lost."""

    @property
    def known(self) -> Metric:
        """The first cell that is present (there is at least one)."""
        return next(cell for cell in self.cells if cell is not None)

    @property
    def limited(self) -> bool:
        return any(cell is not None and cell.limited for cell in self.cells)

    @property
    def primary(self) -> bool:
        return any(cell is not None and cell.primary for cell in self.cells)

    @property
    def chance(self) -> float | None:
        return self.known.chance

    def never_ended(self) -> str:
        """``12.0 % capped``, a share a run; empty where no text was ended by the cap."""
        shares = [math.nan if cell is None else cell.value for cell in self.capped]
        if not any(share > 0 for share in shares):
            return ""
        return " / ".join(dict.fromkeys(number(share, "percent") for share in shares)) + " % capped"

    @property
    def higher(self) -> bool:
        """Whether higher values are better."""
        return self.known.higher_is_better


@dataclass(frozen=True, slots=True)
class Source:
    """A source's domains, and its aggregates."""

    task: str
    name: str
    aggregates: tuple[MetricRow, ...]
    domains: tuple[MetricRow, ...]
    """Bits per byte a domain, token perplexity beside."""
    counts: Mapping[str, tuple[float, float]]
    """Domain to tokens and bytes (of the first run that has it)."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report shows."""

    runs: tuple[RunView, ...]
    heads: tuple[Head, ...]
    """Short names of the runs."""
    lines: tuple[MetricRow, ...]
    warnings: tuple[tuple[str, str], ...]
    """Kind (``limited``, ``truncated``, ``failed``, ``partial``, ``compare``, ``note``) and sentence."""
    sources: tuple[Source, ...] = field(default=())

    @property
    def limited(self) -> bool:
        return any(run.limited for run in self.runs)

    @property
    def primary(self) -> dict[Unit, list[MetricRow]]:
        """Rows of the main tables by unit: each task's primary metric (its first if none is marked)."""
        chosen: dict[str, MetricRow] = {}
        for line in self.lines:
            if line.task not in chosen or (line.primary and not chosen[line.task].primary):
                chosen[line.task] = line
        groups: dict[Unit, list[MetricRow]] = {"percent": [], "bits": [], "perplexity": [], "number": [], "count": []}
        for line in chosen.values():
            groups[line.unit].append(line)
        return {unit: lines for unit, lines in groups.items() if lines}

    @property
    def others(self) -> list[MetricRow]:
        """Every metric of a question, and the aggregates of texts; domains have their own tables."""
        return [line for line in self.lines if not line.domain]


def load_report(paths: Sequence[Path | str], metrics: Mapping[Path, Sequence[Metric]] | None = None) -> Report:
    """Read runs and line them up: a column a checkpoint, those of one model in the order of their training, others as given.

    `metrics` by run folder replace what is stored there. Of several, a run that is damaged, or that has no scores yet, is
    left out, with a warning.
    Raises like `evalkit.reports.runs.read_all`.
    """
    readable, left = read_all([Path(path) for path in paths], metrics)
    if any(run.metrics for run in readable):
        left += [
            f"Left out: {_name(run)} has no scores yet (its run is {run.status})."
            for run in readable
            if not run.metrics
        ]
        readable = [run for run in readable if run.metrics]
    runs = _labelled(in_training_order(one_a_checkpoint(readable)))
    lines = _metric_rows(runs)
    warnings = (*(("partial", sentence) for sentence in left), *_warnings(runs))
    return Report(runs, tuple(heads(runs, kind_of(runs))), lines, warnings, _sources(lines))


def _name(run: RunView) -> str:
    checkpoint = run.part("checkpoint")
    return str(checkpoint.get("name") or checkpoint.get("model") or run.path.name)


def _labelled(runs: Sequence[RunView]) -> tuple[RunView, ...]:
    """Runs labelled by checkpoint, extended by suite folder and finally by number where labels would collide."""

    def names(run: RunView) -> list[str]:
        engine = " ".join(str(run.part("identity").get(key) or "") for key in ("engine", "dtype")).strip()
        return [_name(run), f"{_name(run)} · {engine}", f"{_name(run)} · {run.path.absolute().parent.name}"]

    every = [names(run) for run in runs]
    kind = next((k for k in range(3) if len({each[k] for each in every}) == len(runs)), None)
    return tuple(
        replace(run, label=each[0 if kind is None else kind] + (f" ({i})" if kind is None else ""))
        for i, (run, each) in enumerate(zip(runs, every, strict=True), start=1)
    )


def _metric_rows(runs: Sequence[RunView]) -> tuple[MetricRow, ...]:
    """Metrics of all runs lined up by task, source, domain and name, in the order in which they first appear.

    Without `DERIVED`, 17 a task that stand in ``metrics.json`` for who asks for them, unless one is a task's primary metric.
    """
    table: dict[tuple[str, str, str, str], list[Metric | None]] = {}
    for column, run in enumerate(runs):
        for metric in run.metrics:
            if metric.metric in DERIVED and not metric.primary:
                continue
            key = (full_name(metric), metric.source, metric.domain, metric.metric)
            table.setdefault(key, [None] * len(runs))[column] = metric
    lines = []
    for (task, source, domain, name), cells in table.items():
        beside = table.get((task, source, domain, name.replace("bits_per_byte", "token_perplexity")))
        known = next(cell for cell in cells if cell is not None)
        lines.append(
            MetricRow(
                task,
                source,
                domain,
                name,
                unit_of(known),
                tuple(cells),
                tuple(beside) if beside is not None and name.endswith("bits_per_byte") else (),
                tuple(table.get((task, source, domain, CAPPED), ())) if name != CAPPED else (),
                any(run.truncated(task) for run in runs),
                any(run.lossy(task, name) for run in runs),
            )
        )
    order = {task: place for place, task in enumerate(dict.fromkeys(line.task for line in lines))}
    return tuple(sorted(lines, key=lambda line: order[line.task]))


def _sources(lines: Sequence[MetricRow]) -> tuple[Source, ...]:
    sources = []
    for task, source in dict.fromkeys((line.task, line.source) for line in lines if line.domain):
        own = [line for line in lines if (line.task, line.source) == (task, source)]
        counts = {
            domain: (
                _count(own, domain, "tokens"),
                _count(own, domain, "bytes"),
            )
            for domain in dict.fromkeys(line.domain for line in own if line.domain)
        }
        sources.append(
            Source(
                task,
                source,
                tuple(line for line in own if not line.domain and line.unit == "bits"),
                tuple(line for line in own if line.domain and line.metric == "bits_per_byte"),
                counts,
            )
        )
    return tuple(sources)


def _count(lines: Iterable[MetricRow], domain: str, name: str) -> float:
    return next((line.known.value for line in lines if line.domain == domain and line.metric == name), math.nan)


# ------------------------------------------------------------------------------------------------------------ warnings


def _warnings(runs: Sequence[RunView]) -> Iterable[tuple[str, str]]:
    """Each distinct sentence with the runs it concerns."""
    said: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for warning in _run_warnings(run):
            said.setdefault(warning, []).append(run.label)
    for (kind, sentence), labels in said.items():
        if len(runs) == 1:
            yield kind, sentence
        elif len(labels) == len(runs):
            yield kind, f"{'Both' if len(runs) == 2 else f'All {len(runs)}'} runs: {sentence}"
        elif len(labels) > 3:
            yield kind, f"{', '.join(labels[:3])} and {len(labels) - 3} more: {sentence}"
        else:
            yield kind, f"{', '.join(labels)}: {sentence}"
    if len(runs) > 1:
        yield from _comparability(runs)


def _run_warnings(run: RunView) -> Iterable[tuple[str, str]]:
    if run.status != "done":
        sentence = {
            "failed": "This run failed.",
            "partial": "This run is partial: not everything that was asked is scored.",
            "running": "This run is not finished: it is still running, or it was ended from outside.",
            "interrupted": "This run is not finished: its process was ended from outside.",
        }.get(run.status, f"This run has the status “{run.status}”.")
        error = str(run.info.get("error") or "").strip()
        kind = "failed" if run.status == "failed" else "partial"
        yield kind, f"{sentence} {error}".strip() + " The same command again goes on where it stopped."
    noted = [str(warning) for warning in run.info.get("warnings") or []]
    if run.limited and not any(warning.startswith("Limited") for warning in noted):
        tasks = dict.fromkeys(
            [name for name, about in run.tasks.items() if about.get("limited")]
            + [full_name(metric) for metric in run.metrics if metric.limited]
        )
        yield (
            "limited",
            f"Limited: fewer documents than the regime specifies{' in ' if tasks else ''}{listed(list(tasks))}.",
        )
    for warning in noted:
        kinds = {"limited": "Limited", "truncated": " cut ", "failed": "ailed", "compare": "loses text"}
        yield next((kind for kind, sign in kinds.items() if sign in warning), "note"), warning
    for task, about in run.tasks.items():
        cut = run.truncated(task)
        if cut and not any(warning.startswith(f"{task}:") and " cut " in warning for warning in noted):
            yield (
                "truncated",
                f"{task}: {cut:,} prompts lost {int(about.get('truncated_tokens') or 0):,} tokens on the left to fit.",
            )
    scored = {full_name(metric) for metric in run.metrics} | {metric.task for metric in run.metrics}
    missing = [task for task in run.tasks if task not in scored and task.partition(":")[0] not in scored]
    if missing:
        yield "partial", f"Without scores: {', '.join(missing)}."
    for metric in run.metrics:
        if math.isnan(metric.value) and metric.note:
            yield "partial", f"{full_name(metric)}, {metric_title(metric.metric)}: {metric.note}."
    unscored = dict.fromkeys(
        full_name(metric) for metric in run.metrics if math.isnan(metric.value) and not metric.note
    )
    if unscored:
        yield "partial", f"Some values could not be computed and are shown as a dash: {', '.join(unscored)}."


def _comparability(runs: Sequence[RunView]) -> Iterable[tuple[str, str]]:
    """What makes columns not comparable."""
    differing = []
    for task in dict.fromkeys(task for run in runs for task in run.tasks):
        own = [run.tasks[task] for run in runs if task in run.tasks and not run.part("imported")]
        protocols = [about.get("protocol") for about in own]
        digests = {str(each.get("prompts")) for each in protocols if isinstance(each, Mapping) and each.get("prompts")}
        if len({_without_tokenizer(about) for about in own}) > 1 or len(digests) > 1:
            differing.append(task)
    if differing:
        yield (
            "compare",
            f"Different prompts or settings; not comparable on: {', '.join(differing)}.",
        )
    if len({str(run.part("tokenizer").get("hash")) for run in runs if not run.part("imported")}) > 1:
        yield "compare", "The tokenizers differ: compare bits per byte across columns, not token perplexities."
    runs = [run for run in runs if not run.part("imported")]  # whose own warning says where they are from
    for key, word in (("engine", "engines"), ("dtype", "dtypes"), ("quantisation", "quantisations")):
        values = dict.fromkeys(str(run.part("identity").get(key)) for run in runs)
        if len(values) > 1:
            yield "compare", f"The columns were made with different {word}: {', '.join(values)}."


def _without_tokenizer(about: Mapping[str, Any]) -> str:
    """A task's protocol as text, without the tokenizer (which another model may well have) and the digest of its prompts
    (which runs made before it was stored do not have)."""
    protocol = about.get("protocol")
    if not isinstance(protocol, Mapping):
        return str(about.get("protocol_hash"))
    plain = copy.deepcopy(dict(protocol))
    plain.pop("prompts", None)
    encoder = plain.get("encoder")
    if isinstance(encoder, dict):
        encoder.pop("tokenizer", None)
    return json.dumps(plain, sort_keys=True, default=str)
