"""The process that runs vLLM: ``python -m evalkit.engines.vllm.worker FD``, connected to the engine by a pipe.

Messages are tuples of plain values and numpy arrays; the first item is the message's name.

to the worker
    ``("start", spec)``, ``("swap", folder, repack)``, ``("adapter", name, number, folder)``, ``("score", job, tokens, lengths, starts)``,
    ``("generate", job, requests, tokenizer, trust)``, ``("stop",)``
from the worker
    ``("ready", facts)``, ``("swapped",)``, ``("refused", kind, reason)``, ``("scores", job, logprobs, greedy)``,
    ``("generated", job, ids)``, ``("missing", job, position, reason)``, ``("alive", steps)``,
    ``("failed", kind, reason)``: the last message before the worker exits

The worker exits when the pipe is closed, and kills its children, so it never outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from array import array
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.endings import StopStrings
from evalkit.engines.vllm import paths
from evalkit.engines.vllm.reasons import reason
from evalkit.records import GenerationSettings

HEARTBEAT_SECONDS = 1.0


@dataclass(slots=True)
class ScoringJob:
    """Requests that were sent together, and their results so far."""

    number: int
    requests: list[tuple[array[int], int]]
    logprobs: list[Any]
    greedy: list[int]
    remaining: int
    rivals: list[int] = field(default_factory=list)


@dataclass(slots=True)
class GenerationJob:
    """Prompts that are being continued together."""

    stops: list[StopStrings]
    ids: list[list[int]]
    remaining: int


class Worker:
    """Steps vLLM's engine; takes jobs as they come and sends each back when it is done."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.engine: Any = None
        self.path: paths.ScoringPath = "prompt-logprobs"
        self.vocabulary = 0
        self.lora: Any = None
        self.jobs: dict[int, ScoringJob] = {}
        self.pending: dict[str, tuple[ScoringJob, paths.PromptRequest]] = {}
        self.generating: dict[str, tuple[int, int]] = {}
        """Job and position of each prompt that is being continued."""
        self.generation_jobs: dict[int, GenerationJob] = {}
        self.tokenizers: dict[tuple[str, bool], Tokenizer] = {}
        self.steps = self.request_count = 0
        self.last_heartbeat = 0.0

    def listen(self) -> None:
        """Drain the pipe, so that neither side blocks the other; when it is closed, kill the process group."""
        try:
            while True:
                self.inbox.put(self.pipe.recv())
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    def run(self) -> None:
        threading.Thread(target=self.listen, daemon=True).start()
        while True:
            busy = bool(self.pending or self.generating)
            try:
                message = self.inbox.get(block=not busy)
            except queue.Empty:
                self.step()
                continue
            if message[0] == "stop":
                return
            getattr(self, f"on_{message[0]}")(*message[1:])

    # Weights

    def on_start(self, spec: dict[str, Any]) -> None:
        from evalkit.engines.vllm import startup

        try:
            self.engine, facts = startup.start(spec)
            self.path = facts["path"]
        except startup.InvalidOption as error:
            self.pipe.send(("refused", "usage", str(error)))
            return
        except paths.MissingLogprobs as error:
            self.pipe.send(("refused", "usage", str(error)))
            return
        except Exception as error:
            traceback.print_exc()
            self.pipe.send(("refused", "memory" if _is_out_of_memory(error) else "model", reason(error)))
            return
        self.vocabulary = int(facts["vocabulary"])
        if spec["adapter"] is not None:
            self.on_adapter(*spec["adapter"])
        self.pipe.send(("ready", facts))

    def on_swap(self, folder: str, repack: bool) -> None:
        from evalkit.engines.vllm import startup

        try:
            startup.swap_weights(self.engine, folder, repack=repack)
        except Exception as error:
            traceback.print_exc()
            self.pipe.send(("refused", "swap", reason(error)))
            return
        self.pipe.send(("swapped",))

    def on_adapter(self, name: str, number: int, folder: str) -> None:
        """Use this adapter for all further requests."""
        from vllm.lora.request import LoRARequest

        self.lora = LoRARequest(name, number, folder)

    # Generation

    def on_generate(self, number: int, requests: list[tuple[Any, ...]], folder: str, trust: bool) -> None:
        """`requests`: prompt ids, the fields of `GenerationSettings`, end ids and seed of each; `folder`: the tokenizer's."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        if (folder, trust) not in self.tokenizers:
            self.tokenizers[folder, trust] = Tokenizer.load(folder, trust_remote_code=trust)
        stops: list[StopStrings] = []
        self.generation_jobs[number] = GenerationJob(stops, [[] for _ in requests], len(requests))
        known: dict[tuple[str, ...], StopStrings] = {}
        for position, (prompt, fields, end_ids, seed) in enumerate(requests):
            settings = GenerationSettings(**{**fields, "stop": tuple(fields["stop"])})
            if settings.stop not in known:
                known[settings.stop] = StopStrings(self.tokenizers[folder, trust], settings.stop)
            stops.append(known[settings.stop])
            params = SamplingParams(
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=seed,
                stop_token_ids=list(end_ids),
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA if settings.stop else RequestOutputKind.FINAL_ONLY,
            )
            self.request_count += 1
            name = f"g{self.request_count}"
            self.engine.add_request(name, tokens_input(prompt), params, lora_request=self.lora)
            self.generating[name] = (number, position)

    def collect_tokens(self, name: str, output: Any) -> None:
        """New tokens of a continuation."""
        number, position = self.generating[name]
        text = self.generation_jobs[number]
        ids = text.ids[position]
        done = output.finished
        for token in output.outputs[0].token_ids:
            ids.append(int(token))
            if text.stops[position].reached(ids):
                done = True
                break
        if not done:
            return
        if not output.finished:
            self.engine.abort_request([name])
        del self.generating[name]
        text.remaining -= 1
        if not text.remaining:
            del self.generation_jobs[number]
            self.pipe.send(("generated", number, text.ids))

    # Scoring

    def on_score(self, number: int, tokens: Any, lengths: Any, starts: Any) -> None:
        """`tokens` int32: the requests one after the other; `lengths` and `starts` have one entry each."""
        ends = np.cumsum(lengths)
        requests = [
            (array("i", tokens[end - length : end].tobytes()), int(start))
            for end, length, start in zip(ends.tolist(), lengths.tolist(), starts.tolist(), strict=True)
        ]
        job = ScoringJob(number, requests, [None] * len(requests), [0] * len(requests), len(requests))
        if self.path == "token-ids":
            job.rivals = paths.rival_tokens(requests)
        self.jobs[number] = job
        for prompt_request in paths.group_by_prompt(requests):
            prompt_request.rivals = job.rivals
            self.submit(job, prompt_request)

    def submit(self, job: ScoringJob, prompt_request: paths.PromptRequest) -> None:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input

        self.request_count += 1
        name = f"s{self.request_count}"
        self.engine.add_request(
            name,
            tokens_input(prompt_request.prompt),
            SamplingParams(**paths.sampling_arguments(prompt_request, self.path)),
            lora_request=self.lora,
        )
        self.pending[name] = (job, prompt_request)

    def step(self) -> None:
        """Run one step of the engine, and send what it completes."""
        for output in self.engine.step():
            name = output.request_id
            if name in self.generating:
                self.collect_tokens(name, output)
                continue
            if not output.finished:
                continue
            pending = self.pending.pop(name, None)
            if pending is None:
                continue  # its job failed
            job, prompt_request = pending
            try:
                self.collect_scores(job, prompt_request, output)
            except paths.MissingLogprobs as error:
                self.jobs.pop(job.number, None)
                self.pending = {key: value for key, value in self.pending.items() if value[0] is not job}
                self.pipe.send(("missing", job.number, prompt_request.members[0], str(error)))
        self.steps += 1
        now = time.monotonic()
        if now - self.last_heartbeat > HEARTBEAT_SECONDS:
            self.last_heartbeat = now
            self.pipe.send(("alive", self.steps))

    def collect_scores(self, job: ScoringJob, prompt_request: paths.PromptRequest, output: Any) -> None:
        """Read an output; repeat the request without the cache, or with ranks, if needed."""
        if paths.lost_to_cache(prompt_request, self.path, output):
            prompt_request.cached = False
            self.submit(job, prompt_request)
            return
        result = paths.read_output(prompt_request, self.path, output, self.vocabulary)
        undecided = []
        for position in prompt_request.members:
            tokens, start = job.requests[position]
            logprobs, greedy = paths.member_scores(prompt_request, result, tokens, start)
            if greedy < 0:
                undecided.append(position)
                continue
            job.logprobs[position], job.greedy[position] = logprobs, greedy
            job.remaining -= 1
        if undecided:
            self.submit(
                job,
                paths.PromptRequest(
                    prompt_request.prompt,
                    prompt_request.start,
                    prompt_request.last,
                    undecided,
                    cached=prompt_request.cached,
                    ranks=True,
                ),
            )
        if not job.remaining:
            self.jobs.pop(job.number, None)
            self.pipe.send(("scores", job.number, np.concatenate(job.logprobs), np.asarray(job.greedy, dtype=np.int8)))


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return "outofmemory" in type(error).__name__.lower() or "out of memory" in text or "can't allocate memory" in text


def main() -> None:
    """Serve the pipe whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(Connection(int(sys.argv[1])))
    try:
        worker.run()
        os._exit(0)  # vLLM's own shutdown takes seconds; the sender of "stop" kills what it started
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            worker.pipe.send(("failed", "memory" if _is_out_of_memory(error) else "error", reason(error)))
        os._exit(1)


if __name__ == "__main__":
    main()
