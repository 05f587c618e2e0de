"""What a config says of positions: encodings whose values depend on the longest sequence of a forward pass, and windows.

``dynamic`` (NTK by length) and ``longrope`` choose rotary frequencies by the largest position in the batch, so a text's
score would depend on what it is batched with. Such models are scored in batches of equal lengths, where every text has
the score that it has alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LENGTH_INDEPENDENT = {"default", "linear", "yarn", "llama3", "proportional", "mrope"}
"""Rotary types of transformers whose frequencies are fixed when the model is made. Any other is taken for one that depends on
the length."""
LENGTH_DEPENDENT = {"dynamic", "longrope", "su"}
"""Types that are known to depend on it (``su`` is what configs of Phi-3 called ``longrope``)."""


def depends_on_length(config: Any) -> bool:
    """Whether a transformers config (or its parsed ``config.json``) names a rotary type that is not known to be fixed."""
    return any(kind not in LENGTH_INDEPENDENT for kind in rope_types(config))


def rope_types(config: Any) -> set[str]:
    """Every rotary type that a config names: under ``rope_parameters`` or ``rope_scaling``, as one or one per layer type."""

    def named(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            own = value.get("rope_type", value.get("type"))
            if isinstance(own, str):
                yield own
            for inner in value.values():
                yield from named(inner)

    found: set[str] = set()
    for name in ("rope_parameters", "rope_scaling"):
        value = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
        found.update(named(value))
    return found


def has_windows(config: Any) -> bool:
    """Whether a transformers config limits how far back some layer looks: by a sliding window, in chunks, or by a state.

    Padding within a batch would shift such windows.
    """
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    limited = any(getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return bool(kinds) or (limited and getattr(config, "use_sliding_window", True) is not False)


def reset_dynamic_frequencies(model: Any) -> None:
    """Forget the longest sequence seen so far.

    transformers' ``dynamic`` rotary embeddings keep the frequencies of the longest sequence until a short one comes
    (``modeling_rope_utils.dynamic_rope_update``), so that a score would depend on the batch before.
    """
    for module in model.modules():
        original = getattr(module, "original_max_seq_len", None)
        if original is None:
            continue
        for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
            setattr(module, name, original)
        for name in [name for name in (*vars(module), *module._buffers) if name.endswith("original_inv_freq")]:
            frequencies = getattr(module, name)
            current = name.replace("original_inv_freq", "inv_freq")
            module.register_buffer(current, frequencies.to(getattr(module, current).device), persistent=False)
