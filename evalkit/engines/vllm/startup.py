"""Inside the worker: starting vLLM with validated options, describing it, and loading new weights into it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from evalkit.engines.vllm import paths


class InvalidOption(Exception):
    """An option that vLLM does not have, or a value that it does not accept."""


def parse_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Parse options for ``EngineArgs``: the user's strings are read as vLLM's own command line reads them."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    names = {field.name for field in dataclasses.fields(EngineArgs)}
    parsed = {key: value for key, value in options.items() if not isinstance(value, str) or key in _UNPARSED}
    arguments: list[str] = []
    for key, value in options.items():
        if key not in names:
            suggestions = get_close_matches(key, names, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(suggestions)}?" if suggestions else ""
            raise InvalidOption(f"vLLM has no option '{key}'.{hint}")
        if key in parsed:
            continue
        flag = "--" + key.replace("_", "-")
        if value.lower() in ("true", "yes", "on"):
            arguments.append(flag)
        elif value.lower() in ("false", "no", "off"):
            arguments.append("--no-" + key.replace("_", "-"))
        else:
            arguments.append(f"{flag}={value}")
    if not arguments:
        return parsed
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(exit_on_error=False, add_help=False))

    def fail(message: str) -> NoReturn:
        raise InvalidOption(f"vLLM does not accept that: {message}.")

    parser.error = fail
    try:
        values = vars(parser.parse_args(arguments))
    except argparse.ArgumentError as error:
        raise InvalidOption(f"vLLM does not accept that: {error}.") from None
    except (SystemExit, ValueError, TypeError) as error:
        raise InvalidOption(f"vLLM does not take {' '.join(arguments)} ({error}).") from None
    return parsed | {key: values[key] for key in options if key not in parsed}


_UNPARSED = {"dtype", "model", "tokenizer"}


def start(spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Start vLLM; return its engine and its facts. `spec`: ``options`` for ``EngineArgs``, and ``scoring``."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    engine = LLMEngine.from_engine_args(EngineArgs(**parse_options(spec["options"])))
    return engine, engine_facts(engine, spec["scoring"])


def engine_facts(engine: Any, scoring: str) -> dict[str, Any]:
    """A description of the running engine, as plain values."""
    import vllm
    from vllm.sampling_params import SamplingParams

    config = engine.vllm_config
    v2 = bool(getattr(config, "use_v2_model_runner", False))
    has_token_ids = "prompt_logprob_token_ids" in getattr(SamplingParams, "__struct_fields__", ())
    path = paths.choose_path(setting=scoring, v2_runner=v2, has_token_ids=has_token_ids)
    model = config.model_config
    return {
        "version": str(vllm.__version__),
        "path": path,
        "runner": "v2" if v2 else "v1",
        "attention": attention_backend(engine),
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


def attention_backend(engine: Any) -> str:
    """The attention backend of the model's layers, or the configured one if vLLM does not tell."""
    try:
        names = engine.collective_rpc(_attention_names)[0]
    except Exception:  # an engine in a separate process accepts no functions
        names = []
    configured = getattr(engine.vllm_config.attention_config, "backend", None)
    return "+".join(names) or (getattr(configured, "name", None) or "auto")


def _attention_names(worker: Any) -> list[str]:
    layers = worker.model_runner.compilation_config.static_forward_context.values()
    return sorted({layer.get_attn_backend().get_name() for layer in layers if hasattr(layer, "get_attn_backend")})


def swap_weights(engine: Any, folder: str, *, repack: bool) -> None:
    """Load other weights of the same architecture into the running engine, and clear the prefix cache."""
    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    if repack:
        try:
            engine.collective_rpc(_repack_tied_head)
        except Exception as error:  # an engine in a separate process accepts no functions; the probe decides
            print(f"not repacked: {error}", flush=True)
    engine.reset_prefix_cache()


def _repack_tied_head(worker: Any) -> None:
    """Rebuild the head's packed copy of tied embeddings.

    On CPU vLLM multiplies by a packed copy of the head's matrix, created when the head is loaded. A tied head is never
    loaded, so after a reload the packed copy still holds the old weights.
    """
    model = worker.model_runner.get_model()
    for module in model.modules():
        if type(module).__name__ == "ParallelLMHead" and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
