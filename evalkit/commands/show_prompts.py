"""How ``evalkit show TASK`` prints prompts for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from evalkit.commands.terminal import clean, say, stdout

if TYPE_CHECKING:
    from evalkit.records import Document, Prompt
    from evalkit.task import TaskBase

SEPARATOR = "\n\n"


def print_prompts(task: TaskBase, first: int | None, *, is_full: bool) -> None:
    """Print the first documents of a task, or all: how it asks, then each context once with its continuations.

    The right continuation has a star, and so have right answers where the model writes. What several documents share (an
    instruction, examples) is dim, and cut after its first example unless `is_full`.
    """
    console = stdout()
    for position, document in enumerate(islice(task.documents(), first)):
        if position == 0:
            console.print(clean(_settings(task)), soft_wrap=True)
        heading = f"document {position}" + (f" ({document.native_id})" if document.native_id is not None else "")
        console.print(clean(heading), style="bold", soft_wrap=True)
        if task.kind == "text":
            fields = document.fields
            console.print(clean(f"[{fields['source']} / {fields['domain']}]"), soft_wrap=True)
            console.print(clean(fields["text"], lines=True), soft_wrap=True)
        else:
            _print_document(console, task, document, is_full=is_full)
        console.print()
    if first is not None:
        say(f"This is the first document of {task.name}. Use --limit N for N of them in full, --json for all.")


def _print_document(console: Console, task: TaskBase, document: Document, *, is_full: bool) -> None:
    prompts = task.prompts(document)
    asked = [prompt for prompt in prompts if not prompt.unconditional]
    if asked and asked[0].generation is not None:
        _print_generation(console, task, document, asked, is_full=is_full)
        return
    position = 0
    for _, group in groupby(asked, key=lambda prompt: prompt.context):
        alike = list(group)
        if position == 0:
            _print_context(console, task, alike[0], is_full=is_full)
        else:  # another context of a schema, after the same examples
            console.print(clean(alike[0].context[alike[0].shared :], lines=True), soft_wrap=True)
        for prompt in alike:
            mark = "*" if position == document.fields.get("gold") else " "
            style = "green" if mark == "*" else ""
            console.print(clean(f"  {mark} {prompt.continuation!r}"), style=style, soft_wrap=True)
            position += 1
    twins = list(dict.fromkeys(prompt.context for prompt in prompts if prompt.unconditional))
    for context in twins:
        console.print(clean(f"  also scored after {context!r} alone (unconditional)"), style="dim", soft_wrap=True)


def _print_generation(
    console: Console, task: TaskBase, document: Document, prompts: Sequence[Prompt], *, is_full: bool
) -> None:
    """The context from which a model goes on, what ends its text, and the answers that are right, where the task has them."""
    prompt, settings = prompts[0], prompts[0].generation
    assert settings is not None  # noqa: S101
    _print_context(console, task, prompt, is_full=is_full)
    stops = f", or before {', '.join(map(repr, settings.stop))}" if settings.stop else ""
    drawn = f"; {len(prompts)} texts are drawn" if len(prompts) > 1 else ""
    after = f" after {prompt.continuation!r}" if prompt.continuation else ""
    ends = f"  the model goes on{after}, and ends by itself, at {settings.max_tokens:,} tokens{stops}{drawn}"
    console.print(clean(ends), style="dim", soft_wrap=True)
    for gold in document.fields.get("accepted", ()):
        answer = gold if isinstance(gold, str) else "; ".join(gold)
        console.print(clean(f"  * {answer!r}"), style="green", soft_wrap=True)


def _print_context(console: Console, task: TaskBase, prompt: Prompt, *, is_full: bool) -> None:
    shared, own = prompt.context[: prompt.shared], prompt.context[prompt.shared :]
    shown = shared if is_full else _beginning(task, shared)
    if left := len(shared) - len(shown):
        note = f"[{left:,} more characters of few-shot examples; use --full to show them]"
        text = Text(clean(shown, lines=True), "dim") + Text(note, "dim italic") + Text(SEPARATOR)
    else:
        text = Text(clean(shown, lines=True), "dim")
    console.print(text + Text(clean(own, lines=True)), soft_wrap=True)


def _beginning(task: TaskBase, shared: str) -> str:
    """An instruction, if there is one, and the first example."""
    settings = getattr(task, "settings", None)
    separator = getattr(settings, "separator", "") or SEPARATOR
    parts = shared.split(separator)
    keep = 2 if getattr(settings, "preamble", "") else 1
    return "".join(part + separator for part in parts[:keep]) if len(parts) > keep + 1 else shared


def _settings(task: TaskBase) -> str:
    """How a task asks, in a line: split, examples, metrics, documents, data."""
    protocol = task.protocol()
    metrics: Sequence[str] = getattr(task, "metric_list", ())
    primary = protocol.get("primary", getattr(task, "primary_metric", ""))
    others = [name for name in metrics if name != primary]
    facts = [
        f"split {protocol['split']}" if protocol.get("split") else "",
        f"{protocol['shots']} shot{'s' * (protocol['shots'] != 1)}" if "shots" in protocol else "",
        f"{protocol['documents']:,} document{'s' * (protocol['documents'] != 1)}" if "documents" in protocol else "",
        f"metric {primary}" + (f" (also {', '.join(others)})" if others else "") if primary else "",
        "; ".join(dict.fromkeys(_origins(protocol.get("data")))),
    ]
    return f"{task.name}: {' · '.join(fact for fact in facts if fact)}"


def _origins(data: Any) -> Iterator[str]:
    """Where the rows are from, of a protocol's ``data``: the sets of several parts are counted."""
    if isinstance(data, list) and len(data) > 1:
        first = next(_origins(data[0]), "")
        yield f"{first} and {len(data) - 1} more" if first else ""
        return
    for one in data if isinstance(data, list) else [data]:
        if isinstance(one, Mapping) and one.get("name"):
            yield f"data {one['name']} ({one.get('source', '')})"
