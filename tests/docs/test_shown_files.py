"""Files of the repository that pages show are shown as they are."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

from evalkit import registry
from evalkit.tasks.definition import Data, Examples, Settings
from tests.made.command_line import Command

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_pages_show_the_examples_as_they_are() -> None:
    """The task in docs/tasks.md is examples/capitals.py; `make docs` writes it there."""
    make_examples = runpy.run_path(str(DOCS / "make_examples.py"))
    shown = {page.name: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    assert "<!-- examples/capitals.py -->" in shown["tasks.md"]
    assert [name for name, text in shown.items() if make_examples["filled"](text) != text] == []


def test_the_table_of_settings_is_what_the_code_says() -> None:
    """docs/tasks.md has a line for each setting of a question set; `make docs` writes it there."""
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(DOCS / "make_settings.py"))
    assert made["filled"](page) == page
    for name in (*Settings.model_fields, *Data.model_fields, *Examples.model_fields):
        assert f"| `{name}` |" in page


def test_the_sets_of_the_manual_run_as_printed(alone: Path, evalkit: Command) -> None:
    """The YAML and the rows of docs/tasks.md, written as they stand there, are shown and scored by its own commands."""
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"<!-- file (\S+) -->\n```\w+\n(.*?)```", page, re.DOTALL))
    assert [Path(name).suffix for name in files] == [".yaml", ".jsonl"] * 4
    for name, text in files.items():
        (alone / name).write_text(text, encoding="utf-8")
    commands = [line for line in re.findall(r"^evalkit (.+)$", page, re.MULTILINE) if line.endswith("--tasks-dir .")]
    assert len(commands) == 9
    try:
        for line in commands:
            done = evalkit(*shlex.split(line))
            assert done.code == 0, (line, done.err)
    finally:
        for name in files:
            if name.endswith(".yaml"):
                registry.tasks.remove(Path(name).stem)
    (run,) = (alone / "results/olmo-tiny/tasks").iterdir()
    assert json.loads((run / "run.json").read_text())["tasks"]["fits"]["documents"] == 2


def test_the_table_of_published_prompts_is_the_one_that_is_tested() -> None:
    """docs/published-prompts.md has a line a variant of tests/made/published_variants.py; `make docs` writes it there."""
    make_variants = runpy.run_path(str(DOCS / "make_variants.py"))
    text = (DOCS / "published-prompts.md").read_text(encoding="utf-8")
    assert text == make_variants["filled"](text)
    assert sum(line.startswith("| `") for line in text.splitlines()) == 116
