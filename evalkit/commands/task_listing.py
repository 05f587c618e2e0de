"""``evalkit list tasks``: families on one screen, or one of them whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.text import Text

from evalkit import registry
from evalkit.commands.terminal import clean, print_json, print_table, stdout
from evalkit.errors import UnknownName
from evalkit.registry import TaskEntry

LM_EVAL = "lm-eval"
LABELS = "arc_easy_test_mc_5shot, mmlu_stem_val_rc_5shot"


def task_json(entry: TaskEntry) -> dict[str, Any]:
    """All of an entry as JSON values."""
    from evalkit.tasks.describe import variants_of

    return {
        "name": entry.name,
        "variants": {regime: list(forms) for regime, forms in entry.variants.items()},
        "names": [str(name) for name in entry.names()],
        "description": entry.description,
        "where": entry.where,
        "aliases": list(entry.aliases),
        "parts": list(entry.part_names),
        "groups": {name: list(parts) for name, parts in entry.groups.items()},
        "settings": variants_of(entry),
    }


def print_tasks(entries: Sequence[TaskEntry], name: str | None, *, as_json: bool, how: str | None = None) -> None:
    """Print all tasks, or those that `name` means. Raises `UnknownName`."""
    chosen = list(entries) if name is None else _chosen(entries, name)
    if as_json:
        print_json([task_json(entry) for entry in chosen])
    elif how not in (None, "table"):
        names = [(str(variant), entry.description) for entry in chosen for variant in entry.names()]
        print_table(["task", "description"], names, how=how)
    elif name is None:
        _print_families(entries)
    elif len(chosen) == 1:
        _print_family(chosen[0])
    else:
        print_table(
            ["task", "description"], [(entry.name, entry.description) for entry in chosen], wraps=["description"]
        )


def _chosen(entries: Sequence[TaskEntry], name: str) -> list[TaskEntry]:
    """The entries of a name: all that stand below it (``paloma``), or the family that it, or its part, belongs to."""
    below = [entry for entry in entries if entry.name.startswith(f"{name}/")]
    if below:
        return [entry for entry in entries if entry.name == name] + below
    base = name.partition(":")[0]
    try:
        return [registry.task_family(base)]
    except UnknownName as unknown:
        heads = {entry.name.partition("/")[0] for entry in entries}
        known = {*registry.task_spellings(), *heads}
        raise unknown if unknown.kind != "task" else UnknownName("task", name, known, registry.tasks.hint) from None


def _print_families(entries: Sequence[TaskEntry]) -> None:
    """A line a family; on a terminal a description ends where the line does."""
    from evalkit.tasks.regimes import REGIMES  # reads every description, which no other list needs

    named = {regime for entry in entries for regime in entry.variants if regime}
    regimes = [*(regime for regime in REGIMES if regime in named), *sorted(named - set(REGIMES))]
    listed = [entry for entry in entries if "/" not in entry.name and not entry.parts]
    rows = [
        (
            entry.name,
            *(" ".join(entry.variants.get(regime, ())) for regime in regimes),
            str(len(entry.part_names) or ""),
            entry.description,
        )
        for entry in listed
    ]
    print_lines(["task", *regimes, "parts", "description"], rows)
    console = stdout()
    others: dict[str, int] = {}
    for entry in entries:
        if entry not in listed and entry.name != LM_EVAL:
            head = entry.name.partition("/")[0]
            others[head] = others.get(head, 0) + ("/" in entry.name)
    console.print()
    if others:
        heads = ", ".join(f"{head} ({count})" if count else f"{head}/NAME" for head, count in others.items())
        console.print(clean(f"Families whose parts are tasks: {heads}."))
    console.print(
        "A name is TASK[/PART][:FORM][::REGIME], the first form by default; 'evalkit list tasks NAME' shows all of one.\n"
        f"Labels of OLMo-core are names too: {LABELS}.\n"
        "So are the tasks, groups and tags of lm-evaluation-harness: lm-eval/NAME ('evalkit lm-eval ls tasks' lists them)."
    )


def print_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose last column ends where a terminal's line does."""
    console = stdout()
    widths = [max(len(clean(row[i])) for row in [columns, *rows]) for i in range(len(columns) - 1)]
    for row in [columns, *rows]:
        cells = [clean(cell) for cell in row]
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        text = Text(f"{line}  {cells[-1]}".rstrip(), style="bold" if row is columns else "")
        if console.is_terminal:
            text.truncate(console.width, overflow="ellipsis")
        console.print(text, soft_wrap=True)


def _print_family(entry: TaskEntry) -> None:
    console = stdout()
    console.print(clean(f"{entry.name}: {entry.description}" if entry.description else entry.name), style="bold")
    variants: list[dict[str, Any]] = task_json(entry)["settings"]
    if variants:
        console.print()
        print_table(
            ["name", "kind", "split", "documents", "shots", "primary metric"],
            [(v["name"], v["kind"], v["split"], _sampled(v["sample"]), v["shots"], v["primary"]) for v in variants],
            right=["shots"],
        )
    elif any(name for name in entry.variants):
        console.print(clean("Names: " + ", ".join(map(str, entry.names()))))
    console.print()
    facts = {**_names(entry), **_sources(entry), "Registered by": entry.where}
    width = min(console.width, 120)
    for label, text in facts.items():
        if text:
            console.print(
                fill(
                    clean(f"{label}: {text}"),
                    width,
                    subsequent_indent="    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                ),
                soft_wrap=True,
            )


def _sampled(sample: Mapping[str, int] | None) -> str:
    return "all" if sample is None else f"{sample['size']:,} if over {sample['above']:,}"


def _names(entry: TaskEntry) -> dict[str, str]:
    groups = {f"Group {name} ({len(parts)})": ", ".join(parts) for name, parts in entry.groups.items()}
    in_groups = {part for parts in entry.groups.values() for part in parts}
    others = [part for part in entry.part_names if part not in in_groups]
    example = entry.part_names[0] if entry.part_names else ""
    return {
        "Also called": ", ".join(entry.aliases),
        **groups,
        f"Parts ({len(others)})": ", ".join(others),
        "Names of parts": f"{entry.name}/{example}, '{entry.name}/*' for each; {entry.name} alone pools all"
        if example
        else "",
    }


def _sources(entry: TaskEntry) -> Mapping[str, str]:
    """Where the rows and examples of a question set come from."""
    from evalkit.task import TaskOptions
    from evalkit.tasks.describe import definition_of, examples, origin

    factory = definition_of(entry)
    if factory is None:
        return {}
    tasks = [factory(name, TaskOptions()) for name in entry.names()]
    by_text: dict[str, list[str]] = {}
    for task in tasks:
        if task.shots:
            by_text.setdefault(examples(task), []).append(task.variant.regime or "")
    listed = [
        f"{', '.join(dict.fromkeys(regimes))}: {text}" if any(regimes) else text for text, regimes in by_text.items()
    ]
    return {
        "Data": " | ".join(dict.fromkeys(origin(task) for task in tasks)),
        "Examples": "; ".join(listed),
        "Described in": str(Path(factory.definition.path)),
    }
