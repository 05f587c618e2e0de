"""Decoding on a transformers model: many prompts at once, each with the text that it has alone.

A `Decoder` holds the keys and values of a batch whose prompts are padded on the left, after what they have in common, which is
computed once. `decode` drives it: greedy, or drawn by each request's own generator, until a stop string, an end token or the cap.
Models whose caches or positions do not allow padding are decoded in batches of equal lengths, or by ``transformers.generate``
(`evalkit.engines.generation`); `how_to_decode` finds out by trying.
"""

from __future__ import annotations

import functools
import inspect
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers.cache_utils import Cache, DynamicLayer

from evalkit.engines.endings import StopStrings
from evalkit.errors import ScoringError
from evalkit.records import GenerationRequest

Way = Literal["padded", "equal", "plain"]
"""How a model decodes: prompts of any lengths together, only those of one length, or by transformers' own ``generate``."""

LEAST_PREFIX = 16
"""Tokens in common that are worth a pass of their own."""
KEPT_SHARE = 0.8
"""A stored prefix is used again if it has this share of what a batch has in common."""


class _Room(DynamicLayer):  # type: ignore[misc]
    """The keys and values of one layer, in buffers with room for all that will come, so that no step copies them.

    `rows`: prompts. What is written first with a single row stands in every row.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self.rows, self.capacity, self.length = rows, capacity, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = [
            states.new_empty(self.rows, states.shape[1], self.capacity, states.shape[-1])
            for states in (key_states, value_states)
        ]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = states
        self.length = end
        return self._view()

    def _view(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self._buffers)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all other rows."""
        self._buffers = [buffer[rows] for buffer in self._buffers]
        self.rows = len(rows)
        self._view()


@dataclass(slots=True)
class Prefix:
    """What prompts begin with, and its keys and values."""

    tokens: array[int]
    layers: list[tuple[torch.Tensor, torch.Tensor]]
    """``[1, heads, tokens, size]`` each."""

    def shortened(self, length: int) -> Prefix:
        """The beginning of it."""
        layers = [(keys[:, :, :length], values[:, :, :length]) for keys, values in self.layers]
        return Prefix(self.tokens[:length], layers)


class Decoder:
    """A model and the state of one batch."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        takes_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": True} | ({"logits_to_keep": 1} if takes_last else {})
        self._prefix: Prefix | None = None

    def begin(self, prompts: Sequence[array[int]], room: int, *, share: bool = True) -> torch.Tensor:
        """Read prompts with `room` for tokens after them; logits ``[prompts, vocabulary]`` of what follows each.

        Prompts of several lengths are padded on the left. `share`: whether what they have in common is read once.
        """
        prefix = self._common(prompts) if share else None
        shared = 0 if prefix is None else len(prefix.tokens)
        widest = max(len(prompt) for prompt in prompts) - shared
        capacity = shared + widest + room
        self._cache = Cache(layer_class_to_replicate=functools.partial(_Room, len(prompts), capacity))
        for place, (keys, values) in enumerate(prefix.layers if prefix is not None else ()):
            self._cache.update(keys, values, place)
        tokens = torch.zeros((len(prompts), widest), dtype=torch.long)
        self._mask = torch.ones((len(prompts), capacity), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            pads = widest - (len(prompt) - shared)
            tokens[row, pads:] = torch.tensor(prompt[shared:], dtype=torch.long)
            self._mask[row, shared : shared + pads] = 0
        self._mask = self._mask.to(self._device)
        self._length = shared + widest
        self._next = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        places = torch.arange(widest, device=self._device) + shared
        pads_of = self._length - self._next
        return self._read(tokens.to(self._device), (places[None] - pads_of[:, None]).clamp(min=0))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Feed one token a row, ``[rows]``; logits ``[rows, vocabulary]`` of what follows."""
        self._length += 1
        positions = self._next[:, None]
        self._next = self._next + 1
        return self._read(tokens[:, None], positions)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        index = torch.tensor(rows, device=self._device)
        for layer in self._cache.layers:
            layer.keep(index)
        self._mask, self._next = self._mask[index], self._next[index]

    def end(self) -> None:
        """Free the batch; what prompts had in common is kept for the next one."""
        self._cache = self._mask = self._next = None  # type: ignore[assignment]

    def forget(self) -> None:
        """Free everything."""
        self.end()
        self._prefix = None

    def _read(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        output = self._model(
            input_ids=tokens,
            attention_mask=self._mask[:, : self._length],
            position_ids=positions,
            past_key_values=self._cache,
            **self._options,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _common(self, prompts: Sequence[array[int]]) -> Prefix | None:
        """What the prompts have in common, less the last token of the shortest; None if that is not worth a pass."""
        length = min(_common_length(prompts), min(map(len, prompts)) - 1)
        if self._prefix is not None:
            reusable = min(length, _common_length([self._prefix.tokens, prompts[0]]))
            if reusable >= max(LEAST_PREFIX, KEPT_SHARE * length):
                self._prefix = self._prefix.shortened(reusable)
                return self._prefix
        if length < LEAST_PREFIX or len(prompts) == 1:
            return None
        self._prefix = None  # before the pass, which needs the memory
        cache = Cache(layer_class_to_replicate=DynamicLayer)
        tokens = prompts[0][:length]
        self._model(input_ids=torch.tensor([list(tokens)], device=self._device), past_key_values=cache, **self._options)
        self._prefix = Prefix(tokens, [(layer.keys, layer.values) for layer in cache.layers])
        return self._prefix


def _common_length(sequences: Sequence[array[int]]) -> int:
    """Number of ids with which all begin."""
    first, last = min(sequences), max(sequences)  # in the order of ids, these two differ first
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def decode(
    decoder: Decoder,
    requests: Sequence[GenerationRequest],
    stops: Sequence[StopStrings],
    advance: Callable[[int], None],
    *,
    share: bool = True,
) -> list[list[int]]:
    """The ids that each prompt is continued with, an end token or the token that completes a stop string among them.

    Raises `ScoringError` for logits that are not numbers, and whatever the model raises.
    """
    room = max(request.settings.max_tokens for request in requests)
    written: list[list[int]] = [[] for _ in requests]
    rows = list(range(len(requests)))  # the request of each row
    open_rows = set(rows)
    pick = Picker(requests)
    logits = decoder.begin([request.tokens for request in requests], room - 1, share=share)
    advance(sum(len(request.tokens) for request in requests))
    for step in range(room):
        chosen = pick(logits, rows, step)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if row not in open_rows:
                continue
            request, ids = requests[row], written[row]
            ids.append(token)
            if token in request.end_ids or len(ids) >= request.settings.max_tokens or stops[row].reached(ids):
                open_rows.discard(row)
        advance(len(open_rows))
        if not open_rows:
            break
        if len(open_rows) <= 0.75 * len(rows):
            kept = [place for place, row in enumerate(rows) if row in open_rows]
            decoder.keep(kept)
            chosen, rows = chosen[torch.tensor(kept, device=chosen.device)], [rows[place] for place in kept]
        logits = decoder.step(chosen)
    decoder.end()
    return written


class Picker:
    """Chooses the next token of each row: the largest logit, or one drawn with the request's own random numbers."""

    def __init__(self, requests: Sequence[GenerationRequest]) -> None:
        self._settings = [request.settings for request in requests]
        self._numbers: dict[int, list[float]] = {}
        for row, request in enumerate(requests):
            if request.settings.temperature > 0:
                generator = torch.Generator().manual_seed(request.draw_seed)
                numbers = torch.rand(request.settings.max_tokens, generator=generator, dtype=torch.float64)
                self._numbers[row] = numbers.tolist()

    def __call__(self, logits: torch.Tensor, rows: Sequence[int], step: int) -> torch.Tensor:
        """Ids ``[rows]`` from logits ``[rows, vocabulary]``; `rows`: the request of each."""
        chosen = logits.argmax(-1)
        if not torch.isfinite(logits.gather(1, chosen[:, None])).all():
            raise ScoringError(
                "The model produces NaN or infinite logits: its weights are damaged, or overflow in this dtype. "
                "Try --dtype float32."
            )
        places = [place for place, row in enumerate(rows) if step < len(self._numbers.get(row, ()))]
        if places:
            drawn = [rows[place] for place in places]
            given = [
                (self._settings[row].temperature, self._settings[row].top_p, self._numbers[row][step]) for row in drawn
            ]
            temperature, top_p, number = torch.tensor(given, dtype=torch.float64, device=logits.device).T
            index = torch.tensor(places, device=logits.device)
            chosen[index] = draw(logits[index], temperature, top_p, number)
        return chosen


def draw(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Of each row the token at which its cumulated probabilities pass its random number in [0, 1): ids ``[rows]``.

    `logits` is ``[rows, vocabulary]``, the rest float64 ``[rows]``. Of the most probable tokens those are drawn from that reach
    `top_p` together (Holtzman et al. 2020, arXiv 1904.09751). In float64, so that what else is in the batch moves no boundary that
    matters.
    """
    probabilities = (logits.double() / temperature[:, None]).softmax(-1)
    if bool((top_p >= 1).all()):
        return _passed(probabilities.cumsum(-1), numbers)[:, 0]
    ordered, tokens = probabilities.sort(stable=True, dim=-1, descending=True)
    kept = ordered.cumsum(-1) - ordered < top_p[:, None]
    places = _passed((ordered * kept).cumsum(-1), numbers)
    nucleus = tokens.gather(1, places)[:, 0]
    whole = _passed(probabilities.cumsum(-1), numbers)[
        :, 0
    ]  # without top-p a row is drawn in the order of ids, in any batch
    return torch.where(top_p < 1, nucleus, whole)


def _passed(cumulated: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The first place of each row whose cumulated share is above the number's part of the whole, ``[rows, 1]``."""
    target = numbers[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, target, right=True).clamp(max=cumulated.shape[1] - 1)


@torch.inference_mode()
def how_to_decode(model: Any, device: torch.device, tolerance: float, *, equal_lengths: bool) -> Way:
    """The first way that gives the logits of a plain pass over each whole prompt, within `tolerance` nats.

    `equal_lengths`: whether padding is ruled out beforehand, as a window on keys rules it out, which a short trial would not show.
    """
    generator = torch.Generator().manual_seed(1)
    size = model.get_input_embeddings().weight.shape[0]

    def ids(count: int) -> list[int]:
        return torch.randint(size, (count,), generator=generator).tolist()

    stem = ids(LEAST_PREFIX + 4)
    tails = [ids(count) for count in (12, 5, 9)]
    following = [ids(2) for _ in tails]
    ways: list[tuple[Way, list[list[int]]]] = [("equal", [stem + tail[:5] for tail in tails])]
    if not equal_lengths:
        ways.insert(0, ("padded", [stem + tail for tail in tails]))
    for way, prompts in ways:
        try:
            if _agrees(model, device, prompts, following, tolerance, share=way == "padded"):
                return way
        except Exception:  # noqa: S112 - a model that takes no mask, positions or cache of ours
            continue
    return "plain"


def _agrees(
    model: Any,
    device: torch.device,
    prompts: Sequence[Sequence[int]],
    following: Sequence[Sequence[int]],
    tolerance: float,
    *,
    share: bool,
) -> bool:
    """Whether a decoder's logits after prompts, and after each of two tokens more (one row dropped before the second), are a plain
    pass's."""
    decoder = Decoder(model, device)
    found = [decoder.begin([array("i", prompt) for prompt in prompts], 2, share=share)]
    found.append(decoder.step(torch.tensor([tokens[0] for tokens in following], device=device)))
    rows = list(range(len(prompts)))[1:]
    decoder.keep(rows)
    found.append(decoder.step(torch.tensor([following[row][1] for row in rows], device=device)))
    for row, prompt in enumerate(prompts):
        whole = torch.tensor([[*prompt, *following[row]]], device=device)
        logits = model(input_ids=whole, use_cache=False).logits[0].float().log_softmax(-1)
        for extra, own in enumerate(found):
            place = row if extra < 2 else row - 1
            if place < 0:
                continue
            difference = own[place].float().log_softmax(-1) - logits[len(prompt) + extra - 1]
            if not float(difference.abs().max()) <= tolerance:
                return False
    return True
