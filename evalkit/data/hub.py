"""Reads data sets from the Hugging Face hub with ``datasets``, and turns failures into plain messages.

The hub is probed first, once per process and for at most three seconds (`evalkit.checkpoints.hub`): ``datasets`` by itself
takes 23 s to notice that it is unreachable.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from evalkit.checkpoints import hub
from evalkit.checkpoints.hub import TOKEN_ADVICE
from evalkit.errors import DataUnavailable

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")

Row = dict[str, Any]


def offline_requested() -> bool:
    """Whether the user set Hugging Face's libraries to offline mode, in which they read only their cache."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE_VARIABLES)


def reachable() -> bool:
    """Whether the hub responds; probed once per process, shared with models."""
    return not offline_requested() and hub.reachable()


def _obstacle() -> str:
    """Why the hub cannot be used, as the beginning of a sentence."""
    reason = hub.obstacle() or hub.UNREACHABLE
    return reason[:1].upper() + reason[1:]


def revision(repo: str) -> str | None:
    """The commit of a data set on the hub; None in offline mode, in which the cached one is used."""
    if offline_requested():
        return None
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(repo, timeout=30).sha
    except Exception as error:
        raise _translated(error, repo) from error


def load(repo: str, config: str | None, split: str, commit: str | None) -> list[Row]:
    """All rows of a split, in the data set's order. Code from the repository is never run."""
    if not offline_requested() and not reachable():
        raise DataUnavailable(
            f"{_obstacle()}, so {repo} cannot be read from it. Check the network or the proxy, "
            "set HF_HUB_OFFLINE=1 to use only the local hub cache, or use --data-source bundle or a folder."
        )
    import datasets

    try:
        table = datasets.load_dataset(repo, config, split=split, revision=commit)
        return [dict(row) for row in table]
    except Exception as error:
        raise _translated(error, repo, split) from error


def files(repo: str, patterns: list[str], advice: str) -> Path:
    """Download a data set's files that match `patterns`, unless cached; returns their folder in the hub's cache.

    `advice` ends every error message: how to get access, or how to provide the files.
    """
    online = reachable()
    if not online and not offline_requested():
        raise DataUnavailable(f"{_obstacle()}, so {repo} cannot be read from it. {advice}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=patterns, local_files_only=not online))
    except Exception as error:
        error_names = {type(cause).__name__ for cause in _exception_chain(error)}
        if "GatedRepoError" in error_names or "RepositoryNotFoundError" in error_names:
            raise DataUnavailable(f"The hub does not allow you to read {repo}. {advice}") from error
        if not online:
            raise DataUnavailable(f"{repo} is not on this machine, and HF_HUB_OFFLINE is set. {advice}") from error
        reason = hub.refusal_of(error) or f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise DataUnavailable(f"{repo} could not be read from the hub ({reason}). {advice}") from error


def _exception_chain(error: BaseException) -> list[BaseException]:
    """An exception followed by those that caused it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _translated(error: Exception, repo: str, split: str = "") -> DataUnavailable:
    """Translate a library's exception into an error that says what to do."""
    error_names = {type(cause).__name__ for cause in _exception_chain(error)}
    text = " ".join(str(error).split())
    refused = hub.refusal_of(error)
    if refused:
        return DataUnavailable(
            f"{repo} could not be read: {refused}. Try again later, or use --data-source bundle or a folder."
        )
    if "GatedRepoError" in error_names or "is a gated dataset" in text:
        return DataUnavailable(
            f"{repo} is gated: request access at https://huggingface.co/datasets/{repo}, "
            f"then {TOKEN_ADVICE}. Or give a folder with the files: --data-source DIR."
        )
    if "RepositoryNotFoundError" in error_names or "DatasetNotFoundError" in error_names:
        return DataUnavailable(f"The hub has no dataset {repo}, or it is private. If it is private, {TOKEN_ADVICE}.")
    if split and "split" in text.lower():
        return DataUnavailable(f"{repo} on the hub has no split '{split}' ({text[:160]}).")
    return DataUnavailable(
        f"{repo} could not be read from the hub ({type(error).__name__}: {text[:160]}). "
        "Try again, or use --data-source bundle or a folder."
    )
