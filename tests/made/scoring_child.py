"""What the tests of interruption run in another process."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from transformers import AutoTokenizer  # noqa: F401  (seconds to import: once, in the fork server)

import evalkit
import evalkit.api
import evalkit.checkpoints.resolve
import evalkit.results.tables
import evalkit.scoring.plan
import tests.made.invented_tasks  # noqa: F401  (registers the tasks)


def score(folder: str, options: dict[str, Any]) -> None:
    """One `evalkit.run` in `folder`, with the fake engine; exit code 130 where it ends through KeyboardInterrupt."""
    os.chdir(folder)
    try:
        evalkit.run("tiny", engine="fake", report=False, **options)
    except KeyboardInterrupt:
        sys.exit(130)
