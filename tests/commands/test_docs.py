"""The manual says what the program does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.made.command_line import DOCS, Command
from tests.made.markdown import fenced

ROOT = DOCS.parent
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])


def test_the_page_of_commands_is_made_from_the_help_texts() -> None:
    """docs/cli.md is what `make docs` writes."""
    made = runpy.run_path(str(DOCS / "make_cli.py"))["page"]()
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == made, "run 'make docs'"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link names a file."""
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_pages_exist(page: Path, evalkit: Command) -> None:
    """Every command that a code block shows has the options that it shows."""
    blocks = fenced(page.read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in re.findall(r"^(?:\$ )?evalkit ([^#\n]+)", block.text, re.MULTILINE)]
    for line in lines:
        words = line.split()
        names = words[: 2 if words[0] in ("list", "models", "data", "results") else 1]
        shown = evalkit(*names, "--help")
        assert shown.code == 0
        for option in re.findall(r"--[a-z-]+", line):
            assert option in shown.out, f"{page.name}: {line}"


def test_every_block_of_a_page_is_read() -> None:
    """A block after one with a language is read too; docs/tasks.md has commands before, between and after its YAML."""
    page = "```yaml\na: 1\n```\n\nText.\n\n```\nevalkit run\n```\n~~~~python title\n```\nx\n~~~~\n"
    assert [(block.language, block.text) for block in fenced(page)] == [
        ("yaml", "a: 1\n"),
        ("", "evalkit run\n"),
        ("python", "```\nx\n"),
    ]
    with pytest.raises(ValueError, match="not closed"):
        fenced("```\nevalkit run\n")
    for name in ("tasks.md", "training.md", "engines.md"):
        text = (DOCS / name).read_text(encoding="utf-8")
        read = "".join(block.text for block in fenced(text))
        written = len(re.findall(r"^evalkit ", text, re.MULTILINE))
        assert written == len(re.findall(r"^evalkit ", read, re.MULTILINE)) > 0


def test_the_task_of_the_manual_runs(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """The whole task of docs/tasks.md can be listed, shown and scored."""
    listed = evalkit("list", "tasks", "--tasks-dir", my_tasks)
    assert "Which city is the capital?" in listed.out
    shown = evalkit("show", "capitals", "--tasks-dir", my_tasks)
    assert "What is the capital of France?" in shown.out
    ran = evalkit(
        "run", "--model", checkpoint, "--task", "capitals", "--tasks-dir", my_tasks, "--engine", "fake", "--no-report"
    )
    assert ran.code == 0, ran.err
    assert "capitals" in ran.out


def test_the_readme_is_short() -> None:
    """A person reads the README in a few minutes."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 90
