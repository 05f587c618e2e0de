"""Answers of MATH as text: candidates, Minerva's normal form, and Hendrycks' string rule. Pure functions of strings.

- Candidates and normal form: Lewkowycz et al. 2022 (Minerva), appendix D, as lm-evaluation-harness 0.4.13 and OLMES read it.
- String rule: Hendrycks et al. 2021 (MATH), ``math_equivalence``.
"""

from __future__ import annotations

import re
from contextlib import suppress

_MINERVA = re.compile(r"Final Answer: The final answer is(.*?). I hope it is correct.")
_MINERVA_END = "I hope it is correct."
_REPLACED = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
)
_UNITS = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue"),
    *("points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges"),
    *("students", "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2"),
    *(
        "\\text{}^3",
        "\\text{\n}",
        "\\text{}",
        "\\mathrm{th}",
        "^\\circ",
        "^{\\circ}",
        "\\;",
        ",\\!",
        "{,}",
        '"',
        "\\dots",
    ),
)
"""What is dropped, in this order."""
_COMMAND = re.compile(r"(\\[a-zA-Z]+)")
_WRAPPED = (
    (re.compile(r"(.*?)(\$)(.*?)(\$)(.*)"), r"$\3$"),
    (re.compile(r"(\\text\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\textbf\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\overline\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\boxed\{)(.*)(\})"), r"\2"),
)
_SHORT_FRACTION = re.compile(r"(frac)([^{])(.)")
_INDEXED_ROOT = re.compile(r"(sqrt)(\[[^\]]*\])(\w)")
_ROOT, _ROOT_WITHOUT_INDEX = re.compile(r"(sqrt)([^{])"), re.compile(r"(sqrt)(?!\[)([^{])")
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+")

LONGEST = 20_000
"""Characters at the end of a text in which an answer is looked for: some of these patterns take the square of the length."""


def last_boxed(text: str) -> str | None:
    """What stands in the last ``\\boxed{…}`` or ``\\fbox{…}``, braces matched, or after ``\\boxed `` up to a dollar sign.

    None if there is none, if its braces are not closed, and for an ``\\fbox``, whose content the original cannot read.

    >>> last_boxed("so \\\\boxed{1}, no: \\\\boxed{\\\\frac{1}{2}}."), last_boxed("\\\\boxed 5$"), last_boxed("\\\\boxed{5")
    ('\\\\frac{1}{2}', '5', None)
    """
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].partition("$")[0]
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if text[position] == "}" and depth == 0:
            found = text[start : position + 1]
            return found.removeprefix("\\boxed{")[:-1] if found.startswith("\\boxed{") else None
    return None


def boxed(text: str) -> str | None:
    """The content of the last box in a text, whatever it is (`last_boxed`)."""
    return last_boxed(text[-LONGEST:])


def stated_answer(text: str) -> str | None:
    """What stands between ``Final Answer: The final answer is`` and ``. I hope it is correct.``, on one line.

    A text that ends before the second has it added, as in the original.
    """
    found = _MINERVA.search(text[-LONGEST:] + _MINERVA_END)
    return found[1].strip() if found else None


def minerva_normal(answer: str) -> str:
    """Minerva's normal form as OLMES has it: units and spaces dropped, shorthand of TeX written out, no thousands separators.

    >>> minerva_normal("x = \\\\frac12 \\\\text{ meters}"), minerva_normal("$1,000 dollars$")
    ('\\\\frac{1}{2}', '1000')
    """
    answer = answer.split("=")[-1]
    for before, after in _REPLACED:
        answer = answer.replace(before, after)
    for unit in _UNITS:
        answer = answer.replace(unit, "")
    answer = _unwrapped(answer)
    answer = _ROOT.sub(r"sqrt{\2}", _SHORT_FRACTION.sub(r"frac{\2}{\3}", answer)).replace("$", "")
    return answer.replace(",", "") if answer.replace(",", "").isdigit() else answer


def harness_normal(answer: str) -> str:
    """Minerva's normal form as lm-evaluation-harness 0.4.13 has it: names of commands keep their letters (the ``ft`` of
    ``\\left``), roots their indices, and tuples their commas.

    >>> minerva_normal("\\\\left(0,1\\\\right)"), harness_normal("\\\\left(0,1\\\\right)"), harness_normal("0,1")
    ('\\\\le(0,1\\\\right)', '\\\\left(0,1\\\\right)', '0,1')
    """
    answer = answer.split("=")[-1]
    words = [unit for unit in _UNITS if unit.isalpha()]
    for word in words:
        answer = re.sub(rf"(?<!\\)\b{word}\b", "", answer)
    for before, after in _REPLACED:
        answer = answer.replace(before, after)
    for unit in _UNITS:
        if unit in words:
            parts = _COMMAND.split(answer)
            answer = "".join(part if i % 2 else part.replace(unit, "") for i, part in enumerate(parts))
        else:
            answer = answer.replace(unit, "")
    answer = _SHORT_FRACTION.sub(r"frac{\2}{\3}", _unwrapped(answer))
    answer = _INDEXED_ROOT.sub(r"\1\2{\3}", answer)
    answer = _ROOT_WITHOUT_INDEX.sub(r"sqrt{\2}", answer).replace("$", "")
    return answer.replace(",", "") if _THOUSANDS.fullmatch(answer) else answer


def _unwrapped(answer: str) -> str:
    for pattern, kept in _WRAPPED:
        answer = pattern.sub(kept, answer)
    return answer


def final_answer(text: str) -> str | None:
    """The stated answer in normal form: all that lm-evaluation-harness's ``minerva_math`` looks at."""
    found = stated_answer(text)
    return None if found is None else harness_normal(found)


def candidates(text: str) -> list[str]:
    """All answers that a solution may mean, in normal form, the first the likeliest (OLMES).

    The stated answer and the last box, if they are there; else what the last two dollar signs enclose; else all of it.
    """
    text = text[-LONGEST:]
    stated, box = stated_answer(text), last_boxed(text)
    normal = minerva_normal(stated) if stated is not None else ""
    found = [normal] if normal else []
    if box is not None:
        found.append(minerva_normal(box))
    if not found and text.count("$") > 1:
        found.append(minerva_normal(text.rsplit("$", 2)[1]))
    return found or [minerva_normal(text)]


def gold_answer(solution: str, *, as_lm_eval: bool = False) -> str:
    """The right answer of a worked solution, the content of its last box, in normal form; empty if it has none."""
    box = last_boxed(solution)
    return "" if box is None else (harness_normal if as_lm_eval else minerva_normal)(box)


def math_answer(text: str) -> str | None:
    """The first of a solution's `candidates`; None for a text without a stated answer, box or formula."""
    has_mark = "\\boxed" in text or text.count("$") > 1 or stated_answer(text) is not None
    return (candidates(text)[0] or None) if has_mark else None


# ------------------------------------------------------------------------------------------------- Hendrycks' string rule


def same_string(one: str, other: str) -> bool:
    """Whether two answers are equal by Hendrycks' rule: without spaces, units and ways to write TeX.

    >>> same_string("\\\\dfrac{1}{2}", "0.5"), same_string("10\\\\%", "10"), same_string("x=3", "3"), same_string("2/3", "\\\\frac23")
    (True, True, True, True)
    """
    with suppress(ValueError, IndexError):
        return hendrycks_normal(one) == hendrycks_normal(other)
    return one == other


def hendrycks_normal(answer: str) -> str:
    """The normal form that `same_string` compares. Raises `ValueError` and `IndexError` where the original fails."""
    for old, new in (("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", "")):
        answer = answer.replace(old, new)
    for dropped in ("\\right", "^{\\circ}", "^\\circ", "\\$"):
        answer = answer.replace(dropped, "")
    answer, unit, more = answer.partition("\\text{ ")
    if unit and "\\text{ " in more:
        raise ValueError("two units")
    answer = answer.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not answer:
        return answer
    if answer[0] == ".":
        answer = "0" + answer
    name, equals, value = answer.partition("=")
    if equals and "=" not in value and len(name) <= 2:
        answer = value
    first, *roots = answer.split("\\sqrt")
    answer = first + "".join("\\sqrt" + (root if root[0] == "{" else f"{{{root[0]}}}{root[1:]}") for root in roots)
    answer = _whole_fractions(answer.replace(" ", ""))
    if answer == "0.5":
        answer = "\\frac{1}{2}"
    return _slashed_fraction(answer)


def _whole_fractions(answer: str) -> str:
    """``\\frac12`` and ``\\frac1{72}`` with both braces; unchanged if one of them has nothing after it."""
    first, *rest = answer.split("\\frac")
    found = first
    for part in rest:
        if part[0] == "{":
            found += "\\frac" + part
        elif len(part) < 2:
            return answer
        else:
            below = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
            found += f"\\frac{{{part[0]}}}{below}"
    return found


def _slashed_fraction(answer: str) -> str:
    parts = answer.split("/")
    if len(parts) != 2:
        return answer
    above, below = int(parts[0]), int(parts[1])
    return f"\\frac{{{above}}}{{{below}}}" if answer == f"{above}/{below}" else answer
