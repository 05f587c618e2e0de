"""The torch half of the prefix-tree scorer: mask, transformer body, and the head on scored rows only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evalkit.engines.prefix_tree.layout import Layout

Head = Callable[[Tensor], Tensor]


class PrefixStates:
    """Keys and values of a prefix, shared by all rows of a batch without a stored copy per row.

    Passed to transformers as its cache: with an explicit mask, attention layers only call `update`.
    """

    def __init__(self) -> None:
        self.states: dict[int, tuple[Tensor, Tensor]] = {}
        self.filled = False

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Prepend the prefix's keys and values to those given, all `[batch, heads, tokens, head]`."""
        if not self.filled:
            self.states[layer_idx] = (keys, values)
            return keys, values
        prefix_keys, prefix_values = self.states[layer_idx]
        rows = keys.shape[0]
        return (
            torch.cat([prefix_keys.expand(rows, -1, -1, -1), keys], dim=2),
            torch.cat([prefix_values.expand(rows, -1, -1, -1), values], dim=2),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Length of the prefix in tokens."""
        return int(self.states[layer_idx][0].shape[2]) if self.filled else 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """`get_seq_length`, under the other name that transformers uses."""
        return self.get_seq_length(layer_idx)

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Key length and key offset for a query of `query_length` tokens."""
        return self.get_seq_length(layer_idx) + query_length, 0


@dataclass(frozen=True, slots=True)
class Masking:
    """How a model takes a custom mask: one tensor, or one per kind of layer; `window` is that of sliding layers."""

    kinds: tuple[str, ...] = ()
    window: int | None = None

    def build(self, mask: Tensor, distance: Callable[[], Tensor]) -> Tensor | dict[str, Tensor]:
        """`mask` is `[B, 1, T, K]`, True where a query may attend to a key; `distance` gives query minus key depth."""
        near = mask & (distance() < self.window) if self.window is not None else mask
        if not self.kinds:
            return near
        return {kind: near if kind == "sliding_attention" else mask for kind in self.kinds}


def masking_of(config: Any) -> Masking | None:
    """The masking that a transformers config implies; None if a layer kind takes no custom mask."""
    kinds = tuple(sorted(set(getattr(config, "layer_types", None) or ())))
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    if any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
        return None
    if kinds == ("full_attention",):
        return Masking()
    return Masking(kinds, int(window) if window else None)


def interval_mask(end: Tensor, prefix: int) -> Tensor:
    """The attention mask `k <= q < end[k]`, after a prefix that every token attends to.

    `end` is `[B, T]`; the result is boolean, `[B, 1, T, prefix + T]`.
    """
    rows, width = end.shape
    index = torch.arange(width, device=end.device)
    mask = (index[:, None] >= index[None, :])[None] & (index[None, :, None] < end[:, None, :])
    if prefix:
        mask = torch.cat([mask.new_ones(rows, width, prefix), mask], dim=2)
    return mask[:, None]


class Forward:
    """Runs a loaded model on layouts.

    `body` is the model without its head (``last_hidden_state``); `head` maps hidden states `[N, H]` to logits `[N, V]`.
    """

    def __init__(
        self, body: nn.Module, head: Head, masking: Masking | None, device: torch.device, vocabulary: int
    ) -> None:
        self.body, self.head, self.masking, self.device = body, head, masking, device
        tile_bytes = (32 if device.type == "cpu" else 512) * 2**20
        self.tile_rows = max(16, tile_bytes // (4 * vocabulary))
        self._prefix: tuple[bytes, PrefixStates] | None = None
        self._buffers: Tensor | None = None

    def drop_prefix(self) -> None:
        """Drop the cached prefix states (before the weights change, or after running out of memory)."""
        self._prefix = None

    @torch.inference_mode()
    def __call__(self, layout: Layout) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Log-probability (nats, float32) and is-argmax of every scored token of a layout, both ``[N]``."""
        hidden = self._hidden(layout).flatten(0, 1)
        rows = torch.from_numpy(layout.rows).to(self.device)
        return self._score(hidden, rows, layout)

    def _hidden(self, layout: Layout) -> Tensor:
        tokens = torch.from_numpy(layout.tokens).to(self.device, torch.long)
        if layout.chain:
            return self._states(tokens)
        if self.masking is None:
            raise ValueError("this model takes no custom mask; plan with tree=False")
        depth = torch.from_numpy(layout.depth).to(self.device, torch.long)
        end = torch.from_numpy(layout.end).to(self.device, torch.long)
        length = len(layout.prefix)

        def distance() -> Tensor:
            prefix_depths = torch.arange(length, device=self.device).expand(len(depth), -1)
            keys = torch.cat([prefix_depths, depth], dim=1)
            return (depth[:, :, None] - keys[:, None, :])[:, None]

        mask = self.masking.build(interval_mask(end, length), distance)
        cache = self._prefix_states(layout.prefix) if length else None
        return self._states(tokens, attention_mask=mask, position_ids=depth, past_key_values=cache)

    def _states(self, tokens: Tensor, **options: Any) -> Tensor:
        # The model's own cache would be wasted work, and would make it ignore position ids if no mask is given.
        passed = {name: value for name, value in options.items() if value is not None}
        states: Tensor = self.body(input_ids=tokens, use_cache=False, **passed)[0]
        return states

    def _prefix_states(self, prefix: NDArray[np.int32]) -> PrefixStates:
        key = prefix.tobytes()
        if self._prefix is None or self._prefix[0] != key:
            self._prefix = None
            states = PrefixStates()
            tokens = torch.from_numpy(np.ascontiguousarray(prefix)).to(self.device, torch.long)[None]
            index = torch.arange(len(prefix), device=self.device)
            mask = (index[:, None] >= index[None, :])[None, None]
            assert self.masking is not None  # noqa: S101 - told to the type checker
            built_mask = self.masking.build(mask, lambda: (index[:, None] - index[None, :])[None, None])
            self._states(tokens, attention_mask=built_mask, position_ids=index[None], past_key_values=states)
            states.filled = True
            self._prefix = (key, states)
        return self._prefix[1]

    def _score(self, hidden: Tensor, rows: Tensor, layout: Layout) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Apply the head, tile by tile, to the rows that predict a scored token. The caller sums, in float64 on the host."""
        order = np.argsort(layout.pair_row, kind="stable")
        pair_row = torch.from_numpy(layout.pair_row[order]).to(self.device)
        target = torch.from_numpy(layout.pair_target[order]).to(self.device)
        bounds = np.searchsorted(
            layout.pair_row[order], np.arange(0, len(layout.rows) + self.tile_rows, self.tile_rows)
        )
        logprob = torch.empty(len(order), dtype=torch.float32, device=self.device)
        greedy = torch.empty(len(order), dtype=torch.bool, device=self.device)
        for number, first in enumerate(range(0, len(layout.rows), self.tile_rows)):
            logprobs = self._log_softmax(hidden[rows[first : first + self.tile_rows]])
            low, high = int(bounds[number]), int(bounds[number + 1])
            local = pair_row[low:high] - first
            targets = target[low:high]
            target_logprobs = logprobs[local, targets]
            logprob[low:high] = target_logprobs
            # The argmax costs more than the softmax, so it is computed only where the target equals its row's maximum,
            # to break ties (the lowest id wins, as everywhere).
            is_best = target_logprobs == logprobs.amax(dim=-1)[local]
            candidates = is_best.nonzero()[:, 0]
            is_best[candidates] = logprobs[local[candidates]].argmax(dim=-1) == targets[candidates]
            greedy[low:high] = is_best
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        return logprob.cpu().numpy()[inverse], greedy.cpu().numpy()[inverse]

    def _log_softmax(self, hidden: Tensor) -> Tensor:
        """`[rows, H]` to float32 log-probabilities `[rows, V]`.

        On CPU in float32 both steps write into buffers that are kept with the model: allocating them afresh costs more
        in page faults than the arithmetic itself.
        """
        if self.device.type != "cpu" or hidden.dtype != torch.float32 or not isinstance(self.head, nn.Linear):
            return self.head(hidden).float().log_softmax(dim=-1)
        if self._buffers is None:
            shape = (2, self.tile_rows, self.head.out_features)
            self._buffers = torch.empty(shape, dtype=torch.float32)
        logits, logprobs = self._buffers[0, : len(hidden)], self._buffers[1, : len(hidden)]
        torch.mm(hidden, self.head.weight.T, out=logits)
        if self.head.bias is not None:
            logits += self.head.bias
        return torch.log_softmax(logits, -1, out=logprobs)
