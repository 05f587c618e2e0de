"""What is read in the files of a run folder: ``run.json``, the records of ``metrics.json``, ``training.json``.

Other programs may write into these files: keys that are not named here are left alone. Of ``run.json``, what says what a
number is (`RunFile`) has to be right, or the run is not read; what describes how it was made (`RunNotes`), and everything
in ``training.json``, is left out where it has another type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from evalkit.system.documents import first_fault

Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Names = dict[str, Any]


class _Stored(BaseModel):
    """Values as JSON has them: no text is taken for a number, and no number for a text or a truth value."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class _Encoder(_Stored):
    window: str | None = None
    prefix_token: str | None = None
    max_length: Count | None = None
    tokenizer: str | None = None


class _Protocol(_Stored):
    task: Names = {}
    encoder: _Encoder = _Encoder()


class TaskEntry(_Stored):
    """A task in ``run.json``."""

    file_name: str | None = None
    protocol_hash: str | None = None
    kind: str | None = None
    protocol: _Protocol = _Protocol()
    options: Names = {}
    limited: bool | None = None
    gated: bool | None = None
    documents: Count | None = None
    prompts: Count | None = None
    requests: Count | None = None
    truncated_prompts: Count | None = None
    truncated_tokens: Count | None = None
    lossy: dict[str, Number] | None = None
    samples: bool | None = None
    same_as: str | None = None
    same_metrics: dict[str, str] = {}


class CheckpointEntry(_Stored):
    """The checkpoint in ``run.json``."""

    name: str | None = None
    model: str | None = None
    revision: str | None = None
    path: str | None = None
    fingerprint: str | None = None
    parameters: Count | None = None
    step: Count | None = None
    tokens: Count | None = None
    tokens_derived: bool | None = None
    stage: int | None = None
    ingredient: int | None = None
    adapter: str | None = None


class _TokenizerEntry(_Stored):
    name: str | None = None
    path: str | None = None
    hash: str | None = None


class ImportedEntry(_Stored):
    """Where an imported run comes from."""

    tool: str
    version: str
    sha256: str
    file: str = ""
    date: str = ""


class RunFile(_Stored):
    """What ``run.json`` says of its numbers: whose they are, and what was asked."""

    status: str
    suite: str
    checkpoint: CheckpointEntry
    tasks: dict[str, TaskEntry]
    aggregation: str = ""
    limited: bool = False
    tokenizer: _TokenizerEntry = _TokenizerEntry()
    identity: dict[str, str | None] = {}
    identity_hash: str = ""
    imported: ImportedEntry | None = None
    domain_weights: dict[str, Number | dict[str, Number]] | None = None


class _Process(_Stored):
    host: str
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    began: str | None = None


class _Timings(_Stored):
    started: str | None = None
    ended: str | None = None
    seconds: Number | None = None
    scoring_seconds: Number | None = None
    expected_seconds: Number | None = None


class _CrossCheck(_Stored):
    engine: str
    error: str | None = None
    suspect: bool | None = None


class _Agreement(_CrossCheck):
    requests: int
    tokens: int
    largest: Number
    mean: Number
    largest_sum: Number
    mean_sum: Number
    greedy_differ: int


class _Failure(_CrossCheck):
    error: str


class _Sample(_Stored):
    whole_evaluation_sample: bool | None = None


class _Vocabulary(_Stored):
    tokenizer: str | None = None
    vocabulary: Count | None = None


class _Format(_Stored):
    window: str | None = None
    prefix_token: str | None = None
    max_length: Count | None = None


class _Guidelines(_Stored):
    """Paloma's guidelines (arXiv 2312.10523)."""

    G1: dict[str, str] = {}
    G2: dict[str, str] = {}
    G3: _Sample = _Sample()
    G4: _Vocabulary = _Vocabulary()
    G5: _Format = _Format()


class _ShapeMember(_Stored):
    task: str | None = None
    suite: _Shape | None = None
    weight: Annotated[Number, Field(ge=0)] | None = None
    baseline: Annotated[Number, Field(ge=0, lt=1)] | None = None
    limited: bool = False

    @model_validator(mode="after")
    def _named(self) -> _ShapeMember:
        if (self.task is None) == (self.suite is None):
            raise ValueError("a member is a task or a suite")
        return self


class _Shape(_Stored):
    """`evalkit.statistics.suite_scores.Shape`."""

    name: str
    aggregation: Literal["macro", "micro", "weighted", "centred", "mc_or_rc"]
    metric: str | None = None
    members: Annotated[list[_ShapeMember], Field(min_length=1)]


class SuiteFile(_Stored):
    """How a suite's score is made, and which options the user set otherwise than the suite."""

    shape: _Shape
    altered: list[str] = []


class RunNotes(_Stored):
    """How a run was made, for people to read. All of it is optional."""

    command: str | list[str] | None = None
    variation: list[str] = []
    data_source: str | None = None
    done_tasks: dict[str, TaskEntry] = {}
    score: SuiteFile | None = None
    settings: Names = {}
    guidelines: _Guidelines = _Guidelines()
    versions: dict[str, str | None] = {}
    hardware: Names = {}
    counts: dict[str, Number | None] = {}
    timings: _Timings = _Timings()
    process: _Process | None = None
    cross_check: _Agreement | _Failure | None = None
    training: Names = {}
    warnings: list[str] = []
    error: str | None = None


class MetricRecord(_Stored):
    """A record of ``metrics.json``; a value of null is one that could not be computed."""

    task: str
    metric: str
    value: Number | None
    n: Count = 0
    stderr: Number | None = None
    ci_low: Number | None = None
    ci_high: Number | None = None
    form: str | None = None
    regime: str | None = None
    shots: int | None = None
    split: str | None = None
    source: str | None = None
    domain: str | None = None
    primary: bool = False
    higher_is_better: bool = True
    limited: bool = False
    chance: Number | None = None
    note: str | None = None


_METRICS = TypeAdapter(list[MetricRecord])


class _Eval(_Stored):
    value: Number | None
    step: Number | None = None


class TrainingFile(_Stored):
    """``training.json``; `evalkit.results.writing.write_training` says what is what."""

    name: str | None = None
    base: str | dict[str, str | None] | None = None
    recipe: str | Names | None = None
    data: list[Names] | None = None
    template: str | None = None
    template_name: str | None = None
    contamination: str | Names | None = None
    chat_template_applied: bool | None = None
    loss: list[Annotated[list[Number | None], Field(min_length=2)] | dict[str, Number | None]] | None = None
    evals: list[_Eval] | None = None
    hyper: str | Names | None = None
    steps: Number | None = None
    seconds: Number | None = None
    tokens: Number | None = None


def without_wrong_fields(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those that do not fit the model's field of their name. All of its fields are optional."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        wrong = {fault["loc"][0] for fault in error.errors(include_url=False, include_input=False) if fault["loc"]}
        return {name: value for name, value in values.items() if name not in wrong}
    return dict(values)


def fault_of(model: type[BaseModel], value: Any) -> str:
    """What of `value` does not fit the model; empty if all does."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        return first_fault(error)
    return ""


def fault_of_metrics(records: Any) -> str:
    """What is wrong with the content of a ``metrics.json``; empty if nothing is."""
    try:
        _METRICS.validate_python(records, strict=True)
    except ValidationError as error:
        return first_fault(error)
    return ""
