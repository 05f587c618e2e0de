"""``evalkit lm-eval``: the harness's own command line, with evalkit's engines in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.made.byte_checkpoints import byte_tokenizer, make_checkpoint
from tests.made.command_line import Command
from tests.made.lm_eval_tasks import GROUPS, write_tasks

pytest.importorskip("lm_eval")

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def model(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with a chat template, and the folder of tasks beside it; the harness's own names are left out to save time."""
    folder = make_checkpoint(alone / "tiny", max_position_embeddings=1024)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(str(folder))
    write_tasks(alone / "made")
    from lm_eval.tasks import TaskManager

    first = TaskManager.__init__
    monkeypatch.setattr(
        TaskManager, "__init__", lambda self, **given: first(self, **{**given, "include_defaults": False})
    )
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)  # it would keep the stream of one test
    return folder


def test_its_options_and_files(evalkit: Command, model: Path, alone: Path) -> None:
    """A run with examples, samples and results on disk: its own options, on our engine, which is the default."""
    result = evalkit(
        "lm-eval", "--tasks", "made_choice,made_sums", "--include_path", alone / "made", "--num_fewshot", 1, "--log_samples",
        "--output_path", alone / "out", "--limit", 4, "--batch_size", 7, "--model_args", f"pretrained={model},engine=fake",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "|made_choice|" in result.out
    (file,) = (alone / "out").glob("*/results_*.json")
    written = json.loads(file.read_text())
    assert written["config"]["model"] == "evalkit"
    assert written["config"]["evalkit_identity"]["engine"] == "fake"
    assert written["n-shot"]["made_choice"] == 1
    samples = [json.loads(line) for line in next((alone / "out").glob("*/samples_made_choice_*.jsonl")).open()]
    assert [sample["doc_id"] for sample in samples] == [0, 1, 2, 3]
    assert samples[0]["arguments"]["gen_args_0"]["arg_0"].count("Answer:") == 2
    assert (alone / "results" / "journal").is_dir()


def test_a_conversation(evalkit: Command, model: Path, alone: Path) -> None:
    """`--apply_chat_template`: the prompts that the tokenizer's template makes of question and examples as turns."""
    result = evalkit(
        "lm-eval", "run", "--model", "evalkit", "--tasks", "made_sums", "--include_path", alone / "made", "--num_fewshot", 1,
        "--apply_chat_template", "--log_samples", "--output_path", alone / "out", "--limit", 1,
        "--model_args", f"pretrained={model}", "engine=fake",
    )  # fmt: skip
    assert result.code == 0, result.err
    (sample, _) = [json.loads(line) for line in next((alone / "out").glob("*/samples_made_sums_*.jsonl")).open()]
    (prompt,) = {sample["arguments"]["gen_args_0"]["arg_0"]}
    assert prompt.startswith("<user>Which of these")
    assert prompt.count("<user>") == 2
    assert prompt.endswith("Sum:</><assistant>")


@pytest.mark.parametrize("last", ["Sum", " Sum: ", "x"])
def test_an_answer_that_is_begun(model: Path, last: str) -> None:
    """The model goes on within the last message, where transformers' own rendering ends too."""
    from evalkit.lm_eval_model import EvalkitLM

    lm = EvalkitLM(pretrained=str(model), engine="fake")
    history = [{"role": "user", "content": "x, Sum?"}, {"role": "assistant", "content": last}]
    wanted = lm.tokenizer.apply_chat_template(history, tokenize=False, continue_final_message=True)
    assert lm.apply_chat_template(history, add_generation_prompt=False) == wanted
    wanted = lm.tokenizer.apply_chat_template(history[:1], tokenize=False, add_generation_prompt=True)
    assert lm.apply_chat_template(history[:1]) == wanted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model_args", "engine=fake"], "--model evalkit needs --model_args pretrained=MODEL"),
        (["--model_args", "pretrained=tiny,engine=fake,paralellize=True"], "--model_args has no 'paralellize'"),
        (["--model_args", "pretrained=tiny,engine=fkae"], "There is no engine 'fkae'"),
        (["--model_args", "pretrained=tiny,engine=fake", "--log_samples"], "Specify --output_path"),
    ],
)
def test_mistakes_are_sentences(evalkit: Command, model: Path, alone: Path, arguments: list[str], said: str) -> None:
    """What is wrong with a call, without a traceback, ours and the harness's own."""
    result = evalkit("lm-eval", "--tasks", "made_choice", "--include_path", alone / "made", *arguments)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err


def test_names_are_kept(evalkit: Command, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once evalkit's cache has the names of the harness's own tasks, a start reads none of their files but those that it runs."""
    from lm_eval.tasks import _index

    from evalkit.tasks.lm_eval.index import index_of

    known = index_of()
    write_tasks(alone / "made")
    first, read = _index.load_yaml, []
    monkeypatch.setattr(_index, "load_yaml", lambda path, **given: read.append(path) or first(path, **given))
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)
    result = evalkit("lm-eval", "ls", "groups", "--include_path", alone / "made")
    assert result.code == 0, result.err
    assert {Path(path).parent for path in read} == {alone / "made"}
    listed = {line.split("|")[1].strip() for line in result.out.splitlines() if line.count("|") > 2}
    assert {name for name, one in known.items() if one.kind == "group"} <= listed
    assert set(GROUPS) <= listed


def test_help_is_its_own(evalkit: Command) -> None:
    """`--help` shows the options of the harness's `run`."""
    result = evalkit("lm-eval", "--help")
    assert result.code == 0
    assert "--num_fewshot" in result.out


def test_its_other_models_stay(tmp_path: Path) -> None:
    """In a fresh process, where the harness has registered none of its own yet."""
    code = (
        "import evalkit.lm_eval_model; from lm_eval.api.registry import model_registry; print(*model_registry.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert {"evalkit", "hf", "vllm"} <= set(done.stdout.split())
