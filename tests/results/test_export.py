"""Runs in other tools' formats: read back by evalkit, by huggingface_hub and by the schemas of Every Eval Ever."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries

import evalkit as package
from evalkit.comparison.compare import compare_runs
from evalkit.data import Bundle
from evalkit.results.exchange.importing import import_results
from evalkit.results.reading import Run, load_run
from tests.made.command_line import Command
from tests.made.foreign_results import write_lm_eval

SCHEMAS = Path(__file__).with_name("every_eval_ever")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Options with and without their space, with unconditional prompts, of two inputs; generated texts; and texts."""
    root = tmp_path_factory.mktemp("export")
    given = {
        "output": root / "results",
        "report": False,
        "data_source": "bundle",
        "limit": 6,
        "shots": 0,
        "split": "validation",
    }
    (run,) = package.run(
        "olmo-tiny", task=["arc_easy::lm-eval", "arc_easy::olmo1", "winogrande::lm-eval", "boolq::lm-eval"], **given
    )
    return run


def key(row: Any) -> tuple[str, ...]:
    return (row.task, row.form, row.regime, row.metric)


def check_same_scores(run: Run, back: Run) -> None:
    a, b = ({key(row): row for row in one.metrics.itertuples() if not row.domain} for one in (run, back))
    assert set(a) <= set(b)
    for name, row in a.items():
        for column in ("value", "stderr", "ci_low", "ci_high"):
            x, y = getattr(row, column), getattr(b[name], column)
            assert x == pytest.approx(y, rel=1e-12, nan_ok=True) or math.isnan(x), (name, column, x, y)
        assert row.primary == b[name].primary
        assert row.n == b[name].n


def test_lm_eval_and_back(own: Run, tmp_path: Path, evalkit: Command) -> None:
    """The same scores, errors and intervals under the same names, and no difference document by document."""
    done = evalkit("results", "export", own.path, "--format", "lm-eval", "--out", tmp_path / "out")
    assert done.code == 0
    (imported,) = import_results(tmp_path / "out", tmp_path / "results")
    assert imported.folder is not None
    back = load_run(imported.folder)
    assert back.tasks == own.tasks
    assert back.model == own.model
    check_same_scores(own, back)
    compared = compare_runs([own, back])
    lines = compared.table[compared.table.level.isin(["task", "source", "domain"])]
    assert set(lines.task) == set(own.tasks)
    assert lines.comparable.all(), lines.reason.tolist()
    assert (lines.difference == 0).all()


def test_an_imported_run_goes_out_as_it_came(tmp_path: Path) -> None:
    """lm-eval's own names of tasks and filters, and its version."""
    from evalkit.results.exchange.lm_eval_export import export_lm_eval

    values = {
        "exact_match,strict-match": 0.5,
        "exact_match_stderr,strict-match": 0.1,
        "exact_match,flexible-extract": 1.0,
    }
    (done,) = import_results(write_lm_eval(tmp_path / "in"), tmp_path / "out")
    assert done.folder is not None
    results, samples = export_lm_eval(load_run(done.folder), tmp_path / "again")
    data = json.loads(results.read_text(encoding="utf-8"))
    assert data["results"]["colours"]["acc,none"] == 0.75
    assert data["results"]["colours"]["acc_stderr,none"] == 0.25
    assert data["lm_eval_version"] == "0.4.13"
    theirs = [
        json.loads(line) for line in next((tmp_path / "in").glob("samples_*")).read_text(encoding="utf-8").splitlines()
    ]
    ours = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for one, other in zip(theirs, ours, strict=True):
        for name in ("doc_id", "target", "arguments", "resps", "filtered_resps", "filter", "acc"):
            assert one[name] == other[name], name
    text = json.dumps({"results": {"sums": values}, "configs": {"sums": {"output_type": "generate_until"}}})
    (done,) = import_results(write_lm_eval(tmp_path / "in2", text), tmp_path / "out")
    assert done.folder is not None
    (results,) = export_lm_eval(load_run(done.folder), tmp_path / "again2")
    found = json.loads(results.read_text(encoding="utf-8"))["results"]["sums"]
    assert values.items() <= found.items()


def test_eval_results_of_the_hub(bundle: Bundle, tmp_path: Path, evalkit: Command) -> None:
    """huggingface_hub reads every entry, and writes the same again; what is limited is left out, by name."""
    given = {"output": tmp_path / "results", "report": False, "data_source": "bundle", "bundle": bundle.path}
    (run,) = package.run("olmo-tiny", task=["copa::lm-eval"], shots=0, **given)
    done = evalkit("results", "export", run.path, "--format", "eval-results", "--out", tmp_path / "repository")
    assert done.code == 0, done.err
    (file,) = (tmp_path / "repository" / ".eval_results").iterdir()
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    (entry,) = parse_eval_result_entries(content)
    assert eval_result_entries_to_yaml([entry]) == content
    assert entry.dataset_id == "aps/super_glue"
    assert entry.task_id == "copa"
    accuracy = run.metrics[run.metrics.primary].value.iloc[0]
    assert entry.value == pytest.approx(100 * accuracy, abs=1e-3)
    assert entry.notes is not None
    assert "0-shot" in entry.notes
    (limited,) = package.run("olmo-tiny", task=["copa::lm-eval"], shots=0, limit=5, **given)
    refused = evalkit("results", "export", limited.path, "--format", "eval-results", "--out", tmp_path / "no")
    assert "it is limited" in refused.fails(2)
    assert not (tmp_path / "no").exists()


def test_every_eval_ever_is_valid(own: Run, tmp_path: Path, evalkit: Command) -> None:
    """Both of its schemas (the package's own files) take what is written, for a run of ours and for an imported one."""
    (imported,) = import_results(write_lm_eval(tmp_path / "in"), tmp_path / "results")
    schema, lines_schema = (
        json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
        for name in ("eval.schema.json", "instance_level_eval.schema.json")
    )
    assert schema["version"] == lines_schema["version"] == "0.3.0"
    for path, organization in ((own.path, "A group"), (imported.folder, "")):
        out = tmp_path / f"eee{bool(organization)}"
        done = evalkit(
            "results", "export", path, "--format", "every-eval-ever", "--out", out, "--organization", organization,
        )  # fmt: skip
        assert done.code == 0, done.err
        file, samples = (Path(line) for line in done.out.splitlines())
        record = json.loads(file.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator(schema).validate(record)
        lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            jsonschema.Draft7Validator(lines_schema).validate(line)
        assert record["detailed_evaluation_results"]["total_rows"] == len(lines) > 0
        assert (out / record["detailed_evaluation_results"]["file_path"]) == samples
        ids = {one["evaluation_result_id"]: one["score_details"]["score"] for one in record["evaluation_results"]}
        run = load_run(Path(str(path)))
        for row in run.metrics.itertuples():
            name = row.task + (f":{row.form}" if row.form else "") + (f"::{row.regime}" if row.regime else "")
            if math.isfinite(row.value) and not row.domain:
                assert ids[f"{name}#{row.metric}"] == row.value
        for ident in {line["evaluation_result_id"] for line in lines}:
            scores = [line["evaluation"]["score"] for line in lines if line["evaluation_result_id"] == ident]
            assert sum(scores) / len(scores) == pytest.approx(ids[ident], rel=1e-9)


def test_a_run_that_is_not_finished_is_not_handed_on(own: Run, tmp_path: Path, evalkit: Command) -> None:
    info = {**own.info, "status": "failed"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(info), encoding="utf-8")
    message = evalkit("results", "export", tmp_path / "run", "--format", "lm-eval", "--out", tmp_path / "out").fails(2)
    assert "not finished" in message
