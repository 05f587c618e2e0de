"""Documents to look at: chosen by hash (what flipped between two runs first), read from what the runs stored, and packed
small for the page's own script.

Reads ``documents/<task>.parquet`` (sums, log-probabilities and strings of tokens) and ``prompts/<protocol>.parquet``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError, UsageError
from evalkit.reports import answers
from evalkit.reports.runs import RunView
from evalkit.reports.view import Report
from evalkit.words import visible

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT = 20
"""Default number of documents per task."""
DEFAULT_TOTAL = 800
"""… and over all tasks: with many tasks each shows fewer (but `LEAST`)."""
LEAST = 4
CARDS = 4
"""Questions in full for readers without a script."""
MOST_CHARACTERS = 20_000
"""Of one string that a page shows; what is longer is cut, and says how much is missing."""
MOST_TOKENS = 600
"""Of one text's strip."""
GATED = ("paloma/",)
"""Tasks whose texts may not be passed on, in runs that do not say so themselves."""


NEEDED = (("gold", "predicted", "sums", "tokens", "characters", "bytes"), ("sum", "tokens", "characters", "bytes"))
"""Columns without which no question, and no text, is shown."""


@dataclass(frozen=True, slots=True)
class SampleCount:
    """How many documents to show per task, and whether gated tasks are included."""

    count: int
    gated: bool


@dataclass(slots=True)
class Samples:
    """The samples of a page: packed documents for the script, and why some tasks have none."""

    labels: tuple[str, ...]
    heads: tuple[str, ...]
    """Short names of the runs."""
    tasks: list[dict[str, Any]] = field(default_factory=list)
    vocabulary: list[tuple[int, str]] = field(default_factory=list)
    """Token ids and strings; the strips hold positions in it."""
    withheld: list[str] = field(default_factory=list)
    """Gated tasks, whose text the page does not hold."""
    not_stored: list[str] = field(default_factory=list)
    """Gated tasks whose text was asked for and is not in the results."""
    _known: dict[tuple[int, str], int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(len(task["docs"]) for task in self.tasks)

    def token(self, number: int, text: str) -> int:
        """The token's place in the vocabulary."""
        key = (number, text)
        if key not in self._known:
            self._known[key] = len(self.vocabulary)
            self.vocabulary.append((number, visible(text)))
        return self._known[key]

    def packed(self) -> dict[str, Any]:
        """JSON for ``static/samples.js``."""
        return {"runs": list(self.heads), "vocab": [list(pair) for pair in self.vocabulary], "tasks": self.tasks}


def parse_sample_count(samples: str | int | None, tasks: int) -> SampleCount:
    """``N``, ``all``, ``none``, or None for the default. Raises `UsageError` for anything else.

    >>> parse_sample_count(None, 10), parse_sample_count("3", 10), parse_sample_count("none", 1).count
    (SampleCount(count=20, gated=False), SampleCount(count=3, gated=True), 0)
    """
    if samples is None:
        return SampleCount(max(LEAST, min(DEFAULT, DEFAULT_TOTAL // max(tasks, 1))), gated=False)
    text = str(samples).strip().lower()
    if text == "none":
        return SampleCount(0, gated=False)
    if text == "all":
        return SampleCount(10**9, gated=True)
    if not text.isdecimal():
        raise UsageError(f"--samples takes a number, 'all' or 'none', not '{samples}'.")
    return SampleCount(int(text), gated=True)


def collect_samples(report: Report, columns: Sequence[int], samples: str | int | None = None) -> Samples:
    """Documents of one or two runs (`columns`: A, then B), as many a task as `samples` asks for.

    A task without stored documents has none. Raises `EvalkitError` for files that are damaged.
    """
    runs = [report.runs[column] for column in columns]
    found = Samples(tuple(run.label for run in runs), tuple(report.heads[column].title for column in columns))
    names = [name for name in runs[-1].tasks if all(name in run.tasks for run in runs)]
    ask = parse_sample_count(samples, len(names))
    if ask.count == 0:
        return found
    for name in names:
        files = [_file(run, name) for run in runs]
        if not all(file.is_file() for file in files):
            continue
        if gated(name, runs[-1].tasks[name]) and not ask.gated:
            found.withheld.append(name)
            continue
        kind = str(runs[-1].tasks[name].get("kind"))
        told = ("texts",) if kind == "generation" else ("token_ids",)
        if gated(name, runs[-1].tasks[name]) and not all(_stored(file, told) for file in files):
            found.not_stored.append(name)
            continue
        needed = answers.NEEDED if kind == "generation" else NEEDED[kind == "text"]
        if not all(_stored(file, needed) for file in files):
            continue
        if kind == "generation":
            task = _answers(name, runs, files, ask.count, primary_of(report, name))
        else:
            task = (_texts if kind == "text" else _choices)(found, name, runs, files, ask.count)
        if task["docs"]:
            found.tasks.append(task | {"by": decides(report, name)})
    return found


DECIDES = {"acc": 0, "acc_per_token": 1, "acc_norm": 2, "acc_bytes": 3, "acc_pmi": 4}
"""The column of an option's scores that decides, by the metric that it belongs to: sum, per token, per character, per byte,
minus unconditional."""


def decides(report: Report, task: str) -> int:
    """The column that decides which option a task's primary metric takes."""
    return DECIDES.get(primary_of(report, task), 0)


def primary_of(report: Report, task: str) -> str:
    """The name of a task's primary metric; empty if none is marked."""
    return next((line.metric for line in report.lines if line.task == task and line.primary), "")


def _stored(file: Path, columns: Sequence[str]) -> bool:
    """Whether a task stored what its documents are shown by; one of a person's own may store less than rows should hold."""
    import pyarrow.parquet as pq

    try:
        return set(columns) <= set(pq.read_schema(file).names)
    except Exception:  # damaged: reading it says so
        return True


def gated(name: str, about: Mapping[str, Any]) -> bool:
    """Whether a task's texts may not be passed on without being asked for."""
    return bool(about.get("gated", name.startswith(GATED)))


def _file(run: RunView, task: str) -> Path:
    return run.folder_of(task) / "documents" / f"{run.tasks[task].get('file_name') or task}.parquet"


# ----------------------------------------------------------------------------------------------------------- questions


def _choices(found: Samples, name: str, runs: Sequence[RunView], files: Sequence[Path], count: int) -> dict[str, Any]:
    light = [_light(file, ("index", "gold", "predicted", "truncated")) for file in files]
    shared = [index for index in light[-1] if all(index in one for one in light)]
    right = [{index: one[index]["predicted"] == one[index]["gold"] for index in shared} for one in light]
    flipped = {index for index in shared if len({one[index] for one in right}) > 1}
    chosen = _choose(name, shared, flipped, count)
    heavy = [_heavy(file, chosen) for file in files]
    prompts = _prompts(runs[-1], name, chosen)
    docs = [_choice(found, index, [rows[index] for rows in heavy], prompts.get(index, [])) for index in chosen]
    shots = _common_start([doc["c"] for doc in docs if isinstance(doc.get("c"), str)])
    for doc in docs:
        if shots and isinstance(doc.get("c"), str):
            doc["c"] = doc["c"][len(shots) :]
    return {
        "name": name,
        "kind": "choice",
        "shots": _cut(shots),
        "of": len(shared),
        "docs": [_cut_doc(d) for d in docs],
    }


def _choice(
    found: Samples, index: int, rows: Sequence[Mapping[str, Any]], prompts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One question: ``c`` contexts, ``o`` options, ``g`` gold, lengths, and in ``r`` what each run made of it."""
    last = rows[-1]
    own = [prompt for prompt in prompts if not prompt["unconditional"]]
    contexts = [prompt["context"] for prompt in own]
    options = [prompt["continuation"] for prompt in own]
    if len(options) != len(last["sums"]):  # prompts were removed: the tokens still say what the options were
        contexts = []
        options = ["".join(tokens) for tokens in last.get("token_strings") or []] or [""] * len(last["sums"])
    doc: dict[str, Any] = {
        "i": index,
        "id": answers.name_of(last.get("native_id")),
        "c": (contexts or [""])[0] if len(set(contexts)) <= 1 else contexts,
        "o": options,
        "g": int(last["gold"]),
        "ch": list(last["characters"]),
        "by": list(last["bytes"]),
        "t": max(int(row.get("truncated") or 0) for row in rows),
        "r": [_made_of(found, row) for row in rows],
    }
    _share_tokens(doc["r"])
    return doc


def _made_of(found: Samples, row: Mapping[str, Any]) -> dict[str, Any]:
    """One run's answer: ``p`` predicted, ``s`` sums, ``n`` counts of tokens, ``l`` log-probabilities, ``k`` tokens."""
    made: dict[str, Any] = {
        "p": int(row["predicted"]),
        "s": [_rounded(value) for value in row["sums"]],
        "n": [int(value) for value in row["tokens"]],
    }
    if row.get("unconditional_sums") is not None:
        made["u"] = [_rounded(value) for value in row["unconditional_sums"]]
    if row.get("logprobs") is not None and row.get("token_ids") is not None:
        made["l"] = [[_rounded(value) for value in option] for option in row["logprobs"]]
        strings = row.get("token_strings") or [[""] * len(option) for option in row["token_ids"]]
        made["k"] = [
            [found.token(int(number), text) for number, text in zip(ids, texts, strict=True)]
            for ids, texts in zip(row["token_ids"], strings, strict=True)
        ]
    return made


def _share_tokens(made: list[dict[str, Any]]) -> None:
    """Store equal tokens once, with the first run."""
    for one in made[1:]:
        if one.get("k") is not None and one["k"] == made[0].get("k"):
            one["k"] = 0


# ----------------------------------------------------------------------------------------------------- generated answers


def _answers(name: str, runs: Sequence[RunView], files: Sequence[Path], count: int, metric: str) -> dict[str, Any]:
    """A sample of generated answers; those whose value changed most come first where two runs are shown."""
    light = [_light(file, ("index", metric, *answers.JUDGED)) for file in files]
    shared = [index for index in light[-1] if all(index in one for one in light)]
    changed = {index for index in shared if len({answers.value_of(one[index], metric) for one in light}) > 1}
    chosen = _choose(name, shared, changed, count)
    heavy = [_heavy(file, chosen) for file in files]
    prompts = _prompts(runs[-1], name, chosen)
    contexts = {
        index: (prompts[index][0]["context"] + prompts[index][0]["continuation"]) if prompts.get(index) else ""
        for index in chosen
    }
    shots = _common_start(list(contexts.values()))
    docs = [
        answers.answers_of(index, [rows[index] for rows in heavy], _cut(contexts[index][len(shots) :]), metric)
        for index in chosen
    ]
    return {"name": name, "kind": "generation", "shots": _cut(shots), "of": len(shared), "docs": docs}


# --------------------------------------------------------------------------------------------------------------- texts


def _texts(found: Samples, name: str, runs: Sequence[RunView], files: Sequence[Path], count: int) -> dict[str, Any]:
    """A sample of texts whose tokens are kept; those that changed most a byte come first where two runs are shown."""
    light = [_light(file, ("index", "sum", "bytes", "truncated"), kept=True) for file in files]
    shared = [index for index in light[-1] if all(index in one for one in light)]
    change = {
        index: abs(light[0][index]["sum"] - light[-1][index]["sum"]) / light[-1][index]["bytes"] for index in shared
    }
    most = set(sorted(shared, key=lambda index: -change[index])[: count // 2]) if len(runs) > 1 else set()
    chosen = _choose(name, shared, most, count)
    heavy = [_heavy(file, chosen) for file in files]
    docs = []
    for index in chosen:
        rows = [rows[index] for rows in heavy]
        last = rows[-1]
        made = []
        for row in rows:
            ids, texts = row["token_ids"][:MOST_TOKENS], (row.get("token_strings") or [])[:MOST_TOKENS]
            texts = texts or [""] * len(ids)
            made.append(
                {
                    "s": [_rounded(row["sum"])],
                    "n": [int(row["tokens"])],
                    "l": [[_rounded(value) for value in row["logprobs"][:MOST_TOKENS]]],
                    "k": [[found.token(int(number), text) for number, text in zip(ids, texts, strict=True)]],
                }
            )
        _share_tokens(made)
        docs.append(
            {
                "i": index,
                "id": answers.name_of(last.get("native_id")),
                "d": visible(str(last.get("domain") or "")),
                "ch": [int(last["characters"])],
                "by": [int(last["bytes"])],
                "t": max(int(row.get("truncated") or 0) for row in rows),
                "r": made,
            }
        )
    return {"name": name, "kind": "text", "shots": "", "of": len(shared), "docs": docs}


# --------------------------------------------------------------------------------------------------- choosing and reading


def _choose(task: str, indices: Iterable[int], first: set[int], count: int) -> list[int]:
    """`count` of them: half of the places for those to come `first`, the rest by hash; the same on every machine."""
    ranked = sorted(indices, key=lambda index: hashlib.sha256(f"{task}/{index}".encode()).digest())
    ahead = [index for index in ranked if index in first]
    behind = [index for index in ranked if index not in first]
    room = max(count - len(behind), (count + 1) // 2)
    ahead = ahead[:room]
    return ahead + behind[: count - len(ahead)]


def _light(file: Path, columns: Sequence[str], *, kept: bool = False) -> dict[int, dict[str, Any]]:
    """A few columns of every document (only those with stored tokens if `kept`), by row index."""
    table = _table(file)
    names = [name for name in columns if name in table.column_names]
    if kept:
        if "logprobs" not in table.column_names or "token_ids" not in table.column_names:
            return {}
        import pyarrow.compute as pc

        table = table.filter(pc.and_(pc.is_valid(table["logprobs"]), pc.is_valid(table["token_ids"])))
    return {int(row["index"]): row for row in table.select(names).to_pylist()}


def _heavy(file: Path, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
    """All columns of a few documents, by row index."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _table(file)
    table = table.filter(pc.is_in(table["index"], pa.array(list(indices), pa.int64())))
    return {int(row["index"]): row for row in table.to_pylist()}


def _prompts(run: RunView, task: str, indices: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The stored prompts of a few documents, in the order of their options; empty where the file is gone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    file = run.folder_of(task).parent.parent.parent / "prompts" / f"{run.tasks[task].get('protocol_hash')}.parquet"
    if not file.is_file():
        return {}
    table = _table(file)
    table = table.filter(pc.is_in(table["index"], pa.array(list(indices), pa.int64())))
    found: dict[int, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        found.setdefault(int(row["index"]), []).append(row)
    return {index: sorted(rows, key=lambda row: row["prompt"]) for index, rows in found.items()}


def _table(file: Path) -> pa.Table:
    from evalkit.results.tables import read_table

    return read_table(file)


# ------------------------------------------------------------------------------------------------------------- strings


def _common_start(contexts: Sequence[str]) -> str:
    """The common beginning of all contexts, up to an empty line: the few-shot examples."""
    if len(contexts) < 2:
        return ""
    low, high = min(contexts), max(contexts)
    end = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    cut = low.rfind("\n\n", 0, end)
    return low[: cut + 2] if cut >= 0 else ""


def _cut_doc(doc: dict[str, Any]) -> dict[str, Any]:
    contexts = doc["c"]
    return {
        **doc,
        "c": [_cut(text) for text in contexts] if isinstance(contexts, list) else _cut(contexts),
        "o": [_cut(text) for text in doc["o"]],
    }


def _cut(text: str) -> str:
    """A string as the page shows it: visible, and of bounded length (its end stays, where the question is)."""
    if len(text) > MOST_CHARACTERS:
        left = len(text) - MOST_CHARACTERS
        text = f"[… {left:,} characters are left out here …]{text[-MOST_CHARACTERS:]}"
    return visible(text)


def _rounded(value: Any) -> float | None:
    """Three decimals are what a reader sees; None where there is no score."""
    number = math.nan if value is None else float(value)
    return round(number, 3) if math.isfinite(number) else None


def static_cards(found: Samples) -> list[dict[str, Any]]:
    """A few questions in full, for readers without a script."""
    cards = []
    for task in found.tasks:
        for doc in task["docs"][: max(1, CARDS // max(1, len(found.tasks)))]:
            if task["kind"] == "choice":
                cards.append({"task": task["name"], "shots": bool(task["shots"]), **doc})
    return cards[:CARDS]


__all__ = ["EvalkitError", "Samples", "collect_samples", "gated", "parse_sample_count", "static_cards"]
