"""Where the rows of lm-eval's tasks come from: the hub, as the harness loads them, or evalkit's bundle or a folder in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.data import Bundle, DataSet, open_source
from evalkit.data.hub import offline_requested
from evalkit.data.sources import BundleSource, Source
from evalkit.errors import DataUnavailable
from evalkit.task import TaskOptions
from evalkit.tasks.lm_eval.index import FAMILY

FILES = frozenset(
    {"json", "csv", "parquet", "arrow", "text", "pandas", "xml", "webdataset", "imagefolder", "audiofolder"}
)
"""Data sets of these names are files that the task's own definition lists."""
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


OTHER_NAMES = {"cais/mmlu": "hails/mmlu_no_train", "lighteval/siqa": "social_i_qa"}
"""Data sets that the bundle has under the name of another repository with the same rows."""


class Rows:
    """Redirects a task's data to the source that the user chose."""

    def __init__(self, part: str, options: TaskOptions) -> None:
        self.part, self.options = part, options
        self.described: dict[str, Any] = {}

    def redirected(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A task's settings with its data redirected."""
        return {**config, **self.redirection(config)}

    def redirection(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides of a task's settings that make it read another source; none where the harness reads its own.

        Raises `DataUnavailable` where neither can be read.
        """
        config = dict(given) if self.options.split is None else {**given, "test_split": self.options.split}
        repo, name = str(config.get("dataset_path") or ""), config.get("dataset_name")
        if not repo or repo in FILES or Path(repo).exists() or config.get("custom_dataset"):
            return {}
        source = open_source(self.options.data_source, self.options.bundle)
        if source.name == "hub":
            return {}
        data = self._data_set(source, repo, name)
        if data is None:
            return {}
        examples = config.get("fewshot_config")
        wanted: list[str] = [str(config[key]) for key in SPLITS if config.get(key)]
        wanted += [str(examples["split"])] if isinstance(examples, Mapping) and examples.get("split") else []
        wanted = list(dict.fromkeys(wanted))
        tables: dict[str, Any] = {}
        for split in wanted:
            try:
                tables[split] = source.rows(data, split)
            except DataUnavailable as error:
                if split == _asked(config):
                    raise DataUnavailable(f"{str(error).rstrip('.')}, or --split with an existing one.") from error
        evaluated = _asked(config)
        self.described = source.describe(data, evaluated)
        return {"custom_dataset": lambda **_: _data_set_dict(tables, wanted, evaluated)}

    def _data_set(self, source: Source, repo: str, name: Any) -> DataSet | None:
        """The data set in a source; None if the harness is to read it from the hub's cache."""
        config = None if name is None else str(name)
        if not isinstance(source, BundleSource):
            return DataSet(repo, config)
        found = bundle_name(source.bundle, repo, config)
        if found is None and self.options.data_source is None and offline_requested():
            return None
        if found is None:
            where = "" if self.options.data_source == "bundle" else "the hub cannot be reached, and "
            raise DataUnavailable(
                f"{FAMILY}/{self.part} reads {DataSet(repo, config)}: {where}the offline bundle does not hold it. Use a network, or "
                "--data-source with a folder that has the files."
            )
        return DataSet(repo, config, found)


def bundle_name(bundle: Bundle, repo: str, config: str | None) -> str | None:
    """What the bundle calls a data set of the hub; None if it does not hold it.

    The bundle has the last part of the repository's name, or all of it, and ``none`` for a data set without configurations.
    """
    for base in (repo, repo.rpartition("/")[2], OTHER_NAMES.get(repo, repo)):
        for part in ("none", "default", "plain_text") if config in (None, "default") else (config,):
            if bundle.splits(f"{base}/{part}"):
                return f"{base}/{part}"
    return None


def _asked(config: Mapping[str, Any]) -> str:
    """The split whose documents are asked (``lm_eval.api.task.Task.eval_docs``)."""
    return str(config.get("test_split") or config.get("validation_split") or "test")


def _data_set_dict(tables: Mapping[str, list[dict[str, Any]]], wanted: list[str], evaluated: str) -> Any:
    """Rows as ``datasets`` has them; a split that the source lacks is an empty one of the same columns."""
    import datasets

    made = {split: datasets.Dataset.from_list(rows) for split, rows in tables.items()}
    for split in wanted:
        if split not in made:
            made[split] = made[evaluated].select([])
    return datasets.DatasetDict(made)
