"""Values that a shell completes, asked for as bash asks: by a variable, with the words and the place of the cursor."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def completed(words: str) -> list[str]:
    """What bash is given for the last of some words."""
    environment = {
        **os.environ,
        "_EVALKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"evalkit {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    code = "from evalkit.cli import main; raise SystemExit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run --suite q", ["quickstart"]),
        ("run --suite quickstart,olmo1", ["quickstart,olmo1"]),
        ("run --engine v", ["vllm"]),
        ("run --model olmo-tiny@step6", ["olmo-tiny@step60-tokens1M"]),
        ("list checkpoints olmo-ti", ["olmo-tiny"]),
        ("compare a b --suite paloma-mini-", ["paloma-mini-full"]),
        ("train olmo-tiny-s", ["olmo-tiny-sft"]),
        ("train olmo-tiny-sft --task hellas", ["hellaswag"]),
        ("show arc_easy:mc::o", ["arc_easy:mc::olmes"]),
        ("leaderboard --model olmo-ti", ["olmo-tiny"]),
        ("run --suite nothing-begins-so", []),
    ],
)
def test_values_are_completed(words: str, expected: list[str]) -> None:
    """Names of suites, tasks, models, revisions, engines and recipes, also after a comma."""
    assert completed(words) == expected


def test_completing_is_light() -> None:
    """No torch, transformers or pandas: a key press must not wait for them."""
    code = (
        "import sys; from evalkit.commands import completion as c; c.suites('q'); c.tasks('a'); c.models('o'); c.engines('v'); "
        "print([m for m in ('torch', 'transformers', 'pandas', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
