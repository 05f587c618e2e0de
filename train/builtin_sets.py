"""Instruction sets that evalkit makes itself, so that fine-tuning can be tried anywhere: nothing is fetched, and nothing
is taken from what a suite asks.

``basics`` asks for small things with one right answer (sums, order, letters, lists, opposites). As preference pairs its
better answer is the right one and its worse one is wrong in the same form. The same version gives the same rows on every
machine.
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

Asked = tuple[str, str, str]
"""Question, right answer, wrong answer."""


def _sum(draw: random.Random) -> Asked:
    a, b = draw.randint(1, 40), draw.randint(1, 40)
    sign, answer = draw.choice((("plus", a + b), ("minus", a - b)))
    question = draw.choice(("What is {a} {sign} {b}?", "Work out {a} {sign} {b}.", "How much is {a} {sign} {b}?"))
    wrong = answer + draw.choice((-11, -10, -3, -2, -1, 1, 2, 3, 10, 11))
    return question.format(a=a, sign=sign, b=b), f"The answer is {answer}.", f"The answer is {wrong}."


def _larger(draw: random.Random) -> Asked:
    a, b = draw.sample(range(1, 1000), 2)
    return (
        f"Which number is larger, {a} or {b}?",
        f"{max(a, b)} is larger than {min(a, b)}.",
        f"{min(a, b)} is larger than {max(a, b)}.",
    )


def _kind(draw: random.Random) -> Asked:
    kind, other = draw.sample(list(KINDS), 2)
    word = draw.choice(KINDS[kind])
    question = draw.choice(("What kind of thing is {word}?", "Is {word} an animal, a plant, a tool or a colour?"))
    return question.format(word=word), f"It is {_article(kind)} {kind}.", f"It is {_article(other)} {other}."


def _opposite(draw: random.Random) -> Asked:
    pair = draw.choice(OPPOSITES)
    word, answer = pair if draw.random() < 0.5 else pair[::-1]
    wrong = draw.choice([other for two in OPPOSITES for other in two if other not in pair])
    return (
        f"What is the opposite of {word}?",
        f"The opposite of {word} is {answer}.",
        f"The opposite of {word} is {wrong}.",
    )


def _list(draw: random.Random) -> Asked:
    words = draw.sample(WORDS, draw.randint(3, 5))
    lines = "\n".join(f"- {word}" for word in words)
    wrong = "\n".join(f"- {word}" for word in (*words[:-1], draw.choice([word for word in WORDS if word not in words])))
    return f"Write these words as a list: {', '.join(words)}.", lines, wrong


def _sort(draw: random.Random) -> Asked:
    words = draw.sample(WORDS, draw.randint(3, 5))
    right = sorted(words)
    wrong = right[1:] + right[:1]
    return f"Put in the order of the alphabet: {', '.join(words)}.", f"{', '.join(right)}.", f"{', '.join(wrong)}."


def _capital(draw: random.Random) -> Asked:
    word = draw.choice(WORDS)
    return f"Write {word} in capital letters.", word.upper(), word.title()


def _letter(draw: random.Random) -> Asked:
    word = draw.choice(WORDS)
    place, letter = draw.choice((("first", word[0]), ("last", word[-1])))
    wrong = draw.choice([other for other in "abcdefghijklmnopqrstuvwxyz" if other != letter])
    return (
        f"What is the {place} letter of {word}?",
        f"The {place} letter of {word} is {letter}.",
        f"The {place} letter of {word} is {wrong}.",
    )


ASKERS: tuple[Callable[[random.Random], Asked], ...] = (
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
    draw = random.Random(SEED)  # noqa: S311
    seen: set[str] = set()
    number = 0
    while number < ROWS:
        system = [{"role": "system", "content": SYSTEM}] if draw.random() < 0.25 else []
        asked = [draw.choice(ASKERS)(draw) for _ in range(2 if draw.random() < 0.2 else 1)]
        key = "\n".join(question for question, _, _ in asked)
        if key in seen:
            continue
        seen.add(key)
        messages = list(system)
        for question, right, _ in asked:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": right}]
        number += 1
        if not pairs:
            yield {"id": f"basics-{number}", "messages": messages}
        else:
            worse = [*messages[:-1], {"role": "assistant", "content": asked[-1][2]}]
            yield {"id": f"basics-{number}", "chosen": messages, "rejected": worse}


def trivia(pairs: bool = False) -> Iterator[dict[str, Any]]:
    """Short questions with short answers out of the offline bundle (Jeopardy!, Natural Questions), which no suite asks."""
    from evalkit.data import Bundle
    from evalkit.errors import UsageError

    if pairs:
        raise UsageError("'trivia' has no preference pairs. Take 'basics'.")
    bundle = Bundle.open()
    for number, line in enumerate(bundle.requests("jeopardy/bpb_5shot")):
        doc = line["doc"]
        asked = doc["query"].partition("\nQuestion: ")[2].removesuffix("\nAnswer:")
        yield _question(f"jeopardy-{number}", f"{doc['category'].capitalize()}: {asked}", doc["answer"])
    for number, line in enumerate(bundle.requests("naturalqs_open/bpb_5shot")):
        doc = line["doc"]
        yield _question(f"naturalqs-{number}", doc["question"], doc["answers"][0])


def _question(name: str, asked: str, told: str) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}


SETS: Mapping[str, Callable[[bool], Iterator[dict[str, Any]]]] = {"basics": basics, "trivia": trivia}
"""Names that ``data`` may hold beside files and repositories."""


def make(name: str, *, pairs: bool) -> Iterator[dict[str, Any]]:
    """The rows of one of evalkit's own sets."""
    return SETS[name](pairs)
