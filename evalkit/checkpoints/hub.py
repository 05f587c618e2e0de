"""The Hugging Face hub, asked politely: probed once a process for at most three seconds, and only what is needed."""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

from evalkit.errors import CheckpointError, DataUnavailable, EvalkitError, UnknownName

SMALL = ["*.json", "tokenizer*", "*.model", "merges.txt", "vocab.txt", "*.jinja"]
"""Patterns of everything but weights: config, tokenizer, chat template."""
PROBE_SECONDS = 3.0
NEVER = ["*/*", "consolidated*"]
TOKEN_ADVICE = "put a token of an account that has access into HF_TOKEN, or run 'hf auth login'"


def told_offline() -> bool:
    """Whether the person told Hugging Face's libraries to stay offline (they then read their own cache)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@cache
def reachable() -> bool:
    """Whether the hub answers, asked once a process; never waits longer than `PROBE_SECONDS`."""
    if told_offline():
        return False
    answers: list[bool] = []
    # a thread, since looking up a name has no time limit of its own
    thread = threading.Thread(target=lambda: answers.append(_answers()), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return bool(answers and answers[0])


def _answers() -> bool:
    """One request to the hub, or to the mirror that ``HF_ENDPOINT`` names."""
    from huggingface_hub import constants, get_session  # its own client: the same proxies and certificates

    session = get_session()
    try:
        status: int = session.head(constants.ENDPOINT, timeout=PROBE_SECONDS, follow_redirects=True).status_code
    except Exception:  # which errors there are is the affair of the client that huggingface_hub uses
        return False
    return status < 500 and status != 407  # 407 is a proxy that wants a password


def download(repository: str, revision: str, *, trust: bool = False, weights: bool = True) -> Path:
    """A snapshot's folder in the hub's cache, with config, tokenizer and (unless `weights` is False) safetensors.

    Raises `UnknownName` for a repository or revision that is not there, `CheckpointError` for a gated one,
    `DataUnavailable` where the hub cannot be reached and the cache has nothing.
    """
    from huggingface_hub import snapshot_download

    allowed = [*SMALL, *(["*.safetensors"] if weights else []), *(["*.py"] if trust else [])]
    online = reachable()
    try:
        if online and weights and trust and not _has_safetensors(repository, revision):
            allowed.append("pytorch_model*.bin")
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=allowed,
                ignore_patterns=NEVER,
                local_files_only=not online,
            )
        )
    except Exception as error:
        raise _explained(repository, revision, error, online) from error


def _has_safetensors(repository: str, revision: str) -> bool:
    from huggingface_hub import HfApi

    return any(name.endswith(".safetensors") for name in HfApi().list_repo_files(repository, revision=revision))


def revisions(repository: str) -> list[str]:
    """Names of all branches of a repository; those that the cache holds where the hub cannot be reached."""
    online = reachable()
    if not online:
        return _cached_revisions(repository)
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(repository)
    except Exception as error:
        raise _explained(repository, "main", error, online) from error
    return [branch.name for branch in refs.branches]


def _cached_revisions(repository: str) -> list[str]:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / ("models--" + repository.replace("/", "--")) / "refs"
    names = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
    if not names:
        raise _unreachable(repository, "main")
    return names


def _unreachable(repository: str, revision: str) -> DataUnavailable:
    why = "HF_HUB_OFFLINE is set" if told_offline() else "the model hub cannot be reached"
    at = "" if revision == "main" else f"@{revision}"
    return DataUnavailable(
        f"{repository}{at} is not on this machine, and {why}. Give --model a folder that holds the checkpoint, or run again with a connection."
    )


def _explained(repository: str, revision: str, error: Exception, online: bool) -> EvalkitError:
    """The sentence for what the hub's client raised."""
    from huggingface_hub import errors

    if isinstance(error, EvalkitError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"{repository} is gated: ask for access on its page of the model hub, then {TOKEN_ADVICE}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        known = _known_revisions(repository)
        return UnknownName(
            "revision", revision, known, f"'evalkit list checkpoints {repository}' shows those of {repository}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UnknownName(
            "repository",
            repository,
            [],
            f"If it is private, {TOKEN_ADVICE}. A local folder needs to exist under that path.",
        )
    if isinstance(error, errors.LocalEntryNotFoundError) or not online:
        return _unreachable(repository, revision)
    reason: Any = str(error).strip().splitlines() or [type(error).__name__]
    return DataUnavailable(f"{repository}@{revision} cannot be downloaded ({reason[0]}). Run the same command again.")


def _known_revisions(repository: str) -> list[str]:
    try:
        return revisions(repository)
    except EvalkitError:
        return []
