"""``data: task:NAME``: a task's own train split, asked as the task asks and answered rightly.

What is trained is the continuation of the right option after its question, in the tokens that scoring would score: no chat
template (unless questions are asked inside one), no examples before the question, no end token. The loss is on the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from evalkit import registry
from evalkit.encoding.encoding import UNLIMITED, Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import UsageError
from evalkit.records import Prompt
from evalkit.task import TaskBase, TaskOptions
from evalkit.train.labels import IGNORED, Labelled


def open_split(name: str, split: str, data_source: str | None) -> TaskBase:
    """A multiple-choice task on a split to be trained on, whole and without examples.

    Raises `UsageError` for the split that the task is scored on, and for a task that is no question with options.
    """
    scored = registry.make_task(name, TaskOptions(data_source=data_source))
    if scored.kind == "generation":
        raise UsageError(f"task:{name} has free-form answers. Give its training data as a dataset of conversations.")
    if scored.kind != "choice":
        raise UsageError(f"task:{name} has texts without answers. Give the texts themselves as data.")
    if getattr(scored, "split", None) == split:
        raise UsageError(
            f"task:{name},split={split} is what {name} is scored on, so its score would be meaningless. Choose "
            "another split."
        )
    options = TaskOptions(split=split, shots=0, limit=UNLIMITED, data_source=data_source)
    task = registry.make_task(name, options)
    if getattr(task, "split", None) != split:
        raise UsageError(f"The task {name} has no splits to choose from, so it cannot be trained on.")
    return task


def right_answers(task: TaskBase) -> Iterator[tuple[str, Prompt]]:
    """The name and the prompt of the right option of every document."""
    for document in task.documents():
        gold = document.fields["gold"]
        for prompt in task.prompts(document):
            if prompt.option == gold and not prompt.unconditional:
                native = document.native_id
                yield str(document.index if native is None else native), prompt


def describe(task: TaskBase) -> str:
    """Which rows were read, for the data card."""
    return json.dumps(task.protocol()["data"], sort_keys=True)


def label_prompts(prompts: Sequence[Prompt], tokenizer: Any, limit: int | None = None) -> list[Labelled]:
    """Encode prompts exactly as they are scored, and label what is scored. Longer ones lose their beginning.

    `tokenizer` is a ``PreTrainedTokenizerBase``.
    """
    encoder = Encoder(Tokenizer(tokenizer), UNLIMITED)
    labelled = []
    for encoded in encoder.encode(prompts):
        (request,) = encoded.requests
        ids = request.tokens.tolist()
        labels = [IGNORED] * request.start + ids[request.start :]
        first = 0 if limit is None else max(0, len(ids) - limit)
        labelled.append(Labelled(ids[first:], labels[first:], len(ids)))
    return labelled
