"""Streaming batches through a worker that may die: batches in flight are sent again, and nothing else is lost.

`Work` says what is sent for a batch and what its answer means; `SCORING` here, generation in `evalkit.engines.vllm.texts`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.engines.vllm.process import WorkerDied, WorkerProcess
from evalkit.errors import RequestRefused, ScoringError
from evalkit.records import Request, Scores

MAX_DEATHS = 10
"""The run fails after this many deaths of the worker in a row without a finished job in between."""
STEPS_AHEAD = 16
"""The worker is kept supplied with the tokens of about this many steps, so that it never waits."""


@dataclass(slots=True)
class PendingBatch:
    """A batch being worked on; `results` has one entry per request."""

    batch: Any
    results: list[Any]
    remaining: int


@dataclass(slots=True)
class BatchPart:
    """What is sent as one job: a whole batch, or part of a batch that the worker died on."""

    pending: PendingBatch
    positions: range
    isolated: bool = False
    """Whether it is scored with no other job in flight, because it was in flight when the worker died."""
    deaths: int = 0

    @property
    def requests(self) -> list[Any]:
        return [self.pending.batch.requests[i] for i in self.positions]

    def halves(self) -> list[BatchPart]:
        middle = (self.positions.start + self.positions.stop) // 2
        low, high = range(self.positions.start, middle), range(middle, self.positions.stop)
        return [BatchPart(self.pending, low, isolated=True), BatchPart(self.pending, high, isolated=True)]


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of job."""

    answer: str
    """The name of the message that finishes one."""
    message: Callable[[int, list[Any]], tuple[Any, ...]]
    """What is sent: the job's number, and its requests."""
    results: Callable[..., Iterator[Any]]
    """One result a request, from the requests and what the answer holds."""
    tokens: Callable[[Any], int]
    """What a request adds to the worker's next steps."""


class BatchStream:
    """One pass over batches. `worker` returns the running process; `restart` starts a new one after it died."""

    def __init__(
        self,
        work: Work,
        batches: Iterable[Any],
        worker: Callable[[], WorkerProcess],
        restart: Callable[[WorkerDied], None],
        *,
        step_tokens: Callable[[], int],
        step_requests: int,
        timeout: float,
        job_numbers: Iterator[int],
    ) -> None:
        self._work, self._source = work, iter(batches)
        self._worker, self._restart = worker, restart
        self._step_tokens, self._step_requests = step_tokens, step_requests
        self._timeout = timeout
        self._job_numbers = job_numbers
        self._retries: deque[BatchPart] = deque()
        self._in_flight: dict[int, BatchPart] = {}
        self._deaths = 0

    def run(self) -> Iterator[tuple[Any, list[Any]]]:
        """Yield each batch once, in any order, when it is finished. Raises `ScoringError` and `RequestRefused`."""
        while True:
            try:
                self._fill()
                if not self._in_flight:
                    return
                done = self._handle(self._worker().receive(self._timeout))
            except WorkerDied as died:
                self._recover(died)
                continue
            if done is not None:
                yield done.batch, done.results

    def _fill(self) -> None:
        while self._has_capacity():
            if self._retries:
                part = self._retries.popleft()
            else:
                batch = next(self._source, None)
                if batch is None:
                    return
                count = len(batch.requests)
                part = BatchPart(PendingBatch(batch, [None] * count, count), range(count))
            number = next(self._job_numbers)
            self._in_flight[number] = part
            self._worker().send(self._work.message(number, part.requests))

    def _has_capacity(self) -> bool:
        if (self._retries and self._retries[0].isolated) or any(part.isolated for part in self._in_flight.values()):
            return not self._in_flight
        if len(self._in_flight) < 2:
            return True
        tokens = sum(self._work.tokens(request) for part in self._in_flight.values() for request in part.requests)
        requests = sum(len(part.positions) for part in self._in_flight.values())
        return tokens < STEPS_AHEAD * self._step_tokens() and requests < 4 * self._step_requests

    def _handle(self, message: tuple[Any, ...]) -> PendingBatch | None:
        """Handle a message of the worker; return the batch that it completes, if any."""
        if message[0] == "missing":
            part = self._in_flight.get(message[1])
            if part is None:
                return None
            raise RequestRefused(message[3], part.pending.batch.requests[part.positions[message[2]]])
        if message[0] != self._work.answer or message[1] not in self._in_flight:
            return None  # a heartbeat, or an answer to a job that was given up
        part = self._in_flight.pop(message[1])
        self._deaths = 0
        pending = part.pending
        for position, result in zip(part.positions, self._work.results(part.requests, *message[2:]), strict=True):
            pending.results[position] = result
            pending.remaining -= 1
        return pending if not pending.remaining else None

    def _recover(self, died: WorkerDied) -> None:
        """Restart the worker and send the jobs in flight again, one at a time; one that kills it alone is halved."""
        self._deaths += 1
        parts = list(self._in_flight.values())
        self._in_flight.clear()
        if self._deaths > MAX_DEATHS:
            raise ScoringError(f"{died} It was started again {MAX_DEATHS} times without success.")
        if len(parts) == 1 and parts[0].isolated and not died.out_of_memory:
            part = parts[0]
            part.deaths += 1
            if len(part.positions) > 1:
                parts = part.halves()
            elif part.deaths > 1:
                raise RequestRefused(
                    f"vLLM's process crashes on this request. {died}", part.pending.batch.requests[part.positions.start]
                )
        for part in parts:
            part.isolated = True
        self._retries.extendleft(reversed(parts))
        self._restart(died)


def _message(number: int, requests: list[Request]) -> tuple[Any, ...]:
    tokens = np.concatenate([np.asarray(request.tokens, dtype=np.int32) for request in requests])
    lengths = np.array([len(request.tokens) for request in requests], dtype=np.int64)
    starts = np.array([request.start for request in requests], dtype=np.int64)
    return ("score", number, tokens, lengths, starts)


def _scores(requests: list[Request], logprobs: Any, greedy: Any) -> Iterator[Scores]:
    """The worker's arrays as one `Scores` per request; sums in float64."""
    ends = np.cumsum([request.scored for request in requests])
    if len(logprobs) != ends[-1] or len(greedy) != len(requests):
        raise ScoringError("vLLM returned a different number of log-probabilities than was asked for.")
    for request, end, flag in zip(requests, ends.tolist(), greedy.tolist(), strict=True):
        values = logprobs[end - request.scored : end]
        yield Scores(
            sum=float(values.sum(dtype=np.float64)),
            tokens=request.scored,
            is_greedy=bool(flag),
            logprobs=values if request.keep_tokens else None,
        )


SCORING = Work("scores", _message, _scores, lambda request: len(request.tokens) - 1)
