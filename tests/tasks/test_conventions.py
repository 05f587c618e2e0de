"""Every convention that moves a number, by hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.errors import DataUnavailable, ScoringError, UsageError
from evalkit.records import Prompt, Scores
from evalkit.tasks import regimes
from tests.made.invented_data import ARC, HELLASWAG, make, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Invented questions in the shape of ARC and HellaSwag."""
    root = tmp_path_factory.mktemp("data")
    for task in ("arc_easy", "arc_challenge"):
        write_folder(root, task, validation=ARC, test=ARC)
    return str(write_folder(root, "hellaswag", validation=HELLASWAG))


def prompts(name: str, folder: str, position: int, **options: Any) -> list[Prompt]:
    task = make(name, data_source=folder, **options)
    return list(task.prompts(list(task.documents())[position]))


# ------------------------------------------------------------------------------------------------------------ cleaning


@pytest.mark.parametrize(
    ("text", "lm_eval", "olmes"),
    [
        ("plain", "plain", "plain"),
        ("  edges  ", "edges", "edges"),
        ("[header] How to dig. [title] Take it.", " How to dig.. Take it.", " How to dig. Take it."),
        ("Dig [title] Take it.", "Dig. Take it.", "Dig. Take it."),
        ("a [step] b", "a b", "a b"),
        ("a   b", "a  b", "a  b"),  # three spaces: folded once, to two
        ("end [substeps]", "end ", "end "),  # no last strip
        ("[a] [b] c", " c", " c"),
        ("what? [title] Then", "what?. Then", "what?. Then"),
    ],
)
def test_cleaning(text: str, lm_eval: str, olmes: str) -> None:
    """HellaSwag's marks, with the rules' oddities kept."""
    assert regimes.clean_lm_eval(text) == lm_eval
    assert regimes.clean_olmes(text) == olmes


def test_hellaswag_multiple_choice_is_cleaned_as_a_whole(tmp_path: Path) -> None:
    """A space stays before the line break where ``ctx_b`` is empty, and endings lose the space that ``rc`` keeps."""
    row = {**HELLASWAG[0], "activity_label": "Home", "ctx_a": "Dig. [title] Push.", "ctx_b": ""}
    folder = write_folder(tmp_path, "hellaswag", validation=[{**row, "endings": ["[step] Turn.", "Fly."]}])
    text = prompts("hellaswag:mc::olmes", str(folder), 0, shots=0)[0].context
    assert text == "Home: Dig. Push. \nChoose the best continuation:\n A. Turn.\n B. Fly.\nAnswer:"


# ------------------------------------------------------------------------------------------------------------- prompts


def test_arc_lm_eval(folder: str) -> None:
    """Zero-shot, one joint prompt an option, no twins; labels 1–3 and an option's own leading space are kept."""
    assert prompts("arc_easy", folder, 1) == [
        Prompt("Question: Which is cold?\nAnswer:", " fire", "joint", 0),
        Prompt("Question: Which is cold?\nAnswer:", " ice", "joint", 1),
        Prompt("Question: Which is cold?\nAnswer:", " the sun", "joint", 2),
    ]
    assert prompts("arc_challenge", folder, 2)[1].continuation == "  two"


def test_arc_olmes_forms(folder: str) -> None:
    """``rc``: the options' texts and their twins after ``Answer:``. ``mc``: letters by position, whatever the labels."""
    rc = prompts("arc_easy:rc::olmes", folder, 1, shots=0)
    assert rc[:3] == prompts("arc_easy", folder, 1)
    assert rc[3:] == [
        Prompt("Answer:", text, "joint", i, unconditional=True) for i, text in enumerate([" fire", " ice", " the sun"])
    ]
    mc = prompts("arc_easy:mc::olmes", folder, 1, shots=0)
    context = "Question: Which is cold?\n A. fire\n B. ice\n C. the sun\nAnswer:"
    assert mc == [Prompt(context, text, "joint", i) for i, text in enumerate([" A", " B", " C"])]


def test_arc_olmo1(folder: str) -> None:
    """Tokenised separately, zero-shot, on validation, with twins for PMI."""
    task = make("arc_challenge::olmo1", data_source=folder)
    asked = list(task.prompts(list(task.documents())[3]))
    options = [" sand", " dust", " rain", " ash"]
    context = "Question: What is wet?\nAnswer:"
    assert asked[:4] == [Prompt(context, text, "separate", i) for i, text in enumerate(options)]
    assert asked[4:] == [Prompt("Answer:", text, "separate", i, unconditional=True) for i, text in enumerate(options)]
    protocol = task.protocol()
    assert (protocol["split"], protocol["shots"], protocol["max_length"]) == ("validation", 0, 2048)


def test_hellaswag_rc_in_three_regimes(folder: str) -> None:
    """lm-eval and olmo1 double the full stop before a title, OLMES does not; an ending's own space gives two."""
    lm_eval, olmo1 = prompts("hellaswag", folder, 1), prompts("hellaswag::olmo1", folder, 1)
    assert lm_eval[0].context == "Home and Garden: How to dig.. Take a spade. Push it down."
    assert [one.continuation for one in lm_eval] == ["  Turn the soil.", " Eat the spade.", " Fly.", " Wait."]
    assert [(one.context, one.continuation) for one in olmo1] == [(one.context, one.continuation) for one in lm_eval]
    assert {one.encoding for one in lm_eval} == {"joint"}
    assert {one.encoding for one in olmo1} == {"separate"}
    assert not any(one.unconditional for one in [*lm_eval, *olmo1])
    olmes = prompts("hellaswag::olmes", folder, 1, shots=0)
    assert olmes[0].context == "Home and Garden: How to dig. Take a spade. Push it down."
    assert [one.unconditional for one in olmes] == [False] * 4 + [True] * 4


def test_hellaswag_capitalises_the_second_part(folder: str) -> None:
    """``ctx_b.capitalize()``; brackets go, with the double space that they leave folded."""
    asked = prompts("hellaswag", folder, 0)
    assert asked[0].context == "Baking: A cook stands in a kitchen. The cook"
    assert [one.continuation for one in asked] == [" bakes a loaf.", "  runs away.", " sings.", " is a fish."]


# -------------------------------------------------------------------------------------------------- samples and limits


def test_samples_and_limits() -> None:
    """OLMES samples above 1,500, olmo1 above 1,000; --limit replaces that, and one not below the size gives all."""
    rows = list(range(2000))
    seeded = random.Random(1234).sample(rows, 1000)
    olmes, olmo1, lm_eval = (regimes.REGIMES[name] for name in ("olmes", "olmo1", "lm-eval"))
    assert regimes.select(olmes, rows, None) == seeded
    assert regimes.select(olmes, rows[:1500], None) == rows[:1500]
    assert regimes.select(olmo1, rows[:1500], None) == random.Random(1234).sample(rows[:1500], 1000)
    assert regimes.select(olmo1, rows[:1000], None) == rows[:1000]
    assert regimes.select(lm_eval, rows, None) == rows
    assert regimes.select(olmes, rows, 2000) == regimes.select(olmes, rows, 10**6) == rows
    assert regimes.select(olmes, rows, 7) == random.Random(1234).sample(rows, 7)
    assert regimes.select(lm_eval, rows, 7) == rows[:7]
    assert [regimes.sample_size(olmes, n) for n in (299, 1500, 1501)] == [299, 1500, 1000]


def test_limited_is_fewer_than_the_regime_asks_for(tmp_path: Path) -> None:
    """A thousand of 1,600 is what OLMES asks; 999 is limited, more than a thousand is not."""
    rows = [{**ARC[0], "id": f"A_{i}"} for i in range(1600)]
    folder = str(write_folder(tmp_path, "arc_easy", validation=rows))

    def task(**options: Any) -> Any:
        return make("arc_easy::olmes", data_source=folder, split="validation", shots=0, **options)

    assert [task(limit=limit).limited for limit in (None, 999, 1000, 1001, 5000)] == [False, True, False, False, False]
    assert [len(task(limit=limit).documents()) for limit in (None, 999, 5000)] == [1000, 999, 1600]
    assert task().protocol()["limit"] == 1000
    assert task(limit=5000).protocol()["limit"] is None
    assert task(limit=1000).protocol() == task().protocol()
    assert all(metric.limited for metric in task(limit=3).metrics([row_of(task(limit=3))]))


# ------------------------------------------------------------------------------------------------------------- scoring


def scores(*sums: float) -> list[Scores]:
    return [Scores(value, tokens=i + 1, is_greedy=i == 0, truncated=i) for i, value in enumerate(sums)]


def row_of(task: Any) -> dict[str, Any]:
    document = task.documents()[0]
    return dict(task.score(document, scores(*[-1.0] * len(task.prompts(document)))))


WITH_LENGTHS = {
    "copa::lm-eval": "without the leading space",
    "lambada:bpb::olmes": "with the leading space",
    "codex_humaneval:bpb::olmes": None,
    "mt_mbpp/c:bpb::olmes": None,
}
"""What a task's protocol says of lengths."""


def test_rows_count_lengths_as_the_regime_does(folder: str) -> None:
    """lm-eval without the space before an option, OLMES and olmo1 with it; é is one character and two bytes."""
    for name, characters, size in [
        ("arc_easy", [1, 4, 5, 4, 4], [2, 4, 5, 4, 4]),
        ("arc_easy::olmes", [2, 5, 6, 5, 5], [3, 5, 6, 5, 5]),
        ("arc_easy::olmo1", [2, 5, 6, 5, 5], [3, 5, 6, 5, 5]),
        ("arc_easy:mc::olmes", [2] * 5, [2] * 5),
    ]:
        task = make(name, data_source=folder, shots=0)
        document = list(task.documents())[2]
        row = task.score(document, scores(*range(-len(task.prompts(document)), 0)))
        assert (row["characters"], row["bytes"]) == (characters, size)
        assert (row["index"], row["native_id"], row["gold"]) == (2, "A_3", 4)
        assert row["tokens"] == [1, 2, 3, 4, 5]
        assert row["is_greedy"] == [True, False, False, False, False]


def test_lengths_are_told_only_where_one_space_precedes_answers() -> None:
    """What a protocol says of the space makes definitions of bits per byte of a row; code follows its context at once."""
    told = {name: make(name, data_source="bundle", limit=1).protocol().get("lengths") for name in WITH_LENGTHS}
    assert told == WITH_LENGTHS


def test_predicted_is_by_the_primary_metric(folder: str) -> None:
    """The same sums choose differently by PMI, by characters, by tokens and alone."""
    sums = scores(-4.0, -3.0, -9.0, -5.0)
    twins = scores(-1.0, -1.0, -8.5, -1.0)
    # alone: -3 (1). by characters (with space): wax and honey -4/14, milk -3/5, steel -9/6, clouds -5/7: 0. PMI: -0.5 (2)
    expected = {
        "arc_easy": (sums, 0),
        "arc_easy::olmes": (sums + twins, 0),
        "arc_challenge::olmes": (sums + twins, 2),
        "arc_easy::olmo1": (sums + twins, 2),
        "arc_easy:mc::olmes": (sums, 1),
    }
    for name, (given, position) in expected.items():
        task = make(name, data_source=folder, shots=0)
        assert task.score(next(iter(task.documents())), given)["predicted"] == position, name
    hellaswag = make("hellaswag::olmo1", data_source=folder)  # per token: -4/1, -3/2, -9/3, -5/4
    row = hellaswag.score(next(iter(hellaswag.documents())), sums)
    assert row["predicted"] == 3
    assert "unconditional_sums" not in row


def test_rows_keep_tokens_where_there_are_some(folder: str) -> None:
    """Per-token values become plain lists; what was cut from contexts is summed over all prompts."""
    task = make("arc_easy", data_source=folder)
    kept = [
        Scores(-3.0, 2, False, np.array([-1, -2], np.float32), np.array([5, 6], np.int32), truncated=2)
        for _ in range(4)
    ]
    row = task.score(next(iter(task.documents())), kept)
    assert row["logprobs"] == [[-1.0, -2.0]] * 4
    assert row["token_ids"] == [[5, 6]] * 4
    assert type(row["token_ids"][0][0]) is int
    assert row["truncated"] == 8
    assert "logprobs" not in task.score(next(iter(task.documents())), scores(-1, -2, -3, -4))


def test_metrics_of_a_regime(folder: str) -> None:
    """Names, primary, chance and identity of what each regime reports."""
    for name, names, primary in [
        ("arc_easy", ["acc", "acc_norm", "acc_bytes", "acc_per_token", "bits_per_byte"], "acc_norm"),
        (
            "arc_challenge::olmes",
            ["acc", "acc_norm", "acc_bytes", "acc_per_token", "acc_pmi", "bits_per_byte"],
            "acc_pmi",
        ),
        ("arc_challenge:mc::olmes", ["acc", "bits_per_byte"], "acc"),
        ("hellaswag::olmo1", ["acc", "acc_norm", "acc_bytes", "acc_per_token", "bits_per_byte"], "acc_per_token"),
        ("hellaswag::olmes", ["acc", "acc_norm", "acc_bytes", "acc_per_token", "acc_pmi", "bits_per_byte"], "acc_norm"),
    ]:
        task = make(name, data_source=folder, shots=0)
        metrics = task.metrics([row_of(task)])
        assert [metric.metric for metric in metrics] == names
        assert [metric.metric for metric in metrics if metric.primary] == [primary]
        assert metrics[0].chance == 0.25
        assert {(m.task, m.form, m.regime) for m in metrics} == {(task.name.base, task.name.form, task.name.regime)}


def test_bits_per_byte_of_the_gold_option(folder: str) -> None:
    """−sum / (bytes · ln 2): 14 ln 2 nats on `` wax and honey`` (14 bytes with its space) is one bit a byte."""
    task = make("arc_easy::olmes", data_source=folder, shots=0)
    row = task.score(next(iter(task.documents())), scores(-14 * float(np.log(2)), *[-1.0] * 7))
    bits = next(metric for metric in task.metrics([row]) if metric.metric == "bits_per_byte")
    assert bits.value == pytest.approx(1.0, abs=1e-12)


# -------------------------------------------------------------------------------------------------------------- errors


def test_wrong_options_are_said_plainly(folder: str, tmp_path: Path) -> None:
    """Impossible numbers, a split without answers, an empty one, and scores that do not fit."""
    with pytest.raises(UsageError):
        make("arc_easy", data_source=folder, shots=-1)
    with pytest.raises(UsageError):
        make("arc_easy", data_source=folder, limit=0)
    write_folder(tmp_path, "hellaswag", test=[{**HELLASWAG[0], "label": ""}], validation=[])
    with pytest.raises(DataUnavailable, match="no gold answer"):
        list(make("hellaswag", data_source=str(tmp_path), split="test").documents())
    with pytest.raises(DataUnavailable, match="is empty"):
        list(make("hellaswag", data_source=str(tmp_path)).documents())
    task = make("arc_easy", data_source=folder)
    with pytest.raises(ScoringError):
        task.score(next(iter(task.documents())), scores(-1.0))
