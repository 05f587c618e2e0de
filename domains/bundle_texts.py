"""Texts from the offline bundle: one function per source, each yielding every text.

Only documents are read (``doc`` in the request files, or the Arrow tables), never the prompts made from them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.data import Bundle
from evalkit.data.bundle import REQUESTS_FOLDER
from evalkit.tasks.regimes import clean_olmes


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a domain, with its id in the data set."""

    domain: str
    id: str
    text: str
    cluster: str | None = None
    """What it has in common with other texts of its source: a problem, a paper."""


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


def drop(bundle: Bundle) -> Iterator[Text]:
    """DROP's passages: reports of games, and history."""
    for doc in _documents(bundle, "drop/bpb_5shot"):
        yield Text("drop", doc["query_id"], doc["passage"])


def gsm8k(bundle: Bundle) -> Iterator[Text]:
    """Grade-school word problems with their solutions, without calculator annotations."""
    for doc in _documents(bundle, "gsm8k/gold_bpb_5shot"):
        yield Text("gsm8k", doc["id"], f"{doc['question']}\n{re.sub('<<.*?>>', '', doc['answer'])}")


def humaneval(bundle: Bundle) -> Iterator[Text]:
    """Python functions with their descriptions."""
    for doc in _documents(bundle, "codex_humaneval/gold_bpb_0shot"):
        yield Text("humaneval", doc["task_id"], doc["prompt"] + doc["canonical_solution"])


def lambada(bundle: Bundle) -> Iterator[Text]:
    """Passages of novels, with the last word that LAMBADA asks for."""
    for doc in _documents(bundle, "lambada/bpb_0shot"):
        yield Text("lambada", doc["id"], f"{doc['query']} {doc['answers_text'][0]}")


def math(bundle: Bundle) -> Iterator[Text]:
    """Competition problems with solutions, by subject."""
    for variant in _variants(bundle, "minerva_math_"):
        for doc in _documents(bundle, variant):
            if doc["type"] is not None:  # the sample of 500 has no subject, and is part of the others
                yield Text(
                    doc["type"], f"{variant.split('/')[0]}/{doc['index']}", f"{doc['problem']}\n\n{doc['solution']}"
                )


def mbpp(bundle: Bundle) -> Iterator[Text]:
    """The same 500 problems solved in 17 programming languages; a problem is a cluster."""
    for variant in _variants(bundle, "mt_mbpp_"):
        for doc in _documents(bundle, variant):
            yield Text(doc["language"], f"{doc['language']}/{doc['task_id']}", doc["code"], str(doc["task_id"]))


def medmcqa(bundle: Bundle) -> Iterator[Text]:
    """Explanations of medical exam questions, by subject."""
    for doc in _documents(bundle, "medmcqa/rc_5shot"):
        yield Text(doc["subject_name"], doc["id"], doc["exp"] or "")


def medqa(bundle: Bundle) -> Iterator[Text]:
    """Patient vignettes, by exam step."""
    for doc in _documents(bundle, "medqa_en/rc_5shot"):
        yield Text(doc["meta_info"], str(doc["index"]), doc["question"])


def qasper(bundle: Bundle) -> Iterator[Text]:
    """Papers on natural language processing: abstracts and (long) full texts; a paper is a cluster."""
    for doc in _documents(bundle, "qasper_yesno/rc_5shot"):
        paper = doc["id"].rsplit("_", 1)[0]
        yield Text("abstracts", f"{paper}/abstract", doc["abstract"], paper)
        sections = zip(doc["full_text"]["section_name"], doc["full_text"]["paragraphs"], strict=True)
        parts = [part for name, paragraphs in sections for part in (_heading(name), *paragraphs) if part]
        yield Text("full text", f"{paper}/text", "\n\n".join(parts), paper)


def sciq(bundle: Bundle) -> Iterator[Text]:
    """Paragraphs of science textbooks, SciQ's support."""
    for index, row in enumerate(bundle.arrow("sciq/none", "validation")):
        yield Text("sciq", str(index), row["support"])


def sciriff(bundle: Bundle) -> Iterator[Text]:
    """Passages of biomedical papers: BioASQ's snippets, PubMedQA's abstracts."""
    for doc in _documents(bundle, "sciriff_yesno/rc_5shot"):
        yield Text(doc["id"].split("_")[0], doc["id"], doc["context"])


SOURCES: Mapping[str, Callable[[Bundle], Iterator[Text]]] = {
    "boolq": boolq,
    "coqa": coqa,
    "drop": drop,
    "gsm8k": gsm8k,
    "humaneval": humaneval,
    "lambada": lambada,
    "math": math,
    "mbpp": mbpp,
    "medmcqa": medmcqa,
    "medqa": medqa,
    "qasper": qasper,
    "sciq": sciq,
    "sciriff": sciriff,
    "squad": squad,
    "wikihow": wikihow,
}
"""LAB-Bench is excluded: its documents carry a canary string that asks to keep them out of text collections."""
CODE = ("humaneval", "mbpp")
"""Sources that are program text."""


def distinct(texts: Iterable[Text], seen: set[bytes] | None = None) -> Iterator[Text]:
    """Drop empty texts and duplicates of earlier ones (ignoring whitespace).

    `seen`: hashes of earlier texts, to which new ones are added.
    """
    seen = set() if seen is None else seen
    for text in texts:
        normalized = " ".join(text.text.split())
        key = hashlib.sha256(normalized.encode("utf-8")).digest()
        if normalized and key not in seen:
            seen.add(key)
            yield text


def first_by_hash(texts: Iterable[Text], n: int | None) -> list[Text]:
    """The first `n` texts (None: all) by their sha256: a selection that depends only on the texts."""
    return sorted(texts, key=lambda text: hashlib.sha256(text.text.encode("utf-8")).digest())[:n]


def _documents(bundle: Bundle, variant: str) -> Iterator[dict[str, Any]]:
    return (line["doc"] for line in bundle.requests(variant))


def _variants(bundle: Bundle, prefix: str) -> list[str]:
    """The first variant of each task whose name starts with `prefix`, sorted by name."""
    names = {name.split("/")[2] for name in bundle.names(f"{REQUESTS_FOLDER}/{prefix}")}
    return [f"{name}/{bundle.variants(name)[0]}" for name in sorted(names)]


def _heading(name: str | None) -> str:
    """A section's name, without those of its parent sections."""
    return (name or "").rsplit(":::", 1)[-1].strip()
