"""The recipe of a fine-tuning run: every setting with its type, default and help text.

A recipe is a YAML file of these fields; each of them is also an option of ``evalkit train`` and an argument of
`evalkit.fine_tune`. `evalkit.train.grid` expands a recipe whose fields hold lists into several.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from evalkit.errors import UnknownName, UsageError
from evalkit.options import option_field
from evalkit.system.documents import Written
from evalkit.system.files import canonical_json

Method = Literal["sft", "lora", "qlora", "dpo", "dpo-lora"]
BatchUnit = Literal["rows", "examples", "tokens"]
PairLoss = Literal["sigmoid", "sigmoid_norm", "ipo"]
TASK_PREFIX = "task:"
"""A data set of this kind is a split of a registered task: ``task:arc_easy``."""
ADAPTER_METHODS = ("lora", "qlora", "dpo-lora")
PAIR_METHODS = ("dpo", "dpo-lora")
NAME = re.compile(r"^[A-Za-z0-9][\w.+-]*$")
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")
DATA_OPTION = re.compile(r"^(split|config|revision|count|weight)=(.+)$")

FIELDS_OUTSIDE_HASH = {
    "description", "sources", "output", "folder", "log_every", "report_to", "eval_every", "eval_suite", "eval_limit",
    "apply_chat_template", "limit", "sample", "data_source", "device", "threads", "keep", "processes", "accelerate_config",
    "micro_batch", "gradient_checkpointing", "save_dtype", "save_every",
}  # fmt: skip
"""Fields that do not affect the weights, or only by the order in which sums are rounded: a run can be resumed when they differ."""
FIELDS_OUTSIDE_DATA = {
    "epochs", "max_steps", "learning_rate", "schedule", "warmup", "weight_decay", "clip", "loss", "beta", "lora_rank",
    "lora_alpha", "lora_dropout", "lora_targets",
}  # fmt: skip
"""Fields that affect the weights and not the rows."""
TASK_DATA_FIELDS = ("apply_chat_template", "data_source")
"""Of these, what affects the rows where a data set is a task's own split."""


class DataItem(Written):
    """One data set of a mixture. As a string: ``DATASET[,split=S][,config=C][,count=N][,weight=W][,revision=R]``."""

    model_config = ConfigDict(frozen=True)

    dataset: str = Field(
        description="A hub repository, a .jsonl or .parquet file, a folder of them, a built-in set, or task:NAME."
    )
    split: str = Field("train", description="The split of a hub repository or a task.")
    config: str | None = Field(None, description="The configuration of a hub repository.")
    revision: str | None = Field(None, description="The commit or branch of a hub repository.")
    count: int | None = Field(None, ge=1, description="So many rows, drawn by the seed. Default: all.")
    weight: float | None = Field(
        None, gt=0, description="Passes over the rows an epoch: 0.5 is half of them, 2 is each twice."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        head, *rest = [part.strip() for part in value.split(",")]
        fields: dict[str, Any] = {"dataset": head}
        for part in rest:
            match = DATA_OPTION.match(part)
            if match is None:
                raise ValueError(f"'{part}' is none of split=, config=, count=, weight=, revision=")
            fields[match[1]] = match[2]
        return fields

    @model_validator(mode="after")
    def _count_or_weight(self) -> DataItem:
        if self.count is not None and self.weight is not None:
            raise ValueError(f"{self.dataset} has a count and a weight; give one of the two")
        return self

    @property
    def task(self) -> str | None:
        """The task whose split it is; None for other data."""
        return self.dataset.removeprefix(TASK_PREFIX) if self.dataset.startswith(TASK_PREFIX) else None

    @property
    def label(self) -> str:
        """The data set's display name: the last part of a repository's or file's name."""
        name = self.dataset.removeprefix(TASK_PREFIX).rstrip("/").rsplit("/", 1)[-1]
        return re.sub(r"\.(jsonl|json|parquet)(\.gz|\.zst)?$", "", name) or name


WHAT, HOW, LORA, DPO, MACHINE, SCORE = (
    "What is trained", "How it is trained", "Adapters", "Preferences", "Where it runs", "How it is scored",
)  # fmt: skip


class Recipe(Written):
    """One fine-tuning run."""

    model_config = ConfigDict(frozen=True)

    description: str = ""
    sources: list[str] = Field(default_factory=list)
    """Where the hyper-parameters were published."""

    name: str = option_field("", WHAT, "The name under which the result is registered as a model.")
    model: str = option_field(
        "",
        WHAT,
        "What training starts from: a registered name, a hub repository or a folder, with or without @REVISION.",
    )
    tokenizer: str | None = option_field(
        None, WHAT, "A folder, hub repository or tokenizer.json, where the checkpoint has no tokenizer of its own."
    )
    data: list[DataItem] = Field(default_factory=list)
    """The mixture that is trained on."""
    template: str = option_field(
        "tulu",
        WHAT,
        "How messages become text: tulu, chatml, plain, or tokenizer (the checkpoint's own chat template).",
    )
    method: Method = option_field(
        "sft",
        WHAT,
        "sft trains all weights, lora an adapter, qlora an adapter on 4-bit weights (CUDA); dpo and dpo-lora learn from preference pairs.",
    )
    deduplicate: bool = option_field(True, WHAT, "Leave out examples that were there before, white space aside.")
    decontaminate: bool = option_field(
        True,
        WHAT,
        "Leave out examples that hold a paragraph (13 words or more) of the texts that the result is scored on.",
    )
    held_out: int = option_field(
        200,
        WHAT,
        "Examples kept out of training, scored before and after as the task instructions/NAME; 0 for none.",
        ge=0,
    )
    max_examples: int | None = option_field(
        None, WHAT, "Use at most so many examples of the mixture, drawn by the seed.", ge=1
    )

    epochs: float = option_field(2.0, HOW, "Passes over the data.", gt=0)
    max_steps: int | None = option_field(None, HOW, "Stop after so many steps, whatever the epochs.", ge=1)
    learning_rate: float = option_field(2e-5, HOW, "The highest learning rate.", gt=0)
    schedule: str = option_field("linear", HOW, f"How the rate goes on after its warm-up: {', '.join(SCHEDULES)}.")
    warmup: float = option_field(
        0.03, HOW, "The share of steps (below 1) or the number of steps over which the rate rises.", ge=0
    )
    weight_decay: float = option_field(0.0, HOW, "AdamW's weight decay.", ge=0)
    clip: float = option_field(1.0, HOW, "The norm that gradients are clipped to; 0 for none.", ge=0)
    batch: int = option_field(
        128, HOW, "What a step holds over all devices, in the unit of --batch-of: the effective batch.", ge=1
    )
    batch_of: BatchUnit = option_field(
        "rows",
        HOW,
        "What the batch counts: rows (a packed row is one, a pair is one), or examples or tokens, of which packed rows hold many.",
    )
    micro_batch: int = option_field(
        1, HOW, "Sequences that go through a device at once; the rest of the batch is accumulated.", ge=1
    )
    max_length: int = option_field(2048, HOW, "Tokens of a sequence; what is longer is cut at its end.", ge=8)
    packing: bool = option_field(
        True,
        HOW,
        "Put several examples into one row (best fit decreasing), each seeing itself alone. Not with preferences, and left "
        "out for models that cannot keep examples apart.",
    )
    seed: int = option_field(42, HOW, "Draws mixtures, order, held-out examples and adapters.")

    lora_rank: int = option_field(64, LORA, "Rank of an adapter.", ge=1)
    lora_alpha: float = option_field(16, LORA, "Scale of an adapter, divided by its rank.", gt=0)
    lora_dropout: float = option_field(0.1, LORA, "Dropout before an adapter.", ge=0, lt=1)
    lora_targets: str = option_field(
        "all-linear", LORA, "Layers that get an adapter: all-linear, or names with commas between."
    )
    loss: PairLoss = option_field(
        "sigmoid",
        DPO,
        "sigmoid is DPO's own; sigmoid_norm divides log-ratios by an answer's tokens (TÜLU 3, OLMo 2: beta 5); ipo.",
    )
    beta: float = option_field(0.1, DPO, "How strongly DPO holds on to the model that it starts from.", gt=0)

    dtype: Literal["auto", "float32", "bfloat16"] = option_field(
        "auto",
        MACHINE,
        "Of matrix products: auto is bfloat16 on CUDA devices that have it and float32 on a CPU. Weights that are trained stay in float32.",
    )
    save_dtype: Literal["auto", "float32", "bfloat16"] = option_field(
        "auto",
        MACHINE,
        "Of the weights that are written at the end: auto is the base's own on CUDA and float32 on a CPU.",
    )
    gradient_checkpointing: bool = option_field(
        False, MACHINE, "Compute activations twice and keep fewer of them: less memory, about a fifth slower."
    )
    attention: str = option_field(
        "auto",
        MACHINE,
        "auto (FlashAttention 2 where it is installed, else what the architecture has), sdpa, eager or flash_attention_2.",
    )
    device: str = option_field("auto", MACHINE, "cpu, cuda, cuda:N, or auto. One process trains on one device.")
    threads: int | None = option_field(None, MACHINE, "Threads of torch on a CPU.", ge=1)
    processes: int = option_field(
        1,
        MACHINE,
        "Processes that train together, a device each, started by torchrun, or by accelerate with --accelerate-config.",
        ge=1,
    )
    accelerate_config: str | None = option_field(
        None,
        MACHINE,
        "fsdp (ships with evalkit), or a configuration file of accelerate, which then starts the processes.",
    )
    save_every: int | None = option_field(None, MACHINE, "Steps between two checkpoints. Default: an epoch.", ge=1)
    keep: int | None = option_field(None, MACHINE, "Keep only the last N checkpoints of the run. Default: all.", ge=1)
    log_every: int = option_field(1, MACHINE, "Steps between two lines of the log.", ge=1)
    report_to: list[str] = option_field(
        [], MACHINE, "tensorboard, wandb or trackio, where they are installed. May be repeated."
    )
    folder: str = option_field("trained", MACHINE, "The folder of trained models; this one is in FOLDER/NAME.")
    trust_remote_code: bool = option_field(
        False, MACHINE, "Run the Python code that a checkpoint brings. Only for checkpoints that you trust."
    )

    suites: list[str] = option_field([], SCORE, "A suite to score before and after. May be repeated.", option="--suite")
    tasks: list[str] = option_field([], SCORE, "A task to score before and after. May be repeated.", option="--task")
    apply_chat_template: bool | None = option_field(
        None, SCORE, "Whether questions are asked inside the chat template, before and after alike."
    )
    limit: int | None = option_field(
        None, SCORE, "Ask at most N documents a task. The result is marked as limited.", ge=1
    )
    sample: int | None = option_field(
        None, SCORE, "Ask N documents of a task, drawn at random, in place of --limit; marked as limited.", ge=1
    )
    data_source: str | None = option_field(None, SCORE, "Where the suites' data come from: bundle, hub or a folder.")
    eval_every: int | None = option_field(None, SCORE, "Score the model in training every N steps.", ge=1)
    eval_suite: str = option_field("quickstart", SCORE, "The suite that --eval-every scores.")
    eval_limit: int | None = option_field(50, SCORE, "Documents a task that --eval-every asks.", ge=1)
    output: str = option_field("results", SCORE, "The folder of results.")

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if value and not NAME.match(value):
            raise ValueError("letters, digits and . _ + - (no slash, no @) make a name")
        return value

    @field_validator("sample")
    @classmethod
    def _is_alone(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("limit") is not None:
            raise ValueError("--limit is given too, and both say how many documents are asked: give one of them")
        return value

    @field_validator("schedule")
    @classmethod
    def _is_schedule(cls, value: str) -> str:
        if value not in SCHEDULES:
            raise ValueError(f"it is one of {', '.join(SCHEDULES)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _single_to_list(cls, value: Any) -> Any:
        """Wrap a single suite, task, tracker, source or data set into a list."""
        if isinstance(value, dict):
            value = dict(value)
            for key in ("suites", "tasks", "report_to", "sources", "data"):
                if key in value and isinstance(value[key], (str, dict)):
                    value[key] = [value[key]]
        return value

    @property
    def trains_adapter(self) -> bool:
        """Whether an adapter is trained while the base's weights are frozen."""
        return self.method in ADAPTER_METHODS

    @property
    def learns_from_pairs(self) -> bool:
        """Whether the training data are preference pairs."""
        return self.method in PAIR_METHODS

    @property
    def packed(self) -> bool:
        """Whether rows contain several examples."""
        return self.packing and not self.learns_from_pairs

    @property
    def counts_rows(self) -> bool:
        """Whether the batch counts the rows that are trained; False if they have to be prepared to know how many make a batch."""
        return self.batch_of == "rows" or (self.batch_of == "examples" and not self.packed)

    @property
    def run_folder(self) -> Path:
        """The folder of the run, with checkpoints, log and the final model."""
        return Path(self.folder).expanduser() / self.name

    @property
    def accumulation(self) -> int:
        """Micro-batches per step and device. Raises `UsageError` unless the batch is a multiple of micro-batch × processes."""
        per_step = self.micro_batch * self.processes
        if self.batch % per_step:
            raise UsageError(
                f"A batch of {self.batch} cannot be made of {self.processes} processes with {self.micro_batch} sequences each. "
                "Choose a --batch that is a multiple."
            )
        return self.batch // per_step

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, in order; data sets without their unset fields."""
        fields = self.model_dump(mode="json")
        fields["data"] = [item.model_dump(exclude_none=True) for item in self.data]
        return fields

    def _hashed_fields(self) -> dict[str, Any]:
        fields = self.to_dict()
        if not self.decontaminate:
            fields.pop("suites"), fields.pop("tasks")
        outside = set(FIELDS_OUTSIDE_HASH)
        if any(item.task is not None for item in self.data):
            outside -= set(TASK_DATA_FIELDS)
            fields["apply_chat_template"] = bool(self.apply_chat_template)
        return {key: value for key, value in fields.items() if key not in outside}

    def differences(self, old: Recipe) -> list[str]:
        """What makes this recipe another one than `old`, a clause each."""
        new_fields, old_fields = self._hashed_fields(), old._hashed_fields()
        return [
            f"{key} was {old_fields.get(key)!r} and is {new_fields.get(key)!r}"
            for key in dict.fromkeys([*new_fields, *old_fields])
            if new_fields.get(key) != old_fields.get(key)
        ]

    @property
    def hash(self) -> str:
        """16 hex digits over all that affects the weights. Suites and tasks count only if the data are decontaminated."""
        return hashlib.sha256(canonical_json(self._hashed_fields()).encode()).hexdigest()[:16]

    @property
    def data_hash(self) -> str:
        """16 hex digits over all that affects the prepared rows."""
        outside = FIELDS_OUTSIDE_DATA | ({"batch"} if self.counts_rows else set())
        kept = {key: value for key, value in self._hashed_fields().items() if key not in outside}
        return hashlib.sha256(canonical_json(kept).encode()).hexdigest()[:16]

    def complete(self) -> Recipe:
        """The recipe with a name filled in. Raises `UsageError` if the model or the data are missing."""
        if not self.model:
            raise UsageError("No model is named. --model, or the recipe's 'model', says what training starts from.")
        if not self.data:
            raise UsageError(
                "No data are named. --dataset, or the recipe's 'data', says what is trained on; 'evalkit list recipes' shows recipes."
            )
        if self.learns_from_pairs:
            if self.batch_of == "tokens":
                raise UsageError(
                    "Preferences are learned from whole pairs: --batch-of takes rows (or examples) with them."
                )
            if any(item.task is not None for item in self.data):
                raise UsageError("A task's own split has no preference pairs. Choose --method sft or lora.")
        elif self.loss != "sigmoid":
            raise UsageError("--loss is one of preference tuning. Choose --method dpo or dpo-lora, or leave it out.")
        if self.counts_rows:
            _ = self.accumulation
        if self.name:
            return self
        base = re.sub(r"[^\w.+-]", "-", self.model.partition("@")[0].rstrip("/").rsplit("/", 1)[-1]).lstrip("-._+")
        return self.model_copy(update={"name": f"{base or 'model'}-{self.method}"})


def make_recipe(fields: Mapping[str, Any], where: str = "") -> Recipe:
    """Validate `fields` as a `Recipe`. Raises `UsageError` that names the file, the field and the problem."""
    prefix = f"{where}: " if where else ""
    for key in fields:
        if key not in Recipe.model_fields:
            raise UnknownName(
                "field of a recipe", str(key), Recipe.model_fields, f"It stands in {where}." if where else ""
            )
    try:
        return Recipe.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"]) or "the recipe"
        if first["type"] == "extra_forbidden":
            raise UnknownName(
                "field of a data set", str(first["loc"][-1]), DataItem.model_fields, f"It stands in {prefix}{location}."
            ) from None
        message = str(first["msg"]).removeprefix("Value error, ")
        shown = repr(first.get("input"))
        raise UsageError(f"{prefix}{location} cannot be {shown[:80]}: {message[:1].lower() + message[1:]}.") from None
