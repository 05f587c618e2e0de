"""Prompts are byte-exact: every variant that Ai2 published in the bundle's request files (`published_variants`)."""

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
from evalkit.data.bundle import REQUESTS_FOLDER
from evalkit.tasks.show import show_prompts
from tests.made.invented_data import make
from tests.made.published_variants import NOT_REBUILT, VARIANTS, Variant

BY_FILE = {variant.file: variant for variant in VARIANTS}
PARAMETERS = [pytest.param(v, id=v.file, marks=[pytest.mark.slow] if v.slow else []) for v in VARIANTS]


def published(bundle: Bundle, file: str) -> Iterator[dict[str, Any]]:
    """The request file in the terms of ``evalkit show --json``."""
    for line in bundle.requests(file):
        yield {
            "doc_id": line["doc_id"],
            "native_id": line["native_id"],
            "context": line["request"]["context"],
            "continuation": line["request"]["continuation"],
            "label": line["label"] if isinstance(line["label"], int) else 0,  # of one answer its text, or nothing
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


def test_no_file_of_requests_is_forgotten(bundle: Bundle) -> None:
    """The table has each file of the bundle once, or says why no task gives it."""
    there = {name.split("/", 2)[2].rsplit("/", 1)[0] for name in bundle.names(REQUESTS_FOLDER) if ".jsonl" in name}
    assert sorted([*(variant.file for variant in VARIANTS), *NOT_REBUILT]) == sorted(there)
    assert len(there) == 116


@pytest.mark.parametrize("variant", PARAMETERS)
def test_every_prompt_of_the_published_variant(bundle: Bundle, variant: Variant) -> None:
    """Contexts, continuations, labels, ids, order, twins and samples are those of Ai2's requests, byte for byte."""
    ours = list(show_prompts(make(variant.name, data_source="bundle", **variant.options)))
    _, wrong = differences(iter(ours), published(bundle, variant.file))
    assert bool(wrong) == bool(variant.differs), wrong
    assert len({prompt["doc_id"] for prompt in ours}) == variant.documents * (2 if variant.has_twins else 1)


@pytest.mark.parametrize("file", ["arc_challenge/test_mc_5shot", "hellaswag/rc_5shot", "arc_easy/rc_0shot"])
def test_the_command_prints_the_same(bundle: Bundle, file: str) -> None:
    """``evalkit show TASK --json`` prints these prompts, one object a line, and nothing else on stdout."""
    variant = BY_FILE[file]
    command = [sys.executable, "-m", "evalkit", "show", variant.name, "--json", "--data-source", "bundle"]
    for option, value in variant.options.items():
        if value is not None:
            command += [f"--{option}", str(value)]
    result = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert result.returncode == 0, result.stderr
    lines = (json.loads(line) for line in result.stdout.split("\n") if line)
    _, wrong = differences(lines, published(bundle, file))
    assert not wrong


def test_the_check_can_fail(bundle: Bundle) -> None:
    """One changed byte, one prompt too few and one too many are all found."""
    ours = list(show_prompts(make("arc_challenge:mc::olmes", data_source="bundle", split="validation")))
    theirs = list(published(bundle, "arc_challenge/mc_5shot"))
    changed = [*ours[:-1], {**ours[-1], "context": ours[-1]["context"] + " "}]
    assert differences(iter(changed), iter(theirs))[1]
    assert differences(iter(ours[:-1]), iter(theirs))[1]
    assert differences(iter(ours), iter(theirs[:-1]))[1]
