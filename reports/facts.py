"""What the header and the method section say of each run: names to words, read from ``run.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from evalkit import words
from evalkit.reports.runs import RunView
from evalkit.results.alignment import origin
from evalkit.scoring import cross_check
from evalkit.table import Badge, Cell, Column, Row, Table, text_table


def header(run: RunView) -> dict[str, str]:
    checkpoint, identity, counts = run.part("checkpoint"), run.part("identity"), run.part("counts")
    timings, hardware, versions = run.part("timings"), run.part("hardware"), run.part("versions")
    trained = words.amount(checkpoint.get("tokens"))
    if trained and checkpoint.get("tokens_derived"):
        trained += " (derived from the step)"
    scored, asked = counts.get("tree_tokens"), counts.get("request_tokens")
    tokens = f"{scored:,} through the model" if isinstance(scored, int) else ""
    if isinstance(asked, int) and tokens:
        tokens += f", for {asked:,} asked"
    found, planned = counts.get("batches_found"), counts.get("batches_planned")
    if isinstance(found, int) and found:
        tokens += f"; {found} of {planned} batches were scored before"
    spent = words.duration(timings.get("seconds"))
    scoring = words.duration(timings.get("scoring_seconds"))
    accelerators = hardware.get("accelerators")
    machine = [
        ", ".join(map(str, accelerators))
        if isinstance(accelerators, list) and accelerators
        else hardware.get("processor"),
        f"{hardware['cores']} cores" if hardware.get("cores") else "",
        f"{hardware['memory_gib']} GiB" if hardware.get("memory_gib") else "",
    ]
    evalkit = versions.get("olmo-evalkit")
    return {
        "Suite": run.suite,
        "Parameters": words.amount(checkpoint.get("parameters")),
        "Seen in training": ", ".join(
            part
            for part in (
                f"step {checkpoint['step']:,}" if isinstance(checkpoint.get("step"), int) else "",
                trained and f"{trained} tokens",
            )
            if part
        ),
        "Date": str(timings.get("started") or "").replace("T", " ").replace("+00:00", " UTC").replace("Z", " UTC"),
        "Engine": engine(run),
        "Precision": ", ".join(
            str(identity[key]) for key in ("dtype", "quantisation") if identity.get(key) not in (None, "", "none")
        ),
        "Cross-check": cross_check.summary(run.part("cross_check")) if run.part("cross_check") else "",
        "Hardware": ", ".join(str(part) for part in machine if part),
        "Tokens": tokens,
        "Time": spent + (f", {scoring} of it scoring" if spent and scoring else ""),
        "Data": words.plainly(run.info.get("data_source")),
        "evalkit": str(evalkit or ""),
    }


def engine(run: RunView) -> str:
    """``transformers engine (transformers 5.19.0)``: the engine, and the library that does the work."""
    identity = run.part("identity")
    if run.part("imported"):
        return f"imported from {words.visible(origin(run.info))}"
    name = str(identity.get("engine") or "")
    library = str(identity.get("version") or "").partition("(")[2].rstrip(")").partition(",")[0]
    return " ".join(part for part in (name, "engine" if name else "", f"({library})" if library else "") if part)


def summary(runs: Sequence[RunView]) -> str:
    """What made the numbers, in one line; the section on method has the rest. What differs between runs is not in it."""
    facts = [header(run) for run in runs]
    kept = []
    for name in ("Parameters", "Seen in training", "Engine", "Precision", "Hardware", "Time", "Date"):
        values = list(dict.fromkeys(fact[name] for fact in facts))
        if name != "Date" and len(values) == 1 and values[0]:
            word = {"Parameters": " parameters"}.get(name, "")
            kept.append(f"{values[0].partition(', ')[0] if name in ('Hardware', 'Time') else values[0]}{word}")
        elif name == "Date" and any(values):
            days = sorted({value[:10] for value in values if value})
            kept.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    return " · ".join(kept)


def identity(run: RunView) -> dict[str, str]:
    checkpoint, tokenizer = run.part("checkpoint"), run.part("tokenizer")
    return {
        "checkpoint": str(checkpoint.get("name") or ""),
        "revision": str(checkpoint.get("revision") or ""),
        "weights (fingerprint)": str(checkpoint.get("fingerprint") or ""),
        "adapter": str(checkpoint.get("adapter") or ""),
        "tokenizer": " ".join(str(tokenizer.get(key) or "") for key in ("name", "hash")).strip(),
        **{str(key): str(value) for key, value in run.part("identity").items() if key != "fingerprint"},
        "identity hash": str(run.info.get("identity_hash") or ""),
    }


def environment(run: RunView) -> dict[str, str]:
    found = {str(key): _short(value) for key, value in run.part("versions").items()}
    return found | {str(key): _short(value) for key, value in run.part("hardware").items()}


def table(runs: Sequence[RunView], facts: Callable[[RunView], dict[str, str]]) -> Table:
    """Facts as rows with one column per run; rows that are empty everywhere are left out."""
    columns: list[dict[str, str]] = [facts(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, *(column.get(name, "") for column in columns)) for name in names]
    heads = [run.label for run in runs] if len(runs) > 1 else [""]
    return text_table(["", *heads], [[part or words.MISSING for part in row] for row in rows if any(row[1:])])


def protocols(run: RunView) -> Table:
    """What was asked of a run's tasks."""
    columns = (
        Column("Task"),
        Column("Protocol"),
        Column("Documents", kind="number"),
        Column("Requests", kind="number"),
        Column("Truncated", kind="number"),
        Column("Data"),
    )
    rows = []
    for name, about in run.tasks.items():
        counts = (about.get("documents"), about.get("requests"), about.get("truncated_prompts") or 0)
        limited = (Badge("◔ limited", "limited"),) if about.get("limited") else ()
        told = (Cell(words.number(count, "count")) for count in counts)
        data = Cell(words.plainly(about.get("data")))
        rows.append(Row((Cell(name, badges=limited), Cell(str(about.get("protocol_hash"))), *told, data)))
    return Table(columns, tuple(rows))


def _short(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def grouped(runs: Sequence[RunView], what: Callable[[RunView], Any]) -> list[tuple[RunView, str]]:
    """Groups of runs for which `what` gives the same value: the first run and the names of all. Runs without a value are left out."""
    found: dict[str, list[RunView]] = {}
    for run in runs:
        value = what(run)
        if value:
            found.setdefault(json.dumps(value, sort_keys=True, default=str), []).append(run)
    return [(group[0], _names([run.label for run in group], len(runs))) for group in found.values()]


def _names(labels: Sequence[str], all_runs: int) -> str:
    if len(labels) == all_runs:
        return "Both runs" if all_runs == 2 else f"All {all_runs} runs"
    return ", ".join(labels) if len(labels) <= 3 else f"{', '.join(labels[:2])} and {len(labels) - 2} more"


def commands(runs: Sequence[RunView]) -> list[tuple[str, str]]:
    """Each distinct command with the runs it produced."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for one in run.folders:
            command = one.info.get("command")
            if command:
                text = command if isinstance(command, str) else " ".join(str(part) for part in command)
                found.setdefault(text, []).append(run.label)
    return [(command, _names(labels, len(runs))) for command, labels in found.items()]


def guidelines(runs: Sequence[RunView]) -> Table:
    """Paloma's guidelines as marks, one line a run: what a run is by itself (G1 to G3), and as the first run (G4, G5)."""
    told = ("decontaminated", "training order fixed", "whole sample", "vocabulary", "format")
    columns = (Column("Checkpoint"), *(Column(f"G{i}", under=under) for i, under in enumerate(told, start=1)))
    rows = []
    for run in runs:
        own = run.part("guidelines")
        marks = [_mark(own.get("G1"), "training_data_decontaminated"), _mark(own.get("G2"), "training_order_fixed")]
        marks.append(_mark(own.get("G3"), "whole_evaluation_sample"))
        for name in ("G4", "G5"):
            first = runs[0].part("guidelines").get(name)
            marks.append("?" if not own.get(name) or not first else "=" if own[name] == first else "≠")
        rows.append(Row(tuple(map(Cell, (run.label, *marks)))))
    return Table(columns, tuple(rows))


def _mark(group: Any, key: str) -> str:
    value = group.get(key) if isinstance(group, dict) else None
    if isinstance(value, bool):
        return "✓" if value else "✗"
    return {"yes": "✓", "no": "✗"}.get(str(value), "?")
