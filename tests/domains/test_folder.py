"""Any folder of texts as a suite: every layout and kind of file, strange names, and each bad line by its number."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evalkit
from evalkit import registry
from evalkit.domains.folder import folder_suite
from evalkit.errors import DataUnavailable, UnknownName, UsageError
from evalkit.registry import make_task, suite_entry
from evalkit.results.reading import Run, read_metrics
from evalkit.results.recompute import recompute_metrics
from evalkit.task import TaskOptions
from tests.made import paloma_release as release
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.paloma_release import line, write


def score(checkpoint: Path, **options: Any) -> Run:
    (run,) = evalkit.run(str(checkpoint), engine="fake", report=False, **options)
    return run


def task_of(folder: Path, source: str, **options: Any) -> Any:
    return make_task(f"texts/{source}", TaskOptions(data=folder, **options))


def texts_of(task: Any) -> list[tuple[str, str]]:
    return [(document.fields["domain"], document.fields["text"]) for document in task.documents()]


def parquet(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_every_kind_of_file(alone: Path, checkpoint: Path) -> None:
    """JSON lines plain, gzip and zstd, text and Parquet, with splits and without, shards and folders of a domain."""
    root = alone / "corpus"
    write(root / "split/test/test_a.jsonl.gz", [line("one", id=1), line("two", id=2)])
    write(root / "split/test/b.jsonl.zst", [line("three", id=3)])
    write(root / "split/val/val_a.jsonl", [line("never asked", id=4)])
    write(root / "flat/plain.jsonl", [line("four", id="x", subdomain="its own")])
    (root / "flat/poem.txt").write_bytes("\ufefffünf\r\nsechs\n".encode())
    parquet(root / "flat/table.parquet", text=["seven", "eight", ""], id=[7, 8, 9], other=[1.5, 2.5, 3.5])
    write(root / "deep/letters/1790/a.txt.gz", [b"nine"])
    write(root / "deep/letters/b.txt", [b"ten"])
    write(root / "sharded/news-00000-of-00002.jsonl", [line("eleven", id=1)])
    write(root / "sharded/news-00001-of-00002.jsonl", [line("twelve", id=2)])
    run = score(checkpoint, suite=str(root))
    assert run.suite == "texts-corpus"
    assert run.path == Path("results/tiny/texts-corpus~fake/main")
    assert run.tasks == ["texts/deep", "texts/flat", "texts/sharded", "texts/split"]
    found = {(m["source"], m["domain"]): m["n"] for m in read_metrics(run.path) if m["metric"] == "bits_per_byte"}
    assert found == {
        ("split", "a"): 2,
        ("split", "b"): 1,
        ("flat", "its own"): 1,
        ("flat", "poem"): 1,
        ("flat", "table"): 2,
        ("deep", "letters"): 2,
        ("sharded", "news"): 2,
    }
    assert run.info["warnings"] == ["texts/flat: table.parquet: 1 document skipped for an empty text."]
    assert not run.info["limited"]
    assert texts_of(task_of(root, "flat"))[1] == ("poem", "fünf\r\nsechs\n")
    assert [row["native_id"] for row in run.rows("texts/flat")] == ["x", None, "7", "8"]
    (overall,) = [m for m in read_metrics(run.path) if m["task"] == "texts-corpus" and m["primary"]]
    assert (overall["metric"], overall["n"]) == ("macro_bits_per_byte", 11)
    before = read_metrics(run.path)
    assert {(m.source, m.domain, m.metric): m.value for m in recompute_metrics(run.path, write=False)} == {
        (m["source"], m["domain"], m["metric"]): m["value"] for m in before
    }


def test_dolma_documents(alone: Path) -> None:
    """A Dolma folder: documents at any depth, their own ``source`` is the domain, attributes are not read."""
    root = alone / "wiki"
    write(root / "documents/0000.json.gz", [line("one", id="1", source="simple"), line("two", id="2", source="en")])
    write(root / "documents/more/0001.json.gz", [line("three", id="3", source="en", metadata={"a": 1})])
    write(root / "attributes/tags/0000.json.gz", [b'{"id": "1", "attributes": {}}'])
    task = task_of(root, "wiki")
    assert folder_suite(root).tasks == ("texts/wiki",)
    assert task.counts == Counter(en=2, simple=1)
    assert task.warnings() == []
    (alone / "many").mkdir()
    root.rename(alone / "many/wiki")
    assert folder_suite(alone / "many").tasks == ("texts/wiki",)
    assert task_of(alone / "many", "wiki").counts == Counter(en=2, simple=1)


def test_bad_lines_are_named_by_file_and_number(alone: Path, checkpoint: Path) -> None:
    """What is left is scored; the run says what was left out, and is marked."""
    root = alone / "mine"
    write(root / "s/good.jsonl", [line("fine", id=1), b"", line("", id=2), line("last", id=3)])
    write(root / "s/bad.jsonl", [line("fine", id=1), b'{"text": }', b'{"txt": "no"}', *[b"x"] * 30])
    (root / "s/latin.txt").write_bytes("für".encode("latin-1"))
    (root / "s/none.jsonl").write_bytes(b"")
    (root / "s/broken.parquet").write_bytes(b"PAR1 and nothing more")
    parquet(root / "s/columns.parquet", words=["a"])
    (root / "s/table.csv").write_text("a,b")
    (root / "s/README.md").write_text("about")
    write(root / "s/cut.jsonl.zst", [line(os.urandom(20).hex(), id=number) for number in range(5000)], cut=9)
    run = score(checkpoint, suite=str(root))
    numbers = ", ".join(f"{number} (not JSON)" for number in range(4, 22))
    warnings = run.info["warnings"]
    assert warnings[0] == "Limited: fewer documents than the regime specifies in texts/s."
    assert warnings[1] == (
        f"texts/s: bad.jsonl: 32 lines skipped as invalid: 2 (not JSON), 3 (no 'text'), {numbers} and 12 more."
    )
    assert warnings[2].startswith("texts/s: broken.parquet is damaged: it is not a complete Parquet file (")
    assert warnings[3:] == [
        "texts/s: columns.parquet is damaged: it has no column 'text'. Only what comes before it is used (0 "
        "documents).",
        warnings[4],
        "texts/s: good.jsonl: 1 line skipped as empty: 2.",
        "texts/s: good.jsonl: 1 document skipped for an empty text.",
        "texts/s: latin.txt: 1 line skipped as invalid: 1 (not UTF-8).",
        "texts/s: none.jsonl contains no documents.",
        "texts/s: Files of unknown types: table.csv.",
    ]
    assert warnings[4].startswith(
        "texts/s: cut.jsonl.zst is damaged: its zstd data end too early. Only what comes before it is"
    )
    assert run.info["limited"]


@pytest.mark.skipif(os.name != "posix", reason="names of files as POSIX has them")
def test_strange_names_are_safe(alone: Path, checkpoint: Path) -> None:
    """Colons, spaces, line feeds, bytes that are no UTF-8, very long names: every domain is there, nothing is written
    outside of the run's folder."""
    root = alone / "odd"
    names = ["a:b::c", "new\nline", "ünïcode & more", "..dots", "%41", "x" * 240, "<b>bold</b>".replace("/", "_")]
    for name in names:
        write(root / name / f"{name[:200]}.jsonl", [line("text", id=1)])
    raw = os.fsencode(root) + b"/raw-\xff\xfe"
    Path(os.fsdecode(raw)).mkdir()
    write(Path(os.fsdecode(raw + b"/name-\xfe.jsonl")), [line("text", id=1)])
    write(root / ".hidden/secret.jsonl", [line("never", id=1)])
    run = score(checkpoint, suite=str(root))
    found = {(m["source"], m["domain"]) for m in read_metrics(run.path) if m["domain"]}
    visible = [name for name in names if not name.startswith(".")]
    assert found == {*((name, name[:200]) for name in visible), ("raw-��", "name-�")}
    files = sorted(path.name for path in (run.path / "documents").iterdir())
    assert len(files) == len(visible) + 1
    assert all(len(name) < 130 and name.startswith("texts.") for name in files)
    assert {path.name for path in alone.iterdir()} <= {"odd", "results", "home"}
    assert recompute_metrics(run.path, write=False)


def test_splits_of_a_folder(alone: Path) -> None:
    """Test first, else the validation split under any of its names; an asked split that is not there is an error."""
    write(alone / "c/s/dev/a.jsonl", [line("dev", id=1)])
    write(alone / "c/s/train/a.jsonl", [line("train", id=1)])
    assert task_of(alone / "c", "s").protocol()["split"] == "val"
    assert texts_of(task_of(alone / "c", "s", split="validation")) == [("a", "dev")]
    assert texts_of(task_of(alone / "c", "s", split="train")) == [("a", "train")]
    with pytest.raises(DataUnavailable, match="no texts of the split 'test'"):
        task_of(alone / "c", "s", split="test").protocol()
    with pytest.raises(UsageError, match="not 'holdout'"):
        task_of(alone / "c", "s", split="holdout")


def test_clusters_widen_the_interval(alone: Path, checkpoint: Path) -> None:
    """Documents that name a common ``cluster`` are resampled together."""
    lines = [line(release.text_of(str(number)), id=number) for number in range(12)]
    write(alone / "c/s/alone.jsonl", lines)
    grouped = [one[:-1] + b', "cluster": %d}' % (number // 6) for number, one in enumerate(lines)]
    write(alone / "c/s/grouped.jsonl", grouped)
    run = score(checkpoint, suite=str(alone / "c"))
    assert [row.get("cluster") for row in run.rows("texts/s")] == [None] * 12 + [0] * 6 + [1] * 6
    errors = {m["domain"]: m["stderr"] for m in read_metrics(run.path) if m["metric"] == "bits_per_byte"}
    assert errors["alone"] > 0
    assert errors["grouped"] != errors["alone"]


def test_limits_are_by_domain(alone: Path) -> None:
    """``--limit N`` takes the first N of every domain, and marks where there were more."""
    write(alone / "c/s/a.jsonl", [line(str(number), id=number) for number in range(5)])
    write(alone / "c/s/b.jsonl", [line("b", id=1)])
    task = task_of(alone / "c", "s", limit=2)
    assert texts_of(task) == [("a", "0"), ("a", "1"), ("b", "b")]
    assert [document.index for document in task.documents()] == [0, 1, 5]
    assert task.limited
    assert task.protocol()["documents"] == 3
    assert not task_of(alone / "c", "s", limit=5).limited


def test_what_a_person_may_get_wrong(alone: Path, checkpoint: Path) -> None:
    """No folder, nothing in it, an unknown source, two of one name: a sentence each."""
    (alone / "empty").mkdir()
    write(alone / "c/s/a.jsonl", [line("x", id=1)])
    for name, said in (("empty", "holds no texts"), ("no/such", "There is no folder no/such")):
        with pytest.raises(UsageError, match=said):
            suite_entry(name)
    with pytest.raises(UnknownName, match=r"no suite 'palome'\. Did you mean 'paloma'"):
        suite_entry("palome")
    with pytest.raises(UnknownName, match="no source 't'"):
        task_of(alone / "c", "t").protocol()
    for wrong in ("texts", "texts/s"):
        with pytest.raises(UsageError, match="--suite DIR"):
            make_task(wrong, TaskOptions()).protocol()
    write(alone / "t/a:b/a.jsonl", [line("x", id=1)])
    write(alone / "t/a_b/a.jsonl", [line("x", id=1)])
    with pytest.raises(UsageError, match="both be called 'a_b'"):
        suite_entry(str(alone / "t"))
    write(alone / "other/c/s/a.jsonl", [line("y", id=1)])
    with pytest.raises(UsageError, match="Two suites are called 'texts-c'"):
        score(checkpoint, suite=[str(alone / "c"), str(alone / "other/c")])


def test_a_registered_suite_wins_over_a_folder_of_its_name(alone: Path) -> None:
    """A folder named like a suite never takes its place; a path does name the folder."""
    write(alone / "paloma/s/a.jsonl", [line("x", id=1)])
    assert suite_entry("paloma") is registry.suites.get("paloma")
    assert suite_entry("./paloma").name == "texts-paloma"


@pytest.mark.parametrize(
    ("asked", "windows", "folder"),
    [(None, 3, "texts-corpus~fake"), (4096, 2, "texts-corpus~length4096,fake"), (9999, 1, "texts-corpus~fake")],
)
def test_windows_are_as_long_as_asked(alone: Path, asked: int | None, windows: int, folder: str) -> None:
    """5,000 tokens in windows of 2,048 (by default), 4,096, and the model's 6,000; the folder's name tells what was used."""
    model = make_checkpoint(alone / "tiny", max_position_embeddings=6000)
    write(alone / "corpus/a/b.jsonl", [line("x" * 5000, id=1)])
    run = score(model, suite=str(alone / "corpus"), max_length=asked)
    assert run.rows("texts/a")[0]["windows"] == windows
    assert run.path == Path("results/tiny") / folder / "main"
    warned = [warning for warning in run.info["warnings"] if "--max-length" in warning]
    model_limit = "--max-length 9,999 is not used for texts/a: at most 6,000 positions, the model's positions."
    assert warned == ([model_limit] if asked == 9999 else [])
    stored = read_metrics(run.path)
    recompute_metrics(run.path)
    assert read_metrics(run.path) == stored


def test_length_counts_only_for_texts_of_several_windows(alone: Path) -> None:
    """Two runs with other lengths compare where every text is one window, and else not."""
    model = make_checkpoint(alone / "tiny", max_position_embeddings=6000)
    write(alone / "corpus/short/b.jsonl", [line("x" * 50, id=1), line("y" * 60, id=2)])
    write(alone / "corpus/long/b.jsonl", [line("x" * 3000, id=1), line("y" * 3000, id=2)])
    a, b = (score(model, suite=str(alone / "corpus"), max_length=length) for length in (None, 4096))
    table = evalkit.compare_runs([a.path, b.path]).table
    reasons = dict(zip(table["task"], table["reason"], strict=True))
    assert not reasons["texts/short"]
    assert reasons["texts/long"].startswith("maximum length: 4096 against 2048, and 2 of 2 texts are longer")
