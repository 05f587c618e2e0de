"""What stands in the way of comparing two runs: protocols looked at key by key, documents by what they are.

Three things may come out: a task cannot be compared (a reason), it can with a mark (a sentence), or it can. Other regimes,
forms, shots, splits, task versions, windows or data forbid it. Limits and samples do not: what both asked is compared.
The place that data came from does not, where ids, right answers and lengths of all shared documents agree. Nor do engines,
dtypes and tokenizers: accuracies and bits per byte have the same meaning under each, and it is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.comparison.columns import Columns, take
from evalkit.results.reading import Run

EXTENT = ("documents", "limit", "sample", "domains")
"""Keys of a protocol that say how much was asked, not how."""
WORDS = {
    "version": "version of the task",
    "encoding": "encoding rule",
    "examples": "examples before the question",
    "lengths": "lengths",
    "unconditional_context": "unconditional context",
    "primary": "primary metric",
    "max_length": "maximum length",
    "prefix_token": "prefix token",
    "window": "window rule",
}
IDENTITY = {
    "engine": "engine",
    "version": "version of the engine",
    "dtype": "dtype",
    "quantisation": "quantisation",
    "attention": "attention implementation",
    "device": "device",
}


@dataclass(frozen=True, slots=True)
class Protocols:
    """What two protocols of one task differ in. Empty everywhere where they are the same."""

    reason: str = ""
    """Why the task cannot be compared."""
    extent: str = ""
    """How much was asked, where that differs."""
    data: str = ""
    """Other data: to be compared document by document."""
    windows: str = ""
    """Other windows: without effect on texts of one window."""
    length: str = ""
    """Other maximum lengths: without effect on questions that were not cut."""


def compare_protocols(a: Mapping[str, Any], b: Mapping[str, Any]) -> Protocols:
    """The ``run.json`` entries of one task in two runs, looked at key by key."""
    if a.get("protocol_hash") == b.get("protocol_hash") and a.get("protocol_hash"):
        return Protocols()
    task_a, task_b = _part(a, "task"), _part(b, "task")
    encoder_a, encoder_b = _part(a, "encoder"), _part(b, "encoder")
    text = a.get("kind") == "text"
    if a.get("kind") != b.get("kind"):
        return Protocols(f"it is of another kind: {b.get('kind')} against {a.get('kind')}")
    reasons: list[str] = []
    data = length = windows = ""
    for key in _differing(task_a, task_b):
        told = f"{WORDS.get(key, key.replace('_', ' '))}: {_short(task_b.get(key))} against {_short(task_a.get(key))}"
        if key in EXTENT:
            continue
        if key in ("data", "data_source"):
            data = f"data from {_origin(task_b.get(key))} against {_origin(task_a.get(key))}"
        elif key == "files":
            other = _other_files(task_a[key], task_b[key]) if key in task_a and key in task_b else ""
            if other:
                reasons.append(other)
            elif not data:
                data = "other sets of files"
        else:
            reasons.append(told)
    for key in _differing(encoder_a, encoder_b):
        told = f"{WORDS.get(key, key.replace('_', ' '))}: {_short(encoder_b.get(key))} against {_short(encoder_a.get(key))}"
        if key == "tokenizer":
            continue  # said once for the whole run
        if key in ("window", "max_length") and text:
            windows = "; ".join(filter(None, (windows, told)))
        elif key == "max_length":
            length = told
        elif key == "prefix_token" and not text:
            continue  # stands before texts, and before a question's empty context
        elif key != "window":
            reasons.append(told)
    extent = "; ".join(
        f"{key}: {_short(task_b.get(key))} against {_short(task_a.get(key))}"
        for key in _differing(task_a, task_b)
        if key in ("limit", "sample")
    )
    return Protocols("; ".join(reasons), extent, data, windows, length)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which documents two runs share."""

    places_a: NDArray[np.int64]
    places_b: NDArray[np.int64]
    reason: str = ""
    marks: tuple[str, ...] = ()


def pair(a: Columns, b: Columns, found: Protocols) -> Pairing:
    """Line documents up by their index, and look whether they are the same documents, asked in the same way."""
    if np.array_equal(a.index, b.index):
        places_a = places_b = np.arange(len(a))
    else:
        _, places_a, places_b = np.intersect1d(a.index, b.index, assume_unique=True, return_indices=True)
    shared = len(places_a)

    def refused(reason: str) -> Pairing:
        return Pairing(places_a[:0], places_b[:0], reason)

    if shared == 0:
        return refused("no document was asked of both")
    other = _other_documents(a, b, places_a, places_b)
    if other:
        origin = f" ({found.data})" if found.data else ""
        return refused(f"{other:,} of {shared:,} documents are not the same in both{origin}")
    marks = []
    if found.windows:
        long = int(((a.windows[places_a] != 1) | (b.windows[places_b] != 1)).sum())
        if long:
            return refused(f"{found.windows}, and {long:,} of {shared:,} texts are longer than one window")
        marks.append(f"{found.windows}; no effect, every text is one window")
    if found.length:
        cut = int((a.truncated[places_a] | b.truncated[places_b]).sum())
        marks.append(f"{found.length}; {f'{cut:,} of {shared:,} contexts were cut' if cut else 'no context was cut'}")
    if found.data:
        marks.append(f"{found.data}; ids, answers and lengths of all {shared:,} shared documents agree")
    if shared < max(len(a), len(b)):
        why = f" ({found.extent})" if found.extent else ""
        marks.append(f"{shared:,} documents are shared, of {len(b):,} against {len(a):,}{why}")
    return Pairing(places_a, places_b, "", tuple(marks))


def _other_documents(a: Columns, b: Columns, places_a: NDArray[np.int64], places_b: NDArray[np.int64]) -> int:
    """How many of the paired documents are not the same document."""
    other = np.zeros(len(places_a), dtype=np.bool_)
    if a.signature.shape[1] == b.signature.shape[1]:
        left, right = a.signature[places_a], b.signature[places_b]
        other |= ((left != right) & ~np.isnan(left) & ~np.isnan(right)).any(axis=1)
    pairs = zip(take(a.native_id, places_a) or (), take(b.native_id, places_b) or (), strict=True)
    other |= np.fromiter((x is not None and y is not None and str(x) != str(y) for x, y in pairs), np.bool_, len(other))
    if a.groups and b.groups:
        groups = zip(take(a.groups, places_a) or (), take(b.groups, places_b) or (), strict=True)
        other |= np.fromiter((x != y for x, y in groups), np.bool_, len(other))
    return int(other.sum())


def run_marks(a: Run, b: Run, label_a: str, label_b: str) -> Iterator[str]:
    """What differs between two runs as a whole, a sentence each."""
    for run, label in ((a, label_a), (b, label_b)):
        if run.status != "done":
            yield f"{label} is {'not finished' if run.status == 'running' else run.status}: what it has is compared."
        if run.info.get("limited"):
            yield f"{label} is limited: fewer documents than the regime asks for."
    known = [run.info["checkpoint"].get("fingerprint") for run in (a, b)]
    if known[0] and known[0] == known[1]:
        yield f"{label_b} and {label_a} are the same weights."
    for key, word in IDENTITY.items():
        left, right = (str(run.info.get("identity", {}).get(key)) for run in (a, b))
        if left != right:
            if key == "version" and _engine(a) != _engine(b):
                continue
            yield f"Other {word}: {right} ({label_b}) against {left} ({label_a})."
    hashes = [run.info.get("tokenizer", {}).get("hash") for run in (a, b)]
    if hashes[0] != hashes[1]:
        yield (
            f"Other tokenizers ({label_b} against {label_a}): of texts bits per byte are compared and no perplexity of "
            "tokens."
        )


def unshared(a: Run, b: Run, label_a: str, label_b: str) -> Iterator[tuple[str, str]]:
    """Tasks that one run alone has, with the reason as far as names tell it."""
    for run, other, label, other_label in ((a, b, label_a, label_b), (b, a, label_b, label_a)):
        for task in run.tasks:
            if task in other.tasks:
                continue
            base = task.partition(":")[0]
            near = [name for name in other.tasks if name.partition(":")[0] == base]
            hint = f"; {other_label} has {', '.join(near)}: another regime or form" if near else ""
            yield task, f"only {label} has it{hint}"


def _engine(run: Run) -> str:
    return str(run.info.get("identity", {}).get("engine"))


def _part(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    protocol = about.get("protocol")
    part = protocol.get(name) if isinstance(protocol, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*a, *b]) if _plain(a.get(key)) != _plain(b.get(key))]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _other_files(a: Any, b: Any) -> str:
    """The files of one name and other content; nothing where all that both have are the same."""
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return "other files"
    changed = [str(name) for name in a if name in b and a[name] != b[name]]
    if not changed:
        return ""
    return f"other content (sha256) of {_listed(changed)}"


def _origin(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = [str(value.get("source") or "?"), str(value.get("name") or "")]
        version = value.get("revision") or value.get("sha256")
        return " ".join(filter(None, [*parts, str(version)[:8] if version else ""]))
    return str(value)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
