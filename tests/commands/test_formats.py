"""``--format``: every list and comparison as a table for papers, spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.made.command_line import Command


@pytest.mark.parametrize("what", ["suites", "engines", "models", "recipes"])
def test_lists_in_every_format(evalkit: Command, what: str) -> None:
    """As many lines as there are entries, under the same heads, and no word broken."""
    entries = json.loads(evalkit("list", what, "--json").out)
    rows = list(csv.DictReader(io.StringIO(evalkit("list", what, "--format", "csv").out)))
    plain = evalkit("list", what, "--format", "plain").out.splitlines()
    assert len(rows) == len(entries) == len(plain) - 1
    assert [row[what[:-1]] for row in rows] == [entry["name"] for entry in entries]
    assert plain[0].split("\t") == list(rows[0])
    table = evalkit("list", what).out.split()
    assert all(entry["name"] in table for entry in entries)


def test_a_comparison_for_a_spreadsheet(evalkit: Command, tmp_path: Path) -> None:
    """Full precision, intervals beside differences, a p that says how it is corrected."""
    for limit in ("step60-tokens1M", "step1860-tokens16M"):
        evalkit(
            "run",
            "--model",
            f"olmo-tiny@{limit}",
            "--suite",
            "quickstart",
            "--limit",
            "6",
            "--output",
            str(tmp_path),
            "--no-report",
        )
    runs = [str(path.parent) for path in sorted(tmp_path.rglob("run.json"))]
    whole = json.loads(evalkit("compare", *runs, "--json").out)
    rows = list(csv.DictReader(io.StringIO(evalkit("compare", *runs, "--format", "csv").out)))
    comparable = [line for line in whole["table"] if line["comparable"]]
    assert len(rows) == len(comparable)
    assert [float(row["difference"]) for row in rows] == pytest.approx([line["difference"] for line in comparable])
    assert [row["outcome"] for row in rows] == [
        ("better" if line["better"] > 0 else "worse") if line["resolved"] else "not significant" for line in comparable
    ]
    lines = evalkit("trend", *runs, "--format", "md").out.splitlines()
    assert lines[0].startswith("| stage | what | metric |")
