"""Tasks of lm-evaluation-harness on evalkit's engines: the same numbers as in its own evaluation, both ways."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit.errors import EvalkitError
from evalkit.registry import SuiteEntry, make_task, task_group
from evalkit.results.reading import Run
from evalkit.results.recompute import recompute_metrics
from evalkit.scoring.collect import expand
from evalkit.task import TaskOptions
from evalkit.tasks.suites import read_suite
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.command_line import Command, Start
from tests.made.lm_eval_tasks import GROUPS, TASKS, write_tasks

pytest.importorskip("lm_eval")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The folder of tasks, a checkpoint for the fake engine, and the results folder."""
    root = tmp_path_factory.mktemp("bridge")
    return write_tasks(root / "made"), make_checkpoint(root / "tiny", max_position_embeddings=1024), root / "results"


def run(world: tuple[Path, Path, Path], *tasks: str, **options: Any) -> list[Run]:
    folder, model, output = world
    return list(evalkit.run(
        model, task=[f"lm-eval/{task}" for task in tasks], lm_eval_path=folder, engine="fake",
        output=options.pop("output", output), report=False, **options,
    ))  # fmt: skip


def theirs(world: tuple[Path, Path, Path], tasks: list[str], **options: Any) -> dict[str, dict[str, Any]]:
    """The harness's own evaluation, with evalkit's engine as its model."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from evalkit.lm_eval_model import EvalkitLM

    folder, model, output = world
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    lm = EvalkitLM(pretrained=str(model), engine="fake", output=str(output / "theirs"))
    found = lm_eval.simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options)
    return dict(found["results"])


def values(results: dict[str, Any]) -> dict[str, float]:
    """Their metrics by evalkit's names."""
    found = {}
    for key, value in results.items():
        metric, comma, filtered = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            found[metric if filtered == "none" else f"{metric}_{filtered}"] = value
    return found


def ours(run: Run, task: str) -> dict[str, float]:
    rows = run.metrics[run.metrics.task == f"lm-eval/{task}"]
    return dict(zip(rows.metric, rows.value, strict=True))


@pytest.mark.parametrize(
    ("task", "shots"),
    # of several right answers the harness makes no examples
    [(task, shots) for task in TASKS for shots in (None, 2) if (task, shots) != ("made_several", 2)],
)
def test_same_numbers_as_the_harness(world: tuple[Path, Path, Path], task: str, shots: int | None) -> None:
    """Every metric and filter of every kind of task, with and without examples; nothing of it is missing."""
    (one,) = run(world, task, shots=shots)
    wanted = values(theirs(world, [task], num_fewshot=shots)[task])
    found = ours(one, task)
    assert wanted
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("group", [name for name in GROUPS if name != "made_mixed"])
def test_same_scores_of_groups(world: tuple[Path, Path, Path], group: str) -> None:
    """A group's score is the harness's: weighted by documents or not, over all tasks below it, for each of its metrics."""
    (one,) = run(world, group)
    results = theirs(world, [group])
    assert one.suite == f"lm-eval/{group}"
    for name in GROUPS if group == "made_group" else [group]:
        if name in results:
            for metric, value in values(results[name]).items():
                suite = f"lm-eval/{name}" if metric == "acc" else f"lm-eval/{name}@{metric}"
                (row,) = one.metrics[one.metrics.task == suite].to_dict("records")
                assert row["value"] == pytest.approx(value, rel=1e-6)
    assert len(values(results[group])) == len(GROUPS[group]["aggregate_metric_list"])


def test_a_group_whose_tasks_lack_its_metric(world: tuple[Path, Path, Path]) -> None:
    """It has no score, and the task that lacks it is named; the harness averages the others."""
    (one,) = run(world, "made_mixed")
    suites = one.metrics[one.metrics.metric == "suite_score"].to_dict("records")
    assert [(row["task"], row["note"]) for row in suites] == [
        ("lm-eval/made_mixed", "not available: lm-eval/made_sums has no acc")
    ]
    assert math.isnan(suites[0]["value"])


def test_a_group_with_other_shots(world: tuple[Path, Path, Path]) -> None:
    """`--shots` goes to all tasks of a group of one's own, whose score then says so in its name, and is the harness's."""
    (one,) = run(world, "made_inner", shots=0)
    assert set(one.metrics.task) >= {"lm-eval/made_inner"}  # 0 is what its tasks ask anyway
    (one,) = run(world, "made_lengths", shots=1)
    (row,) = one.metrics[one.metrics.task == "lm-eval/made_lengths with other shots"].to_dict("records")
    assert row["value"] == pytest.approx(values(theirs(world, ["made_lengths"], num_fewshot=1)["made_lengths"])["acc"])


def test_a_group_asks_its_way(world: tuple[Path, Path, Path]) -> None:
    """What a group sets otherwise is a task of its own name; everything else is the task as it is alone."""
    found = task_group("lm-eval/made_group", world[0])
    assert isinstance(found, SuiteEntry)
    assert [member.name for member in found.members if "/made_group/" in member.name] == [
        "lm-eval/made_group/made_letters"
    ]
    assert [member.name for member in found.members if member.weight == 0] == ["lm-eval/made_inner"]
    changed = make_task("lm-eval/made_group/made_letters", TaskOptions(lm_eval_path=world[0]))
    assert changed.protocol()["shots"] == 1
    assert task_group("lm-eval/made", world[0]) == [f"lm-eval/{name}" for name in sorted(list(TASKS)[1::2])]
    assert task_group("lm-eval/made_s*", world[0]) == [
        f"lm-eval/made_{name}" for name in ("schema", "several", "shuffled", "sums")
    ]


def test_a_suite_of_groups_and_tags(world: tuple[Path, Path, Path], alone: Path) -> None:
    """A suite of one's own takes a group as one member, and a tag as its tasks."""
    members = [{"suite": "lm-eval/made_inner"}, {"task": "lm-eval/made", "weight": 0}]
    (alone / "mine.yaml").write_text(json.dumps({"tasks": members}))
    shape, leaves = expand(read_suite(alone / "mine.yaml"), world[0])
    inner = ["lm-eval/made_several", "lm-eval/made_information"]
    tag = [f"lm-eval/{name}" for name in sorted(list(TASKS)[1::2])]
    assert [member.name for member in shape.members] == ["lm-eval/made_inner", *tag]
    assert [member.weight for member in shape.members] == [None, *[0] * len(tag)]
    assert set(leaves) == {*inner, *tag}


def test_documents_are_the_same_as_in_the_data(world: tuple[Path, Path, Path]) -> None:
    """`--limit` takes the first, `--sample` others under their own index, with the examples that the harness draws for them."""
    (one,) = run(world, "made_choice", sample=4, seed=3, shots=1)
    frame = one.documents("lm-eval/made_choice")
    chosen = [int(index) for index in frame["index"]]
    assert chosen == sorted(chosen) != [0, 1, 2, 3]
    assert list(frame["native_id"]) == [f"q{index}" for index in chosen]
    results = theirs(world, ["made_choice"], num_fewshot=1, samples={"made_choice": chosen})
    found, wanted = ours(one, "made_choice"), values(results["made_choice"])
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    (first,) = run(world, "made_choice", limit=3)
    assert list(first.documents("lm-eval/made_choice")["index"]) == [0, 1, 2]


def test_metrics_are_made_again_from_rows(world: tuple[Path, Path, Path]) -> None:
    """Without a model, every number is the same, also those of pairs, arrays and texts."""
    for task in TASKS:
        (one,) = run(world, task)
        before = ours(one, task)
        again = {
            metric.metric: metric.value
            for metric in recompute_metrics(one.path, write=False)
            if metric.task == f"lm-eval/{task}"
        }
        assert {name: again[name] for name in before} == pytest.approx(before, nan_ok=True)


def test_runs_compare_paired(world: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Two models, document by document: the values behind each comparison are those of the harness."""
    from evalkit.comparison.compare import compare_runs

    folder, _, output = world
    other = (folder, make_checkpoint(tmp_path / "other", seed=1, max_position_embeddings=1024), output)
    tasks = ["made_choice", "made_several", "made_last_word", "made_texts", "made_sums"]
    (a,), (b,) = run(world, *tasks, "made_correlation"), run(other, *tasks, "made_correlation")
    table = compare_runs([a, b]).table
    (line,) = table[(table.task == "lm-eval/made_correlation") & (table.metric == "mcc")].to_dict("records")
    assert not line["comparable"]
    assert line["reason"] == "its documents do not contain mcc"
    for task, metric in zip(tasks, ("acc", "acc", "acc", "bits_per_byte", "exact_match_strict"), strict=True):
        lines = table[(table.task == f"lm-eval/{task}") & (table.metric == metric)]
        assert len(lines), task
        line = lines.iloc[0]
        assert line.comparable, (task, line.reason)
        assert line.value_a == pytest.approx(ours(a, task)[metric], nan_ok=True)
        assert line.value_b == pytest.approx(ours(b, task)[metric], nan_ok=True)


def test_pages_and_leaderboards(world: tuple[Path, Path, Path], evalkit: Command, alone: Path) -> None:
    """A group, generated answers and texts stand in a report and on a leaderboard with the harness's own numbers."""
    (group,), (single,) = (
        run(world, *tasks, output=alone / "out")
        for tasks in (["made_group"], ["made_sums", "made_votes", "made_texts", "made_correlation"])
    )
    result = evalkit("report", group.path, single.path, "--out", alone / "page.html")
    assert result.code == 0, result.err
    page = (alone / "page.html").read_text(encoding="utf-8")
    assert all(f"lm-eval/{name}" in page for name in ("made_group", "made_inner", "made_sums", "made_texts"))
    result = evalkit("leaderboard", alone / "out", "--format", "csv", "--out", alone / "board.csv")
    assert result.code == 0, result.err
    (row,) = csv.DictReader((alone / "board.csv").open(encoding="utf-8"))
    score = values(theirs(world, ["made_group"])["made_group"])["acc"]
    assert float(row["suite-lm-eval/made_group"]) == pytest.approx(score)
    result = evalkit("leaderboard", alone / "out", "--format", "md")
    assert "lm-eval/made\\_group: Mean of 4 tasks' acc, weighted by its documents." in result.out
    encoder = single.info["tasks"]["lm-eval/made_texts"]["protocol"]["encoder"]
    assert (encoder["window"], encoder["prefix_token"]) == ("catwalk", "bos")  # not what --window says


def test_killed_and_resumed(world: tuple[Path, Path, Path], alone: Path, start: Start) -> None:
    """A run that is killed goes on where it stopped, with the same prompts and the same numbers."""
    folder, model, _ = world
    tasks = ["made_choice", "made_texts", "made_sums", "made_shuffled"]
    names, output = ",".join(f"lm-eval/{task}" for task in tasks), alone / "out"
    options = ["--lm-eval-path", folder, "--shots", 2, "--engine", "fake", "--batch-tokens", 400, "--no-report"]
    process = start("run", "--model", model, "--task", names, *options, "--output", output, "--engine-arg", "delay=0.2")
    end = time.monotonic() + 60
    while sum(file.stat().st_size for file in output.glob("journal/*/*.log")) < 3000:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    arguments = {"shots": 2, "batch_tokens": 400}
    (resumed,) = run(world, *tasks, output=output, **arguments)
    (whole,) = run(world, *tasks, output=alone / "whole", **arguments)
    counts = resumed.info["counts"]
    assert counts["batches_found"] > 0
    assert counts["batches_scored"] + counts["texts_generated"] > 0
    for task in tasks:
        assert ours(resumed, task) == ours(whole, task)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("made_chioce", "Did you mean 'made_choice'"),
        ("made_group@f1", "The group 'made_group' has no score of 'f1', but of acc."),
        ("made_group/made_yes", "the group around it has made_choice, made_letters, made_inner"),
        ("made_code", "lm-eval/made_code runs model-written programs"),
        ("made_pictures", "lm-eval/made_pictures uses images or audio"),
        (
            "made_metric",
            "needs the metric 'no_such_metric' of the package evaluate, which is code from the Hugging Face Hub",
        ),
        ("made_package", "lm-eval/made_package needs the Python package 'no_such_package', which is not installed"),
        ("made_beams", "lm-eval/made_beams generates with num_beams=4, which evalkit's engines do not support"),
        ("made_remote", "lm-eval/made_remote reads nobody/nothing: the offline bundle does not hold it"),
    ],
)
def test_what_cannot_run_is_said_by_name(world: tuple[Path, Path, Path], alone: Path, task: str, said: str) -> None:
    """One sentence each, for what a task needs and evalkit does not have."""
    folder = write_tasks(alone / "made")
    choice = (folder / "made_choice.yaml").read_text()
    sums = (folder / "made_sums.yaml").read_text()
    (folder / "broken.py").write_text("import no_such_package\ndef shown(doc): return ''\n")
    for name, text in {
        "made_code": choice + "unsafe_code: true\n",
        "made_pictures": choice + "doc_to_image: question\n",
        "made_metric": sums.replace("metric: exact_match", "metric: no_such_metric"),
        "made_package": choice + "process_docs: !function broken.shown\n",
        "made_beams": sums.replace("do_sample: false", "num_beams: 4"),
        "made_remote": choice.replace("dataset_path: json", "dataset_path: nobody/nothing"),
    }.items():
        text = text.replace("task: made_choice", f"task: {name}").replace("task: made_sums", f"task: {name}")
        (folder / f"{name}.yaml").write_text(text)
    with pytest.raises(EvalkitError, match=said.replace("(", r"\(")) as caught:
        run((folder, world[1], alone / "out"), task, data_source="bundle")
    assert "Traceback" not in str(caught.value)


def test_the_package_is_imported_only_when_asked_for() -> None:
    """Other tasks, and lists, do not import the harness; and without it there is a sentence with the command that installs it."""
    code = """
import sys
from evalkit.registry import make_task, tasks
make_task("arc_easy"), list(tasks)
assert not [name for name in sys.modules if name.split(".")[0] in ("lm_eval", "datasets", "numpy")]
import evalkit.tasks.lm_eval.index as index
index.find_spec = lambda name: None
try:
    make_task("lm-eval/arc_easy")
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "need lm-evaluation-harness. Install it with: pip install" in done.stdout, done.stderr
    assert "lm-eval==0.4.13" in done.stdout


def test_the_index_is_kept(alone: Path) -> None:
    """The names of the package are read once, and from the cache afterwards; a damaged cache is made again."""
    code = "from evalkit.tasks.lm_eval.index import entry_of; import sys; e = entry_of('arc_easy'); print(e.kind, e.output, 'lm_eval' in sys.modules)"

    def ask() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert ask() == "task multiple_choice True"
    assert ask() == "task multiple_choice False"
    (file,) = (alone / "home" / "cache" / "lm-eval").glob("names-0.4.13-*.json")
    assert len(json.loads(file.read_text())) > 10_000
    file.write_text("[{}")
    assert ask() == "task multiple_choice True"
