"""``data: task:NAME``: what is trained is what is scored, on another split; and a dry run keeps the rows that it made."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import evalkit
from evalkit.comparison.compare import compare_runs
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import make_task
from evalkit.task import TaskOptions
from evalkit.train import finetune, setup
from evalkit.train.finetune import FineTuned, prepare_only
from evalkit.train.labels import IGNORED
from evalkit.train.prepare import find_prepared
from evalkit.train.recipe import Recipe
from evalkit.train.scoring import evaluation_index
from tests.made.training_inputs import prepare_run

Make = Callable[..., Recipe]
ANIMALS = ("cat", "dog", "horse", "sheep", "goat", "crow", "frog", "snake", "whale", "mouse")
OTHERS = ("hammer", "saw", "drill", "oak", "rose", "fern", "red", "blue", "green", "brown", "spade", "pliers")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A folder of data sets with one of ARC's shape whose right answers are animals: 160 rows to train on, 80 to test."""
    draw = random.Random(3)
    folder = tmp_path / "sets" / "allenai" / "ai2_arc" / "ARC-Easy"
    folder.mkdir(parents=True)
    for split, count in (("train", 160), ("test", 80)):
        rows = []
        for number in range(count):
            options = [draw.choice(ANIMALS), *draw.sample(OTHERS, 3)]
            right = options[0]
            draw.shuffle(options)
            rows.append(
                {
                    "id": f"{split}-{number}",
                    "question": f"Item {split} {number}: of these four things, which one eats and sleeps and has a mother and a father?",
                    "choices": {"text": options, "label": ["A", "B", "C", "D"]},
                    "answerKey": "ABCD"[options.index(right)],
                }
            )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "sets"


def test_training_on_the_train_split_improves_the_test_split(small_model: Path, questions: Path) -> None:
    """A random model learns the task, and the report's own test says that it got better."""
    tuned = evalkit.fine_tune(
        name="learned", model=str(small_model), data="task:arc_easy", tasks=["arc_easy"], data_source=str(questions), epochs=6,
        batch=8, batch_of="examples", micro_batch=2, learning_rate=5e-3, max_length=128, held_out=0, threads=1, device="cpu",
    )  # fmt: skip
    assert isinstance(tuned, FineTuned)
    part = tuned.facts["data"][0]
    assert (part["rows"], part["used"], part["dropped"]) == (160, 160, 0)
    assert tuned.facts["contamination"]["checked"]
    (before,), (after,) = tuned.before, tuned.after
    scores = [run.metrics.query("metric == 'acc_norm'").iloc[0] for run in (before, after)]
    assert [row["split"] for row in scores] == ["test", "test"]
    assert scores[0]["n"] == scores[1]["n"] == 80
    assert scores[1]["value"] > scores[0]["value"] + 0.3
    sentences = compare_runs([before, after]).verdict()
    assert any(line.startswith("Better: arc_easy:rc::lm-eval +") for line in sentences), sentences
    assert tuned.verdict() == sentences


@pytest.mark.parametrize("name", ["arc_easy", "arc_easy:mc::olmes", "arc_easy::olmo1"])
@pytest.mark.parametrize("chat", [False, True])
def test_the_tokens_that_are_scored(name: str, chat: bool, questions: Path, recipe: Make) -> None:
    """Rows are the token ids that scoring feeds for the right option, labels those that it scores; with chat, in the template."""
    made = recipe(
        data=f"task:{name}",
        data_source=str(questions),
        packing=False,
        held_out=0,
        max_length=256,
        apply_chat_template=chat,
    )
    data, base = prepare_run(made)
    found = {(tuple(row["input_ids"]), tuple(row["labels"])) for row in data.rows()}
    tokenizer = setup.open_tokenizer(base)
    tokenizer.chat_template = data.card["template"]["jinja"]
    encoder = Encoder(Tokenizer(tokenizer), 10_000, chat=chat)
    task = make_task(name, TaskOptions(split="train", shots=0, limit=10**6, data_source=str(questions)))
    want = set()
    for document in task.documents():
        prompt = task.prompts(document)[document.fields["gold"]]
        (request,) = encoder.encode([prompt])[0].requests
        ids = list(request.tokens)
        want.add((tuple(ids), tuple([IGNORED] * request.start + ids[request.start :])))
    assert len(want) == 160
    assert found == want


def test_only_what_is_scored_counts_as_evaluation_text(questions: Path, recipe: Make) -> None:
    """A question of the test split is left out of training data; those of the train split, also as examples before questions, stay."""
    made = recipe(data="task:arc_easy", tasks=["arc_easy::olmes"], data_source=str(questions))
    index = evaluation_index(made, lambda text: None)
    assert index is not None
    ask = "Question: Item {}: of these four things, which one eats and sleeps and has a mother and a father?"
    assert index.find(ask.format("test 7")) is not None
    assert index.find(ask.format("train 7")) is None
    rows = [json.loads(line) for line in next(questions.rglob("train.jsonl")).read_text().splitlines()]
    rows[5]["question"] = "Item test 7: of these four things, which one eats and sleeps and has a mother and a father?"
    next(questions.rglob("train.jsonl")).write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = finetune.find_base(made)
    tuned = finetune.prepare(
        made, setup.open_tokenizer(base), Path("prepared"), index, note=lambda text: None
    )  # fmt: skip
    assert tuned.card["data"][0]["dropped"] == {"evaluation text": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "task:arc_easy,split=test"}, "is what arc_easy is scored on"),
        ({"data": "task:arc_easyy"}, "Did you mean 'arc_easy'"),
        ({"data": "task:paloma/wikitext_103"}, "has texts without answers"),
        ({"data": "task:arc_easy", "method": "dpo"}, "no preference pairs"),
    ],
)
def test_splits_that_are_refused(
    fields: dict[str, str], message: str, questions: Path, small_model: Path, recipe: Make
) -> None:
    """What cannot be trained on is one sentence."""
    with pytest.raises(UsageError, match=message):
        prepare_run(recipe(**fields, data_source=str(questions)))


def test_a_split_that_is_not_there(recipe: Make) -> None:
    """The offline bundle has no train split of ARC, and says where one is."""
    with pytest.raises(DataUnavailable, match=r"no train split of allenai/ai2_arc.*--data-source hub, or a folder"):
        prepare_run(recipe(data="task:arc_easy", data_source="bundle"))


# -------------------------------------------------------------------------------------------------------------- dry run


def test_a_dry_run_keeps_its_rows(recipe: Make, chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run after a dry run tokenises nothing, unless what makes the rows has changed; a changed rate alone is no other recipe."""
    made = recipe(held_out=0, max_steps=2)
    lines = prepare_only(made)
    assert "2 steps of 4" in lines[0]
    assert f"is in {made.run_folder}/data" in lines[-1]
    card = made.run_folder / "data" / "card.json"
    written = card.stat().st_mtime_ns
    calls: list[str] = []
    prepare = finetune.prepare
    monkeypatch.setattr(finetune, "prepare", lambda *args, **more: calls.append("again") or prepare(*args, **more))  # type: ignore[func-returns-value]
    faster = made.model_copy(update={"learning_rate": 2e-3})
    assert faster.hash != made.hash
    tuned = finetune.fine_tune_one(faster)
    assert calls == []
    assert card.stat().st_mtime_ns == written
    assert len(tuned.log) == 2
    with pytest.raises(UsageError, match=r"a different recipe \(learning_rate was 0\.002 and is 0\.001\)"):
        prepare_only(made)
    other = recipe(name="other", held_out=0)
    prepare_only(other)
    prepare_only(other.model_copy(update={"max_length": 64}))
    assert calls == ["again", "again"]
    prepare_only(other.model_copy(update={"max_length": 64, "epochs": 7.0, "batch": 8}))
    assert calls == ["again", "again"]
    chats.write_text("\n".join(chats.read_text().splitlines()[:20]) + "\n")
    prepare_only(other.model_copy(update={"max_length": 64}))
    assert calls == ["again"] * 3
    data = find_prepared(other.run_folder / "data")
    assert data is not None
    assert data.card["data"][0]["rows"] == 20
