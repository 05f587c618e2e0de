"""Paloma's suite on a made-up data set in the released layout: every domain, exact counts, every fault named."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import evalkit
from evalkit.domains import manifest
from evalkit.errors import DataUnavailable, EvalkitError, UnknownName, UsageError
from evalkit.registry import make_task, suites
from evalkit.reports import write_report
from evalkit.results.reading import Run, read_metrics
from evalkit.results.recompute import recompute_metrics
from evalkit.task import TaskOptions
from tests.made import paloma_release as release
from tests.made.byte_checkpoints import byte_tokenizer

SIXTEEN = [source for source in manifest.sources().values() if source.redistributable]


def score(checkpoint: Path, **options: Any) -> Run:
    (run,) = evalkit.run(str(checkpoint), engine="fake", report=False, **options)
    return run


def test_the_manifest() -> None:
    """Version 1 has 18 sources and 585 domains, the release 16 and 546 (arXiv 2312.10523, table 1); the suites are these."""
    every = manifest.sources().values()
    assert (len(every), sum(len(source.domains) for source in every)) == (18, 585)
    assert (len(SIXTEEN), sum(len(source.domains) for source in SIXTEEN)) == (16, 546)
    assert [source.name for source in every if source.fringe] == ["manosphere_meta_sep", "gab", "4chan_meta_sep"]
    assert sum(len(source.code) for source in every) == 101
    assert suites.get("paloma").tasks == tuple(f"paloma/{source.name}" for source in SIXTEEN)
    assert suites.get("paloma-585").tasks == tuple(f"paloma/{source.name}" for source in every)
    for source in every:
        assert len(set(source.domains)) == len(source.domains)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> tuple[Run, dict[str, dict[str, int]]]:
    """A run of ``paloma-585`` on a whole data set with odd texts, and the documents that each domain has."""
    root = tmp_path_factory.mktemp("whole")
    counts = release.write_release(root / "files")
    release.add_oddities(root / "files", counts)
    run = score(checkpoint, suite="paloma-585", data=root / "files", output=root / "results")
    (root / "files").rename(root / "gone")
    return run, counts


def test_every_domain_is_reported(whole: tuple[Run, dict[str, dict[str, int]]]) -> None:
    """585 domains, each with its documents counted exactly; what is whole is not marked, and an empty text is told."""
    run, counts = whole
    assert run.status == "done"
    assert not run.info["limited"]
    found = {
        (one["source"], one["domain"]): one["n"]
        for one in read_metrics(run.path)
        if one["domain"] and one["metric"] == "bits_per_byte"
    }
    assert found == {(source, domain): n for source, domains in counts.items() for domain, n in domains.items()}
    assert run.info["warnings"] == ["paloma/gab: test/test-00000002.jsonl.gz: 1 document skipped for an empty text."]
    about = run.info["tasks"]["paloma/dolma_100_programing_languages"]
    assert len(about["protocol"]["task"]["files"]) == 100
    assert all(len(digest) == 64 for digest in about["protocol"]["task"]["files"].values())
    assert about["protocol"]["task"]["split"] == "test"
    assert run.info["guidelines"]["G3"]["whole_evaluation_sample"]


def test_odd_texts_arrive_whole(whole: tuple[Run, dict[str, dict[str, int]]]) -> None:
    """Emoji, right-to-left text, foreign line separators and a text of 100,000 tokens: counts by hand, ids as they were."""
    run, _ = whole
    rows = run.rows("paloma/gab")[2:]
    texts = [release.EMOJI, release.RIGHT_TO_LEFT, release.SEPARATORS]
    assert [row["bytes"] for row in rows[:3]] == [len(text.encode()) for text in texts]
    assert [row["characters"] for row in rows[:3]] == [len(text) for text in texts]
    assert (rows[3]["tokens"], rows[3]["windows"]) == (release.LONG, math.ceil(release.LONG / 64))
    assert [row["native_id"] for row in rows] == [str(2**70), None, None, "-1"]


def test_aggregates_are_the_papers(whole: tuple[Run, dict[str, dict[str, int]]]) -> None:
    """Written a second time from the paper's formulas: perplexity exp(−Σ ll / Σ tokens), a source's and the whole macro
    as means over domains, medians, and the ordinary one pooled without 4chan, Gab, Manosphere and code."""
    run, counts = whole
    told: dict[tuple[str, str, str, str], float] = {
        (one["task"], one["source"], one["domain"], one["metric"]): one["value"] for one in read_metrics(run.path)
    }
    sums: dict[tuple[str, str], list[float]] = {}
    windows = 0
    for source in counts:
        for row in run.rows(f"paloma/{source}"):
            total = sums.setdefault((row["source"], row["domain"]), [0.0, 0, 0])
            for place, name in enumerate(("sum", "tokens", "bytes")):
                total[place] += row[name]
            windows += row["windows"]
    perplexity = {key: math.exp(-nats / tokens) for key, (nats, tokens, _) in sums.items()}
    bits = {key: -nats / size / math.log(2) for key, (nats, _, size) in sums.items()}
    for (source, domain), value in perplexity.items():
        assert told[f"paloma/{source}", source, domain, "token_perplexity"] == pytest.approx(value, rel=1e-12)
        assert told[f"paloma/{source}", source, domain, "bits_per_byte"] == pytest.approx(
            bits[source, domain], rel=1e-12
        )
    for source in counts:
        for name, values in (("token_perplexity", perplexity), ("bits_per_byte", bits)):
            own = [value for key, value in values.items() if key[0] == source]
            assert told[f"paloma/{source}", source, "", f"macro_{name}"] == pytest.approx(statistics.fmean(own))
            assert told[f"paloma/{source}", source, "", f"median_{name}"] == pytest.approx(statistics.median(own))
    suite = "paloma-585"
    for name, values in (("token_perplexity", perplexity), ("bits_per_byte", bits)):
        assert told[suite, "", "", f"macro_{name}"] == pytest.approx(statistics.fmean(values.values()))
        assert told[suite, "", "", f"median_{name}"] == pytest.approx(statistics.median(values.values()))
    apart = {"4chan_meta_sep", "gab", "manosphere_meta_sep", "dolma_100_programing_languages"}
    pooled = [0.0, 0.0, 0.0]
    for (source, domain), total in sums.items():
        if source not in apart and domain != "stack_uniform":
            pooled = [a + b for a, b in zip(pooled, total, strict=True)]
    assert told[suite, "", "", "ordinary_token_perplexity"] == pytest.approx(math.exp(-pooled[0] / pooled[1]))
    assert told[suite, "", "", "ordinary_bits_per_byte"] == pytest.approx(-pooled[0] / pooled[2] / math.log(2))
    assert told[suite, "", "", "total_tokens"] == sum(total[1] for total in sums.values())
    assert told[suite, "", "", "total_bytes"] == sum(total[2] for total in sums.values())
    assert told[suite, "", "", "total_windows"] == windows
    primary = [one["metric"] for one in read_metrics(run.path) if one["primary"] and one["task"] == suite]
    assert primary == ["macro_bits_per_byte"]


def test_metrics_need_neither_data_nor_model(whole: tuple[Run, dict[str, dict[str, int]]]) -> None:
    """The files are gone by now; what is computed again from the stored sums is the same."""
    run, _ = whole
    again = {
        (one.task, one.source, one.domain, one.metric): one.value for one in recompute_metrics(run.path, write=False)
    }
    assert again == {(m["task"], m["source"], m["domain"], m["metric"]): m["value"] for m in read_metrics(run.path)}


def test_every_fault_is_named(alone: Path, checkpoint: Path) -> None:
    """A cut file, a lost domain, bad lines and an unknown domain are named in the warnings, and the run is marked: it is
    no result of Paloma."""
    counts = release.write_release(alone / "files")
    release.add_faults(alone / "files", counts)
    run = score(checkpoint, suite="paloma", data=alone / "files")
    warnings = "\n".join(run.info["warnings"])
    for sentence in (
        "paloma/mc4: test/test-00000002.jsonl.gz is damaged: its gzip data end too early. Only what comes before it "
        "is used",
        "paloma/c4_100_domains: 1 of 99 domains are missing: 1_www.nytimes.com.",
        "paloma/manosphere_meta_sep: test/test_avfm.jsonl.gz: 6 lines skipped as invalid: 1 (not JSON), "
        "4 (not a JSON object), 5 (no 'text'), 6 ('text' is not a string), 7 (not UTF-8), 10 (not JSON).",
        "paloma/manosphere_meta_sep: test/test_avfm.jsonl.gz: 2 lines skipped as empty: 2, 8.",
        "paloma/manosphere_meta_sep: test/test_avfm.jsonl.gz: unpaired surrogates were replaced by U+FFFD in 1 text.",
        "paloma/twitterAAE_HELM_fixed: Unexpected domains: blue sky & more, #1.",
    ):
        assert sentence in warnings
    limited = ["mc4", "c4_100_domains", "twitterAAE_HELM_fixed", "manosphere_meta_sep"]
    assert (
        f"Limited: fewer documents than the regime specifies in {', '.join(f'paloma/{x}' for x in limited)}."
        in warnings
    )
    assert run.info["limited"]
    assert not run.info["guidelines"]["G3"]["whole_evaluation_sample"]
    metrics = read_metrics(run.path)
    assert {one["task"] for one in metrics if not one["task"].startswith("paloma/")} == {"part of paloma"}
    assert {one["task"].removeprefix("paloma/") for one in metrics if one["limited"]} == {*limited, "part of paloma"}
    found = {
        (one["source"], one["domain"]): one for one in metrics if one["domain"] and one["metric"] == "bits_per_byte"
    }
    lost = found["c4_100_domains", "1_www.nytimes.com"]
    assert (lost["value"], lost["n"]) == (None, 0)
    for source in SIXTEEN:
        for domain, n in counts[source.name].items():
            if n >= 0:
                assert found[source.name, domain]["n"] == n
    assert 1000 < found["mc4", "mc4"]["n"] < 2002


def test_a_missing_source_leaves_the_others(alone: Path, checkpoint: Path) -> None:
    """Its domain is named and shown without a value; without any source it is an error that says what is expected."""
    release.write(alone / "files/ptb/test/test.jsonl.gz", release.documents("ptb", "ptb", "test"))
    run = score(checkpoint, task=["paloma/ptb", "paloma/c4_en"], data=alone / "files")
    assert "paloma/c4_en: 1 of 1 domains are missing: c4_en." in run.info["warnings"]
    assert [one["value"] for one in read_metrics(run.path) if one["task"] == "paloma/c4_en"] == [None]
    with pytest.raises(EvalkitError, match=r"There are no documents to score\. .*1 of 1 domains are missing: c4_en"):
        score(checkpoint, task="paloma/c4_en", data=alone / "files")
    with pytest.raises(DataUnavailable, match=r"contains no Paloma source.*c4_en/test.*HF_TOKEN"):
        score(checkpoint, suite="paloma", data=alone)
    with pytest.raises(DataUnavailable, match="There is no folder"):
        score(checkpoint, suite="paloma", data=alone / "nowhere")


def options(folder: Path, **more: Any) -> TaskOptions:
    return TaskOptions(data=folder, **more)


def test_splits(alone: Path) -> None:
    """``val`` and ``validation`` are one split under both names; test is read where none is asked for; no other is there."""
    release.write_release(alone, "val", folder="validation")
    for name in ("val", "validation"):
        task: Any = make_task("paloma/manosphere_meta_sep", options(alone, split=name))
        assert task.counts == Counter(dict.fromkeys(manifest.sources()["manosphere_meta_sep"].domains, 2))
        assert task.protocol()["split"] == "val"
        assert not task.limited
    unasked: Any = make_task("paloma/manosphere_meta_sep", options(alone))
    assert unasked.limited
    assert len(unasked.missing) == 9
    with pytest.raises(UsageError, match="splits 'val' and 'test', not 'train'"):
        make_task("paloma/ptb", options(alone, split="train"))


def test_globs_and_limits_are_parts(alone: Path) -> None:
    """A glob takes some domains, a limit some documents of each; both are marked, and a glob without a domain is an error."""
    release.write_release(alone)
    some: Any = make_task("paloma/dolma_100_subreddits/0*", options(alone, limit=1))
    documents = list(some.documents())
    assert [document.fields["domain"] for document in documents] == [
        domain for domain in manifest.sources()["dolma_100_subreddits"].domains if domain.startswith("0")
    ]
    assert [document.index for document in documents] == list(range(0, 20, 2))
    assert some.limited
    assert make_task("paloma/dolma_100_subreddits", options(alone, limit=1)).limited
    assert not make_task("paloma/dolma_100_subreddits", options(alone, limit=2)).limited
    assert some.name.file_name.startswith("paloma.dolma_100_subreddits.0_-")
    with pytest.raises(UnknownName, match="no domain '10_nytimes'"):
        make_task("paloma/c4_100_domains/10_nytimes", options(alone))
    with pytest.raises(UnknownName, match="no task 'paloma/c5'"):
        make_task("paloma/c5", options(alone))


def test_the_hub_is_gated_and_the_error_says_so(alone: Path) -> None:
    """Without the files: where to ask for access, where the token goes, and how to give a folder."""
    with pytest.raises(
        DataUnavailable, match=r"request access at https://\S+/allenai/paloma.*HF_TOKEN.*--data DIR"
    ) as error:
        make_task("paloma/ptb", TaskOptions()).protocol()
    assert len(str(error.value)) < 400
    with pytest.raises(DataUnavailable, match="paloma-mini"):
        make_task("paloma/ptb", TaskOptions(data_source="bundle")).protocol()


def test_documents_stream(alone: Path) -> None:
    """The first document is there before the file is read to its end, and no texts are kept."""
    path = release.write(alone / "gab/test/test-00000000.jsonl", [release.line("first", id=1)])
    task: Any = make_task("paloma/gab", options(alone))
    with path.open("ab") as file:
        file.writelines(release.line("x" * 5000, id=number) + b"\n" for number in range(200))
        file.write(b"{broken")
    documents = task.documents()
    assert next(documents).fields["text"] == "first"
    assert not any(isinstance(value, list) and value and hasattr(value[0], "text") for value in vars(task).values())
    assert sum(1 for _ in documents) == 200


def stored_strings(folder: Path) -> str:
    """Every string of every file below a folder, as far as a reader could tell text from it."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".parquet":
            for row in pq.read_table(file, partitioning=None).to_pylist():
                ids = row.get("token_ids") or []
                found.append(f"{row} {byte_tokenizer().decode(ids)} {''.join(row.get('token_strings') or [])}")
        elif file.is_file():
            found.append(file.read_bytes().decode("utf-8", "replace"))
    return "\n".join(found)


def test_results_hold_no_text_unless_asked_for(alone: Path, checkpoint: Path) -> None:
    """Neither strings nor token ids, whatever is saved, until ``--samples`` asks; what stands there then is told."""
    text = "licensed words of the data set"
    release.write(alone / "ptb/test/test-00000000.jsonl", [release.line(text, id=7)])

    def run(**more: Any) -> Run:
        (done,) = evalkit.run(str(checkpoint), engine="fake", task="paloma/ptb", data=alone, **more)
        return done

    closed = run(save_tokens=True)
    assert text not in stored_strings(alone / "results")
    assert not any("redistributed" in warning for warning in closed.info["warnings"])
    (row,) = closed.rows("paloma/ptb")
    assert len(row["logprobs"]) == row["tokens"] == len(text)
    assert "token_ids" not in row
    (prompt,) = closed.prompts("paloma/ptb").to_dict("records")
    assert (prompt["index"], prompt["native_id"], prompt["continuation_characters"]) == (0, "7", len(text))
    assert prompt["continuation_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    asked = write_report(closed.path, alone / "asked.html", samples=3).read_text(encoding="utf-8")
    assert "the results hold no text of a gated data set unless" in asked

    opened = run(samples="3")
    assert opened.info["counts"]["batches_scored"] == 0
    assert opened.rows("paloma/ptb")[0]["token_strings"] == list(text)
    assert list(opened.prompts("paloma/ptb")["continuation"]) == [text]
    (told,) = [warning for warning in opened.info["warnings"] if "redistributed" in warning]
    assert "--samples asked for them" in told

    again = run()
    assert "token_ids" not in again.rows("paloma/ptb")[0]
    (told,) = [warning for warning in again.info["warnings"] if "redistributed" in warning]
    assert f"results/prompts/{again.info['tasks']['paloma/ptb']['protocol_hash']}.parquet" in told
