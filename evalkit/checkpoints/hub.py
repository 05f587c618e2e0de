"""Access to the Hugging Face hub: probed once per process for at most three seconds; downloads only what is needed."""

from __future__ import annotations

import os
import re
import threading
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from evalkit.errors import CheckpointError, DataUnavailable, EvalkitError, UnknownName

NON_WEIGHT_PATTERNS = ["*.json", "tokenizer*", "*.model", "merges.txt", "vocab.txt", "*.jinja"]
"""File patterns of everything except weights: config, tokenizer, chat template."""
PROBE_SECONDS = 3.0
IGNORED_PATTERNS = ["*/*", "consolidated*"]
UNREACHABLE = "the Hugging Face hub cannot be reached"
RATE_LIMIT_RESET = re.compile(r"(?:^|;)\s*t=(\d+)")
"""In the hub's header ``RateLimit``: seconds until requests are answered again."""
TOKEN_ADVICE = "set HF_TOKEN to a token with access, or run 'hf auth login'"


def offline_requested() -> bool:
    """Whether the user set Hugging Face's libraries to offline mode, in which they read only their cache."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def reachable() -> bool:
    """Whether the hub can be used. Probed once per process; never waits longer than `PROBE_SECONDS`."""
    return not obstacle()


def obstacle() -> str:
    """Why the hub cannot be used, as a clause such as "the Hugging Face hub cannot be reached"; empty if it can."""
    return "HF_HUB_OFFLINE is set" if offline_requested() else _probed()


@cache
def _probed() -> str:
    results: list[str] = []
    # in a thread, because a DNS lookup has no timeout of its own
    thread = threading.Thread(target=lambda: results.append(_probe()), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return results[0] if results else UNREACHABLE


def _probe() -> str:
    """Send one request to the hub, or to the mirror that ``HF_ENDPOINT`` names; returns what `obstacle` does."""
    from huggingface_hub import constants, get_session  # its own client: the same proxies and certificates

    session = get_session()
    try:
        response = session.head(constants.ENDPOINT, timeout=PROBE_SECONDS, follow_redirects=True)
    except Exception:  # the exception types depend on the HTTP client that huggingface_hub uses
        return UNREACHABLE
    if response.status_code == 407:
        return f"{UNREACHABLE}: the proxy asks for a password (HTTP 407)"
    return _refusal(response)


def _refusal(response: Any) -> str:
    """The hub's own answer, if it is that it has too much to do (429) or is broken (500 and above), as a clause."""
    status = int(response.status_code)
    if status != HTTPStatus.TOO_MANY_REQUESTS and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return ""
    known = status in set(HTTPStatus)
    text = f"the Hugging Face hub answers HTTP {status}{f' ({HTTPStatus(status).phrase})' if known else ''}"
    wait = str(response.headers.get("Retry-After") or "").strip()
    window = RATE_LIMIT_RESET.search(str(response.headers.get("RateLimit") or ""))
    if window is not None and not wait:
        wait = window[1]
    if wait.isdecimal():
        return f"{text} and asks to wait for {int(wait[:9]):,} seconds"
    return f"{text} and asks to wait until {wait[:40]}" if wait else text


def refusal_of(error: BaseException) -> str:
    """What `_refusal` says of the answer behind an exception of the hub's client; empty if there is none."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        response = getattr(current, "response", None)
        if response is not None and hasattr(response, "status_code"):
            return _refusal(response)
        current = current.__cause__ or current.__context__
    return ""


def download(repository: str, revision: str, *, trust: bool = False, weights: bool = True) -> Path:
    """Download a snapshot with config, tokenizer and (if `weights`) safetensors; returns its folder in the hub's cache.

    `trust` also fetches the repository's Python code, and pickled weights if there are no safetensors. Raises
    `UnknownName` for a missing repository or revision, `CheckpointError` for a gated one, and `DataUnavailable` if the hub
    cannot be reached and the snapshot is not in the cache.
    """
    from huggingface_hub import snapshot_download

    patterns = [*NON_WEIGHT_PATTERNS, *(["*.safetensors"] if weights else []), *(["*.py"] if trust else [])]
    online = reachable()
    try:
        if online and weights and trust and not _has_safetensors(repository, revision):
            patterns.append("pytorch_model*.bin")
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=IGNORED_PATTERNS,
                local_files_only=not online,
            )
        )
    except Exception as error:
        raise _translated(repository, revision, error, online) from error


def is_downloaded(repository: str, revision: str) -> bool:
    """Whether a revision is in the hub's cache."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(repository, revision=revision, local_files_only=True)
    except Exception:  # the client has several for what is missing
        return False
    return True


def remove(repository: str, revision: str) -> None:
    """Remove a revision from the hub's cache, with the files that no other revision shares."""
    from huggingface_hub import constants, scan_cache_dir, snapshot_download

    folder = snapshot_download(repository, revision=revision, local_files_only=True)
    scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(Path(folder).name).execute()


def _has_safetensors(repository: str, revision: str) -> bool:
    from huggingface_hub import HfApi

    return any(name.endswith(".safetensors") for name in HfApi().list_repo_files(repository, revision=revision))


def revisions(repository: str) -> list[str]:
    """Names of a repository's branches; only the cached ones if the hub cannot be reached."""
    online = reachable()
    if not online:
        return _cached_branches(repository)
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(repository)
    except Exception as error:
        raise _translated(repository, "main", error, online) from error
    return [branch.name for branch in refs.branches]


def _cached_branches(repository: str) -> list[str]:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / ("models--" + repository.replace("/", "--")) / "refs"
    names = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
    if not names:
        raise _unreachable_error(repository, "main")
    return names


def _unreachable_error(repository: str, revision: str) -> DataUnavailable:
    suffix = "" if revision == "main" else f"@{revision}"
    reason = obstacle() or UNREACHABLE
    advice = "run again later" if "answers" in reason else "run again with a connection"
    return DataUnavailable(
        f"{repository}{suffix} is not on this machine, and {reason}. Give --model a folder that holds the checkpoint, or {advice}."
    )


def _translated(repository: str, revision: str, error: Exception, online: bool) -> EvalkitError:
    """Translate an exception of the hub's client into an error that says what to do."""
    from huggingface_hub import errors

    if isinstance(error, EvalkitError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(f"{repository} is gated: request access on its page on the hub, then {TOKEN_ADVICE}.")
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
    refused = refusal_of(error) if online else ""
    if refused:
        return DataUnavailable(
            f"{repository}@{revision} cannot be downloaded: {refused}. Run the same command again later."
        )
    if isinstance(error, errors.LocalEntryNotFoundError) or not online:
        return _unreachable_error(repository, revision)
    reason: Any = str(error).strip().splitlines() or [type(error).__name__]
    return DataUnavailable(f"{repository}@{revision} cannot be downloaded ({reason[0]}). Run the same command again.")


def _known_revisions(repository: str) -> list[str]:
    try:
        return revisions(repository)
    except EvalkitError:
        return []
