"""Results for a model's card: huggingface_hub reads them back, and only whole results are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from evalkit.errors import EvalkitError, UsageError
from evalkit.reports.model_card import write_model_card
from tests.made import board_runs as made
from tests.made.command_line import Command
from tests.made.hostile import HOSTILE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """ARC-Easy in both forms, a limited HellaSwag, and a source of Paloma."""
    parts = [
        made.question("arc_easy", 0.581, 570, metric="acc_norm", split="validation"),
        made.question("arc_easy", 0.61, 570, form="mc", metric="acc", split="validation"),
        made.question("hellaswag", 0.9, 10, limited=True),
        made.texts("paloma", "c4_en", 0.912),
    ]
    return made.write(tmp_path / "results", "org/model", "s", parts)


def test_it_reads_back_as_it_was_written(run: Path) -> None:
    """Through YAML and huggingface_hub: data sets of the hub, splits, metric ids, values as plain numbers."""
    block, left = write_model_card([run])
    assert left == ["hellaswag:rc::olmes"]
    found = yaml.safe_load(block)
    assert set(found) == {"model-index"}
    assert found["model-index"][0]["name"] == "model"
    data = ModelCardData(**found)
    assert data.model_name == "model"
    results = {result.metric_name: result for result in data.eval_results or []}
    rc = results["acc_norm, arc_easy:rc::olmes, 5-shot"]
    assert (rc.dataset_type, rc.dataset_config, rc.dataset_split) == ("allenai/ai2_arc", "ARC-Easy", "validation")
    assert (rc.task_type, rc.metric_type, rc.metric_value) == ("text-generation", "accuracy", 0.581)
    assert rc.metric_args is not None
    assert rc.metric_args["documents"] == 570
    assert rc.metric_args["stderr"] == pytest.approx(0.0207, abs=1e-4)  # sqrt(.581 · .419 / 569)
    assert results["acc, arc_easy:mc::olmes, 5-shot"].metric_value == 0.61
    text = results["macro bits per byte, paloma/c4_en"]
    assert (text.dataset_type, text.dataset_config) == ("allenai/paloma", "c4_en")
    assert (text.metric_type, text.metric_value) == ("bits_per_byte", 0.912)
    assert all(type(result.metric_value) is float for result in results.values())
    assert ModelCardData(**yaml.safe_load(data.to_yaml())).to_dict() == data.to_dict()


def test_into_a_card_that_is_there(run: Path, tmp_path: Path) -> None:
    """Text, licence and others' results stay; the same metric is replaced and not doubled."""
    card = tmp_path / "README.md"
    card.write_text(
        "---\nlicense: apache-2.0\nmodel-index:\n- name: mine\n  results:\n  - task: {type: text-generation}\n"
        "    dataset: {name: Other, type: other}\n    metrics: [{type: accuracy, value: 0.5}]\n---\n# Mine\n\nText.\n"
    )
    write_model_card([run], card)
    write_model_card([run], card)
    found = ModelCard(card.read_text())
    assert found.text.strip() == "# Mine\n\nText."
    assert (found.data.license, found.data.model_name) == ("apache-2.0", "mine")
    assert len(found.data.eval_results or []) == 4
    assert any(result.dataset_type == "other" for result in found.data.eval_results or [])
    card.write_text("---\n{{{\n---\n")
    with pytest.raises(EvalkitError, match="cannot be read"):
        write_model_card([run], card)
    assert card.read_text() == "---\n{{{\n---\n"


def test_a_new_card(run: Path, tmp_path: Path) -> None:
    """A .md file gets the fences of metadata, anything else the YAML alone."""
    write_model_card([run], tmp_path / "new.md")
    assert ModelCard((tmp_path / "new.md").read_text()).data.model_name == "model"
    write_model_card([run], tmp_path / "new.yaml")
    assert "model-index" in yaml.safe_load((tmp_path / "new.yaml").read_text())


def test_what_has_no_place_on_a_card(run: Path, tmp_path: Path) -> None:
    """Two checkpoints, or nothing whole, are errors."""
    other = made.write(tmp_path / "results", "other", "s", [made.question("arc_easy", 0.5, 100)])
    with pytest.raises(UsageError, match="one checkpoint"):
        write_model_card([run, other])
    few = made.write(tmp_path / "results", "few", "s", [made.question("arc_easy", 0.5, 10, limited=True)])
    with pytest.raises(UsageError, match="nothing for a model card"):
        write_model_card([few])


def test_hostile_names(run: Path) -> None:
    """Names are strings of YAML whatever is in them."""
    info = json.loads((run / "run.json").read_text())
    info["checkpoint"]["name"] = HOSTILE
    (run / "run.json").write_text(json.dumps(info))
    lines = json.loads((run / "metrics.json").read_text())
    for line in lines:
        if line["task"] == "arc_easy":
            line["task"] = HOSTILE + "\n- !!python/object:x"
    (run / "metrics.json").write_text(json.dumps(lines))
    found = yaml.safe_load(write_model_card([run])[0])
    assert any(one["task"]["name"].startswith("<script>") for one in found["model-index"][0]["results"])


def test_the_command(evalkit: Command, run: Path) -> None:
    """--format model-card prints the block, and says what is left out."""
    done = evalkit("report", run, "--format", "model-card")
    assert done.code == 0
    assert yaml.safe_load(done.out)["model-index"][0]["name"] == "model"
    assert "hellaswag:rc::olmes is left out" in done.err
    assert "card.md" in evalkit("report", run, "--format", "model-card", "--out", run / "card.md").out
    assert "html or model-card" in evalkit("report", run, "--format", "pdf").fails(2)
