"""Results that lm-evaluation-harness wrote, imported: the same numbers, paired with evalkit's own run document by document."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit as package
from evalkit.checkpoints.resolve import resolve
from evalkit.comparison.compare import compare_runs
from evalkit.data import Bundle
from evalkit.reports import write_report
from evalkit.reports.leaderboard.entries import read_runs
from evalkit.results.exchange.importing import import_results
from evalkit.results.reading import Run, load_run
from tests.made.command_line import Command
from tests.made.generation_rows import write_rows
from tests.made.lm_eval_results import evaluate, write_data, write_tasks

lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
CHOICES = {"arc_easy": "arc_easy:rc::lm-eval", "winogrande": "winogrande:rc::lm-eval", "commonsense_qa": "csqa:mc::lm-eval",
           "mmlu_anatomy": "mmlu/anatomy:mc::lm-eval"}  # fmt: skip
"""lm-eval's names, and evalkit's own tasks that ask the same."""
DOCUMENTS = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder that lm-eval wrote for olmo-tiny, the data, and a results folder with evalkit's own run of the same."""
    root = tmp_path_factory.mktemp("imported")
    index = write_data(root / "data")
    tasks = write_tasks(root / "tasks", index, list(CHOICES))
    model = resolve("olmo-tiny")[0].path
    file = evaluate(
        "hf", f"pretrained={model},dtype=float32", tasks, list(CHOICES), root / "theirs",
        num_fewshot=1, limit=DOCUMENTS, batch_size=8, bootstrap_iters=100,
    )  # fmt: skip
    (own,) = package.run(
        "olmo-tiny", task=list(CHOICES.values()), shots=1, limit=DOCUMENTS, data_source=str(root / "data"),
        output=root / "results", report=False,
    )  # fmt: skip
    (done,) = import_results(root / "theirs", root / "results")
    assert done.folder is not None
    return {"file": file, "own": own.path, "imported": done.folder, "output": root / "results", "tasks": tasks}


def test_the_numbers_are_those_of_the_file(world: dict[str, Path]) -> None:
    """Every metric with its value and error as reported; names of models and checkpoints as evalkit has them."""
    run = load_run(world["imported"])
    assert run.model == "olmo-tiny@step1860-tokens16M"
    assert run.info["imported"]["tool"] == "lm-evaluation-harness"
    results = json.loads(world["file"].read_text(encoding="utf-8"))
    assert run.info["imported"]["version"] == results["lm_eval_version"]
    found = {(row.task, row.metric): row for row in run.metrics.itertuples()}
    for name in CHOICES:
        for key, value in results["results"][name].items():
            metric, comma, _ = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                row = found[f"lm-eval/{name}", metric]
                assert (row.value, row.stderr) == (value, results["results"][name][f"{metric}_stderr,none"])
                assert row.ci_low <= row.value <= row.ci_high
                assert (row.n, row.shots, bool(row.limited)) == (DOCUMENTS, 1, True)


def test_paired_with_evalkits_own_run(world: dict[str, Path]) -> None:
    """No difference in any document of any task, and the prompts are seen to be the same, whichever is the baseline."""
    for runs in ((world["own"], world["imported"]), (world["imported"], world["own"])):
        found = compare_runs(runs)
        lines = found.table[found.table.level == "task"]
        assert set(lines.task) == set(CHOICES.values())
        assert lines.comparable.all()
        assert (lines[lines.metric.str.startswith("acc")].difference == 0).all()
        assert (lines.difference.abs() < 1e-4).all()  # bits per byte: two programs' rounding
        assert (lines.n == DOCUMENTS).all()
        assert {note for notes in found.notes.values() for note in notes} == {
            f"imported; the prompts of all {DOCUMENTS} shared documents are the same"
        }
        for task in CHOICES.values():
            assert not found.documents(task).flipped.any()


def test_options_have_the_same_log_probabilities(world: dict[str, Path]) -> None:
    """What lm-eval's backend computed, beside evalkit's engine: a rounding error apart."""
    own, imported = load_run(world["own"]), load_run(world["imported"])
    for theirs, ours in CHOICES.items():
        a, b = own.documents(ours), imported.documents(f"lm-eval/{theirs}")
        assert a["gold"].tolist() == b["gold"].tolist()
        for x, y in zip(a["sums"], b["sums"], strict=True):
            np.testing.assert_allclose(x, y, atol=1e-3)


def test_an_imported_run_is_shown_like_others(world: dict[str, Path], evalkit: Command) -> None:
    """Lists, documents, reports and leaderboards have it, and say that it is imported; metrics are not made again."""
    listed = evalkit("list", "runs", "--output", world["output"])
    assert "imported: lm-evaluation-harness 0.4." in listed.out
    shown = evalkit("show", world["imported"], "--task", "lm-eval/arc_easy", "--doc", 3)
    assert shown.code == 0
    assert "Question:" in shown.out
    board = evalkit("leaderboard", world["output"], "--format", "md")
    assert "(imported)" in board.out
    assert "arc\\_easy:rc::lm-eval" in board.out
    assert "lm-eval/arc" not in board.out
    assert "imported from lm-evaluation-harness" in board.out
    assert "not compared" not in board.out
    page = write_report([world["own"], world["imported"]], world["output"] / "both.html").read_text(encoding="utf-8")
    assert "Imported: these numbers were made by lm-evaluation-harness" in page
    assert "imported from lm-evaluation-harness" in page
    assert "is imported from" in evalkit("metrics", world["imported"]).fails(2)


def test_the_same_file_again_changes_nothing(world: dict[str, Path]) -> None:
    """Byte for byte, and nothing is left beside."""
    before = {file: file.stat().st_mtime_ns for file in world["output"].rglob("*") if file.is_file()}
    (again,) = import_results(world["file"], world["output"])
    assert (again.folder, again.is_new) == (world["imported"], False)
    assert before == {file: file.stat().st_mtime_ns for file in world["output"].rglob("*") if file.is_file()}


def test_without_samples_there_is_no_paired_claim(world: dict[str, Path], tmp_path: Path) -> None:
    """Numbers keep the reported error, have no interval, and a comparison says why it has none."""
    shutil.copy(world["file"], tmp_path / "results.json")
    (done,) = import_results(tmp_path, tmp_path / "out")
    assert done.folder is not None
    run = load_run(done.folder)
    row = run.metrics[(run.metrics.task == "lm-eval/arc_easy") & (run.metrics.metric == "acc")].iloc[0]
    assert row.stderr > 0
    assert math.isnan(row.ci_low)
    lines = compare_runs([world["own"], done.folder]).table
    reasons = set(lines[lines.task == "arc_easy:rc::lm-eval"].reason)
    assert len(reasons) == 1
    assert "was imported without its documents" in reasons.pop()


def test_other_prompts_are_not_compared(world: dict[str, Path], tmp_path: Path) -> None:
    """The same documents asked in another way are another question, even where nothing in the results file says so."""
    for file in world["file"].parent.iterdir():
        text = file.read_text(encoding="utf-8")
        if file.name.startswith("samples_arc_easy"):
            text = text.replace("Answer:", "Reply:")
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    (done,) = import_results(tmp_path, tmp_path / "out")
    assert done.folder is not None
    lines = compare_runs([world["own"], done.folder]).table
    by_task = lines[lines.level == "task"].set_index("task")
    assert "have different prompts" in by_task.loc["arc_easy:rc::lm-eval"].reason
    assert bool(by_task.loc["winogrande:rc::lm-eval"].comparable)


def test_older_shapes(world: dict[str, Path], tmp_path: Path) -> None:
    """Files of 0.4.0: no counts of samples, arguments as lists, responses as numbers, no list of metrics in a line."""
    data = json.loads(world["file"].read_text(encoding="utf-8"))
    for key in ("n-samples", "n-shot", "higher_is_better", "lm_eval_version", "model_name", "date"):
        data.pop(key)
    data["config"]["model_args"] = "pretrained=allenai/OLMo-1B-hf,revision=step1000-tokens4B"
    (tmp_path / "results.json").write_text(json.dumps(data), encoding="utf-8")
    (samples,) = world["file"].parent.glob("samples_arc_easy_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["arguments"] = [[one["arg_0"], one["arg_1"]] for one in line["arguments"].values()]
        line["resps"] = [[[float(total), greedy == "True"]] for ((total, greedy),) in line["resps"]]
        line.pop("metrics")
    (tmp_path / "samples_arc_easy.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    (done,) = import_results(tmp_path, tmp_path / "out")
    assert done.folder is not None
    old, new = load_run(done.folder), load_run(world["imported"])
    assert old.model == "allenai/OLMo-1B-hf@step1000-tokens4B"
    assert old.info["checkpoint"]["tokens"] == 4_000_000_000
    for one in ("acc", "acc_norm", "sums", "gold"):
        columns: list[Any] = [list(run.documents("lm-eval/arc_easy")[one]) for run in (old, new)]
        assert [np.asarray(x).tolist() for x in columns[0]] == [np.asarray(x).tolist() for x in columns[1]]


def test_results_of_version_0_3(tmp_path: Path) -> None:
    """Metrics without filters, and a revision in the arguments as text."""
    data = {
        "results": {"arc_easy": {"acc": 0.25, "acc_stderr": 0.5, "acc_norm": 0.75, "acc_norm_stderr": 0.1}},
        "versions": {"arc_easy": 0},
        "config": {
            "model": "hf-causal",
            "model_args": "pretrained=EleutherAI/pythia-160m,revision=step1000",
            "num_fewshot": 0,
        },
    }
    (tmp_path / "arc.json").write_text(json.dumps(data), encoding="utf-8")
    (done,) = import_results(tmp_path / "arc.json", tmp_path / "out")
    assert done.folder is not None
    run = load_run(done.folder)
    assert run.model == "EleutherAI/pythia-160m@step1000"
    found = {row.metric: (row.value, row.stderr) for row in run.metrics.itertuples()}
    assert found == {"acc": (0.25, 0.5), "acc_norm": (0.75, 0.1)}


def test_leaderboards_put_it_into_the_columns_of_evalkits_own_tasks(world: dict[str, Path]) -> None:
    """The stored names stay lm-eval's, and beside evalkit's own tasks they go by theirs, with their primary metric."""
    stored = load_run(world["imported"])
    assert stored.tasks == [f"lm-eval/{name}" for name in CHOICES]
    runs, left = read_runs([world["output"]])
    assert not left
    (imported,) = (run for run in runs if run.info.get("imported"))
    assert list(imported.tasks) == list(CHOICES.values())
    primary = {metric.task: metric.metric for metric in imported.metrics if metric.primary}
    assert primary["arc_easy"] == "acc_norm"


def test_generated_texts_and_texts(world: dict[str, Path], tmp_path: Path, evalkit: Command) -> None:
    """gsm8k's two filters and a text's nats: metrics by lm-eval's names, and paired with lm-eval/NAME on evalkit's engine."""
    from evalkit.lm_eval_model import EvalkitLM
    from tests.made.byte_checkpoints import make_checkpoint
    from tests.made.lm_eval_tasks import write_tasks as write_invented

    names = ["made_sums", "made_texts", "made_choice", "made_schema", "made_several", "made_last_word"]
    folder, model = write_invented(tmp_path / "made"), make_checkpoint(tmp_path / "tiny", max_position_embeddings=1024)
    lm = EvalkitLM(pretrained=str(model), engine="fake", output=str(tmp_path / "journal"))
    evaluate(lm, f"pretrained={model}", folder, names, tmp_path / "theirs", bootstrap_iters=0)
    (own,) = package.run(
        model, task=[f"lm-eval/{name}" for name in names], lm_eval_path=folder, engine="fake", report=False,
        output=tmp_path / "results",
    )  # fmt: skip
    (done,) = import_results(tmp_path / "theirs", tmp_path / "results")
    assert done.folder is not None
    run: Run = load_run(done.folder)
    ours = {(row.task, row.metric): row.value for row in own.metrics.itertuples()}
    theirs = {(row.task, row.metric): row.value for row in run.metrics.itertuples()}
    for key in ("exact_match_strict", "exact_match_letters"):
        assert ("lm-eval/made_sums", key) in theirs
    shared = [key for key in theirs if key in ours]
    assert len(shared) >= 15
    for key in shared:
        assert theirs[key] == pytest.approx(ours[key], rel=1e-9), key
    lines = compare_runs([own, run]).table
    lines = lines[lines.level.isin(["task", "source"])]
    assert set(lines.task) == {f"lm-eval/{name}" for name in names}
    assert lines.comparable.all(), lines[["task", "reason"]]
    assert np.allclose(lines.difference, 0, atol=1e-9)
    assert "how it ended is not known" in evalkit("show", done.folder, "--task", "lm-eval/made_sums", "--doc", 1).out
    assert evalkit("report", done.folder).code == 0


def test_evalkits_own_generated_answers(tmp_path: Path, bundle: Bundle) -> None:
    """gsm8k by lm-eval's backend and by evalkit's engine: both filters are paired under the names of evalkit's own metrics."""
    splits = write_rows(tmp_path / "data", "gsm8k", bundle, 4)
    folder = tmp_path / "tasks"
    folder.mkdir()
    files = {}
    for split, rows in splits.items():
        files[split] = str(folder / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    definition = Path(lm_eval_tasks.__file__).parent / "gsm8k" / "gsm8k.yaml"
    settings = {"include": str(definition), "task": "gsm8k", "dataset_path": "json", "dataset_name": None,
                "dataset_kwargs": {"data_files": files}}  # fmt: skip
    (folder / "gsm8k.yaml").write_text(json.dumps(settings), encoding="utf-8")
    model = resolve("olmo-tiny")[0].path
    evaluate(
        "hf", f"pretrained={model},dtype=float32", folder, ["gsm8k"], tmp_path / "theirs",
        num_fewshot=1, bootstrap_iters=0, gen_kwargs={"max_gen_toks": 24},
    )  # fmt: skip
    (own,) = package.run(
        "olmo-tiny", task=["gsm8k::lm-eval"], shots=1, data_source=str(tmp_path / "data"), gen_kwargs={"max_tokens": 24},
        output=tmp_path / "results", report=False,
    )  # fmt: skip
    (done,) = import_results(tmp_path / "theirs", tmp_path / "results")
    assert done.folder is not None
    imported = load_run(done.folder)
    assert {"exact_match_strict-match", "exact_match_flexible-extract"} <= set(imported.metrics.metric)
    compared = compare_runs([own, imported])
    lines = compared.table[compared.table.level == "task"].set_index("metric")
    assert {"exact_match", "exact_match_flexible"} <= set(lines.index)
    assert set(lines.task) == {"gsm8k:gen::lm-eval"}
    assert lines.comparable.all(), lines.reason.tolist()
    assert (lines.difference == 0).all()
    a, b = own.documents("gsm8k::lm-eval"), imported.documents("lm-eval/gsm8k")
    assert [list(one) for one in a["answers"]] == [list(one) for one in b["answers"]]
