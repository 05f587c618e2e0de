"""The model ``evalkit`` of lm-evaluation-harness: its requests, scored by evalkit's engines and kept in evalkit's journal.

Imported by ``evalkit lm-eval`` alone, since it imports the harness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import lm_eval.models  # noqa: F401  # the harness registers its own only while no other model is registered
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import simple_parse_args_string

from evalkit.checkpoints.generation import end_ids_of
from evalkit.encoding.chat import ChatTemplate, TemplateRefused
from evalkit.encoding.encoding import Encoder, max_length_of
from evalkit.engines.base import EngineSettings
from evalkit.errors import EvalkitError, UsageError
from evalkit.options import RunOptions
from evalkit.progress import Progress, Silent
from evalkit.records import Document, Generation, Metric, Prompt, Scores
from evalkit.scoring.engine_choice import choose_engine, make_engine
from evalkit.scoring.plan import make_plan
from evalkit.scoring.runner import run_checkpoint
from evalkit.scoring.settings import RunSettings
from evalkit.scoring.targets import Targets
from evalkit.task import Row, TaskBase, TaskName, TaskOptions
from evalkit.tasks.lm_eval.generation import settings_of

ARGUMENTS = (
    "pretrained", "revision", "engine", "dtype", "device", "tokenizer", "adapter", "max_length", "batch_tokens",
    "trust_remote_code", "output",
)  # fmt: skip
"""What ``--model_args`` takes."""
UNASKED = ("batch_size", "max_batch_size")
"""Also accepted there and ignored: evalkit makes its own batches."""


class _Requests(TaskBase):
    """Requests of the harness as a task whose answers are kept in their order."""

    def __init__(self, kind: Literal["choice", "generation"], prompts: Sequence[Prompt]) -> None:
        self.name, self.kind = TaskName("lm-eval"), kind
        self.asked = list(prompts)
        self.scores: list[Scores] = []
        self.texts: list[str] = []

    def protocol(self) -> Mapping[str, Any]:
        return {"task": self.name.base}

    def documents(self) -> list[Document]:
        return [Document(position, None, {}) for position in range(len(self.asked))]

    def prompts(self, document: Document) -> list[Prompt]:
        return [self.asked[document.index]]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        self.scores += scores
        return {"index": document.index}

    def judge(self, document: Document, generations: Sequence[Generation]) -> Row:
        self.texts += [one.answer for one in generations]
        return {"index": document.index}

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        return []


@register_model("evalkit")
class EvalkitLM(LM):  # type: ignore[misc]
    """A checkpoint on one of evalkit's engines. `ARGUMENTS` are the names of `arguments`.

    The harness also passes its own ``device`` and ``batch_size`` without being asked to: those are left out, and a ``device`` in
    ``--model_args`` counts. Raises `EvalkitError`.
    """

    def __init__(self, progress: Progress | None = None, **arguments: Any) -> None:
        super().__init__()
        given = {name: value for name, value in arguments.items() if name not in UNASKED and value is not None}
        unknown = sorted(set(given) - set(ARGUMENTS))
        if unknown:
            raise UsageError(
                f"--model_args has no '{unknown[0]}' with --model evalkit; it takes {', '.join(ARGUMENTS)}."
            )
        if not given.get("pretrained"):
            raise UsageError(
                "--model evalkit needs --model_args pretrained=MODEL: a registered name, a hub repository or a folder."
            )
        model, revision = str(given.pop("pretrained")), given.pop("revision", None)
        given["model"] = f"{model}@{revision}" if revision else model
        self.options = RunOptions.make(given, command="evalkit lm-eval")
        self.progress = progress or Silent()
        targets = list(Targets(self.options, self.progress.note))
        target = targets[0][1]
        if isinstance(target, EvalkitError):
            raise target
        self.target, self.checkpoint = target, target.checkpoint
        self.text_tokenizer = target.open_tokenizer()
        self.tokenizer = self.text_tokenizer.inner
        """The tokenizer of transformers, of which the harness writes down what it is."""
        self.max_length = max_length_of(dict(self.checkpoint.config), self.text_tokenizer, self.options.max_length)
        self.choice = choose_engine(
            self.options.engine, {"choice", "generation"}, self.checkpoint.parameters, self.options.device, live=False
        )
        self.engine = make_engine(
            self.choice.engine,
            EngineSettings(
                self.options.device, self.options.dtype, self.options.batch_tokens, max_length=self.options.max_length
            ),
        )
        self._chat: ChatTemplate | None = None
        self._loaded = False

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> EvalkitLM:
        return cls(**simple_parse_args_string(arg_string))

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> EvalkitLM:
        return cls(**arg_dict)

    # ---------------------------------------------------------------------------------------------------- requests

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        prompts = [Prompt(str(one.args[0]), str(one.args[1])) for one in requests]
        return [(score.sum, score.is_greedy) for score in self._ask("choice", prompts).scores]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        prompts = [Prompt("", str(one.args[0]), "rolling_lm_eval") for one in requests]
        return [score.sum for score in self._ask("choice", prompts).scores]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        prompts: list[Prompt] = []
        seen: dict[tuple[str, str], int] = {}
        for one in requests:
            context, arguments = str(one.args[0]), one.args[1]
            settings = settings_of(str(one.task_name), arguments, {})
            key = (context, repr(settings))
            seen[key] = seen.get(key, -1) + 1  # a request that is repeated asks for another text where texts are drawn
            prompts.append(Prompt(context, "", generation=settings, sample=seen[key] if settings.temperature else 0))
        return self._ask("generation", prompts).texts

    def _ask(self, kind: Literal["choice", "generation"], prompts: Sequence[Prompt]) -> _Requests:
        task = _Requests(kind, prompts)
        if not prompts:
            return task
        encoder = Encoder(self.text_tokenizer, self.max_length)
        end_ids = end_ids_of(self.checkpoint, self.text_tokenizer) if kind == "generation" else ()
        plan = make_plan([(task, TaskOptions())], encoder, end_ids=end_ids)
        if not self._loaded:
            self.progress.activity(f"Loading {self.checkpoint.name}")
            self.target.load(self.engine)
            self._loaded = True
        settings = RunSettings(self.options, self.choice, "evalkit lm-eval", self.progress)
        run_checkpoint(self.checkpoint, plan, [], self.engine, settings)
        return task

    # -------------------------------------------------------------------------------------------- chats, and facts

    @property
    def tokenizer_name(self) -> str:
        """What tells its tokenizer from others in the harness's cache of requests."""
        return f"evalkit-{self.text_tokenizer.hash}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that `apply_chat_template` uses. Raises `UsageError` for the name of another, and without a template."""
        if chat_template in (False, None):
            return None
        if isinstance(chat_template, str) and chat_template != "default":
            raise UsageError(
                "--apply_chat_template NAME: evalkit uses the tokenizer's default template. Leave the name out."
            )
        return self._template().source

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text: up to where the answer begins, or within the last message, which the model continues.

        As the harness does, one that the template refuses is tried without its system message.
        """
        template = self._template()
        try:
            rendered = template.render([(list(chat_history), add_generation_prompt)])[0]
        except TemplateRefused:
            chat_history = [message for message in chat_history if message["role"] != "system"]
            rendered = template.render([(list(chat_history), add_generation_prompt)])[0]
        return rendered if add_generation_prompt else up_to_last(rendered, chat_history[-1]["content"])

    def _template(self) -> ChatTemplate:
        if self._chat is None:
            self._chat = ChatTemplate.of(self.tokenizer, f"the tokenizer {self.text_tokenizer.name}")
        if self._chat is None:
            raise UsageError(
                f"The tokenizer of {self.checkpoint.name} has no chat template, so there is nothing to apply."
            )
        return self._chat

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into its results about the model."""
        identity = self.engine.identity() if self._loaded else {}
        return {
            "model_num_parameters": self.checkpoint.parameters,
            "model_dtype": str(identity.get("dtype", self.options.dtype)),
            "model_revision": self.checkpoint.revision,
            "model_sha": self.checkpoint.fingerprint,
            "evalkit_identity": dict(identity),
        }

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def up_to_last(rendered: str, content: str) -> str:
    """A rendered conversation up to the end of its last message (``continue_final_message`` of transformers)."""
    place = rendered.rindex(content.strip())
    whole = content.lstrip()
    return rendered[: place + len(whole if rendered[place:].startswith(whole) else content.strip())]
