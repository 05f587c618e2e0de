"""Live tables in a real browser: sorting, filtering, columns and copies, by mouse and by keyboard."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.reports import write_report
from evalkit.table import best_of
from tests.made import report_runs as runs
from tests.made.browser import Reader

SCORES = {
    "zebra": 0.31,
    "arc_easy": 0.62,
    "hellaswag_&_co": 0.44,
    "boolq": 0.55,
    "piqa": 0.7,
    "sciq": 0.9,
    "mmlu": 0.26,
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs of seven questions; the second is five points better."""
    folder = tmp_path_factory.mktemp("sweep")
    paths = []
    for i in range(2):
        metrics = [line for task, value in SCORES.items() for line in runs.question(task, value + 0.05 * i, 500)]
        info = runs.info(metrics, checkpoint={"name": f"m@step{i + 1}000", "model": "m"})
        paths.append(runs.write(folder / str(i), metrics, info))
    return write_report(paths)


def names(page: Any) -> list[str]:
    """The visible rows' tasks, in the order shown."""
    rows = page.locator("#table-percent tbody tr:not([hidden]) th")
    return [text.strip().split(":")[0] for text in rows.all_text_contents()]


def test_a_click_sorts_and_a_third_click_gives_the_order_back(browser: Any, page: Path) -> None:
    """Accuracies begin with the best, names with A; the head says which way to a screen reader."""
    with Reader(browser, page) as open_page:
        assert names(open_page) == list(SCORES)
        head = open_page.locator("#table-percent th", has_text="step1000")
        head.locator("button").click()
        assert names(open_page) == sorted(SCORES, key=SCORES.__getitem__, reverse=True)
        assert head.get_attribute("aria-sort") == "descending"
        head.locator("button").click()
        assert names(open_page) == sorted(SCORES, key=SCORES.__getitem__)
        assert head.get_attribute("aria-sort") == "ascending"
        head.locator("button").click()
        assert names(open_page) == list(SCORES)
        assert head.get_attribute("aria-sort") is None


def test_the_keyboard_sorts(browser: Any, page: Path) -> None:
    """A head is reached by Tab and sorts with Enter or Space."""
    with Reader(browser, page) as open_page:
        open_page.locator("#table-percent .copy summary").focus()
        open_page.keyboard.press("Tab")  # the box that scrolls
        open_page.keyboard.press("Tab")
        assert open_page.evaluate("document.activeElement.textContent") == "Task"
        open_page.keyboard.press("Enter")
        assert names(open_page) == sorted(SCORES)
        open_page.keyboard.press("Space")
        assert names(open_page) == sorted(SCORES, reverse=True)


def test_the_filter_keeps_rows_with_every_word(browser: Any, page: Path) -> None:
    """Words in any order; how many rows are left is said."""
    with Reader(browser, page) as open_page:
        search = open_page.locator("#table-percent input[type=search]")
        search.fill("olmes Q")
        assert names(open_page) == ["boolq", "piqa", "sciq"]
        assert open_page.locator("#table-percent output").text_content() == "3 of 7 rows"
        search.fill("no such task")
        assert names(open_page) == []
        search.fill("")
        assert names(open_page) == list(SCORES)


def test_columns_can_be_put_away_and_brought_back(browser: Any, page: Path) -> None:
    """The picker hides a column's head and cells, by keyboard too; Escape closes it."""
    with Reader(browser, page) as open_page:
        open_page.locator("#table-percent .columns summary").focus()
        open_page.keyboard.press("Enter")
        open_page.locator("#table-percent .columns label", has_text="step2000").locator("input").focus()
        open_page.keyboard.press("Space")
        assert not open_page.locator("#table-percent th", has_text="step2000").is_visible()
        assert open_page.locator("#table-percent tbody tr").first.locator("td:visible").count() == 2
        open_page.locator("#table-percent .columns button", has_text="Show all").press("Enter")
        assert open_page.locator("#table-percent th", has_text="step2000").is_visible()
        open_page.keyboard.press("Escape")
        assert not open_page.locator("#table-percent .columns .menu").is_visible()


def copied(page: Any, format: str) -> str:
    """What the table's menu copies."""
    page.locator("#table-percent .copy summary").click()
    page.locator(f"#table-percent button[data-format={format}]").click()
    page.wait_for_function("window.copied !== undefined")
    text: str = page.evaluate("window.copied")
    return text


def test_copies_hold_what_is_shown(browser: Any, page: Path) -> None:
    """Sorted, filtered, with the columns chosen; Markdown is escaped, the best in bold."""
    with Reader(browser, page) as open_page:
        open_page.locator("#table-percent input[type=search]").fill("hellaswag")
        lines = copied(open_page, "Markdown").splitlines()
    assert lines == [
        "| Task | m@step1000 | m@step2000 | n |",
        "| --- | ---: | ---: | ---: |",
        "| hellaswag\\_&\\_co:rc::olmes | 44.0 ± 2.2 | **49.0 ± 2.2** | 500 |",
    ]


def test_csv_and_json_hold_exact_values_and_errors(browser: Any, page: Path) -> None:
    """Fractions as they are stored, an error column beside each score; what is empty is empty."""
    with Reader(browser, page) as open_page:
        table = list(csv.DictReader(io.StringIO(copied(open_page, "CSV"))))
    with Reader(browser, page) as open_page:
        same = json.loads(copied(open_page, "JSON"))
    assert [row["Task"] for row in table] == [f"{task}:rc::olmes" for task in SCORES]
    assert float(table[1]["m@step1000"]) == 0.62
    assert float(table[1]["m@step1000 stderr"]) == pytest.approx((0.62 * 0.38 / 499) ** 0.5)
    assert same[1]["m@step2000"] == pytest.approx(0.67)
    assert same[1]["n"] == 500


def test_markdown_is_a_table(browser: Any, page: Path) -> None:
    """A line a row, numbers to the right, names with their signs escaped."""
    with Reader(browser, page) as open_page:
        lines = copied(open_page, "Markdown").splitlines()
    assert lines[1] == "| --- | ---: | ---: | ---: |"
    assert len(lines) == 2 + len(SCORES)
    assert lines[3] == "| arc\\_easy:rc::olmes | 62.0 ± 2.2 | **67.0 ± 2.1** | 500 |"


def test_the_theme_button_goes_round_and_is_remembered(browser: Any, page: Path) -> None:
    """By the reader's setting, light, dark, and round again; the next page knows the choice."""
    with Reader(browser, page, color_scheme="dark") as open_page:

        def background() -> int:
            return int(open_page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))

        assert background() < 60  # auto: the reader's setting
        open_page.locator("#theme").press("Enter")
        assert background() > 200
        open_page.locator("#theme").press("Enter")
        assert background() < 60
        assert open_page.locator("#theme").get_attribute("aria-label") == "Theme: dark"
        open_page.emulate_media(color_scheme="light")
        open_page.reload()
        assert background() < 60
        open_page.locator("#theme").press("Enter")
        assert background() > 200


def test_ties_are_within_noise_of_the_best() -> None:
    """Two scores of error .01 differ by noise up to 1.96 · √(.01² + .01²) = 0.0277."""
    assert best_of([0.50, 0.5276, 0.5, None], [0.01, 0.01, 0.0, None], higher=True) == ["tie", "best", "", ""]
    assert best_of([0.50, 0.5278], [0.01, 0.01], higher=True) == ["", "best"]
    assert best_of([1.2, 1.1, 1.1], [None, None, None], higher=False) == ["", "best", "best"]
    assert best_of([0.5], [0.1], higher=True) == [""]
