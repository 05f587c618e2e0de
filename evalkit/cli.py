"""The command ``evalkit``: registers every subcommand and turns failures into messages and exit codes.

Exit codes: 0 success; 1 a requested operation failed; 2 the command line or a file it names is invalid; 3 a
``--fail-if`` rule fired; 130 interrupted. Errors are one or two plain sentences on stderr; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any

import typer
import typer.core

from evalkit import __version__, registry
from evalkit.commands import (
    compare,
    data,
    doctor,
    leaderboard,
    listing,
    lm_eval,
    models,
    report,
    results,
    run,
    show,
    train,
    watch,
)
from evalkit.commands.terminal import clean, size
from evalkit.errors import EvalkitError, UnknownName
from evalkit.system.characters import let_streams_replace
from evalkit.system.environment import address_space_limit

COMMAND_ORDER = (
    "run",
    "train",
    "watch",
    "list",
    "show",
    "compare",
    "trend",
    "report",
    "leaderboard",
    "metrics",
    "results",
    "models",
    "data",
    "doctor",
    "lm-eval",
)

RENAMED_OPTIONS = {"--clip": "--max-grad-norm"}
"""Old names of options, for the error message."""
LARGE_COMMANDS = ("run", "train", "watch", "lm-eval")
"""Commands that load models."""
SMALL_ADDRESS_SPACE = 8 * 10**9
"""Bytes of address space below which these warn. olmo-tiny takes 2 GB on two cores; each core adds some."""


class OrderedCommands(typer.core.TyperGroup):
    """Lists commands in the order in which users need them."""

    def list_commands(self, ctx: object) -> list[str]:
        return sorted(
            self.commands, key=lambda name: COMMAND_ORDER.index(name) if name in COMMAND_ORDER else len(COMMAND_ORDER)
        )


app = typer.Typer(
    name="evalkit",
    cls=OrderedCommands,
    help="Evaluate, compare and fine-tune OLMo checkpoints (and any causal language model that transformers loads).",
    epilog="Start here: evalkit run --model olmo-tiny --suite quickstart",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("run")(run.run)
app.command("train")(train.train)
app.command("watch")(watch.watch)
app.add_typer(listing.app, name="list")
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("trend")(compare.trend)
app.command("report")(report.report)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("metrics")(report.metrics)
app.add_typer(results.app, name="results")
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)
app.command("lm-eval", context_settings=lm_eval.CONTEXT)(lm_eval.lm_eval)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Evaluate, compare and fine-tune OLMo checkpoints (and any causal language model that transformers loads)."""
    if version:
        print(f"evalkit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        return _run_command(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        for sentence in registry.plugin_problems:
            print(f"Warning: {clean(sentence)}", file=sys.stderr, flush=True)


def _warn_of_a_small_address_space(command: str) -> None:
    """Libraries that find no address space end the program with a signal, or wait forever, before anyone could say why."""
    limit = address_space_limit()
    if command in LARGE_COMMANDS and limit is not None and limit < SMALL_ADDRESS_SPACE:
        print(
            f"Warning: The shell limits the address space to {size(limit)} (ulimit -v). PyTorch needs several GB, and may crash "
            "or hang without a message when it runs out.",
            file=sys.stderr,
            flush=True,
        )


def _run_command(arguments: Sequence[str]) -> int:
    _warn_of_a_small_address_space(next(iter(arguments), ""))
    debug = "--debug" in arguments
    let_streams_replace()
    if not debug:
        _silence_libraries()
    # OpenMP threads that spin while waiting compete for cores as soon as anything else runs: small models were several
    # times slower on a busy machine. The variable is read when torch is loaded and does not change any score.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        command = _with_joined_lines(typer.main.get_command(app))
        code = command.main(args=arguments, prog_name="evalkit", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # typer's answer to Ctrl-C
            return _report_interrupt()
        return code if isinstance(code, int) else 0
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else 1
    except (KeyboardInterrupt, typer.Abort):
        return _report_interrupt()
    except BrokenPipeError:
        _discard_stdout()
        return 0
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help is already printed
            return 2
        if debug:
            traceback.print_exc()
        message, code = describe_error(error)
        _print_error(message)
        return code


def _with_joined_lines(command: Any) -> Any:
    """Join the lines of each paragraph of the help texts, which the source breaks at its own width; commands stay lines."""
    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(
            text if re.search(r"^\s", text, re.MULTILINE) else " ".join(text.split("\n")) for text in paragraphs
        )
    for below in getattr(command, "commands", {}).values():
        _with_joined_lines(below)
    return command


def describe_error(error: BaseException) -> tuple[str, int]:
    """The message for `error` (one or two sentences) and the exit code."""
    if isinstance(error, EvalkitError):
        return _with_full_stop(str(error)) + _recipe_hint(error), error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return _describe_usage_error(error), 2
    if isinstance(error, OSError):
        return _describe_os_error(error), 1
    limit = address_space_limit()
    cause = (
        ""
        if limit is None
        else f" The shell limits its address space to {size(limit)} (ulimit -v), which may be the cause."
    )
    if isinstance(error, MemoryError):
        return f"Out of memory. Try a smaller --batch-tokens.{cause}", 1
    text = " ".join(str(error).split())
    kind = type(error).__name__
    detail = f"{kind}: {text[:300]}" if text else kind
    return (
        f"Unexpected error ({detail}). Run the command again with --debug for a traceback.{cause}",
        1,
    )


def _recipe_hint(error: EvalkitError) -> str:
    """For a model that does not exist, the command that trains it, if a built-in recipe makes one of that kind."""
    if not isinstance(error, UnknownName) or error.kind != "model":
        return ""
    from evalkit.train.shipped import recipes_for

    found = recipes_for(error.name)
    return f" To train it: evalkit train {found[0]} --name {error.name}." if found else ""


def _describe_usage_error(error: BaseException) -> str:
    """The message for an invalid command line (one of click's exceptions, which typer vendors)."""
    path = getattr(getattr(error, "ctx", None), "command_path", "evalkit")
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption":
        text = f"There is no option '{option}'."
        suggestions = get_close_matches(str(option), getattr(error, "possibilities", None) or [], n=2)
        if option in RENAMED_OPTIONS:
            text = f"The option '{option}' is now called '{RENAMED_OPTIONS[option]}'."
        elif suggestions:
            text += " Did you mean " + " or ".join(f"'{name}'" for name in suggestions) + "?"
    else:
        text = error.format_message()  # type: ignore[attr-defined]
        text = text.replace("No such command", "There is no command")
    return f"{_with_full_stop(text)} Run '{path} --help' for usage."


def _with_full_stop(text: str) -> str:
    """Add the full stop that messages ending in a library's own words may lack."""
    return text if text.endswith((".", "?", "!")) else text + "."


def _describe_os_error(error: OSError) -> str:
    location = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{location}. No completed work is lost: free some space and run the same command again to resume."
    return f"{error.strerror or type(error).__name__}{location or ': ' + str(error)}."


def _print_error(message: str) -> None:
    prefix = "\x1b[31mError:\x1b[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else "Error:"
    print(prefix, clean(message, lines=True), file=sys.stderr, flush=True)


def _report_interrupt() -> int:
    print("\nInterrupted. Run the same command again to resume.", file=sys.stderr, flush=True)
    return 130


def _discard_stdout() -> None:
    """Keep the interpreter's final flush quiet after the reader of stdout has gone (``| head``)."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())


def _silence_libraries() -> None:
    """Turn off the libraries' telemetry, advice and warnings; evalkit itself reports what users need to know.

    Must run before the libraries are imported. Variables that the user has set keep their values.
    """
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "DATASETS_VERBOSITY": "error",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_VERBOSITY": "error",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
    }.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
