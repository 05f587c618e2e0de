"""The run folder read back: tables, names, and what damaged or missing files say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit import registry
from evalkit.cli import main
from evalkit.engines.base import EngineSettings
from evalkit.engines.fake import FakeEngine
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.records import Checkpoint
from evalkit.results.layout import run_folder, safe_name
from evalkit.results.reading import Run, find_runs, load_run, read_metrics
from evalkit.results.recompute import options_from_json, options_to_json
from evalkit.results.tables import jsonable, read_rows, write_rows
from evalkit.system.files import TEMPORARY_PREFIX, replacing
from evalkit.task import TaskOptions
from tests.made.byte_checkpoints import byte_tokenizer, make_checkpoint


@pytest.fixture
def run(checkpoint: Path) -> Run:
    """A finished run of both tasks."""
    (one,) = evalkit.run(str(checkpoint), suite="test_both", engine="fake", report=False)
    return one


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("allenai/OLMo-1B-hf", "allenai--OLMo-1B-hf"),
        ("a b:c", "a_b_c"),
        ("..", "_.."),
        ("olmo-tiny", "olmo-tiny"),
        ("../../etc", "..--..--etc"),
    ],
)
def test_names_become_folders(name: str, folder: str) -> None:
    """A name is one folder, and never a way out of the output."""
    assert safe_name(name) == folder


def test_run_folders() -> None:
    """``<output>/<model>/<suite>[~what is not default]/<revision>``."""
    assert run_folder(Path("r"), "a/b", "paloma", ["limit10", "bf16"], "step1") == Path(
        "r/a--b/paloma~limit10,bf16/step1"
    )
    assert run_folder(Path("r"), "m", "s", [], "") == Path("r/m/s/main")


def test_options_survive() -> None:
    """Task options go through run.json and come back equal."""
    options = TaskOptions(split="test", shots=0, data=Path("/x"), bundle=Path("y.whl"))
    assert options_to_json(options) == {"split": "test", "shots": 0, "data": "/x", "bundle": "y.whl"}
    assert options_from_json({**options_to_json(options), "of a later version": 1}) == options


def test_rows_survive(tmp_path: Path) -> None:
    """Sums keep 64 bits, log-probabilities 32, what a row lacks is absent, ids of two kinds become text."""
    rows = [
        {
            "index": 0,
            "native_id": 7,
            "sums": [0.1, -1e-300],
            "logprobs": [np.float32([0.1, -3]), np.float32([])],
            "cluster": "a",
        },
        {"index": 1, "native_id": "x", "sums": [1 / 3], "logprobs": [np.float32([-2])]},
        {"index": 2, "native_id": None, "sums": []},
    ]
    write_rows(tmp_path / "rows.parquet", rows)
    one, two, three = read_rows(tmp_path / "rows.parquet")
    assert one["sums"] == [0.1, -1e-300]
    assert one["logprobs"] == [[float(np.float32(0.1)), -3.0], []]
    assert (one["native_id"], two["native_id"], three["native_id"]) == ("7", "x", None)
    assert "cluster" not in two
    assert "logprobs" not in three


def test_tables_of_a_run(run: Run) -> None:
    """Frames with the documented columns; a short task name is enough."""
    assert {"task", "metric", "value", "stderr", "ci_low", "n", "limited"} <= set(run.metrics.columns)
    assert run.metrics["value"].dtype == "float64"
    frame = run.documents("test_sums")
    assert len(frame) == 40
    assert {"index", "native_id", "sums", "logprobs", "token_ids", "token_strings"} <= set(frame.columns)
    texts = run.documents("test_texts")
    assert texts["logprobs"].notna().sum() == 8
    assert len(run.prompts("test_texts")) == 8
    with pytest.raises(UnknownName, match="test_sums"):
        run.documents("test_sum")
    assert "test_both" in repr(run)


def test_finding_runs(run: Run) -> None:
    """A path that holds none says which lie below it."""
    assert list(find_runs(Path("results"))) == [run.path]
    with pytest.raises(UsageError, match="Runs below it"):
        load_run("results")
    with pytest.raises(UsageError, match="no run in"):
        load_run("nowhere")
    assert load_run(run.path / "run.json").path == run.path


def test_damaged_files_are_named(run: Run) -> None:
    """Each broken or missing file is one sentence with its path and what to do; running again mends it."""
    documents = run.path / "documents" / "test_sums.parquet"
    documents.write_bytes(documents.read_bytes()[:-20])
    with pytest.raises(EvalkitError, match=r"test_sums\.parquet is not a complete Parquet file"):
        run.rows("test_sums")
    documents.unlink()
    with pytest.raises(EvalkitError, match=r"test_sums\.parquet is missing"):
        evalkit.recompute_metrics(run.path)
    (run.path / "metrics.json").write_text("[{")
    with pytest.raises(EvalkitError, match=r"metrics\.json is not JSON"):
        _ = load_run(run.path).metrics
    (run.path / "metrics.json").unlink()
    with pytest.raises(EvalkitError, match=r"metrics\.json is missing"):
        _ = load_run(run.path).metrics
    (run.path / "run.json").write_text('{"schema_version": 1')
    with pytest.raises(EvalkitError, match=r"run\.json is not JSON"):
        load_run(run.path)
    (again,) = evalkit.run("tiny", suite="test_both", engine="fake", report=False)
    assert again.info["counts"]["batches_scored"] == 0
    assert len(again.rows("test_sums")) == 40
    (run.path / "run.json").write_text(json.dumps({**again.info, "schema_version": 99}))
    with pytest.raises(EvalkitError, match="newer evalkit"):
        load_run(run.path)


def test_a_finished_run_stays_when_its_weights_change(run: Run, checkpoint: Path) -> None:
    """It stays as it was until new weights are scored, then stands beside them, and is back when its weights are."""
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file() and file.name != ".lock"}
    make_checkpoint(checkpoint, seed=9)
    with pytest.raises(EvalkitError):
        evalkit.run("tiny", suite="test_both", engine="fake", report=False, engine_args={"fits": "3"})
    assert {file: file.read_bytes() for file in before} == before
    (again,) = evalkit.run("tiny", suite="test_both", engine="fake", report=False)
    assert again.path == run.path
    assert again.info["checkpoint"]["fingerprint"] != run.info["checkpoint"]["fingerprint"]
    digits = run.info["checkpoint"]["fingerprint"].removeprefix("sha256:")[:8]
    aside = load_run(run.path.with_name(f"main-{digits}"))
    assert aside.model == f"tiny@main-{digits}"
    assert aside.info["checkpoint"]["fingerprint"] == run.info["checkpoint"]["fingerprint"]
    assert any("taken the place" in warning for warning in aside.info["warnings"])
    for file, content in before.items():
        if file.name != "run.json":
            assert (aside.path / file.relative_to(run.path)).read_bytes() == content
    make_checkpoint(checkpoint)
    (third,) = evalkit.run("tiny", suite="test_both", engine="fake", report=False)
    assert (third.path, third.model, third.info["counts"]["batches_scored"]) == (run.path, "tiny", 0)
    assert read_metrics(third.path) == json.loads(before[run.path / "metrics.json"])
    assert third.info["timings"] == run.info["timings"]
    digits = again.info["checkpoint"]["fingerprint"].removeprefix("sha256:")[:8]
    assert sorted(path.name for path in run.path.parent.iterdir()) == ["main", f"main-{digits}"]


@pytest.mark.parametrize("name", ["metrics.json", "test_texts.parquet"])
def test_a_kill_between_two_files_shows(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Rows of a new run beside the metrics of the old are no finished run; the same command makes it whole."""
    inner = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.name == name and ".evalkit-tmp-" not in str(target):
            raise SystemExit  # as near to a kill as one process comes
        return inner(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(SystemExit):
            evalkit.run("tiny", suite="test_both", engine="fake", report=False, force=True)
    info = json.loads((run.path / "run.json").read_text())
    assert info["status"] in ("running", "failed")
    (again,) = evalkit.run("tiny", suite="test_both", engine="fake", report=False)
    assert again.status == "done"
    assert not list(run.path.glob(".evalkit-tmp-*"))


def test_a_repetition_that_scores_nothing_keeps_when_it_was_scored(run: Run) -> None:
    """Times, machine and command are those of the run that scored; the counts tell of the repetition."""
    (again,) = evalkit.run("tiny", suite="test_both", engine="fake", report=False, command="evalkit run again")
    assert again.info["counts"]["batches_scored"] == 0
    for key in ("timings", "command", "hardware", "versions", "process"):
        assert again.info[key] == run.info[key]


def test_rows_of_tasks_that_are_gone_go_with_the_next_finished_run(run: Run) -> None:
    """Nothing in ``documents`` belongs to no task of run.json."""
    (run.path / "documents" / "gone.parquet").write_bytes((run.documents_file("test_sums")).read_bytes())
    evalkit.run("tiny", suite="test_both", engine="fake", report=False)
    assert sorted(file.stem for file in (run.path / "documents").iterdir()) == ["test_sums", "test_texts"]


def test_runs_of_a_newer_evalkit_are_not_replaced(run: Run) -> None:
    """The command says so and how to go on; every file stays as it was, for ``evalkit metrics`` too."""
    file = run.path / "run.json"
    file.write_text(json.dumps({**run.info, "schema_version": 99}))
    with pytest.raises(EvalkitError, match=r"newer evalkit.*--output"):
        evalkit.run("tiny", suite="test_both", engine="fake", report=False)
    with pytest.raises(EvalkitError, match="newer evalkit"):
        evalkit.recompute_metrics(run.path)
    assert json.loads(file.read_text())["schema_version"] == 99


def test_metrics_of_a_folder_that_cannot_be_written(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """They are computed, returned and printed, from the rows and not from what is stored; that they are not stored is told."""
    right = evalkit.recompute_metrics(run.path)
    (run.path / "metrics.json").write_text("[]")
    (run.path / ".lock").unlink()
    (run.path / ".lock").mkdir()  # as good as a read-only folder, for a superuser too
    with pytest.warns(UserWarning, match="computed but not stored"):
        assert evalkit.recompute_metrics(run.path) == right
    assert main(["metrics", str(run.path)]) == 0
    printed = capsys.readouterr()
    assert "test_sums" in printed.out
    assert "Warning: The metrics were computed but not stored" in printed.err
    assert (run.path / "metrics.json").read_text() == "[]"


@pytest.mark.parametrize("name", ["../run", "/etc/passwd", "a/../../run"])
def test_names_in_run_json_stay_in_the_folder(run: Run, name: str) -> None:
    """Of documents and of prompts: whoever passes a run on cannot have other files read."""
    for key in ("file_name", "protocol_hash"):
        info = json.loads((run.path / "run.json").read_text())
        info["tasks"]["test_sums"][key] = name
        reader = Run(run.path, info)
        with pytest.raises(EvalkitError, match="outside of"):
            reader.documents("test_sums") if key == "file_name" else reader.prompts("test_sums")


def test_a_link_in_a_run_folder_is_not_followed(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    """Neither read, nor written through: another folder's files stay as they are."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "test_sums.parquet").write_text("precious")
    shutil.rmtree(run.path / "documents")
    (run.path / "documents").symlink_to(mine)
    with pytest.raises(EvalkitError, match="outside of"):
        run.rows("test_sums")
    make_checkpoint(checkpoint, seed=9)
    (again,) = evalkit.run("tiny", suite="test_both", engine="fake", report=False)
    assert len(again.rows("test_sums")) == 40
    assert [file.name for file in mine.iterdir()] == ["test_sums.parquet"]
    assert (mine / "test_sums.parquet").read_text() == "precious"


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """A write that fails leaves the old file and nothing else."""
    file = tmp_path / "a.json"
    file.write_text("old")

    def fail() -> None:
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert file.read_text() == "old"
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


def test_json_has_no_nan() -> None:
    """NaN and infinities become null; numpy's numbers plain ones."""
    assert jsonable({"a": float("nan"), "b": (np.float64(1.5), np.int32(2)), "c": float("inf")}) == {
        "a": None,
        "b": [1.5, 2],
        "c": None,
    }


def test_importing_is_light() -> None:
    """``import evalkit`` and opening a run import neither torch nor pandas nor transformers."""
    code = (
        "import sys, evalkit; evalkit.load_run; from evalkit.checkpoints import registered, resolve, revisions; "
        "from evalkit.scoring import journal; "
        "print([name for name in ('torch', 'pandas', 'transformers', 'datasets', 'huggingface_hub') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


class Adopting(FakeEngine):
    """A fake engine that takes models in memory."""

    def adopt(self, model: object, checkpoint: Checkpoint, tokenizer: object) -> None:
        self.load(checkpoint)


class Config:
    max_position_embeddings = 64

    def to_dict(self) -> dict[str, int]:
        return {"max_position_embeddings": 64}


class Model:
    """What a transformers model looks like from outside."""

    config = Config()

    def parameters(self) -> list[np.ndarray]:
        class Parameter:
            def numel(self) -> int:
                return 5

        return [Parameter(), Parameter()]  # type: ignore[list-item]

    def __call__(self) -> None: ...


def test_a_model_in_memory() -> None:
    """It is scored with its tokenizer, and nothing of it enters a journal."""

    def factory(settings: EngineSettings) -> Adopting:
        return Adopting(settings)

    registry.engines.load()
    registry.engines.remove("adopting")
    registry.engines.add(registry.EngineEntry("adopting", factory, where="tests"))
    (run,) = evalkit.run(Model(), tokenizer=byte_tokenizer(), task="test_sums", engine="adopting", report=False)
    assert run.status == "done"
    assert run.info["checkpoint"]["parameters"] == 10
    assert not Path("results/journal").exists()
    with pytest.raises(UsageError, match="needs its tokenizer"):
        evalkit.run(Model(), task="test_sums", engine="adopting")
    with pytest.raises(UsageError, match="cannot score a model in memory"):
        evalkit.run(Model(), tokenizer=byte_tokenizer(), task="test_sums", engine="fake")
