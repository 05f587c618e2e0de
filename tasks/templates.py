"""Jinja templates of data-set descriptions, in a sandbox: they make strings, lists and numbers from a row, and nothing else.

A text that is one ``{{ expression }}`` gives the expression's value (a list, a number); any other text is filled in as a
string. A template cannot reach files, modules or attributes of Python's own, cannot define macros or nest loops, and cannot
make a string or list of more than `MAX_PRODUCT` items by multiplication.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from evalkit.errors import UsageError
from evalkit.tasks.regimes import clean_glue, clean_lm_eval, clean_olmes, digest, shuffled
from evalkit.tasks.rows import gsm8k_solution

MAX_PRODUCT = 1_000_000
MAX_INTEGER_BITS = 10_000

Template = Callable[[Mapping[str, Any]], Any]
"""Makes a value from names. Raises `TemplateFault`."""


class TemplateFault(ValueError):
    """A template that does not fit the values that it is given; the message is what Jinja says of it."""


@cache
def template(text: str) -> Template:
    """Compile a template. Raises `UsageError` for one that is not valid or asks for what templates may not do."""
    import jinja2
    from jinja2 import nodes

    environment = _environment()
    try:
        tree = environment.parse(text)
        _refuse(tree, nodes, text)
        expression = _single_expression(text)
        if expression is not None:
            compiled = environment.compile_expression(expression, undefined_to_none=False)
        else:
            compiled = environment.from_string(text).render
    except jinja2.TemplateError as error:
        raise UsageError(f"The template {_shown(text)} is not valid: {error}.") from None

    def evaluate(values: Mapping[str, Any]) -> Any:
        try:
            value = compiled(**values)
            if isinstance(value, jinja2.Undefined):
                str(value)  # raises with the name that is missing
            return value
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            fault = TemplateFault(f"{' '.join(str(error).split()) or type(error).__name__} in {_shown(text)}")
            raise fault from error

    return evaluate


def text_of(text: str, values: Mapping[str, Any]) -> str:
    """A template's value as a string. Raises `TemplateFault`, also for a value that is no string or number."""
    value = template(text)(values)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TemplateFault(f"a text is needed, and {_shown(text)} is {_kind(value)}")
    return str(value)


def texts_of(given: str | list[str], values: Mapping[str, Any]) -> list[str]:
    """A list of strings, from a list of templates or a template whose value is one. Raises `TemplateFault`."""
    if isinstance(given, list):
        return [text_of(item, values) for item in given]
    found = template(given)(values)
    if not isinstance(found, (list, tuple)) or not all(isinstance(item, str) for item in found):
        raise TemplateFault(f"a list of texts is needed, and {_shown(given)} is {_kind(found)}")
    return list(found)


def _single_expression(text: str) -> str | None:
    """The expression of a text that is one ``{{ … }}`` and nothing else."""
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    inner = text[2:-2]
    return None if "{{" in inner or "}}" in inner or "{%" in inner else inner


@cache
def _environment() -> Any:
    import jinja2
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        """Also keeps products small, since one of them could take all memory."""

        intercepted_binops = frozenset(["*", "**"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise SecurityError("templates have no powers")
            for some, times in ((left, right), (right, left)):
                is_long = isinstance(some, (str, bytes, list, tuple)) and isinstance(times, int)
                if is_long and len(some) * times > MAX_PRODUCT:
                    raise SecurityError("a product is too long")
            are_integers = isinstance(left, int) and isinstance(right, int)
            if are_integers and left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
                raise SecurityError("a product is too large")
            return super().call_binop(context, operator, left, right)

    environment = Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    for name in ("lipsum", "joiner", "cycler", "namespace", "range", "dict"):
        environment.globals.pop(name, None)
    environment.filters |= {
        "clean_glue": clean_glue,
        "clean_lm_eval": clean_lm_eval,
        "clean_olmes": clean_olmes,
        "digest": digest,
        "gsm8k_solution": gsm8k_solution,
        "python_string": repr,
        "shuffled": shuffled,
    }
    return environment


def _refuse(tree: Any, nodes: Any, text: str) -> None:
    """Raise `UsageError` for macros, includes and loops inside loops."""
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
        raise UsageError(
            f"The template {_shown(text)} has a macro, a block or an import, which templates here may not."
        )
    for loop in tree.find_all(nodes.For):
        if loop.recursive or any(inner is not loop for inner in loop.find_all(nodes.For)):
            raise UsageError(f"The template {_shown(text)} has a loop inside a loop, which templates here may not.")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _kind(value: Any) -> str:
    names = {list: "a list", tuple: "a list", dict: "a mapping", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), f"a value of another kind ({type(value).__name__})")
