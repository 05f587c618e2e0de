"""Data sets of the Hugging Face hub, read with ``datasets``; failures are told in a sentence.

The hub is probed before, once a process and for at most three seconds (`evalkit.checkpoints.hub`): ``datasets`` alone takes 23 s to find out that it is not there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from evalkit.checkpoints import hub
from evalkit.checkpoints.hub import TOKEN_ADVICE
from evalkit.errors import DataUnavailable

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")

Row = dict[str, Any]


def offline_requested() -> bool:
    """Whether the person told Hugging Face's libraries to stay offline (they then read their own cache)."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE)


def reachable() -> bool:
    """Whether the hub answers; asked once a process, together with models."""
    return not offline_requested() and hub.reachable()


def revision(repo: str) -> str | None:
    """The commit of a data set on the hub; None offline, where the cached one is used."""
    if offline_requested():
        return None
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(repo, timeout=30).sha
    except Exception as error:
        raise _explained(error, repo) from error


def load(repo: str, config: str | None, split: str, commit: str | None) -> list[Row]:
    """All rows of a split, in the data set's order. No code of a repository is ever run."""
    if not offline_requested() and not reachable():
        raise DataUnavailable(
            f"The Hugging Face hub cannot be reached, so {repo} cannot be read from it. Check the network or the proxy, "
            "set HF_HUB_OFFLINE=1 to use what the hub's own cache holds, or take --data-source bundle or a folder."
        )
    import datasets

    try:
        table = datasets.load_dataset(repo, config, split=split, revision=commit)
        return [dict(row) for row in table]
    except Exception as error:
        raise _explained(error, repo, split) from error


def files(repo: str, patterns: list[str], advice: str) -> Path:
    """The folder in the hub's own cache that holds a data set's files of these patterns, fetched where they are not there.

    `advice` ends every error: how to get access, or to give the files.
    """
    online = reachable()
    if not online and not offline_requested():
        raise DataUnavailable(f"The Hugging Face hub cannot be reached, so {repo} cannot be read from it. {advice}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=patterns, local_files_only=not online))
    except Exception as error:
        kinds = {type(one).__name__ for one in _chain(error)}
        if "GatedRepoError" in kinds or "RepositoryNotFoundError" in kinds:
            raise DataUnavailable(f"The hub does not let you read {repo}. {advice}") from error
        if not online:
            raise DataUnavailable(f"{repo} is not on this machine, and HF_HUB_OFFLINE is set. {advice}") from error
        reason = " ".join(str(error).split())[:160]
        raise DataUnavailable(
            f"{repo} could not be read from the hub ({type(error).__name__}: {reason}). {advice}"
        ) from error


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and those that caused it."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def _explained(error: Exception, repo: str, split: str = "") -> DataUnavailable:
    """A library's exception as a sentence that says what to do."""
    kinds = {type(one).__name__ for one in _chain(error)}
    text = " ".join(str(error).split())
    if "GatedRepoError" in kinds or "is a gated dataset" in text:
        return DataUnavailable(
            f"{repo} is gated: ask for access on https://huggingface.co/datasets/{repo}, "
            f"then {TOKEN_ADVICE}. Or give a folder with the files: --data-source DIR."
        )
    if "RepositoryNotFoundError" in kinds or "DatasetNotFoundError" in kinds:
        return DataUnavailable(f"The hub has no data set {repo}, or it is private: {TOKEN_ADVICE}.")
    if split and "split" in text.lower():
        return DataUnavailable(f"{repo} on the hub has no split '{split}' ({text[:160]}).")
    return DataUnavailable(
        f"{repo} could not be read from the hub ({type(error).__name__}: {text[:160]}). "
        "Try again, or take --data-source bundle or a folder."
    )
