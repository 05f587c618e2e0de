"""A worker that dies, hangs or is left alone; batches that come back all the same. vLLM itself is not started here."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.engines.base import EngineSettings
from evalkit.engines.vllm import batches
from evalkit.engines.vllm.engine import VllmEngine
from evalkit.engines.vllm.process import WorkerDied, WorkerProcess
from evalkit.engines.vllm.settings import vllm_options
from evalkit.engines.vllm.stream import MAX_DEATHS, SCORING, BatchStream
from evalkit.errors import OutOfMemory, RequestRefused, ScoringError
from evalkit.records import Batch, Request
from tests.made.request_sets import distinct, mixed_requests


class Pretended:
    """A worker that answers with the sum of token ids, and dies when `deadly` says so of a job's requests."""

    def __init__(self, deadly: Callable[[list[list[int]]], bool], memory: bool = False) -> None:
        self.deadly, self.memory = deadly, memory
        self.jobs: deque[tuple[int, list[list[int]], list[int]]] = deque()
        self.most = 0
        self.starts = 1

    def send(self, message: tuple[Any, ...]) -> None:
        _, number, tokens, lengths, starts = message
        ends = np.cumsum(lengths)
        rows = [tokens[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]
        self.jobs.append((number, rows, starts.tolist()))
        self.most = max(self.most, len(self.jobs))

    def receive(self, timeout: float) -> tuple[Any, ...]:
        number, rows, starts = self.jobs.popleft()
        if self.deadly(rows):
            self.jobs.clear()
            raise WorkerDied("It is dead.", out_of_memory=self.memory)
        values = [-float(token) for row, start in zip(rows, starts, strict=True) for token in row[start:]]
        return ("scores", number, np.asarray(values, dtype=np.float32), np.zeros(len(rows), dtype=np.int8))

    def restart(self, died: WorkerDied) -> None:
        self.starts += 1


def stream(made: list[Batch], worker: Pretended) -> list[Batch]:
    """Everything through the stream; each batch's scores are checked against the token ids."""
    done = []
    passed = BatchStream(
        SCORING,
        made,
        lambda: worker,  # type: ignore[arg-type, return-value]
        worker.restart,
        step_tokens=lambda: 64,
        step_requests=8,
        timeout=1.0,
        job_numbers=itertools.count(),
    )
    for batch, scores in passed.run():
        done.append(batch)
        for request, one in zip(batch.requests, scores, strict=True):
            assert one.sum == -float(sum(request.tokens[request.start :]))
    return done


def requests() -> list[Request]:
    return distinct(mixed_requests(6))


def test_every_batch_comes_back_once_and_several_are_under_way() -> None:
    """Without any trouble: all batches, each once, and the worker always has more than one."""
    worker = Pretended(lambda rows: False)
    made = batches.plan(requests(), 100)
    assert sorted(batch.key for batch in stream(made, worker)) == sorted(batch.key for batch in made)
    assert worker.most > 1


def test_a_death_loses_nothing() -> None:
    """The worker dies at its third job, once: all batches come back all the same, after one new start."""
    count = itertools.count()
    worker = Pretended(lambda rows: next(count) == 2)
    made = batches.plan(requests(), 100)
    assert sorted(batch.key for batch in stream(made, worker)) == sorted(batch.key for batch in made)
    assert worker.starts == 2


def test_the_request_that_kills_is_found() -> None:
    """One request that always kills the worker is named, and every batch without it is committed before."""
    poison = requests()[17]
    worker = Pretended(lambda rows: list(poison.tokens) in rows)
    made = batches.plan(requests(), 100)
    with pytest.raises(RequestRefused) as error:
        stream(made, worker)
    assert error.value.request.key == poison.key
    assert worker.starts < 2 + MAX_DEATHS


def test_a_worker_that_never_works_ends_the_run() -> None:
    """No endless row of new starts."""
    worker = Pretended(lambda rows: True, memory=True)
    with pytest.raises(ScoringError, match="without success"):
        stream(batches.plan(requests(), 100), worker)
    assert worker.starts == 1 + MAX_DEATHS


def quiet(tmp_path: Path) -> WorkerProcess:
    """A real worker process, which waits for its first message and has not imported vLLM."""
    return WorkerProcess(dict(os.environ), tmp_path / "vllm.log")


def gone(pid: int) -> bool:
    """Whether a process ended within ten seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_a_worker_that_says_nothing_is_ended(tmp_path: Path) -> None:
    """A hang ends in a sentence that names the log, and the process is gone."""
    worker = quiet(tmp_path)
    with pytest.raises(WorkerDied, match=r"did not respond for 0 seconds.*vllm\.log"):
        worker.receive(0.3)
    assert gone(worker.pid)
    worker.close()


def test_a_killed_worker_is_noticed(tmp_path: Path) -> None:
    """A signal from outside is told as such."""
    worker = quiet(tmp_path)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="signal 9"):
        worker.receive(10)


def test_a_worker_dies_with_its_parent(tmp_path: Path) -> None:
    """When evalkit is killed outright its worker does not stay behind."""
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom evalkit.engines.vllm.process import WorkerProcess\n"
        "worker = WorkerProcess(dict(os.environ), Path(sys.argv[1]))\n"
        "print(worker.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(2)  # the worker listens by now
        parent.kill()
    assert gone(pid)


@pytest.mark.usefixtures("_vllm")
def test_smaller_steps_after_running_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are halved at each new start, against the person's own number too, down to a floor that ends the run."""
    engine = VllmEngine(EngineSettings(device="cpu", args={"max_num_batched_tokens": "1024"}))
    found = []

    def start() -> None:
        made = vllm_options(engine.vllm_settings, {}, 256, batched_tokens=engine._batched_tokens)
        found.append(made["max_num_batched_tokens"])
        engine.facts["max_num_batched_tokens"] = found[-1]

    monkeypatch.setattr(engine, "_start", start)
    start()
    engine.facts["max_num_batched_tokens"] = int(found[0])
    died = WorkerDied("CUDA out of memory.", out_of_memory=True)
    engine._restart(died)
    engine._restart(died)
    with pytest.raises(OutOfMemory, match="steps of 256 tokens"):
        engine._restart(died)
    assert found == ["1024", 512, 256]
    assert len(engine.notes) == 2
