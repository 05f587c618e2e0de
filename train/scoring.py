"""Scoring around a training run: the base before, the result after, the live model in between, and their report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from evalkit import api
from evalkit.domains.paragraphs import ParagraphIndex
from evalkit.errors import EvalkitError
from evalkit.records import Checkpoint, Document
from evalkit.results.reading import Run
from evalkit.results.writing import write_training
from evalkit.statistics.metric_names import CAPPED
from evalkit.system.files import write_bytes
from evalkit.task import TaskOptions
from evalkit.tasks.instructions import INSTRUCTIONS, PREFERENCES, register_held_out
from evalkit.train.log import read_lines, read_log
from evalkit.train.prepare import Note, Prepared
from evalkit.train.progress import TrainingProgress
from evalkit.train.recipe import Recipe

EVALS = "evals.jsonl"
EVAL_FIELDS = ("task", "form", "regime", "metric", "source", "domain", "value", "ci_low", "ci_high", "n")
"""What is kept of a metric of the live model: the primary ones, and the shares of texts that never ended."""


class _Eval(BaseModel):
    step: int
    value: float | None


_EVAL = TypeAdapter(_Eval)
HYPERPARAMETERS = (
    "method", "epochs", "max_steps", "learning_rate", "schedule", "warmup", "weight_decay", "max_grad_norm", "batch", "batch_of",
    "micro_batch", "max_length", "packing", "seed",
)  # fmt: skip
ADAPTER_HYPERPARAMETERS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")


def check_scoring(recipe: Recipe) -> None:
    """Raise `UsageError` for what keeps a task from being scored, before hours of training: programs that may not be run, a
    package that is missing."""
    suites = evaluated_suites(recipe)
    if suites or recipe.tasks:
        options = TaskOptions(
            data_source=recipe.data_source, generation=recipe.gen_kwargs, allow_code=recipe.allow_code_execution
        )
        for task, _ in api.collect(suites, recipe.tasks, options)[0]:
            task.check()


def evaluated_suites(recipe: Recipe) -> list[str]:
    """The suites before and after training, and that of the live model."""
    return list(dict.fromkeys([*recipe.suites, *([recipe.eval_suite] if recipe.eval_every else [])]))


def evaluation_index(recipe: Recipe, note: Note) -> ParagraphIndex | None:
    """Index of the paragraphs of all evaluation text; None if nothing is scored or the recipe does not decontaminate.

    Examples before a question come from train splits, which may be trained on, so questions are taken without them.
    """
    suites = evaluated_suites(recipe)
    if not recipe.decontaminate or not (suites or recipe.tasks):
        return None
    tasks, _ = api.collect(suites, recipe.tasks, TaskOptions(shots=0, data_source=recipe.data_source))
    index = ParagraphIndex()
    note(f"Reading {len(tasks)} evaluation task{'s' * (len(tasks) != 1)} for decontamination")
    for task, _ in tasks:
        for document in task.documents():
            for text in _texts(document):
                index.add(text)
            for prompt in task.prompts(document):
                index.add(prompt.context)
                index.add(prompt.continuation)
    return index


def _texts(document: Document) -> Iterator[str]:
    pending: list[Any] = list(document.fields.values())
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, (list, tuple)):
            pending += value


def scored_tasks(recipe: Recipe, prepared: Prepared) -> list[str]:
    """The recipe's tasks, plus the task of the held-out examples, which is registered here."""
    tasks = list(recipe.tasks)
    if prepared.held_out is not None:
        tasks.append(
            register_held_out(PREFERENCES if recipe.learns_from_pairs else INSTRUCTIONS, recipe.name, prepared.held_out)
        )
    return tasks


def score(
    recipe: Recipe, model: str, tasks: Sequence[str], progress: TrainingProgress, *, tokenizer: Path | None = None
) -> list[Run]:
    """Score a checkpoint on the recipe's suites and tasks; anything already in the journal is not scored again."""
    if not (recipe.suites or tasks):
        return []
    return api.run(
        model,
        suite=recipe.suites,
        task=tasks,
        tokenizer=tokenizer,
        limit=recipe.limit,
        sample=recipe.sample,
        gen_kwargs=recipe.gen_kwargs,
        allow_code_execution=recipe.allow_code_execution,
        data_source=recipe.data_source,
        device=recipe.device,
        apply_chat_template=bool(recipe.apply_chat_template),
        output=recipe.output,
        trust_remote_code=recipe.trust_remote_code,
        report=False,
        progress=progress,
    )


class LiveScorer:
    """Scores the model during training on a small suite, in this process, and stores the scores next to the log."""

    def __init__(self, recipe: Recipe, tokenizer: Any, progress: TrainingProgress) -> None:
        self.recipe, self.tokenizer, self.progress = recipe, tokenizer, progress

    def __call__(self, model: Any, step: int) -> None:
        self.progress.note(f"Scoring step {step} on {self.recipe.eval_suite}")
        runs = api.run(
            model,
            tokenizer=self.tokenizer,
            name=f"{self.recipe.name}@step{step}",
            suite=self.recipe.eval_suite,
            limit=self.recipe.eval_limit,
            gen_kwargs=self.recipe.gen_kwargs,
            allow_code_execution=self.recipe.allow_code_execution,
            data_source=self.recipe.data_source,
            device=str(next(model.parameters()).device),
            apply_chat_template=bool(self.recipe.apply_chat_template),
            output=self.recipe.output,
            engine="transformers",
            report=False,
        )
        lines = [line for line in read_evals(self.recipe.run_folder) if line["step"] < step]
        for run in runs:
            for metric in run.metrics.to_dict("records"):
                if metric["primary"] or metric["metric"] == CAPPED:
                    fields = {key: metric[key] for key in EVAL_FIELDS}
                    lines.append({"step": step, "suite": run.suite, **fields})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_bytes(self.recipe.run_folder / EVALS, text.encode())


def read_evals(run_folder: Path) -> list[dict[str, Any]]:
    """The scores recorded during training, in step order."""
    return read_lines(run_folder / EVALS, _EVAL)


def training_facts(recipe: Recipe, base: Checkpoint, prepared: Prepared) -> dict[str, Any]:
    """Everything about a finished training run that its report shows (`evalkit.results.writing.write_training` names the keys)."""
    log = read_log(recipe.run_folder)
    asked, recipe = recipe, prepared.effective(recipe)
    hyperparameters = {
        name: getattr(recipe, name)
        for name in (*HYPERPARAMETERS, *(ADAPTER_HYPERPARAMETERS if recipe.trains_adapter else ()))
        if getattr(recipe, name) is not None
    }
    if recipe.learns_from_pairs:
        hyperparameters |= {"loss": recipe.loss, "beta": recipe.beta}
    card = prepared.card
    return {
        "name": recipe.name,
        "base": {"name": base.name, "fingerprint": base.fingerprint},
        "recipe": asked.to_dict(),
        "place": str(recipe.run_folder),
        "data": [
            {**part, "dropped": sum(part["dropped"].values()), "reasons": part["dropped"]} for part in card["data"]
        ],
        "lengths": card["lengths"],
        "template": card["template"]["jinja"],
        "template_name": card["template"]["name"],
        "contamination": card["contamination"],
        "chat_template_applied": bool(recipe.apply_chat_template),
        "loss": [[line["step"], line["loss"], line["learning_rate"], line["tokens_per_second"]] for line in log],
        "evals": read_evals(recipe.run_folder),
        "hyper": hyperparameters,
        "steps": log[-1]["step"] if log else 0,
        "seconds": log[-1]["seconds"] if log else 0.0,
        "tokens": log[-1]["tokens"] if log else 0,
    }


def write_reports(before: Sequence[Run], after: Sequence[Run], facts: dict[str, Any]) -> Path | None:
    """Store the training facts with the runs after training, then write every run's report and the before/after report."""
    from evalkit.reports import write_report

    if not after:
        return None
    for run in after:
        write_training(run.path, facts)
    for run in (*before, *after):
        write_report([run.path], run.path / "report.html")
    out = after[0].path.parent.parent / "training.html"
    return write_report([run.path for run in (*before, *after)], out)


def verdict(before: Sequence[Run], after: Sequence[Run]) -> list[str]:
    """What changed per suite, in the sentences of `evalkit.compare_runs`."""
    from evalkit.comparison.compare import compare_runs

    lines = []
    for before_run, after_run in zip(before, after, strict=True):
        try:
            sentences = compare_runs([before_run, after_run]).verdict()
        except EvalkitError as error:
            sentences = [f"The runs on {after_run.suite} cannot be compared: {error}"]
        # the base may also have been scored on held-out examples of other training runs
        unrelated_tasks = set(before_run.tasks) - set(after_run.tasks)
        lines += [
            line
            for line in sentences
            if not (line.startswith("Not compared") and any(task in line for task in unrelated_tasks))
        ]
    return lines
