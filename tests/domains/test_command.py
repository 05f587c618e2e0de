"""Texts from the command line: a folder as a suite, errors as sentences, and a name that only the whole sample bears."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit import cli
from tests.made.paloma_release import documents, line, write


@pytest.fixture(autouse=True)
def _in_a_folder(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_silence_libraries", lambda: None)


def test_a_folder_is_a_suite(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned, scored, shown, and its metrics computed again, all by the names that evalkit tells."""
    write(Path("mine/letters/b.jsonl"), [line("Dear Sir", id=1), line("Dear Madam", id=2), b""])
    words = ["run", "--model", str(checkpoint), "--suite", "mine", "--engine", "fake", "--no-report"]
    assert cli.main([*words, "--dry-run"]) == 0
    assert "texts-mine would be written to results/tiny/texts-mine~fake/main" in capsys.readouterr().out
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "tiny on texts-mine" in out
    assert "Texts: strict windows, up to 64 tokens, prefix token eos" in out
    assert "G1" not in out
    assert "texts/letters: b.jsonl: 1 line skipped as empty: 3." in err
    assert cli.main(["show", "texts/letters", "--data", "mine", "--json"]) == 0
    shown = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    assert [(one["source"], one["domain"], one["text"]) for one in shown] == [
        ("letters", "b", "Dear Sir"),
        ("letters", "b", "Dear Madam"),
    ]
    assert cli.main(["metrics", "results/tiny/texts-mine~fake/main", "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)
    assert {"texts/letters", "texts-mine"} <= {one["task"] for one in again["metrics"]}


def test_only_the_whole_is_called_paloma(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part of the sample says so in the title of the table and of the report, and in its aggregates."""
    write(Path("files/ptb/test/test.jsonl.gz"), documents("ptb", "ptb", "test"))
    write(Path("files/c4_en/test/test-00000000.jsonl.gz"), documents("c4_en", "c4_en", "test"))
    words = ["run", "--model", str(checkpoint), "--suite", "paloma", "--data", "files", "--engine", "fake"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "tiny on part of paloma (limited)" in out
    assert "Texts: strict windows, up to 64 tokens, prefix token eos; G1 ? G2 ? G3 ✗ G4 ✓ G5 ✓" in out
    assert "paloma/gab: 1 of 1 domains are missing: gab." in err
    assert not Path("results/tiny/paloma~fake").exists()
    folder = Path("results/tiny/part-of-paloma~fake/main")
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (info["suite"], info["limited"]) == ("part of paloma", True)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "on part of paloma" in report
    assert "on paloma" not in report
    assert cli.main(["metrics", str(folder), "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)
    assert "part of paloma" in {one["task"] for one in again["metrics"]}
    for record in (again["metrics"], json.loads((folder / "metrics.json").read_text(encoding="utf-8"))):
        assert "paloma" not in {one["task"] for one in record}


def test_a_limited_suite_of_texts_is_a_part(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--limit`` makes a part wherever documents are left out, and none where there are no more; a plan says so too."""
    write(Path("mine/letters/b.jsonl"), [line("Dear Sir", id=1), line("Dear Madam", id=2)])
    words = ["run", "--model", str(checkpoint), "--suite", "mine", "--engine", "fake", "--dry-run"]
    assert cli.main([*words, "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "on part of texts-mine would be written to results/tiny/part-of-texts-mine~limit1,fake/main" in out
    assert cli.main([*words, "--limit", "2"]) == 0
    assert "would be written to results/tiny/texts-mine~limit2,fake/main" in capsys.readouterr().out


def test_paloma_without_its_files(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence: how to get access, where the token goes, or how to give the files. The model is not loaded first."""
    assert cli.main(["run", "--model", str(checkpoint), "--suite", "paloma", "--engine", "fake"]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert "request access" in error
    assert "HF_TOKEN" in error
    assert "--data DIR" in error


def test_texts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Every source is a task, every suite is there."""
    assert cli.main(["list", "suites", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert [len(listed[name]["tasks"]) for name in ("paloma", "paloma-585", "paloma-mini", "paloma-mini-full")] == [
        16,
        18,
        15,
        15,
    ]
    assert cli.main(["list", "tasks", "--json"]) == 0
    names = {one["name"] for one in json.loads(capsys.readouterr().out)}
    assert {"paloma/dolma_100_programing_languages", "paloma/ice_fixed", "paloma-mini/mbpp", "texts"} <= names


def test_domains_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Paloma's manifest without its files, what a folder and given files hold, globs; what has no domains says so."""

    def listed(*words: str) -> list[tuple[str, str, int | None]]:
        assert cli.main(["list", "domains", *words, "--json"]) == 0
        return [(one["task"], one["domain"], one["documents"]) for one in json.loads(capsys.readouterr().out)]

    assert len(listed()) == 585
    assert len(listed("paloma")) == 546
    assert len({(task, domain) for task, domain, _ in listed("paloma-585")}) == 585
    subreddits = listed("paloma/dolma_100_subreddits/0*")
    assert [domain[:2] for _, domain, _ in subreddits] == [f"{number:02d}" for number in range(10)]
    assert listed("gab") == [("paloma/gab", "gab", None)]
    write(Path("files/ptb/test/test.jsonl.gz"), documents("ptb", "ptb", "test"))
    assert listed("paloma/ptb", "--data", "files") == [("paloma/ptb", "ptb", 2)]
    assert listed("c4_en", "--data", "files") == [("paloma/c4_en", "c4_en", 0)]
    write(Path("mine/letters/b.jsonl"), [line("Dear Sir", id=1), line("", id=2)])
    write(Path("mine/notes/c.jsonl"), [line("x", id=1), line("y", id=2)])
    assert listed("mine") == [("texts/letters", "b", 1), ("texts/notes", "c", 2)]
    assert listed("texts/notes", "--data", "mine") == [("texts/notes", "c", 2)]
    assert cli.main(["list", "domains"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()][7:9] == [
        ["paloma/dolma-v1_5", "6"],
        ["paloma/m2d2_s2orc_unsplit", "167"],
    ]
    assert "list domains SOURCE" in err
    for wrong, said in (
        ("arc_easy", "Only text tasks have domains"),
        ("boolq", "Choose one of paloma-mini-full/boolq, paloma-mini/boolq"),
        ("palomma", "There is no suite or source 'palomma'. Did you mean 'paloma'"),
    ):
        assert cli.main(["list", "domains", wrong]) == 2
        assert said in capsys.readouterr().err


def test_what_is_said_of_training_is_shown(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guidelines G1 and G2 are what the person said when the model was registered, in the table and in run.json."""
    write(Path("files/ptb/test/test.jsonl.gz"), documents("ptb", "ptb", "test"))
    told = ["--decontaminated", "yes", "--decontamination", "exact paragraphs, 0.02 % removed", "--fixed-order", "no"]
    assert cli.main(["models", "add", "said", str(checkpoint), *told]) == 0
    try:
        words = ["run", "--model", "said", "--suite", "paloma", "--data", "files", "--engine", "fake", "--no-report"]
        assert cli.main(words) == 0
    finally:
        assert cli.main(["models", "rm", "said"]) == 0
    assert "G1 ✓ G2 ✗ G3 ✗" in capsys.readouterr().out
    guidelines = json.loads(Path("results/said/part-of-paloma~fake/main/run.json").read_text())["guidelines"]
    assert guidelines["G1"] == {"training_data_decontaminated": "yes", "method": "exact paragraphs, 0.02 % removed"}
    assert guidelines["G2"] == {"training_order_fixed": "no"}
