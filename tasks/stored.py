"""The row that is stored of a question, whatever its kind (`evalkit.task.Row`)."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.records import Document, Scores
from evalkit.task import Row


def choice_row(document: Document, counted_texts: Sequence[str], scores: Sequence[Scores], primary: str) -> Row:
    """The row of a question (`evalkit.task.Row`).

    `counted_texts`: an option each, as its characters and bytes are counted. `scores`: an option each, followed by those of
    the unconditional prompts if there are any. `primary`: the accuracy by which ``predicted`` is chosen; for any other metric the plain one.
    """
    from evalkit.statistics.metric_names import ACCURACIES
    from evalkit.statistics.metrics import predict

    conditional, unconditional = scores[: len(counted_texts)], scores[len(counted_texts) :]
    row: Row = {
        "index": document.index,
        "native_id": document.native_id,
        "gold": document.fields["gold"],
        "sums": [score.sum for score in conditional],
        "tokens": [score.tokens for score in conditional],
        "characters": [len(text) for text in counted_texts],
        "bytes": [len(text.encode("utf-8")) for text in counted_texts],
        "is_greedy": [score.is_greedy for score in conditional],
        "truncated": sum(score.truncated for score in scores),
    }
    if unconditional:
        row["unconditional_sums"] = [score.sum for score in unconditional]
    if all(score.logprobs is not None for score in conditional):
        row["logprobs"] = [score.logprobs.tolist() for score in conditional if score.logprobs is not None]
        if all(score.token_ids is not None for score in conditional):
            row["token_ids"] = [score.token_ids.tolist() for score in conditional if score.token_ids is not None]
    row["predicted"] = predict(row, primary if primary in ACCURACIES else "acc")
    return row
