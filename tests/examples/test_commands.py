"""The commands of examples/README.md, run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from evalkit import cli
from tests.examples.conftest import EXAMPLES

README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^evalkit (.+)$", README, re.MULTILINE)


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that holds the examples and nothing else, without a hub."""
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(EXAMPLES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(cli, "_silence_libraries", lambda: None)


def metrics(suite: str) -> dict[str, tuple[float, int]]:
    """Primary metrics of the one run of a suite: task to value and number of documents."""
    (file,) = Path("results/olmo-tiny").glob(f"{suite}/*/metrics.json")
    return {line["task"]: (line["value"], line["n"]) for line in json.loads(file.read_text()) if line["primary"]}


def test_every_example_has_a_command() -> None:
    """The page names each file of the folder, and shows how the task, the suite and the engine are used."""
    files = {file.name for file in EXAMPLES.iterdir() if file.is_file()}
    assert files - {"README.md"} <= set(re.findall(r"\]\(([^)/]+)\)", README))
    assert len(COMMANDS) == 4


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command ends with exit code 0 and a table or a prompt on stdout."""
    assert cli.main(shlex.split(command)) == 0
    assert "apital" in capsys.readouterr().out


def test_the_suite_asks_both_tasks() -> None:
    """Twelve capitals, and the first fifty questions of ARC-Easy by the suite's own limit."""
    words = "run --model olmo-tiny --suite school --tasks-dir examples --engine bigram --no-report"
    assert cli.main(words.split()) == 0
    found = metrics("school~bigram")
    assert {task: n for task, (_, n) in found.items()} == {"capitals": 12, "arc_easy": 50, "school": 62}


def test_the_engine_is_fitted_on_the_text_that_is_named() -> None:
    """A text in which the right capitals follow 'Answer:' makes them the likeliest answers."""
    right = [
        "Paris",
        "Tokyo",
        "Lima",
        "Nairobi",
        "Oslo",
        "Ottawa",
        "Cairo",
        "Rome",
        "Hanoi",
        "Warsaw",
        "Canberra",
        "Quito",
    ]
    Path("capitals.txt").write_text("".join(f"Answer: {city}\n" for city in right), encoding="utf-8")
    words = "run --model olmo-tiny --task capitals --tasks-dir examples --engine bigram --no-report"
    assert cli.main([*words.split(), "--engine-arg", "text=capitals.txt"]) == 0
    assert metrics("tasks~bigram*")["capitals"] == (1.0, 12)
