"""The process that holds vLLM: ``python -m evalkit.engines.vllm.worker FD``. Everything else talks to it over a pipe.

Messages are tuples of plain values and numpy arrays; the first item names them.

to the worker
    ``("start", spec)``, ``("swap", folder, mend)``, ``("adapter", name, number, folder)``, ``("score", job, tokens, lengths, starts)``,
    ``("generate", job, prompts, settings)``, ``("stop",)``
from the worker
    ``("ready", facts)``, ``("swapped",)``, ``("refused", kind, reason)``, ``("scores", job, logprobs, greedy)``,
    ``("generated", job, ids)``, ``("missing", job, position, reason)``, ``("alive", steps)``,
    ``("failed", kind, reason)``: the worker's last words

The worker ends when the pipe does, and takes its children along, so it never outlives the one who started it.
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
from evalkit.engines.endings import end_of_text, stops
from evalkit.engines.vllm import paths
from evalkit.engines.vllm.reasons import reason
from evalkit.records import GenerationSettings

ALIVE_SECONDS = 1.0


@dataclass(slots=True)
class Job:
    """Requests that were sent together, and what is known of them."""

    number: int
    requests: list[tuple[array[int], int]]
    logprobs: list[Any]
    greedy: list[int]
    left: int
    rivals: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Text:
    """Prompts that are being continued together."""

    settings: GenerationSettings
    tokenizer: Tokenizer
    ids: list[list[int]]
    left: int


class Worker:
    """vLLM's engine, stepped; jobs go in as they come and out as they are done."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.engine: Any = None
        self.path: paths.Path = "prompt-logprobs"
        self.vocabulary = 0
        self.lora: Any = None
        self.jobs: dict[int, Job] = {}
        self.waiting: dict[str, tuple[Job, paths.Ask]] = {}
        self.writing: dict[str, tuple[int, int]] = {}
        """Job and position of each prompt that is being continued."""
        self.written: dict[int, Text] = {}
        self.steps = self.count = 0
        self.said = 0.0

    def listen(self) -> None:
        """Take everything off the pipe, so that neither side ever waits for the other; at its end, end everything."""
        try:
            while True:
                self.inbox.put(self.pipe.recv())
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    def run(self) -> None:
        threading.Thread(target=self.listen, daemon=True).start()
        while True:
            busy = bool(self.waiting or self.writing)
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
        except startup.WrongOption as error:
            self.pipe.send(("refused", "usage", str(error)))
            return
        except paths.Missing as error:
            self.pipe.send(("refused", "usage", str(error)))
            return
        except Exception as error:
            traceback.print_exc()
            self.pipe.send(("refused", "memory" if _is_memory(error) else "model", reason(error)))
            return
        self.vocabulary = int(facts["vocabulary"])
        if spec["adapter"] is not None:
            self.on_adapter(*spec["adapter"])
        self.pipe.send(("ready", facts))

    def on_swap(self, folder: str, mend: bool) -> None:
        from evalkit.engines.vllm import startup

        try:
            startup.swap(self.engine, folder, mend=mend)
        except Exception as error:
            traceback.print_exc()
            self.pipe.send(("refused", "swap", reason(error)))
            return
        self.pipe.send(("swapped",))

    def on_adapter(self, name: str, number: int, folder: str) -> None:
        """From now on requests are answered by the base with this adapter."""
        from vllm.lora.request import LoRARequest

        self.lora = LoRARequest(name, number, folder)

    # Generation

    def on_generate(self, number: int, prompts: list[list[int]], wanted: dict[str, Any]) -> None:
        """`wanted`: the fields of `GenerationSettings`, and ``first`` (position of the first prompt, for the seeds), the
        ``tokenizer``'s folder and ``trust_remote_code``."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        first, folder, trust = wanted.pop("first"), wanted.pop("tokenizer"), wanted.pop("trust_remote_code")
        settings = GenerationSettings(**wanted)
        tokenizer = Tokenizer.load(folder, trust_remote_code=trust)
        self.written[number] = Text(settings, tokenizer, [[] for _ in prompts], len(prompts))
        for position, prompt in enumerate(prompts):
            params = SamplingParams(
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=settings.seed + first + position,
                stop_token_ids=[end_of_text(tokenizer)],
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA if settings.stop else RequestOutputKind.FINAL_ONLY,
            )
            self.count += 1
            name = f"g{self.count}"
            self.engine.add_request(name, tokens_input(prompt), params, lora_request=self.lora)
            self.writing[name] = (number, position)

    def on_text(self, name: str, output: Any) -> None:
        """New tokens of a continuation."""
        number, position = self.writing[name]
        text = self.written[number]
        ids = text.ids[position]
        done = output.finished
        for token in output.outputs[0].token_ids:
            ids.append(int(token))
            if stops(ids, text.tokenizer, text.settings):
                done = True
                break
        if not done:
            return
        if not output.finished:
            self.engine.abort_request([name])
        del self.writing[name]
        text.left -= 1
        if not text.left:
            del self.written[number]
            self.pipe.send(("generated", number, text.ids))

    # Scoring

    def on_score(self, number: int, tokens: Any, lengths: Any, starts: Any) -> None:
        """`tokens` int32: the requests one after the other; `lengths` and `starts` have one entry each."""
        ends = np.cumsum(lengths)
        requests = [
            (array("i", tokens[end - length : end].tobytes()), int(start))
            for end, length, start in zip(ends.tolist(), lengths.tolist(), starts.tolist(), strict=True)
        ]
        job = Job(number, requests, [None] * len(requests), [0] * len(requests), len(requests))
        if self.path == "token-ids":
            job.rivals = paths.rivals(requests)
        self.jobs[number] = job
        for ask in paths.asks(requests):
            ask.rivals = job.rivals
            self.add(job, ask)

    def add(self, job: Job, ask: paths.Ask) -> None:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input

        self.count += 1
        name = f"s{self.count}"
        self.engine.add_request(
            name,
            tokens_input(ask.prompt),
            SamplingParams(**paths.sampling(ask, self.path)),
            lora_request=self.lora,
        )
        self.waiting[name] = (job, ask)

    def step(self) -> None:
        """One step of the engine; what is done goes out."""
        for output in self.engine.step():
            name = output.request_id
            if name in self.writing:
                self.on_text(name, output)
                continue
            if not output.finished:
                continue
            found = self.waiting.pop(name, None)
            if found is None:
                continue  # its job was given up
            job, ask = found
            try:
                self.take(job, ask, output)
            except paths.Missing as error:
                self.jobs.pop(job.number, None)
                self.waiting = {key: value for key, value in self.waiting.items() if value[0] is not job}
                self.pipe.send(("missing", job.number, ask.members[0], str(error)))
        self.steps += 1
        now = time.monotonic()
        if now - self.said > ALIVE_SECONDS:
            self.said = now
            self.pipe.send(("alive", self.steps))

    def take(self, job: Job, ask: paths.Ask, output: Any) -> None:
        """Read an answer; ask again without the cache, or for ranks, where that is needed."""
        if paths.swallowed(ask, self.path, output):
            ask.cached = False
            self.add(job, ask)
            return
        answer = paths.read(ask, self.path, output, self.vocabulary)
        open_members = []
        for position in ask.members:
            tokens, start = job.requests[position]
            values, greedy = paths.member(ask, answer, tokens, start)
            if greedy < 0:
                open_members.append(position)
                continue
            job.logprobs[position], job.greedy[position] = values, greedy
            job.left -= 1
        if open_members:
            self.add(job, paths.Ask(ask.prompt, ask.start, ask.last, open_members, cached=ask.cached, ranks=True))
        if not job.left:
            self.jobs.pop(job.number, None)
            self.pipe.send(("scores", job.number, np.concatenate(job.logprobs), np.asarray(job.greedy, dtype=np.int8)))


def _is_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return "outofmemory" in type(error).__name__.lower() or "out of memory" in text or "can't allocate memory" in text


def main() -> None:
    """Serve the pipe whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(Connection(int(sys.argv[1])))
    try:
        worker.run()
        os._exit(0)  # vLLM's own farewell takes seconds; whoever sent the stop ends what it started
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            worker.pipe.send(("failed", "memory" if _is_memory(error) else "error", reason(error)))
        os._exit(1)


if __name__ == "__main__":
    main()
