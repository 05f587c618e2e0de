"""Whether formulas are equal, decided in processes of their own: sympy may think for ever about what a model wrote.

The parent sends a line of JSON a question and reads a line for each; a process that takes too long is ended, and its question
counts as not equal. Run as a module this file is such a process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from evalkit.errors import UsageError
from evalkit.system.environment import install_command
from evalkit.system.processes import own_module
from evalkit.tasks.answers.math_text import same_string

SECONDS = 5
"""Processor time for one comparison, as in lm-evaluation-harness and OLMES."""
PATIENCE = 30
"""Seconds on the clock for a question of several comparisons, after which its process is ended."""
MEMORY = 4 << 30
A_WORKER = 40
"""Questions that are worth a process: one takes a second to start."""
MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Question:
    """What is compared."""

    answers: tuple[str, ...]
    """Candidates in normal form: any may be right."""
    golds: tuple[str, ...]
    """Right answers in normal form."""
    text: str = ""
    """The whole text for ``math-verify``; nothing if it is not asked."""
    solution: str = ""
    """The right solution for ``math-verify``."""
    strings: bool = False
    """Whether answers that are equal by Hendrycks' string rule are equal (OLMES)."""


@dataclass(frozen=True, slots=True)
class Equality:
    """What was found."""

    equal: bool
    verified: bool
    """What ``math-verify`` says."""
    ended: bool = False
    """Whether the comparison took too long and was ended."""


def check_installed() -> None:
    """Raise `UsageError` if the packages that compare formulas are missing."""
    for name in ("sympy", "math_verify", "antlr4"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                "Comparing mathematical answers needs sympy and math-verify. Install them with: "
                f"{install_command('math')}"
            )


def compare(questions: Sequence[Question], advance: Callable[[int], None]) -> list[Equality]:
    """One answer a question, in order; equal questions are asked once. `advance` is told how many are done."""
    found: dict[Question, Equality] = {}
    asked = []
    for question in dict.fromkeys(questions):
        quick = _quickly(question)
        if quick is None:
            asked.append(question)
        else:
            found[question] = quick
    advance(len(questions) - len(asked))
    if asked:
        local, workers = threading.local(), []

        def ask(question: Question) -> Equality:
            if not hasattr(local, "worker"):
                local.worker = _Worker()
                workers.append(local.worker)
            return local.worker.ask(question)  # type: ignore[no-any-return]

        count = min(MOST_WORKERS, os.cpu_count() or 1, 1 + len(asked) // A_WORKER)
        try:
            with ThreadPoolExecutor(count) as pool:
                for question, answer in zip(asked, pool.map(ask, asked), strict=True):
                    found[question] = answer
                    advance(1)
        finally:
            for worker in workers:
                worker.end()
    return [found[question] for question in questions]


def _quickly(question: Question) -> Equality | None:
    """The answer where strings tell it; None if formulas must be read."""
    if question.text or question.solution:
        return None
    if not set(question.answers).isdisjoint(question.golds):
        return Equality(True, False)
    if question.strings and any(same_string(a, gold) for a in question.answers for gold in question.golds):
        return Equality(True, False)
    return None if any(question.answers) and question.golds else Equality(False, False)


class _Worker:
    """A process that compares, started again after one that was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def ask(self, question: Question) -> Equality:
        if self._process is None:
            self._process = subprocess.Popen(
                **own_module("evalkit.tasks.answers.equality"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._rest = b""
        line = json.dumps([question.answers, question.golds, question.text, question.solution, question.strings])
        answer = self._exchange(line.encode() + b"\n")
        if answer is None:
            self.end()
            return Equality(False, False, ended=True)
        return Equality(*answer)

    def _exchange(self, line: bytes) -> list[bool] | None:
        process = self._process
        assert process is not None  # noqa: S101
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(line)
            process.stdin.flush()
            while b"\n" not in self._rest:
                if not select.select([process.stdout], [], [], PATIENCE)[0]:
                    return None
                read = os.read(process.stdout.fileno(), 4096)
                if not read:
                    return None
                self._rest += read
        except OSError:
            return None
        answer, _, self._rest = self._rest.partition(b"\n")
        return [bool(value) for value in json.loads(answer)]

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


# ------------------------------------------------------------------------------------------------- in the worker's process


def formulas_equal(one: str, other: str) -> bool:
    """Whether the difference of two formulas simplifies to 0, within `SECONDS` of processor time; false where either is none."""
    import sympy
    from sympy.parsing.latex import parse_latex

    def compared() -> bool:
        return bool(sympy.simplify(parse_latex(one) - parse_latex(other)) == 0)

    return _within(compared)


def verified(text: str, solution: str) -> bool:
    """Whether ``math-verify`` finds the solution's answer in a text."""
    from math_verify import parse, verify

    # its own alarms are on the clock; ours, of processor time, ends what they cannot
    return _within(lambda: bool(verify(gold=parse(solution), target=parse(text))))


def _within(compare: Callable[[], bool]) -> bool:
    import signal

    def late(number: int, frame: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return compare()
    except Exception:  # whatever two texts that a model wrote make of a parser: they are not equal
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(question: Mapping[str, Any] | Sequence[Any]) -> list[bool]:
    answers, golds, text, solution, strings = question
    pairs = [(answer, gold) for answer in answers for gold in golds]
    equal = any(a == gold or (strings and same_string(a, gold)) for a, gold in pairs)
    equal = equal or any(formulas_equal(a, gold) for a, gold in pairs)
    return [equal, bool(text and solution) and verified(text, solution)]


def main() -> None:
    """Answer the parent's lines until it closes the pipe."""
    import contextlib
    import resource
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    with contextlib.suppress(OSError, ValueError):  # a system may allow only less
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    sys.set_int_max_str_digits(20_000)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
