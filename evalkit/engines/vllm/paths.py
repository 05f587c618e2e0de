"""Ways of asking vLLM for log-probabilities, and of reading its answers: pure functions, without vLLM.

The last token of a request is never fed. vLLM is given the tokens before it (so a window of the model's full length
fits as it does in transformers) and predicts one token: there the last token's log-probability is read by its id
(``logprob_token_ids``), and whether it is the argmax by what greedy sampling chose. Requests that differ in the last
token alone, such as options of one token, are therefore one prompt.

The scored tokens before the last lie in the prompt. Their log-probabilities come on one of two paths:

``token-ids``
    ``prompt_logprob_token_ids``: the head runs on the scored rows alone (vLLM 0.32 and later with its V2 runner). There
    is no rank in the answer; see `greedy_by_bounds`.
``prompt-logprobs``
    ``prompt_logprobs=0``: a log-probability and a rank for every row that was computed. Rows that the prefix cache
    covered are missing or garbage, so answers are indexed from the end and must name the prompt's own tokens.

On both paths an answer whose scored rows the prefix cache swallowed is dropped, and asked again without the cache.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Path = Literal["token-ids", "prompt-logprobs"]
MOST_IDS = 128
"""vLLM's own limit on ``logprob_token_ids``."""
RIVALS = 8
"""On the path ``token-ids``, so many frequent tokens are asked beside each scored one, to show that it is not the argmax."""
SURE = 1e-4
"""Nats by which a bound must be passed before it decides."""

Floats = NDArray[np.float32]


class Missing(Exception):
    """An answer lacks a log-probability that was asked for."""


@dataclass(slots=True)
class Ask:
    """One vLLM request: a prompt that one or more scored requests share."""

    prompt: list[int]
    start: int
    """Rows from ``start - 1`` on are wanted: the smallest start of the members."""
    last: list[int]
    """Distinct ids whose log-probability after the prompt is wanted."""
    members: list[int]
    """Positions of the scored requests in their job."""
    cached: bool = True
    """Whether the prefix cache may be read."""
    ranks: bool = False
    """Whether ranks are wanted although the path has none: the greedy flag could not be told otherwise."""
    rivals: list[int] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Scored tokens inside the prompt."""
        return len(self.prompt) - self.start


@dataclass(frozen=True, slots=True)
class Answer:
    """What an `Ask` brought. ``greedy`` values: 1 argmax, 0 not, -1 not known."""

    rows: Floats
    """``[rows]`` log-probabilities of ``prompt[start:]``."""
    greedy: NDArray[np.int8]
    """``[rows]``."""
    last: dict[int, float]
    chosen: int
    """The argmax after the prompt."""


def choose(*, wanted: str, v2_runner: bool, has_token_ids: bool) -> Path:
    """The path that the installed vLLM offers; `wanted` is ``auto`` or a path's name.

    Raises `Missing` where the wanted one is not offered.
    """
    offered = v2_runner and has_token_ids
    if wanted == "auto":
        return "token-ids" if offered else "prompt-logprobs"
    if wanted == "token-ids" and not offered:
        raise Missing("scoring=token-ids needs vLLM 0.32 or later with its V2 model runner, which is not active here.")
    if wanted not in ("token-ids", "prompt-logprobs"):
        raise Missing(f"scoring takes auto, token-ids or prompt-logprobs, not '{wanted}'.")
    return "token-ids" if wanted == "token-ids" else "prompt-logprobs"


def asks(requests: Sequence[tuple[Sequence[int], int]]) -> list[Ask]:
    """The distinct prompts of a job's requests ``(tokens, start)``, in the order in which they first appear.

    Requests of one prompt are one ask, up to vLLM's limit on ids.
    """
    found: dict[bytes, Ask] = {}
    made: list[Ask] = []
    for position, (tokens, start) in enumerate(requests):
        prompt = np.asarray(tokens[:-1], dtype=np.int32)
        key = prompt.tobytes()
        ask = found.get(key)
        if ask is None or (tokens[-1] not in ask.last and len(ask.last) >= MOST_IDS):
            ask = found[key] = Ask(prompt.tolist(), start, [], [])
            made.append(ask)
        ask.start = min(ask.start, start)
        if tokens[-1] not in ask.last:
            ask.last.append(int(tokens[-1]))
        ask.members.append(position)
    return made


def rivals(requests: Iterable[tuple[Sequence[int], int]]) -> list[int]:
    """The most frequent scored tokens of a job: where one of them is likelier than a scored token, that is not the argmax."""
    counts = Counter(int(token) for tokens, start in requests for token in tokens[start:])
    return [token for token, _ in counts.most_common(RIVALS)]


def sampling(ask: Ask, path: Path) -> dict[str, Any]:
    """The arguments of vLLM's ``SamplingParams`` for an ask."""
    options: dict[str, Any] = {
        "max_tokens": 1,
        "temperature": 0.0,
        "detokenize": False,
        "ignore_eos": True,
        "flat_logprobs": True,
        "logprob_token_ids": ask.last,
        "skip_reading_prefix_cache": not ask.cached,
        "skip_clone": True,
    }
    if ask.rows and (path == "prompt-logprobs" or ask.ranks):
        options["prompt_logprobs"] = 0
    elif ask.rows:
        scored = np.asarray(ask.prompt[ask.start :], dtype=np.int64)
        beside = np.broadcast_to(np.asarray(ask.rivals, dtype=np.int64), (len(scored), len(ask.rivals)))
        options["prompt_logprob_token_ids"] = np.concatenate([scored[:, None], beside], axis=1)
        options["prompt_logprob_start"] = ask.start - 1
    return options


def swallowed(ask: Ask, path: Path, output: Any) -> bool:
    """Whether the prefix cache covered rows that were wanted, so that the answer must be asked for again."""
    if not ask.rows or not ask.cached:
        return False
    if path == "token-ids" and not ask.ranks:
        return output.prompt_token_id_logprobs is None
    return int(output.num_cached_tokens or 0) > ask.start - 1


def read(ask: Ask, path: Path, output: Any, vocabulary: int) -> Answer:
    """An answer out of vLLM's ``RequestOutput``. Raises `Missing` where anything that was asked for is not there."""
    completion = output.outputs[0] if output.outputs else None
    if completion is None or completion.logprobs is None or len(completion.token_ids) != 1:
        raise Missing("vLLM predicted no token after a prompt.")
    flat = completion.logprobs
    last = dict(zip(flat.token_ids, flat.logprobs, strict=True))
    if any(token not in last for token in ask.last):
        raise Missing("vLLM gave no log-probability for the last token of a request.")
    rows = np.zeros(0, dtype=np.float32)
    greedy = np.zeros(0, dtype=np.int8)
    if ask.rows:
        if path == "prompt-logprobs" or ask.ranks:
            rows, greedy = _from_prompt(ask, output)
        else:
            rows, greedy = _from_ids(ask, output, vocabulary)
    return Answer(rows, greedy, {token: float(last[token]) for token in ask.last}, int(completion.token_ids[0]))


def _from_prompt(ask: Ask, output: Any) -> tuple[Floats, NDArray[np.int8]]:
    """The last rows of ``prompt_logprobs``, one entry a row; a row that is not the prompt's own token is none."""
    flat, count = output.prompt_logprobs, ask.rows
    if flat is None or len(flat.logprobs) < count:
        raise Missing(f"vLLM gave {0 if flat is None else len(flat.logprobs)} rows where {count} were needed.")
    if list(flat.token_ids[-count:]) != ask.prompt[-count:]:
        raise Missing("vLLM gave log-probabilities of other tokens than the prompt's.")
    rows = np.asarray(flat.logprobs[-count:], dtype=np.float32)
    greedy = np.fromiter((rank == 1 for rank in flat.ranks[-count:]), dtype=np.int8, count=count)
    return rows, greedy


def _from_ids(ask: Ask, output: Any, vocabulary: int) -> tuple[Floats, NDArray[np.int8]]:
    """``prompt_token_id_logprobs``: column 0 is the scored token, the others are its rivals."""
    found = output.prompt_token_id_logprobs
    shape = (ask.rows, 1 + len(ask.rivals))
    if found is None or tuple(found.shape) != shape:
        raise Missing(f"vLLM gave {None if found is None else tuple(found.shape)} log-probabilities, not {shape}.")
    table = np.asarray(found, dtype=np.float32)
    return table[:, 0].copy(), greedy_by_bounds(table, vocabulary)


def greedy_by_bounds(table: Floats, vocabulary: int) -> NDArray[np.int8]:
    """What log-probabilities alone tell about the argmax: 1 it is, 0 it is not, -1 not known.

    `table` is ``[rows, 1 + rivals]``, nats. A token of more than half of the probability is the argmax. One with less
    than 1 / vocabulary is not, nor is one that a rival surpasses.
    """
    own = table[:, 0]
    greedy = np.full(len(own), -1, dtype=np.int8)
    greedy[own > math.log(0.5) + SURE] = 1
    greedy[own < -math.log(vocabulary) - SURE] = 0
    if table.shape[1] > 1:
        greedy[table[:, 1:].max(axis=1) > own + SURE] = 0
    return greedy


def member(ask: Ask, answer: Answer, tokens: Sequence[int], start: int) -> tuple[Floats, int]:
    """One request's log-probabilities ``[len(tokens) - start]`` and its greedy flag (1, 0, or -1: not known).

    Raises `Missing` for a value that is not a number.
    """
    skip = start - ask.start
    values = np.append(answer.rows[skip:], np.float32(answer.last[int(tokens[-1])]))
    if len(values) != len(tokens) - start:
        raise Missing(f"vLLM gave {len(values)} log-probabilities where {len(tokens) - start} were needed.")
    if not np.isfinite(values).all():
        raise Missing("vLLM gave a log-probability that is not a number (NaN or infinite).")
    flags = answer.greedy[skip:]
    if answer.chosen != int(tokens[-1]) or bool((flags == 0).any()):
        return values, 0
    return values, -1 if bool((flags == -1).any()) else 1
