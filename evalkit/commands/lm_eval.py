"""``evalkit lm-eval``: lm-evaluation-harness's own command line, with evalkit's engines as its model ``evalkit``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from evalkit.errors import UsageError

CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Everything on the command line is the harness's own, ``--help`` too."""


def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness's own command line (extra 'lm-eval') on evalkit's engines.

    All options are its own; '--model evalkit' is the default. --model_args takes pretrained, revision, engine, dtype, device,
    tokenizer, adapter, max_length, batch_tokens, trust_remote_code, and output (the folder of the journal, so that the same
    command resumes).

    Examples:

      evalkit lm-eval --tasks arc_easy,hellaswag --model_args pretrained=olmo-tiny  # hub

      evalkit lm-eval run --tasks gsm8k --num_fewshot 5 --model_args pretrained=allenai/OLMo-1B-hf,engine=vllm --log_samples --output_path out  # hub, cuda

      evalkit lm-eval ls tasks
    """
    run_harness(context.args)


def run_harness(words: Sequence[str]) -> None:
    """Run the harness's command line with these words. Raises `EvalkitError` and `SystemExit`."""
    from evalkit.tasks.lm_eval.index import package

    package()
    arguments = with_model([word for word in words if word != "--debug"])
    sys.argv = ["evalkit lm-eval", *arguments]
    from lm_eval.__main__ import cli_evaluate

    import evalkit.lm_eval_model  # noqa: F401  # registers the model

    try:
        with kept_names():
            cli_evaluate()
    except (ValueError, KeyError, TypeError) as error:
        if "--debug" in words:
            raise
        text = " ".join(str(error.args[0] if error.args else error).split())
        raise UsageError(f"lm-evaluation-harness failed: {text[:300]}") from error


@contextmanager
def kept_names() -> Iterator[None]:
    """The names of the harness's own tasks come from evalkit's cache, since reading its files takes seconds at each start."""
    from lm_eval.tasks._index import Entry, Kind, TaskIndex

    from evalkit.tasks.lm_eval import index

    kinds = {ours: Kind[theirs] for theirs, ours in index.KINDS.items()}
    known = index.index_of()  # before the harness's own is replaced, with which it is made the first time
    first = TaskIndex.build

    def build(paths: Iterable[Path], **options: Any) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for path in paths:
            if path.resolve() != (index.package() / "tasks").resolve():
                found |= first([path], **options)
                continue
            for one in known.values():
                file = None if one.path is None else Path(one.path)
                found[one.name] = Entry(one.name, kinds[one.kind], file, tags=set(one.members))
        return found

    TaskIndex.build = staticmethod(build)
    try:
        yield
    finally:
        TaskIndex.build = staticmethod(first)


def with_model(words: Sequence[str]) -> list[str]:
    """The words with ``--model evalkit``, unless they name a model or run nothing.

    >>> with_model(["--tasks", "arc_easy"]), with_model(["ls", "tasks"])
    (['run', '--model', 'evalkit', '--tasks', 'arc_easy'], ['ls', 'tasks'])
    """
    first = next(iter(words), "")
    if not words or first in ("ls", "validate"):
        return list(words)
    rest = list(words[1:] if first == "run" else words)
    named = any(
        word in ("--model", "-M", "--config", "-C") or word.startswith(("--model=", "--config=")) for word in rest
    )
    return ["run", *([] if named or {"--help", "-h"} & set(rest) else ["--model", "evalkit"]), *rest]
