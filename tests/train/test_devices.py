"""What a step holds: the same rows on any number of devices, in any micro-batches, packed or not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM

import evalkit
from evalkit.errors import UsageError
from evalkit.train import devices, setup
from evalkit.train.batches import Batches, StepSampler
from evalkit.train.finetune import FineTuned, fine_tune_one
from evalkit.train.labels import IGNORED
from evalkit.train.log import read_log
from evalkit.train.packing import packing_fault
from evalkit.train.recipe import Recipe
from evalkit.train.trainer import make_trainer, train
from tests.made.training_inputs import TINY, prepare_run, write_chats

Make = Callable[..., Recipe]


@contextlib.contextmanager
def visible_gpus(count: int) -> Iterator[Any]:
    """torch and transformers see so many GPUs that there are not; yields the mock of ``torch.cuda.set_device``."""
    there = [
        "torch.cuda.is_available",
        "torch.cuda.is_bf16_supported",
        "transformers.utils.import_utils.is_torch_bf16_gpu_available",
        "transformers.training_args.is_torch_bf16_gpu_available",
    ]
    with contextlib.ExitStack() as stack:
        for name in there:
            stack.enter_context(mock.patch(name, return_value=True))
        stack.enter_context(mock.patch("torch.cuda.device_count", return_value=count))
        yield stack.enter_context(mock.patch("torch.cuda.set_device"))


@pytest.mark.parametrize("method", ["sft", "dpo"])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_visible_gpus_change_nothing(method: str, count: int, recipe: Make) -> None:
    """One process trains on one device: 128 sequences a step and the same number of steps, however many GPUs there are."""
    made = recipe(method=method, batch=128, micro_batch=4, device="auto", max_steps=None, epochs=2)
    with visible_gpus(count):
        arguments = setup.training_arguments(
            made, made.run_folder, Batches(1000), devices.pick_recipe_device(made), True
        )
        assert arguments.n_gpu == 1  # transformers' Trainer replicates the model where it is more
        assert arguments.train_batch_size * arguments.gradient_accumulation_steps == 128
        assert arguments.max_steps == 16  # twice ceil(1000 / 128)


def test_a_numbered_gpu_is_used(recipe: Make) -> None:
    """--device cuda:3 trains there, and is made the current one, which accelerate takes."""
    made = recipe(device="cuda:3")
    with visible_gpus(8) as set_device:
        device = devices.pick_recipe_device(made)
        arguments = setup.training_arguments(made, made.run_folder, Batches(10), device, True)
        assert arguments.device == torch.device("cuda", 3)
        assert set_device.call_args.args == (torch.device("cuda", 3),)


def test_each_process_has_its_own_gpu(recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is loaded onto the GPU of its process's local rank; one GPU for several processes is refused."""
    made = recipe(processes=4, device="cuda")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with visible_gpus(4):
        assert devices.pick_recipe_device(made) == torch.device("cuda", 2)
        with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES"):
            devices.pick_recipe_device(recipe(processes=4, device="cuda:1"))
    with visible_gpus(2), pytest.raises(UsageError, match="needs as many GPUs, but torch sees 2"):
        devices.pick_recipe_device(made)


def test_a_schedulers_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training in one process waits for nobody, whatever a launcher left in the environment, which stays as it was."""
    for name, value in {"WORLD_SIZE": "8", "LOCAL_RANK": "0", "ACCELERATE_USE_FSDP": "true", "HOME": "/x"}.items():
        monkeypatch.setenv(name, value)
    with devices.alone():
        assert {"WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_FSDP"}.isdisjoint(os.environ)
        assert os.environ["HOME"] == "/x"
    assert os.environ["WORLD_SIZE"] == "8"


def steps_of(batches: Batches, recipe: Recipe, epoch: int) -> list[list[int]]:
    """The rows of each step as the processes get them: micro-batches dealt out in turn, `accumulation` of them a step."""
    order = batches.indices(recipe, epoch)
    micro = [order[n : n + recipe.micro_batch] for n in range(0, len(order), recipe.micro_batch)]
    assert all(len(one) == recipe.micro_batch for one in micro)
    assert len(micro) % recipe.processes == 0
    a_step = batches.accumulation(recipe) * recipe.processes
    return [
        sorted(row for one in micro[n : n + a_step] for row in one if row < batches.rows)
        for n in range(0, len(micro), a_step)
    ]


@pytest.mark.parametrize(
    ("method", "batches"),
    [
        ("sft", Batches(1003)),
        ("sft", Batches(5)),
        ("sft", Batches(19, (3, 5, 4, 6, 1))),
        ("dpo", Batches(1003)),  # pairs are not packed
        ("dpo", Batches(5)),
    ],
)
def test_the_same_rows_in_every_step(method: str, batches: Batches, recipe: Make) -> None:
    """On 1, 2 and 8 processes and in any micro-batches, steps hold the same rows, each row once an epoch (pairs fill up)."""
    base = recipe(method=method, batch=16, batch_of="rows" if batches.steps is None else "examples")
    found = []
    for processes, micro in [(1, 1), (1, 16), (2, 4), (8, 1), (8, 2)]:
        made = base.model_copy(update={"processes": processes, "micro_batch": micro})
        found.append([steps_of(batches, made, epoch) for epoch in (0, 1)])
        assert len(StepSampler(batches, made)) == len(list(StepSampler(batches, made)))
    assert all(one == found[0] for one in found)
    first, second = found[0]
    assert first != second or len(first) == 1
    assert len(first) == batches.epoch(base)
    rows = sorted(row for step in first for row in step)
    if method == "sft":
        assert rows == list(range(batches.rows))
    else:
        assert set(rows) == set(range(batches.rows))
        assert len(rows) % 16 == 0


def weights(folder: Path) -> dict[str, Any]:
    return dict(load_file(str(folder / "model.safetensors")))


def plain_run(small_model: Path, tmp_path: Path, **more: Any) -> FineTuned:
    fields = {
        "model": str(small_model), "data": str(write_chats(tmp_path / "ten.jsonl", 10)), "epochs": 2, "batch": 4,
        "max_length": 128, "learning_rate": 1e-3, "held_out": 0, "threads": 1, "device": "cpu", "packing": False,
    }  # fmt: skip
    tuned = evalkit.fine_tune(**{**fields, **more})
    assert isinstance(tuned, FineTuned)
    return tuned


@pytest.mark.slow
def test_two_processes_of_accelerate_train_as_one(small_model: Path, tmp_path: Path) -> None:
    """Two epochs whose last steps are not full: the weights of ``accelerate launch`` with two processes are those of one."""
    config = tmp_path / "two.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nuse_cpu: true\nnum_machines: 1\nmachine_rank: 0\n"
        "num_processes: 2\nmain_training_function: main\nrdzv_backend: static\nsame_network: true\n"
    )
    alone = plain_run(small_model, tmp_path, name="alone")
    both = plain_run(small_model, tmp_path, name="both", processes=2, accelerate_config=str(config))
    assert [line["step"] for line in read_log(both.folder)] == [1, 2, 3, 4, 5, 6]
    one, other = weights(alone.folder), weights(both.folder)
    assert max(float(np.abs(one[name] - other[name]).max()) for name in one) < 1e-6
    assert both.log["loss"].tolist() == pytest.approx(alone.log["loss"].tolist(), rel=1e-6)


def test_advice_is_followed_on_resume(recipe: Make) -> None:
    """A run goes on with another micro-batch and gradient checkpointing, to the weights that it would have had."""
    made = recipe(packing=False, batch=4, micro_batch=4)
    data, base = prepare_run(made)
    train(made, base, data)
    want = weights(made.run_folder / "checkpoint-6")
    for step in (4, 6):
        shutil.rmtree(made.run_folder / f"checkpoint-{step}")
    changed = made.model_copy(
        update={"micro_batch": 1, "gradient_checkpointing": True, "log_every": 2, "save_every": 3}
    )
    assert changed.hash == made.hash  # so that the command is not refused
    train(changed, base, data)
    assert [line["step"] for line in read_log(made.run_folder)] == [1, 2, 4, 6]
    found = weights(made.run_folder / "checkpoint-6")
    assert max(float(np.abs(want[name] - found[name]).max()) for name in want) < 1e-6


@pytest.mark.slow
def test_two_processes_learn_preferences_as_one(small_model: Path, tmp_path: Path) -> None:
    """The same for pairs, whose last step of an epoch is filled up, and whose reference two processes compute together."""
    file = tmp_path / "pairs.jsonl"
    lines = [
        {"prompt": f"After {n}?", "chosen": f"{n + 1} comes next.", "rejected": f"Say {n + 2}."} for n in range(10)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    fields = {"data": str(file), "method": "dpo", "loss": "sigmoid_norm", "beta": 5.0}
    alone = plain_run(small_model, tmp_path, name="alone", **fields)
    both = plain_run(small_model, tmp_path, name="both", processes=2, **fields)
    assert len(both.log) == 6
    one, other = weights(alone.folder), weights(both.folder)
    assert max(float(np.abs(one[name] - other[name]).max()) for name in one) < 1e-6


def test_what_may_change_on_resume(recipe: Make) -> None:
    """What changes results by rounding at most may differ; what changes them is another recipe."""
    made = recipe(batch=8)
    for field, value in {
        "micro_batch": 2, "gradient_checkpointing": True, "save_dtype": "bfloat16", "processes": 2, "threads": 3,
        "log_every": 5, "save_every": 7, "device": "cpu",
    }.items():  # fmt: skip
        assert made.model_copy(update={field: value}).hash == made.hash, field
    for field, value in {
        "batch": 4, "batch_of": "examples", "packing": False, "dtype": "bfloat16", "max_length": 64, "seed": 1,
        "learning_rate": 1.0, "loss": "ipo", "beta": 2.0,
    }.items():  # fmt: skip
        assert made.model_copy(update={field: value}).hash != made.hash, field


def test_the_dtype_is_asked_before_training(small_model: Path, chats: Path, tmp_path: Path) -> None:
    """A float16 base on CUDA: nothing is read or trained before the person is told, and the advice works."""
    half = tmp_path / "half"
    shutil.copytree(small_model, half)
    model = AutoModelForCausalLM.from_pretrained(str(small_model)).half()
    model.save_pretrained(str(half))
    from evalkit.train.finetune import find_base
    from evalkit.train.recipe import make_recipe

    made = make_recipe({"name": "mine", "model": str(half), "data": str(chats)}).complete()
    with visible_gpus(1), pytest.raises(UsageError, match=r"float16.*--save-dtype"):
        fine_tune_one(made)
    assert not made.run_folder.exists()
    chosen = made.model_copy(update={"save_dtype": "bfloat16"})
    assert setup.save_dtype(chosen, find_base(chosen), "cuda") == "bfloat16"


# -------------------------------------------------------------------------------------------------------------- packing

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ROTARY = {**SIZES, "intermediate_size": 64, "max_position_embeddings": 64}
ARCHITECTURES: dict[str, tuple[dict[str, Any], bool]] = {
    "olmo2": (ROTARY, True),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, True),
    "opt": ({**SIZES, "dropout": 0.0, "ffn_dim": 64, "max_position_embeddings": 64, "word_embed_proj_dim": 32}, False),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, False),
    "falcon": ({**SIZES, "alibi": True, "new_decoder_architecture": False}, False),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, False),
    "bamba": (
        {
            **ROTARY,
            "num_key_value_heads": 4,
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "attn_layer_indices": [1],
        },
        False,
    ),
}


def random_model(kind: str, attention: str | None = None, scale: float = 0.2, **sizes: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=97, **sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * scale)
    return model


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_which_models_are_packed(kind: str, attention: str | None) -> None:
    """The probe says what a plain look says: log-probabilities of the second of two packed examples, and of it alone."""
    sizes, apart = ARCHITECTURES[kind]
    model = random_model(kind, attention, **sizes)
    first, second = torch.arange(10, 17), torch.arange(40, 52)
    with torch.no_grad():
        alone = model(input_ids=second[None], use_cache=False).logits[0].log_softmax(-1)
        packed = model(
            input_ids=torch.cat([first, second])[None],
            position_ids=torch.cat([torch.arange(7), torch.arange(12)])[None],
            use_cache=False,
        ).logits[0, 7:]
    near = bool(torch.allclose(alone, packed.log_softmax(-1), atol=1e-4))
    assert near is apart
    assert (packing_fault(model) is None) is apart
    # also where weights are so small that a loss would hardly tell
    assert (packing_fault(random_model(kind, attention, scale=0.02, **sizes)) is None) is apart


@pytest.mark.parametrize("kind", ["opt", "bloom", "mamba"])
def test_models_that_cannot_be_packed_train_unpacked(kind: str, chats: Path, tmp_path: Path) -> None:
    """Packing is left out with a word, --attention auto takes what there is, and the loss is that of examples alone."""
    folder = tmp_path / kind
    sizes = {**ARCHITECTURES[kind][0], **({"max_position_embeddings": 256} if kind == "opt" else {})}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=4096, **sizes)).save_pretrained(str(folder))
    for file in TINY.glob("*token*"):
        shutil.copy(file, folder)

    class Told(evalkit.train.progress.SilentTraining):  # type: ignore[name-defined, misc]
        notes: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.notes.append(text)

    told = Told()
    tuned = evalkit.fine_tune(
        model=str(folder), data=str(chats), name=kind, batch=8, micro_batch=4, max_steps=1, max_length=128, held_out=0, warmup=0,
        threads=1, device="cpu", progress=told,
    )  # fmt: skip
    assert isinstance(tuned, FineTuned)
    assert any("Packing is disabled" in line and "attend to each other" in line for line in told.notes)
    assert tuned.facts["hyper"]["packing"] is False
    rows = evalkit.train.prepare.find_prepared(tuned.folder / "data").rows()  # type: ignore[attr-defined, union-attr]
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    total, count = 0.0, 0
    for index in Batches(len(rows)).indices(tuned.recipe, 0)[:8]:
        ids, labels = torch.tensor(rows[index]["input_ids"]), torch.tensor(rows[index]["labels"])
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
        total += torch.nn.functional.cross_entropy(
            logits[:-1], labels[1:], ignore_index=IGNORED, reduction="sum"
        ).item()
        count += int((labels[1:] != IGNORED).sum())
    assert tuned.log["loss"].iloc[0] == pytest.approx(total / count, rel=1e-5)


def test_a_batch_of_examples_or_tokens(recipe: Make) -> None:
    """Packed or not, a step of 8 examples is 8 examples; tokens count as many examples as hold them."""
    seen = {}
    for packing in (True, False):
        made = recipe(
            name=f"p{packing}", batch=8, batch_of="examples", packing=packing, micro_batch=2, max_steps=5, seed=5
        )
        data, base = prepare_run(made)
        batches = Batches.of(data.card)
        assert batches.epoch(made) == 5  # 36 examples
        if packing:
            assert batches.steps is not None
            assert sum(batches.steps) == data.card["rows"] < 36
            first = data.rows().select(range(batches.steps[0]))
            assert sum(len(row["seq_lengths"]) for row in first) == 8
        trainer = make_trainer(made, base, data.rows(), made.run_folder, batches)
        learned = torch.cat([one["labels"][:, 1:].flatten() for one in trainer.get_train_dataloader()])
        seen[packing] = sorted(learned[learned != IGNORED].tolist())
        train(made, base, data)
        assert [line["step"] for line in read_log(made.run_folder)] == [1, 2, 3, 4, 5]
    assert seen[True] == seen[False], "every label is trained once an epoch"
    in_tokens = recipe(name="tokens", batch=400, batch_of="tokens", packing=True)
    data, _ = prepare_run(in_tokens)
    mean = data.card["data"][0]["tokens"] / 36
    assert Batches.of(data.card).epoch(in_tokens) == -(-36 // round(400 / mean))
    with pytest.raises(UsageError, match="less than one example"):
        prepare_run(recipe(name="few", batch=3, batch_of="tokens"))
