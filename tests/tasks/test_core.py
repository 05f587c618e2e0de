"""CORE against an implementation of its own, written from the published description, on invented rows."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.checkpoints.resolve import resolve
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import make_task
from evalkit.scoring.collect import expand
from evalkit.task import TaskOptions
from tests.made.command_line import Command
from tests.made.eval_bundles import LM, MC, SCHEMA, TABLE, Published, Row, read_rows, write_eval_bundle
from tests.made.word_tokenizer import make_tokenizer

Ids = list[int]
Scored = tuple[Ids, int]
"""Ids, and the position of the first that is scored."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eval_bundle(tmp_path_factory.mktemp("made"))


# ---------------------------------------------------------------- another implementation, from the published description


def order_of(count: int) -> list[int]:
    """The numbers of the rows in the order in which they are asked."""
    numbers = list(range(count))
    random.Random(1337).shuffle(numbers)
    return numbers


def asked_texts(rows: Sequence[Row], one: Published, position: int) -> tuple[list[str], str]:
    """The whole texts of a question (its row is `rows[position]`), and of language modelling that without the answer."""
    parts: list[str] = []
    if one.shots:
        others = list(range(len(rows)))
        others.remove(position)
        for other in random.Random(1234 + position).sample(others, one.shots):
            row = rows[other]
            if one.kind == MC:
                question, answer = row["query"], row["choices"][row["gold"]]
            elif one.kind == SCHEMA:
                question, answer = row["context_options"][row["gold"]], row["continuation"]
            else:
                question, answer = row["context"].strip(), row["continuation"]
            parts += [question, one.delimiter, str(answer), "\n\n"]
    before, row = "".join(parts), rows[position]
    if one.kind == MC:
        return [before + row["query"] + one.delimiter + str(choice) for choice in row["choices"]], ""
    if one.kind == SCHEMA:
        return [before + option + one.delimiter + row["continuation"] for option in row["context_options"]], ""
    asked = before + row["context"].strip() + one.delimiter
    return [asked + str(row["continuation"])], asked.strip()


def scored_ids(texts: Sequence[str], bare: str, kind: str, encode: Callable[[str], Ids], room: int) -> list[Scored]:
    """The ids of each text and where its score begins: where the texts part, or for a schema where they meet for good."""
    all_ids = [encode(text) for text in texts]
    same = 0
    if kind == LM:
        same = len(encode(bare))
        assert all_ids[0][:same] == encode(bare)
        starts = [same]
    elif kind == MC:
        while same < min(map(len, all_ids)) - 1 and len({ids[same] for ids in all_ids}) == 1:
            same += 1
        starts = [same] * len(texts)
    else:
        while len({ids[-1 - same] for ids in all_ids}) == 1:
            same += 1
        starts = [len(ids) - same for ids in all_ids]
    cuts = [max(0, len(ids) - room) for ids in all_ids]
    return [(ids[cut:], start - cut) for ids, start, cut in zip(all_ids, starts, cuts, strict=True)]


def reference(
    folder: Path, one: Published, encode: Callable[[str], Ids], room: int, limit: int | None = None
) -> list[tuple[int, int, list[Scored]]]:
    """Row number, right answer and requests of each question, in order."""
    rows = read_rows(folder, one)
    numbers = order_of(len(rows))[:limit]
    shuffled = [rows[number] for number in numbers]
    return [
        (number, row.get("gold", 0), scored_ids(*asked_texts(shuffled, one, position), one.kind, encode, room))
        for position, (number, row) in enumerate(zip(numbers, shuffled, strict=True))
    ]


# -------------------------------------------------------------------------------------------------------------- prompts


def olmo() -> Tokenizer:
    (last,) = resolve("olmo-tiny")
    return Tokenizer.load(last.tokenizer_path)


def tokenizers() -> dict[str, tuple[Tokenizer, int]]:
    """Tokenizers with what stands in front: OLMo's names no BOS, so its end token does; the other has one of its own."""
    with_bos = Tokenizer(make_tokenizer(bos=True))
    first = olmo()
    end = first.inner.convert_tokens_to_ids("<|endoftext|>")
    return {"olmo": (first, end), "bos": (with_bos, with_bos.inner.convert_tokens_to_ids("<s>"))}


@pytest.mark.parametrize("room", [4096, 40])
@pytest.mark.parametrize("name", ["olmo", "bos"])
def test_same_ids_as_another_implementation(folder: Path, name: str, room: int) -> None:
    """All 22 tasks: the order of rows, the examples, the ids, and where scoring begins, also where contexts are cut."""
    tokenizer, front = tokenizers()[name]
    encoder = Encoder(tokenizer, room)

    def encode(text: str) -> Ids:
        return [front, *tokenizer.inner.encode(text, add_special_tokens=False)]

    questions, cut = 0, 0
    for one in TABLE:
        if name == "bos" and room == 40 and one.kind == LM:
            continue  # one token a byte: some answers alone are longer
        task = make_task(f"core/{one.label}", TaskOptions(data=folder))
        expected = reference(folder, one, encode, room)
        documents = list(task.documents())
        assert [(each.index, each.fields["gold"]) for each in documents] == [(n, gold) for n, gold, _ in expected]
        for document, (_, _, wanted) in zip(documents, expected, strict=True):
            if any(start < 1 for _, start in wanted):
                continue
            encoded = encoder.encode(task.prompts(document))
            got = [(list(request.tokens), request.start) for each in encoded for request in each.requests]
            assert got == wanted, one.label
            cut += sum(each.truncated > 0 for each in encoded)
            questions += 1
    assert questions > 100
    assert (cut > 0) == (room == 40)


def test_shared_words_are_not_scored(folder: Path) -> None:
    """Hand-checked: " the" of both options is context, and what both contexts end with is scored."""
    tokenizer = olmo()
    task = make_task("core/copa", TaskOptions(data=folder))
    document = next(each for each in task.documents() if each.fields["answers"][:2] == ("the bee", "the dog of copa"))
    encoded = Encoder(tokenizer, 512).encode(task.prompts(document))
    scored = [tokenizer.decode(list(one.requests[0].tokens[one.requests[0].start :])) for one in encoded]
    assert scored == [" bee", " dog of copa"]
    task = make_task("core/winograd", TaskOptions(data=folder))
    document = next(each for each in task.documents() if each.fields["contexts"][0].endswith("that was old"))
    encoded = Encoder(tokenizer, 512).encode(task.prompts(document))
    scored = [tokenizer.decode(list(one.requests[0].tokens[one.requests[0].start :])) for one in encoded]
    assert scored == [" that was old was in winograd_wsc."] * 2


def test_an_option_that_others_begin_with(folder: Path) -> None:
    """It has its last token to be scored on, and the others begin there, too."""
    tokenizer = olmo()
    task = make_task("core/copa", TaskOptions(data=folder))
    document = next(each for each in task.documents() if each.fields["answers"][0] == "in the box")
    encoded = Encoder(tokenizer, 512).encode(task.prompts(document))
    scored = [tokenizer.decode(list(one.requests[0].tokens[one.requests[0].start :])) for one in encoded]
    assert scored == [" box", " box with the owl"]


def test_limit_is_nanochats(folder: Path) -> None:
    """``--limit N`` is ``--max-per-task N``: the first N of the shuffled rows, and examples of those alone."""
    tokenizer = olmo()

    def encode(text: str) -> Ids:
        return [tokenizer.eos_id or 0, *tokenizer.inner.encode(text, add_special_tokens=False)]

    one = next(one for one in TABLE if one.label == "arc_easy")
    task = make_task("core/arc_easy", TaskOptions(data=folder, limit=12))
    expected = reference(folder, one, encode, 4096, limit=12)
    assert task.limited
    assert [each.index for each in task.documents()] == [number for number, _, _ in expected]
    for document, (_, _, wanted) in zip(task.documents(), expected, strict=True):
        encoded = Encoder(tokenizer, 4096).encode(task.prompts(document))
        assert [(list(one.requests[0].tokens), one.requests[0].start) for one in encoded] == wanted
    with pytest.raises(UsageError, match="it needs at least 11, and has 10"):
        make_task("core/arc_easy", TaskOptions(data=folder, limit=10)).documents()


def test_sample_draws_from_all(folder: Path) -> None:
    task = make_task("core/arc_easy", TaskOptions(data=folder, sample=3))
    assert len(list(task.documents())) == 3
    assert task.limited
    assert task.protocol()["examples"]["of"] == 14


# ------------------------------------------------------------------------------------------------------- the 22 and scores


@pytest.mark.parametrize("suite", ["core", "core-v1"])
def test_published_tasks_and_baselines(folder: Path, suite: str) -> None:
    """The real table: 22 tasks in DCLM's order, kinds, examples, delimiters, and the baselines of both versions."""
    shape, _ = expand(registry.suites.get(suite))
    assert shape.aggregation == "centred"
    assert [member.name for member in shape.members] == [f"core/{one.label}" for one in TABLE]
    wanted = [one.baseline if suite == "core" else one.first_baseline for one in TABLE]
    assert [100 * (member.baseline or 0) for member in shape.members] == pytest.approx(wanted)
    for one in TABLE:
        task: Any = make_task(f"core/{one.label}", TaskOptions(data=folder))
        assert (task.core_kind, task.shots, task.delimiter) == (one.kind, one.shots, one.delimiter)
        assert task.warnings() == []


def accuracies(folder: Path, room: int) -> dict[str, list[float]]:
    """Right or wrong for each question, by plain forward passes of olmo-tiny, one text at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    (last,) = resolve("olmo-tiny")
    tokenizer = olmo()
    model = AutoModelForCausalLM.from_pretrained(last.path, dtype=torch.float32)

    def encode(text: str) -> Ids:
        return [tokenizer.eos_id or 0, *tokenizer.inner.encode(text, add_special_tokens=False)]

    found = {}
    for one in TABLE:
        hits = []
        for _, gold, requests in reference(folder, one, encode, room):
            losses = []
            for ids, start in requests:
                with torch.inference_mode():
                    logits = model(torch.tensor([ids])).logits[0].double()
                targets, before = torch.tensor(ids[start:]), logits[start - 1 : -1]
                losses.append(float(torch.nn.functional.cross_entropy(before, targets)))
                greedy = bool((before.argmax(-1) == targets).all())
            hits.append(float(greedy if one.kind == LM else losses.index(min(losses)) == gold))
        found[one.label] = hits
    return found


def test_whole_suite_from_the_command_line(alone: Path, evalkit: Command) -> None:
    """Accuracies, centring, CORE and its error are another implementation's; table, report and leaderboard show them."""
    folder = write_eval_bundle(alone)
    words = ("run", "--model", "olmo-tiny", "--data", folder, "--device", "cpu", "--output", "results", "--offline")
    ran = evalkit(*words[:-1], "--suite", "core,core-v1")
    assert ran.code == 0, ran.err
    (core,) = Path("results/olmo-tiny/core").iterdir()
    metrics = json.loads((core / "metrics.json").read_text())
    rates = {one["task"]: one["value"] for one in metrics if one["primary"]}
    hits = accuracies(folder, 512)
    for one in TABLE:
        assert rates[f"core/{one.label}"] == pytest.approx(sum(hits[one.label]) / len(hits[one.label])), one.label
    for suite, version in (("core", "baseline"), ("core-v1", "first_baseline")):
        total, spread = 0.0, dict[str, list[float]]()
        for one in TABLE:
            values, b = hits[one.label], 0.01 * getattr(one, version)
            total += (statistics.mean(values) - b) / (1 - b)
            earlier = spread.setdefault(one.file, [0.0] * len(values))  # HellaSwag's rows are asked twice
            spread[one.file] = [sum(pair) for pair in zip(earlier, [value / (1 - b) for value in values], strict=True)]
        variance = sum(statistics.variance(values) / len(values) for values in spread.values())
        (folder_of,) = Path(f"results/olmo-tiny/{suite}").iterdir()
        (score,) = [one for one in json.loads((folder_of / "metrics.json").read_text()) if one["task"] == suite]
        assert score["value"] == pytest.approx(total / 22)
        assert score["stderr"] == pytest.approx(math.sqrt(variance) / 22)
        assert score["ci_low"] < score["value"] < score["ci_high"]
    shown = f"{100 * rates['core']:.1f}"
    (line,) = [line for line in ran.out.splitlines() if line.startswith("core ")]
    assert shown in line
    page = (core / "report.html").read_text(encoding="utf-8")
    assert "core/hellaswag_zeroshot" in page
    assert shown in page
    # three baselines of version 1 are not those that the folder's table has
    assert ran.err.count("but core-v1 uses its own") == 3
    assert "eval_meta_data.csv has the baseline 40.3 for core/commonsense_qa, but core-v1 uses its own, 20." in ran.err
    board = evalkit("leaderboard", "results", "--format", "csv")
    assert board.code == 0, board.err
    head, row, *_ = csv.reader(board.out.splitlines())
    columns = dict(zip(head, row, strict=True))
    assert {"suite-core", "suite-core-v1"} <= set(columns)
    assert float(columns["suite-core"]) == pytest.approx(rates["core"])


def test_less_is_never_core(alone: Path, evalkit: Command) -> None:
    """A task without rows makes CORE not available, with the reason, and a limit makes it a part."""
    folder = write_eval_bundle(alone, baselines=False)
    (folder / "eval_data/reading_comprehension/squad.jsonl").unlink()
    words = (
        "run",
        "--model",
        "olmo-tiny",
        "--data",
        folder,
        "--device",
        "cpu",
        "--output",
        "results",
        "--suite",
        "core",
    )
    ran = evalkit(*words)
    assert ran.code == 0, ran.err
    assert "squad.jsonl does not exist, so core/squad has no rows." in ran.err
    (run,) = Path("results/olmo-tiny/core").iterdir()
    (score,) = [one for one in json.loads((run / "metrics.json").read_text()) if one["metric"] == "suite_score"]
    assert score["task"] == "part of core"
    assert score["value"] is None or math.isnan(score["value"])
    assert score["note"] == "not available: core/squad has no rows"
    again = evalkit("metrics", run)
    assert again.code == 0, again.err


def test_plain_sentence_without_data(alone: Path, evalkit: Command) -> None:
    message = evalkit("run", "--model", "olmo-tiny", "--suite", "core").fails(1)
    assert "eval_bundle.zip" in message
    assert "--data" in message


def test_kinds_of_the_folder_do_not_change_core(tmp_path: Path) -> None:
    """What ``core.yaml`` says otherwise than DCLM is told, and CORE's own is asked."""
    folder = write_eval_bundle(tmp_path)
    table = folder / "core.yaml"
    text = table.read_text(encoding="utf-8").replace("num_fewshot: [3]", "num_fewshot: [5]")
    table.write_text(text, encoding="utf-8")
    task: Any = make_task("core/agi_eval_lsat_ar", TaskOptions(data=folder))
    assert task.shots == 3
    assert task.warnings() == [
        f"{table} says examples 5 for agi_eval_lsat_ar, but CORE as published has 3; the published value is used."
    ]


def test_no_split(folder: Path) -> None:
    with pytest.raises(UsageError, match="--split does not apply"):
        make_task("core/copa", TaskOptions(data=folder, split="validation"))


def test_needs_data() -> None:
    with pytest.raises(DataUnavailable, match=r"core/copa needs --data\. .*eval_bundle\.zip"):
        make_task("core/copa").documents()


# ------------------------------------------------------------------------------------------------------------- core-part

COUNTS = {
    "arc_challenge": 1172,
    "arc_easy": 2376,
    "boolq": 3270,
    "commonsense_qa": 1221,
    "copa": 100,
    "coqa": 7983,
    "hellaswag": 10042,
    "hellaswag_zeroshot": 10042,
    "jeopardy": 2116,
    "lambada_openai": 5153,
    "openbook_qa": 500,
    "piqa": 1838,
    "winogrande": 1267,
}
SAME_ROWS = {
    "copa": "f1a8ac1c1de5bcc1",
    "openbook_qa": "d20b32509db7f36a",
    "piqa": "42b2f9b16cc5aba1",
    "winogrande": "3aaf5ac4cfb26eaf",
}
"""Tasks whose rows are CORE's own, in their order: a digest of those in llm-foundry's ``scripts/eval/local_data``."""


def test_the_13_of_the_bundle() -> None:
    """`core-part` has 13 of the 22, by CORE's kinds, examples and delimiters, of whole splits."""
    shape, _ = expand(registry.suites.get("core-part"))
    assert sorted(member.name for member in shape.members) == [f"core-part/{label}" for label in sorted(COUNTS)]
    published = {one.label: one for one in TABLE}
    for member in shape.members:
        label = member.name.removeprefix("core-part/")
        task: Any = make_task(member.name, TaskOptions(data_source="bundle"))
        one = published[label]
        assert (task.core_kind, task.shots, task.delimiter) == (one.kind, one.shots, one.delimiter)
        assert len(task.documents()) == COUNTS[label]
        if label in SAME_ROWS:
            digest = hashlib.sha256()
            for document in sorted(task.documents(), key=lambda each: each.index):
                row = [list(document.fields[name]) for name in ("contexts", "answers")]
                digest.update((json.dumps([*row, document.fields["gold"]], ensure_ascii=False) + "\n").encode())
            assert digest.hexdigest()[:16] == SAME_ROWS[label]
        assert 100 * (member.baseline or 0) == (20 if label == "commonsense_qa" else one.baseline)
