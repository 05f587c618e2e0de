"""Any folder of texts as a suite: ``--suite DIR``, with one task per source (``texts/SOURCE``), scored by domain.

`evalkit.domains.layout` describes the layout of the folder. Its tasks take the folder as ``--data``, so that a stored run
can be scored or its metrics computed again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from evalkit.domains.layout import TextSource, clean_name, find_source, find_sources, split_name
from evalkit.domains.texts import MAX_LENGTH, TextTask
from evalkit.errors import DataUnavailable, UnknownName, UsageError
from evalkit.registry import SuiteEntry, folder_suites, task
from evalkit.task import TaskName, TaskOptions

FAMILY = "texts"


def task_part(source: str) -> str:
    """A source's name as part of a task's name, with colons, slashes and control characters replaced."""
    return re.sub(r"[:/\\\x00-\x1f\x7f]", "_", source)


def folder_suite(folder: Path) -> SuiteEntry:
    """A folder of texts as a suite. Raises `UsageError` if it has no texts, or two sources with the same name."""
    sources = find_sources(folder)
    if not sources:
        raise UsageError(
            f"{folder} holds no texts. A folder of texts has <source>/<domain>.jsonl in it (also .gz, .zst, .txt, .parquet)."
        )
    parts = [task_part(name) for name in sources]
    duplicates = sorted({part for part in parts if parts.count(part) > 1})
    if duplicates:
        raise UsageError(f"{folder} has two sources that would both be called '{duplicates[0]}'. Rename one of them.")
    # never just the name of the folder, which may be that of a published suite
    return SuiteEntry(
        f"{FAMILY}-{clean_name(folder.resolve().name)}",
        tuple(f"{FAMILY}/{part}" for part in parts),
        f"The texts of {folder}",
        options={"data": folder.resolve()},
        aggregation="texts",
        where=str(folder),
    )


@task(
    FAMILY,
    description="Perplexity of a folder of texts: texts/SOURCE with --data DIR, or --suite DIR for all",
    parts=True,
)
class FolderTask(TextTask):
    """One source of a user's folder. A document's ``cluster`` groups it with others of its source."""

    has_clusters = True

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        super().__init__(name, options)
        if options.split is not None and split_name(options.split) is None:
            raise UsageError(f"Texts have the splits 'train', 'val' and 'test', not '{options.split}'.")
        self.max_length = options.max_length or MAX_LENGTH

    def open_source(self) -> TextSource:
        if self.options.data is None or not self.source_name():
            raise UsageError(
                f"'{FAMILY}' takes the name of a source and its folder: --task {FAMILY}/SOURCE --data DIR, or --suite DIR "
                "for all sources of a folder."
            )
        folder = self.options.data.expanduser()
        if not folder.is_dir():
            raise DataUnavailable(f"There is no folder {folder}.")
        sources = {task_part(name): (name, path) for name, path in find_sources(folder).items()}
        part = self.source_name()
        if part not in sources:
            raise UnknownName("source", part, sources, f"{folder} has {len(sources)} sources.")
        name, path = sources[part]
        split = split_name(self.options.split) if self.options.split else None
        source = find_source(path, name, split)
        if not source.files:
            raise DataUnavailable(f"{path} has no texts of the split '{self.options.split}'.")
        return source

    def origin(self) -> dict[str, Any]:
        return {"source": "folder", "name": self.source.name}

    def metrics_split(self) -> str:
        return (split_name(self.options.split) or "") if self.options.split else ""


folder_suites.append(folder_suite)
