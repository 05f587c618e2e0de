"""``evalkit train``, ``watch`` and ``list recipes`` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer.main

from evalkit.cli import app
from evalkit.train.recipe import Recipe
from tests.made.command_line import Command

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202eevil\u2066 [bold]markup[/bold]\r\nnext\tcell"


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Two conversations, one of them hostile to terminals."""
    file = tmp_path / "chats.jsonl"
    rows = [
        [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}],
        [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}],
    ]
    file.write_text("".join(json.dumps({"id": str(n), "messages": row}) + "\n" for n, row in enumerate(rows)))
    return file


def test_inspect_marks_what_is_learned(evalkit: Command, chats: Path) -> None:
    """Answers and their end tokens stand between ⟦ and ⟧, the rest does not."""
    shown = evalkit("train", "--model", "olmo-tiny", "--dataset", chats, "--inspect", 2)
    assert shown.code == 0, shown.err
    assert "<|user|>\nHello.\n<|assistant|>\n⟦Good day.<|endoftext|>⟧" in shown.out


def test_inspect_is_safe(evalkit: Command, chats: Path) -> None:
    """Escape sequences and marks that turn lines around come out as escapes, markup as it is."""
    shown = evalkit("train", "--model", "olmo-tiny", "--dataset", chats, "--inspect", 2)
    assert not set(shown.out) & {"\x1b", "\x07", "\u202e", "\u2066", "\r", "\t"}
    assert "\\x1b[2J" in shown.out
    assert "[bold]markup[/bold]" in shown.out


def test_inspect_shows_both_answers_of_a_pair(evalkit: Command) -> None:
    """Of a preference pair the better and the worse answer are shown, and only they are marked."""
    shown = evalkit("train", "olmo-tiny-dpo", "--model", "olmo-tiny", "--inspect", 1, "--json")
    better, worse = json.loads(shown.out)
    assert better["name"].endswith("the better answer")
    assert worse["name"].endswith("the worse answer")
    assert [learned for _, learned in better["pieces"]] == [False, True] == [learned for _, learned in worse["pieces"]]
    assert better["pieces"][0] == worse["pieces"][0]
    assert better["pieces"][1] != worse["pieces"][1]


def test_recipes_are_listed_without_torch(evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, models and descriptions; as JSON every field."""
    listed = evalkit("list", "recipes")
    assert "tulu-v2-olmo-1b-lora" in listed.out
    assert "allenai/tulu-v2-sft-mixture" in listed.out
    found = {one["name"]: one for one in json.loads(evalkit("list", "recipes", "--json").out)}
    assert found["olmo-2-1b-sft"]["learning_rate"] == 3e-5
    assert found["olmo-2-1b-sft"]["sources"]


def test_every_field_is_an_option(evalkit: Command) -> None:
    """No field of a recipe can be set in a file alone."""
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    singular = {"suites": "--suite", "tasks": "--task", "data": "--dataset"}
    fields = set(Recipe.model_fields) - {"description", "sources"}
    assert {singular.get(name, "--" + name.replace("_", "-")) for name in fields} <= options
    assert "--gradient" in evalkit("train", "--help").out


def test_options_win_over_the_recipe(evalkit: Command) -> None:
    """A dry run shows the resolved recipe, with what it takes, and leaves the rows for the run and nothing else."""
    shown = evalkit(
        "train", "olmo-tiny-sft", "--name", "mine", "--seed", 7, "--dataset", "basics,count=40", "--no-packing",
        "--no-decontaminate", "--learning-rate", "2e-4", "--dry-run",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    for line in ("name: mine", "seed: 7", "packing: false", "learning_rate: 0.0002", "count: 40"):
        assert line in shown.out
    assert "40 rows, 5 steps of 8" in shown.err
    assert {entry.name for entry in Path("trained/mine").iterdir()} == {".lock", "recipe.yaml", "data"}


def test_repeated_options_make_a_grid(evalkit: Command) -> None:
    """Two seeds and two data sets are four runs."""
    shown = evalkit(
        "train", "olmo-tiny-sft", "--name", "g", "--seed", 1, "--seed", 2, "--dataset", "basics", "--dataset", "trivia + basics",
        "--dry-run",
    )  # fmt: skip
    assert "4 runs: g-basics-s1, g-basics-s2, g-trivia+basics-s1, g-trivia+basics-s2" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("olmo-tiny-stf",), "Did you mean 'olmo-tiny-sft'"),
        (("--dataset", "basics"), "No base model given"),
        (("--model", "olmo-tiny"), "No training data given"),
        (("olmo-tiny-sft", "--method", "rlhf"), "method cannot be 'rlhf'"),
        (("olmo-tiny-sft", "--batch", "9", "--micro-batch", "2"), "multiple"),
        (("olmo-tiny-sft", "--report-to", "tensorbord"), "--report-to takes"),
        (("olmo-tiny-sft", "--from", "x"), "cannot be combined"),
        (("--from", "nowhere"), "is not a training run"),
        (("olmo-tiny-sft", "--name", "olmo-tiny"), "comes with evalkit"),
        (("--model", "olmo-tiny", "--dataset", "nowhere.jsonl", "--no-decontaminate"), "neither a file, a folder"),
        (("--model", "nowhere/", "--dataset", "basics"), "no model"),
        (("olmo-tiny-sft", "--learning-rates", "1"), "no option '--learning-rates'"),
    ],
)
def test_what_is_wrong_is_told(evalkit: Command, words: tuple[str, ...], message: str) -> None:
    """One or two plain sentences and exit code 2, before anything is trained."""
    assert message in evalkit("train", *words).fails(2)
    assert not list(Path().glob("trained/*/checkpoint-*"))


def test_watch_needs_something_to_score(evalkit: Command, tmp_path: Path) -> None:
    """The command's own errors are sentences too."""
    assert "--suite" in evalkit("watch", tmp_path).fails(2)
    assert "no model" in evalkit("watch", "nowhere!", "--suite", "quickstart").fails(2)
    ended = evalkit("watch", tmp_path, "--task", "arc_easy", "--once")
    assert ended.code == 0
    assert f"there is no finished checkpoint in {tmp_path}" in ended.err
    assert "is scored" not in ended.err
