"""Real texts out of the offline bundle: one function a source, each yielding every text once.

Only documents are read (``doc`` of the request files, or the Arrow tables), never the prompts made of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from evalkit.data import Bundle
from evalkit.tasks.regimes import clean_olmes


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a domain, with an id that finds it again in its data set."""

    domain: str
    id: str
    text: str


def coqa(bundle: Bundle) -> Iterator[Text]:
    """CoQA's stories, by where they come from: mctest, race, cnn, wikipedia, gutenberg."""
    for doc in _documents(bundle, "coqa/bpb_0shot"):
        yield Text(doc["source"], doc["id"].split("_turn")[0], doc["story"])


def squad(bundle: Bundle) -> Iterator[Text]:
    """SQuAD's paragraphs, by the title of the Wikipedia article."""
    for doc in _documents(bundle, "squad/bpb_5shot"):
        head = f"Title: {doc['title']}\nBackground: "
        paragraph = doc["query"].removeprefix(head).rsplit("\nQuestion: ", 1)[0]
        yield Text(doc["title"].replace("_", " "), doc["id"], paragraph)


def wikihow(bundle: Bundle) -> Iterator[Text]:
    """WikiHow articles as HellaSwag shows them, context and right ending, by topic."""
    for row in bundle.arrow("hellaswag/none", "validation"):
        if row["source_id"].startswith("wikihow"):
            ending = row["endings"][int(row["label"])]
            text = clean_olmes(f"{row['ctx_a']} {row['ctx_b'].capitalize()}".rstrip() + f" {ending}")
            yield Text(row["activity_label"], row["source_id"], text.strip())


def boolq(bundle: Bundle) -> Iterator[Text]:
    """BoolQ's passages, from Wikipedia."""
    for index, row in enumerate(bundle.arrow("boolq/none", "validation")):
        yield Text("boolq", str(index), row["passage"])


SOURCES: Mapping[str, Callable[[Bundle], Iterator[Text]]] = {
    "boolq": boolq,
    "coqa": coqa,
    "squad": squad,
    "wikihow": wikihow,
}


def distinct(texts: Iterable[Text]) -> Iterator[Text]:
    """Each text once (the first to have it), without those that are empty."""
    seen: set[str] = set()
    for text in texts:
        if text.text.strip() and text.text not in seen:
            seen.add(text.text)
            yield text


def first_by_hash(texts: Iterable[Text], n: int) -> list[Text]:
    """The first `n` by the sha256 of the text: a choice that depends on nothing but the texts."""
    return sorted(texts, key=lambda text: hashlib.sha256(text.text.encode("utf-8")).digest())[:n]


def _documents(bundle: Bundle, variant: str) -> Iterator[dict[str, str]]:
    return (line["doc"] for line in bundle.requests(variant))
