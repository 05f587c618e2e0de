"""The rows that are stored of a question and of a text, whatever their kinds (`evalkit.task.Row`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.errors import ScoringError
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


def text_row(document: Document, scores: Sequence[Scores]) -> Row:
    """The row of a text (`evalkit.task.Row`)."""
    if len(scores) != 1:
        raise ScoringError(f"{len(scores)} scores for one text.")
    score, text = scores[0], document.fields["text"]
    row: Row = {
        "index": document.index,
        "native_id": document.native_id,
        "source": document.fields["source"],
        "domain": document.fields["domain"],
        "sum": score.sum,
        "tokens": score.tokens,
        "characters": len(text),
        "bytes": len(text.encode("utf-8")),
        "words": count_words(text),
        "windows": score.windows,
        "truncated": score.truncated,
    }
    if document.fields.get("cluster") is not None:
        row["cluster"] = document.fields["cluster"]
    if score.logprobs is not None:
        row["logprobs"] = score.logprobs.tolist()
        if score.token_ids is not None:
            row["token_ids"] = score.token_ids.tolist()
    return row


def count_words(text: str) -> int:
    """Words as lm-evaluation-harness counts them: ``len(re.split(r"\\s+", text))``."""
    return len(re.split(r"\s+", text))
