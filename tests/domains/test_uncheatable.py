"""Uncheatable Eval's releases: their columns, the names of their subsets, and folders that are no whole release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evalkit
from evalkit.domains.uncheatable import SUBSETS, UncheatableTask
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import make_task
from evalkit.results.reading import Run
from evalkit.task import TaskOptions
from tests.made.paloma_release import line, write


def release(folder: Path, subsets: tuple[str, ...] = SUBSETS) -> Path:
    """A folder as the hub has it: two texts a subset, the second of ``b`` alone."""
    rows = [(name, text) for name in subsets for text in (f"{name} has news.", "b" * 40)]
    columns = {
        "content": [text for _, text in rows],
        "untruncated_content": ["never asked"] * len(rows),
        "category": [name for name, _ in rows],
    }
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("About it.", encoding="utf-8")
    pq.write_table(pa.table(columns), folder / "data" / "test-00000-of-00001.parquet")
    return folder


def scored(checkpoint: Path, folder: Path) -> Run:
    (run,) = evalkit.run(str(checkpoint), engine="fake", report=False, suite="uncheatable", data=folder)
    return run


def test_a_release(alone: Path, checkpoint: Path) -> None:
    """Every subset is a domain; the score is the mean of their bits per byte, each of all of its bytes."""
    run = scored(checkpoint, release(alone / "2026-07"))
    table = run.metrics[run.metrics.metric == "bits_per_byte"].set_index("domain")
    assert sorted(set(table.index) - {""}) == sorted(SUBSETS)
    rows = run.documents("uncheatable")
    assert list(rows.groupby("domain").size()) == [2] * 15
    by_subset = [-part["sum"].sum() / part["bytes"].sum() / 0.6931471805599453 for _, part in rows.groupby("domain")]
    (macro,) = run.metrics[(run.metrics.metric == "macro_bits_per_byte") & (run.metrics.source == "")].value.tolist()
    assert macro == pytest.approx(sum(by_subset) / 15)
    assert not run.metrics.limited.any()


def test_less_than_a_release(alone: Path, checkpoint: Path) -> None:
    """A folder without a subset is limited, and its run is not called after the suite."""
    run = scored(checkpoint, release(alone / "part", SUBSETS[:-1]))
    assert run.suite == "part of uncheatable"
    assert any("1 of 15 domains are missing: wikipedia_nonenglish." in text for text in run.info["warnings"])


def test_files_named_after_subsets(alone: Path) -> None:
    """JSON lines, a file a subset, with dates or a former name."""
    write(alone / "old/arxiv_computer_science_20250701to20250715.jsonl.gz", [line(None, content="one", id=1)])
    write(alone / "old/bbc_news_20250701to20250715.jsonl", [line(None, content="two"), line("no content")])
    task: Any = make_task("uncheatable", TaskOptions(data=alone / "old"))
    assert [(one.fields["domain"], one.fields["text"]) for one in task.documents()] == [
        ("arxiv_cs", "one"),
        ("bbc_news", "two"),
    ]
    assert any("no 'content'" in sentence for sentence in task.warnings())
    assert isinstance(task, UncheatableTask)


def test_without_its_files(alone: Path) -> None:
    """What to do is said; it has one split."""
    with pytest.raises(DataUnavailable, match="name its folder: --data DIR"):
        make_task("uncheatable", TaskOptions()).source  # noqa: B018
    with pytest.raises(DataUnavailable, match="There is no folder"):
        make_task("uncheatable", TaskOptions(data=alone / "x")).source  # noqa: B018
    with pytest.raises(UsageError, match="only the split 'test'"):
        make_task("uncheatable", TaskOptions(split="val"))
