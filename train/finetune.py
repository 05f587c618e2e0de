"""One command, one machine: score the base, train, register the result, score it, and one report of before and after."""

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

from evalkit.errors import EvalkitError, UsageError
from evalkit.records import Checkpoint
from evalkit.results.reading import Run
from evalkit.system.files import write_bytes, writing
from evalkit.train import scoring, setup
from evalkit.train.export import check_name, export, register
from evalkit.train.log import read_log
from evalkit.train.prepare import Prepared, find_prepared, prepare
from evalkit.train.progress import SilentTraining, TrainingProgress
from evalkit.train.recipe import Recipe, make_recipe
from evalkit.train.shipped import WRITTEN, read_fields
from evalkit.train.trainer import Trained, train

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
FSDP = HERE / "accelerate" / "fsdp.yaml"
"""Ships with evalkit: fully sharded, bfloat16, whole state dicts in checkpoints."""
DATA = "data"


@dataclass(frozen=True)
class FineTuned:
    """A finished fine-tuning run. Tables are pandas frames."""

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
        """A line a logged step: loss, learning rate, tokens a second, memory."""
        import pandas as pd

        return pd.DataFrame(read_log(self.folder))

    def verdict(self) -> list[str]:
        """What changed, in plain sentences."""
        return scoring.verdict(self.before, self.after)


def fine_tune_one(recipe: Recipe, *, force: bool = False, progress: TrainingProgress | None = None) -> FineTuned:
    """Everything of one recipe. The same call goes on where an earlier one stopped, and does nothing twice.

    `force` starts over where a run of this name, or of another recipe under it, is there. Raises `EvalkitError`.
    """
    progress = progress or SilentTraining()
    recipe = recipe.complete()
    setup.be_quiet()
    setup.check_machine(recipe)
    check_name(recipe.name, recipe.place)
    if recipe.eval_every and recipe.processes > 1:
        raise UsageError(
            "--eval-every scores in the training's own process, so it takes --processes 1. 'evalkit watch' scores checkpoints beside it."
        )
    if recipe.apply_chat_template is None:
        recipe = recipe.model_copy(update={"apply_chat_template": False})
        if recipe.suites or recipe.tasks:
            progress.note(
                "Questions are asked without the chat template that is trained, as the base was. --apply-chat-template asks "
                "inside it, before and after alike; the two do not compare."
            )
    elif recipe.apply_chat_template:
        progress.note("Questions are asked inside the chat template, of the base too, which never saw it in training.")
    base = find_base(recipe)
    with _alone(recipe):
        _begin(recipe, force, progress)
        start = find_start(recipe)
        data, tokenizer = _data(recipe, start, progress)
        tasks = scoring.scored_tasks(recipe, data)
        _say_data(data, progress)
        for line in what_it_takes(recipe, base, data):
            progress.note(line)
        chat = recipe.place / "tokenizer" / recipe.name if recipe.apply_chat_template else None
        if chat is not None:
            tokenizer.chat_template = data.card["template"]["jinja"]
            tokenizer.save_pretrained(str(chat))
        before = scoring.score(recipe, recipe.model, tasks, progress, tokenizer=chat)
        trained = _train(recipe, start, data, tokenizer, progress)
        device = setup.device_of(recipe)
        export(trained.checkpoint, recipe.place, dtype=setup.save_dtype(recipe, base, device.type), steps=trained.steps)
        register(
            recipe.name,
            recipe.place,
            f"{recipe.model}, {recipe.method} on {', '.join(item.label for item in recipe.data)}",
        )
        after = scoring.score(recipe, recipe.name, tasks, progress)
        facts = scoring.training_facts(recipe, base, data)
        report = scoring.write_reports(before, after, facts)
    return FineTuned(recipe, recipe.place, before, after, report, facts)


def find_base(recipe: Recipe) -> Checkpoint:
    """The checkpoint that training starts from."""
    from evalkit.checkpoints.resolve import resolve

    (base,) = resolve(recipe.model, tokenizer=recipe.tokenizer, trust_remote_code=recipe.trust_remote_code)
    return base


def find_start(recipe: Recipe) -> Checkpoint:
    """The weights that are trained: the base, or whole ones of it where it is an adapter and another is put on top."""
    base = find_base(recipe)
    return _merged(base, recipe) if base.adapter is not None and recipe.adapter else base


@contextlib.contextmanager
def _alone(recipe: Recipe) -> Iterator[None]:
    """Two processes never train in one folder."""
    with writing(recipe.place):
        recipe.place.mkdir(parents=True, exist_ok=True)
        lock = (recipe.place / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvalkitError(
                f"{recipe.place} is being trained in by another process. Wait for it, or choose another --name."
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def _begin(recipe: Recipe, force: bool, progress: TrainingProgress) -> None:
    """Write the resolved recipe; one that would make other weights than what is there is refused."""
    file = recipe.place / WRITTEN
    if file.is_file():
        old = make_recipe(read_fields(file), str(file))
        if force:
            progress.note(f"Starting over in {recipe.place}")
            for entry in recipe.place.iterdir():
                if entry.name == ".lock":
                    continue
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        elif old.hash != recipe.hash:
            ours, theirs = recipe.to_dict(), old.to_dict()
            changed = [f"{key} was {theirs[key]!r} and is {ours[key]!r}" for key in ours if ours[key] != theirs[key]]
            raise UsageError(
                f"{recipe.place} holds a run of another recipe ({'; '.join(changed)[:300]}). Choose another --name, or --force "
                "to start over."
            )
    elif any(entry.name != ".lock" for entry in recipe.place.iterdir()):
        raise UsageError(
            f"{recipe.place} holds something that evalkit did not train. Choose another --name or --folder."
        )
    write_bytes(file, yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True).encode())


def _data(recipe: Recipe, base: Checkpoint, progress: TrainingProgress) -> tuple[Prepared, Any]:
    tokenizer = setup.open_tokenizer(base)
    found = find_prepared(recipe.place / DATA)
    if found is None:
        index = scoring.evaluation_index(recipe, progress.note)
        found = prepare(recipe, tokenizer, recipe.place / DATA, index, note=progress.note)
    return found, tokenizer


def _say_data(data: Prepared, progress: TrainingProgress) -> None:
    lengths, checked = data.card["lengths"], data.card["contamination"]
    for part in data.card["data"]:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in part["dropped"].items())
        progress.note(
            f"{part['name']}: {part['rows']:,} rows, {part['used']:,} used, {part['held_out']:,} held out"
            + (f"; left out: {dropped}" if dropped else "")
        )
    progress.note(
        f"Lengths in tokens: median {lengths['median']:,}, 90 % below {lengths['p90']:,}, longest {lengths['longest']:,}; "
        f"{lengths.get('truncated', 0):,} cut at {lengths['max_length']:,}; {lengths['learned']:,} tokens are learned"
    )
    if checked["checked"]:
        progress.note(
            f"Checked against {checked['paragraphs']:,} paragraphs of evaluation text: {checked['removed']:,} examples removed"
        )


def what_it_takes(recipe: Recipe, base: Checkpoint, data: Prepared) -> list[str]:
    """Steps, tokens and disk of a run, in sentences. How long it takes is told once steps are timed."""
    steps, epoch = setup.steps_of(recipe, data.card["rows"])
    tokens = sum(part["tokens"] for part in data.card["data"]) * steps / epoch
    rows = "packed rows" if recipe.packed else "pairs" if recipe.pairs else "rows"
    lines = [
        f"{data.card['rows']:,} {rows}, {steps:,} steps of {recipe.batch:,} ({recipe.accumulation:,} x {recipe.micro_batch:,} on "
        f"{recipe.processes:,}), about {tokens:,.0f} tokens"
    ]
    saves = -(-steps // (recipe.save_every or epoch))
    kept = min(saves, recipe.keep or saves)
    if not recipe.adapter and base.parameters:
        # float32 weights in each checkpoint, two moments of AdamW beside the last ones, and the result
        need = base.parameters * (12 * kept + 4)
        free = shutil.disk_usage(
            next(place for place in (recipe.place, *recipe.place.resolve().parents) if place.is_dir())
        ).free
        lines.append(
            f"Checkpoints: {kept:,}, about {need / 1e9:,.2f} GB in {recipe.place}; {free / 1e9:,.1f} GB are free"
        )
        if need > free:
            lines.append(
                "Warning: the disk may become full. --keep 2, a longer --save-every, or another --folder helps."
            )
    return lines


def _train(recipe: Recipe, base: Checkpoint, data: Prepared, tokenizer: Any, progress: TrainingProgress) -> Trained:
    if recipe.processes == 1:
        live = None
        if recipe.eval_every:
            tokenizer.chat_template = data.card["template"]["jinja"]
            live = scoring.Live(recipe, tokenizer, progress)
        return train(recipe, base, data, progress=progress, live=live)
    steps, _ = setup.steps_of(recipe, data.card["rows"])
    command = launch_command(recipe)
    progress.note(f"Training on {recipe.processes} processes")
    code = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}).returncode  # noqa: S603
    if code != 0:
        raise EvalkitError(
            f"The training's processes ended with code {code}; what they said is above. The same command goes on."
        )
    from evalkit.checkpoints.status import finished_checkpoints

    done = finished_checkpoints(recipe.place)
    if not done or done[-1][0] < steps:
        raise EvalkitError(f"Training ended at step {done[-1][0] if done else 0} of {steps}. The same command goes on.")
    return Trained(done[-1][1], steps)


def launch_command(recipe: Recipe) -> Sequence[str]:
    """How the processes of a run are started, each of which runs `evalkit.train.worker`: by torch, or by accelerate where a
    configuration of its own is named."""
    processes = str(recipe.processes)
    if recipe.accelerate_config is None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    else:
        config = FSDP if recipe.accelerate_config == "fsdp" else Path(recipe.accelerate_config).expanduser()
        if not config.is_file():
            raise UsageError(f"There is no accelerate configuration {config}. Write fsdp, or the path of a file.")
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", processes]
        command += ["--config_file", str(config)]
    return [*command, "-m", "evalkit.train.worker", str(recipe.place)]


def _merged(base: Checkpoint, recipe: Recipe) -> Checkpoint:
    """A base that is an adapter, as whole weights: another adapter is trained on top of it."""
    from evalkit.checkpoints.resolve import resolve
    from evalkit.encoding.tokenizers import Tokenizer
    from evalkit.engines.base import EngineSettings
    from evalkit.engines.loading import load_model, pick_device

    folder = recipe.place / "base"
    if not folder.is_dir():
        making = recipe.place / "base.making"
        shutil.rmtree(making, ignore_errors=True)
        model = load_model(base, EngineSettings("cpu", "float32"), pick_device("cpu"))
        model.save_pretrained(str(making))
        Tokenizer.load(base.tokenizer_path).inner.save_pretrained(str(making))
        making.rename(folder)
    (merged,) = resolve(str(folder))
    return merged
