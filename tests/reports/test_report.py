"""The HTML report: what it shows, what it must never do, and that nothing in it comes from outside."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.errors import EvalkitError, UsageError
from evalkit.formats.terminal import terminal
from evalkit.reports import terminal_table, write_report
from evalkit.words import NO_INTERVAL
from tests.made import report_runs as runs
from tests.made.pages import Page


def report(tmp_path: Path, **more: object) -> Page:
    return Page(write_report(runs.quickstart(tmp_path / "run", **more)))  # type: ignore[arg-type]


def test_report_lies_in_the_run_folder_and_is_well_formed(tmp_path: Path) -> None:
    """One file, ``report.html``, whose elements are all closed and whose ids are unique."""
    folder = runs.quickstart(tmp_path / "run")
    path = write_report(folder)
    page = Page(path)
    assert path == folder / "report.html"
    assert page.source.startswith("<!DOCTYPE html>")
    assert page.unbalanced == []
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_header_says_what_was_run(tmp_path: Path) -> None:
    """Checkpoint, suite, date, engine, precision, hardware, tokens, seconds, parameters and the command."""
    page = report(tmp_path)
    for part in (
        "olmo-tiny@step5000-tokens328M on quickstart", "1.65 M", "step 5,000, 328 M tokens", "2026-11-23 08:04:20",
        "transformers engine (transformers 5.16.1)", "float32", "A processor, 2 cores", "234,567 through the model", "41.3 s", "0.1.0",
    ):  # fmt: skip
        assert part in page.text
    (button,) = [attributes for attributes in page.all("button") if "data-copy" in attributes]
    assert "hidden" in button  # the script shows it: without a script it could do nothing
    (command,) = [attributes for attributes in page.all("pre") if attributes.get("id") == button["data-copy"]]
    assert command
    assert "evalkit run --model olmo-tiny@step5000-tokens328M --suite quickstart" in page.pieces["pre"]


def test_primary_metrics_have_error_interval_chance_and_n(tmp_path: Path) -> None:
    """arc_easy: 0.35 of 570, error sqrt(.35 · .65 / 569) = 2.0 points, so [31.1, 38.9]; what all rows share is said once."""
    assert "rc, olmes · acc_norm · chance 25.0" in report(tmp_path).text
    (row,) = [row for row in report(tmp_path).rows() if row.startswith("arc_easy 35.0")]
    assert row == "arc_easy 35.0 ± 2.0 [31.1, 38.9] 570"


def test_texts_have_bits_per_byte_with_token_perplexity_beside(tmp_path: Path) -> None:
    """A task's macro on the first page, its domains below; 2^(4 · 1.41) = 49.87 a token."""
    rows = report(tmp_path).rows()
    assert any(row.startswith("texts/coqa 1.478 ± 0.010 [1.458, 1.498]") for row in rows)
    assert "mctest 1.410 ± 0.020 [1.370, 1.450] 49.87 ± 1.00 40 12,345 54,321" in rows
    assert not any("word perplexity" in row for row in rows)


def test_details_have_every_metric_with_four_decimals(tmp_path: Path) -> None:
    """What is not primary is not lost: fractions, shots, split, and accuracy centred on chance ((.32 − .25) / .75)."""
    rows = report(tmp_path).rows()
    assert any(row.startswith("arc_easy:rc::olmes acc 0.3200 0.0200 9.3 570 5 validation") for row in rows)
    assert any(row.startswith("arc_easy:rc::olmes bits_per_byte 1.2500 0.0120 [1.2260, 1.2740]") for row in rows)


def test_method_defines_what_is_shown(tmp_path: Path) -> None:
    """Definitions of the metrics on the page, regime, window, prefix token, protocol hashes, identity, versions."""
    page = report(tmp_path)
    for part in (
        "acc_norm", "bits_per_byte (questions)", "regime olmes", "window strict", "prefix token eos", "0f1e2d3c4b5a6978",
        "sha256:9d4b3c6f0a1e", "sdpa+tree", "identity hash 77aa88bb", "transformers 5.16.1", "Miller 2024",
    ):  # fmt: skip
        assert part in page.text
    assert "acc_pmi" not in page.text
    assert "word_perplexity" not in page.text  # not shown, so not explained


def test_nothing_comes_from_outside(tmp_path: Path) -> None:
    """No address, no attribute that loads, no inline handler or style that the policy would block."""
    page = report(tmp_path)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page.source)
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "form", "base", "video", "audio"}
        assert not [
            name for name in attributes if name.startswith("on") or name in ("src", "style", "srcset", "action")
        ]
        assert attributes.get("href", "#").startswith("#")


def test_policy_allows_this_style_and_this_script_alone(tmp_path: Path) -> None:
    """The hashes in the Content-Security-Policy are those of the page's own style and script."""
    page = report(tmp_path)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    assert directives["default-src"] == directives["base-uri"] == directives["form-action"] == "'none'"
    for directive, tag in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.source, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[directive] == f"'sha256-{digest}'"
    assert page.source.index("Content-Security-Policy") < page.source.index("<style>")


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\u202egnp\u2066\x1b[31m\ud800{{ 7*7 }}"


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    """Markup, quotes, bidi marks, escapes, lone surrogates and template braces in every name that a stranger chose."""
    metrics = [
        runs.metric(HOSTILE, "acc", 0.5, primary=True, chance=0.25, split=HOSTILE, limited=True),
        *runs.texts(HOSTILE + "/t", {HOSTILE: {HOSTILE: 1.0, "b": 2.0}}),
    ]
    info = runs.info(
        metrics,
        command=f"evalkit run --model {HOSTILE}",
        suite=HOSTILE,
        error=HOSTILE,
        status="failed",
        warnings=[HOSTILE],
        checkpoint={"name": HOSTILE, "model": HOSTILE, "revision": HOSTILE, "fingerprint": HOSTILE},
        identity={HOSTILE: HOSTILE, "engine": HOSTILE, "dtype": HOSTILE},
        versions={HOSTILE: HOSTILE},
        hardware={"processor": HOSTILE},
        guidelines={HOSTILE: {HOSTILE: HOSTILE}},
        tokenizer={"name": HOSTILE},
        data_source=HOSTILE,
    )
    folder = runs.write(tmp_path / "run", metrics, info)
    for paths in ([folder], [folder, runs.quickstart(tmp_path / "other")]):
        page = Page(write_report(paths, tmp_path / "report.html"))
        assert page.unbalanced == []
        assert len(page.all("script")) == 1
        assert not page.all("img")
        assert "alert(1)" not in page.pieces["script"][0]
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", page.source)
        assert "\\u202egnp\\u2066\\u001b[31m\\ud800{{ 7*7 }}" in page.text
        assert all(re.fullmatch(r"[\w.-]+", attributes["id"]) for _, attributes in page.tags if "id" in attributes)
    assert "alert(1)" in terminal(terminal_table([folder]))


def test_a_limited_run_is_marked_everywhere(tmp_path: Path) -> None:
    """In the title, beside the headings, in the warnings, and on each row that it touches; nowhere else."""
    page = report(tmp_path, limited=True)
    assert "(limited)" in page.pieces["title"][0]
    assert "limited" in page.pieces["h1"][0]
    assert all("limited" in heading for heading in page.pieces["h2"] if heading.split()[0] in ("Scores", "Text", "All"))
    assert "fewer documents than the regime specifies in hellaswag:rc::olmes, texts/coqa, texts/mbpp" in page.text
    marked = {row.split()[0] for row in page.rows() if "limited" in row}
    assert {"hellaswag", "texts/coqa"} <= marked
    assert "arc_easy" not in marked
    assert "limited" not in " ".join(report(tmp_path / "whole").pieces["h2"])


def test_the_limited_mark_stays_where_it_belongs(tmp_path: Path) -> None:
    """One limited question: the run is limited, its whole texts are not."""
    metrics = runs.question("hellaswag", 0.3, 50, limited=True) + runs.texts("texts", {"s": {"a": 1.0, "b": 2.0}})
    page = Page(write_report(runs.write(tmp_path / "run", metrics, runs.info(metrics))))
    marked = {
        " ".join(heading.split()[:3]) for heading in page.pieces["h2"] + page.pieces["h3"] if "limited" in heading
    }
    assert {name.split(" (")[0] for name in marked} >= {"Scores in percent,"}
    assert {name.split()[0] for name in marked} == {"Scores", "All"}
    assert "limited" in page.pieces["h1"][0]


def test_truncated_contexts_are_said(tmp_path: Path) -> None:
    """From the run's own warning, or, where it has none, from the counts of the tasks."""
    folder = runs.quickstart(tmp_path / "run")
    info = json.loads((folder / "run.json").read_text())
    info["tasks"]["arc_easy:rc::olmes"] |= {"truncated_prompts": 12, "truncated_tokens": 3456}
    (folder / "run.json").write_text(json.dumps(info))
    page = Page(write_report(folder))
    assert "arc_easy:rc::olmes: 12 prompts lost 3,456 tokens on the left to fit." in page.text
    assert any("arc_easy ✂ truncated" in row for row in page.rows())


@pytest.mark.parametrize("status", ["failed", "partial", "running"])
def test_an_unfinished_run_says_so(tmp_path: Path, status: str) -> None:
    """Without metrics.json too: the page stands, and the first thing it says is that it is not whole."""
    info = runs.info(runs.question("arc_easy", 0.5, 100), status=status, error="The disk is full.")
    page = Page(write_report(runs.write(tmp_path / "run", None, info)))
    assert status in page.pieces["h1"][0]
    assert "The disk is full." in page.text
    assert "Without scores: arc_easy:rc::olmes." in page.text


def test_unscored_is_a_dash_and_never_zero(tmp_path: Path) -> None:
    """A value of null: a dash in the table, and a sentence in the warnings."""
    metrics = [runs.metric("arc_easy", "acc", None, primary=True, chance=0.25, n=0)]
    page = Page(write_report(runs.write(tmp_path / "run", metrics, runs.info(metrics))))
    assert any(row.startswith("arc_easy acc —") for row in page.rows())
    assert "could not be computed and are shown as a dash: arc_easy" in page.text


def test_missing_optional_parts_are_no_error(tmp_path: Path) -> None:
    """The least run.json that a run can have, and metrics with only the columns that every line needs."""
    info = {"schema_version": 1, "status": "done", "checkpoint": {}, "suite": "s", "tasks": {"t": {}}}
    metrics = [{"task": "t", "metric": "exact_match", "value": 0.25, "n": 4, "unheard_of": 1}]
    page = Page(write_report(runs.write(tmp_path / "run", metrics, info)))
    assert any(row.startswith("t exact_match 25.0") for row in page.rows())


def test_several_runs_are_columns_of_one_file_beside_them(tmp_path: Path) -> None:
    """A column a checkpoint, in the order given; the file lies in the folder that holds the runs."""
    first = runs.quickstart(tmp_path / "sweep/a")
    second = runs.quickstart(
        tmp_path / "sweep/b", shift=0.04, limited=True, checkpoint={"name": "olmo-tiny@step6000", "model": "olmo-tiny"}
    )
    path = write_report([first, second])
    page = Page(path)
    assert path == tmp_path / "sweep/report.html"
    assert "2 checkpoints of olmo-tiny on quickstart" in page.pieces["h1"][0]
    assert any("step5000-tokens328M ↕" in row or "step5000-tokens328M step6000" in row for row in page.rows())
    assert 'data-t="olmo-tiny@step5000-tokens328M"' in page.source
    assert any(row.startswith("hellaswag 28.0 ± 1.4 32.0 ± 1.5 1,000") for row in page.rows())
    assert "not comparable" not in page.text


def test_columns_that_do_not_compare_are_said(tmp_path: Path) -> None:
    """Another protocol, another tokenizer and another engine each get a sentence."""
    first = runs.quickstart(tmp_path / "a")
    second = runs.quickstart(tmp_path / "b", tokenizer={"name": "other", "hash": "zz"})
    info = json.loads((second / "run.json").read_text())
    for about in info["tasks"].values():
        about["protocol"]["encoder"]["tokenizer"] = "zz"
    info["tasks"]["arc_easy:rc::olmes"]["protocol"]["task"]["version"] = 2
    info["identity"]["dtype"] = "bfloat16"
    (second / "run.json").write_text(json.dumps(info))
    page = Page(write_report([first, second]))
    assert "not comparable on: arc_easy:rc::olmes." in page.text
    assert "compare bits per byte across columns, not token perplexities" in page.text
    assert "different dtypes: float32, bfloat16" in page.text
    assert "olmo-tiny@step5000-tokens328M · transformers bfloat16" in page.source  # the columns' names tell them apart


def test_a_run_twice_still_has_two_names(tmp_path: Path) -> None:
    """Columns that nothing tells apart are numbered."""
    folder = runs.quickstart(tmp_path / "a")
    page = Page(write_report([folder, folder], tmp_path))
    assert any("tokens328M (1) step5000-tokens328M (2)" in row for row in page.rows())


def test_the_same_runs_give_the_same_file(tmp_path: Path) -> None:
    """Nothing of the moment or the machine is in the page."""
    folder = runs.quickstart(tmp_path / "run")
    first = write_report(folder).read_bytes()
    assert write_report([folder], tmp_path / "again.html").read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_errors_are_sentences(tmp_path: Path) -> None:
    """No run, damaged metrics, and a place that cannot be written; a failed write leaves the old report."""
    with pytest.raises(UsageError, match="no run"):
        write_report(tmp_path)
    folder = runs.quickstart(tmp_path / "run")
    with pytest.raises(EvalkitError):
        write_report(folder, folder / "run.json" / "report.html")
    (folder / "metrics.json").write_text('[{"value": 1}]')
    with pytest.raises(EvalkitError, match="damaged"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_terminal_table_has_the_primary_metrics(tmp_path: Path) -> None:
    """A line a task, with error, interval, chance, n and marks; markup in names is not obeyed."""
    folder = runs.quickstart(tmp_path / "run", limited=True)
    shown = terminal(terminal_table([folder]))
    lines = [re.sub(r"\s+", " ", line).strip() for line in shown.splitlines()]
    assert "olmo-tiny@step5000-tokens328M on quickstart (limited)" in lines
    assert "arc_easy:rc::olmes acc_norm % 35.0 ± 2.0 [31.1, 38.9] 25.0 570" in lines
    assert "hellaswag:rc::olmes acc_norm % 28.0 ± 1.4 [25.2, 30.8] 25.0 1,000 limited" in lines
    assert "texts/coqa macro bits per byte 1.478 ± 0.010 [1.458, 1.498] 200 limited" in lines


def test_importing_reports_loads_no_model_library() -> None:
    """Neither torch, transformers nor vllm; nor pandas or scipy, which a report does not need."""
    code = (
        "import sys, evalkit.reports; "
        "print([m for m in ('torch', 'transformers', 'vllm', 'pandas', 'scipy', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_docstring_examples() -> None:
    """The examples in the docstrings hold."""
    import doctest

    from evalkit import words
    from evalkit.system import characters

    assert doctest.testmod(words).failed == doctest.testmod(characters).failed == 0


def test_an_interval_that_is_withheld_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    """Values without an interval: the page shows a dash, and both it and the terminal say why."""
    folder = runs.quickstart(tmp_path / "run")
    stored = json.loads((folder / "metrics.json").read_text())
    records = stored["metrics"] if isinstance(stored, dict) else stored
    for record in records:
        record |= {"ci_low": None, "ci_high": None}
    (folder / "metrics.json").write_text(json.dumps(stored))
    assert f'title="{NO_INTERVAL}"><bdi>—</bdi></td>' in Page(write_report(folder)).source
    assert NO_INTERVAL[1:] in terminal(terminal_table(folder))


def test_a_page_promises_only_what_its_runs_can(tmp_path: Path) -> None:
    """How to repeat a run stands where a command made it: imported results have none, and their metrics are not made again."""
    metrics = runs.question("q", 0.5, 100)
    made = runs.write(tmp_path / "made", metrics, runs.info(metrics, command="evalkit run --model m --task q"))
    imported = runs.write(tmp_path / "imported", metrics, runs.info(metrics, command=""))
    assert "To repeat it" in Page(write_report(made)).text
    page = Page(write_report(imported))
    assert "To repeat it" not in page.text
    one = runs.write(tmp_path / "one", metrics[:1], runs.info(metrics[:1]))
    assert "1 metric, as fractions" in Page(write_report(one)).text
