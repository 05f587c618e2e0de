"""The regimes, published evaluation conventions: what they share and how they differ, as data and small functions.

- ``lm-eval``: lm-evaluation-harness 0.4.13 (``lm_eval/api/task.py``, ``lm_eval/api/samplers.py``).
- ``olmes``: the OLMES standard (arXiv 2406.08446) as Ai2's ``oe-eval`` runs it.
- ``olmo1``: the OLMo paper's Table 3 (arXiv 2402.00838), as Catwalk and OLMo-Eval run it.
- ``in-loop``: what OLMo-core asks during training (``ai2-olmo-eval`` 0.9.0): OLMES's prompts, encoded apart.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from evalkit.records import Encoding

T = TypeVar("T")
Sampling = Literal["first", "seeded"]

UNCONDITIONAL_CONTEXT = "Answer:"
"""The context of unconditional prompts, for every task (OLMES, and Catwalk's ``unconditioned_prompt``)."""
SAMPLE_SEED = 1234
LM_EVAL_SHOT_SEED = 1234
"""lm-evaluation-harness: ``fewshot_random_seed`` of ``simple_evaluate``."""


@dataclass(frozen=True, slots=True)
class Regime:
    """The conventions of a regime that hold for every task."""

    name: str
    encoding: Encoding
    max_length: int | None
    """Maximum number of positions fed; None for the model's own."""
    shots: int
    """Default number of few-shot examples."""
    sampling: Sampling
    """What ``--limit N`` takes: the first N, or a seeded sample in sample order."""
    sample_above: int | None
    """Splits with more documents than this are sampled."""
    sample_size: int | None
    counts_leading_space: bool
    """Whether lengths include the space before an option."""


REGIMES = {
    regime.name: regime
    for regime in (
        Regime("lm-eval", "joint", None, 0, "first", None, None, counts_leading_space=False),
        Regime("olmes", "joint", 2048, 5, "seeded", 1500, 1000, counts_leading_space=True),
        Regime("olmo1", "separate", 2048, 0, "seeded", 1000, 1000, counts_leading_space=True),
        Regime("in-loop", "separate", 2048, 5, "seeded", None, None, counts_leading_space=True),
    )
}


def sample(rows: Sequence[T], size: int, seed: int = SAMPLE_SEED) -> list[T]:
    """The sample of OLMES and OLMo-Eval: ``random.Random(1234).sample(rows, size)``, in sample order."""
    return random.Random(seed).sample(list(rows), size)  # noqa: S311


def sample_size(regime: Regime, available: int) -> int:
    """How many documents the regime scores of a split with `available` documents."""
    if regime.sample_above is not None and regime.sample_size is not None and available > regime.sample_above:
        return regime.sample_size
    return available


def select(
    regime: Regime, rows: Sequence[T], limit: int | None, drawn: int | None = None, seed: int = SAMPLE_SEED
) -> list[T]:
    """The documents to score, in order.

    `limit` replaces the regime's sample size; if it is not below the size of the split, all are returned, in the data set's
    order. `drawn`: so many at random by `seed`, whatever the regime does.
    """
    if drawn is not None:
        return list(rows) if drawn >= len(rows) else sample(rows, drawn, seed)
    count = sample_size(regime, len(rows)) if limit is None else limit
    if count >= len(rows):
        return list(rows)
    return list(rows[:count]) if regime.sampling == "first" else sample(rows, count)


def continuation(option: str) -> str:
    """The scored string of an option: one space and the option, whatever it starts with.

    The same in all three regimes: lm-eval's ``target_delimiter``, OLMES, and the task strings that Catwalk is given (its
    ``_prefix_with_space`` adds none to a string that has one). An option's own leading space is kept, which gives two.
    """
    return " " + option


def normalization_text(regime: Regime, option: str) -> str:
    """The string whose characters and bytes normalise an option's sum.

    lm-eval counts the option as it is in the document (``process_results``: ``len(choice)``); OLMES and Catwalk count the
    continuation with its leading space.
    """
    return continuation(option) if regime.counts_leading_space else option


def letter(position: int) -> str:
    """``A``, ``B``, … by position, whatever the labels in the data are (OLMES, multiple-choice form)."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[position]


def lettered_options(options: Sequence[str]) -> str:
    """The options in OLMES's multiple-choice form: a line ``" A. …"`` for each, with a line feed."""
    return "".join(f" {letter(i)}. {option}\n" for i, option in enumerate(options))


_TITLE_OLMES = re.compile(r"\.? \[title\]")
_BRACKETS = re.compile(r"\[.*?\]")


def clean_lm_eval(text: str) -> str:
    """HellaSwag's cleaning in lm-evaluation-harness (``tasks/hellaswag/utils.py``) and in olmo1.

    Strips first and not last, so a text that began with a bracket keeps the space after it; double spaces are replaced
    once, so three become two.
    """
    return _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def clean_olmes(text: str) -> str:
    """HellaSwag's cleaning in OLMES: as `clean_lm_eval`, but a full stop before ``[title]`` is not doubled."""
    return _BRACKETS.sub("", _TITLE_OLMES.sub(". ", text.strip())).replace("  ", " ")


_GLUE = {" n't": "n't", " )": ")", "( ": "(", '" ': '"', ' "': '"'}
_SPACED_MARKS = re.compile(r" (['.,])")


def clean_glue(text: str) -> str:
    """MRPC and SST-2 without the spaces that their tokenizer left, as `in-loop` asks them (``ai2-olmo-eval``)."""
    for spaced, plain in _GLUE.items():
        text = text.replace(spaced, plain)
    return _SPACED_MARKS.sub(r"\1", text)


def shuffled(items: Sequence[T], seed: int | str) -> list[T]:
    """The items in the order of ``random.Random(seed).shuffle``, as OLMES shuffles options by a row's index or id."""
    found = list(items)
    random.Random(seed).shuffle(found)  # noqa: S311
    return found


def digest(text: str) -> str:
    """Sixteen hexadecimal digits of a text's sha256: a name of its cluster."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
