"""The native engine: the prefix-tree scorer on a transformers model, on CPU and CUDA.

Whether a model supports the tree is tested once per architecture and dtype: a small tree with branches and a cached
prefix is scored as a tree and one request at a time, and the numbers are compared. Models that do not support it
(state-space models, position schemes that ignore position ids) are scored in plain padded batches: slower, and equally
correct. `TransformersEngine.notes` then says so.
"""

from __future__ import annotations

import traceback
import warnings
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines import generation, generation_batches
from evalkit.engines.base import EngineSettings
from evalkit.engines.decoding import Decoder, Way, how_to_decode
from evalkit.engines.loading import load_model, pick_device
from evalkit.engines.positions import depends_on_length, has_windows, reset_dynamic_frequencies, rope_types
from evalkit.engines.prefix_tree import layout as trees
from evalkit.engines.prefix_tree.forward import Forward, Head, masking_of
from evalkit.errors import OutOfMemory, ScoringError, UsageError
from evalkit.records import Batch, Checkpoint, Generation, GenerationBatch, GenerationRequest, Request, Scores

BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}
ROW_TOKENS = {"cpu": 512, "cuda": 1024}
"""Measured on CPU: attention makes longer rows slower, and shorter rows repeat more tokens. CUDA's are chosen alike."""
GENERATION_ROWS = {"cpu": 64, "cuda": 256}
GENERATION_TOKENS = {"cpu": 4, "cuda": 8}
"""A generation batch holds so many times the tokens of a scoring batch: a step feeds one token a prompt, and the rest is keys and
values, which are read and not computed."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest difference in nats between tree and plain scoring that rounding explains, in the probe."""


class TransformersEngine:
    """See `evalkit.engines.base.Engine`. ``--engine-arg`` takes ``row_tokens=N``, ``tree=auto|off`` and
    ``attention=sdpa|eager``."""

    name = "transformers"

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.settings = settings or EngineSettings()
        unknown = sorted(set(self.settings.args) - {"row_tokens", "tree", "attention"})
        if unknown:
            raise UsageError(
                f"The engine 'transformers' has no option '{unknown[0]}'. Its options are row_tokens, tree and "
                "attention."
            )
        self.device = pick_device(self.settings.device)
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        self.batch_tokens = self._token_count(self.settings.batch_tokens, BATCH_TOKENS[kind], "--batch-tokens")
        self.row_tokens = self._token_count(self.settings.args.get("row_tokens"), ROW_TOKENS[kind], "row_tokens")
        self.row_tokens = min(self.row_tokens, self.batch_tokens)
        self._tree_wanted = self.settings.args.get("tree", "auto") != "off"
        self.tree = self._tree_wanted
        self._equal_lengths = False
        self.notes: list[str] = []
        """What is to be said of the model that is loaded."""
        self._probe_results: dict[tuple[str, torch.dtype], tuple[bool, bool]] = {}
        self._model: Any = None
        self._checkpoint: Checkpoint | None = None
        self._forward: Forward | None = None
        self._tokenizer: Tokenizer | None = None
        self._decoder: Decoder | None = None
        self._way: Way = "padded"
        self._ways: dict[tuple[str, torch.dtype], Way] = {}

    @staticmethod
    def _token_count(value: int | str | None, default: int, name: str) -> int:
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError as error:
            raise UsageError(f"{name} takes a number of tokens, not '{value}'.") from error
        if number < 1:
            raise UsageError(f"{name} must be at least 1.")
        return number

    # Weights

    def load(self, checkpoint: Checkpoint) -> None:
        """Load weights, after freeing those loaded before."""
        self.close()
        self.adopt(load_model(checkpoint, self.settings, self.device), checkpoint)

    def adopt(self, model: Any, checkpoint: Checkpoint, tokenizer: Tokenizer | None = None) -> None:
        """Use a model that is already in memory (one being trained, or just loaded). `tokenizer`: where it is not the
        checkpoint's, or the checkpoint is no folder."""
        model.eval()
        self._model, self._checkpoint = model, checkpoint
        self._tokenizer, self._decoder, self._way = tokenizer, None, "padded"
        config = model.config.get_text_config()
        key = _architecture(model)
        self.tree, self._equal_lengths, self.notes = self._tree_wanted, depends_on_length(config), []
        body: torch.nn.Module = getattr(model, model.base_model_prefix, model)
        head: Head = model.get_output_embeddings()
        masking = masking_of(config)
        vocabulary = model.get_input_embeddings().weight.shape[0]
        if key not in self._probe_results:
            self._probe_results[key] = self._probe(model, body, head, masking is not None, config)
        head_suffices, supports_tree = self._probe_results[key]
        if not head_suffices:
            body, head = _WholeModel(model), torch.nn.Identity()
        if self._equal_lengths:
            self.tree = False
            kinds = ", ".join(sorted(rope_types(config)))
            self.notes.append(
                f"{type(model).__name__} chooses its rotary frequencies ({kinds}) by the longest text of a batch, so texts of equal "
                "length are scored together: same scores, but slower."
            )
        elif self.tree and not supports_tree:
            self.tree = False
            self.notes.append(
                f"{type(model).__name__} does not support the prefix tree's mask, so padded batches are used: "
                "same scores, but slower."
            )
        self._forward = Forward(body, head, masking, self.device, vocabulary)
        self.vocabulary = vocabulary

    def _probe(self, model: Any, body: torch.nn.Module, head: Head, maskable: bool, config: Any) -> tuple[bool, bool]:
        """Whether the head applied to the body gives the model's logits, and whether the model supports the tree mask."""
        random = np.random.default_rng(0)
        size = model.get_input_embeddings().weight.shape[0]

        def random_ids(count: int) -> list[int]:
            return [int(token) for token in random.integers(0, size, count)]

        stem, middle = random_ids(trees.MIN_PREFIX + 8), random_ids(24)
        branches = [random_ids(24), middle + random_ids(12), middle + random_ids(12), random_ids(9)]
        requests = [Request(array("i", stem + branch), len(stem) + 1) for branch in branches]
        plain = [self._one_at_a_time(model, request) for request in requests]
        tolerance = TOLERANCE.get(model.dtype, 0.25)

        def agrees(forward: Forward, batches: list[Batch]) -> bool:
            by_key: dict[bytes, np.ndarray] = {}
            for batch in batches:
                logprobs, _ = forward(batch.detail)
                offsets = batch.detail.offsets
                for i, request in enumerate(batch.requests):
                    by_key[request.key] = logprobs[offsets[i] : offsets[i + 1]]
            pairs = zip(requests, plain, strict=True)
            return all(bool(np.all(np.abs(by_key[request.key] - expected) <= tolerance)) for request, expected in pairs)

        try:
            flat = trees.plan(requests, batch_tokens=10**6, row_tokens=1, tree=False)
            head_suffices = agrees(Forward(body, head, None, self.device, size), flat)
        except Exception:  # any error means that the model's own forward is used
            head_suffices = False
        if not (maskable and self._tree_wanted) or self._equal_lengths or not self._reads_positions(model, stem):
            return head_suffices, False
        run_body, run_head = (body, head) if head_suffices else (_WholeModel(model), torch.nn.Identity())
        try:
            forward = Forward(run_body, run_head, masking_of(config), self.device, size)
            with_prefix = trees.plan(requests, batch_tokens=10**6, row_tokens=32)
            in_one_row = trees.plan(requests, batch_tokens=10**6, row_tokens=10**6)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return head_suffices, agrees(forward, in_one_row) and agrees(forward, with_prefix)
        except Exception:  # a model that rejects the mask is scored in plain batches, with a note
            return head_suffices, False

    @torch.inference_mode()
    def _reads_positions(self, model: Any, ids: Sequence[int]) -> bool:
        """Whether position ids move the logits. Where they do not, texts that share a row would get wrong positions."""
        tokens = torch.tensor([list(ids)], device=self.device)
        positions = torch.arange(len(ids), device=self.device)[None]
        with_gap = positions + 5 * (positions >= len(ids) // 2)
        try:
            plain = model(input_ids=tokens, position_ids=positions, use_cache=False).logits
            return not torch.equal(plain, model(input_ids=tokens, position_ids=with_gap, use_cache=False).logits)
        except Exception:  # a model that takes no position ids
            return False

    @torch.inference_mode()
    def _one_at_a_time(self, model: Any, request: Request) -> np.ndarray:
        """Log-probabilities of one request by a plain forward pass: the probe's reference."""
        tokens = torch.tensor([list(request.tokens)], device=self.device)
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits[0].float()
        logprobs = logits.log_softmax(-1)[request.start - 1 :]
        scored: np.ndarray = logprobs.gather(1, tokens[0, request.start :, None])[:, 0].cpu().numpy()
        return scored

    def identity(self) -> dict[str, str]:
        if self._model is None or self._checkpoint is None:
            raise ScoringError("No checkpoint is loaded.")
        return {
            "engine": self.name,
            "version": f"1 (transformers {transformers.__version__}, torch {torch.__version__})",
            "fingerprint": self._checkpoint.fingerprint,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "attention": str(getattr(self._model.config, "_attn_implementation", ""))
            + ("+tree" if self.tree else "+plain"),
            "device": self.device.type,
            "quantisation": str(
                getattr(getattr(self._model, "hf_quantizer", None), "quantization_config", None) or "none"
            ),
        }

    # Scoring

    @property
    def layout(self) -> str:
        """How the loaded model's batches are laid out; see `evalkit.engines.base.Engine.layout`."""
        return "tree" if self.tree else "equal lengths" if self._equal_lengths else "padded"

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        return trees.plan(
            requests,
            batch_tokens=self.batch_tokens,
            row_tokens=self.row_tokens,
            tree=self.tree,
            equal_lengths=self._equal_lengths,
        )

    def split(self, batch: Batch) -> tuple[Batch, Batch] | None:
        return trees.split(batch, tree=self.tree)

    def score(self, batch: Batch) -> list[Scores]:
        if self._forward is None:
            raise ScoringError("No checkpoint is loaded.")
        self._check_ids(batch)
        if not self.tree and not batch.detail.chain:
            return self._score_plainly(batch)
        if self._equal_lengths:
            reset_dynamic_frequencies(self._model)
        found = self._run(self._forward, batch)
        if found is None:  # after the handler, which would keep the failed pass's tensors alive
            self._forward.drop_prefix()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory(f"A batch of {batch.tree_tokens} tokens does not fit into memory.")
        logprobs, greedy = found
        if not np.isfinite(logprobs).all():
            raise ScoringError(
                f"{self._checkpoint.name if self._checkpoint else 'The model'} produces NaN or infinite "
                "log-probabilities: its weights are damaged, or overflow in this dtype. Try --dtype float32."
            )
        offsets = batch.detail.offsets
        sums = np.add.reduceat(logprobs.astype(np.float64), offsets[:-1])
        all_greedy = np.logical_and.reduceat(greedy, offsets[:-1])
        return [
            Scores(
                sum=float(sums[i]),
                tokens=int(offsets[i + 1] - offsets[i]),
                is_greedy=bool(all_greedy[i]),
                logprobs=logprobs[offsets[i] : offsets[i + 1]] if request.keep_tokens else None,
            )
            for i, request in enumerate(batch.requests)
        ]

    @staticmethod
    def _run(forward: Forward, batch: Batch) -> tuple[np.ndarray, np.ndarray] | None:
        """The forward pass of a batch; None if memory ran out, with nothing of the pass left alive."""
        try:
            return forward(batch.detail)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
            return None

    def _score_plainly(self, batch: Batch) -> list[Scores]:
        """Score a batch that was planned as a tree before the model turned out not to support one."""
        by_key: dict[bytes, Scores] = {}
        for part in self.plan(batch.requests):
            by_key |= {request.key: scores for request, scores in zip(part.requests, self.score(part), strict=True)}
        return [by_key[request.key] for request in batch.requests]

    def _check_ids(self, batch: Batch) -> None:
        layout: trees.Layout = batch.detail
        self._check_largest(
            max(int(layout.tokens.max()), int(layout.pair_target.max()), int(layout.prefix.max(initial=0)))
        )

    def _check_largest(self, largest: int) -> None:
        """Raise `ScoringError` for an id that the model has no embedding for."""
        if largest >= self.vocabulary:
            raise ScoringError(
                f"The tokenizer gives id {largest} but the model has {self.vocabulary} embeddings: the tokenizer belongs "
                "to another model. Give the right one with --tokenizer."
            )

    # Generation

    def plan_generation(self, requests: Sequence[GenerationRequest]) -> list[GenerationBatch]:
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        return generation_batches.plan(requests, GENERATION_TOKENS[kind] * self.batch_tokens, GENERATION_ROWS[kind])

    @torch.inference_mode()
    def generate(self, batch: GenerationBatch, advance: Callable[[int], None] | None = None) -> list[Generation]:
        """See `evalkit.engines.generation`. Raises like `evalkit.engines.base.GeneratingEngine.generate`."""
        if self._model is None or self._checkpoint is None:
            raise ScoringError("No checkpoint is loaded.")
        self._check_largest(max(max(request.tokens) for request in batch.requests))
        if self._decoder is None:
            self._prepare_decoding()
        if self._equal_lengths:
            reset_dynamic_frequencies(self._model)
        found = self._generate(batch, advance or (lambda tokens: None))
        if found is None:  # after the handler, which would keep the failed pass's tensors alive
            assert self._decoder is not None  # noqa: S101
            self._decoder.forget()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory(f"A generation batch of {batch.tokens} tokens does not fit into memory.")
        return found

    def _generate(self, batch: GenerationBatch, advance: Callable[[int], None]) -> list[Generation] | None:
        """The texts of a batch; None if memory ran out, with nothing of the passes left alive."""
        assert self._decoder is not None  # noqa: S101
        told = 0

        def tell(tokens: int) -> None:
            nonlocal told
            tokens = min(tokens, batch.tokens - told)
            told += tokens
            advance(tokens)

        try:
            return generation.generate(
                self._model, self._way, self._decoder, self._open_tokenizer(), batch.requests, tell
            )
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
            return None

    def _prepare_decoding(self) -> None:
        """Find out how the loaded model decodes, once for an architecture and dtype."""
        config, key = self._model.config.get_text_config(), _architecture(self._model)
        if self._equal_lengths:
            self._way = "plain"
        elif key in self._ways:
            self._way = self._ways[key]
        else:
            tolerance = TOLERANCE.get(self._model.dtype, 0.25)
            self._way = how_to_decode(self._model, self.device, tolerance, equal_lengths=has_windows(config))
            self._ways[key] = self._way
        if self._way != "padded":
            how = "in batches of prompts of equal length" + (", by transformers' generate" * (self._way == "plain"))
            self.notes.append(f"{type(self._model).__name__} generates {how}: same texts, but slower.")
        self._decoder = Decoder(self._model, self.device)

    def _open_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            assert self._checkpoint is not None  # noqa: S101
            path, trust = self._checkpoint.tokenizer_path, self._checkpoint.trust_remote_code
            self._tokenizer = Tokenizer.load(path, trust_remote_code=trust)
        return self._tokenizer

    def close(self) -> None:
        self._model = self._forward = self._checkpoint = self._decoder = self._tokenizer = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _architecture(model: Any) -> tuple[str, torch.dtype]:
    """What decides how a model is run: trials of it are made once for each."""
    config = model.config.get_text_config()
    return f"{config.model_type}/{type(model).__name__}/{sorted(rope_types(config))}", model.dtype


class _WholeModel(torch.nn.Module):
    """A body that returns the model's logits, for models that scale or soft-cap them after the head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **options: Any) -> tuple[torch.Tensor]:
        return (self.model(**options).logits,)


def _is_out_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in str(error)
        or "out of memory" in str(error).lower()
    )
