"""How lm-eval's tasks want text generated, as evalkit's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.errors import UsageError
from evalkit.records import GenerationSettings
from evalkit.tasks.lm_eval.index import FAMILY

CAPS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the cap, the first that is given counts (``lm_eval.models.utils.normalize_gen_kwargs``)."""
DEFAULT_CAP = 256
"""``HFLM.max_gen_toks``."""
NEUTRAL: Mapping[str, Any] = {
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "num_return_sequences": 1,
    "top_k": 0,
    "min_p": 0.0,
}
"""Other arguments, with the values that change nothing."""


def settings_of(part: str, arguments: Mapping[str, Any], chosen: Mapping[str, Any]) -> GenerationSettings:
    """The settings of a request's ``gen_kwargs``; `chosen` (``--gen-kwargs``) comes first.

    Greedy unless ``do_sample`` or a temperature asks for more, as in lm-eval. Raises `UsageError` for an argument that evalkit's
    engines do not have.
    """
    given = dict(arguments)
    until = given.pop("until", None) or []
    stops = [until] if isinstance(until, str) else list(until)
    caps = [given.pop(name, None) for name in CAPS]
    cap = next((int(one) for one in caps if one is not None), DEFAULT_CAP)
    sampled, temperature, top_p = given.pop("do_sample", None), given.pop("temperature", None), given.pop("top_p", None)
    if sampled is False:
        temperature = 0.0
    elif sampled and temperature is None:
        temperature = 1.0  # transformers' default
    greedy = not float(temperature or 0.0)
    for name, value in given.items():
        if name in NEUTRAL and (value is None or value == NEUTRAL[name] or (greedy and name in ("top_k", "min_p"))):
            continue
        raise UsageError(
            f"{FAMILY}/{part} generates with {name}={value}, which evalkit's engines do not support. --gen-kwargs "
            "cannot override it."
        )
    return GenerationSettings(
        int(chosen.get("max_tokens", cap)),
        float(chosen.get("temperature", temperature or 0.0)),
        float(chosen.get("top_p", 1.0 if top_p is None else top_p)),
        tuple(stop for stop in stops if stop),
        int(chosen.get("seed", 0)),
    )
