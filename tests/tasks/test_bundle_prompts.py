"""Prompts are byte-exact: every ARC and HellaSwag variant that Ai2 published in the bundle's request files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest

from evalkit.data import Bundle
from evalkit.tasks.show import show_prompts
from tests.made.invented_data import make

ARC_VARIANTS = ["mc_5shot", "rc_0shot", "rc_5shot", "test_mc_5shot", "test_rc_5shot", "val_mc_5shot", "val_rc_5shot"]
HELLASWAG_VARIANTS = ["mc_5shot", "rc_0shot", "rc_5shot", "val_mc_5shot", "val_rc_5shot"]
VARIANTS = [(task, name) for task in ("arc_easy", "arc_challenge") for name in ARC_VARIANTS]
VARIANTS += [("hellaswag", name) for name in HELLASWAG_VARIANTS]

REQUESTS = {  # conditional ones, counted in the published files
    ("arc_easy", "validation"): 2281,
    ("arc_easy", "test"): 9501,
    ("arc_challenge", "validation"): 1194,
    ("arc_challenge", "test"): 4687,
    ("hellaswag", "validation"): 40168,
    ("hellaswag", "sample"): 4000,
}


def options_of(task: str, variant: str) -> dict[str, Any]:
    """What a person says to get a variant: ``--split``, ``--shots``, ``--limit``."""
    sampled = task == "hellaswag" and variant in ("rc_5shot", "mc_5shot")
    return {
        "split": "test" if variant.startswith("test") else "validation",
        "shots": 0 if "0shot" in variant else 5,
        "limit": None if sampled else 100_000,
    }


def name_of(task: str, variant: str) -> str:
    return f"{task}:{'mc' if 'mc' in variant else 'rc'}::olmes"


def published(bundle: Bundle, task: str, variant: str) -> Iterator[dict[str, Any]]:
    """The request file in the terms of ``evalkit show --json``."""
    for line in bundle.requests(f"{task}/{variant}"):
        yield {
            "doc_id": line["doc_id"],
            "native_id": line["native_id"],
            **line["request"],
            "label": line["label"],
        }


def differences(ours: Iterator[dict[str, Any]], theirs: Iterator[dict[str, Any]]) -> tuple[int, list[Any]]:
    """How many prompts there are, and the first few pairs that are not equal."""
    wrong: list[Any] = []
    count = 0
    for count, (own, other) in enumerate(zip_longest(ours, theirs), 1):  # noqa: B007
        if own is not None and other is not None and other["native_id"] is None:
            other = {**other, "native_id": own["native_id"]}  # some files do not have it
        if own != other and len(wrong) < 3:
            wrong.append((own, other))
    return count, wrong


def test_no_variant_is_forgotten(bundle: Bundle) -> None:
    """The list above is all that the bundle has of the three tasks: 19 variants."""
    found = [(task, name) for task in ("arc_easy", "arc_challenge", "hellaswag") for name in bundle.variants(task)]
    assert sorted(found) == sorted(VARIANTS)
    assert len(found) == 19


@pytest.mark.parametrize(("task", "variant"), VARIANTS)
def test_every_prompt_of_the_published_variant(bundle: Bundle, task: str, variant: str) -> None:
    """Contexts, continuations, labels, ids, order, twins and samples are those of Ai2's requests, byte for byte."""
    options = options_of(task, variant)
    ours = show_prompts(make(name_of(task, variant), data_source="bundle", **options))
    count, wrong = differences(ours, published(bundle, task, variant))
    assert not wrong
    part = "sample" if options["limit"] is None else options["split"]
    assert count == REQUESTS[task, part] * (1 if "mc" in variant else 2)


@pytest.mark.parametrize(
    ("task", "variant"), [("arc_challenge", "test_mc_5shot"), ("hellaswag", "rc_5shot"), ("arc_easy", "rc_0shot")]
)
def test_the_command_prints_the_same(bundle: Bundle, task: str, variant: str) -> None:
    """``evalkit show TASK --json`` prints these prompts, one object a line, and nothing else on stdout."""
    command = [sys.executable, "-m", "evalkit", "show", name_of(task, variant), "--json", "--data-source", "bundle"]
    for option, value in options_of(task, variant).items():
        if value is not None:
            command += [f"--{option}", str(value)]
    result = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert result.returncode == 0, result.stderr
    lines = (json.loads(line) for line in result.stdout.split("\n") if line)
    _, wrong = differences(lines, published(bundle, task, variant))
    assert not wrong


def test_the_check_can_fail(bundle: Bundle) -> None:
    """One changed byte, one prompt too few and one too many are all found."""
    ours = list(show_prompts(make("arc_challenge:mc::olmes", data_source="bundle", split="validation")))
    theirs = list(published(bundle, "arc_challenge", "mc_5shot"))
    changed = [*ours[:-1], {**ours[-1], "context": ours[-1]["context"] + " "}]
    assert differences(iter(changed), iter(theirs))[1]
    assert differences(iter(ours[:-1]), iter(theirs))[1]
    assert differences(iter(ours), iter(theirs[:-1]))[1]
