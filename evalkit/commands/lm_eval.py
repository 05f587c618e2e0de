"""``evalkit lm-eval``: lm-evaluation-harness's own command line, with evalkit's engines as its model ``evalkit``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

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

      evalkit lm-eval --tasks arc_easy,hellaswag --model_args pretrained=olmo-tiny

      evalkit lm-eval run --tasks gsm8k --num_fewshot 5 --model_args pretrained=allenai/OLMo-1B-hf,engine=vllm --log_samples --output_path out

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
        cli_evaluate()
    except (ValueError, KeyError, TypeError) as error:
        if "--debug" in words:
            raise
        text = " ".join(str(error.args[0] if error.args else error).split())
        raise UsageError(f"lm-evaluation-harness stops: {text[:300]}") from error


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
