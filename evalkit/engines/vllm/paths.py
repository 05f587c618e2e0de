"""Requesting log-probabilities from vLLM and reading its outputs: pure functions that do not import vLLM.

The last token of a request is never fed. vLLM is given the tokens before it (so a window of the model's full length
fits, as it does in transformers) and predicts one token: the last token's log-probability is read by its id
(``logprob_token_ids``), and it is the argmax if greedy sampling chose it. Requests that differ only in the last token,
such as options of one token, therefore share a prompt.

The other scored tokens are part of the prompt. Their log-probabilities come by one of two paths:

``token-ids``
    ``prompt_logprob_token_ids``: the head runs on the scored rows only (vLLM 0.32 and later with its V2 runner). The
    output has no ranks; see `greedy_by_bounds`.
``prompt-logprobs``
    ``prompt_logprobs=0``: a log-probability and a rank for every computed row. Rows covered by the prefix cache are
    missing or garbage, so outputs are indexed from the end and checked against the prompt's tokens.

On both paths an output that lacks scored rows because the prefix cache covered them is dropped, and the request is
repeated without the cache.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ScoringPath = Literal["token-ids", "prompt-logprobs"]
MAX_LAST_IDS = 128
"""vLLM's own limit on ``logprob_token_ids``."""
RIVAL_COUNT = 8
"""On the path ``token-ids``: how many frequent tokens are requested with each scored one, to show it is not the argmax."""
BOUND_MARGIN = 1e-4
"""Margin in nats by which a bound must be exceeded to count."""

Floats = NDArray[np.float32]


class MissingLogprobs(Exception):
    """An output lacks a log-probability that was requested."""


@dataclass(slots=True)
class PromptRequest:
    """A request to vLLM: a prompt that one or more scored requests share."""

    prompt: list[int]
    start: int
    """The smallest start of the members: rows from ``start - 1`` on are needed."""
    last: list[int]
    """Distinct ids whose log-probability after the prompt is needed."""
    members: list[int]
    """Positions of the scored requests in their job."""
    cached: bool = True
    """Whether the prefix cache may be read."""
    ranks: bool = False
    """Whether to request ranks even on the path ``token-ids``, because bounds did not decide the greedy flag."""
    rivals: list[int] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of scored tokens inside the prompt."""
        return len(self.prompt) - self.start


@dataclass(frozen=True, slots=True)
class PromptResult:
    """The result of an `PromptRequest`. ``greedy`` values: 1 argmax, 0 not, -1 unknown."""

    rows: Floats
    """``[rows]`` log-probabilities of ``prompt[start:]``."""
    greedy: NDArray[np.int8]
    """``[rows]``."""
    last: dict[int, float]
    chosen: int
    """The id of the argmax after the prompt."""


def choose_path(*, setting: str, v2_runner: bool, has_token_ids: bool) -> ScoringPath:
    """The path to use with the installed vLLM; `setting` is ``auto`` or the name of a path.

    Raises `MissingLogprobs` if vLLM does not support it.
    """
    is_supported = v2_runner and has_token_ids
    if setting == "auto":
        return "token-ids" if is_supported else "prompt-logprobs"
    if setting == "token-ids" and not is_supported:
        raise MissingLogprobs(
            "scoring=token-ids needs vLLM 0.32 or later with its V2 model runner, which is not active here."
        )
    if setting not in ("token-ids", "prompt-logprobs"):
        raise MissingLogprobs(f"scoring takes auto, token-ids or prompt-logprobs, not '{setting}'.")
    return "token-ids" if setting == "token-ids" else "prompt-logprobs"


def group_by_prompt(requests: Sequence[tuple[Sequence[int], int]]) -> list[PromptRequest]:
    """Group the requests ``(tokens, start)`` of a job by prompt, in order of first appearance.

    A group holds at most `MAX_LAST_IDS` distinct last tokens.
    """
    by_prompt: dict[bytes, PromptRequest] = {}
    groups: list[PromptRequest] = []
    for position, (tokens, start) in enumerate(requests):
        prompt = np.asarray(tokens[:-1], dtype=np.int32)
        key = prompt.tobytes()
        group = by_prompt.get(key)
        if group is None or (tokens[-1] not in group.last and len(group.last) >= MAX_LAST_IDS):
            group = by_prompt[key] = PromptRequest(prompt.tolist(), start, [], [])
            groups.append(group)
        group.start = min(group.start, start)
        if tokens[-1] not in group.last:
            group.last.append(int(tokens[-1]))
        group.members.append(position)
    return groups


def rival_tokens(requests: Iterable[tuple[Sequence[int], int]]) -> list[int]:
    """The most frequent scored tokens of a job: a scored token that is less likely than one of them is not the argmax."""
    counts = Counter(int(token) for tokens, start in requests for token in tokens[start:])
    return [token for token, _ in counts.most_common(RIVAL_COUNT)]


def sampling_arguments(request: PromptRequest, path: ScoringPath) -> dict[str, Any]:
    """The arguments of vLLM's ``SamplingParams``."""
    options: dict[str, Any] = {
        "max_tokens": 1,
        "temperature": 0.0,
        "detokenize": False,
        "ignore_eos": True,
        "flat_logprobs": True,
        "logprob_token_ids": request.last,
        "skip_reading_prefix_cache": not request.cached,
        "skip_clone": True,
    }
    if request.rows and (path == "prompt-logprobs" or request.ranks):
        options["prompt_logprobs"] = 0
    elif request.rows:
        scored_ids = np.asarray(request.prompt[request.start :], dtype=np.int64)
        rival_ids = np.broadcast_to(np.asarray(request.rivals, dtype=np.int64), (len(scored_ids), len(request.rivals)))
        options["prompt_logprob_token_ids"] = np.concatenate([scored_ids[:, None], rival_ids], axis=1)
        options["prompt_logprob_start"] = request.start - 1
    return options


def lost_to_cache(request: PromptRequest, path: ScoringPath, output: Any) -> bool:
    """Whether the prefix cache covered rows that are needed, so that the request must be repeated."""
    if not request.rows or not request.cached:
        return False
    if path == "token-ids" and not request.ranks:
        return output.prompt_token_id_logprobs is None
    return int(output.num_cached_tokens or 0) > request.start - 1


def read_output(request: PromptRequest, path: ScoringPath, output: Any, vocabulary: int) -> PromptResult:
    """Read vLLM's ``RequestOutput``. Raises `MissingLogprobs` if anything that was requested is missing."""
    completion = output.outputs[0] if output.outputs else None
    if completion is None or completion.logprobs is None or len(completion.token_ids) != 1:
        raise MissingLogprobs("vLLM predicted no token after a prompt.")
    flat = completion.logprobs
    last = dict(zip(flat.token_ids, flat.logprobs, strict=True))
    if any(token not in last for token in request.last):
        raise MissingLogprobs("vLLM gave no log-probability for the last token of a request.")
    rows = np.zeros(0, dtype=np.float32)
    greedy = np.zeros(0, dtype=np.int8)
    if request.rows:
        if path == "prompt-logprobs" or request.ranks:
            rows, greedy = _from_prompt(request, output)
        else:
            rows, greedy = _from_ids(request, output, vocabulary)
    return PromptResult(
        rows, greedy, {token: float(last[token]) for token in request.last}, int(completion.token_ids[0])
    )


def _from_prompt(request: PromptRequest, output: Any) -> tuple[Floats, NDArray[np.int8]]:
    """The last rows of ``prompt_logprobs``, which must be those of the prompt's own tokens."""
    flat, count = output.prompt_logprobs, request.rows
    if flat is None or len(flat.logprobs) < count:
        raise MissingLogprobs(f"vLLM gave {0 if flat is None else len(flat.logprobs)} rows where {count} were needed.")
    if list(flat.token_ids[-count:]) != request.prompt[-count:]:
        raise MissingLogprobs("vLLM returned log-probabilities of tokens that are not the prompt's.")
    rows = np.asarray(flat.logprobs[-count:], dtype=np.float32)
    greedy = np.fromiter((rank == 1 for rank in flat.ranks[-count:]), dtype=np.int8, count=count)
    return rows, greedy


def _from_ids(request: PromptRequest, output: Any, vocabulary: int) -> tuple[Floats, NDArray[np.int8]]:
    """``prompt_token_id_logprobs``: column 0 is the scored token, the others are its rivals."""
    logprobs = output.prompt_token_id_logprobs
    shape = (request.rows, 1 + len(request.rivals))
    if logprobs is None or tuple(logprobs.shape) != shape:
        raise MissingLogprobs(
            f"vLLM gave {None if logprobs is None else tuple(logprobs.shape)} log-probabilities, not {shape}."
        )
    table = np.asarray(logprobs, dtype=np.float32)
    return table[:, 0].copy(), greedy_by_bounds(table, vocabulary)


def greedy_by_bounds(table: Floats, vocabulary: int) -> NDArray[np.int8]:
    """Whether scored tokens are the argmax, as far as log-probabilities alone show: 1 yes, 0 no, -1 unknown.

    `table` is ``[rows, 1 + rivals]``, nats, the scored token first. A token with more than half of the probability is
    the argmax. One with less than 1 / vocabulary is not, and neither is one that is less likely than a rival.
    """
    scored = table[:, 0]
    greedy = np.full(len(scored), -1, dtype=np.int8)
    greedy[scored > math.log(0.5) + BOUND_MARGIN] = 1
    greedy[scored < -math.log(vocabulary) - BOUND_MARGIN] = 0
    if table.shape[1] > 1:
        greedy[table[:, 1:].max(axis=1) > scored + BOUND_MARGIN] = 0
    return greedy


def member_scores(
    request: PromptRequest, result: PromptResult, tokens: Sequence[int], start: int
) -> tuple[Floats, int]:
    """One request's log-probabilities ``[len(tokens) - start]`` and its greedy flag (1, 0, or -1: unknown).

    Raises `MissingLogprobs` for NaN and infinite values.
    """
    offset = start - request.start
    values = np.append(result.rows[offset:], np.float32(result.last[int(tokens[-1])]))
    if len(values) != len(tokens) - start:
        raise MissingLogprobs(f"vLLM gave {len(values)} log-probabilities where {len(tokens) - start} were needed.")
    if not np.isfinite(values).all():
        raise MissingLogprobs("vLLM gave a log-probability that is not a number (NaN or infinite).")
    flags = result.greedy[offset:]
    if result.chosen != int(tokens[-1]) or bool((flags == 0).any()):
        return values, 0
    return values, -1 if bool((flags == -1).any()) else 1
