"""Every choice of a run, once: its name, type, default, help text and place on the command line.

`ModelSelection` says which checkpoints are scored, `ScoringOptions` how they are asked, and `RunOptions` is both with
what is asked and where results go; `LeaderboardOptions` are those of a leaderboard. The command line (`evalkit.commands.model_options`), ``--config`` files and
`evalkit.run` build one `RunOptions`; the same object reaches the runner and stands in ``run.json`` as ``settings``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from evalkit.errors import UsageError
from evalkit.records import PrefixPolicy, Window
from evalkit.task import TaskOptions

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

WHICH, WHAT, HOW, RESULTS = "What is scored", "On what", "How", "Results"
ROWS, WRITTEN = "Which rows and columns", "How it is written"
SHORT_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def _listed(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, (str, Path, int, float)) and not isinstance(value, bool):
        return (str(value),)
    return (
        tuple(str(one) if isinstance(one, Path) else one for one in value)
        if isinstance(value, (list, tuple))
        else value
    )


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, (int, Path)) and not isinstance(value, bool) else value


def _pairs(value: Any) -> Any:
    """``key=value`` strings, or a mapping, as a mapping of strings."""
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    pairs = {}
    for pair in _listed(value):
        key, sign, item = str(pair).partition("=")
        if not sign or not key.strip():
            raise ValueError(f"--engine-arg takes KEY=VALUE, not '{pair}'")
        pairs[key.strip()] = item.strip()
    return pairs


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Text = Annotated[str | None, BeforeValidator(_text)]
Pairs = Annotated[dict[str, str], BeforeValidator(_pairs)]


def choice(
    default: Any, panel: str, text: str, metavar: str = "", *, shown: str = "", option: str = "", **limits: Any
) -> Any:
    """A field with what the command line shows of it: panel, help text, metavar, default in words, name of the option."""
    extra = {"panel": panel, "metavar": metavar, "shown": shown, "option": option}
    return Field(
        default, description=text, json_schema_extra={key: value for key, value in extra.items() if value}, **limits
    )


class Options(BaseModel):
    """A frozen record of choices, and how it is made from what a person wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @classmethod
    def make(cls, fields: Mapping[str, Any], *, command: str, where: str = "", given: Collection[str] = ()) -> Self:
        """The record of `fields`, whose names may have dashes and may be those of the options (``engine-arg``, ``no-report``).

        Raises `UsageError` that names `command` or the file (`where`, except for fields that are `given` on the command
        line), the option, and what is wrong with it.
        """
        start = f"{where}: " if where else ""
        known = cls.names()
        chosen: dict[str, Any] = {}
        for key, value in fields.items():
            name = str(key).replace("_", "-")
            field = known.get(name)
            if field is None and name.startswith("no-") and isinstance(value, bool):
                field, value = known.get(name.removeprefix("no-")), not value
            if field is None:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise UsageError(f"{start}'{command}' has no option '{key}'.{hint}")
            chosen[field] = value
        try:
            return cls.model_validate(chosen)
        except ValidationError as error:
            first = error.errors()[0]
            message = str(first["msg"]).removeprefix("Value error, ")
            if message.startswith("--"):
                raise UsageError(f"{start}{message}.") from None
            field = str(first["loc"][0])
            place = "" if field in given else start
            message = message[:1].lower() + message[1:]
            raise UsageError(f"{place}{cls.option(field)} cannot be {chosen.get(field)!r}: {message}.") from None

    @classmethod
    def option(cls, field: str) -> str:
        """The name of a field's option on the command line."""
        extra = cls.model_fields[field].json_schema_extra
        named = extra.get("option") if isinstance(extra, dict) else None
        return str(named or "--" + field.replace("_", "-"))

    @classmethod
    def names(cls) -> dict[str, str]:
        """Every name that a field goes by, with dashes, and the field."""
        own = {field.replace("_", "-"): field for field in cls.model_fields}
        return own | {cls.option(field).removeprefix("--"): field for field in cls.model_fields}


class ModelSelection(Options):
    """Which checkpoints are scored."""

    model: Names = choice(
        (),
        WHICH,
        "A registered name, a Hugging Face repository, or a folder, with or without @REVISION. May be repeated.",
        "M[@REV]",
    )
    revisions: Names = choice(
        (), WHICH, "Score every revision whose name fits: 'step*', '*-tokens84B', '*'. May be repeated.", "GLOB"
    )
    every: Text = choice(
        None,
        WHICH,
        "Of the revisions (all, without --revisions) those nearest to every so many tokens or steps of training, and the "
        "first and last.",
        "100B|1000steps",
    )
    max_points: int | None = choice(
        None,
        WHICH,
        "At most N revisions, spread evenly by tokens, the first and last of each stage among them.",
        "N",
        ge=2,
    )
    stage: int | None = choice(None, WHICH, "Only revisions of this stage of training.", "N")
    adapter: Path | None = choice(
        None, WHICH, "A LoRA adapter as PEFT writes it, merged into the model before scoring.", "DIR"
    )
    tokenizer: Text = choice(
        None,
        WHICH,
        "A folder, hub repository or tokenizer.json, where the checkpoint has no tokenizer of its own.",
        "T",
    )
    trust_remote_code: bool = choice(
        False, WHICH, "Run the Python code that a checkpoint brings. Only for checkpoints that you trust."
    )
    verify: bool = choice(False, HOW, "Read every byte of the weights for the fingerprint.")


class ScoringOptions(Options):
    """How checkpoints are asked: documents, encoding, engine."""

    split: str | None = choice(None, WHAT, "The split to ask, in place of the regime's own.", "NAME")
    shots: int | None = choice(None, WHAT, "How many solved examples stand before each question.", "N", ge=0)
    limit: int | None = choice(
        None,
        WHAT,
        "Ask at most N documents a task, of texts N a domain. The result is marked as limited.",
        "N",
        ge=1,
    )
    data: Path | None = choice(None, WHAT, "The folder of a data set that you hold yourself.", "DIR")
    data_source: Text = choice(
        None,
        WHAT,
        "Where data sets come from: the offline bundle, the Hugging Face hub, or a folder of files. Without it the hub is "
        "tried, then the bundle.",
        "bundle|hub|DIR",
    )
    bundle: Path | None = choice(None, WHAT, "The offline bundle's file, for machines that cannot download it.", "FILE")
    tasks_dir: Path | None = choice(
        None, WHAT, "A folder with Python files that register tasks of your own. The files are run.", "DIR"
    )
    window: Window = choice(
        "strict",
        HOW,
        "How long texts are cut into windows (docs/scoring.md tells the difference).",
        "strict|catwalk",
    )
    prefix_token: PrefixPolicy = choice("eos", HOW, "The token that stands before a text.", "eos|bos")
    max_length: int | None = choice(None, HOW, "Positions to use, in place of the model's own number.", "N", ge=1)
    apply_chat_template: bool = choice(
        False,
        HOW,
        "Ask questions as a user's message in the checkpoint's chat template. Texts stay as they are.",
    )
    engine: str = choice("auto", HOW, "What runs the model; 'evalkit list engines' shows all.", "NAME")
    engine_args: Pairs = choice(
        {}, HOW, "A setting in the engine's own words. May be repeated.", "K=V", option="--engine-arg"
    )
    device: str = choice("auto", HOW, "cpu, cuda, cuda:1, or auto.", "D")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = choice(
        "auto",
        HOW,
        "float32, bfloat16, float16, or auto: float32 on a CPU, the checkpoint's own on CUDA.",
        "T",
    )
    batch_tokens: int | None = choice(
        None,
        HOW,
        "Tokens in one batch. Without it the engine chooses; it is halved when memory runs out.",
        "N",
        ge=1,
    )
    cross_check: int | None = choice(
        None,
        HOW,
        "Score N requests again on the other engine (transformers or vllm), and report how far the two are apart.",
        "N",
        ge=1,
    )
    save_tokens: bool = choice(
        False,
        RESULTS,
        "Keep the log-probability of every token of every text, not of a sample of texts alone.",
    )
    domain_weights: Path | dict[str, Any] | None = choice(
        None,
        RESULTS,
        "YAML or JSON with 'source: weight', or 'source:' with 'domain: weight' below it: suites of texts then have the "
        "perplexity of that mixture too.",
        "FILE",
    )

    @property
    def task_options(self) -> TaskOptions:
        """What tasks are made with."""
        return TaskOptions(
            split=self.split,
            shots=self.shots,
            limit=self.limit,
            data_source=self.data_source,
            data=self.data,
            bundle=self.bundle,
        )

    def same_question(self, settings: Mapping[str, Any]) -> bool:
        """Whether a run with these `settings` (of its ``run.json``) was asked in the same way: all that moves a score."""
        theirs = type(self).model_construct(**{name: settings[name] for name in _MOVE_SCORES if name in settings})
        return self.model_dump(mode="json", include=_MOVE_SCORES) == theirs.model_dump(
            mode="json", include=_MOVE_SCORES
        )


_MOVE_SCORES = {
    "split", "shots", "limit", "window", "prefix_token", "max_length", "apply_chat_template", "engine", "dtype",
    "data_source",
}  # fmt: skip


class RunOptions(ScoringOptions, ModelSelection):
    """All options of ``evalkit run``."""

    suite: Names = choice((), WHAT, "A suite, or a folder of texts. May be repeated.", "S")
    task: Names = choice((), WHAT, "A task, as NAME[:FORM][::REGIME]. May be repeated.", "T")
    output: Path = choice(Path("results"), RESULTS, "The folder of results.", "DIR")
    samples: Text = choice(
        None,
        RESULTS,
        "How many documents a task the report shows, with prompts and tokens. Without it about 20, and none of a gated data "
        "set.",
        "N|all|none",
        shown="20",
    )
    report: bool = choice(True, RESULTS, "Write report.html, for each run and for each sweep of revisions.")
    dry_run: bool = choice(False, HOW, "Print what would be scored, without loading the model.")
    force: bool = choice(False, HOW, "Score again what is already there.")

    def settings(self) -> dict[str, Any]:
        """What stands in ``run.json``: the choices of models and of scoring, as JSON values."""
        names = {*ModelSelection.model_fields, *ScoringOptions.model_fields} - {"model", "verify", "domain_weights"}
        return self.model_dump(mode="json", include=names)

    def variation(self, engine: str, default_engine: str) -> tuple[str, ...]:
        """What is not default, in the words that a run folder's name carries: ``limit10``, ``shots0``, ``vllm``, ``bf16``."""
        words = {
            f"limit{self.limit}": self.limit is not None,
            f"shots{self.shots}": self.shots is not None,
            str(self.split): self.split is not None,
            self.window: self.window != "strict",
            self.prefix_token: self.prefix_token != "eos",
            f"length{self.max_length}": self.max_length is not None,
            "chat": self.apply_chat_template,
            engine: engine != default_engine,
            SHORT_DTYPES.get(self.dtype, self.dtype): self.dtype != "auto",
            f"adapter-{self.adapter and self.adapter.resolve().name}": self.adapter is not None,
            f"tokenizer-{Path(self.tokenizer or '').name}": self.tokenizer is not None,
        }
        return tuple(word for word, given in words.items() if given)


class LeaderboardOptions(Options):
    """What stands in a leaderboard, and how."""

    suites: Names = choice((), ROWS, "Only runs of this suite. May be repeated.", "GLOB", option="--suite")
    tasks: Names = choice(
        (), ROWS, "Only tasks whose full name fits: 'arc_*'. May be repeated.", "GLOB", option="--task"
    )
    models: Names = choice(
        (), ROWS, "Only models whose name fits: 'olmo-1b*'. May be repeated.", "GLOB", option="--model"
    )
    metrics: Names = choice(
        (),
        ROWS,
        "Show this metric in place of each task's primary one: acc, bits_per_byte, token_perplexity. May be repeated.",
        "NAME",
        option="--metric",
    )
    baselines: Names = choice(
        (),
        ROWS,
        "Published rows: a name, a YAML file of your own, or none. May be repeated. Without it: all that ship and compare "
        "with a column.",
        "NAME|FILE|none",
    )
    group_by: Literal["none", "model", "size", "stage", "engine", "tokenizer"] = choice(
        "none", WRITTEN, "Put rows together.", "model|size|stage|engine|tokenizer|none"
    )
    ranks: Literal["auto", "documents", "errors", "none"] = choice(
        "auto",
        WRITTEN,
        "Where the intervals of ranks come from: a bootstrap over documents (reads them), or standard errors (quick, wider). "
        "auto: documents where they are few.",
        "auto|documents|errors|none",
    )
    title: str = choice("", WRITTEN, "The heading.", "TEXT")


def with_options(model: type[Options]) -> Callable[[FunctionT], FunctionT]:
    """Decorator: show the fields of `model` in the signature of a function that takes them as ``**options``."""

    def decorate(function: FunctionT) -> FunctionT:
        own = inspect.signature(function)
        fixed = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in model.model_fields.items()
            if name not in own.parameters
        ]
        function.__signature__ = own.replace(parameters=[*fixed, *more])  # type: ignore[attr-defined]
        return function

    return decorate
