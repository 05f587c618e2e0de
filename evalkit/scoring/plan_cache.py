"""Caches the current checkpoint's plan, which checkpoints with the same tokenizer and context length share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.encoding.encoding import Encoder, max_length_of
from evalkit.options import RunOptions
from evalkit.progress import Progress
from evalkit.results.tables import PromptStore
from evalkit.scoring.plan import ScoringPlan, make_plan
from evalkit.scoring.targets import Target
from evalkit.task import TaskBase, TaskOptions


class PlanCache:
    """Makes a new plan only if a target's tokens may differ from the previous target's."""

    def __init__(self, tasks: Sequence[tuple[TaskBase, TaskOptions]], options: RunOptions, progress: Progress) -> None:
        self._tasks, self._options, self._progress = tasks, options, progress
        self._key: tuple[Any, ...] = ()
        self._plan: ScoringPlan | None = None

    def plan(self, target: Target) -> ScoringPlan:
        """Every request of the run with a target's tokenizer and length; stores the prompts unless it is a dry run."""
        options, tokenizer = self._options, target.open_tokenizer()
        config = dict(target.checkpoint.config)
        length = max_length_of(config, tokenizer, options.max_length)
        template = tokenizer.chat_template if options.apply_chat_template else None
        key = (tokenizer.hash, length, config.get("model_type"), str(config.get("architectures")), template)
        if self._plan is None or key != self._key:
            encoder = Encoder(
                tokenizer,
                length,
                window=options.window,
                prefix=options.prefix_token,
                chat=options.apply_chat_template,
            )
            folder = None if options.dry_run else options.output / "prompts"
            with PromptStore(folder, gated_texts=options.stores_gated_texts) as prompts:
                self._plan = make_plan(
                    self._tasks, encoder, save_tokens=options.save_tokens, sink=prompts.add, note=self._progress.note
                )
            self._key = key
        return self._plan
