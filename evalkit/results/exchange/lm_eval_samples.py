"""Rows from lm-evaluation-harness's ``samples_*.jsonl`` (0.4.0 to 0.4.13): a line a document and filter.

What a line means is checked, not believed: options become a plain choice only if the accuracy that follows from them is the one
that stands beside them, in every line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.records import Document, Prompt
from evalkit.results.exchange.foreign import MAX_NAME, Kind, finite, json_lines, mapping, native_id, shown, whole
from evalkit.results.exchange.lm_eval_names import metric_name
from evalkit.statistics.metrics import predict
from evalkit.task import Row

FIXED = frozenset(
    "evalkit doc_id doc target arguments resps filtered_resps filter metrics doc_hash prompt_hash target_hash".split()  # noqa: SIM905
)
"""Keys of a line that are no metric."""
KEPT = frozenset(
    "index native_id truncated cluster gold predicted sums tokens characters bytes is_greedy unconditional_sums logprobs token_ids "  # noqa: SIM905
    "token_strings ended texts answers extracted reasons source domain sum words windows passed logprob_sums".split()
)
"""Columns with a meaning of their own, which no metric's name replaces."""
EXTRA = ("tokens", "characters", "bytes", "windows", "ended", "cluster")
"""Columns that lm-eval's samples do not have, and that evalkit adds to those that it writes."""
UNREAD = "Its numbers can be imported without samples: move the samples elsewhere."


@dataclass
class Samples:
    """The documents of one task."""

    rows: list[Row]
    prompts: list[tuple[Document, list[Prompt]]]
    values: dict[str, list[float]] = field(default_factory=dict)
    """Of each metric that is a number in every line, the documents' values in the order of `rows`."""
    counts_space: bool | None = None
    """Whether the lengths of options count the space that every one begins with; None where not all begin with one."""

    @property
    def lengths(self) -> str:
        """The same in the words of a protocol; empty where it is not known."""
        return "" if self.counts_space is None else f"{'with' if self.counts_space else 'without'} the leading space"


def read_samples(file: Path, name: str, kind: Kind, delimiter: str) -> Samples:
    """The documents in a file of samples. `delimiter`: what the task puts before an option.

    Raises `UsageError` for a line that is none of a sample's, and for two lines of one document and filter.
    """
    documents: dict[int, dict[str, Mapping[str, Any]]] = {}
    for number, line in json_lines(file):
        index = whole(line.get("doc_id"))
        if index is None:
            raise UsageError(
                f"{file}, line {number} has no integer as doc_id ('{shown(line.get('doc_id'))}'). {UNREAD}"
            )
        filtered = str(line.get("filter") or "none")
        own = documents.setdefault(index, {})
        if filtered in own:
            raise UsageError(f"{file}, line {number} is document {index:,} a second time. {UNREAD}")
        doc = mapping(line.get("doc"))  # of whose other fields nothing is needed
        own[filtered] = {**line, "doc": {key: doc[key] for key in ("id", "source", "domain") if key in doc}}
    make = {"choice": _options, "text": _text, "generation": _answers}[kind]
    made = Samples([], [])
    for index in sorted(documents):
        lines = documents[index]
        first = next(iter(lines.values()))
        document = Document(index, native_id(mapping(first.get("doc")).get("id")), {})
        row: Row = {"index": index, "native_id": document.native_id, "truncated": 0}
        requests = _requests(first)
        try:
            own_row, prompts = make(first, requests, delimiter)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise UsageError(
                f"{file}: the responses to document {index:,} cannot be read ({error}). {UNREAD}"
            ) from None
        made.rows.append(row | own_row | _extra(first, own_row, kind))
        made.prompts.append((document, prompts))
        for filtered, line in lines.items():
            for metric, value in _metrics(line):
                made.values.setdefault(metric_name(metric, filtered), [math.nan] * (len(made.rows) - 1)).append(value)
        for values in made.values.values():
            values += [math.nan] * (len(made.rows) - len(values))
    if kind == "choice":
        _check_choices(made, delimiter)
    if kind == "text":
        for row in made.rows:
            row.setdefault("source", f"lm-eval/{name}")
            row.setdefault("domain", name)
    _add_columns(made, kind)
    return made


def _extra(line: Mapping[str, Any], row: Row, kind: Kind) -> Row:
    """What evalkit adds to the lines that it writes, as far as it has the right shape."""
    given, found = mapping(line.get("evalkit")), {}
    count = len(row.get("sums") or row.get("texts") or [])
    for name in ("tokens", "characters", "bytes"):
        lengths = given.get(name)
        if (isinstance(lengths, list) and len(lengths) == count and all(whole(one) is not None for one in lengths)) or (
            kind == "text" and whole(lengths, 1) is not None
        ):
            found[name] = lengths
    ended = given.get("ended")
    if isinstance(ended, list) and len(ended) == count and all(one in ("stop", "end", "cap") for one in ended):
        found["ended"] = ended
    if whole(given.get("windows"), 1) is not None:
        found["windows"] = given["windows"]
    label = given.get("cluster")
    if whole(label) is not None or (isinstance(label, str) and len(label) <= MAX_NAME):
        found["cluster"] = str(label)
    return found


def _metrics(line: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The line's metrics that are numbers."""
    named = line.get("metrics")
    names = [one for one in named if isinstance(one, str)] if isinstance(named, list) else list(line)
    found = []
    for name in names:
        value = line.get(name)
        number = float(value) if isinstance(value, bool) else finite(value)
        if name not in FIXED and number is not None:
            found.append((name, number))
    return found


def _requests(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Context and continuation of each request; empty where they are not plain texts."""
    given = line.get("arguments")
    found: list[Any] = []
    if isinstance(given, Mapping):
        found = [[one.get("arg_0"), one.get("arg_1")] for one in given.values() if isinstance(one, Mapping)]
    elif isinstance(given, list):
        found = [[*one, None][:2] for one in given if isinstance(one, list) and one]
    return [(one[0] if isinstance(one[0], str) else "", one[1] if isinstance(one[1], str) else "") for one in found]


def _pairs(line: Mapping[str, Any]) -> list[tuple[float, bool]]:
    """Log-probability and is_greedy of each request, from ``resps`` (their first repetition) or ``filtered_resps``."""
    given = line.get("resps")
    if not isinstance(given, list) or not given:
        given = line.get("filtered_resps")
    pairs = []
    for one in given if isinstance(given, list) else []:
        while isinstance(one, list) and one and isinstance(one[0], list):
            one = one[0]
        if not isinstance(one, list) or len(one) != 2:
            raise ValueError("a response is not a log-probability with is_greedy")
        total = float(one[0]) if isinstance(one[0], (str, int, float)) else math.nan
        pairs.append((total if math.isfinite(total) else math.nan, str(one[1]).lower() == "true"))
    if not pairs:
        raise ValueError("there are none")
    return pairs


def _options(line: Mapping[str, Any], requests: list[tuple[str, str]], delimiter: str) -> tuple[Row, list[Prompt]]:
    pairs = _pairs(line)
    requests = requests if len(requests) == len(pairs) else [("", "")] * len(pairs)
    has_unconditional = ("acc_mutual_info" in line or "acc_pmi" in line) and len(pairs) % 2 == 0
    count = len(pairs) // 2 if has_unconditional else len(pairs)
    options = requests[:count]
    texts = [one[1] for one in options]
    is_schema = len(set(texts)) == 1 and count > 1
    counted = texts if is_schema else [one.removeprefix(delimiter) for one in texts]
    row: Row = {
        "gold": _gold(line, counted, [one for one, _ in pairs[:count]], is_schema=is_schema),
        "sums": [one for one, _ in pairs[:count]],
        "is_greedy": [greedy for _, greedy in pairs[:count]],
    }
    if not is_schema:  # one text, whose length tells options apart from nothing
        row["characters"] = [len(one) for one in counted]
        row["bytes"] = [len(one.encode("utf-8", "surrogatepass")) for one in counted]
    if count < len(pairs):
        row["unconditional_sums"] = [one for one, _ in pairs[count:]]
    prompts = [
        Prompt(context, continuation, "joint", place % count, unconditional=place >= count)
        for place, (context, continuation) in enumerate(requests)
    ]
    return row, prompts


def _gold(line: Mapping[str, Any], options: Sequence[str], sums: Sequence[float], *, is_schema: bool) -> int:
    """The position of the right option; of two inputs, whose right one is not written down, by the accuracy; -1 if unknown."""
    target = line.get("target")
    if is_schema:
        hit = finite(line.get("acc"))
        if len(sums) != 2 or hit not in (0.0, 1.0) or any(math.isnan(one) for one in sums):
            return -1
        best = 0 if sums[0] >= sums[1] else 1
        return best if hit == 1 else 1 - best
    words = str(target).strip()
    if words.lstrip("-").isascii() and words.isdigit() and len(words) < 6 and int(words) < len(options):
        return int(words)
    texts = [one.strip() for one in options]
    return texts.index(words) if texts.count(words) == 1 else -1


def _text(line: Mapping[str, Any], requests: list[tuple[str, str]], delimiter: str) -> tuple[Row, list[Prompt]]:
    """A text with its nats and the lengths that the task counts, which stand in its metrics as (nats, length)."""
    counts: dict[str, tuple[float, int]] = {}
    for name, column in (("word_perplexity", "words"), ("byte_perplexity", "bytes"), ("bits_per_byte", "bytes")):
        pair = line.get(name)
        if isinstance(pair, list) and len(pair) == 2:
            total, length = finite(pair[0]), whole(pair[1])
            if total is None or length is None:
                raise ValueError(f"{name} is not a pair of numbers")
            counts[column] = (total, length)
    if not counts:
        raise ValueError("no metric gives nats and a length")
    content = requests[0][0] if requests else ""
    row: Row = {"sum": next(iter(counts.values()))[0], **{name: length for name, (_, length) in counts.items()}}
    row |= {"characters": len(content)} if content else {}
    doc = mapping(line.get("doc"))
    row |= {key: doc[key] for key in ("source", "domain") if isinstance(doc.get(key), str)} if "domain" in doc else {}
    return row, [Prompt("", content, "rolling_lm_eval")] if content else []


def _answers(line: Mapping[str, Any], requests: list[tuple[str, str]], delimiter: str) -> tuple[Row, list[Prompt]]:
    """The texts that were generated, and what the first filter left of them."""
    texts = _strings(line.get("resps"))
    if not texts:
        raise ValueError("there is no text")
    extracted: list[str | None] = [*_strings(line.get("filtered_resps"))]
    extracted = (extracted + [None] * len(texts))[: len(texts)]
    target = line.get("target")
    row: Row = {
        "gold": target if isinstance(target, str) else "" if target is None else str(target)[:1000],
        "texts": texts,
        "answers": texts,
        "extracted": extracted,
    }
    return row, [Prompt(context, "", "joint") for context, _ in requests[:1]]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for one in value for text in _strings(one)] if isinstance(value, list) else []


def _check_choices(made: Samples, delimiter: str) -> None:
    """Keep of the options what the logged accuracies confirm; without that a row has sums that mean nothing to evalkit."""
    if not _agrees(made, "acc"):
        for row in made.rows:
            row["logprob_sums"] = row.pop("sums")
            for name in ("gold", "characters", "bytes", "unconditional_sums"):
                row.pop(name, None)
        return
    for metric, column in (("acc_norm", "characters"), ("acc_bytes", "bytes")):
        if metric in made.values and not _agrees(made, metric):
            for row in made.rows:
                row.pop(column, None)
    for row in made.rows:
        row["predicted"] = predict(row, "acc")
    spaced = all(
        prompt.continuation.startswith(" ")
        for _, prompts in made.prompts
        for prompt in prompts
        if not prompt.unconditional
    )
    if spaced and delimiter in ("", " ") and all("bytes" in row for row in made.rows):
        made.counts_space = delimiter == ""


def _agrees(made: Samples, metric: str) -> bool:
    """Whether the rows' options tell the logged accuracy, document by document."""
    logged = made.values.get(metric)
    if logged is None or any(len(row["sums"]) < 2 for row in made.rows):
        return False
    for row, value in zip(made.rows, logged, strict=True):
        if any(math.isnan(one) for one in row["sums"]):
            continue
        if row["gold"] < 0 or (metric != "acc" and 0 in row.get("characters", [0])):
            return False
        if float(predict(row, metric) == row["gold"]) != value:
            return False
    return True


def _add_columns(made: Samples, kind: Kind) -> None:
    """A column a metric, by which runs are compared."""
    for name, values in made.values.items():
        if name not in KEPT:
            for row, value in zip(made.rows, values, strict=True):
                if not math.isnan(value):
                    row[name] = [value] if kind == "generation" else value
