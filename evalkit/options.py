"""The single definition of every run option: its name, type, default, help text and panel on the command line.

`ModelSelection` selects checkpoints, `ScoringOptions` says how they are scored, and `RunOptions` adds suites, tasks and the
output; `LeaderboardOptions` are those of a leaderboard. The command line (`evalkit.commands.model_options`), ``--config``
files and `evalkit.run` all build one `RunOptions`, which reaches the runner and is stored in ``run.json`` as ``settings``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from evalkit.errors import UsageError
from evalkit.records import PrefixPolicy, Window
from evalkit.system.documents import Written
from evalkit.system.masking import mask_values
from evalkit.task import TaskOptions

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

WHICH, WHAT, HOW, RESULTS = "Model", "Tasks and data", "Scoring", "Results"
ROWS, WRITTEN = "Rows and columns", "Output"
TABLE = "Tables for papers and scripts"
DEFAULT_SEED = TaskOptions().seed
SHORT_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def _as_tuple(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, (str, Path, int, float)) and not isinstance(value, bool):
        return (str(value),)
    return (
        tuple(str(item) if isinstance(item, Path) else item for item in value)
        if isinstance(value, (list, tuple))
        else value
    )


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, (int, Path)) and not isinstance(value, bool) else value


def _as_mapping(value: Any) -> Any:
    """``key=value`` strings, or a mapping, as a mapping of strings."""
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    pairs = {}
    for pair in _as_tuple(value):
        key, sign, item = str(pair).partition("=")
        if not sign or not key.strip():
            raise ValueError(f"--engine-arg takes KEY=VALUE, not '{pair}'")
        pairs[key.strip()] = item.strip()
    return pairs


GENERATION_NUMBERS: dict[str, tuple[type, float, float]] = {
    "max_tokens": (int, 1, 10**9),
    "temperature": (float, 0, 100),
    "top_p": (float, 1e-9, 1),
    "n": (int, 1, 10**6),
    "seed": (int, 0, 2**62),
}
"""What ``--gen-kwargs`` takes: its type, and the least and the largest value."""
GENERATION_ALIASES = {"max_gen_toks": "max_tokens", "max_new_tokens": "max_tokens"}
"""Other tools' names."""


def _as_generation(value: Any) -> Any:
    """``temperature=0.8,n=10``, several of these, or a mapping, as a mapping of numbers in the order of `GENERATION_NUMBERS`."""
    if isinstance(value, Mapping):
        pairs = [(str(key), str(item)) for key, item in value.items()]
    else:
        written = [part for text in _as_tuple(value) for part in str(text).split(",") if part.strip()]
        pairs = [(key.strip(), item.strip()) for key, _, item in (part.partition("=") for part in written)]
    found: dict[str, float] = {}
    for key, item in pairs:
        name = GENERATION_ALIASES.get(key, key)
        if name not in GENERATION_NUMBERS:
            hint = " Sampling is on where the temperature is above 0" if key == "do_sample" else ""
            raise ValueError(
                f"--gen-kwargs has no '{key}'; it takes {', '.join(GENERATION_NUMBERS)}.{hint}".rstrip(".")
            )
        kind, least, most = GENERATION_NUMBERS[name]
        try:
            number = kind(item)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            what = "a whole number" if kind is int else "a number"
            least_shown = "above 0" if name == "top_p" else f"of {least:g} or more"
            upper = f" and at most {most:g}" if name in ("top_p", "temperature") else ""
            raise ValueError(f"--gen-kwargs {key} takes {what} {least_shown}{upper}, as in {key}=1, not '{item}'")
        found[name] = number
    return {name: found[name] for name in GENERATION_NUMBERS if name in found}


Numbers = Annotated[dict[str, int | float], BeforeValidator(_as_generation)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Text = Annotated[str | None, BeforeValidator(_as_text)]
Pairs = Annotated[dict[str, str], BeforeValidator(_as_mapping)]


def option_field(
    default: Any, panel: str, text: str, metavar: str = "", *, shown: str = "", option: str = "", **limits: Any
) -> Any:
    """A field with its command-line presentation: panel, help text, metavar, default in words (`shown`), option name."""
    extra = {"panel": panel, "metavar": metavar, "shown": shown, "option": option}
    return Field(
        default, description=text, json_schema_extra={key: value for key, value in extra.items() if value}, **limits
    )


def option_name(model: type[BaseModel], field: str) -> str:
    """The command-line option of a field."""
    extra = model.model_fields[field].json_schema_extra
    explicit = extra.get("option") if isinstance(extra, dict) else None
    return str(explicit or "--" + field.replace("_", "-"))


class Options(Written):
    """A frozen record of options, validated from what the user wrote."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def make(cls, fields: Mapping[str, Any], *, command: str, where: str = "", given: Collection[str] = ()) -> Self:
        """Validate `fields`, whose names may contain dashes and may be option names (``engine-arg``, ``no-report``).

        Raises `UsageError` naming `command`, the option and what is wrong with it, and the file `where` it was read from
        (not for fields `given` on the command line).
        """
        prefix = f"{where}: " if where else ""
        known = cls.field_by_option_name()
        values: dict[str, Any] = {}
        for key, value in fields.items():
            name = str(key).replace("_", "-")
            field = known.get(name)
            if field is None and name.startswith("no-") and isinstance(value, bool):
                field, value = known.get(name.removeprefix("no-")), not value
            if field is None:
                suggestions = get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f" Did you mean '{suggestions[0]}'?" if suggestions else ""
                raise UsageError(f"{prefix}'{command}' has no option '{key}'.{hint}")
            values[field] = value
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            message = str(first["msg"]).removeprefix("Value error, ")
            if message.startswith("--"):
                raise UsageError(f"{prefix}{message}.") from None
            field = str(first["loc"][0])
            location = "" if field in given else prefix
            message = message[:1].lower() + message[1:]
            raise UsageError(
                f"{location}{option_name(cls, field)} cannot be {values.get(field)!r}: {message}."
            ) from None

    @classmethod
    def field_by_option_name(cls) -> dict[str, str]:
        """Every accepted name of a field (with dashes) and the field it means."""
        by_field_name = {field.replace("_", "-"): field for field in cls.model_fields}
        return by_field_name | {option_name(cls, field).removeprefix("--"): field for field in cls.model_fields}


class ModelSelection(Options):
    """Selects the checkpoints to score."""

    model: Names = option_field(
        (),
        WHICH,
        "Registered name, Hugging Face repository or folder, optionally with @REVISION. May be repeated.",
        "M[@REV]",
    )
    revisions: Names = option_field(
        (), WHICH, "Score every revision that matches: 'step*', '*-tokens84B', '*'. May be repeated.", "GLOB"
    )
    every: Text = option_field(
        None,
        WHICH,
        "Pick the revisions closest to every N tokens or steps of training, plus the first and the last.",
        "100B|1000steps",
    )
    max_points: int | None = option_field(
        None,
        WHICH,
        "Pick at most N revisions, spread evenly over tokens, including the first and the last of each stage.",
        "N",
        ge=2,
    )
    stage: int | None = option_field(None, WHICH, "Only revisions of this training stage.", "N")
    adapter: Path | None = option_field(
        None, WHICH, "Folder with a LoRA adapter (PEFT format), merged into the model before scoring.", "DIR"
    )
    tokenizer: Text = option_field(
        None,
        WHICH,
        "Folder, hub repository or tokenizer.json to use if the checkpoint has no tokenizer.",
        "T",
    )
    trust_remote_code: bool = option_field(
        False, WHICH, "Run Python code that comes with the checkpoint. Only for checkpoints that you trust."
    )
    verify: bool = option_field(
        False, HOW, "Hash all weight files again, including those that have not changed since they were last hashed."
    )
    delete_downloads: bool = option_field(
        False,
        HOW,
        "Delete each checkpoint that this run downloads as soon as it is scored, so that a sweep needs disk space for two.",
    )


class ScoringOptions(Options):
    """How checkpoints are scored: documents, encoding, engine."""

    split: str | None = option_field(None, WHAT, "Dataset split to use instead of the default.", "NAME")
    shots: int | None = option_field(None, WHAT, "Number of few-shot examples.", "N", ge=0)
    limit: int | None = option_field(
        None,
        WHAT,
        "Score at most N documents per task (per domain for text tasks). The result is marked as limited.",
        "N",
        ge=1,
    )
    sample: int | None = option_field(
        None,
        WHAT,
        "Score N random documents per task (per domain for text tasks) instead of the first N. The result is marked as "
        "limited.",
        "N",
        ge=1,
    )
    seed: int = option_field(DEFAULT_SEED, WHAT, "Random seed for --sample.", "S", ge=0)
    data: Path | None = option_field(None, WHAT, "Folder with your own copy of the dataset.", "DIR")
    data_source: Text = option_field(
        None,
        WHAT,
        "Where datasets are read from: the offline bundle, the Hugging Face Hub, or a folder of files. Default: the Hub if it "
        "can be reached, else the bundle.",
        "bundle|hub|DIR",
    )
    bundle: Path | None = option_field(
        None, WHAT, "Path of the offline bundle, for machines that cannot download it.", "FILE"
    )
    tasks_dir: Path | None = option_field(
        None,
        WHAT,
        "Folder with your own tasks and suites: YAML files, and Python files, which are executed.",
        "DIR",
    )
    lm_eval_path: Path | None = option_field(
        None,
        WHAT,
        "Folder with your own task files of lm-evaluation-harness, for --task lm-eval/NAME. Functions that they name are "
        "executed.",
        "DIR",
    )
    window: Window = option_field(
        "strict",
        HOW,
        "How texts longer than the context are split into windows; see docs/scoring.md.",
        "strict|catwalk",
    )
    prefix_token: PrefixPolicy = option_field("eos", HOW, "Token to put before each text.", "eos|bos")
    max_length: int | None = option_field(
        None, HOW, "Maximum context length in tokens. Default: the model's, which is also the upper limit.", "N", ge=1
    )
    apply_chat_template: bool = option_field(
        False,
        HOW,
        "Format questions as a user message with the checkpoint's chat template. Text tasks are not affected.",
    )
    gen_kwargs: Numbers = option_field(
        {},
        HOW,
        "How text is generated: max_tokens, temperature, top_p, seed, and n texts per prompt, as in 'temperature=0.8,n=10'. "
        "Default: what each task asks for.",
        "KEY=VALUE,…",
    )
    allow_code_execution: bool = option_field(
        False,
        HOW,
        "Run programs that the model writes, in a sandbox without network. Coding tasks need it; see docs/code-execution.md.",
    )
    engine: str = option_field("auto", HOW, "Inference engine; 'evalkit list engines' lists them.", "NAME")
    engine_args: Pairs = option_field(
        {}, HOW, "Engine-specific option. May be repeated.", "KEY=VALUE", option="--engine-arg"
    )
    device: str = option_field("auto", HOW, "Device: cpu, cuda, cuda:1, or auto.", "D")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option_field(
        "auto",
        HOW,
        "Data type of the weights: float32, bfloat16, float16, or auto (float32 on CPU, the checkpoint's on CUDA).",
        "T",
    )
    batch_tokens: int | None = option_field(
        None,
        HOW,
        "Tokens per batch. By default the engine chooses. Halved when memory runs out.",
        "N",
        ge=1,
    )
    cross_check: int | None = option_field(
        None,
        HOW,
        "Re-score N requests with the other engine (transformers or vllm) and report the differences.",
        "N",
        ge=1,
    )
    save_tokens: bool = option_field(
        False,
        RESULTS,
        "Store per-token log-probabilities for all texts rather than a sample.",
    )
    domain_weights: Path | dict[str, Any] | None = option_field(
        None,
        RESULTS,
        "YAML or JSON file with 'source: weight', or 'source:' with 'domain: weight' nested under it. Adds the perplexity of "
        "this mixture to text suites.",
        "FILE",
    )

    @model_validator(mode="after")
    def _takes_one_choice(self) -> Self:
        if self.sample is not None and self.limit is not None:
            raise ValueError("--sample and --limit cannot be combined")
        if self.sample is None and self.seed != DEFAULT_SEED:
            raise ValueError("--seed has an effect only together with --sample N")
        return self

    @property
    def task_options(self) -> TaskOptions:
        """The options passed to each task."""
        return TaskOptions(
            split=self.split,
            shots=self.shots,
            limit=self.limit,
            sample=self.sample,
            seed=self.seed,
            data_source=self.data_source,
            data=self.data,
            bundle=self.bundle,
            max_length=self.max_length,
            generation=dict(self.gen_kwargs),
            allow_code=self.allow_code_execution,
            trust_remote_code=bool(getattr(self, "trust_remote_code", False)),
            lm_eval_path=self.lm_eval_path,
        )

    def scores_alike(self, settings: Mapping[str, Any]) -> bool:
        """Whether a run with these `settings` (from its ``run.json``) agrees in every option that affects scores."""
        compared = set(ScoringOptions.model_fields) - _SCORE_IRRELEVANT
        defaults = ScoringOptions().model_dump(mode="json", include=compared)
        own = self.model_dump(mode="json", include=compared)
        return all(settings.get(name, defaults[name]) == value for name, value in own.items())


_SCORE_IRRELEVANT = {"device", "batch_tokens", "cross_check", "save_tokens", "bundle", "allow_code_execution"}
"""Fields of `ScoringOptions` that leave scores as they are, or change them by rounding alone."""


class RunOptions(ScoringOptions, ModelSelection):
    """All options of ``evalkit run``."""

    suite: Names = option_field(
        (), WHAT, "Suite, or a folder of texts; a comma-separated list or a glob selects several. May be repeated.", "S"
    )
    task: Names = option_field(
        (),
        WHAT,
        "Task as NAME[:FORM][::REGIME]; a comma-separated list or a glob ('mmlu/*', 'arc_*') selects several. May be "
        "repeated.",
        "T",
    )
    output: Path = option_field(Path("results"), RESULTS, "Results folder.", "DIR")
    samples: Text = option_field(
        None,
        RESULTS,
        "Documents per task to include in the report, with prompts and tokens (default: about 20). Texts of gated datasets are "
        "stored and shown only if you set this.",
        "N|all|none",
    )
    report: bool = option_field(True, RESULTS, "Write report.html for each run and for each sweep over revisions.")
    dry_run: bool = option_field(False, HOW, "Show what would be scored, without loading the model.")
    force: bool = option_field(False, HOW, "Score again, even if results exist.")

    @property
    def stores_gated_texts(self) -> bool:
        """Whether ``--samples`` asks for documents by number, which includes those of gated data sets."""
        return self.samples is not None and self.samples.strip().lower() not in ("none", "0")

    def settings(self) -> dict[str, Any]:
        """The ``settings`` of ``run.json``: model selection and scoring options as JSON values, without secrets."""
        names = {*ModelSelection.model_fields, *ScoringOptions.model_fields} - {"model", "verify", "delete_downloads"}
        settings = self.model_dump(mode="json", include=names)
        return {name: mask_values(value) for name, value in settings.items()}

    def variation(self, engine: str, default_engine: str) -> tuple[str, ...]:
        """The non-default options as they appear in a run folder's name: ``limit10``, ``shots0``, ``vllm``, ``bf16``."""
        parts = [
            (f"limit{self.limit}", self.limit is not None),
            (f"sample{self.sample}", self.sample is not None),
            (f"seed{self.seed}", self.seed != DEFAULT_SEED),
            (f"shots{self.shots}", self.shots is not None),
            (str(self.split), self.split is not None),
            (self.window, self.window != "strict"),
            (self.prefix_token, self.prefix_token != "eos"),
            (f"length{self.max_length}", self.max_length is not None),
            ("chat", self.apply_chat_template),
            *((f"{name.replace('_', '')}{value:g}", True) for name, value in self.gen_kwargs.items()),
            (engine, engine != default_engine),
            (SHORT_DTYPES.get(self.dtype, self.dtype), self.dtype != "auto"),
            (f"adapter-{self.adapter and self.adapter.resolve().name}", self.adapter is not None),
            (f"tokenizer-{Path(self.tokenizer or '').name}", self.tokenizer is not None),
        ]
        return tuple(part for part, is_changed in parts if is_changed)


class TableOptions(Options):
    """How a table is written in formats other than HTML and JSON, which have all of it."""

    columns: Text = option_field(
        None,
        TABLE,
        "Show only these columns, in this order, given by heading or short name. Not for html and json.",
        "A,B,…",
    )
    transpose: bool = option_field(False, TABLE, "Show models as columns. Not for html and json.")
    errors: bool = option_field(True, TABLE, "latex: show standard errors next to scores.")
    precision: int | None = option_field(
        None, TABLE, "latex: number of decimals. Default: depends on the metric.", "N", ge=0, le=6
    )
    caption: Text = option_field(None, TABLE, "latex: caption of the table.", "TEXT")
    label: Text = option_field(None, TABLE, "latex: label of the table.", "NAME")
    text_width: float | None = option_field(
        None, TABLE, "latex: text width of the page in points; wider tables are split.", "PT", shown="453", ge=100
    )


class LeaderboardOptions(TableOptions):
    """Which runs and columns a leaderboard shows, and how."""

    suites: Names = option_field((), ROWS, "Only runs of this suite. May be repeated.", "GLOB", option="--suite")
    tasks: Names = option_field(
        (), ROWS, "Only tasks whose full name matches: 'arc_*'. May be repeated.", "GLOB", option="--task"
    )
    models: Names = option_field(
        (), ROWS, "Only models whose name matches: 'olmo-1b*'. May be repeated.", "GLOB", option="--model"
    )
    metrics: Names = option_field(
        (),
        ROWS,
        "Show this metric instead of each task's primary one: acc, bits_per_byte, token_perplexity. May be repeated.",
        "NAME",
        option="--metric",
    )
    baselines: Names = option_field(
        (),
        ROWS,
        "Published results to show: a name, a YAML file, or none. May be repeated. Default: all built-in ones that are "
        "comparable with a column.",
        "NAME|FILE|none",
    )
    group_by: Literal["none", "model", "size", "stage", "engine", "tokenizer"] = option_field(
        "none", WRITTEN, "Group rows by this property.", "model|size|stage|engine|tokenizer|none"
    )
    ranks: Literal["auto", "documents", "errors", "none"] = option_field(
        "auto",
        WRITTEN,
        "How rank intervals are computed: from shared documents (paired, slower) or from standard errors (faster, wider). "
        "auto: documents unless there are many.",
        "auto|documents|errors|none",
    )
    title: str = option_field("", WRITTEN, "Heading.", "TEXT")


def with_options(model: type[Options]) -> Callable[[FunctionT], FunctionT]:
    """Decorator: expose the fields of `model` in the signature of a function that takes them as ``**options``."""

    def decorate(function: FunctionT) -> FunctionT:
        signature = inspect.signature(function)
        explicit = [
            parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD
        ]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in model.model_fields.items()
            if name not in signature.parameters
        ]
        function.__signature__ = signature.replace(parameters=[*explicit, *added])  # type: ignore[attr-defined]
        return function

    return decorate
