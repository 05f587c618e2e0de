"""Caches the current checkpoint's plan, which checkpoints with the same tokenizer and context length share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evalkit.checkpoints.generation import end_ids_of
from evalkit.encoding.encoding import Encoder, max_length_of
from evalkit.options import RunOptions
from evalkit.progress import Progress
from evalkit.results.tables import PromptStore
from evalkit.scoring.plan import GENERATION, ScoringPlan, make_plan, protocol_hash
from evalkit.scoring.targets import Target
from evalkit.task import TaskBase, TaskOptions


class PlanCache:
    """Makes a new plan only if a target's tokens may differ from the previous target's."""

    def __init__(self, tasks: Sequence[tuple[TaskBase, TaskOptions]], options: RunOptions, progress: Progress) -> None:
        self.tasks, self._options, self._progress = tasks, options, progress
        self._key: tuple[Any, ...] = ()
        self._plan: ScoringPlan | None = None
        self._hashes: dict[int, str] = {}
        self._end_ids: tuple[int, ...] = ()

    def plan(self, target: Target) -> ScoringPlan:
        """Every request of the run with a target's tokenizer and length; stores the prompts unless it is a dry run."""
        encoder = self._encoder(target)
        options = self._options
        if self._plan is None:
            folder = None if options.dry_run else options.output / "prompts"
            with PromptStore(folder, gated_texts=options.stores_gated_texts) as prompts:
                self._plan = make_plan(
                    self.tasks,
                    encoder,
                    end_ids=self._end_ids,
                    save_tokens=options.save_tokens,
                    sink=prompts.add,
                    note=self._progress.activity,
                )
            self._hashes = {index: planned.protocol_hash for index, planned in enumerate(self._plan.tasks)}
        return self._plan

    def hashes(self, target: Target) -> Callable[[int], str]:
        """A function that gives the protocol hash of the task at an index, for this target; it reads the task's prompts."""
        encoder = self._encoder(target)

        def hash_of(index: int) -> str:
            if index not in self._hashes:
                self._hashes[index] = protocol_hash(*self.tasks[index], encoder, self._end_ids)
            return self._hashes[index]

        return hash_of

    def _encoder(self, target: Target) -> Encoder:
        """The encoder for a target; forgets the plan if it was made with another."""
        options, tokenizer = self._options, target.open_tokenizer()
        config = dict(target.checkpoint.config)
        length = max_length_of(config, tokenizer, options.max_length)
        template = tokenizer.chat_template if options.apply_chat_template else None
        generates = any(task.kind == GENERATION for task, _ in self.tasks)
        self._end_ids = end_ids_of(target.checkpoint, tokenizer) if generates else ()
        key = (
            tokenizer.hash,
            length,
            config.get("model_type"),
            str(config.get("architectures")),
            template,
            self._end_ids,
        )
        if key != self._key:
            self._key, self._plan, self._hashes = key, None, {}
        return Encoder(
            tokenizer, length, window=options.window, prefix=options.prefix_token, chat=options.apply_chat_template
        )
