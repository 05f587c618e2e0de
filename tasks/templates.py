"""Jinja templates of data-set descriptions, in a sandbox: they make strings, lists and numbers from a row, and nothing else.

A text that is one ``{{ expression }}`` gives the expression's value (a list, a number); any other text is filled in as a
string. A template cannot reach files, modules or attributes of Python's own, cannot define macros or nest loops, and makes no
more than `sandbox.MAX_MADE` characters (`evalkit.tasks.sandbox`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from evalkit.errors import UsageError
from evalkit.tasks import sandbox

MAX_LENGTH = 10_000
"""Of a template, in characters."""
MAX_NAMES = 200
"""In a template: what they stand for may be long, and be joined."""

Template = Callable[[Mapping[str, Any]], Any]
"""Makes a value from names. Raises `TemplateFault`."""


class TemplateFault(ValueError):
    """A template that does not fit the values that it is given; the message is what Jinja says of it."""


@cache
def template(text: str) -> Template:
    """Compile a template. Raises `UsageError` for one that is not valid or asks for what templates may not do."""
    import jinja2
    from jinja2 import nodes

    environment = sandbox.environment()
    try:
        if len(text) > MAX_LENGTH:
            raise UsageError(f"The template {_shown(text)} has more than {MAX_LENGTH:,} characters.")
        tree = environment.parse(text)
        _refuse(tree, nodes, text)
        expression = _single_expression(text)
        if expression is not None:
            compiled = environment.compile_expression(expression, undefined_to_none=False)
        else:
            made = environment.from_string(text)
            compiled = _rendered(made) if any(tree.find_all(nodes.For)) else made.render
    except jinja2.TemplateError as error:
        raise UsageError(f"The template {_shown(text)} is not valid: {_said(error)}.") from None
    except (RecursionError, MemoryError, SyntaxError):
        raise UsageError(f"The template {_shown(text)} is nested too deeply.") from None

    def evaluate(values: Mapping[str, Any]) -> Any:
        sandbox.begin()
        try:
            value = compiled(values)
            if isinstance(value, jinja2.Undefined):
                str(value)  # raises with the name that is missing
            return sandbox.spend(value)
        except (jinja2.TemplateError, *_FAULTS) as error:
            raise TemplateFault(f"{_said(error)} in {_shown(text)}") from error

    return evaluate


_FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError)
"""What an evaluation may raise besides Jinja's own errors."""


def _rendered(compiled: Any) -> Template:
    """The text of a template with a loop, counted while it is made."""

    def render(values: Mapping[str, Any]) -> str:
        return "".join(map(sandbox.spend, compiled.generate(values)))

    return render


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def text_of(text: str, values: Mapping[str, Any]) -> str:
    """A template's value as a string. Raises `TemplateFault`, also for a value that is no string or number."""
    value = template(text)(values)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TemplateFault(f"text is needed, but {_shown(text)} is {_kind(value)}")
    return str(value)


def texts_of(given: str | list[str], values: Mapping[str, Any]) -> list[str]:
    """A list of strings, from a list of templates or a template whose value is one. Raises `TemplateFault`."""
    if isinstance(given, list):
        return [text_of(item, values) for item in given]
    found = template(given)(values)
    if not isinstance(found, (list, tuple)) or not all(isinstance(item, str) for item in found):
        raise TemplateFault(f"a list of texts is needed, but {_shown(given)} is {_kind(found)}")
    return list(found)


def _single_expression(text: str) -> str | None:
    """The expression of a text that is one ``{{ … }}`` and nothing else."""
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    inner = text[2:-2]
    return None if "{{" in inner or "}}" in inner or "{%" in inner else inner


def _refuse(tree: Any, nodes: Any, text: str) -> None:
    """Raise `UsageError` for macros, includes, loops inside loops, and very many names."""
    forbidden = (
        nodes.Macro,
        nodes.CallBlock,
        nodes.Include,
        nodes.Import,
        nodes.FromImport,
        nodes.Extends,
        nodes.Block,
    )
    if any(tree.find_all(forbidden)):
        raise UsageError(f"The template {_shown(text)} has a macro, a block or an import, which is not allowed here.")
    if sum(1 for _ in tree.find_all(nodes.Name)) > MAX_NAMES:
        raise UsageError(f"The template {_shown(text)} has more than {MAX_NAMES} names.")
    for loop in tree.find_all(nodes.For):
        if loop.recursive or any(inner is not loop for inner in loop.find_all(nodes.For)):
            raise UsageError(f"The template {_shown(text)} has a loop inside a loop, which is not allowed here.")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _kind(value: Any) -> str:
    names = {list: "a list", tuple: "a list", dict: "a mapping", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), f"a value of a different type ({type(value).__name__})")
