"""Paloma's guidelines (arXiv 2312.10523) as marks: two results compare on the controls that both share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.reports.leaderboard.entries import Entry
from evalkit.words import plainly

YES, NO, UNKNOWN = "✓", "✗", "?"


@dataclass(frozen=True, slots=True)
class Controls:
    """The marks of every row, and what the letters mean."""

    rows: tuple[Mapping[str, str], ...]
    letters: Mapping[str, tuple[str, ...]]
    """``G4`` and ``G5``: the first is ``a``, the next ``b``."""


def controls_of(entries: Sequence[Entry]) -> Controls:
    """G1 (decontaminated), G2 (order fixed) and G3 (whole sample) as a sign; G4 (vocabulary) and G5 (format) as a letter
    that rows with the same one share."""
    letters: dict[str, list[str]] = {"G4": [], "G5": []}
    rows = []
    for entry in entries:
        found = _guidelines(entry)
        marks: dict[str, str] = {}
        if found:
            for name, key in (("G1", "training_data_decontaminated"), ("G2", "training_order_fixed")):
                marks[name] = _sign(_value(found.get(name), key))
            samples = [_value(one.get("G3"), "whole_evaluation_sample") for one in _every(entry)]
            marks["G3"] = NO if any(sample is False for sample in samples) else _sign(samples[0] if samples else None)
            for name in ("G4", "G5"):
                told = plainly(found.get(name))
                if not told:
                    marks[name] = UNKNOWN
                    continue
                if told not in letters[name]:
                    letters[name].append(told)
                marks[name] = _letter(letters[name].index(told))
        rows.append(marks)
    return Controls(tuple(rows), {name: tuple(told) for name, told in letters.items() if told})


def _every(entry: Entry) -> list[Mapping[str, Any]]:
    """The guidelines of an entry's runs, those of texts where it has any."""
    texts = [run for run in entry.runs if any(about.get("kind") == "text" for about in run.tasks.values())]
    return [run.part("guidelines") for run in texts or entry.runs if run.part("guidelines")]


def _guidelines(entry: Entry) -> Mapping[str, Any]:
    return next(iter(_every(entry)), {})


def _value(group: Any, key: str) -> Any:
    return group.get(key) if isinstance(group, Mapping) else None


def _sign(value: Any) -> str:
    if value is True or value in ("yes", "true"):
        return YES
    return NO if value is False or value in ("no", "false") else UNKNOWN


def _letter(number: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[number] if number < len(letters) else f"{letters[number // 26 - 1]}{letters[number % 26]}"
