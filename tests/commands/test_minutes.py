"""How long a run will take: said before it begins where this machine knows, and within seconds where it does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evalkit.checkpoints.resolve import resolve
from evalkit.commands import progress
from evalkit.options import ScoringOptions
from evalkit.scoring import speed
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.command_line import Command
from tests.made.paloma_release import line, write

SLOW = ("--engine", "fake", "--engine-arg", "delay=0.1", "--batch-tokens", "200", "--no-report")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two revisions of a model."""
    for number in (1, 2):
        make_checkpoint(tmp_path / f"many/step{number}", seed=number)
    return tmp_path / "many"


@pytest.fixture(autouse=True)
def _texts(tmp_path: Path) -> None:
    """Two sources, 30 batches or so."""
    for source in ("letters", "notes"):
        lines = [line(f"{source} {number} " * 8, id=number) for number in range(40)]
        write(tmp_path / f"mine/{source}/a.jsonl", lines)


def test_the_first_run_tells_and_later_plans_know(
    evalkit: Command, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known at first and a plan says so; once one revision was timed every revision's plan has seconds."""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.5)
    words = ("run", "--model", many, "--revisions", "*", "--suite", "mine", *SLOW)
    plan = evalkit(*words, "--dry-run")
    assert plan.code == 0
    assert "No time estimate" in plan.out
    assert plan.err.count("no time estimate yet") == 2
    first = evalkit(*(word if word != "*" else "step1" for word in words))
    assert first.code == 0, first.err
    (told,) = [one for one in first.err.splitlines() if "% done," in one]  # the next would come after 10 seconds
    assert re.fullmatch(
        r"many@step1: \d+ % done, at texts/letters … texts/notes \(0 of 2 tasks done\), about \d+ s left", told
    )
    (taken,) = re.findall(r"scored [\d,]+ tokens in (\d+) s", first.err)
    plan = evalkit(*words, "--dry-run")
    (one,) = re.findall(r"many@step2: .*; about (\d+) s$", plan.err, re.MULTILINE)
    assert abs(int(one) - int(taken)) <= 2
    assert f"Estimated time: {one} s, at this machine's previous speed." in plan.out
    assert evalkit(*words).code == 0
    assert "Everything is already scored." in evalkit(*words, "--dry-run").out


def test_rates_are_kept_by_what_moves_them(many: Path) -> None:
    """Other sizes, engines, dtypes and kinds of work have rates of their own; damaged files and moments are no rates."""
    one, two = resolve(str(many), "*")
    kind = speed.rate_key(one, "fake", ScoringOptions(dtype="float32"), 1000, 900)
    assert kind == speed.rate_key(two, "fake", ScoringOptions(dtype="float32"), 10, 9)
    assert speed.stored_rate(kind) is None
    speed.store_rate(kind, 5000, speed.MIN_SECONDS / 2)
    assert speed.stored_rate(kind) is None
    speed.store_rate(kind, 5000, 10.0)
    assert speed.stored_rate(kind) == 500
    for other in (
        speed.rate_key(one, "fake", ScoringOptions(dtype="bfloat16"), 1000, 900),
        speed.rate_key(one, "transformers", ScoringOptions(dtype="float32"), 1000, 900),
        speed.rate_key(one, "fake", ScoringOptions(dtype="float32"), 1000, 100),
        None,
    ):
        assert speed.stored_rate(other) is None
    (file,) = Path("home/cache/speeds").iterdir()
    file.write_text('{"tokens_per_second": "fast"}')
    assert speed.stored_rate(kind) is None
