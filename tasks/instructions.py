"""``instructions/NAME`` and ``preferences/NAME``: held-out examples of a training run, scored like any other task.

Training writes them as JSON lines, rendered with its template, to evalkit's home folder, so that any model can be scored
on them. An instruction is a text of which the answers with their end tokens are scored; a preference pair is a question
with two options. Context and answer are encoded as one text, so the tokens that are scored are those that training labels.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from evalkit.errors import DataUnavailable, ScoringError, UnknownName, UsageError
from evalkit.records import Document, Metric, Prompt, Scores
from evalkit.registry import task
from evalkit.system.documents import parse_json
from evalkit.system.files import replacing
from evalkit.system.home import home
from evalkit.task import Row, TaskBase, TaskName, TaskOptions, sample_protocol
from evalkit.tasks.stored import choice_row

INSTRUCTIONS, PREFERENCES = "instructions", "preferences"
VERSION = 2


def held_out_file(family: str, name: str) -> Path:
    """The file with the held-out examples of a training run."""
    return home() / family / f"{name}.jsonl"


def register_held_out(family: str, name: str, file: Path) -> str:
    """Store a training run's held-out examples under a name, replacing an existing file; return the task's name."""
    target = held_out_file(family, name)
    with replacing(target) as temporary:
        shutil.copyfile(file, temporary)
    return f"{family}/{name}"


class _Line(BaseModel):
    """A held-out example."""

    id: str
    domain: str
    turns: list[tuple[str, str]] = Field(min_length=1)
    end: str
    rejected: str | None = None


class _HeldOutTask(TaskBase):
    """Common to both kinds: documents read from a file."""

    max_length: int | None = None
    can_sample = True
    chat_formatted = True
    """The prompts contain a chat template already, so ``--apply-chat-template`` does not change them."""
    family = ""

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        if options.shots:
            raise UsageError(f"{name} takes no --shots.")
        if options.limit is not None and options.limit < 1:
            raise UsageError("--limit must be at least 1.")
        self.name, self.options = name, options
        _, _, self.part = name.base.partition("/")

    @cached_property
    def _file(self) -> bytes:
        known = sorted(file.stem for file in (home() / self.family).glob("*.jsonl"))
        if self.part not in known:
            raise UnknownName(
                f"set of {self.family}",
                self.part,
                known,
                "Training with --held-out creates one, named after the model.",
            )
        try:
            return held_out_file(self.family, self.part).read_bytes()
        except OSError as error:
            raise DataUnavailable(
                f"{held_out_file(self.family, self.part)} cannot be read: {error.strerror or error}."
            ) from error

    @cached_property
    def _all(self) -> list[Document]:
        documents = []
        try:
            # split at line feeds only: texts may contain the other characters that str.splitlines splits at
            for index, line in enumerate(self._file.decode("utf-8").rstrip("\n").split("\n")):
                item = _Line.model_validate(parse_json(line))
                if (item.rejected is not None) != (self.family == PREFERENCES):
                    raise ValueError("an example of the other kind")
                turns = tuple(item.turns)
                fields: dict[str, Any] = {
                    "source": self.family,
                    "domain": item.domain,
                    "turns": turns,
                    "end": item.end,
                }
                if item.rejected is not None:
                    fields |= {"question": turns[0][0], "options": [turns[0][1], item.rejected], "gold": 0}
                else:
                    fields["text"] = "".join(answer for _, answer in turns)
                documents.append(Document(index, item.id, fields))
        except ValueError as error:  # Invalid, pydantic's error and that of decoding are all of them
            raise DataUnavailable(
                f"{held_out_file(self.family, self.part)} is damaged. Run the training's command again: it rewrites the file."
            ) from error
        return documents

    def documents(self) -> list[Document]:
        return [self._all[position] for position in self.options.positions(len(self._all))]

    @property
    def limited(self) -> bool:
        return len(self.documents()) < len(self._all)

    def protocol(self) -> Mapping[str, Any]:
        documents = self.documents()
        sha256 = hashlib.sha256(self._file).hexdigest()
        return {
            "task": self.name.base,
            "version": VERSION,
            "split": "held_out",
            "documents": len(documents),
            "limit": len(documents) if self.limited else None,
            **sample_protocol(self.options, is_limited=self.limited),
            "encoding": "whole",
            "primary": self.primary,
            "data": {"source": "training", "name": self.part, "sha256": sha256},
        }

    primary = ""

    def _base_metric(self) -> Metric:
        return Metric(self.name.base, "", math.nan, 0, split="held_out")


@task(
    INSTRUCTIONS,
    description="Held-out examples of a training run: the loss on the answers only (instructions/NAME)",
    parts=True,
)
class Instructions(_HeldOutTask):
    """Bits per byte of answers: end tokens are scored, but not counted as bytes. Each data set is a domain."""

    kind: Literal["choice", "text"] = "text"
    family = INSTRUCTIONS
    primary = "bits_per_byte"

    def prompts(self, document: Document) -> Sequence[Prompt]:
        return [Prompt(context, answer, "whole") for context, answer in document.fields["turns"]]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        turns, end = document.fields["turns"], document.fields["end"]
        if len(scores) != len(turns):
            raise ScoringError(f"{len(scores)} scores for the {len(turns)} answers of document {document.index}.")
        answers = [answer.removesuffix(end) for _, answer in turns]
        row: Row = {
            "index": document.index,
            "native_id": document.native_id,
            "source": document.fields["source"],
            "domain": document.fields["domain"],
            "sum": math.fsum(score.sum for score in scores),
            "tokens": sum(score.tokens for score in scores),
            "characters": sum(map(len, answers)),
            "bytes": sum(len(answer.encode("utf-8")) for answer in answers),
            "words": sum(len(answer.split()) for answer in answers),
            "windows": len(scores),
            "truncated": sum(score.truncated for score in scores),
        }
        if all(score.logprobs is not None and score.token_ids is not None for score in scores):
            row["logprobs"] = [value for score in scores for value in score.logprobs.tolist()]  # type: ignore[union-attr]
            row["token_ids"] = [value for score in scores for value in score.token_ids.tolist()]  # type: ignore[union-attr]
        return row

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import text_metrics

        return text_metrics(rows, base=self._base_metric())


@task(
    PREFERENCES,
    description="Held-out pairs of a training run: whether the better answer is the likelier one (preferences/NAME)",
    parts=True,
)
class Preferences(_HeldOutTask):
    """Accuracy by the summed log-probability of each answer, and bits per byte of the better one."""

    kind: Literal["choice", "text"] = "choice"
    family = PREFERENCES
    primary = "acc"

    def prompts(self, document: Document) -> Sequence[Prompt]:
        context = document.fields["question"]
        return [
            Prompt(context, option, "whole", position) for position, option in enumerate(document.fields["options"])
        ]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        options, end = document.fields["options"], document.fields["end"]
        return choice_row(document, [option.removesuffix(end) for option in options], scores, self.primary)

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        from evalkit.statistics.metrics import choice_metrics

        names = ["acc", "acc_norm", "acc_per_token", "bits_per_byte"]
        return choice_metrics(rows, base=self._base_metric(), names=names, primary=self.primary)
