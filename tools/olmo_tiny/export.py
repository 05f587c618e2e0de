"""Step 4: write revisions (bfloat16 safetensors, tokenizer, configuration) from kept weights.

``python -m tools.olmo_tiny.export --work DIR --out evalkit/models/olmo-tiny step60-tokens1M …``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, OlmoForCausalLM, PreTrainedTokenizerFast

from tools.olmo_tiny.tokenizer import END, PAD, WINDOW
from tools.olmo_tiny.train import config


def export(weights: Path, tokenizer: Path, out: Path) -> None:
    """One revision: a folder that ``from_pretrained`` of model and tokenizer load; checked after writing."""
    model = OlmoForCausalLM(config())
    model.load_state_dict(torch.load(weights, weights_only=True))
    model = model.to(torch.bfloat16).eval()
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=1)
    model.save_pretrained(out)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer / "tokenizer.json"))
    special = {"eos_token": END, "pad_token": PAD}
    content = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": WINDOW,
        "clean_up_tokenization_spaces": False,
        **special,
    }
    (out / "tokenizer.json").write_text(fast.backend_tokenizer.to_str(pretty=False) + "\n")
    (out / "tokenizer_config.json").write_text(json.dumps(content, indent=2) + "\n")
    (out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    for path in out.iterdir():
        path.chmod(0o644)
    check(out)


def check(folder: Path) -> None:
    """Raise unless the folder loads as an OLMo of at most 2 M parameters with the promised tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, OlmoForCausalLM)
    assert model.dtype == torch.bfloat16
    assert sum(parameter.numel() for parameter in model.parameters()) <= 2_000_000
    assert (model.config.eos_token_id, model.config.pad_token_id, model.config.bos_token_id) == (0, 1, None)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (END, PAD, None)
    assert (len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id) == (4096, 0, 1)
    text = "Où est-il?  I don't\tknow: 1,234 \U0001f642\n"
    ids = tokenizer.encode(text)
    assert len(tokenizer.encode("a")) == 1
    assert 0 not in ids
    assert tokenizer.decode(ids) == text


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="cache folder")
    parser.add_argument("--run", default="run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("revisions", nargs="+")
    arguments = parser.parse_args()
    for name in arguments.revisions:
        export(
            arguments.work / arguments.run / "weights" / f"{name}.pt",
            arguments.work / "tokenizer",
            arguments.out / name,
        )
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB in {arguments.out}")


if __name__ == "__main__":
    main()
