"""Leaderboards as text: every format says the same numbers, and nothing in a name breaks it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from evalkit.errors import UsageError
from evalkit.formats.latex import tex
from evalkit.formats.look import Look
from evalkit.reports.leaderboard import Options, build, rendered, write_leaderboard
from tests.made import board_runs as made
from tests.made.boards import olmo1
from tests.made.hostile import HOSTILE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of olmo1, one of them limited too, and a suite of texts."""
    output = tmp_path_factory.mktemp("results")
    made.write(output, "m", "olmo1", olmo1(0.55))
    made.write(output, "n", "olmo1", olmo1(0.4), tokens=10_000_000_000)
    parts = [made.question("arc_easy", 0.9, 20, regime="olmo1", metric="acc_pmi", limited=True)]
    made.write(output, "o", "olmo1", parts, variation="~limit20")
    texts = [made.texts("t", "x", 1.25)]
    made.write(output, "m", "t", texts, aggregation="texts", more=made.over_suite("t", 1.25))
    return output


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every name that a stranger chose tries to break out."""
    output = tmp_path_factory.mktemp("hostile")
    for i, right in enumerate((0.5, 0.4)):
        parts = [made.question(HOSTILE + name, right, 100) for name in "ab"]
        run = made.write(output, f"m{i}", "s", parts)
        info = json.loads((run / "run.json").read_text())
        info["suite"] = HOSTILE
        info["checkpoint"] |= {"name": f"{HOSTILE}{i}", "model": "=HYPERLINK(1)", "revision": HOSTILE}
        info["identity"] = {"engine": HOSTILE, "dtype": HOSTILE}
        info["guidelines"]["G5"] = {HOSTILE: HOSTILE}
        (run / "run.json").write_text(json.dumps(info))
    return output


def test_markdown(folder: Path) -> None:
    """One table whose rows have as many cells as its head, values with errors, the best in bold, notes numbered."""
    text = rendered(build([folder]), "md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
    assert len(widths) == 1
    (row,) = [line for line in lines if line.startswith("| m |")]
    assert "**55.0 ± 2.1**" in row
    assert "1 (1–1)" in row
    assert "1.250 ± 0.010" in row
    (limited,) = [line for line in lines if line.startswith("| o |")]
    (number,) = re.findall(r"90\.0 ± 6\.9 <sup>(\d+)</sup>", limited)
    assert f"{number}. not compared: limited to 20 of 570 documents" in text
    (published,) = [line for line in lines if line.startswith("| OLMo-1B <sup>")]
    assert "58.1 ± 2.1" in published


def test_csv_has_full_precision_and_reads_back(folder: Path) -> None:
    """A line a row, a value, error, interval, n and notes a column; a spreadsheet's formulas are text."""
    rows = list(csv.DictReader(io.StringIO(rendered(build([folder]), "csv"))))
    by_label = {row["label"]: row for row in rows}
    arc = "arc_easy:rc::olmo1.acc_pmi"
    assert float(by_label["m"][arc]) == 0.55
    assert by_label["m"][f"{arc} n"] == "570"
    assert "limited to 20" in by_label["o"][f"{arc} notes"]
    assert by_label["OLMo-1B"]["row published"].startswith("OLMo paper, Table 3")
    assert by_label["m"]["olmo1 rank"] == "1"


def test_json_is_the_documented_schema(folder: Path) -> None:
    """Kind and version, columns with their protocols, rows with cells by column id; unknown is null, never NaN."""
    text = rendered(build([folder]), "json")
    assert "NaN" not in text
    board = json.loads(text)
    assert (board["kind"], board["schema_version"]) == ("evalkit.leaderboard", 1)
    (row,) = [row for row in board["rows"] if row["label"] == "m"]
    (arc,) = [column for column in board["columns"] if column["task"] == "arc_easy:rc::olmo1"]
    assert arc["protocol"]["task"]["split"] == "validation"
    one = row["cells"][arc["id"]]
    assert (one["value"], one["n"], one["best"], one["counts"]) == (0.55, 570, True, True)
    assert row["scores"]["olmo1"]["rank"] == {"rank": 1, "low": 1, "high": 1}
    assert row["runs"] == ["m/olmo1/main", "m/t/main"]
    documented = (Path(__file__).parents[2] / "docs" / "leaderboards.md").read_text(encoding="utf-8")
    places = (board, board["columns"][0], board["scores"][0], row, one, row["scores"]["olmo1"])
    assert not [key for place in places for key in place if f"`{key}`" not in documented]


def braces(text: str) -> int:
    """Depth of braces at the end of LaTeX text, escaped ones left out; never below zero on the way."""
    depth = 0
    for sign in re.sub(r"\\[\\{}]", "", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    return depth


def check_latex(text: str) -> list[str]:
    """What a LaTeX file must be to compile, as far as that can be seen without a compiler; gives the table's rows."""
    assert braces(text) == 0
    opened = re.findall(r"\\begin\{([\w*]+)\}", text)
    closed = re.findall(r"\\end\{([\w*]+)\}", text)
    tables = text.count("\\toprule")
    assert sorted(opened) == sorted(closed) == ["table*"] * tables + ["tabular"] * tables
    assert tables == text.count("\\bottomrule") >= 1
    found = []
    for part in text.split("\\begin{tabular}")[1:]:
        specification = re.match(r"\{@\{\}([lr]+)@\{\}\}", part)
        assert specification
        body = part[part.index("\\toprule") : part.index("\\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        for row in rows:
            plain = re.sub(r"\\textbackslash\{\}|\\[&%$#_{}]", "", row)
            if "\\multicolumn" not in row:
                assert plain.count("&") == len(specification[1]) - 1
            assert not re.search(r"(?<!\\)[%#]", plain.replace(r"\\", ""))
            assert not row.startswith(("[", "*"))
        found += rows
    outside = re.sub(r"\\[$]", "", text)
    assert outside.count("$") % 2 == 0
    assert all(ord(sign) < 0x180 for sign in text)
    return found


def test_latex_is_booktabs_and_balanced(folder: Path) -> None:
    """Columns, braces, environments and mathematics are balanced; the best is bold; no vertical lines."""
    text = rendered(build([folder]), "latex")
    rows = check_latex(text)
    assert "\\usepackage{booktabs}" in text
    (row,) = [row for row in rows if row.startswith("m & ") and "55.0" in row]
    assert r"\textbf{55.0}$_{\pm2.1}$" in row
    assert any("ARC-E & " in row for row in rows)


def test_latex_signs() -> None:
    """Each of the ten signs of LaTeX is escaped, letters the fonts lack are named."""
    assert tex(r"a\b{c}$d&e#f%g_h^i~j") == (
        r"a\textbackslash{}b\{c\}\$d\&e\#f\%g\_h\textasciicircum{}i\textasciitilde{}j"
    )
    assert tex("中é") == "[U+4E2D]é"


def test_hostile_names_break_nothing(hostile: Path) -> None:
    """Markup, pipes, quotes, formulas, escapes and lone surrogates in every name, in every format."""
    board = build([hostile])
    check_latex(rendered(board, "latex"))
    markdown = rendered(board, "md")
    assert "<script" not in markdown
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) == 1
    rows = list(csv.reader(io.StringIO(rendered(board, "csv"))))
    assert len({len(row) for row in rows}) == 1
    assert "'=HYPERLINK(1)" in rows[1]
    for how in ("md", "csv", "latex", "html"):
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\ud800-\udfff]", rendered(board, how))
    assert json.loads(rendered(board, "json"))["rows"][0]["model"] == "=HYPERLINK(1)"


def test_the_files_name_chooses_the_format(folder: Path, tmp_path: Path) -> None:
    """.md, .csv, .tex and .json are what they say; anything else is HTML; --format wins."""
    board = build([folder], Options(baselines=("none",)))
    for name, start in (("a.md", "# "), ("a.csv", "label,"), ("a.tex", "%"), ("a.json", "{"), ("a.html", "<!DOCTYPE")):
        assert write_leaderboard(board, tmp_path / name).read_text().startswith(start)
    assert write_leaderboard(board, tmp_path / "x.txt", "csv").read_text().startswith("label,")
    with pytest.raises(UsageError, match="--format"):
        write_leaderboard(board, tmp_path / "x", "xlsx")


def test_columns_are_chosen_and_turned(folder: Path) -> None:
    """``--columns`` by heading or short name, ``--transpose``; what stands below belongs to the columns that are shown."""
    board = build([folder])
    look = Look(("model", "rank", "ARC-E"))
    lines = rendered(board, "plain", look).splitlines()
    assert lines[0].split("\t") == ["model", "rank", "arc_easy:rc::olmo1"]
    assert next(line for line in lines if line.startswith("m\t")).split("\t")[1:] == ["1 (1–1)", "55.0 ± 2.1"]
    turned = rendered(board, "md", Look(("model", "ARC-E"), transpose=True))
    assert "| model | OLMo-7B | OLMo-1B | m | n | Pythia-1B | o |" in turned
    assert "Paloma's guidelines" not in turned
    assert "Paloma's guidelines" in rendered(board, "md", Look(("model", "guidelines")))
    with pytest.raises(UsageError, match=r"no column 'ARC-X'. Did you mean 'ARC-E'"):
        rendered(board, "md", Look(("ARC-X",)))
