"""``evalkit show``: what a task asks, what an engine is fed, and what a run answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands import completion
from evalkit.commands.lookup import find_run
from evalkit.commands.options import (
    Bundle,
    Data,
    DataSource,
    Debug,
    Limit,
    LmEvalPath,
    LookupSuite,
    Output,
    Sample,
    Seed,
    Shots,
    Split,
    TasksDir,
)
from evalkit.commands.show_prompts import print_prompts
from evalkit.commands.terminal import clean, print_json, say, stdout
from evalkit.errors import UsageError
from evalkit.options import DEFAULT_SEED, RunOptions

if TYPE_CHECKING:
    from evalkit.encoding.encoding import Encoder
    from evalkit.records import Document
    from evalkit.task import TaskBase

DEFAULT_DOCUMENTS = 3
"""Documents whose requests are shown without --limit; --json prints all."""


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TASK|RUN",
            help="Task (a comma-separated list or a glob selects several); or a run folder, or MODEL[@REVISION] with --suite.",
            autocompletion=completion.tasks,
        ),
    ],
    suite: LookupSuite = None,
    output: Output = Path("results"),
    split: Split = None,
    shots: Shots = None,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = DEFAULT_SEED,
    full: Annotated[bool, typer.Option("--full", help="Print all few-shot examples, as --limit does too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per prompt, one per line.")] = False,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", help="Show the requests as token ids and strings, using the tokenizer of --model."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="M", help="Model whose tokenizer is used by --tokens.", autocompletion=completion.models
        ),
    ] = None,
    doc: Annotated[
        str | None,
        typer.Option(
            "--doc", metavar="ID", help="For a run: the document with this id, or this row number of its split."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="T", help="For a run with several tasks: the task.")
    ] = None,
    data: Data = None,
    data_source: DataSource = None,
    bundle: Bundle = None,
    tasks_dir: TasksDir = None,
    lm_eval_path: LmEvalPath = None,
    debug: Debug = False,
) -> None:
    """Show the prompts of a task (no model needed), its requests as token ids, or one document of a run with its scores.

    Examples:

      evalkit show arc_easy:mc::olmes

      evalkit show 'mmlu/*' --full

      evalkit show hellaswag --limit 1 --tokens --model olmo-tiny

      evalkit show results/olmo-tiny/quickstart/step1860-tokens16M --task arc_easy::olmes --doc MCAS_2009_8_18
    """
    from evalkit import registry
    from evalkit.task_names import single_tasks

    if tasks_dir is not None:
        registry.load_tasks_dir(tasks_dir)
    if doc is not None or suite is not None or (Path(what) / "run.json").is_file():
        _show_document(find_run(what, output, suite).path, doc, task, as_json)
        return
    if tokens and model is None:
        raise UsageError("--tokens needs a tokenizer. Give the model with --model.")
    given = {
        "split": split, "shots": shots, "limit": limit, "sample": sample, "seed": seed, "data_source": data_source,
        "data": data, "bundle": bundle, "lm_eval_path": lm_eval_path,
    }  # fmt: skip
    options = RunOptions.make(given, command="evalkit show").task_options
    is_counted = limit is not None or sample is not None
    for shown_task in (registry.make_task(name, options) for name in single_tasks([what], lm_eval_path)):
        if tokens:
            _show_requests(shown_task, str(model), None if as_json or is_counted else DEFAULT_DOCUMENTS, as_json)
        elif as_json:
            _print_lines(_prompts(shown_task, None))
        else:
            print_prompts(shown_task, None if is_counted else 1, is_full=full or is_counted)


def _prompts(task: TaskBase, first: int | None) -> Iterator[dict[str, Any]]:
    from evalkit.tasks.show import show_prompts

    return show_prompts(task, limit=first)


def _print_lines(lines: Iterable[Mapping[str, Any]]) -> None:
    for line in lines:
        print_json(line, indent=None)


def _show_requests(task: TaskBase, model: str, first: int | None, as_json: bool) -> None:
    """Print requests as an engine gets them: token ids, token strings, and which are scored."""
    from itertools import islice

    from evalkit.checkpoints.resolve import resolve
    from evalkit.encoding.encoding import Encoder, max_length_of
    from evalkit.encoding.tokenizers import Tokenizer

    checkpoint = resolve(model)[0]
    tokenizer = Tokenizer.load(checkpoint.tokenizer_path)
    encoder = Encoder(tokenizer, max_length_of(dict(checkpoint.config), tokenizer))
    console = stdout()
    for position, document in enumerate(islice(task.documents(), first)):
        prompts = task.prompts(document)
        if prompts and prompts[0].generation is not None:
            _show_continued(task, position, document, encoder, as_json=as_json)
            continue
        for prompt, encoded in zip(prompts, encoder.encode(prompts, max_length=task.max_length), strict=True):
            for request in encoded.requests:
                ids = list(request.tokens)
                strings = tokenizer.token_strings(ids)
                if as_json:
                    line = {
                        "doc_id": position,
                        "native_id": document.native_id,
                        "option": prompt.option,
                        "unconditional": prompt.unconditional,
                        "start": request.start,
                        "truncated": encoded.truncated,
                        "tokens": ids,
                        "strings": strings,
                    }
                    print_json(line, indent=None)
                    continue
                twin = ", unconditional" if prompt.unconditional else ""
                console.print(
                    f"document {position}, option {prompt.option}{twin}: {len(ids)} tokens, scored from {request.start}",
                    style="bold",
                    soft_wrap=True,
                )
                pairs = [f"{token}:{string!r}" for token, string in zip(ids, strings, strict=True)]
                console.print(clean(" ".join(pairs[: request.start])), style="dim", soft_wrap=True)
                console.print(clean(" ".join(pairs[request.start :])), soft_wrap=True)
    if first is not None and not as_json:
        say(f"These are the first {first} documents of {task.name}. Use --limit N for N of them, --json for all.")


def _show_continued(task: TaskBase, position: int, document: Document, encoder: Encoder, *, as_json: bool) -> None:
    """Print the tokens of the prompts from which a model goes on."""
    prompts = task.prompts(document)
    for prompt, continued in zip(
        prompts, encoder.encode_generation(prompts, end_ids=(), max_length=task.max_length), strict=True
    ):
        ids, cap = list(continued.request.tokens), continued.request.settings.max_tokens
        strings = encoder.tokenizer.token_strings(ids)
        if as_json:
            about = {"doc_id": position, "native_id": document.native_id, "sample": prompt.sample, "max_tokens": cap}
            print_json(about | {"truncated": continued.truncated, "tokens": ids, "strings": strings}, indent=None)
            continue
        drawn = f", text {prompt.sample}" if prompt.sample else ""
        heading = f"document {position}{drawn}: {len(ids)} tokens, from which the model writes up to {cap:,} more"
        stdout().print(heading, style="bold", soft_wrap=True)
        pairs = [f"{token}:{string!r}" for token, string in zip(ids, strings, strict=True)]
        stdout().print(clean(" ".join(pairs)), soft_wrap=True)


def _show_document(folder: Path, doc: str | None, task: str | None, as_json: bool) -> None:
    """Print one document of a run: its prompts, and the score of each option."""
    from evalkit.results.reading import load_run

    if doc is None:
        raise UsageError(f"{folder} is a run. Choose a document with --doc.")
    run = load_run(folder)
    if task is None and len(run.tasks) > 1:
        raise UsageError(f"{folder} has several tasks; choose one with --task: {', '.join(run.tasks)}.")
    name = task or run.tasks[0]
    rows = run.rows(name)
    row = next((row for row in rows if str(row["native_id"]) == doc), None)
    row = row or next((row for row in rows if str(row["index"]) == doc), None)
    if row is None:
        some = ", ".join(str(row["native_id"] or row["index"]) for row in rows[:3])
        raise UsageError(f"{folder} has no document '{doc}' of {name}. It has {len(rows):,} documents: {some}, …")
    prompts = run.prompts(name)
    prompt_rows = [
        {str(key): value for key, value in line.items()}
        for line in prompts[prompts["index"] == row["index"]].sort_values("prompt").to_dict("records")
    ]
    if as_json:
        print_json({"task": name, "row": row, "prompts": prompt_rows})
        return
    _print_document(row, prompt_rows)


def _print_texts(row: Mapping[str, Any]) -> None:
    """What the model wrote of a document: each text, what was cut from it, what was extracted and why it was judged so."""
    console = stdout()
    if row.get("gold"):
        console.print(clean(f"* right: {row['gold']!r}"), style="green", soft_wrap=True)
    if "texts" not in row:
        say("Texts of gated datasets are stored only with 'evalkit run --samples N'.")
        return
    ends = {"stop": "a stop string ended it", "end": "it ended by itself", "cap": "cut off at the length limit"}
    for place, (text, answer) in enumerate(zip(row["texts"], row["answers"], strict=True)):
        number = f"text {place + 1} of {len(row['texts'])}: " if len(row["texts"]) > 1 else ""
        ended = row["ended"][place] if "ended" in row else "how it ended is not known"
        tokens = f"{row['tokens'][place]:,} tokens, " if "tokens" in row else ""
        heading = f"{number}{tokens}{ends.get(ended, ended)}"
        console.print(clean(heading), style="bold", soft_wrap=True)
        console.print(clean(answer, lines=True), soft_wrap=True)
        if len(text) > len(answer):
            console.print(clean(f"  cut: {text[len(answer) :]!r}"), style="dim", soft_wrap=True)
        found = (row.get("extracted") or [None] * (place + 1))[place]
        reason = (row.get("reasons") or [""] * (place + 1))[place]
        console.print(clean(f"  extracted: {'nothing' if found is None else repr(found)}. {reason}"), soft_wrap=True)


def _print_document(row: Mapping[str, Any], prompt_rows: list[dict[str, Any]]) -> None:
    console = stdout()
    options = [prompt for prompt in prompt_rows if not prompt["unconditional"]]
    if options and "continuation" not in options[0]:
        say("Texts of gated datasets are stored only with 'evalkit run --samples N'.")
        options = []
    if options and options[0]["context"]:
        console.print(clean(options[0]["context"], lines=True), soft_wrap=True)
    if "texts" in row or "ended" in row:
        _print_texts(row)
        return
    if "sums" not in row:
        for name in ("source", "domain", "sum", "tokens", "bytes", "windows", "truncated"):
            if name in row:
                console.print(clean(f"{name}: {row[name]}"), soft_wrap=True)
        if options:
            console.print(clean(options[0]["continuation"], lines=True), soft_wrap=True)
        return
    for position, total in enumerate(row["sums"]):
        marks = ("*" if position == row.get("gold") else " ") + (">" if position == row.get("predicted") else " ")
        text = options[position]["continuation"] if position < len(options) else f"option {position}"
        tokens = f"  {row['tokens'][position]:3d} tokens" if "tokens" in row else ""
        line = f"{marks} {total:10.4f} nats{tokens}  {text!r}"
        console.print(clean(line), soft_wrap=True)
    legend = (
        "* correct answer, > the model's answer"
        if len(row["sums"]) > 1
        else "* correct answer (the only one that is scored)"
    )
    console.print(legend, style="dim")
