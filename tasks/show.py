"""What a task asks, without a model: what ``evalkit show TASK`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from evalkit.task import TaskBase

TWIN_OFFSET = 1_000_000
"""Added to the position of a document to number its unconditional twins, as Ai2's request files do."""


def show_prompts(task: TaskBase, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """One dictionary a prompt, in the order of Ai2's request files.

    Choice tasks: ``doc_id`` (position in the run's order), ``native_id, context, continuation, label``; all conditional
    prompts first, then all twins, with `TWIN_OFFSET` added. Text tasks: ``doc_id, native_id, source, domain, text``.
    `limit`: show the first so many documents of the run.
    """
    if task.kind == "text":
        for position, document in enumerate(islice(task.documents(), limit)):
            fields = document.fields
            yield {
                "doc_id": position,
                "native_id": document.native_id,
                "source": fields["source"],
                "domain": fields["domain"],
                "text": fields["text"],
            }
        return
    for twins in (False, True):
        for position, document in enumerate(islice(task.documents(), limit)):
            chosen = [prompt for prompt in task.prompts(document) if prompt.unconditional is twins]
            if twins and not chosen:
                return
            for prompt in chosen:
                yield {
                    "doc_id": position + TWIN_OFFSET * twins,
                    "native_id": document.native_id,
                    "context": prompt.context,
                    "continuation": prompt.continuation,
                    "label": document.fields["gold"],
                }
