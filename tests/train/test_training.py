"""The loop: the loss and a step by hand, kills and resumes, adapters, live scores."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import evalkit
from evalkit.checkpoints.status import finished_checkpoints
from evalkit.errors import EvalkitError, UsageError
from evalkit.train import finetune as loop
from evalkit.train import setup
from evalkit.train.labels import IGNORED
from evalkit.train.log import read_log
from evalkit.train.progress import SilentTraining
from evalkit.train.recipe import Recipe
from evalkit.train.trainer import Trained, make_trainer, train
from tests.made import invented_tasks  # noqa: F401 (registers test_tales)
from tests.made import training_child as child
from tests.made.training_inputs import prepare_run

Make = Callable[..., Recipe]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.made.training_child"])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork server imports what is heavy once."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))


def nll(model: Any, ids: list[int], labels: list[int]) -> tuple[float, int]:
    """Sum of negative log-likelihoods of the labelled tokens of one example alone, in float64 from the logits, and their count."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().numpy()
    total, count = 0.0, 0
    for place in range(1, len(ids)):
        if labels[place] != IGNORED:
            row = logits[place - 1]
            total += float(np.log(np.exp(row - row.max()).sum()) + row.max() - row[ids[place]])
            count += 1
    return total, count


def examples(row: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """The examples that stand in a packed row."""
    found, start = [], 0
    for length in row["seq_lengths"]:
        found.append((row["input_ids"][start : start + length], row["labels"][start : start + length]))
        start += length
    return found


def test_the_loss_of_a_packed_batch(recipe: Make) -> None:
    """The trainer's loss is the mean over labelled tokens of each example scored alone: packing leaks nothing."""
    made = recipe(micro_batch=2, save_every=100)
    data, base = prepare_run(made)
    rows = data.rows()
    trainer = make_trainer(made, base, rows, made.run_folder)
    batch = [rows[0], rows[1]]
    assert any(len(row["seq_lengths"]) > 1 for row in batch)
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(batch)).item()
    parts = [nll(trainer.model.eval(), *example) for row in batch for example in examples(row)]
    assert loss == pytest.approx(sum(total for total, _ in parts) / sum(count for _, count in parts), rel=2e-6)


def test_the_loss_of_a_padded_batch(recipe: Make) -> None:
    """The same without packing, where rows are padded to one length."""
    made = recipe(micro_batch=4, packing=False)
    data, base = prepare_run(made)
    rows = data.rows()
    trainer = make_trainer(made, base, rows, made.run_folder)
    batch = [rows[n] for n in range(4)]
    assert len({len(row["input_ids"]) for row in batch}) > 1
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(batch)).item()
    parts = [nll(trainer.model.eval(), row["input_ids"], row["labels"]) for row in batch]
    assert loss == pytest.approx(sum(total for total, _ in parts) / sum(count for _, count in parts), rel=2e-6)


def test_one_step_is_plain_torchs(recipe: Make) -> None:
    """A step of accumulated micro-batches is AdamW on the clipped gradient of the mean over all labelled tokens."""
    made = recipe(
        max_steps=1, epochs=1, batch=4, schedule="constant", warmup=0, max_grad_norm=0.5, weight_decay=0.1, save_every=1
    )
    data, base = prepare_run(made)
    rows = data.rows()
    trainer = make_trainer(made, base, rows, made.run_folder)
    seen: list[Any] = []
    collate = trainer.data_collator
    trainer.data_collator = lambda batch: seen.extend(batch) or collate(batch)  # type: ignore[func-returns-value]
    plain = setup.load_base(base, made, torch.device("cpu"), False)
    trainer.train()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=made.learning_rate, weight_decay=0.1)
    total, count = torch.zeros(()), 0
    for row in seen[:4]:
        for ids, labels in examples(row):
            logits = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            targets = torch.tensor(labels[1:])
            total = total + torch.nn.functional.cross_entropy(
                logits[:-1], targets, ignore_index=IGNORED, reduction="sum"
            )
            count += int((targets != IGNORED).sum())
    (total / count).backward()
    norm = float(torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5))
    optimizer.step()
    assert norm > 0.5, "the gradient must be clipped"
    assert read_log(made.run_folder)[0]["loss"] == pytest.approx(total.item() / count, rel=1e-5)
    assert read_log(made.run_folder)[0]["grad_norm"] == pytest.approx(norm, rel=1e-4)
    for (name, ours), theirs in zip(trainer.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6, msg=name)  # a step is 1e-3


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    (file,) = checkpoint.glob("*.safetensors")
    return dict(load_file(str(file)))


def kill_at(recipe: Recipe, folder: Path, step: int) -> None:
    """Train in a process, and kill it as soon as its log has so many steps."""
    process = CONTEXT.Process(target=child.train, args=(recipe, str(folder)))
    process.start()
    deadline = time.monotonic() + 120
    while child.ready(recipe.run_folder) < step and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.is_alive(), "the training must be killed before it ends"
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


class Begun(SilentTraining):
    """How many steps were done already when training began."""

    done: int | None = None

    def begin(self, label: str, steps: int, done: int) -> None:
        self.done = done


METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "lora": {"method": "lora", "lora_dropout": 0.2},
    "dpo": {"method": "dpo", "micro_batch": 2},
    "dpo-lora": {"method": "dpo-lora", "lora_dropout": 0.2, "micro_batch": 2},
}


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed(method: str, recipe: Make, pairs: Path, tmp_path: Path) -> None:
    """SIGKILL at random steps, then the same call: the weights of a run that was never stopped, bit for bit."""
    fields = METHODS[method]
    if "dpo" in method:
        fields = {**fields, "data": str(pairs)}
    calm = recipe(name="calm", max_steps=8, **fields)
    killed = recipe(name="killed", max_steps=8, **fields)
    for one in (calm, killed):
        data, base = prepare_run(one)
    undisturbed = train(calm, base, data)
    draw = random.Random(method)
    kill_at(killed, tmp_path, draw.randint(3, 4))
    kill_at(killed, tmp_path, draw.randint(5, 7))
    left = finished_checkpoints(killed.run_folder)
    assert 0 < left[-1][0] < 8
    told = Begun()
    resumed = train(killed, base, data, progress=told)
    assert resumed == Trained(killed.run_folder / "checkpoint-8", 8)
    assert told.done == left[-1][0]
    want, found = weights(undisturbed.checkpoint), weights(resumed.checkpoint)
    assert want.keys() == found.keys()
    for name, tensor in want.items():
        assert np.array_equal(tensor, found[name]), name
    assert [line["loss"] for line in read_log(killed.run_folder)] == [
        line["loss"] for line in read_log(calm.run_folder)
    ]
    assert [line["step"] for line in read_log(killed.run_folder)] == list(range(1, 9))
    before = {file: file.stat().st_mtime_ns for file in killed.run_folder.rglob("*.safetensors")}
    assert train(killed, base, data) == Trained(killed.run_folder / "checkpoint-8", 8)
    assert {file: file.stat().st_mtime_ns for file in killed.run_folder.rglob("*.safetensors")} == before


def test_a_checkpoint_that_was_cut_off_is_not_trusted(recipe: Make) -> None:
    """A folder without its marker is removed and trained again, whatever it holds."""
    made = recipe(max_steps=4)
    data, base = prepare_run(made)
    train(made, base, data)
    want = weights(made.run_folder / "checkpoint-4")
    (made.run_folder / "checkpoint-4" / "evalkit-finished.json").unlink()
    (made.run_folder / "checkpoint-4" / "model.safetensors").write_bytes(b"half")
    told = Begun()
    train(made, base, data, progress=told)
    assert told.done == 2
    assert all(np.array_equal(want[name], tensor) for name, tensor in weights(made.run_folder / "checkpoint-4").items())


def test_keep_leaves_the_last_checkpoints(recipe: Make) -> None:
    """--keep 1 leaves one, and training still goes on from it."""
    made = recipe(max_steps=6, keep=1)
    data, base = prepare_run(made)
    train(made, base, data)
    assert [step for step, _ in finished_checkpoints(made.run_folder)] == [6]


def test_scores_in_between_change_nothing(recipe: Make, tiny_task: str) -> None:
    """A run with --eval-every, which also generates, ends in the weights of one without, dropout and all."""
    plain = recipe(name="plain", method="lora", lora_dropout=0.3)
    live = recipe(name="live", method="lora", lora_dropout=0.3, eval_every=2)
    for one in (plain, live):
        data, base = prepare_run(one)
    modes: list[bool] = []

    def score(model: Any, step: int) -> None:
        tokenizer = setup.open_tokenizer(base)
        (run,) = evalkit.run(
            model, tokenizer=tokenizer, name=f"live@step{step}", task=[tiny_task, "test_tales"], report=False
        )
        assert run.info["counts"]["texts_generated"] == 60
        assert (run.model, run.info["checkpoint"]["step"]) == (f"live@step{step}", step)
        torch.rand(3), np.random.rand(3), random.random()
        modes.append(model.get_base_model().training)

    train(plain, base, data)
    train(live, base, data, live=score)
    assert modes == [False] * 3
    want, found = weights(plain.run_folder / "checkpoint-6"), weights(live.run_folder / "checkpoint-6")
    assert all(np.array_equal(want[name], found[name]) for name in want)


@pytest.fixture
def tiny_task(tmp_path: Path) -> str:
    """Held-out answers as a task."""
    from evalkit.tasks.instructions import register_held_out

    file = tmp_path / "held.jsonl"
    lines = [
        {
            "id": str(n),
            "domain": "d",
            "turns": [[f"<|endoftext|>Say {n}:", f" {n}.<|endoftext|>"]],
            "end": "<|endoftext|>",
        }
        for n in range(5)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return register_held_out("instructions", "probe", file)


def test_merged_and_unmerged_score_alike(recipe: Make, tiny_task: str, small_model: Path) -> None:
    """An adapter scores the same in memory with its layers, merged by --adapter, and under its registered name."""
    made = recipe(method="lora", learning_rate=2e-2, max_steps=4)
    data, base = prepare_run(made)
    rows = data.rows()
    trainer = make_trainer(made, base, rows, made.run_folder)
    trainer.train()
    (live,) = evalkit.run(trainer.model, tokenizer=setup.open_tokenizer(base), task=tiny_task, report=False)
    last = finished_checkpoints(made.run_folder)[-1][1]
    (merged,) = evalkit.run(str(small_model), adapter=last, task=tiny_task, report=False)
    (by_folder,) = evalkit.run(str(last), task=tiny_task, report=False)
    (plain,) = evalkit.run(str(small_model), task=tiny_task, report=False)
    sums = [np.array(run.documents(tiny_task)["sum"]) for run in (live, merged, by_folder, plain)]
    assert np.abs(sums[0] - sums[1]).max() < 1e-4
    assert np.array_equal(sums[1], sums[2])
    assert np.abs(sums[0] - sums[3]).max() > 0.05, "the adapter must do something"
    assert by_folder.info["checkpoint"]["adapter"] == str(last.resolve())


def test_dpo_prefers(recipe: Make, pairs: Path) -> None:
    """DPO's first loss is log 2 (the model is its own reference), and it falls."""
    made = recipe(method="dpo", data=str(pairs), max_steps=30, micro_batch=4, learning_rate=2e-3, beta=1.0)
    data, base = prepare_run(made)
    train(made, base, data)
    losses = [line["loss"] for line in read_log(made.run_folder)]
    assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
    assert np.mean(losses[-5:]) < 0.35


def test_a_loss_that_is_no_number_stops(recipe: Make) -> None:
    """Weights that are lost are an error that says what to do, not a trained model."""
    made = recipe(learning_rate=1e18, warmup=0, max_grad_norm=0, max_steps=4)
    data, base = prepare_run(made)
    with pytest.raises(EvalkitError, match="lower --learning-rate"):
        train(made, base, data)


def test_qlora_needs_cuda(recipe: Make) -> None:
    """Where torch sees no CUDA device the error says so and names what works."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UsageError, match="--method lora"):
        setup.check_machine(recipe(method="qlora"))


def test_how_several_processes_are_started(recipe: Make) -> None:
    """torch's own launcher by default; accelerate is told of the processes and of the configuration that ships."""
    made = recipe(processes=2, micro_batch=2)
    assert made.accumulation == 1
    plain = loop.launch_command(made)
    assert plain[plain.index("--nproc_per_node") + 1] == "2"
    command = loop.launch_command(made.model_copy(update={"accelerate_config": "fsdp"}))
    assert command[command.index("--num_processes") + 1] == "2"
    assert Path(command[command.index("--config_file") + 1]).is_file()
    with pytest.raises(UsageError, match="multiple"):
        _ = recipe(processes=3).accumulation


def closed_form(loss: str, beta: float, chosen: tuple[float, float, int], rejected: tuple[float, float, int]) -> float:
    """The loss of one pair from sums of log-probabilities (of the model, of the reference) and the answers' tokens: DPO (arXiv
    2305.18290, equation 7), its length-normalised form (TÜLU 3, arXiv 2411.15124, equation 6), IPO (arXiv 2310.12036, equation 17,
    per token as its authors advise)."""
    ratios = [ours - reference for ours, reference, _ in (chosen, rejected)]
    if loss != "sigmoid":
        ratios = [ratio / count for ratio, (_, _, count) in zip(ratios, (chosen, rejected), strict=True)]
    margin = ratios[0] - ratios[1]
    return float((margin - 1 / (2 * beta)) ** 2 if loss == "ipo" else np.log1p(np.exp(-beta * margin)))


@pytest.mark.parametrize(("loss", "beta"), [("sigmoid", 0.3), ("sigmoid_norm", 5.0), ("ipo", 0.2)])
def test_preference_losses_by_hand(loss: str, beta: float, recipe: Make, pairs: Path) -> None:
    """The loss of pairs of answers of different lengths, after the model has left its reference, from logits of each answer alone."""
    made = recipe(method="dpo", data=str(pairs), loss=loss, beta=beta, micro_batch=2)
    data, base = prepare_run(made)
    rows = data.rows()
    trainer = make_trainer(made, base, rows, made.run_folder)
    assert trainer.ref_model is None
    reference = setup.load_base(base, made, torch.device("cpu"), False).eval()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = [trainer.train_dataset[n] for n in range(2)]
    assert len(batch[0]["chosen_ids"]) != len(batch[0]["rejected_ids"])
    found = trainer.compute_loss(trainer.model, trainer.data_collator(batch)).item()
    want = []
    for row in batch:
        sums = []
        for ids in (row["chosen_ids"], row["rejected_ids"]):
            whole, labels = row["prompt_ids"] + ids, [IGNORED] * len(row["prompt_ids"]) + ids
            sums.append((-nll(trainer.model.eval(), whole, labels)[0], -nll(reference, whole, labels)[0], len(ids)))
        want.append(closed_form(loss, beta, *sums))
    assert found == pytest.approx(np.mean(want), rel=2e-5)


def test_the_reference_is_asked_once(recipe: Make, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference log-probabilities of three epochs are computed once, kept beside the rows, and read again on resume."""
    from evalkit.train.callbacks import dpo_trainer

    asked: list[int] = []
    compute = dpo_trainer().compute_ref_log_probs

    def counted(self: Any, model: Any, inputs: Any) -> Any:
        asked.append(len(inputs["input_ids"]) // 2)
        return compute(self, model, inputs)

    monkeypatch.setattr(dpo_trainer(), "compute_ref_log_probs", counted)
    made = recipe(
        method="dpo",
        loss="sigmoid_norm",
        beta=5.0,
        data=str(pairs),
        max_steps=None,
        epochs=3,
        micro_batch=4,
        save_every=20,
    )
    data, base = prepare_run(made)
    train(made, base, data)
    assert sum(asked) == data.card["rows"] == 36
    shutil.rmtree(made.run_folder / "checkpoint-27")
    train(made, base, data)
    assert sum(asked) == 36
    assert read_log(made.run_folder)[0]["loss"] == pytest.approx(np.log(2), rel=1e-5)


def test_memory_is_free_when_training_is_over(recipe: Make) -> None:
    """Before the result is scored nothing of the trained model or its optimiser is alive."""
    import weakref

    from evalkit.train import trainer as module

    made = recipe(max_steps=1)
    data, base = prepare_run(made)
    kept: list[Any] = []
    make = module.make_trainer

    def watched(*args: Any, **kwargs: Any) -> Any:
        trainer = make(*args, **kwargs)
        kept.extend(weakref.ref(parameter) for parameter in trainer.model.parameters())
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_trainer", watched)
        train(made, base, data)
    assert kept
    assert not [one for one in kept if one() is not None]


def test_what_cannot_be_scored_is_told_before_training(recipe: Make) -> None:
    """Programs that may not be run, also of the live model's suite alone; texts that would all be the same."""
    for fields in ({"tasks": ["codex_mbpp:gen::olmes"]}, {"eval_every": 2, "eval_suite": "gen"}):
        made = recipe(data_source="bundle", **fields)
        with pytest.raises(UsageError, match="runs programs that the model writes"):
            loop.fine_tune_one(made)
        assert not made.run_folder.exists()
    with pytest.raises(UsageError, match="3 texts per prompt at temperature 0"):
        loop.fine_tune_one(recipe(data_source="bundle", tasks=["gsm8k:gen::olmes"], gen_kwargs={"n": 3}))
