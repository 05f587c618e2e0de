"""Few-shot examples are references: no text in the repository, one importer, the same text from every source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import evalkit
from evalkit.data import Bundle
from evalkit.errors import DataUnavailable, UsageError
from tests.made.invented_data import ARC, HELLASWAG, make, write_folder

PACKAGE = Path(evalkit.__file__).parent
OPENS_CONTEXT = re.compile(r"""\[\s*["']request["']\s*\]|\.get\(\s*["']request["']""")


def test_one_function_opens_the_requests_context() -> None:
    """Prompts stay independent of the file that checks them: documents never come from ``request``. Results of OLMES, which are
    imported, have requests of their own."""
    files = [path for path in PACKAGE.rglob("*.py") if OPENS_CONTEXT.search(path.read_text(encoding="utf-8"))]
    links = [path for room in ("tasks", "domains", "reports", "train") for path in (PACKAGE / room).rglob("*.py")]
    files += [path for path in links if OPENS_CONTEXT.search(path.read_text(encoding="utf-8"))]
    assert {path.relative_to(PACKAGE).as_posix() for path in files} == {
        "tasks/examples.py",
        "results/exchange/olmes_results.py",
    }


def ids_of(task: str) -> list[str]:
    task_object: Any = make(f"{task}::olmes")
    return list(task_object.settings.examples.ids)


def test_references_hold_no_text() -> None:
    """Descriptions name examples by ids, and an id has no blank in it; evalkit's own hold no rows."""
    named = 0
    for path in (PACKAGE / "tasks" / "sets").glob("*.yaml"):
        examples = yaml.safe_load(path.read_text(encoding="utf-8")).get("examples", {})
        assert "rows" not in examples
        named += len(examples.get("ids", ()))
        assert all(re.fullmatch(r"\S{1,40}", name) for name in examples.get("ids", ()))
    assert named >= 15


def examples_of(name: str, folder: Path, shots: int) -> list[str]:
    """What stands before the first document's own question."""
    task = make(name, data_source=str(folder), shots=shots, split="validation")
    document = next(iter(task.documents()))
    return task.prompts(document)[0].context.split("\n\n")[:-1]


def test_arc_examples_come_by_id_from_the_train_split(tmp_path: Path) -> None:
    """With a train split at hand the references are looked up in it, in their order, and rendered in the form."""
    ids = ids_of("arc_easy")
    train = [{**ARC[i % 4], "id": name} for i, name in enumerate(ids)][::-1]
    folder = write_folder(tmp_path, "arc_easy", train=train, validation=ARC)
    assert examples_of("arc_easy::olmes", folder, 2) == [
        "Question: What do bees make?\nAnswer: wax and honey",
        "Question: Which is cold?\nAnswer: ice",
    ]
    assert examples_of("arc_easy:mc::olmes", folder, 3)[1:] == [
        "Question: Which is cold?\n A. fire\n B. ice\n C. the sun\nAnswer: B",
        "Question: Which one is a naïve guess?\n A. é\n B.  two\n C. three\n D. four\n E. five\nAnswer: E",
    ]


def test_hellaswag_examples_come_by_source_id(tmp_path: Path) -> None:
    """``ind`` is not unique, so ``source_id`` finds them; the answer keeps its own leading space in ``rc`` alone."""
    ids = ids_of("hellaswag")
    train = [{**HELLASWAG[1], "source_id": name} for name in ids]
    folder = write_folder(tmp_path, "hellaswag", train=train, validation=HELLASWAG)
    rc = "Home and Garden: How to dig. Take a spade. Push it down.  Turn the soil."
    assert examples_of("hellaswag::olmes", folder, 1) == [rc]
    mc = (
        "Home and Garden: How to dig. Take a spade. Push it down. \nChoose the best continuation:\n"
        " A. Turn the soil.\n B. Eat the spade.\n C. Fly.\n D. Wait.\nAnswer: A"
    )
    assert examples_of("hellaswag:mc::olmes", folder, 1) == [mc]


def test_more_shots_than_there_are(tmp_path: Path) -> None:
    """Five examples are curated: a sixth is an error, as is one that the train split lacks."""
    folder = write_folder(tmp_path, "arc_easy", train=ARC, validation=ARC)
    with pytest.raises(UsageError, match="at most 5"):
        examples_of("arc_easy::olmes", folder, 6)
    with pytest.raises(DataUnavailable, match="lacks the example MCAS_2007_8_5189"):
        examples_of("arc_easy::olmes", folder, 1)


def test_lm_eval_examples_need_a_train_split(bundle: Bundle, tmp_path: Path) -> None:
    """lm-eval draws from train, which the bundle does not hold: one sentence says so, and what to do."""
    task = make("arc_easy", data_source="bundle", shots=2)
    with pytest.raises(DataUnavailable, match=r"train split.*--data-source hub or a folder"):
        task.prompts(next(iter(task.documents())))
    folder = write_folder(tmp_path, "hellaswag", train=HELLASWAG, validation=HELLASWAG)
    task = make("hellaswag", data_source=str(folder), shots=3)
    with pytest.raises(DataUnavailable, match="too few to draw 4"):
        task.prompts(next(iter(task.documents())))


IN_BOTH_FORMS = [
    "arc_challenge",
    "arc_easy",
    "boolq",
    "csqa",
    "hellaswag",
    "lab_bench/dbqa",
    "lab_bench/protocolqa",
    "medmcqa",
    "medqa",
    "openbookqa",
    "piqa",
    "qasper_yesno",
    "sciq",
    "sciriff_yesno",
    "socialiqa",
    "winogrande",
]


def bundles_examples(name: str) -> list[str]:
    task: Any = make(f"{name}::olmes", data_source="bundle")
    return list(task._bundle_examples(task._sections[0][0]))


def with_text(name: str, lettered: str) -> str:
    """An example of the ``mc`` form without its options, the letter replaced by the text of the right one."""
    body, _, letter = lettered.rpartition("\nAnswer: ")
    question, *options = re.split(r"\n [A-Z]\. ", body)
    right = options[ord(letter) - ord("A")]
    if name == "hellaswag":
        return f"{question.removesuffix('Choose the best continuation:')} {right}"
    if name == "winogrande":
        return question.removeprefix("Fill in the blank: ").replace("___", right)
    if name in ("qasper_yesno", "sciriff_yesno"):
        question = question.removeprefix("Context: ")
    return f"{question}\nAnswer: {right}"


@pytest.mark.parametrize("name", IN_BOTH_FORMS)
def test_both_forms_have_the_same_examples(name: str) -> None:
    """Examples are read from a file of requests a form: their questions and right answers are the same."""
    rc, mc = bundles_examples(f"{name}:rc"), bundles_examples(f"{name}:mc")
    shots: int = make(f"{name}:rc::olmes").shots
    assert len(rc) == len(mc) == shots
    rebuilt = [with_text(name, example) for example in mc]
    if name == "hellaswag":  # only rc shows an ending's own leading space
        rc, rebuilt = ([" ".join(text.split()) for text in some] for some in (rc, rebuilt))
    assert rebuilt == rc


def test_all_sets_with_examples_in_both_forms_are_compared() -> None:
    """The list above is that of the descriptions."""
    found = set()
    for path in (PACKAGE / "tasks" / "sets").glob("*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "{form}" in str((values.get("examples") or {}).get("bundle")):
            found.add(path.stem)
    assert {name.partition("/")[0] for name in IN_BOTH_FORMS} == found
