"""The environment of templates: Jinja's sandbox with few filters and methods, and a bound on what one evaluation makes.

Without the bound a template of a line could take all memory (``{{ 'x'.ljust(10 ** 9) }}``) or all day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from evalkit.tasks.regimes import clean_glue, clean_lm_eval, clean_olmes, digest, shuffled
from evalkit.tasks.rows import gsm8k_solution

MAX_MADE = 4_000_000
"""Characters and items that one evaluation of a template may make, all its steps together."""
MAX_INTEGER_BITS = 10_000
OWN_FILTERS: dict[str, Callable[..., Any]] = {
    "clean_glue": clean_glue,
    "clean_lm_eval": clean_lm_eval,
    "clean_olmes": clean_olmes,
    "digest": digest,
    "gsm8k_solution": gsm8k_solution,
    "python_string": repr,
    "shuffled": shuffled,
}
FILTERS = frozenset(
    {"abs", "capitalize", "count", "d", "default", "first", "float", "int", "items", "join", "last", "length", "list"}
    | {"lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "select", "selectattr", "sort"}
    | {"string", "title", "trim", "truncate", "unique", "upper", "wordcount"}
)
METHODS = frozenset(
    {"capitalize", "casefold", "count", "endswith", "find", "index", "isalpha", "isdecimal", "isdigit", "islower"}
    | {
        "isspace",
        "istitle",
        "isupper",
        "join",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
    }
    | {"rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase"}
    | {"title", "upper"}
)
"""Methods of strings. Those that are not here pad or format, without a bound on what they make."""


class _Made(threading.local):
    """How much the evaluation under way has made."""

    count = 0


_made = _Made()


def begin() -> None:
    """Begin an evaluation."""
    _made.count = 0


def spend(value: Any) -> Any:
    """Count what a step made, and give it back. Raises `jinja2.exceptions.SecurityError` if all steps made too much."""
    if isinstance(value, (str, bytes, list, tuple, dict)):
        _check_room(len(value))
        _made.count += len(value)
    return value


def _check_room(size: int) -> None:
    from jinja2.exceptions import SecurityError

    if _made.count + size > MAX_MADE:
        raise SecurityError(f"it produces more than {MAX_MADE:,} characters or items")


def _deep_size(value: Any) -> int:
    """Characters and items of a value with all that is in it."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(1 + _deep_size(item) for item in value)
    return 0


def _check_replaced(text: str, old: str, new: str) -> None:
    times = text.count(old) if old else len(text) + 1
    _check_room(len(text) + times * len(new))


def _check_joined(separator: str, items: Any) -> list[Any]:
    found = list(items)
    _check_room(_deep_size(found) + len(separator) * len(found))
    return found


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    _check_replaced(str(text), str(old), str(new))
    return str(text).replace(str(old), str(new), -1 if count is None else count)


def _join(items: Any, separator: Any = "") -> str:
    return str(separator).join(str(item) for item in _check_joined(str(separator), items))


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counted(*arguments: Any, **named: Any) -> Any:
        return spend(function(*arguments, **named))

    return counted


def _text(value: Any) -> Any:
    """What is filled into a text. Raises `TypeError` for what a reader would not take for text: nothing, a list, a mapping."""
    if value is None or isinstance(value, (list, tuple, dict)):
        kind = "nothing" if value is None else "a list" if isinstance(value, (list, tuple)) else "a mapping"
        raise TypeError(f"text is needed, but the value is {kind}")
    return value


@cache
def environment() -> Any:
    """The environment."""
    import jinja2
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**", "%", "+"])

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            if isinstance(obj, str) and attr not in METHODS:
                return False
            return super().is_safe_attribute(obj, attr, value)

        def wrap_str_format(self, value: Any) -> None:
            """Formatting is no method here, not even Jinja's own safe one, which pads."""

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise SecurityError("templates do not support powers")
            if operator == "%" and isinstance(left, (str, bytes)):
                raise SecurityError("templates do not support string formatting")
            if operator == "*":
                for some, times in ((left, right), (right, left)):
                    if isinstance(some, (str, bytes, list, tuple)) and isinstance(times, int):
                        _check_room(_deep_size(some) * times)
                are_integers = isinstance(left, int) and isinstance(right, int)
                if are_integers and left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
                    raise SecurityError("a product is too large")
            return spend(super().call_binop(context, operator, left, right))

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja's own
            subject, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
            if isinstance(subject, str) and name == "replace" and len(args) > 1:
                _check_replaced(subject, *map(str, args[:2]))
            if isinstance(subject, str) and name == "join" and args:
                args = (_check_joined(subject, args[0]), *args[1:])
            return spend(super().call(__context, __obj, *args, **kwargs))

    made = Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_text)
    made.globals.clear()
    known = {name: function for name, function in made.filters.items() if name in FILTERS}
    known |= {"replace": _replace, "join": _join, **OWN_FILTERS}
    made.filters = {name: _counted(function) for name, function in known.items()}
    return made
