"""The torch half of the prefix-tree scorer: mask, body, and the head on scored rows alone."""

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
    """Keys and values of a prefix, handed to every row of a batch without ever being stored once a row.

    It stands where transformers expects a cache: attention layers call `update` and read nothing else, since the mask
    is given.
    """

    def __init__(self) -> None:
        self.states: dict[int, tuple[Tensor, Tensor]] = {}
        self.filled = False

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """`[batch, heads, tokens, head]` keys and values in, the same behind the prefix's out."""
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
        """Tokens before the rows."""
        return int(self.states[layer_idx][0].shape[2]) if self.filled else 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """The same, under transformers' other name."""
        return self.get_seq_length(layer_idx)

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Key length and key offset for a query of that length."""
        return self.get_seq_length(layer_idx) + query_length, 0


@dataclass(frozen=True, slots=True)
class Masking:
    """How a model takes a custom mask: one tensor, or one a kind of layer; `window` bounds sliding layers."""

    kinds: tuple[str, ...] = ()
    window: int | None = None

    def build(self, mask: Tensor, distance: Callable[[], Tensor]) -> Tensor | dict[str, Tensor]:
        """`mask` is `[B, 1, T, K]`, True where a token may look; `distance` gives query depth minus key depth."""
        near = mask & (distance() < self.window) if self.window is not None else mask
        if not self.kinds:
            return near
        return {kind: near if kind == "sliding_attention" else mask for kind in self.kinds}


def masking_of(config: Any) -> Masking | None:
    """What a transformers config says of its attention layers; None where no mask of ours can serve them."""
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
    """The whole attention mask: `k <= q < end[k]`, behind a prefix that every token sees.

    `end` is `[B, T]`; the result `[B, 1, T, prefix + T]`, boolean.
    """
    rows, width = end.shape
    index = torch.arange(width, device=end.device)
    mask = (index[:, None] >= index[None, :])[None] & (index[None, :, None] < end[:, None, :])
    if prefix:
        mask = torch.cat([mask.new_ones(rows, width, prefix), mask], dim=2)
    return mask[:, None]


class Forward:
    """One loaded model, run on layouts.

    `body` is the model without its head (``last_hidden_state``), `head` maps hidden states `[N, H]` to logits
    `[N, V]`. `tile_bytes` bounds the float32 logits that exist at once.
    """

    def __init__(
        self, body: nn.Module, head: Head, masking: Masking | None, device: torch.device, vocabulary: int
    ) -> None:
        self.body, self.head, self.masking, self.device = body, head, masking, device
        tile_bytes = (32 if device.type == "cpu" else 512) * 2**20
        self.tile = max(16, tile_bytes // (4 * vocabulary))
        self._prefix: tuple[bytes, PrefixStates] | None = None
        self._buffers: Tensor | None = None

    def forget(self) -> None:
        """Drop the kept prefix (before other weights are used, or after memory ran out)."""
        self._prefix = None

    @torch.inference_mode()
    def __call__(self, layout: Layout) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Log-probability (nats, float32) and is-argmax of every scored token of a layout, in its pair order."""
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
            ahead = torch.arange(length, device=self.device).expand(len(depth), -1)
            keys = torch.cat([ahead, depth], dim=1)
            return (depth[:, :, None] - keys[:, None, :])[:, None]

        mask = self.masking.build(interval_mask(end, length), distance)
        cache = self._prefix_states(layout.prefix) if length else None
        return self._states(tokens, attention_mask=mask, position_ids=depth, past_key_values=cache)

    def _states(self, tokens: Tensor, **options: Any) -> Tensor:
        # A cache of the model's own would be wasted, and would make it ignore position ids without a mask.
        given = {name: value for name, value in options.items() if value is not None}
        states: Tensor = self.body(input_ids=tokens, use_cache=False, **given)[0]
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
            given = self.masking.build(mask, lambda: (index[:, None] - index[None, :])[None, None])
            self._states(tokens, attention_mask=given, position_ids=index[None], past_key_values=states)
            states.filled = True
            self._prefix = (key, states)
        return self._prefix[1]

    def _score(self, hidden: Tensor, rows: Tensor, layout: Layout) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The head, tile by tile, on the rows that predict something. Sums are the caller's (float64, on the host)."""
        by_row = np.argsort(layout.pair_row, kind="stable")
        pair_row = torch.from_numpy(layout.pair_row[by_row]).to(self.device)
        target = torch.from_numpy(layout.pair_target[by_row]).to(self.device)
        borders = np.searchsorted(layout.pair_row[by_row], np.arange(0, len(layout.rows) + self.tile, self.tile))
        logprob = torch.empty(len(by_row), dtype=torch.float32, device=self.device)
        greedy = torch.empty(len(by_row), dtype=torch.bool, device=self.device)
        for number, first in enumerate(range(0, len(layout.rows), self.tile)):
            logprobs = self._log_softmax(hidden[rows[first : first + self.tile]])
            low, high = int(borders[number]), int(borders[number + 1])
            local = pair_row[low:high] - first
            wanted = target[low:high]
            found = logprobs[local, wanted]
            logprob[low:high] = found
            # The argmax costs more than the softmax; it is asked only where the target equals its row's maximum, to
            # settle ties (the lowest id wins, as everywhere).
            best = found == logprobs.amax(dim=-1)[local]
            likely = best.nonzero()[:, 0]
            best[likely] = logprobs[local[likely]].argmax(dim=-1) == wanted[likely]
            greedy[low:high] = best
        back = np.empty_like(by_row)
        back[by_row] = np.arange(len(by_row))
        return logprob.cpu().numpy()[back], greedy.cpu().numpy()[back]

    def _log_softmax(self, hidden: Tensor) -> Tensor:
        """`[rows, H]` to float32 log-probabilities `[rows, V]`.

        On CPU in float32 both steps write into buffers that live as long as the model: fresh ones of that size cost
        more in page faults than the arithmetic does.
        """
        if self.device.type != "cpu" or hidden.dtype != torch.float32 or not isinstance(self.head, nn.Linear):
            return self.head(hidden).float().log_softmax(dim=-1)
        if self._buffers is None:
            shape = (2, self.tile, self.head.out_features)
            self._buffers = torch.empty(shape, dtype=torch.float32)
        logits, logprobs = self._buffers[0, : len(hidden)], self._buffers[1, : len(hidden)]
        torch.mm(hidden, self.head.weight.T, out=logits)
        if self.head.bias is not None:
            logits += self.head.bias
        return torch.log_softmax(logits, -1, out=logprobs)
