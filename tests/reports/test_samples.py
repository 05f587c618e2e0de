"""Samples: which documents a report shows, what it keeps out, and how a reader looks at them in a real browser."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UsageError
from evalkit.reports import write_report
from evalkit.reports.samples import LEAST, collect_samples, parse_sample_count
from evalkit.reports.view import load_report
from evalkit.results.reading import load_run
from tests.made import simulated_sweeps as simulated
from tests.made.browser import Reader


@pytest.fixture(scope="module")
def pair(stories: dict[str, list[Path]]) -> list[Path]:
    """Two checkpoints of the sweep."""
    return [stories["sweep"][2], stories["sweep"][5]]


@pytest.fixture(scope="module")
def page(pair: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their report."""
    return write_report(pair, tmp_path_factory.mktemp("page"))


def packed(page: Path) -> dict[str, Any]:
    """The samples inside a page."""
    (block,) = re.findall(r'id="samples-data">([^<]*)<', page.read_text(encoding="utf-8"))
    return dict(json.loads(zlib.decompress(base64.b64decode(block))))


def right(run: Path, task: str) -> dict[int, bool]:
    """Row index to whether the run chose the gold option, from the stored documents."""
    documents = load_run(run).documents(task)
    return {int(row["index"]): row["gold"] == row["predicted"] for _, row in documents.iterrows()}


def test_half_of_a_task_are_documents_that_flipped(pair: list[Path], page: Path) -> None:
    """Twenty a task: ten that flipped first, ten others; every number is that of the stored row."""
    (task,) = [one for one in packed(page)["tasks"] if one["name"] == "arc_easy:rc::olmes"]
    before, after = (right(run, "arc_easy:rc::olmes") for run in pair)
    flipped = {index for index in before if before[index] != after[index]}
    shown = [doc["i"] for doc in task["docs"]]
    assert len(flipped) >= 10
    assert len(shown) == len(set(shown)) == 20
    assert set(shown[:10]) <= flipped
    assert not set(shown[10:]) & flipped
    row = load_run(pair[1]).documents("arc_easy:rc::olmes").set_index("index").loc[shown[0]]
    assert task["docs"][0]["r"][1]["s"] == pytest.approx(list(row["sums"]), abs=5e-4)
    assert task["docs"][0]["g"] == row["gold"]


def test_the_choice_is_the_same_everywhere(pair: list[Path], page: Path, tmp_path: Path) -> None:
    """By hash: the same runs give the same bytes."""
    assert write_report(pair, tmp_path).read_bytes() == page.read_bytes()


def test_numbers_of_samples() -> None:
    """A number, all, none; the default shrinks with many tasks; anything else is a sentence."""
    assert parse_sample_count("all", 3).count > 10**6
    assert parse_sample_count("none", 3).count == 0
    assert parse_sample_count(7, 3).count == 7
    assert parse_sample_count(None, 3).count == 20
    assert parse_sample_count(None, 100).count == 8
    assert parse_sample_count(None, 100_000).count == LEAST
    with pytest.raises(UsageError, match="not 'many'"):
        parse_sample_count("many", 1)


def test_none_keeps_every_text_out(pair: list[Path], tmp_path: Path) -> None:
    """With ``--samples none`` no prompt and no token of a document is in the file."""
    source = write_report(pair, tmp_path, samples="none").read_text(encoding="utf-8")
    assert "samples-data" not in source
    assert "stands near the" not in source


def test_gated_texts_stay_out_unless_asked_for(tmp_path: Path) -> None:
    """Paloma's licence: nothing by default, not even packed, and the page says so; a number shows them."""
    run = simulated.write(tmp_path, simulated.Simulated(), questions=(), domains={"c4_en": ["c4_en"]}, prefix="paloma")
    closed = write_report(run, tmp_path / "closed.html")
    assert "samples-data" not in closed.read_text(encoding="utf-8")
    assert "may not be passed on" in closed.read_text(encoding="utf-8")
    opened = packed(write_report(run, tmp_path / "open.html", samples=2))
    assert [len(task["docs"]) for task in opened["tasks"]] == [2]
    info = json.loads((run / "run.json").read_text())
    for about in info["tasks"].values():
        del about["gated"]  # a run of an older evalkit
    (run / "run.json").write_text(json.dumps(info))
    assert collect_samples(load_report([run]), [0]).withheld == ["paloma/c4_en"]


def test_solved_examples_stand_once(page: Path) -> None:
    """What all prompts of a task begin with is kept apart, and a document's own question is whole."""
    (task,) = [one for one in packed(page)["tasks"] if one["name"] == "arc_easy:rc::olmes"]
    assert task["shots"] == simulated.SHOTS
    assert all(doc["c"].startswith("Question: The ") and doc["c"].endswith("\nAnswer:") for doc in task["docs"])


# ------------------------------------------------------------------------------------------------------- in the browser


def cards(page: Any) -> list[str]:
    """The heads of the cards that are shown."""
    return [text.strip() for text in page.locator(".card h3").all_text_contents()]


def test_the_filter_for_flipped_shows_those_alone(browser: Any, page: Path, pair: list[Path]) -> None:
    """Each card right in one run and wrong in the other, and as many as there are among the samples."""
    before, after = (right(run, "boolq:rc::olmes") for run in pair)
    with Reader(browser, page) as open_page:
        open_page.locator("#samples-task").select_option("boolq:rc::olmes")
        open_page.locator("#samples-state").select_option("flipped")
        heads = cards(open_page)
        shown = [int(re.findall(r"document (\d+)", head)[0]) for head in heads]
        assert shown
        assert all(before[index] != after[index] for index in shown)
        assert all("⇄ flipped" in head for head in heads)
        total = open_page.locator("#samples-live output").text_content()
        open_page.locator("#samples-state").select_option("gained")
        assert all("✗ wrong in 73B✓ right in 2T" in head for head in cards(open_page))
        open_page.locator("#samples-state").select_option("right1")
        assert all("✓ right in 2T" in head for head in cards(open_page))
    tasks = {one["name"]: one["docs"] for one in packed(page)["tasks"]}
    every = sum(len(docs) for docs in tasks.values())
    flips = sum(before[doc["i"]] != after[doc["i"]] for doc in tasks["boolq:rc::olmes"])
    assert total == f"{flips} of {every} documents"


def test_a_deep_link_opens_its_document(browser: Any, page: Path) -> None:
    """``#task=…&doc=…`` shows the card, wherever it is among the pages, and gives it the focus; a missing one is said."""
    (task,) = [one for one in packed(page)["tasks"] if one["name"] == "boolq:rc::olmes"]
    wanted_doc = task["docs"][-1]["i"]
    with Reader(browser, page, hash=f"#task=boolq%3Arc%3A%3Aolmes&doc={wanted_doc}") as open_page:
        open_page.wait_for_selector(".card.linked")
        assert f"document {wanted_doc} " in open_page.evaluate("document.activeElement.querySelector('h3').textContent")
        open_page.evaluate("location.hash = '#task=boolq%3Arc%3A%3Aolmes&doc=999999'")
        open_page.wait_for_function("document.querySelector('#samples-live output').textContent.includes('not among')")


def test_the_strip_tells_each_token(browser: Any, page: Path, pair: list[Path]) -> None:
    """Shaded by surprisal; arrow keys step through tokens with id and log-probability; the two runs' difference."""
    rows = [load_run(run).documents("arc_easy:rc::olmes").set_index("index") for run in pair]
    with Reader(browser, page) as open_page:
        card = open_page.locator(".card").first
        assert card.locator("table").count() == 0  # made when it is opened
        card.locator("summary").first.click()
        card.locator("table").wait_for()
        assert card.locator("thead th:visible").all_text_contents()[1] == "73B per characterdecides"
        columns = card.locator("thead th:visible").count()
        card.get_by_role("button", name="All scores").click()
        assert card.locator("thead th:visible").count() > columns
        card.locator(".tokens-of summary").click()
        card.locator(".token").first.wait_for()
        index = int(re.findall(r"document (\d+)", card.locator("h3").text_content())[0])
        gold = int(rows[1].loc[index, "gold"])
        ids, strings = rows[1].loc[index, "token_ids"][gold], rows[1].loc[index, "token_strings"][gold]
        logprobs = [row.loc[index, "logprobs"][gold] for row in rows]
        assert card.locator(".token").count() == len(ids)
        card.locator(".tokens").focus()
        open_page.keyboard.press("ArrowRight")
        line = card.locator(".token-line").text_content()
        assert f"token 2 of {len(ids)}: {json.dumps(strings[1])}, id {ids[1]}" in line
        assert f"log-probability −{-logprobs[1][1]:.3f} nats" in line
        shades = ["s0", "s1", "s2", "s3", "s4", "s5"]
        expected = [
            shades[sum(round(-float(value), 3) >= end for end in (0.25, 1, 2.5, 5, 8))] for value in logprobs[1]
        ]
        assert [token.get_attribute("class").split()[1] for token in card.locator(".token").all()] == expected
        card.locator("button", has_text="73B − 2T").click()
        open_page.keyboard.press("Shift+Tab")
        card.locator(".token").first.hover()
        difference = round(float(logprobs[0][0]), 3) - round(float(logprobs[1][0]), 3)
        sign = "−" if difference < 0 else ""
        assert f"73B − 2T {sign}{abs(difference):.3f} nats" in card.locator(".token-line").text_content()


HOSTILE = (
    "<script>alert(1)</script></script>\"'><img src=x onerror=alert(2)>&amp;\u202egnp\u2066\x1b[31m\u2028{{ 7*7 }}"
)


def test_hostile_documents_are_text(browser: Any, tmp_path: Path) -> None:
    """Markup, quotes, bidi marks, escapes and a line of a megabyte in prompts, options and tokens: shown, never obeyed."""
    from evalkit.records import Document, Prompt
    from evalkit.results.tables import PromptFile, write_rows

    run = simulated.write(tmp_path, simulated.Simulated(), questions=simulated.SMALL[2:])
    name = "boolq:rc::olmes"
    rows = load_run(run).rows(name)
    info = json.loads((run / "run.json").read_text())
    file = PromptFile(tmp_path / "prompts" / f"{info['tasks'][name]['protocol_hash']}.parquet")
    for row in rows:
        row["native_id"] = HOSTILE
        row["token_strings"] = [[HOSTILE] * len(tokens) for tokens in row["token_ids"]]
        context = HOSTILE + "x" * 1_000_000 + HOSTILE
        file.add(Document(row["index"], HOSTILE, {}), [Prompt(context, HOSTILE, option=i) for i in range(2)])
    file.close()
    write_rows(run / "documents" / f"{info['tasks'][name]['file_name']}.parquet", rows)
    page = write_report(run, samples=8)
    source = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 1_000_000
    assert "<img" not in source
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\u2028]", source)
    with Reader(browser, page) as open_page:
        open_page.locator(".card summary").first.click()
        open_page.locator(".card .option").first.wait_for()  # a card is filled when it has opened
        text = open_page.locator(".card").first.text_content()
        assert "<script>alert(1)</script></script>" in text
        assert "characters are left out here" in text
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\u2028]", text)
        assert open_page.evaluate("document.images.length") == 0
        assert open_page.evaluate("document.querySelectorAll('.card script').length") == 0
        assert open_page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


def test_without_a_script_a_few_questions_are_read_in_full(browser: Any, page: Path) -> None:
    """The static list has the prompt, the options, gold and chosen."""
    with Reader(browser, page, java_script_enabled=False) as open_page:
        first = open_page.locator("#samples details").first
        first.locator("summary").click()
        assert "Question: The " in first.text_content()
        assert "★ gold" in first.text_content()
        assert "● chosen" in first.text_content()
        assert not open_page.locator("#samples-live").is_visible()
