"""Write docs/cli.md from the help texts of the commands: ``python docs/make_cli.py``. A test keeps the two equal."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import typer.main

from evalkit.cli import app

PAGE = Path(__file__).with_name("cli.md")
HIDDEN = ("help", "debug")
"""Options that every command has."""
START = """# The command line

Made from the help texts by `make docs`; `evalkit COMMAND --help` shows the same.

Exit codes: 0 done; 1 something that you asked for failed; 2 the command line, or a file that it names, is wrong; 3 a
`--fail-if` rule fired; 130 interrupted. Errors are one or two sentences on stderr; every command
takes `--debug`, which adds the traceback and the warnings of the libraries underneath. Results go to stdout; the plan,
progress and warnings go to stderr.
"""


def page() -> str:
    """The whole page."""
    parts = [START]
    parts += [_section(path, command) for path, command in _commands("evalkit", typer.main.get_command(app))]
    return "\n".join(parts)


def _commands(path: str, command: Any) -> list[tuple[str, Any]]:
    """Every command that does something, with its full name, in the order of the help."""
    if not hasattr(command, "list_commands"):
        return [(path, command)]
    found: list[tuple[str, Any]] = []
    for name in command.list_commands(None):
        found += _commands(f"{path} {name}", command.commands[name])
    return found


def _section(path: str, command: Any) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and param.name not in HIDDEN]
    usage = " ".join([path, "[OPTIONS]", *(argument.metavar or argument.name.upper() for argument in arguments)])
    lines = [f"## `{path}`", "", f"    {usage}", "", _text(command.help), ""]
    rows = [(f"`{_cell(argument.metavar or argument.name.upper())}`", argument.help) for argument in arguments]
    rows += [(_option(option), _help(option)) for option in options]
    if not rows:
        return "\n".join(lines)
    lines += ["| option | what it does |", "|---|---|"]
    lines += [f"| {name} | {_prose(text or '')} |" for name, text in rows]
    return "\n".join([*lines, ""])


def _text(text: str) -> str:
    """A docstring with its examples as code blocks."""
    lines = inspect.cleandoc(text).splitlines()
    return "\n".join(f"  {line}" if line.startswith("  ") else line for line in lines)


def _option(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar}"
    names = [*option.opts, *option.secondary_opts]
    return f"`{', '.join(names)}{_cell(value, before=' ')}`"


def _help(option: Any) -> str:
    default = option.show_default if isinstance(option.show_default, str) else None
    return f"{option.help} Default: {default}." if default else str(option.help)


def _prose(text: str) -> str:
    """Text of a table that stands as it is written: an asterisk is no emphasis, brackets are no link."""
    return re.sub(r"([*\[])", r"\\\1", _cell(text))


def _cell(text: str, before: str = "") -> str:
    """Text that may stand in a table."""
    return before * bool(text) + " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.name}: {len(page().splitlines())} lines")
