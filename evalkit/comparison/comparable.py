"""Whether two runs are comparable: protocols are compared key by key, documents by ids, answers and lengths.

A task is not comparable (with a reason), comparable with a mark (a sentence), or comparable. Different regimes, forms,
shots, splits, task versions, windows or data make it incomparable. Different limits and samples do not: the shared
documents are compared. Nor does a different origin of the data, if ids, right answers and lengths of all shared documents
agree. Nor do engines, dtypes and tokenizers: accuracies and bits per byte mean the same with each, and a mark says so. Where a
tokenizer loses text, bits per byte compare only within the same tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.comparison.columns import Columns, select
from evalkit.encoding.losses import describe_losses
from evalkit.results.alignment import is_imported, origin
from evalkit.results.reading import Run
from evalkit.system.characters import visible

EXTENT_KEYS = ("documents", "limit", "sample", "domains")
"""Protocol keys that say how many documents were scored, not how."""
KEY_NAMES = {
    "version": "task version",
    "encoding": "encoding rule",
    "examples": "few-shot examples",
    "lengths": "lengths",
    "unconditional_context": "unconditional context",
    "primary": "primary metric",
    "max_length": "maximum length",
    "prefix_token": "prefix token",
    "window": "window rule",
}
IDENTITY_NAMES = {
    "engine": "engine",
    "version": "engine version",
    "dtype": "dtype",
    "quantisation": "quantisation",
    "attention": "attention implementation",
    "device": "device",
}


@dataclass(frozen=True, slots=True)
class ProtocolDifferences:
    """How two protocols of one task differ. All fields are empty if they are the same."""

    reason: str = ""
    """Why the task is not comparable."""
    extent: str = ""
    """Different limits or samples."""
    data: str = ""
    """A different origin of the data: comparable if the documents are the same."""
    windows: str = ""
    """Different windows: no effect on texts of one window."""
    length: str = ""
    """Different maximum lengths: no effect on questions that were not truncated."""
    by_id: bool = False
    """Whether documents are paired by their ids where all have one: another tool may number them otherwise."""


def compare_protocols(a: Mapping[str, Any], b: Mapping[str, Any]) -> ProtocolDifferences:
    """Compare the ``run.json`` entries of one task in two runs, key by key."""
    if a.get("protocol_hash") == b.get("protocol_hash") and a.get("protocol_hash"):
        return ProtocolDifferences()
    task_a, task_b = _protocol_part(a, "task"), _protocol_part(b, "task")
    encoder_a, encoder_b = _protocol_part(a, "encoder"), _protocol_part(b, "encoder")
    is_text = a.get("kind") == "text"
    if a.get("kind") != b.get("kind"):
        return ProtocolDifferences(f"its kind differs: {b.get('kind')} against {a.get('kind')}")
    if "imported" in (a.get("protocol") or {}) or "imported" in (b.get("protocol") or {}):
        return _compare_imported(task_a, task_b)
    reasons: list[str] = []
    data = length = windows = ""
    for key in _differing_keys(task_a, task_b):
        description = (
            f"{KEY_NAMES.get(key, key.replace('_', ' '))}: {_short(task_b.get(key))} against {_short(task_a.get(key))}"
        )
        if key in EXTENT_KEYS or (key == "max_length" and key in encoder_a and key in encoder_b):
            continue  # the encoder's is the length that counted
        if key in ("data", "data_source"):
            data = f"data from {_origin(task_b.get(key))} against {_origin(task_a.get(key))}"
        elif key == "files":
            changed_files = _changed_files(task_a[key], task_b[key]) if key in task_a and key in task_b else ""
            if changed_files:
                reasons.append(changed_files)
            elif not data:
                data = "different sets of files"
        else:
            reasons.append(description)
    for key in _differing_keys(encoder_a, encoder_b):
        description = f"{KEY_NAMES.get(key, key.replace('_', ' '))}: {_short(encoder_b.get(key))} against {_short(encoder_a.get(key))}"
        if key == "tokenizer":  # mentioned once for the whole run, unless it keeps bits per byte from comparing
            losses = [describe_losses(task_info) for task_info in (b, a)]
            if is_text and any(losses):
                reasons.append("text lost by the tokenizers: " + " against ".join(told or "nothing" for told in losses))
            continue
        if key in ("window", "max_length") and is_text:
            windows = "; ".join(filter(None, (windows, description)))
        elif key == "max_length":
            length = description
        elif key == "prefix_token" and not is_text:
            continue  # precedes only texts and empty contexts
        elif key != "window":
            reasons.append(description)
    prompts = [about["protocol"].get("prompts") if task else None for about, task in ((a, task_a), (b, task_b))]
    other_extent = any(key in EXTENT_KEYS for key in _differing_keys(task_a, task_b))
    if all(prompts) and prompts[0] != prompts[1] and not reasons and not other_extent:
        if data:
            data += ", and the prompts differ"
        else:
            reasons.append("the prompts differ, although the task version is the same")
    extent = "; ".join(
        f"{key}: {_short(task_b.get(key))} against {_short(task_a.get(key))}"
        for key in _differing_keys(task_a, task_b)
        if key in ("limit", "sample")
    )
    return ProtocolDifferences("; ".join(reasons), extent, data, windows, length)


def _compare_imported(a: Mapping[str, Any], b: Mapping[str, Any]) -> ProtocolDifferences:
    """What an imported result does not say is no difference; `evalkit.comparison.prompts` looks at what was asked."""
    keys = ("shots", "split", *(("version",) if "output" in a and "output" in b else ()))
    reasons = [
        f"{KEY_NAMES.get(key, key)}: {_short(b.get(key))} against {_short(a.get(key))}"
        for key in keys
        if a.get(key) not in (None, "") and b.get(key) not in (None, "") and str(a[key]) != str(b[key])
    ]
    return ProtocolDifferences("; ".join(reasons), by_id=True)


@dataclass(frozen=True, slots=True)
class Pairing:
    """The rows of the documents that two runs share, or the reason why they are not comparable."""

    rows_a: NDArray[np.int64]
    rows_b: NDArray[np.int64]
    reason: str = ""
    marks: tuple[str, ...] = ()


def pair_documents(a: Columns, b: Columns, differences: ProtocolDifferences) -> Pairing:
    """Pair documents by index, and check that they are the same and were scored in the same way."""
    by_id = _paired_by_id(a, b) if differences.by_id else None
    if by_id is not None:
        rows_a, rows_b = by_id
    elif np.array_equal(a.index, b.index):
        rows_a = rows_b = np.arange(len(a))
    else:
        _, rows_a, rows_b = np.intersect1d(a.index, b.index, assume_unique=True, return_indices=True)
    shared = len(rows_a)

    def not_comparable(reason: str) -> Pairing:
        return Pairing(rows_a[:0], rows_b[:0], reason)

    if shared == 0:
        return not_comparable("they share no document")
    mismatches = _count_mismatches(a, b, rows_a, rows_b)
    if mismatches:
        origin = f" ({differences.data})" if differences.data else ""
        return not_comparable(f"{mismatches:,} of {shared:,} documents differ{origin}")
    marks = []
    if differences.windows:
        long_texts = int(((a.windows[rows_a] != 1) | (b.windows[rows_b] != 1)).sum())
        if long_texts:
            return not_comparable(
                f"{differences.windows}, and {long_texts:,} of {shared:,} texts are longer than one window"
            )
        marks.append(f"{differences.windows}; no effect, every text fits in one window")
    if differences.length:
        truncated = int((a.truncated[rows_a] | b.truncated[rows_b]).sum())
        marks.append(
            f"{differences.length}; {f'{truncated:,} of {shared:,} contexts were cut' if truncated else 'no context was cut'}"
        )
    if differences.data:
        marks.append(f"{differences.data}; ids, answers and lengths of all {shared:,} shared documents agree")
    if shared < max(len(a), len(b)):
        extent = f" ({differences.extent})" if differences.extent else ""
        marks.append(f"{shared:,} documents are shared, of {len(b):,} against {len(a):,}{extent}")
    return Pairing(rows_a, rows_b, "", tuple(marks))


def _paired_by_id(a: Columns, b: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Rows of the same id, in the order of `a`; None unless every document of both has an id of its own, and some are shared."""
    places = {str(native): place for place, native in enumerate(b.native_id) if native is not None}
    own = [str(native) for native in a.native_id if native is not None]
    if len(places) != len(b) or len(set(own)) != len(a):
        return None
    rows_a = np.array([place for place, native in enumerate(own) if native in places], dtype=np.int64)
    rows_b = np.array([places[own[place]] for place in rows_a.tolist()], dtype=np.int64)
    return (rows_a, rows_b) if len(rows_a) else None


def _count_mismatches(a: Columns, b: Columns, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> int:
    """Number of pairs that are not the same document."""
    differs = np.zeros(len(rows_a), dtype=np.bool_)
    if a.signature.shape[1] == b.signature.shape[1]:
        left, right = a.signature[rows_a], b.signature[rows_b]
        differs |= ((left != right) & ~np.isnan(left) & ~np.isnan(right)).any(axis=1)
    id_pairs = zip(select(a.native_id, rows_a) or (), select(b.native_id, rows_b) or (), strict=True)
    differs |= np.fromiter(
        (x is not None and y is not None and str(x) != str(y) for x, y in id_pairs), np.bool_, len(differs)
    )
    if a.groups and b.groups:
        groups = zip(select(a.groups, rows_a) or (), select(b.groups, rows_b) or (), strict=True)
        differs |= np.fromiter((x != y for x, y in groups), np.bool_, len(differs))
    return int(differs.sum())


def run_marks(a: Run, b: Run, label_a: str, label_b: str) -> Iterator[str]:
    """Differences between two runs as a whole, as sentences."""
    for run, label in ((a, label_a), (b, label_b)):
        if run.status != "done":
            yield f"{label} is {'not finished' if run.status == 'running' else run.status}: its results so far are compared."
        if run.info.get("limited"):
            yield f"{label} is limited: fewer documents than the regime specifies."
        lossy = [task for task, task_info in run.info["tasks"].items() if describe_losses(task_info)]
        if lossy:
            yield (
                f"The tokenizer of {label} loses text in {', '.join(lossy[:3])}{' and others' if len(lossy) > 3 else ''}: bits "
                "per byte there compare only within the same tokenizer."
            )
        if is_imported(run.info):
            yield f"{label} is imported from {visible(origin(run.info))}: engine, precision and tokenizer were that tool's."
    if is_imported(a.info) or is_imported(b.info):
        return
    fingerprints = [run.info["checkpoint"].get("fingerprint") for run in (a, b)]
    if fingerprints[0] and fingerprints[0] == fingerprints[1]:
        yield f"{label_b} and {label_a} are the same weights."
    for key, name in IDENTITY_NAMES.items():
        left, right = (str(run.info.get("identity", {}).get(key)) for run in (a, b))
        if left != right:
            if key == "version" and _engine(a) != _engine(b):
                continue
            yield f"Different {name}: {right} ({label_b}) against {left} ({label_a})."
    hashes = [run.info.get("tokenizer", {}).get("hash") for run in (a, b)]
    if hashes[0] != hashes[1]:
        yield (
            f"Different tokenizers ({label_b} against {label_a}): for texts, bits per byte are compared but not token "
            "perplexity."
        )


def unshared_tasks(a: Run, b: Run, label_a: str, label_b: str) -> Iterator[tuple[str, str]]:
    """Tasks that only one of two runs has, each with a reason."""
    for run, other, label, other_label in ((a, b, label_a, label_b), (b, a, label_b, label_a)):
        for task in run.tasks:
            if task in other.tasks:
                continue
            base = task.partition(":")[0]
            similar = [name for name in other.tasks if name.partition(":")[0] == base]
            hint = f"; {other_label} has {', '.join(similar)}: a different regime or form" if similar else ""
            yield task, f"only {label} has it{hint}"


def _engine(run: Run) -> str:
    return str(run.info.get("identity", {}).get("engine"))


def _protocol_part(task_info: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    protocol = task_info.get("protocol")
    part = protocol.get(name) if isinstance(protocol, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _differing_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*a, *b]) if _canonical_json(a.get(key)) != _canonical_json(b.get(key))]


def _canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _changed_files(a: Any, b: Any) -> str:
    """A sentence on files with the same name and different content; empty if all shared files are the same."""
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return "other files"
    changed = [str(name) for name in a if name in b and a[name] != b[name]]
    if not changed:
        return ""
    return f"different content (sha256) of {_listed(changed)}"


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
