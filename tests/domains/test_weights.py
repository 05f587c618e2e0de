"""The perplexity of another mixture: exp(Σ α_d NLL_d) with given weights, and what is wrong with weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import evalkit
from evalkit import cli
from evalkit.errors import UnknownName, UsageError
from evalkit.results.reading import read_metrics
from evalkit.results.recompute import recompute_metrics
from evalkit.statistics.domain_weights import normalized_weights, read_weights
from tests.made import paloma_release as release
from tests.made.paloma_release import documents, line, write


@pytest.fixture(autouse=True)
def _in_a_folder(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_silence_libraries", lambda: None)
    for source, domain, count in (("s", "a", 7), ("s", "b", 9), ("t", "c", 5)):
        lines = [line(release.text_of(source, domain, str(number)), id=number) for number in range(count)]
        write(alone / f"mine/{source}/{domain}.jsonl", lines)


def told(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["metric"]: one for one in records if one["task"] == "texts-mine"}


def test_the_papers_formula(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written a second time from the rows; a source's weight is spread evenly, sums need not be 1, a domain may have none."""
    Path("weights.yaml").write_text("s:\n  a: 3\nt: 5\n")
    words = ["run", "--model", str(checkpoint), "--suite", "mine", "--engine", "fake", "--no-report"]
    assert cli.main([*words, "--domain-weights", "weights.yaml"]) == 0
    assert "reweighted token perplexity" in capsys.readouterr().out
    folder = Path("results/tiny/texts-mine~fake/main")
    run = evalkit.load_run(folder)
    nll, bits = {}, {}
    for source in ("s", "t"):
        for domain in {row["domain"] for row in run.rows(f"texts/{source}")}:
            rows = [row for row in run.rows(f"texts/{source}") if row["domain"] == domain]
            nll[domain] = -sum(row["sum"] for row in rows) / sum(row["tokens"] for row in rows)
            bits[domain] = -sum(row["sum"] for row in rows) / sum(row["bytes"] for row in rows) / math.log(2)
    found = told(read_metrics(folder))
    perplexity = found["reweighted_token_perplexity"]
    assert perplexity["value"] == pytest.approx(math.exp((3 * nll["a"] + 5 * nll["c"]) / 8), rel=1e-12)
    assert found["reweighted_bits_per_byte"]["value"] == pytest.approx((3 * bits["a"] + 5 * bits["c"]) / 8, rel=1e-12)
    assert perplexity["ci_low"] < perplexity["value"] < perplexity["ci_high"]
    assert perplexity["n"] == 12
    assert run.info["domain_weights"] == {"s": {"a": 3.0}, "t": 5.0}
    again = {one.metric: one.value for one in recompute_metrics(folder) if one.task == "texts-mine"}
    assert again["reweighted_token_perplexity"] == perplexity["value"]
    Path("other.json").write_text('{"s": 1}')
    assert cli.main(["metrics", str(folder), "--domain-weights", "other.json", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    value = told(answer["metrics"])["reweighted_token_perplexity"]["value"]
    assert value == pytest.approx(math.exp((nll["a"] + nll["b"]) / 2), rel=1e-12)
    assert evalkit.load_run(folder).info["domain_weights"] == {"s": 1.0}


def test_no_other_mixture_takes_its_place(checkpoint: Path) -> None:
    """Where a domain with a weight has no documents the value is unscored; where it has no weight nothing is missing."""
    write(Path("files/ptb/test/test.jsonl.gz"), documents("ptb", "ptb", "test"))
    for weights, there in (({"ptb": 1, "c4_en": 1}, False), ({"ptb": 2}, True), ({"ptb": 1, "gab": 0}, True)):
        (run,) = evalkit.run(
            str(checkpoint), suite="paloma", data="files", engine="fake", report=False, domain_weights=weights
        )
        (one,) = [m for m in read_metrics(run.path) if m["metric"] == "reweighted_bits_per_byte"]
        assert (one["value"] is not None) is there


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s: -1", "the weight of 's' must be a number of at least 0, not -1"),
        ("s: {a: much}", "the weight of 's/a' must be a number of at least 0, not 'much'"),
        ("s: .nan", "not nan"),
        ("s: yes", "not True"),
        ("s: 0", "at least one weight must be above 0"),
        ("[1, 2]", "weights are 'source: weight'"),
        ("", "weights are 'source: weight'"),
        ("s: [", "is not YAML"),
        ("z: 1", r"no source 'z'"),
        ("s: {aa: 1}", r"no domain 'aa'\. Did you mean 'a'"),
    ],
)
def test_wrong_weights_are_refused_before_anything_is_scored(checkpoint: Path, text: str, said: str) -> None:
    """One sentence that names the file or the nearest name."""
    Path("weights.yaml").write_text(text)
    with pytest.raises(UsageError, match=said):
        evalkit.run(str(checkpoint), suite="mine", engine="fake", domain_weights="weights.yaml")
    assert not Path("results").exists()


def test_weights_need_a_suite_of_texts(checkpoint: Path) -> None:
    """Questions have no domains, a single source has no mixture, a missing file is named."""
    with pytest.raises(UsageError, match="needs a suite of texts"):
        evalkit.run(str(checkpoint), task="test_sums", engine="fake", domain_weights={"s": 1})
    with pytest.raises(UsageError, match=r"--domain-weights file nowhere\.yaml does not exist"):
        read_weights(Path("nowhere.yaml"))
    (run,) = evalkit.run(str(checkpoint), task="test_sums", engine="fake", report=False)
    with pytest.raises(UsageError, match="not a run of a text suite"):
        recompute_metrics(run.path, weights={"s": 1.0})
    with pytest.raises(UnknownName, match="no source 'x'"):
        normalized_weights({"x": 1.0}, [("s", "a")])
