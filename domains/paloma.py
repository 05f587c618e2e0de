"""``paloma/SOURCE``: Paloma (arXiv 2312.10523), one task per source, scored by domain; also ``paloma/SOURCE/GLOB``.

The files are those of the release, from ``--data DIR`` or from the hub, where the data set is gated. Only a complete and
undamaged sample is Paloma: anything less is marked as limited, with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evalkit.checkpoints.hub import TOKEN_ADVICE
from evalkit.data import hub
from evalkit.domains import manifest
from evalkit.domains.layout import SPLITS, TextSource, find_source, split_name
from evalkit.domains.texts import TextTask
from evalkit.errors import DataUnavailable, UnknownName, UsageError
from evalkit.registry import TaskEntry, tasks
from evalkit.task import DomainInfo, TaskName, TaskOptions

FAMILY = "paloma"
ADVICE = (
    "Paloma is gated: request access at https://huggingface.co/datasets/allenai/paloma, then "
    f"{TOKEN_ADVICE}; or give the files with --data DIR. The suite paloma-mini needs no access."
)


class PalomaTask(TextTask):
    """One source of Paloma, or its domains that match a glob: ``paloma/m2d2_s2orc_unsplit/cs.*``."""

    may_be_empty = True
    gated = True

    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        super().__init__(name, options)
        if options.split is not None and split_name(options.split) in (None, "train"):
            raise UsageError(f"Paloma has the splits 'val' and 'test', not '{options.split}'.")
        self.split = split_name(options.split or "test") or "test"
        _, source, *glob = name.base.split("/", 2)
        self.entry = manifest.sources()[source]
        self.glob = glob[0] if glob else ""
        self.max_length = manifest.max_length()
        if self.glob and not self.expected_domains():
            raise UnknownName(
                "domain", self.glob, self.entry.domains, f"{source} has {len(self.entry.domains)} domains."
            )

    def expected_domains(self) -> Sequence[str]:
        return [domain for domain in self.entry.domains if self.includes(domain)]

    def includes(self, domain: str) -> bool:
        return not self.glob or fnmatchcase(domain, self.glob)

    def domain_of(self, domain: str) -> str:
        """A source with one domain assigns all documents to it, whatever domain they name."""
        return self.entry.domains[0] if len(self.entry.domains) == 1 else domain

    def is_ordinary(self, source: str, domain: str) -> bool:
        return self.entry.ordinary(domain)

    @property
    def limited(self) -> bool:
        return super().limited or len(self.expected_domains()) < len(self.entry.domains)

    def open_source(self) -> TextSource:
        name = self.entry.name
        folder = self._folder()
        if folder is None:
            folder = hub.files(manifest.repository(), [f"{name}/{split}/*" for split in SPLITS[self.split]], ADVICE)
        else:
            folder = release_folder(folder)
        if not (folder / name).is_dir():
            return TextSource(name, self.split, ())
        return find_source(folder / name, name, self.split)

    def _folder(self) -> Path | None:
        """The user's copy, or None to use the hub."""
        if self.options.data is not None:
            return self.options.data.expanduser()
        choice = self.options.data_source
        if choice == "bundle":
            raise DataUnavailable(f"The offline bundle does not contain Paloma. {ADVICE}")
        if choice in (None, "hub"):
            return None
        path = Path(choice).expanduser()
        if not path.is_dir():
            raise UsageError(f"There is no data source '{choice}'. For Paloma use 'hub' or an existing folder.")
        return path

    def origin(self) -> dict[str, Any]:
        return {"source": "hub" if self._folder() is None else "folder", "name": manifest.repository()}

    def domain_infos(self) -> list[DomainInfo]:
        """The manifest's domains; with ``--data`` also their numbers of documents, and unexpected domains in the files."""
        counts = self.counts if self.options.data is not None else None
        domains = [*self.expected_domains(), *(self.unexpected if counts is not None else ())]
        return [
            DomainInfo(
                self.entry.name,
                domain,
                self.entry.unit,
                None if counts is None else counts[domain],
                self.entry.ordinary(domain),
            )
            for domain in domains
        ]

    def source_name(self) -> str:
        return self.entry.name

    def metrics_split(self) -> str:
        return self.split


def release_folder(folder: Path) -> Path:
    """The folder that contains the sources' folders: the given one or a subfolder. Raises `DataUnavailable`."""
    names = manifest.sources()
    if not folder.is_dir():
        raise DataUnavailable(f"There is no folder {folder}. --data takes the folder with Paloma's files. {ADVICE}")
    for candidate in (folder, folder / "paloma", folder / "data"):
        if any((candidate / name).is_dir() for name in names):
            return candidate
    raise DataUnavailable(
        f"{folder} contains no Paloma source. Expected folders such as c4_en/test with test-00000000.jsonl.gz in it. {ADVICE}"
    )


for _source in manifest.sources().values():
    _count = len(_source.domains)
    tasks.add(
        TaskEntry(
            f"{FAMILY}/{_source.name}",
            PalomaTask,
            {"": ("",)},
            f"Perplexity of {f'{_count} domains' if _count > 1 else 'a source'} of Paloma"
            + ("" if _source.redistributable else " (version 1; needs your own copy of the files)"),
            where=f"{__name__}.{PalomaTask.__name__}",
            parts=True,
        )
    )
