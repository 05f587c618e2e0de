"""Descriptions of question sets: one YAML file a family, evalkit's own in ``tasks/sets``, a user's in ``--tasks-dir``.

A description is layers of the same settings: those of the file, of the regime, and of the form, the inner ones winning. What
stands in all of them is written once. `Settings` has every setting with its meaning; docs/tasks.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from evalkit.errors import UnknownName, UsageError
from evalkit.system.documents import Written, checked, read_yaml
from evalkit.task import TaskName
from evalkit.tasks.answers.extract import EXTRACTORS
from evalkit.tasks.answers.judge import JUDGES
from evalkit.tasks.regimes import REGIMES
from evalkit.tasks.rows import FUNCTIONS

Kind = Literal["choice", "continuation", "schema", "greedy", "generation"]
Templates = str | list[str]
SUFFIXES = (".yaml", ".yml")


class Data(Written):
    """Where the rows are. ``{part}`` in a name stands for the part that is asked for."""

    repo: str | None = None
    """On the hub, and in a folder of ``--data-source``."""
    config: str | dict[str, str] | None = None
    """Also a mapping, of parts to their configurations."""
    bundle: str = ""
    """In the offline bundle's tables."""
    requests: dict[str, str] = {}  # noqa: RUF012
    """Split to the file of requests of the bundle whose documents it is, where the bundle has no table of it."""
    sampled: list[str] = []  # noqa: RUF012
    """Those of `requests` of which the bundle has only the regime's own sample."""
    files: dict[str, str] = {}  # noqa: RUF012
    """Split to a file of rows beside the description, for a set that is on no hub."""


class Examples(Written):
    """Where the examples before a question come from. Without any of these lm-eval's way: drawn at random from `split`."""

    split: str = "train"
    """The split that they are rows of."""
    first: bool = False
    """The first rows of the split."""
    ids: list[str] = []  # noqa: RUF012
    """Rows of the split by the column `column`."""
    column: str = "id"
    """The column of `ids`."""
    bundle: str | None = None
    """A file of requests in the bundle that begin with them. ``{form}`` stands for ``mc`` or ``rc``."""
    begin: str | None = None
    """A regular expression that each of the bundle's examples begins with, where they have blank lines in them."""
    rows: list[dict[str, Any]] = []  # noqa: RUF012
    """Rows that stand in the description itself."""
    lm_eval: str | None = None
    """A file of the installed lm-evaluation-harness whose ``list_fewshot_samples`` they are: ``minerva_math/utils.py``."""
    seeded: bool = False
    """Drawn at random once for all documents, which are of the same split (`examples.seeded_examples`)."""
    avoids_document: bool = False
    """Of those drawn at random, whether one that equals the document is replaced (`examples.lm_eval_examples`)."""


class Sample(Written):
    """Splits with more than `above` rows are sampled."""

    above: int = Field(ge=0)
    """Splits of more rows are sampled."""
    size: int = Field(ge=1)
    """So many rows are drawn, by ``random.Random(1234).sample``."""


class Generating(Written):
    """How a model goes on from a prompt; ``--gen-kwargs`` comes before all of it but `stop`."""

    stop: list[str] = []  # noqa: RUF012
    """Strings that end a text: what stands before the first of them counts."""
    max_tokens: int = Field(default=256, ge=1)
    """The cap: at most so many tokens."""
    n: int = Field(default=1, ge=1)
    """How many texts are drawn for each prompt."""
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """0 takes the likeliest token; above it tokens are drawn."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Tokens are drawn from the likeliest ones that together have this probability."""

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if not all(value):
            raise ValueError("an empty stop string would end every text immediately")
        return value


class Program(Written):
    """The program that tests an answer of code: `before`, the extracted code, `after`. Templates."""

    before: str = ""
    """What stands before the code."""
    after: str = ""
    """What follows the code: its tests."""


class Settings(Written):
    """Everything about one variant of a question set. Strings are Jinja templates over a row's columns unless said otherwise.

    Templates also see ``index`` (of the row in its split), ``part`` and ``form`` (unless a column is called so), the names of
    `let`, ``options``, ``letters`` (A, B, …), ``lettered`` (a line " A. …" an option) and ``question``.
    """

    kind: Kind = "choice"
    """``choice``, ``schema`` (one answer after several contexts), ``continuation`` (one answer, in bits per byte), ``greedy``
    (one answer, right if each of its tokens is the likeliest), or ``generation`` (the model writes, and what it wrote is judged)."""
    data: Data | None = None
    """Where the rows are. A file's name alone is ``{files: {test: NAME}}``."""
    rows: dict[str, str] = {}  # noqa: RUF012
    """Source (``bundle``, ``hub``, ``folder``) to a function of `evalkit.tasks.rows` that brings its rows into one shape."""
    columns: dict[str, Any] = {}  # noqa: RUF012
    """Kinds of the columns (`evalkit.tasks.columns`)."""
    where: str | None = None
    """Only rows for which this expression is true are documents."""
    split: str = "test"
    """The split that is asked. No template."""
    id: str | None = None
    """A document's own name."""
    cluster: str | None = None
    """Documents of one cluster share a passage or a problem."""

    let: dict[str, Templates] = {}  # noqa: RUF012
    """Names for what several templates need, in order."""
    options: Templates = []  # noqa: RUF012
    """What can be chosen: a list of templates, or one whose value is a list."""
    gold: str = "0"
    """The position of the right option, from 0: ``"{{ options.index(answer) }}"`` where a column has its text."""
    question: str = ""
    """What is asked."""
    cue: str = "Answer:"
    """What follows the question and the lettered options, on a line of its own. No template."""
    context: str | None = None
    """What stands before the answer; by default the question and the cue, in the ``mc`` form with lettered options between."""
    contexts: Templates = []  # noqa: RUF012
    """Of a schema: one context an option."""
    answer: str = ""
    """What is scored: of a schema, of a continuation and of a greedy task. Of a generating one the answer in examples."""
    answers: Templates | None = None
    """What is scored of each option; by default the options, in the ``mc`` form their letters."""
    delimiter: str = " "
    """Between context and answer. No template."""
    example: str | None = None
    """An example before the question; by default context, delimiter and right answer. Also sees ``context`` and ``right``."""

    generation: Generating = Generating()
    """How a generating task's model goes on."""
    accepted: Templates | None = None
    """Of a generating task: all answers that are right, a list of templates or one whose value is a list; by default `answer`."""
    answer_prefix: str = ""
    """Of a generating task: how the answer begins; the model goes on from there."""
    extract: str = "stripped"
    """What of a text is judged: a function of `evalkit.tasks.answers.extract`. No template."""
    judge: str = "exact_match"
    """How it is judged: a name of `evalkit.tasks.answers.judge`. No template."""
    also: dict[str, str] = {}  # noqa: RUF012
    """More metrics: a name to another `extract`, whose find is judged in the same way."""
    program: Program | None = None
    """Of an answer that is code (`judge: program`): what is run, with ``--allow-code-execution`` alone."""

    preamble: str = ""
    """Stands before the examples. Sees no row."""
    separator: str = "\n\n"
    """Follows an example. No template."""
    shots: int | None = Field(None, ge=0)
    """How many examples; None for the regime's number (five in ``olmes`` and ``in-loop``, else none)."""
    examples: Examples = Examples()
    """Where they come from."""
    sample: Sample | bool | None = None
    """In place of the regime's own rule; false for none."""

    unconditional: bool | None = None
    """Whether options are also scored after ``Answer:`` alone; None for the regime's rule."""
    metrics: list[str] = []  # noqa: RUF012
    """More metrics than those of the kind and form."""
    primary: str | None = None
    """The metric that tables show and suites average; by default the kind's first."""
    gated: bool = False
    """Whether the rows' text must not be passed on: results hold none of it unless ``--samples`` asks for it."""
    version: int = 1
    """Raised when a prompt changes, so that results before and after are never compared."""

    @field_validator("gold", mode="before")
    @classmethod
    def _may_be_a_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("rows")
    @classmethod
    def _are_functions(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.values():
            if name not in FUNCTIONS:
                raise ValueError(f"there is no function '{name}'; there are {', '.join(FUNCTIONS)}")
        return value

    @field_validator("extract", "judge", "also")
    @classmethod
    def _are_known(cls, value: Any, info: ValidationInfo) -> Any:
        known: Sequence[str] = sorted(JUDGES if info.field_name == "judge" else EXTRACTORS)
        for name in value.values() if isinstance(value, dict) else [value]:
            if name not in known:
                raise ValueError(f"there is no '{name}'; there are {', '.join(known)}")
        return value

    @field_validator("data", mode="before")
    @classmethod
    def _may_be_a_file(cls, value: Any) -> Any:
        return {"files": {"test": value}} if isinstance(value, str) else value


class _Regime(Settings):
    forms: dict[str, dict[str, Any] | None] = {}  # noqa: RUF012


class _File(Settings):
    """A description's file."""

    description: str = ""
    """One line for lists."""
    short: str = ""
    """The name in narrow tables, such as those of papers."""
    aliases: list[str] = []  # noqa: RUF012
    """Other names under which people know the family."""
    parts: list[str] = []  # noqa: RUF012
    """Parts, each a task of its own as ``family/part``: the family alone pools them. ``{part}`` stands for one in `data`."""
    groups: dict[str, list[str]] = {}  # noqa: RUF012
    """Parts by a name of their own."""
    regimes: dict[str, dict[str, Any] | None] = {}  # noqa: RUF012
    """Published conventions (``lm-eval``, ``olmes``, ``olmo1``, ``in-loop``), each with settings of its own, and `forms`."""
    forms: dict[str, dict[str, Any] | None] = {}  # noqa: RUF012
    """Ways to ask, the default first, each with settings of its own: ``rc`` scores the texts of options, ``mc`` their letters,
    ``bpb`` the right one alone, ``gen`` has the model write; other names are free."""


FAMILY_KEYS = ("description", "short", "aliases", "parts", "groups", "regimes", "forms")


@dataclass(frozen=True)
class Definition:
    """A question set as its file describes it."""

    name: str
    path: Path
    values: Mapping[str, Any] = field(repr=False)
    """The file's content."""
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Settings in place of all layers' (`evalkit.tasks.labels`)."""

    @property
    def description(self) -> str:
        return " ".join(str(self.values.get("description", "")).split())

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(self.values.get("aliases", ()))

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(parts) for name, parts in self.values.get("groups", {}).items()}

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """All parts, in the order of the file."""
        listed = self.values.get("parts") or [part for parts in self.groups.values() for part in parts]
        return tuple(dict.fromkeys(listed))

    @property
    def variants(self) -> dict[str, tuple[str, ...]]:
        """Regime to its forms, the default first."""
        regimes = self.values.get("regimes") or {"": None}
        default = self.values.get("forms", {})
        return {name: tuple((layer or {}).get("forms") or default or ("",)) for name, layer in regimes.items()}

    def parts_of(self, name: TaskName) -> tuple[str, ...]:
        """The parts that a name covers: all for the family's own, several for a group's; ``("",)`` if there are none.

        Raises `UnknownName`.
        """
        part = name.base.removeprefix(self.name).removeprefix("/")
        if not self.parts:
            return ("",)
        if not part:
            return self.parts
        if part in self.groups:
            return self.groups[part]
        if part not in self.parts:
            raise UnknownName("part", part, [*self.groups, *self.parts], f"'evalkit list tasks {self.name}' shows all.")
        return (part,)

    def settings(self, name: TaskName) -> Settings:
        """The settings of a variant. Raises `UsageError` naming the file and the first wrong key."""
        layers = [self.values]
        regimes = self.values.get("regimes") or {}
        if name.regime:
            layers.append(regimes[name.regime] or {})
        forms = layers[-1].get("forms") or self.values.get("forms") or {}
        if isinstance(forms, Mapping) and forms.get(name.form):
            layers.append(forms[name.form])
        merged: dict[str, Any] = {}
        for layer in layers:
            merged |= {key: value for key, value in layer.items() if key not in FAMILY_KEYS}
        merged |= self.overrides
        return checked(Settings, merged, self.path, what="The question set")


def read_definition(path: Path, check: Callable[[Definition], None] | None = None) -> Definition:
    """Read a description's file; its name is the family's. Raises `UsageError` if it is none.

    The settings of a user's file are checked at once, by `check_definition`; evalkit's own when they are used.
    """
    values = read_yaml(path, what="The question set")
    if not isinstance(values, dict):
        raise UsageError(f"The question set {path} is not a mapping of settings. docs/tasks.md has examples.")
    definition = Definition(path.stem, path, values)
    if check is not None:
        check(definition)
    return definition


def _check_keys(path: Path, place: str, layer: Mapping[Any, Any], model: type[Settings]) -> None:
    """Raise `UsageError` for a key that is no setting, with the nearest that is, also inside of data, examples and the like."""
    inner: dict[str, type[Written]] = {"data": Data, "examples": Examples, "sample": Sample}
    inner |= {"generation": Generating, "program": Program}
    places: list[tuple[str, Mapping[Any, Any], type[Written]]] = [("", layer, model)]
    places += [(f"{key}.", layer[key], inner[key]) for key in inner if isinstance(layer.get(key), Mapping)]
    for prefix, values, known in places:
        for key in values:
            if key not in known.model_fields:
                near = get_close_matches(str(key), known.model_fields, n=1, cutoff=0.5)
                hint = f" Did you mean '{prefix}{near[0]}'?" if near else " docs/tasks.md has all."
                raise UsageError(
                    f"The question set {path}{place}: there is no setting '{prefix}{str(key)[:60]}'.{hint}"
                )


def check_definition(definition: Definition) -> None:
    """Check every layer of a description. Raises `UsageError` naming the file and what is wrong."""
    path = definition.path
    _check_keys(path, "", definition.values, _File)
    checked(_File, dict(definition.values), path, what="The question set")
    for regime, layer in (definition.values.get("regimes") or {}).items():
        if regime not in REGIMES:
            raise UnknownName("regime", regime, REGIMES, f"{path} names it.")
        _check_keys(path, f", regime '{regime}'", layer or {}, _Regime)
        checked(_Regime, layer or {}, path, what="The question set", part=f"regime '{regime}'")
    layers = [("", definition.values), *(definition.values.get("regimes") or {}).items()]
    for regime, layer in layers:
        for form, settings in ((layer or {}).get("forms") or {}).items():
            place = f", regime '{regime}'" if regime else ""
            _check_keys(path, f"{place}, form '{form}'", settings or {}, Settings)
    for regime, forms in definition.variants.items():
        for form in forms:
            definition.settings(TaskName(definition.name, form, regime))
