"""Few-shot examples: which ones precede a question, and how they are joined."""

from __future__ import annotations

import ast
import importlib.util
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from evalkit.data import Bundle
from evalkit.errors import DataUnavailable, UsageError
from evalkit.system.environment import install_command
from evalkit.tasks.regimes import LM_EVAL_SHOT_SEED, sample

Row = Mapping[str, Any]

READ_CONTEXTS = 40
"""Documents of a file of requests that are compared to find what they all begin with."""


def join_examples(examples: Sequence[str], separator: str) -> str:
    """Join examples (with their answers) into what precedes the question."""
    return "".join(example + separator for example in examples)


def lm_eval_examples(
    pool: Sequence[Row], documents: Sequence[Row], shots: int, *, avoid_document: bool
) -> Iterator[list[Row]]:
    """The examples that lm-evaluation-harness 0.4.13 draws for each document, in order, with one process.

    There is one random stream per task (``Random(1234)``), so the examples of a document depend on all documents before it
    (``ContextSampler.sample``). `avoid_document`: if lm-eval's few-shot split equals its test split (as for HellaSwag,
    where both are None), it draws one more and removes those equal to the document; if too few remain, it draws again
    from the rest of the pool.
    """
    generator = random.Random(LM_EVAL_SHOT_SEED)  # noqa: S311
    pool = list(pool)
    for document in documents:
        if not avoid_document:
            yield generator.sample(pool, shots)
            continue
        drawn = [row for row in generator.sample(pool, shots + 1) if row != document][:shots]
        if len(drawn) < shots:
            drawn = generator.sample([row for row in pool if row != document], shots)
        yield drawn


def seeded_examples(pool: Sequence[Row], documents: Sequence[Row], shots: int) -> Iterator[list[Row]]:
    """The examples that OLMES draws from the split of the documents: the same for all, by one seed.

    One more is drawn, for the documents that are themselves among them (``random.Random(1234).sample``).
    """
    drawn = sample(pool, shots + 1)
    for document in documents:
        yield [row for row in drawn if row != document][:shots]


@cache
def lm_eval_rows(file: str) -> tuple[dict[str, Any], ...]:
    """The rows that ``list_fewshot_samples`` of one of lm-evaluation-harness's modules returns (``mbpp/utils.py``), as they stand in
    its source: nothing of it is executed.

    Raises `UsageError` if lm-eval is not installed, and `DataUnavailable` if the module has no such list.
    """
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        raise UsageError(
            "The examples are those of lm-evaluation-harness. Use --shots 0, or install it with: "
            f"{install_command('lm-eval')}"
        )
    path = Path(found.origin).parent / "tasks" / file
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (listed,) = (
            node.value
            for function in tree.body
            if isinstance(function, ast.FunctionDef) and function.name == "list_fewshot_samples"
            for node in ast.walk(function)
            if isinstance(node, ast.Return) and node.value is not None
        )
        return tuple(dict(row) for row in ast.literal_eval(listed))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataUnavailable(f"{path} has no examples to read ({error}). Use --shots 0.") from None


@cache
def bundle_examples(bundle: Bundle, variant: str, preamble: str, separator: str, begin: str | None) -> tuple[str, ...]:
    """The examples of one of the bundle's files of requests (``csqa/mc_5shot``) as they stand in its prompts.

    They are what all its contexts begin with, up to the last separator. Only this function reads ``request.context``
    (a test checks that): documents never come from there, so that the files remain a check of every prompt.
    `begin`: a regular expression that each example begins with, if the separator also stands inside of examples.
    """
    lines = (line for line in bundle.requests(variant) if line["idx"] == 0)
    contexts = [line["request"]["context"] for line in islice(lines, READ_CONTEXTS)]
    shared = os.path.commonprefix(contexts)  # noqa: RUF071 - of characters it shall be
    if not shared.startswith(preamble):
        raise DataUnavailable(f"The offline bundle's {variant} does not begin with its preamble.")
    body = shared[: shared.rfind(separator) + len(separator)].removeprefix(preamble)
    cut = re.escape(separator) + (f"(?={begin}|\\Z)" if begin else "")
    found = tuple(re.split(cut, body))
    if found[-1] or len(found) < 2:
        raise DataUnavailable(f"The offline bundle's {variant} has no examples that can be separated.")
    return found[:-1]
