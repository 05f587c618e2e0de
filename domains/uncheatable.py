"""``uncheatable``: Uncheatable Eval, texts newer than the models that read them, in 15 subsets, from ``--data DIR``.

The folder is a release as it is on the hub (``Jellyfish042/UncheatableEval-2026-07`` and others, one a month: Parquet with the
columns ``content`` and ``category``), or has a file of JSON lines a subset, named after it. The benchmark's number is the mean
over subsets of bits per byte, each with the same weight. A folder that lacks a subset is marked as limited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evalkit.domains.layout import TextSource, find_source
from evalkit.domains.texts import MAX_LENGTH, TextTask
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import task
from evalkit.task import DomainInfo, TaskName, TaskOptions

FAMILY = "uncheatable"
SUBSETS = (
    *("ao3_english", "ao3_nonenglish", "arxiv_cs", "arxiv_math", "arxiv_other", "arxiv_physics", "bbc_news"),
    *("biorxiv_all", "github_cpp", "github_javascript", "github_markdown", "github_other", "github_python"),
    *("wikipedia_english", "wikipedia_nonenglish"),
)
"""The categories of the releases of 2026."""
FORMER_NAMES = {"arxiv_computer_science": "arxiv_cs"}
ADVICE = (
    "Use one of its releases, such as https://huggingface.co/datasets/Jellyfish042/UncheatableEval-2026-07, and name its "
    "folder: --data DIR."
)
_DATES = re.compile(r"_[0-9]{6,8}_?to_?[0-9]{6,8}$")


@task(FAMILY, description="Perplexity of the 15 subsets of an Uncheatable Eval release in --data DIR")
class UncheatableTask(TextTask):
    """A release of Uncheatable Eval; its subsets are the domains."""

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        super().__init__(name, options)
        if options.split not in (None, "test"):
            raise UsageError(f"Uncheatable Eval has only the split 'test', not '{options.split}'.")
        self.max_length = options.max_length or MAX_LENGTH

    def expected_domains(self) -> Sequence[str]:
        return SUBSETS

    def domain_of(self, domain: str) -> str:
        """A subset's name without the dates that files have behind it.

        >>> UncheatableTask.domain_of(None, "arxiv_computer_science_20250701to20250715")
        'arxiv_cs'
        """
        plain = _DATES.sub("", domain)
        return FORMER_NAMES.get(plain, plain)

    def open_source(self) -> TextSource:
        if self.options.data is None:
            raise DataUnavailable(f"Uncheatable Eval's texts were not found. {ADVICE}")
        folder = self.options.data.expanduser()
        if not folder.is_dir():
            raise DataUnavailable(f"There is no folder {folder}. {ADVICE}")
        found = find_source(folder / "data" if (folder / "data").is_dir() else folder, FAMILY)
        if not found.files:
            raise DataUnavailable(f"{folder} holds no texts. {ADVICE}")
        return replace(
            found, files=tuple(replace(file, text_key="content", domain_key="category") for file in found.files)
        )

    def source_name(self) -> str:
        return FAMILY

    def origin(self) -> dict[str, Any]:
        return {"source": "folder", "name": "Uncheatable Eval"}

    def domain_infos(self) -> list[DomainInfo]:
        """The 15 subsets; with ``--data`` also their numbers of documents, and what else the files name."""
        counts = self.counts if self.options.data is not None else None
        names = [*SUBSETS, *(self.unexpected if counts is not None else ())]
        return [DomainInfo(FAMILY, name, documents=None if counts is None else counts[name]) for name in names]
