"""Few-shot examples from the offline bundle, which has no train split: parsed from Ai2's request files.

The only module that may read ``request.context`` (a test checks this): documents are never taken from there, so that the
request files remain an independent check of every prompt.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from evalkit.data import Bundle
from evalkit.errors import DataUnavailable

_LETTERED = re.compile(
    r"\AQuestion: (?P<question>.*?)(?P<options>(?:\n [A-Z]\. [^\n]*)+)\nAnswer: (?P<gold>[A-Z])\Z", re.S
)
_OPTION = re.compile(r"\n [A-Z]\. ([^\n]*)")
SHOTS = 5
"""Examples in each of the bundle's variants that are read here."""


@cache
def example_blocks(bundle: Bundle, variant: str) -> tuple[str, ...]:
    """The examples of a variant (``hellaswag/rc_5shot``) as they stand in its prompts: question and answer each.

    They are what stands before the first document's own question, cut at blank lines.
    """
    first: dict[str, Any] = next(bundle.requests(variant))
    context, query = first["request"]["context"], first["doc"]["query"]
    if not context.endswith(query):
        raise DataUnavailable(f"The offline bundle's {variant} does not end with its own question.")
    found = tuple(context.removesuffix(query).split("\n\n"))
    if len(found) != SHOTS + 1 or found[-1]:
        raise DataUnavailable(f"The offline bundle's {variant} has {len(found) - 1} examples, not {SHOTS}.")
    return found[:-1]


def parse_lettered_question(block: str) -> dict[str, Any]:
    """An example in the multiple-choice form as ``question, options, gold`` (position)."""
    match = _LETTERED.match(block)
    if match is None:
        raise DataUnavailable("An example of the offline bundle is not a lettered question.")
    options = _OPTION.findall(match["options"])
    return {
        "question": match["question"],
        "options": options,
        "gold": "ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(match["gold"]),
    }
