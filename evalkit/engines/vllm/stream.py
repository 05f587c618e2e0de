"""Batches in, scores out, through a worker that may die: nothing is lost but what was under way, and that is asked again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evalkit.engines.vllm.process import WorkerDied, WorkerProcess
from evalkit.errors import RequestRefused, ScoringError
from evalkit.records import Batch, Scores

MOST_DEATHS = 10
"""So many ends of the worker in a row, without one batch done between them, are the end of the run."""
AHEAD_STEPS = 16
"""The worker holds about so many steps' tokens, so that it never waits for more."""


@dataclass(slots=True)
class Root:
    """A batch as it was given; `found` has one entry a request."""

    batch: Batch
    found: list[Scores | None]
    left: int


@dataclass(slots=True)
class Part:
    """What is sent as one job: a whole batch, or a part of one that the worker died on."""

    root: Root
    positions: range
    alone: bool = False
    """To be scored with nothing beside it: it was under way when the worker died."""
    deaths: int = 0
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = sum(len(self.root.batch.requests[i].tokens) - 1 for i in self.positions)

    def halves(self) -> list[Part]:
        middle = (self.positions.start + self.positions.stop) // 2
        low, high = range(self.positions.start, middle), range(middle, self.positions.stop)
        return [Part(self.root, low, alone=True), Part(self.root, high, alone=True)]


class Stream:
    """One pass over batches. `worker` gives the running process, `restart` a new one after it died."""

    def __init__(
        self,
        batches: Iterable[Batch],
        worker: Callable[[], WorkerProcess],
        restart: Callable[[WorkerDied], None],
        *,
        step_tokens: Callable[[], int],
        step_requests: int,
        timeout: float,
        numbers: Iterator[int],
    ) -> None:
        self._source = iter(batches)
        self._worker, self._restart = worker, restart
        self._step_tokens, self._step_requests = step_tokens, step_requests
        self._timeout = timeout
        self._numbers = numbers
        self._again: deque[Part] = deque()
        self._under_way: dict[int, Part] = {}
        self._deaths = 0

    def run(self) -> Iterator[tuple[Batch, list[Scores]]]:
        """Each batch once, as soon as all of it is scored, in any order. Raises `ScoringError` and `RequestRefused`."""
        while True:
            try:
                self._fill()
                if not self._under_way:
                    return
                done = self._take(self._worker().receive(self._timeout))
            except WorkerDied as died:
                self._recover(died)
                continue
            if done is not None:
                yield done.batch, [scores for scores in done.found if scores is not None]

    def _fill(self) -> None:
        while self._room():
            if self._again:
                part = self._again.popleft()
            else:
                batch = next(self._source, None)
                if batch is None:
                    return
                count = len(batch.requests)
                part = Part(Root(batch, [None] * count, count), range(count))
            number = next(self._numbers)
            self._under_way[number] = part
            self._worker().send(_message(number, part))

    def _room(self) -> bool:
        if (self._again and self._again[0].alone) or any(part.alone for part in self._under_way.values()):
            return not self._under_way
        if len(self._under_way) < 2:
            return True
        tokens = sum(part.tokens for part in self._under_way.values())
        requests = sum(len(part.positions) for part in self._under_way.values())
        return tokens < AHEAD_STEPS * self._step_tokens() and requests < 4 * self._step_requests

    def _take(self, message: tuple[Any, ...]) -> Root | None:
        """A message of the worker; the batch that it completes, if any."""
        if message[0] == "missing":
            part = self._under_way.get(message[1])
            if part is None:
                return None
            raise RequestRefused(message[3], part.root.batch.requests[part.positions[message[2]]])
        if message[0] != "scores" or message[1] not in self._under_way:
            return None  # a sign of life, or an answer that nobody waits for any more
        part = self._under_way.pop(message[1])
        self._deaths = 0
        root = part.root
        for position, scores in zip(part.positions, _scores(part, message[2], message[3]), strict=True):
            root.found[position] = scores
            root.left -= 1
        return root if not root.left else None

    def _recover(self, died: WorkerDied) -> None:
        """Start again, with what was under way one by one; what kills the worker alone is halved."""
        self._deaths += 1
        parts = list(self._under_way.values())
        self._under_way.clear()
        if self._deaths > MOST_DEATHS:
            raise ScoringError(f"{died} It was started again {MOST_DEATHS} times to no avail.")
        if len(parts) == 1 and parts[0].alone and not died.out_of_memory:
            part = parts[0]
            part.deaths += 1
            if len(part.positions) > 1:
                parts = part.halves()
            elif part.deaths > 1:
                raise RequestRefused(
                    f"vLLM's process dies on this request. {died}", part.root.batch.requests[part.positions.start]
                )
        for part in parts:
            part.alone = True
        self._again.extendleft(reversed(parts))
        self._restart(died)


def _message(number: int, part: Part) -> tuple[Any, ...]:
    requests = [part.root.batch.requests[i] for i in part.positions]
    tokens = np.concatenate([np.asarray(request.tokens, dtype=np.int32) for request in requests])
    lengths = np.array([len(request.tokens) for request in requests], dtype=np.int64)
    starts = np.array([request.start for request in requests], dtype=np.int64)
    return ("score", number, tokens, lengths, starts)


def _scores(part: Part, logprobs: Any, greedy: Any) -> Iterator[Scores]:
    """The worker's arrays as one `Scores` a request; sums in float64."""
    requests = [part.root.batch.requests[i] for i in part.positions]
    ends = np.cumsum([request.scored for request in requests])
    if len(logprobs) != ends[-1] or len(greedy) != len(requests):
        raise ScoringError("vLLM gave another number of log-probabilities than was asked for.")
    for request, end, flag in zip(requests, ends.tolist(), greedy.tolist(), strict=True):
        values = logprobs[end - request.scored : end]
        yield Scores(
            sum=float(values.sum(dtype=np.float64)),
            tokens=request.scored,
            is_greedy=bool(flag),
            logprobs=values if request.keep_tokens else None,
        )
