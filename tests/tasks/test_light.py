"""Registering stays light, suites name real tasks, and every task fits the protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.errors import UsageError
from evalkit.registry import nested_suite, suites, tasks
from evalkit.task import TaskBase, TaskOptions
from evalkit.task_names import task_list
from evalkit.tasks.show import show_prompts
from evalkit.tasks.suites import read_suite
from tests.made.invented_data import ARC, HELLASWAG, make, write_folder

HEAVY = ("torch", "transformers", "datasets", "pandas", "pyarrow", "numpy", "scipy", "huggingface_hub")


def test_names_import_nothing_heavy() -> None:
    """Listing tasks and suites, and making a task, imports no data library (a fresh interpreter)."""
    code = f"""
import sys
from evalkit.registry import parse_task_name, suites, tasks
from evalkit.task import TaskOptions
names = [str(name) for entry in tasks for name in entry.names()]
assert "arc_easy:mc::olmes" in names and [suite.name for suite in suites]
for name in map(parse_task_name, names):
    tasks.get(name.base).factory(name, TaskOptions())
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_every_task_of_every_suite_exists() -> None:
    """A suite's names parse, its options are options, and quickstart always uses the bundle."""
    for suite in suites:
        assert suite.description
        TaskOptions(**suite.options)
        for member in suite.members:
            if not member.missing and nested_suite(member.name) is None:
                assert task_list([member.name])
    assert suites.get("quickstart").data_source == "bundle"
    assert {"quickstart", "lm-eval", "olmes", "olmo1"} <= {suite.name for suite in suites}


def test_a_suite_file_with_a_mistake(tmp_path: Path) -> None:
    """No YAML, no tasks, a key that nobody reads: a plain sentence each."""
    path = tmp_path / "mine.yaml"
    for text, said in [("a: [", "is not YAML"), ("tasks: []", "needs 'tasks'"), ("tasks: [a]\nspilt: x", "'spilt'")]:
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_suite(path)


def test_tasks_fit_the_protocol_and_repeat_themselves(tmp_path: Path) -> None:
    """Every variant is a `Task`; its documents come the same twice, and its protocol is plain JSON values."""
    for name, rows in (("arc_easy", ARC), ("arc_challenge", ARC), ("hellaswag", HELLASWAG)):
        write_folder(tmp_path, name, validation=rows, test=rows)
    for entry in (tasks.get(name) for name in ("arc_easy", "arc_challenge", "hellaswag")):
        for name in entry.names():
            task = make(str(name), data_source=str(tmp_path), shots=0)
            assert isinstance(task, TaskBase)
            assert [d.index for d in task.documents()] == [d.index for d in task.documents()]
            data = task.protocol()["data"]
            assert data["source"] == "folder"
            assert len(data["sha256"]) == 64


def test_show_numbers_twins_after_all_conditional_prompts(tmp_path: Path) -> None:
    """``doc_id`` is the position in the run; twins come last, a million higher; a limit shows the first documents."""
    folder = str(write_folder(tmp_path, "arc_easy", test=ARC))
    shown = list(show_prompts(make("arc_easy::olmes", data_source=folder, shots=0), limit=2))
    assert [one["doc_id"] for one in shown] == [0] * 4 + [1] * 3 + [1_000_000] * 4 + [1_000_001] * 3
    assert [one["context"] for one in shown[7:]] == ["Answer:"] * 7
    assert shown[0] == {
        "doc_id": 0,
        "native_id": "A_1",
        "context": "Question: What do bees make?\nAnswer:",
        "continuation": " wax and honey",
        "label": 0,
    }
    assert [one["doc_id"] for one in show_prompts(make("arc_easy", data_source=folder), limit=1)] == [0] * 4
