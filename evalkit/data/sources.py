"""The three sources of data sets: `DataSet` has a data set's name in each of them, `open_source` opens one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evalkit.data import folder, hub
from evalkit.data.bundle import Bundle
from evalkit.errors import DataUnavailable, UsageError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set's name in each source."""

    repo: str
    """On the hub and in a user's folder: ``allenai/ai2_arc``."""
    config: str | None = None
    bundle: str = ""
    """In the bundle's tables: ``ai2_arc/ARC-Easy``; empty if it is not there."""
    unwrap: Mapping[str, Callable[[Bundle], list[Row]]] = field(default_factory=dict)
    """For splits that the bundle stores in a different format: functions that convert them to the data set's rows."""

    def __str__(self) -> str:
        return f"{self.repo} ({self.config})" if self.config else self.repo


class Source(Protocol):
    """A source of rows."""

    name: str
    """``bundle``, ``hub`` or ``folder``."""

    def rows(self, data: DataSet, split: str) -> list[Row]:
        """All rows of a split in the data set's order. Raises `DataUnavailable`."""

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        """What was read, for the protocol: source, name, and a revision or sha256."""

    def place(self, data: DataSet, split: str, index: int) -> str:
        """Where a row stands, as an error names it."""


def _place_in_split(data: DataSet, split: str, index: int) -> str:
    return f"Row {index} of the {split} split of {data}"


class BundleSource:
    """The offline bundle."""

    name = "bundle"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def rows(self, data: DataSet, split: str) -> list[Row]:
        if split in data.unwrap:
            return data.unwrap[split](self.bundle)
        available = sorted({*(self.bundle.splits(data.bundle) if data.bundle else ()), *data.unwrap})
        if split not in available:
            raise DataUnavailable(
                f"The offline bundle has no {split} split of {data} (it has {', '.join(available) or 'nothing of it'}). "
                "Use --data-source hub, or a folder with the files."
            )
        return self.bundle.arrow(data.bundle, split)

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        return {"source": self.name, "name": data.bundle or data.repo, "sha256": self.bundle.sha256}

    def place(self, data: DataSet, split: str, index: int) -> str:
        return _place_in_split(data, split, index)


class HubSource:
    """The Hugging Face hub, through ``datasets``."""

    name = "hub"

    def __init__(self) -> None:
        self._commits: dict[str, str | None] = {}

    def rows(self, data: DataSet, split: str) -> list[Row]:
        return hub.load(data.repo, data.config, split, self._commit(data.repo))

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        return {"source": self.name, "name": data.repo, "config": data.config, "revision": self._commit(data.repo)}

    def place(self, data: DataSet, split: str, index: int) -> str:
        return _place_in_split(data, split, index)

    def _commit(self, repo: str) -> str | None:
        if repo not in self._commits:
            self._commits[repo] = hub.revision(repo) if hub.offline_requested() or hub.reachable() else None
        return self._commits[repo]


class FolderSource:
    """A user's folder, with the layout described in `evalkit.data.folder`."""

    name = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, data: DataSet, split: str) -> list[Row]:
        return folder.load(self.path, data.repo, data.config, split)

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        files = folder.split_files(self.path, data.repo, data.config, split)
        return {"source": self.name, "name": data.repo, "config": data.config, "sha256": folder.sha256_of(files)}

    def place(self, data: DataSet, split: str, index: int) -> str:
        """The file, and the line or row in it."""
        before = 0
        for file in folder.split_files(self.path, data.repo, data.config, split):
            rows = folder.read_rows(file)
            if index < before + len(rows):
                return f"{file}, {rows[index - before][0]},"
            before += len(rows)
        return _place_in_split(data, split, index)


class FilesSource:
    """Files that a question set of the user's own names, a file a split."""

    name = "files"

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder_path, self.files = folder, files

    def rows(self, data: DataSet, split: str) -> list[Row]:
        return [row for _, row in folder.read_rows(self._file(data, split))]

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        file = self._file(data, split)
        return {"source": self.name, "name": file.name, "sha256": folder.sha256_of([file])}

    def place(self, data: DataSet, split: str, index: int) -> str:
        if split not in self.files:  # rows that stand in the description itself
            return _place_in_split(data, split, index)
        file = self._file(data, split)
        rows = folder.read_rows(file)
        return f"{file}, {rows[index][0]}," if index < len(rows) else _place_in_split(data, split, index)

    def _file(self, data: DataSet, split: str) -> Path:
        if split not in self.files:
            raise DataUnavailable(f"{data} has no split '{split}'; it has {', '.join(self.files)}.")
        return self.folder_path / self.files[split].replace("{part}", data.config or "")


_HUB_SOURCE = HubSource()


def open_source(choice: str | None = None, bundle: Path | None = None) -> Source:
    """Open a source: ``bundle``, ``hub`` or a folder's path; for None the hub if it responds, else the bundle.

    `bundle`: a file given with ``--bundle``, which also selects the bundle if `choice` is None.
    """
    if choice == "bundle" or (choice is None and (bundle is not None or not hub.reachable())):
        return BundleSource(Bundle.open(bundle))
    if choice is None or choice == "hub":
        return _HUB_SOURCE
    path = Path(choice).expanduser()
    if not path.is_dir():
        raise UsageError(f"There is no data source '{choice}'. Use 'bundle', 'hub', or an existing folder.")
    return FolderSource(path.resolve())
