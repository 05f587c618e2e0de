"""The engine `vllm`: a client of the worker process that runs vLLM, which is never imported here."""

from __future__ import annotations

import importlib.metadata
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from evalkit.encoding.encoding import max_length_of
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines import generation_batches
from evalkit.engines.base import EngineSettings
from evalkit.engines.positions import LENGTH_DEPENDENT, LENGTH_INDEPENDENT, rope_types
from evalkit.engines.vllm import adapters, batches, probe
from evalkit.engines.vllm import settings as options
from evalkit.engines.vllm.process import START_SECONDS, WorkerDied, WorkerProcess, log_file
from evalkit.engines.vllm.stream import SCORING, BatchStream, Work
from evalkit.engines.vllm.texts import generation_work
from evalkit.errors import CheckpointError, EvalkitError, OutOfMemory, RequestRefused, ScoringError, UsageError
from evalkit.records import Batch, Checkpoint, Generation, GenerationBatch, GenerationRequest, Request, Scores

MIN_BATCHED_TOKENS = 256
GENERATION_ROWS, GENERATION_TOKENS = 32, 2**20
"""Most prompts and tokens of a batch: vLLM works on many batches at once, and what is finished survives a crash."""
IGNORED_CONFIG_KEYS = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "name_or_path"}
"""Keys of ``config.json`` in which two checkpoints of one architecture may differ."""


class VllmEngine:
    """See `evalkit.engines.base.Engine`. ``--engine-arg`` takes vLLM's options by name, and those of evalkit in
    `evalkit.engines.vllm.settings.EVALKIT_ARGS`."""

    name = "vllm"
    layout = ""

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.vllm_settings = options.parse_settings(settings or EngineSettings())
        self.notes: list[str] = []
        self.facts: dict[str, Any] = {}
        self.starts = 0
        """How often the worker was started."""
        self._batched_tokens: int | None = None
        self._swappable = self.vllm_settings.evalkit_args["reload"] != "never"
        self._worker: WorkerProcess | None = None
        self._checkpoint: Checkpoint | None = None
        self._tokenizer: Tokenizer | None = None
        self._probe_logprobs: probe.Floats | None = None
        self._job_numbers = itertools.count()
        self._adapter_numbers = itertools.count(1)
        self._lora_rank = 0
        """The largest adapter rank that the worker was started for."""
        self._merged_folder: tempfile.TemporaryDirectory[str] | None = None
        self._log = log_file(self.vllm_settings.evalkit_args["log"])

    # Weights

    def load(self, checkpoint: Checkpoint) -> None:
        """Load weights, into the running vLLM if the architecture is the same, else into a new one; then probe them."""
        self.notes = rotary_notes(checkpoint)
        previous, self._checkpoint, self._tokenizer = self._checkpoint, checkpoint, None
        if (
            self._worker is not None
            and previous is not None
            and self._swappable
            and _same_architecture(previous, checkpoint)
        ):
            if self._swap(checkpoint):
                return
            self.notes.append(
                f"The probe found that vLLM did not reload {checkpoint.name} correctly in place, so a new vLLM was "
                "started."
            )
            self._swappable = False
        if self._worker is not None and previous is not None and self._switch_adapter(previous, checkpoint):
            return
        self._merged_folder = None
        try:
            self._start()
            self._probe(checkpoint, previous=None)
        except CheckpointError as error:
            if checkpoint.adapter is None:
                raise
            self._merged_folder = adapters.merge_adapter(checkpoint, self.vllm_settings.dtype)
            self.notes.append(f"The adapter was merged into its base, because vLLM did not accept it as is: {error}")
            self._start()
            self._probe(checkpoint, previous=None)

    def _switch_adapter(self, previous: Checkpoint, checkpoint: Checkpoint) -> bool:
        """Switch the running worker to another adapter of the same base; False if a new worker is needed.

        A base is never scored by a worker that has adapters: on CPU vLLM applies the last adapter to its requests.
        """
        assert self._worker is not None  # noqa: S101
        if checkpoint.adapter is None or previous.adapter is None or self._merged_folder is not None:
            return False
        if checkpoint.path != previous.path or adapters.lora_rank(checkpoint.adapter) > self._lora_rank:
            return False
        try:
            self._worker.send(("adapter", *self._new_adapter(checkpoint)))
        except WorkerDied:
            return False
        return self._probe(checkpoint, previous=self._probe_logprobs, last=False)

    def _new_adapter(self, checkpoint: Checkpoint) -> tuple[str, int, str]:
        """A fresh name and number for an adapter in vLLM, and its folder."""
        number = next(self._adapter_numbers)
        return f"adapter-{number}", number, str(checkpoint.adapter)

    def _start(self) -> None:
        """Start a new worker with the current checkpoint."""
        checkpoint = self._loaded_checkpoint()
        self._stop_worker()
        length = max_length_of(dict(checkpoint.config), None, self.vllm_settings.max_length)
        engine_args: dict[str, Any] = {
            **options.vllm_options(
                self.vllm_settings, checkpoint.config, length, checkpoint.parameters, self._batched_tokens
            ),
            "model": str(checkpoint.path) if self._merged_folder is None else self._merged_folder.name,
            "tokenizer": str(checkpoint.tokenizer_path),
            "trust_remote_code": checkpoint.trust_remote_code,
        }
        spec: dict[str, Any] = {
            "options": engine_args,
            "scoring": self.vllm_settings.evalkit_args["scoring"],
            "adapter": None,
        }
        if checkpoint.adapter is not None and self._merged_folder is None:
            self._lora_rank = max(self._lora_rank, adapters.lora_rank(checkpoint.adapter))
            engine_args |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": self._lora_rank}
            spec["adapter"] = self._new_adapter(checkpoint)
        self.starts += 1
        self._worker = WorkerProcess(options.worker_environment(self.vllm_settings), self._log)
        try:
            self._worker.send(("start", spec))
            answer = self._worker.receive(START_SECONDS)
        except WorkerDied as died:
            self._stop_worker()
            raise CheckpointError(f"vLLM did not start with {checkpoint.name}: {died}") from None
        except BaseException:
            self._stop_worker()
            raise
        if answer[0] == "ready":
            self.facts = dict(answer[1])
            return
        _, kind, reason = answer
        self._stop_worker()
        if kind == "usage":
            raise UsageError(reason)
        if kind == "memory":
            raise EvalkitError(
                f"vLLM does not have enough memory for {checkpoint.name}: {reason} Lower --max-length, or use --engine-arg "
                f"gpu_memory_utilization=, or tensor_parallel_size=. (log: {self._log})"
            )
        raise CheckpointError(f"vLLM refuses {checkpoint.name}: {reason} (log: {self._log})")

    def _swap(self, checkpoint: Checkpoint) -> bool:
        """Load new weights into the running worker; False if that fails or the probe disagrees."""
        assert self._worker is not None  # noqa: S101
        try:
            self._worker.send(("swap", str(checkpoint.path), self.vllm_settings.evalkit_args["reload"] == "auto"))
            while (answer := self._worker.receive(START_SECONDS))[0] not in ("swapped", "refused"):
                pass
        except WorkerDied:
            return False
        if answer[0] == "refused":
            return False
        return self._probe(checkpoint, previous=self._probe_logprobs, last=False)

    def _probe(self, checkpoint: Checkpoint, *, previous: probe.Floats | None, last: bool = True) -> bool:
        """Compare vLLM's log-probabilities with the checkpoint's own forward pass.

        Returns whether they agree. With `last` (no other way to load the checkpoint is left) a disagreement raises
        `CheckpointError`, and a skipped comparison counts as agreement.
        """
        dtype = str(self.facts["dtype"])
        if self.vllm_settings.evalkit_args["probe"] == "off":
            self.notes.append(
                "vLLM's log-probabilities were not checked against the checkpoint's own forward pass (probe=off)."
            )
            return last
        if not probe.fits_in_memory(checkpoint, dtype):
            self.notes.append(
                f"vLLM's log-probabilities of {checkpoint.name} were not checked against the checkpoint's own forward "
                "pass: a second copy of its weights does not fit into memory."
            )
            return last
        request = probe.probe_request(
            int(checkpoint.config.get("vocab_size") or self.facts["vocabulary"]), self._positions()
        )
        reference = probe.reference_logprobs(checkpoint, dtype, request)
        try:
            ((_, (scores,)),) = self._stream(SCORING, batches.plan([request], MIN_BATCHED_TOKENS), _reraise)
        except (WorkerDied, ScoringError) as error:
            if not last:
                return False
            self._stop_worker()
            raise CheckpointError(f"vLLM cannot run {checkpoint.name}: {error}") from None
        logprobs = scores.logprobs
        assert logprobs is not None  # noqa: S101
        result = probe.compare_logprobs(logprobs, reference, dtype, previous)
        if result.agrees:
            self._probe_logprobs = logprobs
            return True
        if last and self.facts["quantisation"] != "none":
            self.notes.append(
                f"vLLM's quantised weights ({self.facts['quantisation']}) differ by up to {result.largest:.2g} nats "
                f"per token from {checkpoint.name}'s own forward pass."
            )
            return True
        if last:
            self._stop_worker()
            raise CheckpointError(
                f"vLLM's log-probabilities of {checkpoint.name} differ by up to {result.largest:.3g} nats from the "
                "checkpoint's own forward pass, so they are not used. Use --engine transformers."
            )
        return False

    def _positions(self) -> int:
        return int(self.facts["max_model_len"]) - 1

    def _loaded_checkpoint(self) -> Checkpoint:
        if self._checkpoint is None:
            raise ScoringError("No checkpoint is loaded.")
        return self._checkpoint

    def _running_worker(self) -> WorkerProcess:
        self._loaded_checkpoint()
        if self._worker is None:
            self._start()
        assert self._worker is not None  # noqa: S101
        return self._worker

    def identity(self) -> dict[str, str]:
        checkpoint = self._loaded_checkpoint()
        self._running_worker()
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
            "options": options.identity_options(self.vllm_settings),
            "adapter": "none" if checkpoint.adapter is None else "beside" if self._merged_folder is None else "merged",
        }

    # Scoring

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        return batches.plan(requests, self.vllm_settings.batch_tokens)

    def split(self, batch: Batch) -> tuple[Batch, Batch] | None:
        return batches.split(batch)

    def score(self, batch: Batch) -> list[Scores]:
        ((_, scores),) = self.score_stream([batch])
        return scores

    def score_stream(self, pending: Iterable[Batch]) -> Iterator[tuple[Batch, list[Scores]]]:
        """See `evalkit.engines.base.StreamingEngine` and `evalkit.engines.vllm.stream`."""
        yield from self._stream(SCORING, (self._validated(batch) for batch in pending), self._restart)

    def _stream(
        self, work: Work, pending: Iterable[Any], restart: Callable[[WorkerDied], None]
    ) -> Iterator[tuple[Any, list[Any]]]:
        self._running_worker()
        yield from BatchStream(
            work,
            pending,
            self._running_worker,
            restart,
            step_tokens=lambda: int(self.facts["max_num_batched_tokens"]),
            step_requests=int(self.facts["max_num_seqs"]),
            timeout=self.vllm_settings.timeout,
            job_numbers=self._job_numbers,
        ).run()

    def _validated(self, batch: Batch) -> Batch:
        """Raise `RequestRefused` for what the model cannot score; vLLM's own error would not name the document."""
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
                    "tokenizer belongs to another model. Give the right one with --tokenizer.",
                    request,
                )
        return batch

    def _restart(self, died: WorkerDied) -> None:
        """Restart the worker after it died, with smaller steps if it ran out of memory."""
        if died.out_of_memory:
            budget = int(self.facts["max_num_batched_tokens"]) // 2
            if budget < MIN_BATCHED_TOKENS:
                raise OutOfMemory(f"vLLM runs out of memory even with steps of {2 * budget} tokens. {died}")
            self._batched_tokens = budget
            self.notes.append(f"vLLM ran out of memory and was restarted with steps of {budget} tokens.")
        else:
            self.notes.append(f"vLLM was restarted mid-run; nothing scored was lost. {died}")
        self._start()

    # Generation

    def plan_generation(self, requests: Sequence[GenerationRequest]) -> list[GenerationBatch]:
        return generation_batches.plan(requests, GENERATION_TOKENS, GENERATION_ROWS)

    def generate(self, batch: GenerationBatch, advance: Callable[[int], None] | None = None) -> list[Generation]:
        ((_, texts),) = self.generate_stream([batch])
        return texts

    def generate_stream(self, pending: Iterable[GenerationBatch]) -> Iterator[tuple[GenerationBatch, list[Generation]]]:
        """See `evalkit.engines.base.StreamingGenerator`. Each text has its own seed, so it does not depend on the others."""
        checkpoint = self._loaded_checkpoint()
        self._running_worker()
        if self._tokenizer is None:
            path, trust = checkpoint.tokenizer_path, checkpoint.trust_remote_code
            self._tokenizer = Tokenizer.load(path, trust_remote_code=trust)
        work = generation_work(checkpoint, self._tokenizer)
        try:
            yield from self._stream(work, (self._with_room(batch) for batch in pending), self._restart)
        except RequestRefused as error:
            raise ScoringError(str(error)) from None

    def _with_room(self, batch: GenerationBatch) -> GenerationBatch:
        """Raise `ScoringError` for a prompt and its text that are longer than what vLLM was started for."""
        positions = self._positions() + 1
        for request in batch.requests:
            if len(request.tokens) + request.settings.max_tokens > positions:
                raise ScoringError(
                    f"A prompt of {len(request.tokens)} tokens leaves no room for {request.settings.max_tokens} more: vLLM was "
                    f"started with {positions - 1} positions. Use --max-length."
                )
        return batch

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def close(self) -> None:
        self._stop_worker()
        self._checkpoint = self._probe_logprobs = self._merged_folder = self._tokenizer = None


def rotary_notes(checkpoint: Checkpoint) -> list[str]:
    """What to say of rotary frequencies that may depend on a text's length.

    vLLM fixes them when it starts, for its longest text (``DynamicNTKScalingRotaryEmbedding``,
    ``Phi3LongRoPEScaledRotaryEmbedding``), so the scores of shorter texts would be those of another model. Raises
    `CheckpointError` for types that are known to depend on it.
    """
    config = checkpoint.config.get("text_config") or checkpoint.config
    kinds = ", ".join(sorted(rope_types(config) - LENGTH_INDEPENDENT))
    if LENGTH_DEPENDENT & rope_types(config):
        raise CheckpointError(
            f"{checkpoint.name} chooses its rotary frequencies ({kinds}) by text length, but vLLM fixes them for the "
            "longest text, so shorter texts would get different scores. Use --engine transformers."
        )
    if not kinds:
        return []
    return [
        f"It is not known whether {checkpoint.name}'s rotary frequencies ({kinds}) depend on text length; if they do, "
        "the engine transformers may give different scores."
    ]


def _reraise(died: WorkerDied) -> None:
    """Do not restart the worker."""
    raise died


def _same_architecture(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints have the same architecture and no adapter, so that only their weights differ."""

    def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in config.items() if key not in IGNORED_CONFIG_KEYS}

    return (
        architecture(one.config) == architecture(other.config)
        and bool(one.config)
        and one.adapter is None
        and other.adapter is None
        and one.trust_remote_code == other.trust_remote_code
    )
