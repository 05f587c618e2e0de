"""The regimes: published ways of asking. What they share and where they differ, as data and small named functions.

- ``lm-eval``: lm-evaluation-harness 0.4.13 (``lm_eval/api/task.py``, ``lm_eval/api/samplers.py``).
- ``olmes``: the OLMES standard (arXiv 2406.08446) as Ai2's ``oe-eval`` runs it.
- ``olmo1``: the OLMo paper's Table 3 (arXiv 2402.00838), as Catwalk and OLMo-Eval run it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from evalkit.records import Encoding

T = TypeVar("T")
Sampling = Literal["first", "seeded"]

UNCONDITIONAL_CONTEXT = "Answer:"
"""The context of a twin, for every task (OLMES, and Catwalk's ``unconditioned_prompt``)."""
SAMPLE_SEED = 1234
LM_EVAL_SHOT_SEED = 1234
"""lm-evaluation-harness: ``fewshot_random_seed`` of ``simple_evaluate``."""


@dataclass(frozen=True, slots=True)
class Regime:
    """What a regime asks of every task."""

    name: str
    encoding: Encoding
    max_length: int | None
    """Most positions that are fed; None for as many as the model takes."""
    shots: int
    """Examples before the question, where nothing else is said."""
    sampling: Sampling
    """What ``--limit N`` takes: the first N, or a seeded sample in sample order."""
    sample_above: int | None
    """Splits of more documents than this are sampled."""
    sample_size: int | None
    space_counts: bool
    """Whether lengths count the space that is put before an option."""


REGIMES = {
    regime.name: regime
    for regime in (
        Regime("lm-eval", "joint", None, 0, "first", None, None, space_counts=False),
        Regime("olmes", "joint", 2048, 5, "seeded", 1500, 1000, space_counts=True),
        Regime("olmo1", "separate", 2048, 0, "seeded", 1000, 1000, space_counts=True),
    )
}


def sample(rows: Sequence[T], size: int) -> list[T]:
    """The sample of OLMES and OLMo-Eval: ``random.Random(1234).sample(rows, size)``, in sample order."""
    return random.Random(SAMPLE_SEED).sample(list(rows), size)  # noqa: S311


def wanted(regime: Regime, available: int) -> int:
    """How many documents the regime asks of a split that has `available`."""
    if regime.sample_above is not None and regime.sample_size is not None and available > regime.sample_above:
        return regime.sample_size
    return available


def select(regime: Regime, rows: Sequence[T], limit: int | None) -> list[T]:
    """The documents that are asked, in order. `limit` replaces the regime's own sample size; one that is not below the
    split's size gives all, in the data set's order."""
    size = wanted(regime, len(rows)) if limit is None else limit
    if size >= len(rows):
        return list(rows)
    return list(rows[:size]) if regime.sampling == "first" else sample(rows, size)


def continuation(option: str) -> str:
    """The scored string of an option: one space and the option, whatever it starts with.

    So in all three: lm-eval's ``target_delimiter``, OLMES, and the task strings that Catwalk takes (its
    ``_prefix_with_space`` adds none to a string that has one). An option's own leading space stays, which gives two.
    """
    return " " + option


def counted_text(regime: Regime, option: str) -> str:
    """The string whose characters and bytes normalise an option's sum.

    lm-eval counts the option as it stands in the document (``process_results``: ``len(choice)``); OLMES and Catwalk count
    the continuation with its leading space.
    """
    return continuation(option) if regime.space_counts else option


def letter(position: int) -> str:
    """``A``, ``B``, … by position, whatever the data's own labels are (OLMES, multiple-choice form)."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[position]


def lettered(options: Sequence[str]) -> str:
    """The lines that show the options in OLMES's multiple-choice form: ``" A. …"``, one a line, each ended."""
    return "".join(f" {letter(i)}. {option}\n" for i, option in enumerate(options))


_TITLE_OLMES = re.compile(r"\.? \[title\]")
_BRACKETS = re.compile(r"\[.*?\]")


def clean_lm_eval(text: str) -> str:
    """HellaSwag's cleaning in lm-evaluation-harness (``tasks/hellaswag/utils.py``) and in olmo1.

    Strips first and not last, so that a text that began with a bracket keeps the space after it; two spaces are folded
    once, so that three become two.
    """
    return _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def clean_olmes(text: str) -> str:
    """HellaSwag's cleaning in OLMES: as `clean_lm_eval`, but a full stop before ``[title]`` is not doubled."""
    return _BRACKETS.sub("", _TITLE_OLMES.sub(". ", text.strip())).replace("  ", " ")
