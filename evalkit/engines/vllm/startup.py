"""Inside the worker: vLLM started with checked options, its facts, and new weights in a running engine."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from evalkit.engines.vllm import paths


class WrongOption(Exception):
    """An option that vLLM does not have, or a value that it does not take."""


def parse(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name to what ``EngineArgs`` takes: a person's strings are read as vLLM's own command line reads them."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    names = {field.name for field in dataclasses.fields(EngineArgs)}
    parsed = {key: value for key, value in options.items() if not isinstance(value, str) or key in _PLAIN}
    words: list[str] = []
    for key, value in options.items():
        if key not in names:
            near = get_close_matches(key, names, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise WrongOption(f"vLLM has no option '{key}'.{hint}")
        if key in parsed:
            continue
        flag = "--" + key.replace("_", "-")
        if value.lower() in ("true", "yes", "on"):
            words.append(flag)
        elif value.lower() in ("false", "no", "off"):
            words.append("--no-" + key.replace("_", "-"))
        else:
            words.append(f"{flag}={value}")
    if not words:
        return parsed
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(exit_on_error=False, add_help=False))

    def fail(message: str) -> NoReturn:
        raise WrongOption(f"vLLM does not take that: {message}.")

    parser.error = fail
    try:
        found = vars(parser.parse_args(words))
    except argparse.ArgumentError as error:
        raise WrongOption(f"vLLM does not take that: {error}.") from None
    except (SystemExit, ValueError, TypeError) as error:
        raise WrongOption(f"vLLM does not take {' '.join(words)} ({error}).") from None
    return parsed | {key: found[key] for key in options if key not in parsed}


_PLAIN = {"dtype", "model", "tokenizer"}


def start(spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """vLLM's engine and its facts. `spec`: ``options`` for ``EngineArgs``, and ``scoring``."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    engine = LLMEngine.from_engine_args(EngineArgs(**parse(spec["options"])))
    return engine, facts(engine, spec["scoring"])


def facts(engine: Any, scoring: str) -> dict[str, Any]:
    """What the running engine is: plain values."""
    import vllm
    from vllm.sampling_params import SamplingParams

    config = engine.vllm_config
    v2 = bool(getattr(config, "use_v2_model_runner", False))
    has = "prompt_logprob_token_ids" in getattr(SamplingParams, "__struct_fields__", ())
    path = paths.choose(wanted=scoring, v2_runner=v2, has_token_ids=has)
    model = config.model_config
    return {
        "version": str(vllm.__version__),
        "path": path,
        "runner": "v2" if v2 else "v1",
        "attention": attention(engine),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(config.device_config.device_type),
        "quantisation": str(model.quantization or "none"),
        "vocabulary": int(model.get_vocab_size()),
        "max_model_len": int(model.max_model_len),
        "block": int(config.cache_config.block_size),
        "max_num_seqs": int(config.scheduler_config.max_num_seqs),
        "max_num_batched_tokens": int(config.scheduler_config.max_num_batched_tokens),
        "parallel": int(config.parallel_config.tensor_parallel_size),
    }


def attention(engine: Any) -> str:
    """The name of the attention backend that the model's layers use, where vLLM tells."""
    try:
        names = engine.collective_rpc(_attention_names)[0]
    except Exception:  # an engine in a process of its own takes no functions
        names = []
    chosen = getattr(engine.vllm_config.attention_config, "backend", None)
    return "+".join(names) or (getattr(chosen, "name", None) or "auto")


def _attention_names(worker: Any) -> list[str]:
    layers = worker.model_runner.compilation_config.static_forward_context.values()
    return sorted({layer.get_attn_backend().get_name() for layer in layers if hasattr(layer, "get_attn_backend")})


def swap(engine: Any, folder: str, *, mend: bool) -> None:
    """Read other weights of the same architecture into the running engine, and forget what the old ones computed."""
    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    if mend:
        try:
            engine.collective_rpc(_mend)
        except Exception as error:  # an engine in a process of its own takes no functions; the probe judges
            print(f"not mended: {error}", flush=True)
    engine.reset_prefix_cache()


def _mend(worker: Any) -> None:
    """Make the head's packed copy of tied embeddings anew.

    On CPU vLLM multiplies by a packed copy of the head's matrix, made when the head is loaded. A tied head is never
    loaded, so a reload leaves the copy of the old weights in place.
    """
    model = worker.model_runner.get_model()
    for module in model.modules():
        if type(module).__name__ == "ParallelLMHead" and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
