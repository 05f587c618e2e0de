"""Instruction sets generated locally, so that fine-tuning can be tried offline. They contain nothing that a suite scores.

``basics`` has simple questions with one correct answer (sums, order, letters, lists, opposites). As preference pairs, the chosen
answer is correct and the rejected one is wrong in the same form. One version gives identical rows on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

VERSION = 1
ROWS = 4000
SEED = 60_411

ANIMALS = ("cat", "dog", "horse", "sheep", "goat", "crow", "frog", "snake", "whale", "mouse", "fox", "bear")
PLANTS = ("oak", "rose", "fern", "moss", "pine", "lily", "wheat", "reed", "birch", "clover")
TOOLS = ("hammer", "saw", "drill", "wrench", "chisel", "rake", "spade", "pliers")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "grey")
OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("old", "young"), ("fast", "slow"), ("open", "closed"), ("dark", "light"),
    ("wet", "dry"), ("early", "late"), ("full", "empty"), ("hard", "soft"), ("near", "far"), ("rich", "poor"),
)  # fmt: skip
KINDS: Mapping[str, tuple[str, ...]] = {"animal": ANIMALS, "plant": PLANTS, "tool": TOOLS, "colour": COLOURS}
WORDS = (*ANIMALS, *PLANTS, *TOOLS, *COLOURS)
SYSTEM = "You answer in as few words as you can."

QuestionAnswers = tuple[str, str, str]
"""Question, right answer, wrong answer."""


def _sum(rng: random.Random) -> QuestionAnswers:
    a, b = rng.randint(1, 40), rng.randint(1, 40)
    sign, answer = rng.choice((("plus", a + b), ("minus", a - b)))
    question = rng.choice(("What is {a} {sign} {b}?", "Work out {a} {sign} {b}.", "How much is {a} {sign} {b}?"))
    wrong = answer + rng.choice((-11, -10, -3, -2, -1, 1, 2, 3, 10, 11))
    return question.format(a=a, sign=sign, b=b), f"The answer is {answer}.", f"The answer is {wrong}."


def _larger(rng: random.Random) -> QuestionAnswers:
    a, b = rng.sample(range(1, 1000), 2)
    return (
        f"Which number is larger, {a} or {b}?",
        f"{max(a, b)} is larger than {min(a, b)}.",
        f"{min(a, b)} is larger than {max(a, b)}.",
    )


def _kind(rng: random.Random) -> QuestionAnswers:
    kind, other = rng.sample(list(KINDS), 2)
    word = rng.choice(KINDS[kind])
    question = rng.choice(("What kind of thing is {word}?", "Is {word} an animal, a plant, a tool or a colour?"))
    return question.format(word=word), f"It is {_article(kind)} {kind}.", f"It is {_article(other)} {other}."


def _opposite(rng: random.Random) -> QuestionAnswers:
    pair = rng.choice(OPPOSITES)
    word, answer = pair if rng.random() < 0.5 else pair[::-1]
    wrong = rng.choice([other for two in OPPOSITES for other in two if other not in pair])
    return (
        f"What is the opposite of {word}?",
        f"The opposite of {word} is {answer}.",
        f"The opposite of {word} is {wrong}.",
    )


def _list(rng: random.Random) -> QuestionAnswers:
    words = rng.sample(WORDS, rng.randint(3, 5))
    lines = "\n".join(f"- {word}" for word in words)
    wrong = "\n".join(f"- {word}" for word in (*words[:-1], rng.choice([word for word in WORDS if word not in words])))
    return f"Write these words as a list: {', '.join(words)}.", lines, wrong


def _sort(rng: random.Random) -> QuestionAnswers:
    words = rng.sample(WORDS, rng.randint(3, 5))
    right = sorted(words)
    wrong = right[1:] + right[:1]
    return f"Put in the order of the alphabet: {', '.join(words)}.", f"{', '.join(right)}.", f"{', '.join(wrong)}."


def _capital(rng: random.Random) -> QuestionAnswers:
    word = rng.choice(WORDS)
    return f"Write {word} in capital letters.", word.upper(), word.title()


def _letter(rng: random.Random) -> QuestionAnswers:
    word = rng.choice(WORDS)
    position, letter = rng.choice((("first", word[0]), ("last", word[-1])))
    wrong = rng.choice([other for other in "abcdefghijklmnopqrstuvwxyz" if other != letter])
    return (
        f"What is the {position} letter of {word}?",
        f"The {position} letter of {word} is {letter}.",
        f"The {position} letter of {word} is {wrong}.",
    )


GENERATORS: tuple[Callable[[random.Random], QuestionAnswers], ...] = (
    _sum,
    _larger,
    _kind,
    _opposite,
    _list,
    _sort,
    _capital,
    _letter,
)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def basics(pairs: bool = False) -> Iterator[dict[str, Any]]:
    """`ROWS` distinct questions: ``messages`` (one in four with a system prompt, one in five of two turns), or pairs."""
    rng = random.Random(SEED)  # noqa: S311
    seen: set[str] = set()
    number = 0
    while number < ROWS:
        system = [{"role": "system", "content": SYSTEM}] if rng.random() < 0.25 else []
        questions = [rng.choice(GENERATORS)(rng) for _ in range(2 if rng.random() < 0.2 else 1)]
        key = "\n".join(question for question, _, _ in questions)
        if key in seen:
            continue
        seen.add(key)
        messages = list(system)
        for question, right, _ in questions:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": right}]
        number += 1
        if not pairs:
            yield {"id": f"basics-{number}", "messages": messages}
        else:
            worse = [*messages[:-1], {"role": "assistant", "content": questions[-1][2]}]
            yield {"id": f"basics-{number}", "chosen": messages, "rejected": worse}


def trivia(pairs: bool = False) -> Iterator[dict[str, Any]]:
    """Short questions and answers from the offline bundle (Jeopardy!, Natural Questions) that no suite scores."""
    from evalkit.data import Bundle
    from evalkit.errors import UsageError

    if pairs:
        raise UsageError("'trivia' has no preference pairs. Use 'basics'.")
    bundle = Bundle.open()
    for number, line in enumerate(bundle.requests("jeopardy/bpb_5shot")):
        doc = line["doc"]
        question = doc["query"].partition("\nQuestion: ")[2].removesuffix("\nAnswer:")
        yield _question(f"jeopardy-{number}", f"{doc['category'].capitalize()}: {question}", doc["answer"])
    for number, line in enumerate(bundle.requests("naturalqs_open/bpb_5shot")):
        doc = line["doc"]
        yield _question(f"naturalqs-{number}", doc["question"], doc["answers"][0])


def _question(name: str, question: str, answer: str) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


SETS: Mapping[str, Callable[[bool], Iterator[dict[str, Any]]]] = {"basics": basics, "trivia": trivia}
"""Built-in names that ``data`` accepts besides files and repositories."""


def generate(name: str, *, pairs: bool) -> Iterator[dict[str, Any]]:
    """The rows of a built-in set."""
    return SETS[name](pairs)
