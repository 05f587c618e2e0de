"""Where the scored part of a prompt begins by the rules of CORE (DCLM, arXiv 2406.11794), as nanochat applies them.

Each prompt is tokenized as one text, behind the prefix token (BOS, else EOS) whatever the tokenizer adds by default, and no
string is moved. The scored part is found by comparing token ids:

    core_options   behind what the texts of all options begin with, so that tokens which they share are not scored
    core_contexts  what the texts of all contexts end with, which may be more than the continuation
    core_text      behind the ids of the context without its trailing white space

nanochat (``nanochat/core_eval.py``) has no score in three cases, and here they have one. The text of an option that all
others begin with is scored on its last token (there its mean is undefined, and such an option is chosen if it is the first).
Contexts of equal ids are scored from the second token on. A continuation whose first token reaches into the context is scored
from where the ids part (there an assertion ends the run).
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.records import Encoding

Ids = list[int]

RULES: tuple[Encoding, ...] = ("core_options", "core_contexts", "core_text")


def common_start(first: Ids, second: Ids) -> int:
    """How many ids both begin with."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low


def split_core(rule: Encoding, own: Ids, others: Sequence[Ids]) -> tuple[Ids, Ids]:
    """The ids of a prompt before and from where it is scored; all ids have the prefix token in front.

    `others`: those of all prompts of the document, or for ``core_text`` of the context alone.
    """
    if rule == "core_contexts":
        backwards = own[::-1]
        shared = min((common_start(backwards, other[::-1]) for other in others), default=len(own))
        start = len(own) - shared
    else:
        start = min((common_start(own, other) for other in others), default=1)
        if rule == "core_options":
            start = min(start, *(len(other) - 1 for other in others))
    start = max(start, 1)
    return own[:start], own[start:]
