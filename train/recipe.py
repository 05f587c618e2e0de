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
from evalkit.options import Numbers, option_field
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

RENAMED_FIELDS = {"clip": "max_grad_norm"}
"""Old names of fields, which recipe files may still use."""
FIELDS_OUTSIDE_HASH = {
    "description", "sources", "output", "folder", "log_every", "report_to", "eval_every", "eval_suite", "eval_limit",
    "apply_chat_template", "limit", "sample", "gen_kwargs", "allow_code_execution", "data_source", "device", "threads", "keep", "processes", "accelerate_config",
    "micro_batch", "gradient_checkpointing", "save_dtype", "save_every",
}  # fmt: skip
"""Fields that do not affect the weights, or only by the order in which sums are rounded: a run can be resumed when they differ."""
FIELDS_OUTSIDE_DATA = {
    "epochs", "max_steps", "learning_rate", "schedule", "warmup", "weight_decay", "max_grad_norm", "loss", "beta", "lora_rank",
    "lora_alpha", "lora_dropout", "lora_targets",
}  # fmt: skip
"""Fields that affect the weights and not the rows."""
TASK_DATA_FIELDS = ("apply_chat_template", "data_source")
"""Of these, what affects the rows where a data set is a task's own split."""


class DataItem(Written):
    """One data set of a mixture. As a string: ``DATASET[,split=S][,config=C][,count=N][,weight=W][,revision=R]``."""

    model_config = ConfigDict(frozen=True)

    dataset: str = Field(
        description="Hub repository, .jsonl or .parquet file, a folder of such files, a built-in dataset, or task:NAME."
    )
    split: str = Field("train", description="Split of a hub repository or a task.")
    config: str | None = Field(None, description="Configuration of a hub repository.")
    revision: str | None = Field(None, description="Commit or branch of a hub repository.")
    count: int | None = Field(None, ge=1, description="Number of rows, sampled at random. Default: all.")
    weight: float | None = Field(
        None, gt=0, description="Passes over the rows per epoch: 0.5 uses half of them, 2 each of them twice."
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
                raise ValueError(f"'{part}' is not one of split=, config=, count=, weight=, revision=")
            fields[match[1]] = match[2]
        return fields

    @model_validator(mode="after")
    def _count_or_weight(self) -> DataItem:
        if self.count is not None and self.weight is not None:
            raise ValueError(f"{self.dataset} has both a count and a weight, which cannot be combined")
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
    "Model and data", "Training", "LoRA", "DPO", "Hardware and output", "Evaluation",
)  # fmt: skip


class Recipe(Written):
    """One fine-tuning run."""

    model_config = ConfigDict(frozen=True)

    description: str = ""
    sources: list[str] = Field(default_factory=list)
    """Where the hyper-parameters were published."""

    name: str = option_field("", WHAT, "Name under which the trained model is registered.")
    model: str = option_field(
        "",
        WHAT,
        "Base model: registered name, hub repository or folder, optionally with @REVISION.",
    )
    tokenizer: str | None = option_field(
        None, WHAT, "Folder, hub repository or tokenizer.json to use if the checkpoint has no tokenizer."
    )
    data: list[DataItem] = Field(default_factory=list)
    """The mixture that is trained on."""
    template: str = option_field(
        "tulu",
        WHAT,
        "Chat template: tulu, chatml, plain, or tokenizer (the checkpoint's own).",
    )
    method: Method = option_field(
        "sft",
        WHAT,
        "Training method: sft (all weights), lora, qlora (LoRA on 4-bit weights, CUDA only), dpo or dpo-lora (preference pairs).",
    )
    deduplicate: bool = option_field(True, WHAT, "Drop duplicate examples (ignoring whitespace).")
    decontaminate: bool = option_field(
        True,
        WHAT,
        "Drop examples that contain a paragraph (13 words or more) of the evaluation texts.",
    )
    held_out: int = option_field(
        200,
        WHAT,
        "Number of examples held out from training and scored before and after as the task instructions/NAME; 0 for none.",
        ge=0,
    )
    max_examples: int | None = option_field(None, WHAT, "Maximum number of training examples, sampled at random.", ge=1)

    epochs: float = option_field(2.0, HOW, "Number of epochs.", gt=0)
    max_steps: int | None = option_field(None, HOW, "Maximum number of steps; overrides --epochs.", ge=1)
    learning_rate: float = option_field(2e-5, HOW, "Peak learning rate.", gt=0)
    schedule: str = option_field("linear", HOW, f"Learning-rate schedule after warm-up: {', '.join(SCHEDULES)}.")
    warmup: float = option_field(
        0.03, HOW, "Warm-up, as a fraction of all steps (below 1) or as a number of steps.", ge=0
    )
    weight_decay: float = option_field(0.0, HOW, "AdamW weight decay.", ge=0)
    max_grad_norm: float = option_field(1.0, HOW, "Clip gradients to this norm; 0 disables clipping.", ge=0)
    batch: int = option_field(128, HOW, "Effective batch size over all devices, in the unit of --batch-of.", ge=1)
    batch_of: BatchUnit = option_field(
        "rows",
        HOW,
        "Unit of --batch: rows (a packed row counts as one, and so does a pair), examples, or tokens.",
    )
    micro_batch: int = option_field(
        1, HOW, "Sequences per device and forward pass; gradients are accumulated up to --batch.", ge=1
    )
    max_length: int = option_field(2048, HOW, "Maximum sequence length in tokens; longer ones are truncated.", ge=8)
    packing: bool = option_field(
        True,
        HOW,
        "Pack several examples into one row, without attention across examples. Not available for DPO, and disabled for "
        "architectures that cannot separate packed examples.",
    )
    seed: int = option_field(42, HOW, "Random seed (sampling, shuffling, held-out split, adapter initialisation).")

    lora_rank: int = option_field(64, LORA, "LoRA rank.", ge=1)
    lora_alpha: float = option_field(16, LORA, "LoRA alpha; updates are scaled by alpha / rank.", gt=0)
    lora_dropout: float = option_field(0.1, LORA, "LoRA dropout.", ge=0, lt=1)
    lora_targets: str = option_field(
        "all-linear", LORA, "Layers to adapt: all-linear, or a comma-separated list of module names."
    )
    loss: PairLoss = option_field(
        "sigmoid",
        DPO,
        "Preference loss: sigmoid (standard DPO), sigmoid_norm (length-normalised, as in TÜLU 3 and OLMo 2 with beta 5), or ipo.",
    )
    beta: float = option_field(0.1, DPO, "DPO beta: strength of the pull towards the reference model.", gt=0)

    dtype: Literal["auto", "float32", "bfloat16"] = option_field(
        "auto",
        MACHINE,
        "Compute dtype. auto: bfloat16 on CUDA where supported, float32 on CPU. Trained weights stay in float32.",
    )
    save_dtype: Literal["auto", "float32", "bfloat16"] = option_field(
        "auto",
        MACHINE,
        "Dtype of the saved weights. auto: the base model's on CUDA, float32 on CPU.",
    )
    gradient_checkpointing: bool = option_field(
        False, MACHINE, "Recompute activations in the backward pass: less memory, about 20 % slower."
    )
    attention: str = option_field(
        "auto",
        MACHINE,
        "Attention implementation: auto (FlashAttention 2 if installed, else the architecture's default), sdpa, eager or "
        "flash_attention_2.",
    )
    device: str = option_field("auto", MACHINE, "Device: cpu, cuda, cuda:N, or auto. Each process uses one device.")
    threads: int | None = option_field(None, MACHINE, "Number of CPU threads.", ge=1)
    processes: int = option_field(
        1,
        MACHINE,
        "Number of processes, one per device, launched with torchrun, or with accelerate if --accelerate-config is given.",
        ge=1,
    )
    accelerate_config: str | None = option_field(
        None,
        MACHINE,
        "Launch with accelerate: fsdp (built in), or an accelerate configuration file.",
    )
    save_every: int | None = option_field(None, MACHINE, "Save a checkpoint every N steps. Default: every epoch.", ge=1)
    keep: int | None = option_field(None, MACHINE, "Keep only the last N checkpoints. Default: all.", ge=1)
    log_every: int = option_field(1, MACHINE, "Log every N steps.", ge=1)
    report_to: list[str] = option_field(
        [], MACHINE, "Experiment trackers to log to: tensorboard, wandb or trackio. May be repeated."
    )
    folder: str = option_field("trained", MACHINE, "Folder for trained models; this one is saved in FOLDER/NAME.")
    trust_remote_code: bool = option_field(
        False, MACHINE, "Run Python code that comes with the checkpoint. Only for checkpoints that you trust."
    )

    suites: list[str] = option_field([], SCORE, "Suite to score before and after. May be repeated.", option="--suite")
    tasks: list[str] = option_field([], SCORE, "Task to score before and after. May be repeated.", option="--task")
    apply_chat_template: bool | None = option_field(None, SCORE, "Score with the chat template, both before and after.")
    limit: int | None = option_field(
        None, SCORE, "Score at most N documents per task. The result is marked as limited.", ge=1
    )
    sample: int | None = option_field(
        None, SCORE, "Score N random documents per task instead of the first N. The result is marked as limited.", ge=1
    )
    data_source: str | None = option_field(
        None, SCORE, "Where evaluation datasets are read from: bundle, hub or a folder."
    )
    gen_kwargs: Numbers = option_field(
        {},
        SCORE,
        "How text is generated when scoring, as in 'temperature=0.8,n=10'. Default: what each task asks for.",
        "KEY=VALUE,…",
    )
    allow_code_execution: bool = option_field(
        False,
        SCORE,
        "Run programs that the model writes when it is scored, in a sandbox without network. Coding tasks need it.",
    )
    eval_every: int | None = option_field(None, SCORE, "Score the model every N steps during training.", ge=1)
    eval_suite: str = option_field("quickstart", SCORE, "Suite for --eval-every.")
    eval_limit: int | None = option_field(50, SCORE, "Documents per task for --eval-every.", ge=1)
    output: str = option_field("results", SCORE, "Results folder.")

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if value and not NAME.match(value):
            raise ValueError("a name consists of letters, digits and . _ + - (no slash, no @)")
        return value

    @field_validator("sample")
    @classmethod
    def _is_alone(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("limit") is not None:
            raise ValueError("--sample and --limit cannot be combined")
        return value

    @field_validator("schedule")
    @classmethod
    def _is_schedule(cls, value: str) -> str:
        if value not in SCHEDULES:
            raise ValueError(f"must be one of {', '.join(SCHEDULES)}")
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
                f"--batch {self.batch} is not a multiple of {per_step} (processes × micro-batch: {self.processes} × "
                f"{self.micro_batch})."
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
            raise UsageError("No base model given. Use --model, or 'model' in the recipe.")
        if not self.data:
            raise UsageError(
                "No training data given. Use --dataset, or 'data' in the recipe; 'evalkit list recipes' lists built-in recipes."
            )
        if self.learns_from_pairs:
            if self.batch_of == "tokens":
                raise UsageError("--batch-of tokens is not available for preference training. Use rows or examples.")
            if any(item.task is not None for item in self.data):
                raise UsageError("A task's train split has no preference pairs. Use --method sft or lora.")
        elif self.loss != "sigmoid":
            raise UsageError("--loss applies only to preference training (--method dpo or dpo-lora).")
        if self.counts_rows:
            _ = self.accumulation
        if self.name:
            return self
        base = re.sub(r"[^\w.+-]", "-", self.model.partition("@")[0].rstrip("/").rsplit("/", 1)[-1]).lstrip("-._+")
        return self.model_copy(update={"name": f"{base or 'model'}-{self.method}"})


def current_names(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a stored or written recipe under their current names. Raises `UsageError` if one is given under both."""
    renamed = {str(key).replace("-", "_"): value for key, value in fields.items()}
    for old, new in RENAMED_FIELDS.items():
        if old in renamed and new in renamed:
            raise UsageError(f"{where}: '{old}' is the old name of '{new}'. Keep only '{new}'.")
        if old in renamed:
            renamed[new] = renamed.pop(old)
    return renamed


def make_recipe(fields: Mapping[str, Any], where: str = "") -> Recipe:
    """Validate `fields` as a `Recipe`. Raises `UsageError` that names the file, the field and the problem."""
    prefix = f"{where}: " if where else ""
    for key in fields:
        if key in RENAMED_FIELDS:
            raise UsageError(f"{prefix}'{key}' is now called '{RENAMED_FIELDS[key]}'.")
        if key not in Recipe.model_fields:
            raise UnknownName("recipe field", str(key), Recipe.model_fields, f"(In {where}.)" if where else "")
    try:
        return Recipe.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"]) or "the recipe"
        if first["type"] == "extra_forbidden":
            raise UnknownName(
                "dataset field", str(first["loc"][-1]), DataItem.model_fields, f"(In {prefix}{location}.)"
            ) from None
        message = str(first["msg"]).removeprefix("Value error, ")
        shown = repr(first.get("input"))
        raise UsageError(f"{prefix}{location} cannot be {shown[:80]}: {message[:1].lower() + message[1:]}.") from None
