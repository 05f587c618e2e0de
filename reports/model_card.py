"""Results for a model's card on the Hugging Face hub: the ``model-index`` block of its metadata.

Primary metrics of whole tasks alone: a limited result is no result of its benchmark, and has no place on a card. Made with
huggingface_hub's own `ModelCardData`, so that what is written reads back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.encoding.losses import describe_losses, is_affected
from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Metric
from evalkit.reports.runs import full_name, metric_of
from evalkit.results.layout import PARTIAL_PREFIX
from evalkit.results.reading import Run, load_run, read_metrics
from evalkit.system.files import write_bytes
from evalkit.words import UNIT_WORDS, metric_title, unit_of, visible

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK_TYPE = "text-generation"
"""The hub's name of what a causal language model does."""
PALOMA = "allenai/paloma"


def eval_results(run: Run) -> tuple[list[EvalResult], list[str]]:
    """A run's results for a card, and the full names of tasks that are left out because they are limited, unscored, or in bits
    per byte of a tokenizer that loses text.

    Values of accuracies are shares, as the hub wants them.
    """
    from huggingface_hub import EvalResult

    results: list[EvalResult] = []
    left: list[str] = []
    for metric in (metric_of(record) for record in read_metrics(run.path) if record.get("primary")):
        name = full_name(metric)
        about = run.info["tasks"].get(name)
        if (
            metric.limited
            or (about or {}).get("limited")
            or (is_affected(metric.metric) and describe_losses(about or {}))
            or metric.task.startswith(PARTIAL_PREFIX)
            or math.isnan(metric.value)
        ):
            left.append(name)
            continue
        data = _data_of(name, about or {}, metric)
        results.append(
            EvalResult(
                task_type=TASK_TYPE,
                task_name=visible(name),
                dataset_type=data["type"],
                dataset_name=data["name"],
                dataset_config=data["config"],
                dataset_split=metric.split or None,
                dataset_revision=data["revision"],
                metric_type=_metric_type(metric),
                metric_name=_metric_name(name, metric),
                metric_value=round(float(metric.value), 6),
                metric_args=_arguments(metric),
            )
        )
    return results, list(dict.fromkeys(left))


def write_model_card(run_paths: Sequence[Path | str], out: Path | None = None) -> tuple[str, list[str]]:
    """The block as YAML, and what was left out. With `out` it is written too: into the metadata of a model card that is
    there (a ``.md`` file; equal results are replaced, all else stays), else as a new file.

    The runs must be of one checkpoint. Raises `UsageError` where they are not, where nothing is left to say, and for a card
    whose metadata cannot be read.
    """
    from huggingface_hub import ModelCardData

    runs = [load_run(path) for path in run_paths]
    names = list(dict.fromkeys(run.model for run in runs))
    if len(names) > 1:
        raise UsageError(
            f"A model card is of one checkpoint, and these runs are of {len(names)}: {', '.join(names[:5])}."
        )
    results: list[EvalResult] = []
    left: list[str] = []
    for run in runs:
        own, without = eval_results(run)
        results += own
        left += without
    if not results:
        raise UsageError(
            "These runs have nothing for a model card: it takes whole, scored tasks, and these are limited, unscored or lossy."
        )
    model = names[0].rpartition("/")[2] or names[0]
    if out is not None and out.suffix.lower() == ".md" and out.exists():
        return _into(out, model, results), left
    block = str(ModelCardData(model_name=visible(model), eval_results=results).to_yaml())
    if out is not None:
        fenced = f"---\n{block}\n---\n" if out.suffix.lower() == ".md" else f"{block}\n"
        write_bytes(out, fenced.encode("utf-8"))
    return block, left


def _into(card_file: Path, model: str, results: Sequence[EvalResult]) -> str:
    """Put results into an existing card, in place of those that differ in their value alone."""
    from huggingface_hub import ModelCard

    try:
        card = ModelCard(card_file.read_text(encoding="utf-8"))
    except Exception as error:  # huggingface_hub and yaml raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise EvalkitError(f"The metadata of {card_file} cannot be read: {reason}") from error
    data: Any = card.data
    kept = [one for one in data.eval_results or [] if not any(_same(one, new) for new in results)]
    data.model_name = data.model_name or visible(model)
    data.eval_results = [*kept, *results]
    write_bytes(card_file, str(card).encode("utf-8"))
    return str(data.to_yaml())


def _same(a: EvalResult, b: EvalResult) -> bool:
    """Whether two results are of one metric: a newer value, error or count replaces the older."""
    return (a.unique_identifier, a.metric_type, a.metric_name) == (b.unique_identifier, b.metric_type, b.metric_name)


def _metric_type(metric: Metric) -> str:
    """The hub's id of a metric where it has one."""
    unit = unit_of(metric)
    if unit == "percent":
        return "accuracy"
    if unit == "perplexity":
        return "perplexity"
    return "bits_per_byte" if unit == "bits" else metric.metric


def _metric_name(task: str, metric: Metric) -> str:
    """``acc_pmi, arc_easy:rc::olmes, 5-shot``: what tells two results on one data set apart."""
    parts = [metric_title(metric.metric), task]
    if unit_of(metric) == "percent":
        parts.append(f"{metric.shots}-shot")
    elif UNIT_WORDS[unit_of(metric)] and UNIT_WORDS[unit_of(metric)] not in parts[0]:
        parts.append(UNIT_WORDS[unit_of(metric)])
    return visible(", ".join(parts))


def _arguments(metric: Metric) -> dict[str, Any]:
    """What else belongs to a value."""
    from evalkit import __version__

    error = None if metric.stderr is None else round(float(metric.stderr), 6)
    values: dict[str, Any] = {
        "metric": metric.metric,
        "form": metric.form,
        "regime": metric.regime,
        "shots": metric.shots,
    }
    values |= {"documents": int(metric.n), "stderr": error, "higher_is_better": metric.higher_is_better}
    values["evalkit"] = __version__
    return {
        key: visible(value) if isinstance(value, str) else value
        for key, value in values.items()
        if value not in ("", None)
    }


def _data_of(name: str, about: Mapping[str, Any], metric: Metric) -> dict[str, Any]:
    """The data set as the hub names it; of data that is not there the task's own name."""
    base = name.partition(":")[0]
    revision = None
    protocol = about.get("protocol")
    described = (protocol.get("task") or {}).get("data") if isinstance(protocol, Mapping) else None
    if isinstance(described, Mapping) and described.get("source") == "hub":
        revision = described.get("revision")
    data = _data_set(name)
    if data is not None:
        return {"type": data.repo, "name": str(data), "config": data.config, "revision": revision}
    family, _, source = base.partition("/")
    if family in ("paloma", "paloma-585"):
        return {
            "type": PALOMA,
            "name": visible(f"Paloma {source}".strip()),
            "config": visible(source) or None,
            "revision": revision,
        }
    return {
        "type": visible(base),
        "name": visible(base),
        "config": visible(metric.source) or None,
        "revision": revision,
    }


def _data_set(name: str) -> Any:
    """A question task's `DataSet`; None where the task is not registered here or has none."""
    from evalkit.data import DataSet
    from evalkit.registry import make_task

    try:
        data = getattr(make_task(name), "data", None)
    except EvalkitError:
        return None
    return data if isinstance(data, DataSet) else None
