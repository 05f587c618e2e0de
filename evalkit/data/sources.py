"""One data set, three places: `DataSet` names it in each of them, `open_source` chooses the place."""

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
    """A data set's names."""

    repo: str
    """On the hub, and in a person's folder: ``allenai/ai2_arc``."""
    config: str | None = None
    bundle: str = ""
    """In the bundle's tables: ``ai2_arc/ARC-Easy``; empty where it has none."""
    unwrap: Mapping[str, Callable[[Bundle], list[Row]]] = field(default_factory=dict)
    """Splits that the bundle holds in another shape: functions that bring them into the data set's own."""

    def __str__(self) -> str:
        return f"{self.repo} ({self.config})" if self.config else self.repo


class Source(Protocol):
    """A place that rows come from."""

    name: str
    """``bundle``, ``hub`` or ``folder``."""

    def rows(self, data: DataSet, split: str) -> list[Row]:
        """All rows of a split in the data set's order; `DataUnavailable` says why not."""

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        """What was read, for the protocol: source, name, and a revision or a sha256."""


class BundleSource:
    """The offline bundle."""

    name = "bundle"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def rows(self, data: DataSet, split: str) -> list[Row]:
        if split in data.unwrap:
            return data.unwrap[split](self.bundle)
        has = sorted({*(self.bundle.splits(data.bundle) if data.bundle else ()), *data.unwrap})
        if split not in has:
            raise DataUnavailable(
                f"The offline bundle has no {split} split of {data} (it has {', '.join(has) or 'nothing of it'}). "
                "Take --data-source hub, or a folder with the files."
            )
        return self.bundle.arrow(data.bundle, split)

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        return {"source": self.name, "name": data.bundle or data.repo, "sha256": self.bundle.sha256}


class HubSource:
    """The Hugging Face hub, through ``datasets``."""

    name = "hub"

    def __init__(self) -> None:
        self._commits: dict[str, str | None] = {}

    def rows(self, data: DataSet, split: str) -> list[Row]:
        return hub.load(data.repo, data.config, split, self._commit(data.repo))

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        return {"source": self.name, "name": data.repo, "config": data.config, "revision": self._commit(data.repo)}

    def _commit(self, repo: str) -> str | None:
        if repo not in self._commits:
            self._commits[repo] = hub.revision(repo) if hub.offline_requested() or hub.reachable() else None
        return self._commits[repo]


class FolderSource:
    """A person's own folder (`evalkit.data.folder` says what it looks like)."""

    name = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, data: DataSet, split: str) -> list[Row]:
        return folder.load(self.path, data.repo, data.config, split)

    def describe(self, data: DataSet, split: str) -> dict[str, Any]:
        files = folder.split_files(self.path, data.repo, data.config, split)
        return {"source": self.name, "name": data.repo, "config": data.config, "sha256": folder.sha256_of(files)}


_hub = HubSource()


def open_source(choice: str | None = None, bundle: Path | None = None) -> Source:
    """The source that was chosen: ``bundle``, ``hub``, a folder's path; None: the hub where it answers, else the bundle.

    `bundle`: a file given with ``--bundle``, which also chooses the bundle where nothing else is said.
    """
    if choice == "bundle" or (choice is None and (bundle is not None or not hub.reachable())):
        return BundleSource(Bundle.open(bundle))
    if choice is None or choice == "hub":
        return _hub
    path = Path(choice).expanduser()
    if not path.is_dir():
        raise UsageError(f"There is no data source '{choice}': it is 'bundle', 'hub', or an existing folder.")
    return FolderSource(path.resolve())
