"""Every command that evalkit prints is run as it is printed: in help texts, the README, pages and notebooks.

They run in one folder like a person's, with the real model olmo-tiny, the real engine and the real offline bundle, in an order in
which each finds what it needs. Three things differ from a person's terminal, so that a hundred commands take minutes:

- of every task `FEW` documents are asked (of a domain as many texts), of MMLU's subjects `PARTS`, though nobody said ``--limit``, and
  the records do not call that limited;
- data sets that evalkit makes for training are `ROWS` long, and as little is held out;
- what needs the hub, gated data or CUDA is not run; `test_printed` checks that it is marked so, and prints it.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.checkpoints.resolve import resolve
from evalkit.domains.paloma import PalomaTask
from evalkit.domains.texts import TextTask
from evalkit.options import ScoringOptions
from evalkit.tasks.definition import Definition
from evalkit.tasks.questions import QuestionTask
from tests.commands.test_printed import PRINTED, ROOT, needs
from tests.made.command_line import DOCS, Command
from tests.made.eval_bundles import write_eval_bundle
from tests.made.foreign_results import STAMP, write_lm_eval, write_olmes

FEW = 2
PARTS = 3
CORE = 12
"""Of tasks whose ten examples are other questions."""
ROWS = 48

PREPARED = (
    "run --model base --suite olmes",
    "run --model tuned --suite olmes",
    "run --model a --suite olmes",
    "run --model b --suite olmes",
    "run --model olmo-tiny --suite quickstart --revisions *",
    "run --model olmo-tiny --suite olmes,olmo1",
    "train olmo-tiny-sft --name mine",
    "train olmo-tiny-sft --folder runs --name my-training",
)
"""What a person who has come to these commands has done before."""


def stage(line: str) -> int:
    """Commands that make what others read come first."""
    words = shlex.split(line)
    if words[1] == "run":
        return 2 if "olmo-tiny-sft" in words else 0
    return {"train": 1}.get(words[1], 3)


RUN = sorted(
    {shlex.join(shlex.split(line.replace("…", ""), comments=True)) for _, line in PRINTED if not needs(line)}, key=stage
)
"""Each command once."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like a person's, with a home; what commands register is forgotten afterwards."""
    folder = tmp_path_factory.mktemp("person")
    before = [
        (one, {entry.name for entry in one})
        for one in (registry.tasks, registry.suites, registry.engines, registry.models)
    ]
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.ipynb", "__pycache__"))
    checkpoints = {one.revision: one for one in resolve("olmo-tiny", ["*"])}
    first, *_, last = checkpoints.values()
    for name in ("base", "tuned", "a", "b"):
        _copy(first if name in ("base", "a") else last, folder / name)
    for step, one in ((1000, first), (2000, last)):
        _copy(one, folder / "checkpoints" / "mine" / f"step{step}")
        _copy(one, folder / "path" / "to" / "checkpoints" / f"step{step}")
    write_eval_bundle(folder / "eval_bundle")
    write_lm_eval(folder / "out" / "allenai__OLMo-1B-hf")
    for file in (write_lm_eval(folder / "alone"), *(folder / "alone").glob("samples_*")):
        file.rename(folder / "out" / file.name.replace(STAMP, "2026-12-01T10-00-00"))
    row = {
        "native_id": "a",
        "index": 0,
        "gold": 0,
        "sums": [-1.0, -2.0],
        "tokens": [1, 1],
        "characters": [3, 3],
        "is_greedy": [1, 0],
    }
    asked = [{"context": "Question: Red?", "continuation": text} for text in (" yes", " no")]
    write_olmes(folder / "olmes-out", [row], {0: asked}, {"acc_raw": 1.0, "acc_per_char": 1.0}, "test")
    (folder / "my-texts").mkdir()
    (folder / "my-texts" / "letters.txt").write_text("Dear reader, this is a text.\n" * 20, encoding="utf-8")
    (folder / "page").mkdir()
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    for part in page.split("<!-- file ")[1:]:
        name, _, rest = part.partition(" -->\n")
        (folder / "page" / name).write_text(rest.split("\n", 1)[1].split("```", 1)[0], encoding="utf-8")
    yield folder
    for one, known in before:
        for name in {entry.name for entry in one} - known:
            one.remove(name)


def _copy(checkpoint: Any, target: Path) -> None:
    """A checkpoint with its tokenizer."""
    shutil.copytree(checkpoint.path, target)
    for file in checkpoint.tokenizer_path.glob("*token*"):
        shutil.copy(file, target)


@pytest.fixture
def person(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with what is said above."""
    from evalkit.train import shipped

    monkeypatch.setenv("EVALKIT_HOME", str(home / "home"))
    monkeypatch.chdir(home)
    asked = ScoringOptions.task_options.fget
    assert asked is not None

    def few(options: ScoringOptions) -> Any:
        whole = asked(options)
        most = CORE if any("core" in suite for suite in getattr(options, "suite", ())) else FEW
        return whole if whole.sample else dataclasses.replace(whole, limit=min(whole.limit or most, most))

    def short(path: Path) -> dict[str, Any]:
        fields = read_fields(path)
        if path.parent == shipped.RECIPES and "held_out" in fields:
            fields |= {"held_out": 8, "data": [{**item, "count": ROWS} for item in fields["data"]]}
        return fields

    read_fields, parts_of = shipped.read_fields, Definition.parts_of
    monkeypatch.setattr(ScoringOptions, "task_options", property(few))
    monkeypatch.setattr(shipped, "read_fields", short)
    monkeypatch.setattr(Definition, "parts_of", lambda one, name: parts_of(one, name)[:PARTS])
    for kind in (QuestionTask, TextTask, PalomaTask):
        monkeypatch.setattr(kind, "limited", False)
    return home


def test_what_the_commands_need_is_made(person: Path, evalkit: Command) -> None:
    """Runs and trainings that the commands below read."""
    for line in PREPARED:
        done = evalkit(*line.split())
        assert done.code == 0, f"{line}\n{done.err}"


@pytest.mark.parametrize("line", RUN)
def test_printed_commands_run(person: Path, line: str, evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends well, and says so."""
    words = shlex.split(line)[1:]
    monkeypatch.chdir(person / "page" if words[-2:] == ["--tasks-dir", "."] else person)
    done = evalkit(*(path for word in words for path in _as_a_shell_has_it(word)))
    assert done.code == 0, done.err[-3000:]
    assert "Traceback" not in done.err


def _as_a_shell_has_it(word: str) -> list[str]:
    """The paths that a word with a star stands for; the word itself where it is none."""
    return sorted(map(str, Path().glob(word))) if word.startswith("results/") and "*" in word else [word]
