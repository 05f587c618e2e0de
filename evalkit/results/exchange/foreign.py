"""What is read of another tool's results, whatever the tool, and the checks that all of its readers share.

Nothing that stands in such a file is trusted: values have the type that is asked for or are left out, names are bounded, and no
path in a file is followed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evalkit.checkpoints.revisions import parse_revision
from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Document, Metric, Prompt
from evalkit.statistics import estimates
from evalkit.statistics.smooth import with_estimate
from evalkit.statistics.text_pools import cluster_labels
from evalkit.system.characters import visible
from evalkit.system.documents import Invalid, parse_json, read_json
from evalkit.system.lines import CHUNK, LongLine, split_lines
from evalkit.task import Row

MAX_RESULTS_BYTES = 1 << 28
"""Of a file of results that is read whole. lm-eval's are some megabytes for all of its tasks."""
MAX_NAME = 200
"""Characters of the name of a task, a metric or a model."""
MAX_INDEX = 2**53
CUT = 60
"""Characters of a hostile value that a message shows."""

Kind = Literal["choice", "text", "generation"]


@dataclass(frozen=True, slots=True)
class ForeignTask:
    """One task of another tool's results."""

    name: str
    """What evalkit calls it."""
    kind: Kind
    metrics: tuple[Metric, ...]
    protocol: Mapping[str, Any]
    """What the file says of how it was asked, in the words of `evalkit.task.TaskBase.protocol`."""
    documents: int
    limited: bool = False
    rows: Sequence[Row] | None = None
    """None where the file has numbers alone."""
    prompts: Sequence[tuple[Document, Sequence[Prompt]]] = ()
    same_as: str = ""
    """Full name of evalkit's own task that asks the same; empty if there is none."""
    same_metrics: Mapping[str, str] = field(default_factory=dict)
    """What that task calls metrics that have another name here."""


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """Another tool's results of one checkpoint."""

    tool: str
    version: str
    model: str
    revision: str
    tasks: tuple[ForeignTask, ...]
    files: tuple[Path, ...]
    """All that was read, the file of results first."""
    digest: str
    """sha256 of the names and contents of `files`."""
    date: str = ""
    """When it was made, ISO 8601; empty where unknown."""
    groups: tuple[Metric, ...] = ()
    """Scores of groups of tasks."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """How it was made, for readers: backend, dtype, seeds."""
    parameters: int | None = None


# ---------------------------------------------------------------------------------------------------------------- values


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def finite(value: Any) -> float | None:
    """A number that is one: neither a truth value nor infinite nor NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(value: Any, least: int = 0) -> int | None:
    """A whole number from `least` to 2**53."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if least <= value < MAX_INDEX else None


def text(value: Any) -> str:
    """The value if it is a short text, else an empty one; control characters are written out."""
    return visible(value.strip()) if isinstance(value, str) and len(value) <= MAX_NAME else ""


def native_id(value: Any) -> str | int | None:
    """A document's own id: a text, or a number that a column of numbers holds."""
    return value if isinstance(value, str) else whole(value)


def shown(value: Any) -> str:
    """A hostile value as a message shows it."""
    return visible(str(value)[:CUT])


def name_of(value: Any, what: str, file: Path) -> str:
    """A name that may stand in paths and tables after `evalkit.results.layout.safe_name`. Raises `UsageError`."""
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME:
        raise UsageError(
            f"{file} has a {what} whose name is not a text of 1 to {MAX_NAME} characters ('{shown(value)}'), so it "
            "is not imported."
        )
    return visible(value.strip()).replace("\n", " ").replace("\t", " ")


def json_file(file: Path) -> Mapping[str, Any]:
    """A file of results. Raises `UsageError` for one that is too large, no JSON, or no mapping."""
    try:
        size = file.stat().st_size
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}.") from error
    if size > MAX_RESULTS_BYTES:
        raise UsageError(f"{file} has {size:,} bytes; results files of at most {MAX_RESULTS_BYTES:,} are read.")
    value = read_json(file, surrogates="escape")
    if not isinstance(value, Mapping):
        raise UsageError(f"{file} is not a results file: it holds no names and values.")
    return value


def json_lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a file with one a line, with the numbers of their lines. Raises `UsageError` naming the line."""
    number = 0
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(split_lines(iter(lambda: stream.read(CHUNK), b"")), start=1):
                if isinstance(line, LongLine):
                    raise UsageError(f"{file}, line {number} is {line.reason}, so nothing of it is imported.")
                if line.strip():
                    value = parse_json(line, surrogates="escape")
                    if not isinstance(value, Mapping):
                        raise UsageError(f"{file}, line {number} holds no names and values.")
                    yield number, value
    except Invalid as error:
        raise UsageError(f"{file}, line {number}{str(error).replace(', line 1,', '')}.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}.") from error


def digest_of(files: Sequence[Path]) -> str:
    """sha256 of the names and contents of files, by which a repeated import is known."""
    whole_digest = hashlib.sha256()
    try:
        for file in files:
            one = hashlib.sha256()
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    one.update(chunk)
            whole_digest.update(json.dumps([file.name, one.hexdigest()]).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise EvalkitError(f"{error.filename or files[0]} cannot be read: {error.strerror or error}.") from error
    return whole_digest.hexdigest()


def model_and_revision(name: str, revision: str) -> tuple[str, str]:
    """The names of a model and its revision, from what another tool calls it: of a path the last folder, and of a folder that is
    called like a checkpoint (``step1000-tokens2B``) the one above it.

    >>> model_and_revision("/data/olmo/step1000-tokens2B", ""), model_and_revision("allenai/OLMo-1B-hf", "")
    (('olmo', 'step1000-tokens2B'), ('allenai/OLMo-1B-hf', 'main'))
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    is_path = name.startswith(("/", ".", "~")) or "\\" in name or len(parts) > 2
    if is_path and len(parts) > 1 and revision in ("", "main") and parse_revision(parts[-1]).step is not None:
        return parts[-2], parts[-1]
    if is_path and parts:
        return parts[-1], revision or "main"
    return "/".join(parts) or "unknown", revision or "main"


# --------------------------------------------------------------------------------------------------------------- metrics


def with_interval(metric: Metric, values: Sequence[float] | None, rows: Sequence[Row] = ()) -> Metric:
    """A reported metric with evalkit's interval, where it is the mean of the documents' `values`; else as it was reported.

    The value stays the reported one, and so does its error if there is one. `rows`: for their clusters.
    """
    if not values:
        return metric
    array = np.asarray(values, dtype=np.float64)
    if np.isnan(array).any() or not math.isclose(float(array.mean()), metric.value, rel_tol=1e-9, abs_tol=1e-12):
        return metric
    is_rate, is_share = bool(np.isin(array, (0.0, 1.0)).all()), bool(((array >= 0) & (array <= 1)).all())
    make = estimates.estimate_rate if is_rate else estimates.estimate_share if is_share else estimates.estimate_mean
    found = with_estimate(metric, make(array, cluster_labels(rows)))
    return replace(found, value=metric.value, stderr=found.stderr if metric.stderr is None else metric.stderr)
