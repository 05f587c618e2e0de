"""``--sample N --seed S``: documents at random, of texts of each domain; named, marked, and never together with ``--limit``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.errors import UsageError
from evalkit.options import RunOptions
from evalkit.task import TaskBase, TaskOptions
from evalkit.train.recipe import make_recipe
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.command_line import Command
from tests.made.invented_data import ARC, make, write_folder
from tests.made.paloma_release import line, write

ROWS = [{**ARC[0], "id": f"r{number}"} for number in range(30)]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Thirty rows, ids in order."""
    return str(write_folder(tmp_path / "data", "arc_easy", test=ROWS))


@pytest.mark.parametrize("seed", [1234, 7])
def test_questions_are_drawn_by_the_seed(folder: str, seed: int) -> None:
    """Python's own sample of the rows, in every regime; the protocol says so, and the results are limited."""
    drawn = [row["id"] for row in random.Random(seed).sample(ROWS, 5)]
    for regime in ("lm-eval", "in-loop"):
        task = make(f"arc_easy::{regime}", data_source=folder, shots=0, sample=5, seed=seed)
        assert [document.native_id for document in task.documents()] == drawn
        assert task.protocol()["sample"] == f"Random({seed}).sample"
        assert task.limited
    whole = make("arc_easy", data_source=folder, sample=30)
    assert [document.native_id for document in whole.documents()] == [row["id"] for row in ROWS]
    assert whole.protocol()["sample"] is None
    assert not whole.limited


def test_texts_are_drawn_in_each_domain(tmp_path: Path) -> None:
    """So many of each domain, in the order of the files; a domain with fewer is whole."""
    lines = [line(f"{domain} {number}", id=number, subdomain=domain) for number in range(9) for domain in ("a", "b")]
    write(tmp_path / "corpus/source/all.jsonl", [*lines, line("c 0", id=0, subdomain="c")])

    def texts(**options: Any) -> tuple[list[str], TaskBase]:
        task = registry.make_task("texts/source", TaskOptions(data=tmp_path / "corpus", **options))
        return [document.fields["text"] for document in task.documents()], task

    found, task = texts(sample=3, seed=5)
    places = sorted(random.Random(5).sample(range(9), 3))
    assert [text for text in found if text[0] == "a"] == [f"a {place}" for place in places]
    assert [text for text in found if text[0] == "b"] == [f"b {place}" for place in places]
    assert found[-1] == "c 0"
    assert task.limited
    assert task.protocol()["documents"] == 7
    assert task.protocol()["sample"] == "Random(5).sample"
    assert texts(sample=3)[0] != found
    everything, whole = texts(sample=9)
    assert len(everything) == 19
    assert not whole.limited
    assert "sample" not in whole.protocol()


def test_the_options_are_checked_and_named() -> None:
    """In the folder's name, in the settings, and for runs that score alike; one choice alone."""
    options = RunOptions.make({"sample": 100}, command="x")
    seeded = RunOptions.make({"sample": 100, "seed": 3}, command="x")
    assert options.variation("fake", "fake") == ("sample100",)
    assert seeded.variation("fake", "fake") == ("sample100", "seed3")
    assert seeded.settings()["sample"] == 100
    assert not options.scores_alike(seeded.settings())
    assert options.scores_alike(options.settings())
    assert RunOptions().scores_alike({})  # runs before there were samples
    with pytest.raises(UsageError, match="--sample and --limit cannot be combined"):
        RunOptions.make({"sample": 5, "limit": 5}, command="x")
    with pytest.raises(UsageError, match="--seed has an effect only together with --sample N"):
        RunOptions.make({"seed": 5}, command="x")
    with pytest.raises(UsageError, match="cannot be combined"):
        make_recipe({"model": "m", "limit": 5, "sample": 5})


def test_a_sampled_run(evalkit: Command, folder: str, alone: Path) -> None:
    """The folder tells the sample; a task that takes none says so."""
    tiny = make_checkpoint(alone / "tiny", positions=2048)
    words = ("run", "--model", tiny, "--engine", "fake", "--no-report")
    done = evalkit(*words, "--task", "arc_easy", "--data-source", folder, "--sample", 4, "--seed", 2)
    assert done.code == 0, done.err
    assert (alone / "results/tiny/tasks~sample4,seed2,fake/main/run.json").is_file()
    examples = Path(__file__).parents[2] / "examples"
    refused = evalkit(*words, "--task", "capitals", "--tasks-dir", examples, "--sample", 4)
    assert "does not support --sample" in refused.fails(2)
    registry.tasks.remove("capitals")
