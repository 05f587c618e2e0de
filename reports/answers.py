"""Generated answers to look at: prompt, everything that was written, what was cut from it, what was extracted, and why it was
judged so. `evalkit.reports.samples` chooses the documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.statistics.generated import row_value
from evalkit.words import metric_title, visible

NEEDED = ("texts", "answers", "ended", "tokens")
"""Columns without which no generated answer is shown."""
JUDGED = ("ended", "extracted", "exact_match", "passed")
"""Columns that values of a metric may be made of, beside one of its name."""
MOST_TEXTS = 8
"""Of one document; of more the first are shown."""
MOST_LETTERS = 6_000
"""Of one generated text."""


def value_of(row: Mapping[str, Any], metric: str) -> float | None:
    """The value of a metric in a stored row, with four decimals; None where the row does not tell it."""
    try:
        value = row_value(row, metric)
    except (KeyError, TypeError, ValueError):
        return None
    return round(value, 4) if math.isfinite(value) else None


def answers_of(index: int, rows: Sequence[Mapping[str, Any]], context: str, metric: str) -> dict[str, Any]:
    """One document: ``c`` context, ``g`` what would be right, ``t`` tokens cut from the prompt, and in ``r`` what each run wrote:
    ``v`` the value of the metric and in ``a`` each text (``w`` what counts of it, ``z`` what was cut, ``e`` what ended it,
    ``n`` its tokens, ``x`` what was extracted, ``y`` why it was judged so)."""
    gold = rows[-1].get("gold")
    return {
        "i": index,
        "id": name_of(rows[-1].get("native_id")),
        "c": context,
        "g": _shown(gold) if isinstance(gold, (str, list)) else "",
        "m": metric_title(metric),
        "t": max(int(row.get("truncated") or 0) for row in rows),
        "r": [{"v": value_of(row, metric), "a": _texts(row), "of": len(row["texts"])} for row in rows],
    }


def _texts(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    extracted, reasons = row.get("extracted") or [], row.get("reasons") or []
    pairs = zip(row["texts"], row["answers"], row["ended"], row["tokens"], strict=True)
    for place, (text, answer, ended, tokens) in enumerate(pairs):
        if place == MOST_TEXTS:
            break
        cut = text[len(answer) :] if text.startswith(answer) else ""
        one = {"w": _cut(answer), "z": _cut(cut), "e": str(ended), "n": int(tokens)}
        one["x"] = None if place >= len(extracted) or extracted[place] is None else _cut(_shown(extracted[place]))
        one["y"] = _cut(str(reasons[place] or "")) if place < len(reasons) else ""
        found.append(one)
    return found


def _shown(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cut(text: str) -> str:
    """A string as the page shows it: visible, and of bounded length (its beginning stays)."""
    if len(text) > MOST_LETTERS:
        text = f"{text[:MOST_LETTERS]}[… {len(text) - MOST_LETTERS:,} characters are left out here]"
    return visible(text)


def name_of(value: Any) -> str:
    """A document's own name, bounded."""
    return "" if value is None else visible(str(value))[:200]
