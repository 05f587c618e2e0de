"""Questions in the chat template, and adapters as models: what fine-tuning asks of scoring."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import evalkit
from evalkit.checkpoints.resolve import resolve
from evalkit.encoding.encoding import Encoder, apply_chat_template
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import CheckpointError, UsageError
from evalkit.records import Prompt
from evalkit.scoring.plan import encoder_protocol
from evalkit.train.recipe import Recipe
from evalkit.train.templates import Template
from tests.made.training_inputs import TINY

Make = Callable[..., Recipe]
CHAT = "<|endoftext|><|user|>\nWhy?\n<|assistant|>\n"


@pytest.fixture
def chat(tmp_path: Path) -> Tokenizer:
    """olmo-tiny's tokenizer with Tülu's template."""
    folder = tmp_path / "chat-tokenizer"
    tokenizer = Tokenizer.load(TINY).inner
    tokenizer.chat_template = Template("tulu", tokenizer).jinja
    tokenizer.save_pretrained(str(folder))
    return Tokenizer.load(folder)


def test_a_question_in_the_template(chat: Tokenizer) -> None:
    """By hand: the context is one user's message, the answer follows the generation prompt without its space."""
    (made,) = apply_chat_template([Prompt("Why?", " Because", "joint", 2)], chat)
    assert (made.context, made.continuation, made.encoding, made.option) == (CHAT, "Because", "whole", 2)
    (one,) = Encoder(chat, 512, chat=True).encode([Prompt("Why?", " Because")])
    (request,) = one.requests
    context, answer = chat.encode([CHAT, "Because"], special=False)
    assert list(request.tokens) == context + answer
    assert request.start == len(context)
    assert context[0] == chat.eos_id


def test_what_stays_as_it_is(chat: Tokenizer) -> None:
    """Texts, answers without a question, and prompts that hold a template already."""
    for prompt in (Prompt("", "a text", "rolling"), Prompt("", " answer", "joint")):
        assert apply_chat_template([prompt], chat)[0] is prompt
    encoder, plain = Encoder(chat, 512, chat=True), Encoder(chat, 512)
    prompt = Prompt("Why?", " Because")
    assert encoder.encode([prompt], skip_chat_template=True) == plain.encode([prompt])


def test_the_template_is_part_of_the_protocol(chat: Tokenizer) -> None:
    """Results with and without it, or with another one, do not compare; without it nothing is different from before."""
    assert "chat_template" not in encoder_protocol(Encoder(chat, 512))
    assert encoder_protocol(Encoder(chat, 512, chat=True))["chat_template"] == chat.chat_template
    assert chat.hash == Tokenizer.load(TINY).hash


def test_a_tokenizer_without_template() -> None:
    """There is nothing to apply, and the error says so."""
    with pytest.raises(UsageError, match="no chat template"):
        Encoder(Tokenizer.load(TINY), 512, chat=True)


def test_a_run_in_the_template(small_model: Path, chat: Tokenizer, tmp_path: Path) -> None:
    """The run's folder, warnings and protocol carry it, and the scores are others."""
    folder = Path(shutil.copytree(small_model, tmp_path / "chatty"))
    chat.inner.save_pretrained(str(folder))
    fields: dict[str, Any] = {"task": "arc_easy", "limit": 3, "data_source": "bundle", "report": False}
    (plain,) = evalkit.run(str(folder), **fields)
    (asked,) = evalkit.run(str(folder), apply_chat_template=True, **fields)
    assert plain.path != asked.path
    assert "chat" in asked.path.parent.name
    assert any("chat template" in warning for warning in asked.info["warnings"])
    (name,) = asked.tasks
    assert asked.info["tasks"][name]["protocol_hash"] != plain.info["tasks"][name]["protocol_hash"]
    assert not np.allclose(plain.documents(name)["sums"][0], asked.documents(name)["sums"][0])


@pytest.fixture
def adapter(small_model: Path, tmp_path: Path) -> Path:
    """An adapter of PEFT's own making, in a folder without a tokenizer."""
    torch.manual_seed(3)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(str(small_model)),
        LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path / "adapted"
    model.save_pretrained(str(folder))
    return folder


def test_an_adapters_folder_is_a_model(adapter: Path, small_model: Path) -> None:
    """Its name, the base's weights and tokenizer, and a fingerprint of both; the same as base and --adapter."""
    (one,), (base,), (both,) = (
        resolve(str(adapter)),
        resolve(str(small_model)),
        resolve(str(small_model), adapter=adapter),
    )
    assert (one.name, one.path, one.adapter) == ("adapted", base.path, adapter.resolve())
    assert one.tokenizer_path == base.tokenizer_path
    assert one.fingerprint == both.fingerprint != base.fingerprint
    with pytest.raises(UsageError, match="adapter itself"):
        resolve(str(adapter), adapter=adapter)


def test_an_adapter_whose_base_is_gone(adapter: Path, tmp_path: Path) -> None:
    """The error names the base that was moved and the two options that help."""
    file = adapter / "adapter_config.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "base_model_name_or_path": str(tmp_path / "moved")}))
    with pytest.raises(CheckpointError, match=r"moved.*--model.*--adapter"):
        resolve(str(adapter))
