"""Extractors: pure functions from a text, cut at its first stop string, to the answer in it; None where there is none.

A description names one under ``extract``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from evalkit.tasks.answers import math_text

Extractor = Callable[[str], str | None]

_SOLUTION_NUMBER = re.compile(r"#### (-?[0-9.,]+)")
_LOOSE_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_COMMA_IN_NUMBER = re.compile(r"(\d),(\d)")
_NUMBER = re.compile(r"[-+]?\d*\.\d+|[-+]?\d+")
FENCE = "```"


def whole(text: str) -> str:
    """The text as it is."""
    return text


def stripped(text: str) -> str:
    """The text without white space around it (lm-evaluation-harness, ``remove_whitespace``)."""
    return text.strip()


def first_line(text: str) -> str:
    """The first line, after white space at the beginning (lm-evaluation-harness, CoQA)."""
    return text.strip().split("\n")[0]


def last_line(text: str) -> str:
    """The last line that has something on it."""
    return text.strip().split("\n")[-1].strip()


def last_number(text: str) -> str | None:
    """The last number, commas between digits dropped (OLMES, GSM8K).

    >>> last_number("They sold 1,200 of 3. So the answer is $1,200.50."), last_number("none")
    ('1200.50', None)
    """
    found = _NUMBER.findall(_COMMA_IN_NUMBER.sub(r"\1\2", text))
    return found[-1] if found else None


def solution_number(text: str) -> str | None:
    """The number after the first ``####``, as GSM8K's own solutions end (lm-evaluation-harness, ``strict-match``).

    >>> solution_number("It is 5.\\n#### 1,200"), solution_number("The answer is 5.")
    ('1,200', None)
    """
    found = _SOLUTION_NUMBER.search(text)
    return found[1].strip() if found else None


def loose_number(text: str) -> str | None:
    """The last thing like a number, with its ``$``, commas and periods (lm-evaluation-harness, ``flexible-extract``).

    >>> loose_number("So she has $1,200."), loose_number("It is 7")
    ('$1,200.', '7')
    """
    found = _LOOSE_NUMBER.findall(text)
    return (found[-1][0] or found[-1][1]).strip() if found else None


def code_before_fence(text: str) -> str:
    """Code up to the fence that ends it (OLMES, MBPP)."""
    return text.partition(FENCE)[0]


def fenced_code(text: str) -> str:
    """The code in the first fence, without the language's name; the whole text if it has no fence.

    >>> fenced_code("Here it is: ```python\\nx = 1\\n``` Good luck!")
    'x = 1\\n'
    """
    _, fence, rest = text.partition(FENCE)
    if not fence:
        return text
    language, line_end, code = rest.partition("\n")
    return (code if line_end and language.strip().isalnum() else rest.removeprefix("\n")).partition(FENCE)[0]


EXTRACTORS: Mapping[str, Extractor] = {
    function.__name__: function
    for function in (
        whole,
        stripped,
        first_line,
        last_line,
        last_number,
        solution_number,
        loose_number,
        code_before_fence,
        fenced_code,
        math_text.boxed,
        math_text.final_answer,
        math_text.math_answer,
    )
}
