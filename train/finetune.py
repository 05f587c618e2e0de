"""Fine-tune on one machine: score the base, train, register the result, score it, and report before and after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evalkit.checkpoints.status import marked_step
from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Checkpoint
from evalkit.results.reading import Run
from evalkit.system.files import write_bytes, writing
from evalkit.train import devices, scoring, setup
from evalkit.train.batches import Batches
from evalkit.train.export import check_name, export, register
from evalkit.train.log import read_log
from evalkit.train.packing import why_not_packed
from evalkit.train.prepare import Note, Prepared, find_prepared, prepare
from evalkit.train.progress import SilentTraining, TrainingProgress
from evalkit.train.recipe import Recipe, make_recipe
from evalkit.train.shipped import RECIPE_FILE, read_fields
from evalkit.train.sources import identity_now
from evalkit.train.trainer import Trained, train

if TYPE_CHECKING:
    import pandas as pd

DATA = "data"
MERGED = "base"
"""Holds the base with its adapter merged."""


@dataclass(frozen=True)
class FineTuned:
    """A finished fine-tuning run."""

    recipe: Recipe
    folder: Path
    """Weights, tokenizer, checkpoints, log."""
    before: list[Run] = field(default_factory=list)
    after: list[Run] = field(default_factory=list)
    report: Path | None = None
    """The report of before and after."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What `evalkit.results.writing.write_training` wrote."""

    @property
    def model(self) -> str:
        """The name that the result is registered under."""
        return self.recipe.name

    @property
    def log(self) -> pd.DataFrame:
        """One row per logged step: loss, learning rate, tokens per second, memory."""
        import pandas as pd

        return pd.DataFrame(read_log(self.folder))

    def verdict(self) -> list[str]:
        """What changed, in plain sentences."""
        return scoring.verdict(self.before, self.after)


def fine_tune_one(recipe: Recipe, *, force: bool = False, progress: TrainingProgress | None = None) -> FineTuned:
    """Run one recipe from start to end. The same call resumes an interrupted run and repeats nothing.

    `force` discards an existing run of the same name and starts over. Raises `EvalkitError`.
    """
    progress = progress or SilentTraining()
    recipe, base, save_dtype = _check(recipe, progress)
    with _run_lock(recipe):
        _write_recipe(recipe, force, progress)
        start = find_start(recipe)
        data, tokenizer = prepare_data(recipe, start, progress.note)
        tasks = scoring.scored_tasks(recipe, data)
        _note_data(data, progress)
        for line in estimate_resources(recipe, base, data):
            progress.note(line)
        chat_tokenizer = recipe.run_folder / "tokenizer" / recipe.name if recipe.apply_chat_template else None
        if chat_tokenizer is not None:
            tokenizer.chat_template = data.card["template"]["jinja"]
            tokenizer.save_pretrained(str(chat_tokenizer))
        before = scoring.score(recipe, recipe.model, tasks, progress, tokenizer=chat_tokenizer)
        trained = _train(recipe, start, data, tokenizer, progress)
        export(trained.checkpoint, recipe.run_folder, dtype=save_dtype, steps=trained.steps)
        register(
            recipe.name,
            recipe.run_folder,
            f"{recipe.model}, {recipe.method} on {', '.join(item.label for item in recipe.data)}",
        )
        after = scoring.score(recipe, recipe.name, tasks, progress)
        facts = scoring.training_facts(recipe, base, data)
        report = scoring.write_reports(before, after, facts)
    return FineTuned(recipe, recipe.run_folder, before, after, report, facts)


def prepare_only(recipe: Recipe, progress: TrainingProgress | None = None) -> list[str]:
    """Prepare a run's rows and keep them for it, and train nothing; sentences on what the run will take."""
    progress = progress or SilentTraining()
    recipe, base, _ = _check(recipe, progress)
    with _run_lock(recipe):
        _write_recipe(recipe, False, progress)
        data, _ = prepare_data(recipe, find_start(recipe), progress.note)
        _note_data(data, progress)
    return [
        *estimate_resources(recipe, base, data),
        f"The prepared data is in {recipe.run_folder / DATA}; run the same command without --dry-run to train on it.",
    ]


def _check(recipe: Recipe, progress: TrainingProgress) -> tuple[Recipe, Checkpoint, str]:
    """The complete recipe, its base and the dtype of the result: all that can be wrong is told before anything is done."""
    recipe = recipe.complete()
    setup.silence_libraries()
    setup.check_machine(recipe)
    device = devices.pick_recipe_device(recipe)
    setup.uses_bfloat16(recipe, device)
    check_name(recipe.name, recipe.run_folder)
    if recipe.eval_every and (recipe.processes > 1 or recipe.accelerate_config is not None):
        raise UsageError(
            "--eval-every scores in the training process, so it needs --processes 1 and no --accelerate-config. Use "
            "'evalkit watch' to score checkpoints alongside."
        )
    if recipe.apply_chat_template is None:
        recipe = recipe.model_copy(update={"apply_chat_template": False})
        if recipe.suites or recipe.tasks:
            progress.note(
                "Evaluation prompts do not use the chat template. --apply-chat-template applies it before and after "
                "training; scores with and without it are not comparable."
            )
    elif recipe.apply_chat_template:
        progress.note(
            "Evaluation prompts use the chat template, also for the base model, which was not trained with it."
        )
    scoring.check_scoring(recipe)
    base = find_base(recipe)
    return recipe, base, setup.save_dtype(recipe, base, device.type)


def find_base(recipe: Recipe) -> Checkpoint:
    """The checkpoint that training starts from."""
    from evalkit.checkpoints.resolve import resolve

    (base,) = resolve(recipe.model, tokenizer=recipe.tokenizer, trust_remote_code=recipe.trust_remote_code)
    return base


def find_start(recipe: Recipe) -> Checkpoint:
    """The weights to train: the base, with its adapter merged if it has one and another adapter is trained on top."""
    base = find_base(recipe)
    return _merged(base, recipe) if base.adapter is not None and recipe.trains_adapter else base


@contextlib.contextmanager
def _run_lock(recipe: Recipe) -> Iterator[None]:
    """Hold the run folder's lock, so that two processes never train in one folder."""
    with writing(recipe.run_folder):
        recipe.run_folder.mkdir(parents=True, exist_ok=True)
        lock = (recipe.run_folder / ".lock").open("w", encoding="utf-8")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvalkitError(
                f"{recipe.run_folder} is in use by another training process. Wait for it, or choose another --name."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def _write_recipe(recipe: Recipe, force: bool, progress: TrainingProgress) -> None:
    """Write the resolved recipe. Raises `UsageError` if the folder holds a run of a different recipe."""
    file = recipe.run_folder / RECIPE_FILE
    if file.is_file():
        old = make_recipe(read_fields(file), str(file))
        if force:
            progress.note(f"Starting over in {recipe.run_folder}")
            for entry in recipe.run_folder.iterdir():
                if entry.name == ".lock":
                    continue
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        elif old.hash != recipe.hash:
            if has_begun(recipe.run_folder):
                raise UsageError(
                    f"{recipe.run_folder} contains a run with a different recipe "
                    f"({'; '.join(recipe.differences(old))[:300]}). Choose another "
                    "--name, or --force to start over."
                )
            if old.data_hash != recipe.data_hash:
                for folder in (DATA, MERGED):
                    shutil.rmtree(recipe.run_folder / folder, ignore_errors=True)
    elif any(entry.name != ".lock" for entry in recipe.run_folder.iterdir()):
        raise UsageError(
            f"{recipe.run_folder} contains something that evalkit did not train. Choose another --name or --folder."
        )
    write_bytes(file, yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True).encode())


def has_begun(run_folder: Path) -> bool:
    """Whether a run has a checkpoint or is finished; until then nothing is lost when its recipe changes."""
    return any(run_folder.glob("checkpoint-*")) or marked_step(run_folder) is not None


def prepare_data(recipe: Recipe, base: Checkpoint, note: Note) -> tuple[Prepared, Any]:
    """The rows of a run, prepared unless they are there, and the tokenizer that they were made with."""
    tokenizer = setup.open_tokenizer(base)
    prepared = find_prepared(recipe.run_folder / DATA)
    if prepared is not None and not has_begun(recipe.run_folder) and _data_changed(recipe, prepared):
        note("The data has changed since it was prepared; preparing it again")
        prepared = None
    if prepared is None:
        fault = why_not_packed(recipe, base) if recipe.packed else None
        index = scoring.evaluation_index(recipe, note)
        prepared = prepare(recipe, tokenizer, recipe.run_folder / DATA, index, note=note, packing_fault=fault)
    return prepared, tokenizer


def _data_changed(recipe: Recipe, prepared: Prepared) -> bool:
    """Whether a local data set has other bytes than when the rows were prepared."""
    read = [part.get("identity") for part in prepared.card["data"]]
    return any(now is not None and now != then for now, then in zip(map(identity_now, recipe.data), read, strict=True))


def _note_data(data: Prepared, progress: TrainingProgress) -> None:
    lengths, checked = data.card["lengths"], data.card["contamination"]
    for part in data.card["data"]:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in part["dropped"].items())
        progress.note(
            f"{part['name']}: {part['rows']:,} rows, {part['used']:,} used, {part['held_out']:,} held out"
            + (f"; dropped: {dropped}" if dropped else "")
        )
    progress.note(
        f"Lengths in tokens: median {lengths['median']:,}, 90 % below {lengths['p90']:,}, longest {lengths['longest']:,}; "
        f"{lengths.get('truncated', 0):,} truncated to {lengths['max_length']:,}; loss on {lengths['learned']:,} tokens"
    )
    if checked["checked"]:
        progress.note(
            f"Checked against {checked['paragraphs']:,} paragraphs of evaluation text: {checked['removed']:,} examples removed"
        )


def estimate_resources(recipe: Recipe, base: Checkpoint, data: Prepared) -> list[str]:
    """Sentences on the steps, tokens and disk space of a run. Its duration is unknown until steps are timed."""
    recipe = data.effective(recipe)
    batches = Batches.of(data.card)
    steps, epoch = batches.total(recipe), batches.epoch(recipe)
    tokens = sum(part["tokens"] for part in data.card["data"]) * steps / epoch
    kind = "packed rows" if recipe.packed else "pairs" if recipe.learns_from_pairs else "rows"
    unit = "" if recipe.batch_of == "rows" else f" {recipe.batch_of}"
    lines = [
        f"{data.card['rows']:,} {kind}, {steps:,} steps of {recipe.batch:,}{unit} ({batches.accumulation(recipe):,} x "
        f"{recipe.micro_batch:,} on {recipe.processes:,}), about {tokens:,.0f} tokens"
    ]
    save_count = -(-steps // (recipe.save_every or epoch))
    kept = min(save_count, recipe.keep or save_count)
    if not recipe.trains_adapter and base.parameters:
        # each checkpoint has float32 weights and two AdamW moments; the result has float32 weights
        bytes_needed = base.parameters * (12 * kept + 4)
        bytes_free = shutil.disk_usage(
            next(folder for folder in (recipe.run_folder, *recipe.run_folder.resolve().parents) if folder.is_dir())
        ).free
        lines.append(
            f"Checkpoints: {kept:,}, about {bytes_needed / 1e9:,.2f} GB in {recipe.run_folder}; {bytes_free / 1e9:,.1f} GB free"
        )
        if bytes_needed > bytes_free:
            lines.append("Warning: the disk may run full. Use --keep 2, a larger --save-every, or another --folder.")
    return lines


def _train(recipe: Recipe, base: Checkpoint, data: Prepared, tokenizer: Any, progress: TrainingProgress) -> Trained:
    if recipe.processes == 1 and recipe.accelerate_config is None:
        live = None
        if recipe.eval_every:
            tokenizer.chat_template = data.card["template"]["jinja"]
            live = scoring.LiveScorer(recipe, tokenizer, progress)
        with devices.alone():
            return train(recipe, base, data, progress=progress, live=live)
    steps = Batches.of(data.card).total(data.effective(recipe))
    command = launch_command(recipe)
    progress.note(
        f"Training in {recipe.processes} processes with {'torchrun' if recipe.accelerate_config is None else 'accelerate'}"
    )
    with devices.alone():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if recipe.processes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(recipe.threads or 1))  # torchrun's own choice, without its notice
    return_code = subprocess.run(command, check=False, env=environment).returncode  # noqa: S603
    if return_code != 0:
        raise EvalkitError(
            f"Training failed with exit code {return_code}; see the output above. Run the same command again to resume."
        )
    from evalkit.checkpoints.status import finished_checkpoints

    checkpoints = finished_checkpoints(recipe.run_folder)
    if not checkpoints or checkpoints[-1][0] < steps:
        raise EvalkitError(
            f"Training ended at step {checkpoints[-1][0] if checkpoints else 0} of {steps}. Run the same command again to resume."
        )
    return Trained(checkpoints[-1][1], steps)


def launch_command(recipe: Recipe) -> Sequence[str]:
    """The command that starts the processes of a run (`evalkit.train.worker`): torchrun, or accelerate if the recipe names
    a configuration."""
    processes = str(recipe.processes)
    if recipe.accelerate_config is None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    else:
        config = setup.accelerate_file(recipe.accelerate_config)
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", processes]
        bfloat16 = setup.uses_bfloat16(recipe, devices.pick_recipe_device(recipe))
        command += ["--config_file", str(config), "--mixed_precision", "bf16" if bfloat16 else "no"]
    return [*command, "-m", "evalkit.train.worker", str(recipe.run_folder)]


def _merged(base: Checkpoint, recipe: Recipe) -> Checkpoint:
    """Merge a base that is an adapter into full weights, so that another adapter can be trained on top."""
    from evalkit.checkpoints.resolve import resolve
    from evalkit.encoding.tokenizers import Tokenizer
    from evalkit.engines.base import EngineSettings
    from evalkit.engines.loading import load_model, pick_device

    folder = recipe.run_folder / MERGED
    if not folder.is_dir():
        staging = recipe.run_folder / "base.making"
        shutil.rmtree(staging, ignore_errors=True)
        model = load_model(base, EngineSettings("cpu", "float32"), pick_device("cpu"))
        model.save_pretrained(str(staging))
        Tokenizer.load(base.tokenizer_path).inner.save_pretrained(str(staging))
        staging.rename(folder)
    (merged,) = resolve(str(folder))
    return merged
