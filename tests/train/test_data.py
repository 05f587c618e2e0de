"""Data: forms and faults, mixtures, duplicates, evaluation text, held-out examples, and what is counted of it all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalkit.domains.paragraphs import ParagraphIndex, segments
from evalkit.encoding import chat
from evalkit.encoding.chat import EndlessTemplate
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import parse_task_name
from evalkit.task import TaskOptions
from evalkit.train import builtin_sets as invented
from evalkit.train.labels import IGNORED
from evalkit.train.prepare import gather, prepare
from evalkit.train.recipe import DataItem, Recipe
from evalkit.train.sources import ReadStatistics, read_examples, to_example
from evalkit.train.templates import Template
from tests.made.training_inputs import prepare_run, write_chats
from tests.made.word_tokenizer import make_tokenizer

Make = Callable[..., Recipe]
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def silent(text: str) -> None: ...


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"messages": CHAT}, ["q", "a"]),
        ({"prompt": "q", "completion": "a"}, ["q", "a"]),
        ({"prompt": CHAT[:1], "completion": CHAT[1:]}, ["q", "a"]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, ["q", "a"]),
        ({"messages": [{"role": "user", "content": "\ud800"}, CHAT[1]]}, ["\ufffd", "a"]),
    ],
    ids=["messages", "prompt and completion", "both as messages", "conversations", "half a surrogate pair"],
)
def test_forms(row: dict[str, Any], texts: list[str]) -> None:
    """Every form of a row becomes the same conversation."""
    example = to_example(row, pairs=False)
    assert [message["content"] for message in example.messages] == texts
    assert [message["role"] for message in example.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "better", "rejected": "worse"},
        {
            "chosen": [CHAT[0], {"role": "assistant", "content": "better"}],
            "rejected": [CHAT[0], {"role": "assistant", "content": "worse"}],
        },
        {
            "prompt": "q",
            "chosen": [{"role": "assistant", "content": "better"}],
            "rejected": [{"role": "assistant", "content": "worse"}],
        },
    ],
    ids=["texts", "conversations", "a prompt and answers"],
)
def test_pairs(row: dict[str, Any]) -> None:
    """Every form of a preference pair becomes a conversation that ends in the better answer, and the worse one."""
    example = to_example(row, pairs=True)
    assert [message["content"] for message in example.messages] == ["q", "better"]
    assert example.rejected == "worse"


@pytest.mark.parametrize(
    ("row", "pairs", "reason"),
    [
        ({"text": "x"}, False, "neither 'messages' nor"),
        ({"messages": CHAT[:1]}, False, "no answer"),
        ({"messages": [{"role": "tool", "content": "x"}, CHAT[1]]}, False, "role 'tool'"),
        ({"messages": [{"role": "user", "content": None}, CHAT[1]]}, False, "no text"),
        ({"messages": "q"}, False, "not a list"),
        (None, False, "not an object"),
        ({"messages": CHAT}, True, "no 'chosen'"),
        ({"prompt": "q", "chosen": "same", "rejected": " same"}, True, "are the same"),
        ({"chosen": [{"role": "user", "content": "x"}, CHAT[1]], "rejected": CHAT}, True, "differ before"),
    ],
)
def test_faults(row: Any, pairs: bool, reason: str) -> None:
    """A row that cannot be used is refused with a reason that holds nothing of its text."""
    with pytest.raises(ValueError, match=reason):
        to_example(row, pairs=pairs)


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    """A broken line, an unknown role and an empty answer are left out, each counted with the first row's number."""
    file = tmp_path / "data.jsonl"
    lines = [
        json.dumps({"messages": CHAT}),
        "{",
        json.dumps({"messages": CHAT[:1]}),
        "",
        json.dumps({"messages": CHAT[:1]}),
    ]
    file.write_text("\n".join(lines))
    statistics = ReadStatistics()
    assert len(list(read_examples(DataItem(dataset=str(file)), pairs=False, statistics=statistics))) == 1
    assert statistics.rows == 4
    assert dict(statistics.broken) == {"a row is not an object": 1, "a conversation has no answer": 2}
    assert statistics.first == {"a row is not an object": 2, "a conversation has no answer": 3}
    assert statistics.identity.startswith("sha256:")


STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    "{% if messages[0].role != 'user' %}{{ raise_exception('the user begins') }}{% endif %}"
    "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'assistant' else '|' }}{% endfor %}"
)


def test_conversations_that_the_template_refuses(tmp_path: Path) -> None:
    """Each is left out and counted with its reason and first row; the others are used. Of pairs both answers are checked."""
    inner = make_tokenizer()
    inner.chat_template = STRICT
    template = Template("tokenizer", inner)
    system, tool = {"role": "system", "content": "s"}, {"role": "tool", "content": "t"}
    empty, called = {"role": "assistant", "content": ""}, {"role": "assistant", "content": None, "tool_calls": [{}]}
    talks = [CHAT, CHAT[1:], [system, *CHAT], [*CHAT, tool], [CHAT[0], called], [*CHAT, CHAT[0], empty], CHAT]
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(json.dumps({"messages": messages}) for messages in talks))
    statistics = ReadStatistics()
    found = list(read_examples(DataItem(dataset=str(file)), pairs=False, statistics=statistics, template=template))
    assert [example.id for example in found] == ["1", "6", "7"]
    assert {reason[:64]: statistics.first[reason] for reason in statistics.broken} == {
        "the chat template refuses a conversation (the user begins)": 2,
        "the chat template refuses a conversation (no system message)": 3,
        "a message has the role 'tool', which is not one of system, user,": 4,
        "a message has no text": 5,
    }
    talks = [[system], [CHAT[0]], CHAT, [CHAT[1]]]
    file.write_text("\n".join(json.dumps({"prompt": talk, "chosen": "a", "rejected": "b"}) for talk in talks))
    statistics = ReadStatistics()
    found = list(read_examples(DataItem(dataset=str(file)), pairs=True, statistics=statistics, template=template))
    assert [example.id for example in found] == ["2", "3"]
    assert sorted(statistics.first.values()) == [1, 4]
    file.write_text(json.dumps({"prompt": [system], "chosen": "a", "rejected": "b"}))
    with pytest.raises(UsageError, match=r"nothing to train on: .*\(no system message\)\. Choose another --template\."):
        list(read_examples(DataItem(dataset=str(file)), pairs=True, statistics=ReadStatistics(), template=template))


def test_an_endless_template_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of a row: the first conversation says so, and the others are not tried."""
    monkeypatch.setattr(chat, "SECONDS", 0.3)
    inner = make_tokenizer()
    inner.chat_template = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    file = write_chats(tmp_path / "data.jsonl", 40)
    statistics = ReadStatistics()
    with pytest.raises(EndlessTemplate, match="the checkpoint does not terminate"):
        list(
            read_examples(
                DataItem(dataset=str(file)), pairs=False, statistics=statistics, template=Template("tokenizer", inner)
            )
        )
    assert statistics.rows == 1


def test_parquet_and_folders(tmp_path: Path) -> None:
    """A folder's JSONL and Parquet files are read in the order of their names."""
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"messages": [CHAT], "id": ["from parquet"]}), folder / "a.parquet")
    write_chats(folder / "b.jsonl", 2)
    found = list(read_examples(DataItem(dataset=str(folder)), pairs=False, statistics=ReadStatistics()))
    assert [example.id for example in found] == ["from parquet", "chat-0", "chat-1"]


@pytest.mark.parametrize("name", ["nowhere.jsonl", "./nowhere", "nowhere"])
def test_no_such_data(name: str) -> None:
    """A file that is not there is no hub repository."""
    with pytest.raises(UsageError, match="neither a file, a folder"):
        list(read_examples(DataItem(dataset=name), pairs=False, statistics=ReadStatistics()))


def test_the_hub_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hub its data are one sentence, not a wait."""
    monkeypatch.setattr("evalkit.data.hub.offline_requested", lambda: False)
    monkeypatch.setattr("evalkit.data.hub.reachable", lambda: False)
    monkeypatch.setattr("evalkit.checkpoints.hub.obstacle", lambda: "the Hugging Face hub cannot be reached")
    with pytest.raises(DataUnavailable, match="cannot be reached"):
        list(read_examples(DataItem(dataset="allenai/tulu-v2-sft-mixture"), pairs=False, statistics=ReadStatistics()))


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    """A file that is no Parquet is an error that names it."""
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataUnavailable, match=r"x\.parquet"):
        list(read_examples(DataItem(dataset=str(tmp_path / "x.parquet")), pairs=False, statistics=ReadStatistics()))


def test_mixtures(recipe: Make, tmp_path: Path) -> None:
    """Counts, weights below and above one, duplicates within and across data sets."""
    one = write_chats(tmp_path / "one.jsonl", 20)
    two = write_chats(tmp_path / "two.jsonl", 20, "word")
    again = tmp_path / "again.jsonl"
    again.write_text(one.read_text() + one.read_text().replace("Say the number", "Say  the number"))
    made = recipe(
        data=[{"dataset": str(one), "count": 7}, f"{two},weight=2.5", {"dataset": str(again)}],
        held_out=0,
        deduplicate=True,
    )
    with pytest.raises(UsageError, match="nothing to train on"):
        gather(
            made.model_copy(update={"data": [*made.data, DataItem(dataset=str(empty(tmp_path)))]}), None, note=silent
        )
    parts = gather(made, None, note=silent)
    assert [len(part.used) for part in parts] == [7, 50, 0]
    assert parts[2].dropped == {"duplicate": 40}
    assert len({example.id for example in parts[1].used}) == 20
    kept = gather(made.model_copy(update={"deduplicate": False}), None, note=silent)
    assert len(kept[2].used) == 40
    assert [example.id for example in gather(made, None, note=silent)[0].used] == [
        example.id for example in parts[0].used
    ]
    other = gather(made.model_copy(update={"seed": 1}), None, note=silent)
    assert [example.id for example in other[0].used] != [example.id for example in parts[0].used]


def empty(folder: Path) -> Path:
    file = folder / "empty.jsonl"
    file.write_text("")
    return file


def test_held_out_examples_are_trained_on_by_nobody(recipe: Make) -> None:
    """What is scored afterwards is not among the rows, and the same seed holds out the same."""
    made = recipe(held_out=4)
    (part,) = gather(made, None, note=silent)
    assert len(part.held_out) == 4
    assert not {example.key for example in part.held_out} & {example.key for example in part.used}
    assert len(part.held_out) + len(part.used) == 40
    (again,) = gather(made, None, note=silent)
    assert [example.id for example in again.held_out] == [example.id for example in part.held_out]


def test_segments_of_unicode() -> None:
    """UAX #29 as its examples have it: apostrophes and decimal points join, ideographs and emoji stand alone."""
    assert segments("The quick (“brown”) fox can’t jump 32.3 feet, right?") == [
        "The", "quick", "(", "“", "brown", "”", ")", "fox", "can’t", "jump", "32.3", "feet", ",", "right", "?",
    ]  # fmt: skip
    assert segments("日本 👩🏽‍🚀!") == ["日", "本", "👩🏽‍🚀", "!"]


def test_paragraphs_that_count() -> None:
    """Thirteen segments are enough and twelve are not; punctuation and emoji alone never are."""
    thirteen = "a b c d e f g h i j k l m"
    index = ParagraphIndex([f"short line\n  {thirteen}  \n" + thirteen[:-2] + "\n" + "! " * 20 + "\n" + "👍 " * 20])
    assert len(index) == 1
    assert index.find(f"before\n{thirteen}\nafter") == thirteen
    assert index.find(thirteen[:-2]) is None
    assert index.find(f"x {thirteen}") is None, "a part of a longer paragraph is no exact paragraph"


def test_evaluation_text_is_removed_and_counted(recipe: Make, tmp_path: Path) -> None:
    """A training example with one paragraph of evaluation text goes whole, and the data card says how many went."""
    evaluated = "The seven small foxes that live beside the old mill never once came out before the evening bell."
    lines = [
        {
            "id": "clean",
            "messages": [
                {"role": "user", "content": "Tell me of foxes."},
                {"role": "assistant", "content": "They are red."},
            ],
        },
        {
            "id": "dirty",
            "messages": [
                {"role": "user", "content": f"Go on:\n{evaluated}\n"},
                {"role": "assistant", "content": "At last."},
            ],
        },
        {
            "id": "answer",
            "messages": [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": evaluated}],
        },
    ]
    file = tmp_path / "some.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = recipe(data=str(file), held_out=0)
    index = ParagraphIndex([f"Chapter one\n{evaluated}"])
    from evalkit.checkpoints.resolve import resolve
    from evalkit.train import setup

    (base,) = resolve(made.model)
    data = prepare(made, setup.open_tokenizer(base), made.run_folder / "data", index, note=silent)
    assert data.card["contamination"]["removed"] == 2
    assert data.card["contamination"]["paragraphs"] == 1
    assert data.card["data"][0]["dropped"] == {"evaluation text": 2}
    assert data.card["data"][0]["used"] == len(data.rows()) == 1


def test_the_data_card(recipe: Make) -> None:
    """Rows, tokens, learned tokens and lengths are those of the rows that were written."""
    made = recipe(max_length=32, packing=False, held_out=0)
    data, _ = prepare_run(made)
    rows = data.rows()
    part = data.card["data"][0]
    assert part["rows"] == 40
    assert part["used"] + part["held_out"] + sum(part["dropped"].values()) == 40
    assert part["used"] == len(rows)
    assert part["tokens"] == sum(len(row["input_ids"]) for row in rows)
    assert part["learned_tokens"] == sum(label != IGNORED for row in rows for label in row["labels"][1:])
    assert max(len(row["input_ids"]) for row in rows) <= 32
    assert data.card["lengths"]["truncated"] > 0
    assert data.card["lengths"]["longest"] > 32


def test_packing_keeps_every_token(recipe: Make) -> None:
    """Packed rows hold each example once and whole."""
    loose, _ = prepare_run(recipe(name="loose", packing=False))
    packed, _ = prepare_run(recipe(name="packed"))
    examples = sorted(row["input_ids"] for row in loose.rows())
    found = []
    for row in packed.rows():
        start = 0
        for length in row["seq_lengths"]:
            found.append(row["input_ids"][start : start + length])
            start += length
        assert start == len(row["input_ids"]) <= 128
    assert sorted(found) == examples
    assert len(packed.rows()) < len(loose.rows())


def test_pairs_as_tokens(recipe: Make, pairs: Path, tokenizer: Any) -> None:
    """The prompt ends where the answer begins, and both answers end with the end token."""
    data, _ = prepare_run(recipe(method="dpo", data=str(pairs)))
    row = data.rows()[0]
    text = tokenizer.decode(row["prompt_ids"])
    number = int(text.split("after ")[1].split("?")[0])
    assert text == f"<|endoftext|><|user|>\nWhat comes after {number}?\n<|assistant|>\n"
    assert tokenizer.decode(row["chosen_ids"]) == f"{number + 1} comes next.<|endoftext|>"
    assert tokenizer.decode(row["rejected_ids"]) == f"{number + 2} is it, perhaps.<|endoftext|>"


def test_invented_sets_are_what_they_were() -> None:
    """The same rows on every machine: all distinct, sums that are right, worse answers that are other answers."""
    rows = list(invented.basics())
    assert len(rows) == len({json.dumps(row["messages"]) for row in rows}) == invented.ROWS
    sums = 0
    for row in rows:
        for asked, told in zip(row["messages"], row["messages"][1:], strict=False):
            words = asked["content"].rstrip("?.").split()
            if asked["role"] == "user" and ("plus" in words or "minus" in words):
                place = words.index("plus") if "plus" in words else words.index("minus")
                a, b = int(words[place - 1]), int(words[place + 1])
                assert told["content"] == f"The answer is {a + b if 'plus' in words else a - b}."
                sums += 1
    assert sums > 300
    for row in invented.basics(pairs=True):
        assert row["chosen"][:-1] == row["rejected"][:-1]
        assert row["chosen"][-1] != row["rejected"][-1]


def test_held_out_texts_hold_any_line_separator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A held-out answer with U+2028, U+0085 or a form feed is read back as one document, to the letter."""
    from evalkit.tasks.instructions import INSTRUCTIONS, Instructions, register_held_out

    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "home"))
    answer = "one\u2028two\x85three\x0cfour\nfive"
    line = {"id": "1", "domain": "d", "turns": [["q", answer]], "end": "<end>"}
    file = tmp_path / "held.jsonl"
    file.write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    name = register_held_out(INSTRUCTIONS, "signs", file)
    (document,) = Instructions(parse_task_name(name), TaskOptions()).documents()
    assert document.fields["text"] == answer
