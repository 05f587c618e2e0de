"""The engine `vllm`: a client of the worker process that holds vLLM. vLLM itself is never imported here."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from evalkit.encoding.encoding import max_length_of
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import EngineSettings
from evalkit.engines.endings import end_of_text, finish
from evalkit.engines.vllm import adapters, batches, probe
from evalkit.engines.vllm import settings as options
from evalkit.engines.vllm.process import START_SECONDS, WorkerDied, WorkerProcess, log_file
from evalkit.engines.vllm.stream import Stream
from evalkit.errors import CheckpointError, EvalkitError, OutOfMemory, RequestRefused, ScoringError, UsageError
from evalkit.records import Batch, Checkpoint, Generation, GenerationSettings, Request, Scores

LEAST_BATCHED_TOKENS = 256
GENERATION_JOB = 64
"""Prompts that are sent together; what is done of them survives the worker."""
GENERATION_DEATHS = 3
VOLATILE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "name_or_path"}
"""What two checkpoints of one architecture may have different in their ``config.json``."""


class VllmEngine:
    """See `evalkit.engines.base.Engine`. ``--engine-arg`` takes vLLM's own options by name, and evalkit's:
    `evalkit.engines.vllm.settings.OWN`."""

    name = "vllm"

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.chosen = options.check(settings or EngineSettings())
        self.notes: list[str] = []
        self.facts: dict[str, Any] = {}
        self.starts = 0
        """How often the worker was started."""
        self._batched_tokens: int | None = None
        self._swappable = self.chosen.own["reload"] != "never"
        self._worker: WorkerProcess | None = None
        self._checkpoint: Checkpoint | None = None
        self._probed: probe.Floats | None = None
        self._numbers = itertools.count()
        self._adapter_numbers = itertools.count(1)
        self._rank = 0
        """Largest rank of an adapter that the worker was started for."""
        self._merged: tempfile.TemporaryDirectory[str] | None = None
        self._log = log_file(self.chosen.own["log"])

    # Weights

    def load(self, checkpoint: Checkpoint) -> None:
        """Load weights: into the running vLLM where its architecture is the same, else into a new one; then probe them."""
        self.notes = []
        before, self._checkpoint = self._checkpoint, checkpoint
        if self._worker is not None and before is not None and self._swappable and _alike(before, checkpoint):
            if self._swap(checkpoint):
                return
            self.notes.append(
                f"vLLM's reload of {checkpoint.name} in place was wrong, which the probe found, so a new vLLM was started."
            )
            self._swappable = False
        if self._worker is not None and before is not None and self._next_adapter(before, checkpoint):
            return
        self._merged = None
        try:
            self._start()
            self._probe(checkpoint, before=None)
        except CheckpointError as error:
            if checkpoint.adapter is None:
                raise
            self._merged = adapters.merge(checkpoint, self.chosen.dtype)
            self.notes.append(f"The adapter was merged into its base, since vLLM did not take it as it is: {error}")
            self._start()
            self._probe(checkpoint, before=None)

    def _next_adapter(self, before: Checkpoint, checkpoint: Checkpoint) -> bool:
        """Another adapter of the same base, in the running worker; False where it needs a new one.

        A base is never scored beside its adapters: on CPU vLLM takes the last adapter for the base's requests.
        """
        assert self._worker is not None  # noqa: S101
        if checkpoint.adapter is None or before.adapter is None or self._merged is not None:
            return False
        if checkpoint.path != before.path or adapters.rank(checkpoint.adapter) > self._rank:
            return False
        try:
            self._worker.send(("adapter", *self._adapter(checkpoint)))
        except WorkerDied:
            return False
        return self._probe(checkpoint, before=self._probed, last=False)

    def _adapter(self, checkpoint: Checkpoint) -> tuple[str, int, str]:
        """An adapter's name and number in vLLM, each used once, and its folder."""
        number = next(self._adapter_numbers)
        return f"adapter-{number}", number, str(checkpoint.adapter)

    def _start(self) -> None:
        """A new worker with the current checkpoint."""
        checkpoint = self._loaded()
        self._end()
        length = max_length_of(dict(checkpoint.config), None, self.chosen.max_length)
        chosen: dict[str, Any] = {
            **options.vllm_options(self.chosen, checkpoint.config, length, checkpoint.parameters, self._batched_tokens),
            "model": str(checkpoint.path) if self._merged is None else self._merged.name,
            "tokenizer": str(checkpoint.tokenizer_path),
            "trust_remote_code": checkpoint.trust_remote_code,
        }
        spec: dict[str, Any] = {"options": chosen, "scoring": self.chosen.own["scoring"], "adapter": None}
        if checkpoint.adapter is not None and self._merged is None:
            self._rank = max(self._rank, adapters.rank(checkpoint.adapter))
            chosen |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": self._rank}
            spec["adapter"] = self._adapter(checkpoint)
        self.starts += 1
        self._worker = WorkerProcess(options.environment(self.chosen), self._log)
        try:
            self._worker.send(("start", spec))
            answer = self._worker.receive(START_SECONDS)
        except WorkerDied as died:
            self._end()
            raise CheckpointError(f"vLLM did not start with {checkpoint.name}: {died}") from None
        except BaseException:
            self._end()
            raise
        if answer[0] == "ready":
            self.facts = dict(answer[1])
            return
        _, kind, reason = answer
        self._end()
        if kind == "usage":
            raise UsageError(reason)
        if kind == "memory":
            raise EvalkitError(
                f"vLLM has not enough memory for {checkpoint.name}: {reason} Lower --max-length, or use --engine-arg "
                f"gpu_memory_utilization=, or tensor_parallel_size=. (log: {self._log})"
            )
        raise CheckpointError(f"vLLM refuses {checkpoint.name}: {reason} (log: {self._log})")

    def _swap(self, checkpoint: Checkpoint) -> bool:
        """New weights into the running worker; False where it does not work or the probe disagrees."""
        assert self._worker is not None  # noqa: S101
        try:
            self._worker.send(("swap", str(checkpoint.path), self.chosen.own["reload"] == "auto"))
            while (answer := self._worker.receive(START_SECONDS))[0] not in ("swapped", "refused"):
                pass
        except WorkerDied:
            return False
        if answer[0] == "refused":
            return False
        return self._probe(checkpoint, before=self._probed, last=False)

    def _probe(self, checkpoint: Checkpoint, *, before: probe.Floats | None, last: bool = True) -> bool:
        """Compare what vLLM loaded with the checkpoint's own forward. Raises `CheckpointError` where it is `last`."""
        dtype = str(self.facts["dtype"])
        if self.chosen.own["probe"] == "off":
            self.notes.append("What vLLM loaded was not compared with the checkpoint's own forward (probe=off).")
            return last
        if not probe.fits(checkpoint, dtype):
            self.notes.append(
                f"What vLLM loaded of {checkpoint.name} was not compared with the checkpoint's own forward: a second copy of "
                "its weights does not fit into memory."
            )
            return last
        request = probe.request(int(checkpoint.config.get("vocab_size") or self.facts["vocabulary"]), self._positions())
        wanted = probe.reference(checkpoint, dtype, request)
        try:
            ((_, (scores,)),) = self._stream(batches.plan([request], LEAST_BATCHED_TOKENS), restart=_pass_on)
        except (WorkerDied, ScoringError) as error:
            if not last:
                return False
            self._end()
            raise CheckpointError(f"vLLM cannot run {checkpoint.name}: {error}") from None
        found = scores.logprobs
        assert found is not None  # noqa: S101
        verdict = probe.compare(found, wanted, dtype, before)
        if verdict.agrees:
            self._probed = found
            return True
        if last and self.facts["quantisation"] != "none":
            self.notes.append(
                f"vLLM's quantised weights ({self.facts['quantisation']}) are up to {verdict.largest:.2g} nats a token away "
                f"from {checkpoint.name}'s own forward."
            )
            return True
        if last:
            self._end()
            raise CheckpointError(
                f"vLLM's log-probabilities of {checkpoint.name} are up to {verdict.largest:.3g} nats away from the "
                "checkpoint's own forward, so they are not used. Use --engine transformers."
            )
        return False

    def _positions(self) -> int:
        return int(self.facts["max_model_len"]) - 1

    def _loaded(self) -> Checkpoint:
        if self._checkpoint is None:
            raise ScoringError("No checkpoint is loaded.")
        return self._checkpoint

    def _running(self) -> WorkerProcess:
        self._loaded()
        if self._worker is None:
            self._start()
        assert self._worker is not None  # noqa: S101
        return self._worker

    def identity(self) -> dict[str, str]:
        checkpoint = self._loaded()
        self._running()
        facts = self.facts
        return {
            "engine": self.name,
            "version": f"1 (vllm {facts['version']}, torch {importlib.metadata.version('torch')})",
            "fingerprint": checkpoint.fingerprint,
            "dtype": str(facts["dtype"]),
            "attention": str(facts["attention"]),
            "device": str(facts["device"]),
            "quantisation": str(facts["quantisation"]),
            "path": f"{facts['path']}, last token by id ({facts['runner']} runner)",
            "parallel": str(facts["parallel"]),
            "options": options.identity_options(self.chosen),
            "adapter": "none" if checkpoint.adapter is None else "beside" if self._merged is None else "merged",
        }

    # Scoring

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        return batches.plan(requests, self.chosen.batch_tokens)

    def split(self, batch: Batch) -> tuple[Batch, Batch] | None:
        return batches.split(batch)

    def score(self, batch: Batch) -> list[Scores]:
        ((_, scores),) = self.score_stream([batch])
        return scores

    def score_stream(self, waiting: Iterable[Batch]) -> Iterator[tuple[Batch, list[Scores]]]:
        """Many batches at once: each comes back when it is done, in any order; see `evalkit.engines.vllm.stream`."""
        yield from self._stream(waiting, restart=self._again)

    def _stream(
        self, waiting: Iterable[Batch], restart: Callable[[WorkerDied], None]
    ) -> Iterator[tuple[Batch, list[Scores]]]:
        self._running()
        yield from Stream(
            (self._checked(batch) for batch in waiting),
            self._running,
            restart,
            step_tokens=lambda: int(self.facts["max_num_batched_tokens"]),
            step_requests=int(self.facts["max_num_seqs"]),
            timeout=self.chosen.timeout,
            numbers=self._numbers,
        ).run()

    def _checked(self, batch: Batch) -> Batch:
        """Refuse what the loaded model cannot be asked; vLLM's own words would name no document."""
        vocabulary, positions = int(self.facts["vocabulary"]), self._positions()
        for request in batch.requests:
            if len(request.tokens) - 1 > positions:
                raise RequestRefused(
                    f"A request of {len(request.tokens) - 1} positions is longer than the {positions} that vLLM was "
                    "started with. Use --max-length.",
                    request,
                )
            if max(request.tokens) >= vocabulary:
                raise RequestRefused(
                    f"The tokenizer gives id {max(request.tokens)} but the model has {vocabulary} embeddings: the "
                    "tokenizer belongs to another model. Name the right one with --tokenizer.",
                    request,
                )
        return batch

    def _again(self, died: WorkerDied) -> None:
        """After the worker died: start it again, with smaller steps where memory was the reason."""
        if died.out_of_memory:
            budget = int(self.facts["max_num_batched_tokens"]) // 2
            if budget < LEAST_BATCHED_TOKENS:
                raise OutOfMemory(f"vLLM runs out of memory even with steps of {2 * budget} tokens. {died}")
            self._batched_tokens = budget
            self.notes.append(f"vLLM ran out of memory; it was started again with steps of {budget} tokens.")
        else:
            self.notes.append(f"vLLM was started again in mid-run, and nothing scored was lost. {died}")
        self._start()

    # Generation

    def generate(self, prompts: Sequence[Sequence[int]], settings: GenerationSettings) -> list[Generation]:
        """Continuations in order. Each prompt has a seed of its own, so a sample does not depend on its neighbours."""
        checkpoint = self._loaded()
        self._running()
        positions = self._positions() + 1
        for prompt in prompts:
            if len(prompt) >= positions:
                raise ScoringError(
                    f"A prompt of {len(prompt)} tokens leaves no room to continue it: vLLM was started with {positions - 1} "
                    "positions. Use --max-length."
                )
        tokenizer = Tokenizer.load(checkpoint.tokenizer_path, trust_remote_code=checkpoint.trust_remote_code)
        wanted = {
            **dataclasses.asdict(settings),
            "tokenizer": str(checkpoint.tokenizer_path),
            "trust_remote_code": checkpoint.trust_remote_code,
        }
        made: dict[int, list[int]] = {}
        chunks = range(0, len(prompts), GENERATION_JOB)
        for deaths in itertools.count():
            try:
                self._generate([first for first in chunks if first not in made], prompts, wanted, made)
                break
            except WorkerDied as died:
                if deaths == GENERATION_DEATHS:
                    raise ScoringError(str(died)) from None
                self._again(died)
        eos = end_of_text(tokenizer)
        return [finish(made[i], tokenizer, eos, settings) for i in range(len(prompts))]

    def _generate(
        self, chunks: list[int], prompts: Sequence[Sequence[int]], wanted: dict[str, Any], made: dict[int, list[int]]
    ) -> None:
        """Fill `made` with the ids of all prompts of some chunks. Raises `WorkerDied`; what is made stays."""
        worker = self._running()
        under_way: dict[int, int] = {}
        for first in chunks:
            number = next(self._numbers)
            under_way[number] = first
            part = [list(map(int, prompt)) for prompt in prompts[first : first + GENERATION_JOB]]
            worker.send(("generate", number, part, {**wanted, "first": first}))
        while under_way:
            message = worker.receive(self.chosen.timeout)
            if message[0] == "generated" and message[1] in under_way:
                first = under_way.pop(message[1])
                made.update(enumerate(message[2], first))

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def close(self) -> None:
        self._end()
        self._checkpoint = self._probed = self._merged = None


def _pass_on(died: WorkerDied) -> None:
    """No second try."""
    raise died


def _alike(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints are one architecture, so that weights alone differ."""

    def shape(config: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in config.items() if key not in VOLATILE}

    return (
        shape(one.config) == shape(other.config)
        and bool(one.config)
        and one.adapter is None
        and other.adapter is None
        and one.trust_remote_code == other.trust_remote_code
    )
