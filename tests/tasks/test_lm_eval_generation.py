"""Tasks that generate, in the regime lm-eval: prompts, what is extracted and how it is judged are lm-evaluation-harness 0.4.13's."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.checkpoints.resolve import resolve
from evalkit.data import Bundle
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import EngineSettings
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.records import Generation, GenerationSettings
from tests.made.generation_rows import SETS, Row, write_rows
from tests.made.generations import asked, texts
from tests.made.invented_data import make

lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
datasets = pytest.importorskip("datasets")
FOLDERS = ("gsm8k", "minerva_math", "triviaqa", "nq_open", "drop", "coqa", "squad_completion", "humaneval", "mbpp")
NAMES = {"exact_match": ("exact_match", "em", "contains"), "f1": ("f1",)}
"""Our metrics, and what theirs are called."""
ANSWERS = 200
"""Judged of each set at least."""


class _Programs:
    """In place of the hub's ``code_eval``, which lm-eval loads as soon as it reads a task of programs."""

    def compute(self, **_: Any) -> tuple[dict[str, float], dict[str, Any]]:
        return {"pass@1": 0.0}, {}


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """lm-eval's own task object of a name, its data read from these rows."""
    root = Path(lm_eval_tasks.__file__).parent
    monkeypatch.setattr("evaluate.load", lambda name, **_: _Programs())
    manager = lm_eval_tasks.TaskManager(include_path=[str(root / name) for name in FOLDERS], include_defaults=False)

    def build(name: str, splits: dict[str, list[Row]], shots: int) -> Any:
        about = SETS[name]

        def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
            assert (path, name) == about.hub
            return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})

        monkeypatch.setattr("lm_eval.api.task.datasets.load_dataset", load_dataset)
        monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
        built = manager.load([about.theirs])["tasks"][about.theirs]
        built.set_config(key="num_fewshot", value=shots)
        built.set_fewshot_seed(seed=1234)
        return built

    return build


@pytest.mark.parametrize(("name", "shots"), [(name, shots) for name, about in SETS.items() for shots in about.shots])
def test_prompts(peer: Any, bundle: Bundle, tmp_path: Path, name: str, shots: int) -> None:
    """Contexts, stop strings and caps of real rows, zero-shot and with lm-eval's examples, drawn or fixed."""
    splits = write_rows(tmp_path, name, bundle, 50)
    built = peer(name, splits, shots)
    built.build_all_requests(limit=None, rank=0, world_size=1)
    task = make(SETS[name].ours, data_source=str(tmp_path), shots=shots)
    assert [one.args[0] for one in built.instances] == [
        prompt.context for document in task.documents() for prompt in task.prompts(document)
    ]
    assert len(built.instances) >= 40
    (settings,) = {prompt.generation for document in task.documents() for prompt in task.prompts(document)}
    for given in (one.args[1] for one in built.instances):
        assert tuple(given["until"]) == settings.stop
        assert given.get("max_gen_toks", 256) == settings.max_tokens
        assert not given.get("do_sample", False)


def made_answers(golds: list[str], dice: random.Random) -> Iterator[str]:
    """A right answer said in several ways, another one near it, and none."""
    gold = dice.choice(golds)
    yield f" {gold}"
    yield f" The answer is {gold.upper()}.\n#### {gold}\nQuestion"
    yield f"\n  {gold.lower()}!\nand more on the next line, 17"
    yield f" ${gold}$, or \\boxed{{{gold}}}. Final Answer: The final answer is ${gold}$. I hope it is correct."
    yield " ".join(dice.sample(gold.split(), len(gold.split()))) + " the (x)"
    number = dice.randrange(1, 99_999)
    yield f" It is about ${number:,}.00\n#### {number:,}\nFinal Answer: The final answer is \\frac{{{number}}}2. I hope"
    yield dice.choice(["", "   ", "...", "I do not know", "-3 - 4 = -7.", "#### -7", "\\boxed{x", "a an the"])


@pytest.fixture(scope="module")
def writer() -> Any:
    """olmo-tiny, which goes on from the ends of prompts."""
    made = resolve("olmo-tiny")[0]
    engine = TransformersEngine(EngineSettings(device="cpu"))
    engine.load(made)
    tokenizer = Tokenizer.load(made.tokenizer_path)

    def write(contexts: list[str], stops: tuple[str, ...]) -> list[Generation]:
        ids = [own[-200:] for own in tokenizer.encode(contexts, special=False)]
        return texts(engine, asked(ids, GenerationSettings(max_tokens=24, stop=stops), (0,)))

    return write


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_programs_are_the_same(peer: Any, bundle: Bundle, tmp_path: Path, name: str) -> None:
    """What is run of a text, and the tests that it is run with, are those that lm-eval hands to ``code_eval``."""
    splits = write_rows(tmp_path, name, bundle, 60)
    built = peer(name, splits, 0)
    task = make(SETS[name].ours, data_source=str(tmp_path), shots=0)
    built.build_all_requests(limit=None, rank=0, world_size=1)
    for document, instance in zip(task.documents(), built.instances, strict=True):
        text = f"    return {document.index}  # ```python"
        row = task.judge(document, [Generation(text, len(text), "end", (1,))])
        before, after = row["_pending"]["program"]
        instance.resps, instance.filtered_resps = [text], {}
        built._instances = [instance]
        built.apply_filters()
        (found,) = instance.filtered_resps.values()
        assert before + row["extracted"][0] == (found[0] if isinstance(found, list) else found)
        assert after.strip() == built.doc_to_target(instance.doc).strip()


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("humaneval", "mbpp")])
def test_answers_are_judged_alike(peer: Any, writer: Any, bundle: Bundle, tmp_path: Path, name: str) -> None:
    """Two hundred made and generated answers a set and more, cut at the first stop: every metric of both filters is lm-eval's."""
    about = SETS[name]
    splits = write_rows(tmp_path, name, bundle, 34)
    built = peer(name, splits, 0)
    task = make(about.ours, data_source=str(tmp_path), shots=0)
    documents = list(task.documents())
    dice, rows, judged = random.Random(11), [], []
    built.build_all_requests(limit=None, rank=0, world_size=1)
    for document, instance in zip(documents, built.instances, strict=True):
        golds = [gold if isinstance(gold, str) else ", ".join(gold) for gold in document.fields["accepted"]]
        golds = [re.sub(r"(?s).*\\boxed{(.*?)}.*", r"\1", gold) for gold in golds] or ["nothing"]
        for text in made_answers(golds, dice):
            cut = min((text.index(stop) for stop in task.generation.stop if stop in text), default=len(text))
            rows.append(task.judge(document, [Generation(text, cut, "end", (1,))]))
            judged.append((instance, text[:cut]))
    contexts = [task.prompts(document)[0].context for document in documents]
    for document, instance, text in zip(
        documents, built.instances, writer(contexts, task.generation.stop), strict=True
    ):
        rows.append(task.judge(document, [text]))
        judged.append((instance, text.answer))
    rows = list(task.complete(rows, lambda count: None))
    assert len(rows) >= ANSWERS + len(documents)
    seen: dict[str, set[float]] = {}
    for row, (instance, text) in zip(rows, judged, strict=True):
        instance.resps, instance.filtered_resps = [text], {}
        built._instances = [instance]
        built.apply_filters()
        for place, found in enumerate(instance.filtered_resps):
            theirs = built.process_results(instance.doc, [instance.filtered_resps[found]])
            for ours, names in (*NAMES.items(), ("math_verify", ("math_verify",))):
                named = next((other for other in names if other in theirs), None)
                mine = ours if place == 0 else f"{ours}_flexible"
                if named is None or mine not in row:
                    mine = named if named in row else mine
                if named is not None and mine in row:
                    assert row[mine][0] == pytest.approx(float(theirs[named]), abs=1e-9), (text, row["reasons"])
                    seen.setdefault(mine, set()).add(row[mine][0])
    assert set(task.metric_list) == set(seen)
    assert all(len(values) >= 2 for values in seen.values())
