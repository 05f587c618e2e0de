"""13-word n-grams: which training paragraphs share one with an evaluation text.

Two independent implementations. :func:`ngram_hashes` hashes rolling windows with numpy and is used to remove; :func:`shared_ngrams`
compares the words themselves through a Python set and is used to prove that nothing remains. A word is a run of ``\\w`` characters of
the lower-cased text; n-grams cross line ends and punctuation, never documents.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

N = 13
WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_WORD_HASHES: dict[str, int] = {}


def strings_of(value: Any) -> Iterator[str]:
    """Every string inside a nest of dicts and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings_of(item)


def evaluation_strings(bundle: Path) -> Iterator[str]:
    """Distinct strings of the offline bundle (a wheel): all request files and all Arrow tables."""
    seen: set[bytes] = set()
    with zipfile.ZipFile(bundle) as archive:
        for name in archive.namelist():
            if name.endswith("requests.jsonl.gz"):
                with archive.open(name) as raw, gzip.open(raw, "rt", encoding="utf-8") as lines:
                    found = (text for line in lines for text in strings_of(json.loads(line)))
                    yield from _distinct(found, seen)
            elif name.endswith(".arrow"):
                table = pa.ipc.open_stream(archive.read(name)).read_all()
                yield from _distinct((text for row in table.to_pylist() for text in strings_of(row)), seen)


def _distinct(texts: Iterable[str], seen: set[bytes]) -> Iterator[str]:
    for text in texts:
        if len(text) < 2 * N:
            continue
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield text


def _word_hash(word: str) -> int:
    value = _WORD_HASHES.get(word)
    if value is None:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = _WORD_HASHES[word] = int.from_bytes(digest, "little")
    return value


def ngram_hashes(words: list[str], n: int = N) -> np.ndarray:
    """uint64 hash of every window of ``n`` words, ``max(0, len(words) - n + 1)`` of them."""
    if len(words) < n:
        return np.zeros(0, np.uint64)
    hashes = np.fromiter(map(_word_hash, words), np.uint64, len(words))
    count = len(words) - n + 1
    total = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(n):
            total = total * _MULTIPLIER + hashes[offset : offset + count]
    return total


def evaluation_index(bundle: Path) -> np.ndarray:
    """Sorted distinct n-gram hashes of all evaluation text."""
    index, parts, held = np.zeros(0, np.uint64), [], 0
    for text in evaluation_strings(bundle):
        hashes = ngram_hashes(WORD.findall(text.lower()))
        parts.append(hashes)
        held += hashes.size
        if held > 8_000_000:
            index, parts, held = np.union1d(index, np.concatenate(parts)), [], 0
    return np.union1d(index, np.concatenate(parts)) if parts else index


def contains(index: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Boolean array: which of ``hashes`` stand in the sorted ``index``."""
    if not index.size:
        return np.zeros(hashes.size, bool)
    at = np.minimum(np.searchsorted(index, hashes), index.size - 1)
    return np.asarray(index[at] == hashes)


def clean_runs(paragraphs: list[str], index: np.ndarray) -> tuple[list[list[str]], int]:
    """Split a document at the paragraphs that share an n-gram with ``index``.

    Returns the runs of paragraphs that remain (no run joins two paragraphs that were apart) and how many paragraphs were removed.
    An n-gram that crosses paragraphs removes every paragraph it touches.
    """
    words: list[str] = []
    owner: list[int] = []
    for number, paragraph in enumerate(paragraphs):
        found = WORD.findall(paragraph.lower())
        words += found
        owner += [number] * len(found)
    hits = np.flatnonzero(contains(index, ngram_hashes(words)))
    if not hits.size:
        return [paragraphs], 0
    bad = {owner[position] for hit in hits.tolist() for position in range(hit, hit + N)}
    runs: list[list[str]] = [[]]
    for number, paragraph in enumerate(paragraphs):
        if number in bad:
            runs.append([])
        else:
            runs[-1].append(paragraph)
    return [run for run in runs if run], len(bad)


def shared_ngrams(documents: Iterable[str], evaluation: Iterable[str], limit: int = 20) -> tuple[list[str], int, int]:
    """The proof: n-grams of ``evaluation`` that stand in ``documents``, compared as words, not as hashes.

    Returns at most ``limit`` shared n-grams, and how many distinct training and how many evaluation n-grams were compared.
    """
    known: set[str] = set()
    for document in documents:
        words = re.findall(r"\w+", document.lower())
        known.update(" ".join(words[start : start + N]) for start in range(len(words) - N + 1))
    shared: list[str] = []
    compared = 0
    for text in evaluation:
        words = re.findall(r"\w+", text.lower())
        for start in range(len(words) - N + 1):
            compared += 1
            gram = " ".join(words[start : start + N])
            if gram in known:
                shared.append(gram)
                if len(shared) >= limit:
                    return shared, len(known), compared
    return shared, len(known), compared
