"""What the tests of interruption run in another process."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from transformers import AutoTokenizer  # noqa: F401  (seconds to import: once, in the fork server)

import evalkit
import evalkit.api
import evalkit.checkpoints
import evalkit.plan
import evalkit.tables
import tests.core.small  # noqa: F401  (registers the tasks)


def score(folder: str, options: dict[str, Any]) -> None:
    """One `evalkit.run` in `folder`, with the fake engine."""
    os.chdir(folder)
    evalkit.run("tiny", engine="fake", report=False, **options)


if __name__ == "__main__":
    arguments = dict(pair.split("=", 1) for pair in sys.argv[2:])
    engine = {"engine_args": {"delay": arguments.pop("delay", "0")}}
    score(sys.argv[1], {**arguments, "batch_tokens": 200, **engine})
