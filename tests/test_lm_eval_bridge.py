"""A small cut of `python -m bench.lm_eval_bridge`: the harness's own tasks have the numbers of its ``hf`` backend, both ways."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.made.lm_eval_tasks import write_tasks

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "local_winogrande": {"acc"},
    "local_mrpc": {"acc", "f1"},
    "local_wikitext": {"word_perplexity", "byte_perplexity", "bits_per_byte"},
    "local_lambada_openai": {"perplexity", "acc"},
    "local_gsm8k": {"exact_match_strict-match", "exact_match_flexible-extract"},
    "local_mmlu": {"acc"},
}
"""Metrics of a task of each kind: several inputs, a pair of labels, texts, a word, filtered answers, a group."""

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("bridge") / "found.json"
    command = [sys.executable, "-m", "bench.lm_eval_bridge", "--documents", "6", "--batch", "16", "--json", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return json.loads(file.read_text())


@pytest.mark.parametrize("way", ["here", "there"])
def test_every_metric_of_every_task(found: Any, way: str) -> None:
    """Eighteen tasks and a group, in float32: each metric within 1e-6 of hf's."""
    theirs, ours = found["values"]["hf"], found["values"][way]
    assert len(theirs) >= 19
    for task, metrics in KINDS.items():
        assert set(theirs[task]) == metrics
    for task, metrics in theirs.items():
        assert {name: ours[task][name] for name in metrics} == pytest.approx(metrics, rel=1e-6, abs=1e-6), task


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """olmo-tiny with a chat template, and a folder of task files."""
    from transformers import AutoTokenizer

    from evalkit.checkpoints.resolve import resolve

    root = tmp_path_factory.mktemp("chat")
    write_tasks(root / "tasks")
    shutil.copytree(resolve("olmo-tiny")[0].path, root / "model")
    tokenizer = AutoTokenizer.from_pretrained(root / "model")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(root / "model")
    return root / "model", root / "tasks"


@pytest.mark.parametrize("turns", [True, False])
def test_conversations(chatting: tuple[Path, Path], turns: bool, tmp_path: Path) -> None:
    """`--apply_chat_template`, with and without `--fewshot_as_multiturn` and a system message: hf's prompts and answers."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from evalkit.lm_eval_model import EvalkitLM

    model, folder = chatting
    names = ["made_choice", "made_schema", "made_last_word", "made_sums"]

    def samples(lm: Any) -> dict[str, Any]:
        results = lm_eval.simple_evaluate(
            model=lm, tasks=names, task_manager=TaskManager(include_path=str(folder), include_defaults=False), limit=4,
            bootstrap_iters=0, num_fewshot=2, apply_chat_template=True, fewshot_as_multiturn=turns, system_instruction="Be brief.",
        )  # fmt: skip
        return dict(results["samples"])

    theirs = samples(HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=8))
    ours = samples(EvalkitLM(pretrained=str(model), dtype="float32", device="cpu", output=str(tmp_path)))
    for name in names:
        assert len(theirs[name]) >= 4
        for a, b in zip(theirs[name], ours[name], strict=True):
            assert a["arguments"] == b["arguments"]
            assert a["arguments"][0][0].startswith("<|system|>\nBe brief.\n<|user|>\n")
            assert a["arguments"][0][0].count("<|user|>") == (3 if turns else 1)
            if isinstance(a["resps"][0][0], str):
                assert a["resps"] == b["resps"]
            else:
                sums = [[float(one[0][0]) for one in sample["resps"]] for sample in (a, b)]
                assert sums[1] == pytest.approx(sums[0], abs=1e-4)


@pytest.mark.parametrize("way", ["here", "there"])
def test_every_text(found: Any, way: str) -> None:
    """What the model writes to three tasks is what it writes in hf, cut at the same place."""
    theirs = found["texts"]["hf"]
    assert set(theirs) == {"local_gsm8k", "local_nq_open", "local_triviaqa"}
    assert all(len(texts) == 6 for texts in theirs.values())
    assert any(text for texts in theirs.values() for text in texts)
    assert found["texts"][way] == theirs
