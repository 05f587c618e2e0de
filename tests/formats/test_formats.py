"""One table in every format: the same numbers, notes said once, and no text of a stranger that breaks out."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from evalkit.errors import UsageError
from evalkit.formats import WRITERS, format_of, written
from evalkit.table import Cell, Column, Row, Table, text_table
from tests.made.hostile import HOSTILE

TABLE = Table(
    (
        Column("model"),
        Column("arc_easy", kind="number", under="acc", group="olmes"),
        Column("forum", key="forum.bits", kind="number", under="bits per byte"),
        Column("what it is", wraps=True),
        Column("fingerprint", hidden=True),
    ),
    (
        Row(
            (
                Cell("base"),
                Cell(value=0.5809, unit="percent", error=0.0101, low=0.561, high=0.601, mark="best"),
                Cell(value=1.04312, unit="bits"),
                Cell("the model before it was tuned"),
                Cell("abc"),
            )
        ),
        Row(
            (
                Cell("=tuned"),
                Cell(value=0.57, unit="percent", error=0.01, mark="tie", notes=("limited to 20 documents",)),
                Cell(value=float("nan"), unit="bits", notes=("limited to 20 documents", "unscored")),
                Cell("short"),
                Cell("def"),
            ),
            group="ours",
        ),
    ),
    title="Two models",
    legend=("± is the standard error.",),
)


def test_terminal() -> None:
    """Numbers to the right, heads over them, the best with a star, notes numbered once below."""
    assert written(TABLE, "table").splitlines() == [
        "Two models",
        "model          arc_easy          forum  what it is",
        "                    acc  bits per byte",
        "base        58.1 ± 1.0*          1.043  the model before it was tuned",
        "",
        "ours",
        "=tuned  57.0 ± 1.0≈ (1)        — (1,2)  short",
        "",
        "(1) limited to 20 documents",
        "(2) unscored",
        "± is the standard error.",
    ]


def test_a_narrow_terminal_breaks_between_words_only() -> None:
    """Columns that may wrap give up space down to their longest word; the others stay whole."""
    lines = written(TABLE, "table", width=60).split("\n")
    assert any(line.endswith("the model before it") for line in lines)
    words = {word for line in written(TABLE, "table", width=10).split("\n") for word in line.split()}
    assert {"before", "arc_easy", "58.1"} <= words


def test_plain_is_for_cut_and_awk() -> None:
    """A tab between cells, a line a row, hidden columns left out."""
    lines = [line.split("\t") for line in written(TABLE, "plain").splitlines()]
    assert lines == [
        ["model", "arc_easy", "forum", "what it is"],
        ["base", "58.1 ± 1.0", "1.043", "the model before it was tuned"],
        ["=tuned", "57.0 ± 1.0", "—", "short"],
    ]


def test_csv_has_everything_in_full_precision() -> None:
    """Values, errors and intervals in columns of their own, unknown ones empty; a spreadsheet's formula is text."""
    rows = list(csv.DictReader(io.StringIO(written(TABLE, "csv"))))
    assert rows[0]["arc_easy"] == "0.5809"
    assert (rows[0]["arc_easy stderr"], rows[0]["arc_easy low"], rows[1]["arc_easy low"]) == ("0.0101", "0.561", "")
    assert (rows[1]["model"], rows[1]["group"], rows[1]["forum.bits"]) == ("'=tuned", "ours", "")
    assert rows[1]["forum.bits notes"] == "limited to 20 documents; unscored"
    assert rows[0]["fingerprint"] == "abc"


def test_json_reads_back() -> None:
    """Rows by the columns' keys; what is no finite number is null."""
    found = json.loads(written(TABLE, "json"))
    assert found["rows"][0]["arc_easy"] == {
        "value": 0.5809, "stderr": 0.0101, "low": 0.561, "high": 0.601, "mark": "best",
    }  # fmt: skip
    assert found["rows"][0]["forum.bits"] == 1.04312
    assert found["rows"][1]["forum.bits"]["value"] is None
    assert found["legend"] == ["± is the standard error."]


def test_markdown() -> None:
    """As many cells in every line as the head has; the best bold; group and notes."""
    text = written(TABLE, "md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {6}
    assert "| base | **58.1 ± 1.0** | 1.043 | the model before it was tuned |" in lines
    assert "| \\=tuned" not in text
    assert "57.0 ± 1.0 ≈ <sup>1</sup>" in text
    assert "1. limited to 20 documents\n2. unscored" in text


def test_differences_have_a_sign() -> None:
    """A minus as long as a plus, and no sign before what rounds to nothing."""
    cells = [Cell(value=value, unit="percent", signed=True) for value in (0.012, -0.012, 0.0001)]
    assert [cell.shown() for cell in cells] == ["+1.2", "−1.2", "0.0"]
    assert Cell(value=0.012, unit="percent", signed=True, low=-0.003, high=0.02).interval == "[−0.3, +2.0]"


def test_columns_are_chosen_by_title_or_key_and_rows_can_be_columns() -> None:
    """``--columns`` and ``--transpose``."""
    chosen = TABLE.select(["model", "forum.bits"])
    assert [column.title for column in chosen.columns] == ["model", "forum"]
    with pytest.raises(KeyError, match="nothing"):
        TABLE.select(["nothing"])
    turned = chosen.transposed()
    assert [column.title for column in turned.columns] == ["model", "base", "=tuned"]
    assert [cell.shown() for cell in turned.rows[0].cells] == ["forum", "1.043", "—"]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("how", sorted(WRITERS))
def test_hostile_text_stays_text(how: str) -> None:
    """Names, notes and titles of strangers: no markup, no control characters, the same number of lines."""
    calm = Table((Column("name"), Column("x", kind="number")), (Row((Cell("calm"), Cell(value=1.0, notes=("note",)))),))
    wild = Table(
        (Column(HOSTILE), Column("x", kind="number")),
        (Row((Cell(HOSTILE), Cell(value=1.0, notes=(HOSTILE,))), group=HOSTILE),),
        title=HOSTILE,
        legend=(HOSTILE,),
    )
    text = written(wild, how)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f‪-‮⁦-⁩]", text.replace("\\u", ""))
    if how == "html":
        parser = _Tags()
        parser.feed(text)
        assert parser.tags <= {"table", "thead", "tbody", "tr", "th", "td", "sup", "ol", "li", "p"}
        assert parser.attributes <= {"scope", "style"}
    if how in ("plain", "csv"):
        assert len(text.splitlines()) == len(written(calm, how).splitlines())


@given(st.lists(st.lists(st.text(max_size=30), min_size=2, max_size=2), max_size=6), st.integers(1, 60))
def test_terminal_tables_of_any_text(rows: list[list[str]], width: int) -> None:
    """Nothing is lost between lines, and a column starts where its head does."""
    table = text_table(["one", "two"], rows, wraps=["two"])
    lines = written(table, "table", width=width).split("\n")
    assert lines[-1] == ""
    first = max([3, *(cell_len(" ".join(_visible(row[0]).split())) for row in rows)])
    assert lines[0].startswith("one" + " " * (first - 3 + 2) + "two")
    said = " ".join("\n".join(lines[1:]).split())
    for row in rows:
        for word in _visible(row[1]).split():
            assert word in said


def _visible(text: str) -> str:
    from evalkit.system.characters import visible

    return visible(text)


def test_the_ending_says_the_format() -> None:
    """``--out table.tex`` is LaTeX; an ending that contradicts ``--format`` is refused, as is an unknown one."""
    assert format_of(Path("a.tex"), None, "table") == "latex"
    assert format_of(None, None, "table") == "table"
    assert format_of(Path("a.csv"), "csv", "table") == "csv"
    with pytest.raises(UsageError, match="do not match"):
        format_of(Path("a.md"), "csv", "table")
    with pytest.raises(UsageError, match="does not end in a known format"):
        format_of(Path("a.docx"), None, "table")
