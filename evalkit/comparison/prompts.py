"""Whether two runs asked the same of the documents that they share, by the prompts that both stored: for imported runs, whose
protocols say little."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from evalkit.errors import EvalkitError
from evalkit.results.reading import Run

Asked = Mapping[tuple[int, int], tuple[str, str]]
"""Document and position of the prompt to the sha256 of its context and of its continuation."""


def compare_prompts(a: Run, b: Run, task: str, of_run_a: NDArray[Any], of_run_b: NDArray[Any]) -> tuple[str, str]:
    """Why a task's documents are not the same question in both runs, or a mark that says what was compared.

    `of_run_a`, `of_run_b`: the indices ``[n]`` of the documents that both have, in each.
    """
    try:
        of_a, of_b = _asked(a, task), _asked(b, task)
    except (EvalkitError, KeyError):
        return "", "imported; the prompts of one run are not stored, so they were not compared"
    wanted = dict(zip(of_run_a.tolist(), of_run_b.tolist(), strict=True))
    pairs = [
        (index, asked, of_b[wanted[index], prompt])
        for (index, prompt), asked in of_a.items()
        if index in wanted and (wanted[index], prompt) in of_b
    ]
    checked = {index for index, _, _ in pairs}
    differing = {index for index, one, other in pairs if one != other}
    if differing:
        return f"imported, and {len(differing):,} of {len(checked):,} documents have different prompts", ""
    if not checked:
        return "", "imported; the prompts of one run are not stored, so they were not compared"
    of = "all" if len(checked) == len(wanted) else f"{len(checked):,} of"
    return "", f"imported; the prompts of {of} {len(wanted):,} shared documents are the same"


def _asked(run: Run, task: str) -> Asked:
    frame = run.prompts(task)
    hashes = [
        frame[f"{name}_sha256"].tolist() if f"{name}_sha256" in frame else [_sha256(text) for text in frame[name]]
        for name in ("context", "continuation")
    ]
    keys = zip(frame["index"].tolist(), frame["prompt"].tolist(), strict=True)
    return {key: (context, rest) for key, context, rest in zip(keys, *hashes, strict=True)}


def _sha256(text: Any) -> str:
    return hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()
