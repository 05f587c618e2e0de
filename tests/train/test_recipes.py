"""Recipes: what ships is whole, what is wrong is told, lists make a grid, and what moves weights is told from what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalkit import registry
from evalkit.errors import UnknownName, UsageError
from evalkit.train.batches import Batches
from evalkit.train.grid import expand
from evalkit.train.recipe import Recipe, make_recipe
from evalkit.train.setup import warmup_steps
from evalkit.train.shipped import find_recipe, recipe_of_run, shipped_recipes
from evalkit.train.tuning import plan

Make = Callable[..., Recipe]
SHIPPED = {recipe.name: recipe for recipe in shipped_recipes()}
PUBLISHED: dict[str, dict[str, Any]] = {
    "tulu-v2-olmo-1b": {
        "learning_rate": 2e-5,
        "epochs": 2,
        "batch": 128,
        "max_length": 2048,
        "warmup": 0.03,
        "packing": True,
    },
    "tulu-v2-olmo-7b": {"learning_rate": 2e-6, "epochs": 3, "batch": 128, "max_length": 2048, "warmup": 0.03},
    "olmo-2-1b-sft": {"learning_rate": 3e-5, "epochs": 2, "batch": 128, "max_length": 4096, "warmup": 0.03},
    "tulu-v2-olmo-1b-lora": {
        "learning_rate": 1e-4,
        "epochs": 5,
        "lora_rank": 64,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_targets": "all-linear",
    },
    "olmo-2-1b-dpo": {
        "model": "allenai/OLMo-2-0425-1B-SFT",
        "learning_rate": 2.5e-6,
        "epochs": 1,
        "loss": "sigmoid_norm",
        "beta": 5,
        "batch": 128,
        "max_length": 2048,
        "warmup": 0.1,
    },
    "tulu-3-8b-dpo": {
        "model": "allenai/Llama-3.1-Tulu-3-8B-SFT",
        "learning_rate": 5e-7,
        "epochs": 1,
        "loss": "sigmoid_norm",
        "beta": 5,
        "batch": 128,
        "max_length": 2048,
        "warmup": 0.1,
    },
    "tulu-v2-olmo-1b-dpo": {"learning_rate": 5e-7, "epochs": 3, "beta": 0.1, "batch": 32, "warmup": 0.1},
}
"""The published hyper-parameters, as their papers and model cards have them."""


@pytest.mark.parametrize("name", SHIPPED)
def test_recipes_that_ship(name: str) -> None:
    """Every one is valid, says where its numbers come from, and names suites that exist."""
    fields, where = find_recipe(name)
    (cell,) = expand(fields, where).cells
    recipe = cell.recipe
    assert recipe.name == name
    assert recipe.sources
    assert recipe.description
    assert recipe.schedule == "linear"
    assert recipe.weight_decay == 0
    assert recipe.batch % recipe.micro_batch == 0
    for suite in recipe.suites:
        registry.suite_entry(suite)
    for field, value in PUBLISHED.get(name, {}).items():
        assert getattr(recipe, field) == value, field


def test_published_recipes_are_all_there() -> None:
    """The published ones and the three for a CPU."""
    assert set(SHIPPED) == {*PUBLISHED, "olmo-tiny-sft", "olmo-tiny-lora", "olmo-tiny-dpo"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rat": 1}, "Did you mean 'learning_rate'"),
        ({"data": [{"dataset": "basics", "wieght": 2}]}, "Did you mean 'weight'"),
        ({"epochs": 0}, "epochs cannot be 0"),
        ({"method": "rlhf"}, "method cannot be 'rlhf'"),
        ({"schedule": "zigzag"}, "one of linear"),
        ({"name": "a/b"}, "a name consists of"),
        ({"data": "basics,count=2,weight=1"}, "cannot be combined"),
        ({"data": "basics,rows=2"}, "not one of split="),
        ({"learning_rate": "fast"}, "learning_rate cannot be 'fast'"),
    ],
)
def test_what_is_wrong_is_told(fields: dict[str, Any], message: str) -> None:
    """A sentence names the field, the value, and the nearest name."""
    with pytest.raises(UsageError, match=message):
        make_recipe({"model": "olmo-tiny", "data": "basics", **fields}, "mine.yaml")


def test_files_that_are_wrong(tmp_path: Path) -> None:
    """A missing file, a file that is no YAML, and an unknown name of a recipe."""
    with pytest.raises(UsageError, match="There is no recipe file"):
        find_recipe(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("model: [unclosed\ndata: x")
    with pytest.raises(UsageError, match="line 2, is not YAML"):
        find_recipe(str(tmp_path / "bad.yaml"))
    with pytest.raises(UnknownName, match="olmo-tiny-sft"):
        find_recipe("olmo-tiny-stf")


def test_a_data_set_as_text() -> None:
    """``NAME,count=N`` and the mapping are the same."""
    short = make_recipe({"data": ["a/b,split=dev,count=10", "c.jsonl,weight=0.5"]})
    assert short.to_dict()["data"] == [
        {"dataset": "a/b", "split": "dev", "count": 10},
        {"dataset": "c.jsonl", "split": "train", "weight": 0.5},
    ]
    assert [item.label for item in short.data] == ["b", "c"]


def test_the_resolved_recipe_repeats_itself(recipe: Make, tmp_path: Path) -> None:
    """What is written with a run makes the same recipe again."""
    made = recipe(suites=["quickstart"], learning_rate=3e-4)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(made.to_dict()))
    fields, where = recipe_of_run(folder)
    assert expand(fields, where).cells[0].recipe == made
    with pytest.raises(UsageError, match="is not a training run"):
        recipe_of_run(tmp_path)


def test_what_moves_weights(recipe: Make) -> None:
    """The hash follows what training depends on, and nothing else."""
    plain = recipe()
    assert plain.hash == recipe(log_every=5, output="elsewhere", description="x", eval_every=3, limit=5).hash
    for change in (
        {"seed": 1},
        {"learning_rate": 2e-3},
        {"batch": 8},
        {"template": "plain"},
        {"max_length": 100},
        {"suites": ["quickstart"]},
    ):
        assert recipe(**change).hash != plain.hash, change
    unchecked = recipe(decontaminate=False)
    assert unchecked.hash == recipe(decontaminate=False, suites=["quickstart"]).hash


def test_steps(recipe: Make) -> None:
    """Counted by hand: 10 rows, 2 at once, batches of 4: 5 micro-batches, 3 steps an epoch (the last is half)."""
    made = recipe(max_steps=None, epochs=2, batch=4, micro_batch=2, warmup=0.03)
    assert (Batches(10).total(made), Batches(10).epoch(made)) == (6, 3)
    assert warmup_steps(made, 6) == 1
    assert Batches(10).total(recipe(max_steps=7)) == 7
    assert warmup_steps(recipe(warmup=0.03), 1000) == 30
    assert warmup_steps(recipe(warmup=25), 1000) == 25


def test_lists_make_a_grid() -> None:
    """Two models, two data sets and two seeds are eight runs with names of their own."""
    grid = expand(
        {
            "name": "g",
            "model": ["olmo-tiny", "a/b"],
            "seed": [1, 2],
            "grid": {"data": ["x.jsonl", ["y.jsonl", "basics"]]},
        }
    )
    assert grid.axes == ("model", "seed", "data")
    assert len(grid.cells) == 8
    assert [cell.recipe.name for cell in grid.cells][:3] == [
        "g-olmo-tiny-s1-x",
        "g-olmo-tiny-s1-y+basics",
        "g-olmo-tiny-s2-x",
    ]
    assert grid.cells[1].axes == {"model": "olmo-tiny", "seed": "1", "data": "y+basics"}
    assert [item.dataset for item in grid.cells[1].recipe.data] == ["y.jsonl", "basics"]


def test_a_plain_recipe_is_a_grid_of_one() -> None:
    """A mixture is no axis, and neither is a list of one."""
    grid = expand({"model": ["olmo-tiny"], "data": ["x.jsonl", "basics"], "suites": ["quickstart", "olmes"]})
    assert grid.axes == ()
    (cell,) = grid.cells
    assert cell.recipe.name == "olmo-tiny-sft"
    assert len(cell.recipe.data) == 2


def test_two_runs_of_one_name() -> None:
    """Data sets whose file names are the same need labels, and may have them."""
    with pytest.raises(UsageError, match="Two runs of the grid"):
        expand({"model": "olmo-tiny", "grid": {"data": ["a/x.jsonl", "b/x.jsonl"]}})
    named = expand(
        {"name": "g", "model": "olmo-tiny", "grid": {"data": {"first": ["a/x.jsonl"], "second": ["b/x.jsonl"]}}}
    )
    assert [cell.recipe.name for cell in named.cells] == ["g-first", "g-second"]


def test_the_old_name_of_a_field_is_read(tmp_path: Path) -> None:
    """Recipe files may say `clip` for `max_grad_norm`, and not both; an argument of that name is told the new one."""
    file = tmp_path / "old.yaml"
    file.write_text("model: olmo-tiny\ndata: basics\nclip: 0.25\n")
    assert plan(file, None, {}).cells[0].recipe.max_grad_norm == 0.25
    assert plan(file, None, {"max_grad_norm": 2.0}).cells[0].recipe.max_grad_norm == 2.0
    file.write_text("model: olmo-tiny\ndata: basics\nclip: 0.25\nmax_grad_norm: 1\n")
    with pytest.raises(UsageError, match="'clip' is the old name of 'max_grad_norm'"):
        plan(file, None, {})
    with pytest.raises(UsageError, match="'clip' is now called 'max_grad_norm'"):
        plan({"model": "olmo-tiny", "data": "basics"}, None, {"clip": 1.0})
