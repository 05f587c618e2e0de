"""The prompts of a task, without a model, for ``evalkit show TASK``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

from evalkit.data.bundle import UNCONDITIONAL_OFFSET
from evalkit.task import TaskBase


def show_prompts(task: TaskBase, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """One dictionary per prompt, in the order of Ai2's request files.

    Choice tasks: ``doc_id`` (position in the run's order), ``native_id, context, continuation, label``; all conditional
    prompts first, then all unconditional ones, with `UNCONDITIONAL_OFFSET` added. Text tasks: ``doc_id, native_id,
    source, domain, text``. Where the model writes, ``generation`` (its settings), ``sample`` and ``accepted`` (right
    answers) stand in place of the label. `limit`: show only the first `limit` documents of the run.
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
    for unconditional in (False, True):
        for position, document in enumerate(islice(task.documents(), limit)):
            prompts = [prompt for prompt in task.prompts(document) if prompt.unconditional is unconditional]
            if unconditional and not prompts:
                return
            for prompt in prompts:
                about = {
                    "doc_id": position + UNCONDITIONAL_OFFSET * unconditional,
                    "native_id": document.native_id,
                    "context": prompt.context,
                    "continuation": prompt.continuation,
                }
                if prompt.generation is None:
                    yield about | {"label": document.fields["gold"]}
                else:
                    accepted = list(document.fields.get("accepted", ()))
                    yield about | {
                        "generation": asdict(prompt.generation),
                        "sample": prompt.sample,
                        "accepted": accepted,
                    }
