"""Whether a model keeps packed examples apart, found out on the model itself.

Packed examples stand in one row and are told apart by position ids that begin again, from which attention masks are made.
Models that compute positions themselves (OPT), attend by distance (BLOOM), carry a state from token to token (Mamba) or bring
their own code may ignore them, and then an example is trained on with its neighbours in sight.
"""

from __future__ import annotations

import random
from typing import Any

from evalkit.records import Checkpoint
from evalkit.train.recipe import Recipe

LENGTHS = (7, 9)
"""Tokens of the two examples."""
NEIGHBOUR_TOLERANCES = {"float32": 2e-6, "bfloat16": 0.01}
"""The largest change of a token's log-probability when another example of the same length stands before it. What is masked counts
exactly 0, so nothing should change."""
PLACE_TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}
"""The largest difference between a packed example and the same alone that rounding explains."""


def why_not_packed(recipe: Recipe, base: Checkpoint) -> str | None:
    """Why examples must not be packed for the recipe's model; None if it keeps them apart. Loads it, and frees it again."""
    from evalkit.train import devices, setup

    device = devices.pick_recipe_device(recipe)
    devices.use_device(device)
    bfloat16 = setup.uses_bfloat16(recipe, device)
    model = setup.load_base(base, recipe, device, bfloat16).eval()
    try:
        return packing_fault(model, bfloat16=bfloat16)
    finally:
        del model
        devices.free_memory()


def packing_fault(model: Any, *, bfloat16: bool = False) -> str | None:
    """A clause that says why `model` (a causal language model of transformers) cannot tell packed examples apart, or None.

    The second of two examples has to have the same log-probabilities whether another stands before it or not, and
    whichever it is.
    """
    draw = random.Random(0)  # noqa: S311
    size = int(model.config.get_text_config().vocab_size)
    first, second = ([draw.randrange(size) for _ in range(length)] for length in LENGTHS)
    other = [(token + 1 + draw.randrange(size - 1)) % size for token in first]
    dtype = "bfloat16" if bfloat16 else "float32"
    try:
        alone = _log_probabilities(model, [second], bfloat16)
        packed, beside = (_log_probabilities(model, [before, second], bfloat16) for before in (first, other))
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        if "out of memory" in str(error).lower():
            raise
        return f"it does not support packed rows ({' '.join(str(error).split())[:120]})"
    if float((packed - beside).abs().max()) > NEIGHBOUR_TOLERANCES[dtype]:
        return "packed examples attend to each other"
    if float((packed - alone).abs().max()) > PLACE_TOLERANCES[dtype]:
        return "an example behind another gets different positions than on its own"
    return None


def _log_probabilities(model: Any, examples: list[list[int]], bfloat16: bool) -> Any:
    """Log-probabilities ``[tokens - 1]`` of the last of some examples packed into one row, as TRL's trainer feeds it."""
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collate([{"input_ids": ids, "labels": ids} for ids in examples])
    device = next(model.parameters()).device
    fed = {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
        if key != "labels"
    }
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        logits = model(**fed, use_cache=False).logits[0]
    count = len(examples[-1])
    return (
        logits[-count:-1]
        .float()
        .log_softmax(-1)
        .gather(1, torch.tensor(examples[-1][1:], device=device)[:, None])[:, 0]
    )
