"""What makes two results comparable: a task's protocol without what may differ between models.

Two results stand in one column where their protocols are equal but for the tokenizer (another model may well have
another) and, of questions, the length and window of the encoder (a question that was cut carries a mark of its own).
Fewer or other documents are the same column with a mark (`sample_of`): such a cell is shown and never counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

SAMPLE_KEYS = ("documents", "limit", "sample", "domains")
"""What of a task's protocol says which documents were asked."""
_HASH_LENGTH = 12


def asked(about: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """The part of a task's protocol that must be equal for `metric` to compare, from its entry in ``run.json``."""
    protocol = about.get("protocol")
    if not isinstance(protocol, Mapping):
        return {"protocol": str(about.get("protocol_hash"))}
    plain: dict[str, Any] = {str(key): value for key, value in protocol.items()}
    encoder = dict(plain.get("encoder") or {})
    if not metric.endswith("token_perplexity"):
        encoder.pop("tokenizer", None)
    if about.get("kind") != "text":
        for name in ("window", "prefix_token", "max_length"):  # of questions these tell nothing but what was cut
            encoder.pop(name, None)
    task = {key: value for key, value in dict(plain.get("task") or {}).items() if key not in SAMPLE_KEYS}
    plain.pop("imported", None)
    plain.pop("prompts", None)  # told apart in the cells (`prompts_of`): runs made before it was stored have none
    return {**plain, "task": task, "encoder": encoder}


def fits(known: Mapping[str, Any], imported: Mapping[str, Any]) -> bool:
    """Whether an imported protocol, which says less, says nothing else: the same number of examples of the same split."""
    own, given = known.get("task") or {}, imported.get("task") or {}
    return all(given.get(key) in (None, "", own.get(key)) for key in ("shots", "split"))


def prompts_of(about: Mapping[str, Any]) -> str | None:
    """The digest of all prompts that were asked; None for runs made before it was stored."""
    protocol = about.get("protocol")
    digest = protocol.get("prompts") if isinstance(protocol, Mapping) else None
    return str(digest) if digest else None


def sample_of(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Which documents were asked: their number and how they were chosen."""
    protocol = about.get("protocol")
    task = protocol.get("task") if isinstance(protocol, Mapping) else None
    found = {key: task[key] for key in SAMPLE_KEYS if task.get(key) is not None} if isinstance(task, Mapping) else {}
    if "documents" not in found and about.get("limited"):
        found["documents"] = about.get("documents")
    return found


def key_of(value: Any) -> str:
    """JSON that is equal where the values are."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)


def differences(protocols: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each of several protocols, in words, what it has of that in which they differ: ``shots 5``, ``split test``.

    >>> differences([{"task": {"shots": 5, "split": "test"}}, {"task": {"shots": 0, "split": "test"}}])
    [['shots 5'], ['shots 0']]
    """
    flat = [dict(_leaves(protocol)) for protocol in protocols]
    names = list(dict.fromkeys(name for leaves in flat for name in leaves))
    different = [name for name in names if len({key_of(leaves.get(name)) for leaves in flat}) > 1]
    words: list[list[str]] = []
    for leaves in flat:
        words.append([_words(name, leaves.get(name)) for name in different])
    return words


def value(protocol: Mapping[str, Any], name: str) -> Any:
    """The first leaf of that name: ``value(protocol, "split")``."""
    return next((item for path, item in _leaves(protocol) if path[-1] == name), None)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, Mapping):
        return [(path, value)]
    return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, str(key)))]


def _words(path: tuple[str, ...], item: Any) -> str:
    name = " ".join(path[-2:] if path[0] == "task" and len(path) > 2 else path[-1:]).replace("_", " ")
    if item is None:
        return f"no {name}"
    if isinstance(item, bool):
        return name if item else f"not {name}"
    text = item if isinstance(item, str) else key_of(item)
    return f"{name} {text[:_HASH_LENGTH]}…" if len(text) > 2 * _HASH_LENGTH else f"{name} {text}"
