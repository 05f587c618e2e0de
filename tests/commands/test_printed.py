"""Every command that evalkit prints can be given: in help texts, pages, notebooks, and what messages propose."""

from __future__ import annotations

import ast
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from evalkit import cli, registry
from evalkit.checkpoints.resolve import resolve
from evalkit.results.layout import run_folder
from evalkit.train.shipped import shipped_recipes
from tests.made.command_line import DOCS, Command
from tests.made.markdown import fenced
from tests.made.repository import modules

ROOT = DOCS.parent
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@cache
def commands() -> Any:
    return typer.main.get_command(cli.app)


def help_texts(command: Any, path: str = "evalkit") -> dict[str, str]:
    """The help text of every command below one, by its words."""
    below: dict[str, Any] = getattr(command, "commands", {})
    return {path: f"{command.help}\n{command.epilog or ''}"} | {
        name: text for word, one in below.items() for name, text in help_texts(one, f"{path} {word}").items()
    }


def in_blocks(text: str) -> list[str]:
    """Lines that are a whole command, also behind a shell's ``!``; a backslash goes on with the next line."""
    lines = re.findall(r"^[ !$]*(?:Start here: )?(evalkit [a-z][^\n]*)$", text.replace("\\\n", " "), re.MULTILINE)
    return [line for line in lines if "[OPTIONS]" not in line]


def in_page(page: Path) -> list[str]:
    """The commands in a page's blocks of code."""
    return in_blocks("\n".join(block.text for block in fenced(page.read_text(encoding="utf-8"))))


def in_messages() -> list[tuple[str, str]]:
    """The commands in quotes of the package's strings; what is filled in later is ``X``."""
    found = []
    for module, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [str(part.value) if isinstance(part, ast.Constant) else "X" for part in parts]
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                found += [(module, line) for line in re.findall(r"['`](evalkit [a-z][^'`]*)['`]", "".join(texts))]
    return found


PRINTED = sorted(
    {(name, line) for name, text in help_texts(commands()).items() for line in in_blocks(text)}
    | {(page.name, line) for page in PAGES for line in in_page(page)}
    | {
        (file.name, line)
        for file in NOTEBOOKS
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]
        for line in in_blocks("".join(cell["source"]))
    }
)


def parsed(line: str) -> Any:
    """The command's context, its options and arguments checked as the command line checks them, and nothing done."""
    words = shlex.split(line.replace("…", ""), comments=True)[1:]
    command = commands()
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    return None if hasattr(command, "commands") else command.make_context(command.name, words)


def test_commands_are_found() -> None:
    """Help texts, the README, pages and messages all print some."""
    where = {name for name, _ in PRINTED}
    assert {"evalkit", "evalkit run", "evalkit compare", "README.md", "training.md", "reports.md"} <= where
    assert len(PRINTED) > 50
    assert len(in_messages()) > 30


@pytest.mark.parametrize(("where", "line"), PRINTED, ids=lambda value: value[:60])
def test_printed_commands_can_be_given(where: str, line: str) -> None:
    """Commands, options and their values exist, suites and tasks are registered, and run folders are called as runs call them."""
    context = parsed(line)
    given = context.params if context is not None else {}
    suites = given.get("suite") or given.get("suites") or []
    named = [suites] if isinstance(suites, str) else suites
    for suite in [one for text in named for one in text.split(",")]:
        if not set(suite) & {"/", "*"} and not given.get("tasks_dir"):
            assert registry.suite_entry(suite).name == suite
    for folder in re.findall(r"results/olmo-tiny/[\w~,.-]+/[\w.-]+", line):
        _, model, suite, revision = folder.split("/")
        registry.suite_entry(suite)
        assert revision == resolve(model)[0].revision
    for folder in re.findall(r"results/(?!olmo-tiny)\w+/\w+/([\w.-]+)", line):
        assert folder == Path(run_folder(Path("results"), "m", "s", [], "")).name  # a folder without revisions


@pytest.mark.parametrize(("where", "line"), in_messages(), ids=lambda value: value[:60])
def test_proposed_commands_can_be_given(where: str, line: str) -> None:
    """What an error says to run has the options that it names; it may leave out what it is run on."""
    try:
        parsed(line)
    except Exception as error:
        if type(error).__name__ != "MissingParameter":
            raise


def test_help_is_true_of_a_finished_run(evalkit: Command, tmp_path: Path) -> None:
    """The folders in the help of show, report and compare are there after `evalkit run --model olmo-tiny --suite quickstart`."""
    ran = evalkit("run", "--model", "olmo-tiny", "--suite", "quickstart", "--engine", "fake", "--no-report")
    assert ran.code == 0, ran.err
    (made,) = Path("results/olmo-tiny").iterdir()
    made.rename(made.with_name("quickstart"))  # as if a real engine had scored it
    texts = help_texts(commands())
    for name in ("evalkit show", "evalkit report"):
        (line,) = [line for line in in_blocks(texts[name]) if "/quickstart/step" in line]
        done = evalkit(*shlex.split(line)[1:])
        assert done.code == 0, done.err


def test_a_suite_without_runs_is_not_said_not_to_exist(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """The message says what is missing, which is the run, and what there is."""
    evalkit(
        "run", "--model", checkpoint, "--task", "capitals", "--tasks-dir", my_tasks, "--engine", "fake", "--no-report"
    )
    message = evalkit("compare", "tiny", "tiny", "--suite", "paloma-mini").fails(2)
    assert message == "There is no run of tiny on the suite 'paloma-mini'. It has runs on tasks~fake."


RECIPES = {
    block.text.split("\n", 1)[0].removeprefix("# "): block.text
    for block in fenced((DOCS / "training.md").read_text(encoding="utf-8"))
    if block.text.startswith("# ") and block.language == "yaml"
}
"""The recipes that the page on training prints, by the names of their files."""
HUB_NAME = re.compile(r"^(?!results|checkpoints|path|trained|runs|my-)[\w.-]+/[\w.-]+$")


def needs(line: str) -> set[str]:
    """What a command cannot do without: ``hub`` (downloads), ``gated`` (access to gated data), ``cuda``."""
    context = parsed(line)
    given: dict[str, Any] = context.params if context is not None else {}
    found = set()
    recipe: dict[str, Any] = {}
    if context is not None and context.command.name == "train":
        name = str(given.get("recipe") or "")
        recipe = next((one.fields for one in shipped_recipes() if one.name == name), {})
        data = [*(item["dataset"] for item in recipe.get("data", [])), *(given.get("dataset") or [])]
        found |= {"hub" for item in data if HUB_NAME.match(item)}
        file = name or f"{Path(str(given.get('from_run') or '')).name}.yaml"
        found |= {"hub"} if re.search(r"^[^#]*\b(allenai/|olmo2?-1b)", RECIPES.get(file, ""), re.MULTILINE) else set()
        found |= {"cuda"} if "qlora" in (recipe.get("method"), *(given.get("method") or [])) else set()
    models = given.get("model") or recipe.get("model") or []
    if context is not None and context.command.name in ("run", "train", "checkpoints"):
        for model in [models] if isinstance(models, str) else models:
            base = model.partition("@")[0]
            source = next((entry.source for entry in registry.models if entry.name == base), base)
            found |= {"hub"} if HUB_NAME.match(source) and not Path(source).is_dir() else set()
    if context is not None and context.command.name == "run" and not given.get("data"):
        asked = [one for text in given.get("suite") or [] for one in text.split(",")]
        found |= {"gated"} if {"paloma", "paloma-585"} & set(asked) else set()
    found |= (
        {"hub"} if re.search(r"lm-eval/\w|lm-eval .*--tasks ", line) else set()
    )  # the harness loads its rows from there
    return found | ({"cuda"} if "engine=vllm" in line else set())


@pytest.mark.parametrize(("where", "line"), PRINTED, ids=lambda value: value[:60])
def test_what_a_command_needs_is_marked_beside_it(where: str, line: str) -> None:
    """Whoever copies a command sees whether it needs the hub, gated data or CUDA, in the comment behind it."""
    _, _, comment = line.partition("#")
    assert needs(line) <= set(re.findall(r"\b(hub|gated|cuda)\b", comment)), line


def test_marked_commands_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that no test here runs, by what they need: `pytest -k marked_commands -rP` prints them."""
    marked = [(where, line, sorted(found)) for where, line in PRINTED if (found := needs(line))]
    for where, line, found in marked:
        print(f"{', '.join(found):12} {where}: {line}")
    assert {mark for _, _, found in marked for mark in found} >= {"hub", "gated"}
    assert capsys.readouterr().out.count("\n") == len(marked) > 5
